// The image under a person's hands: zoom, move, window, explanation. Display only: nothing here reaches image or answer.

const PICTURE_RETRIES_MS = [500, 1000, 2000, 4000, 8000, 16000];
const MOST_ZOOM = 12;
const STEP = 1.3;
const FIT = { zoom: 1, x: 0, y: 0, contrast: 1, brightness: 0 };
const READING_MS = 2500;

const within = (value, least, most) => Math.min(most, Math.max(least, value));
const percent = (share) => `${Math.round(share * 100)} %`;
const filled = (text, values) => text.replace(/%\((\w+)\)s/g, (_, name) => values[name]);

export function watchStudy(words) {
  const study = document.getElementById("study");
  const overlay = study.querySelector(".overlay");
  const strength = document.getElementById("opacity");
  if (overlay && strength) {
    strength.parentElement.hidden = false;
    strength.addEventListener("input", () => { overlay.style.opacity = strength.value / 100; });
  }
  for (const picture of study.querySelectorAll(".stack img")) retryPicture(picture, [...PICTURE_RETRIES_MS]);
  if (study.querySelector(".preview")) new Viewer(study, words);
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

class Viewer {
  constructor(study, words) {
    this.words = words;
    this.study = study;
    this.pane = document.getElementById("viewer");
    this.stack = this.pane.querySelector(".stack");
    this.preview = this.pane.querySelector(".preview");
    this.reading = document.getElementById("reading");
    this.windowing = study.querySelector('[data-do="window"]');
    this.view = { ...FIT };
    this.fingers = new Map();
    this.deeds = {
      in: () => this.zoomAtCentre(STEP),
      out: () => this.zoomAtCentre(1 / STEP),
      fit: () => this.change(FIT),
      window: () => { this.windowing.setAttribute("aria-pressed", String(!this.isWindowing)); this.change({}); },
    };
    study.querySelector(".lenses").hidden = false;
    study.querySelector(".lens-note").hidden = false;
    this.listen();
    this.makeRoom();
    const resized = new ResizeObserver(() => this.makeRoom());
    for (const part of [".view", ".tools"]) resized.observe(study.querySelector(part));
  }

  get isWindowing() { return this.windowing.getAttribute("aria-pressed") === "true"; }
  get isHeld() { return this.view.zoom > 1 || this.isWindowing; }

  // Where the columns scroll by themselves, the whole image fits above its tools.
  makeRoom() {
    const view = this.study.querySelector(".view");
    const scrolls = getComputedStyle(view).overflowY === "auto";
    const room = view.clientHeight - this.study.querySelector(".tools").offsetHeight - 18;
    this.study.style.setProperty("--room", scrolls ? `${Math.max(180, room)}px` : "66vh");
  }

  change(values) {
    const view = Object.assign(this.view, values);
    const reach = (size) => (view.zoom > 1 ? (size * (view.zoom - 0.5)) / 2 : 0); // a part of it stays in sight
    view.zoom = within(view.zoom, 1, MOST_ZOOM);
    view.x = within(view.x, -reach(this.stack.clientWidth), reach(this.stack.clientWidth));
    view.y = within(view.y, -reach(this.stack.clientHeight), reach(this.stack.clientHeight));
    view.contrast = within(view.contrast, 0.2, 10);
    view.brightness = within(view.brightness, -0.9, 0.9);
    this.show();
  }

  show() {
    const { zoom, x, y, contrast, brightness } = this.view;
    const isWindowed = contrast !== 1 || brightness !== 0;
    this.stack.style.transform = zoom > 1 ? `translate(${x}px, ${y}px) scale(${zoom})` : "";
    for (const part of this.pane.querySelectorAll("feFuncR, feFuncG, feFuncB")) { // around the middle grey
      part.setAttribute("slope", contrast);
      part.setAttribute("intercept", 0.5 - contrast / 2 + brightness);
    }
    this.preview.style.filter = isWindowed ? "url(#window)" : "";
    this.pane.classList.toggle("held", this.isHeld);
    this.pane.classList.toggle("windowing", this.isWindowing);
    const sign = brightness < 0 ? "−" : "+";
    const window = { contrast: percent(contrast), brightness: sign + percent(Math.abs(brightness)) };
    const said = [filled(this.words.zoom, { zoom: percent(zoom) })];
    if (isWindowed) said.push(filled(this.words.window, window));
    this.reading.textContent = said.join(" · ");
    this.reading.hidden = false;
    clearTimeout(this.fade);
    if (zoom === 1 && !isWindowed) this.fade = setTimeout(() => { this.reading.hidden = true; }, READING_MS);
  }

  zoomAt(factor, clientX, clientY) {
    const box = this.pane.getBoundingClientRect();
    const zoom = within(this.view.zoom * factor, 1, MOST_ZOOM);
    const grown = zoom / this.view.zoom;
    const [x, y] = [clientX - box.left - box.width / 2, clientY - box.top - box.height / 2];
    this.change({ zoom, x: x - (x - this.view.x) * grown, y: y - (y - this.view.y) * grown });
  }

  zoomAtCentre(factor) {
    const box = this.pane.getBoundingClientRect();
    this.zoomAt(factor, box.left + box.width / 2, box.top + box.height / 2);
  }

  // As on every workstation: sideways changes the contrast, up and down the brightness; otherwise the image moves.
  drag(right, down) {
    const { x, y, contrast, brightness } = this.view;
    if (this.isWindowing) this.change({ contrast: contrast * 1.006 ** right, brightness: brightness - down * 0.002 });
    else this.change({ x: x + right, y: y + down });
  }

  listen() {
    for (const button of this.study.querySelectorAll(".lenses [data-do]")) {
      button.addEventListener("click", this.deeds[button.dataset.do]);
    }
    this.pane.addEventListener("keydown", (event) => this.onKey(event));
    this.pane.addEventListener("dblclick", this.deeds.fit);
    this.pane.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
    this.pane.addEventListener("pointerdown", (event) => this.onDown(event));
    this.pane.addEventListener("pointermove", (event) => this.onMove(event));
    for (const end of ["pointerup", "pointercancel"]) {
      this.pane.addEventListener(end, (event) => this.fingers.delete(event.pointerId));
    }
  }

  onKey(event) {
    const keys = {
      "+": this.deeds.in, "=": this.deeds.in, "-": this.deeds.out, 0: this.deeds.fit, w: this.deeds.window, W: this.deeds.window,
    };
    const arrows = { ArrowLeft: [-20, 0], ArrowRight: [20, 0], ArrowUp: [0, -20], ArrowDown: [0, 20] };
    const arrow = this.isHeld && arrows[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey || !(keys[event.key] || arrow)) return;
    event.preventDefault();
    if (arrow) this.drag(...arrow);
    else keys[event.key]();
  }

  onWheel(event) {
    if (!event.ctrlKey && this.view.zoom === 1 && event.deltaY > 0) return; // nothing to zoom out of: the page scrolls
    event.preventDefault();
    this.zoomAt(1.0015 ** -event.deltaY, event.clientX, event.clientY);
  }

  onDown(event) {
    if (event.button !== 0) return;
    this.fingers.set(event.pointerId, event);
    if (this.isHeld || this.fingers.size === 2) this.pane.setPointerCapture(event.pointerId);
  }

  onMove(event) {
    const before = this.fingers.get(event.pointerId);
    if (!before) return;
    this.fingers.set(event.pointerId, event);
    const other = [...this.fingers.values()].find((finger) => finger.pointerId !== event.pointerId);
    if (!other) {
      if (this.isHeld) this.drag(event.clientX - before.clientX, event.clientY - before.clientY);
      return;
    }
    const apart = (finger) => Math.max(1, Math.hypot(finger.clientX - other.clientX, finger.clientY - other.clientY));
    const [x, y] = [(event.clientX + other.clientX) / 2, (event.clientY + other.clientY) / 2];
    this.zoomAt(apart(event) / apart(before), x, y);
  }
}
