// The image under a person's hands: zoom, move, window, explanation. Display only: nothing here reaches image or answer.

const PICTURE_RETRIES_MS = [500, 1000, 2000, 4000, 8000, 16000];
const MOST_ZOOM = 12;
const STEP = 1.3;
const PLAIN = { zoom: 1, x: 0, y: 0, contrast: 1, brightness: 0 };

const within = (value, least, most) => Math.min(most, Math.max(least, value));

export function watchStudy(words) {
  const study = document.getElementById("study");
  const overlay = study.querySelector(".overlay");
  const strength = document.getElementById("opacity");
  if (overlay && strength) {
    strength.parentElement.hidden = false;
    strength.addEventListener("input", () => { overlay.style.opacity = strength.value / 100; });
  }
  for (const picture of study.querySelectorAll(".stack img")) retryPicture(picture, [...PICTURE_RETRIES_MS]);
  if (study.querySelector(".preview")) watchViewer(study, words);
  const print = study.querySelector('[data-do="print"]');
  if (print) {
    print.parentElement.hidden = false;
    print.addEventListener("click", () => window.print());
  }
}

// Pictures are drawn just after the result is committed: one that is not there yet will be in a moment.
function retryPicture(picture, waits) {
  const again = () => {
    const wait = waits.shift();
    if (wait === undefined) return;
    setTimeout(() => { picture.src = picture.src; }, wait);
  };
  picture.addEventListener("error", again);
  if (picture.complete && picture.naturalWidth === 0) again();
}

function watchViewer(study, words) {
  const viewer = document.getElementById("viewer");
  const stack = viewer.querySelector(".stack");
  const preview = viewer.querySelector(".preview");
  const reading = document.getElementById("reading");
  const windowing = study.querySelector('[data-do="window"]');
  const fingers = new Map();
  const view = { ...PLAIN };
  let fade;

  const percent = (share) => `${Math.round(share * 100)} %`;
  const said = (text, values) => text.replace(/%\((\w+)\)s/g, (_, name) => values[name]);
  const isWindowing = () => windowing.getAttribute("aria-pressed") === "true";

  function show() {
    const reach = (size) => (size * (view.zoom - 1)) / 2 + (view.zoom > 1 ? size / 4 : 0); // some of it stays in sight
    view.zoom = within(view.zoom, 1, MOST_ZOOM);
    view.x = within(view.x, -reach(stack.clientWidth), reach(stack.clientWidth));
    view.y = within(view.y, -reach(stack.clientHeight), reach(stack.clientHeight));
    view.contrast = within(view.contrast, 0.2, 10);
    view.brightness = within(view.brightness, -0.9, 0.9);
    stack.style.transform = view.zoom > 1 ? `translate(${view.x}px, ${view.y}px) scale(${view.zoom})` : "";
    const isWindowed = view.contrast !== 1 || view.brightness !== 0;
    for (const part of viewer.querySelectorAll("feFuncR, feFuncG, feFuncB")) { // grey' = (grey - 1/2) contrast + 1/2 + brightness
      part.setAttribute("slope", view.contrast);
      part.setAttribute("intercept", 0.5 - view.contrast / 2 + view.brightness);
    }
    preview.style.filter = isWindowed ? "url(#window)" : "";
    viewer.classList.toggle("held", view.zoom > 1 || isWindowing());
    viewer.classList.toggle("windowing", isWindowing());
    const values = { contrast: percent(view.contrast), brightness: `${view.brightness < 0 ? "−" : "+"}${percent(Math.abs(view.brightness))}` };
    reading.textContent = [view.zoom > 1 && said(words.zoom, { zoom: percent(view.zoom) }), isWindowed && said(words.window, values)].filter(Boolean).join(" · ");
    reading.hidden = false;
    clearTimeout(fade);
    fade = setTimeout(() => { reading.hidden = !isWindowed; }, 2500);
  }

  function zoomAt(factor, clientX, clientY) {
    const box = viewer.getBoundingClientRect();
    const before = view.zoom;
    view.zoom = within(before * factor, 1, MOST_ZOOM);
    const change = view.zoom / before;
    const [x, y] = [clientX - box.left - box.width / 2, clientY - box.top - box.height / 2];
    view.x = x - (x - view.x) * change;
    view.y = y - (y - view.y) * change;
    show();
  }

  const zoomAtCentre = (factor) => {
    const box = viewer.getBoundingClientRect();
    zoomAt(factor, box.left + box.width / 2, box.top + box.height / 2);
  };

  function turn(right, down) { // as on every workstation: sideways contrast, down darker
    if (isWindowing()) {
      view.contrast *= 1.006 ** right;
      view.brightness -= down * 0.002;
    } else {
      view.x += right;
      view.y += down;
    }
    show();
  }

  const deeds = {
    in: () => zoomAtCentre(STEP),
    out: () => zoomAtCentre(1 / STEP),
    fit: () => { Object.assign(view, PLAIN); show(); },
    window: () => { windowing.setAttribute("aria-pressed", String(!isWindowing())); show(); },
  };
  for (const button of study.querySelectorAll(".lenses [data-do]")) button.addEventListener("click", deeds[button.dataset.do]);
  study.querySelector(".lenses").hidden = false;
  study.querySelector(".lens-note").hidden = false;

  const keys = {
    "+": deeds.in, "=": deeds.in, "-": deeds.out, 0: deeds.fit, w: deeds.window, W: deeds.window,
    ArrowLeft: () => turn(-20, 0), ArrowRight: () => turn(20, 0), ArrowUp: () => turn(0, -20), ArrowDown: () => turn(0, 20),
  };
  viewer.addEventListener("keydown", (event) => {
    const deed = event.ctrlKey || event.metaKey || event.altKey ? undefined : keys[event.key];
    if (!deed || (event.key.startsWith("Arrow") && !viewer.classList.contains("held"))) return;
    event.preventDefault();
    deed();
  });
  viewer.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && view.zoom === 1 && event.deltaY > 0) return; // nothing to zoom out of: the page scrolls
    event.preventDefault();
    zoomAt(1.0015 ** -event.deltaY, event.clientX, event.clientY);
  }, { passive: false });
  viewer.addEventListener("dblclick", () => deeds.fit());

  viewer.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    fingers.set(event.pointerId, event);
    if (viewer.classList.contains("held") || fingers.size === 2) viewer.setPointerCapture(event.pointerId);
  });
  viewer.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    fingers.set(event.pointerId, event);
    const other = [...fingers.values()].find((finger) => finger.pointerId !== event.pointerId);
    if (other) {
      const apart = (finger) => Math.hypot(finger.clientX - other.clientX, finger.clientY - other.clientY);
      zoomAt(apart(event) / Math.max(1, apart(before)), (event.clientX + other.clientX) / 2, (event.clientY + other.clientY) / 2);
    } else if (viewer.classList.contains("held")) {
      turn(event.clientX - before.clientX, event.clientY - before.clientY);
    }
  });
  for (const end of ["pointerup", "pointercancel"]) viewer.addEventListener(end, (event) => fingers.delete(event.pointerId));
}
