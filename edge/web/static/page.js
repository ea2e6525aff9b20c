// Keeps an open page live. Everything it shows comes rendered from the box; without this script the page reads just as well.

const LOST_AFTER_MS = 4000; // the box says at least every 2 s that it is alive
const RETRY_MS = 3000;
const MAX_ROWS = 200; // a page may stay open for weeks
const PICTURE_RETRIES_MS = [500, 1000, 2000, 4000, 8000, 16000];

const body = document.body;
const rows = document.getElementById("rows");
const lost = document.getElementById("lost");
const live = document.getElementById("live");
const title = document.title.replace(/^\(\d+\) flagged · /, "");

let seq = Number(body.dataset.seq);
let lastSign = performance.now();
let boxAhead = Number(body.dataset.now) - Date.now() / 1000; // tablets' clocks are often wrong: the box's counts
let isLive = false;
let source;
let missed = false;
let work = Promise.resolve();

const boxNow = () => Date.now() / 1000 + boxAhead;

function ago(seconds) {
  const span = Math.max(0, Math.floor(seconds));
  if (span < 90) return `${span} s`;
  if (span < 90 * 60) return `${Math.floor(span / 60)} min`;
  return span < 48 * 3600 ? `${Math.floor(span / 3600)} h` : `${Math.floor(span / 86400)} days`;
}

function sign(event) {
  lastSign = performance.now();
  isLive = true;
  if (missed) location.reload();
  if (event.type === "beat") boxAhead = JSON.parse(event.data).now - Date.now() / 1000;
  tick();
}

function tick() {
  const silence = performance.now() - lastSign;
  if (silence > LOST_AFTER_MS) isLive = false;
  const chip = isLive ? `live, ${ago(silence / 1000)} ago` : "display not live";
  if (live.textContent !== chip) live.textContent = chip;
  live.className = `chip live ${isLive ? "on" : "off"}`;
  body.classList.toggle("stale", !isLive);
  if (lost.hidden !== isLive) {
    lost.hidden = isLive;
    lost.textContent = isLive ? "" : "Display not live: the link to the box is gone. What you see may be out of date. Trying again.";
  }
  for (const time of document.querySelectorAll("time[data-at]")) {
    const words = ago(boxNow() - Number(time.dataset.at)) + time.dataset.suffix;
    if (time.textContent !== words) time.textContent = words;
  }
}

async function fetchFragment(path) {
  const response = await fetch(path, { cache: "no-store" });
  if (response.status === 401) location.reload(); // signed out: the box asks to sign in, and comes back here
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return new DOMParser().parseFromString(await response.text(), "text/html");
}

function replaceParts(fragment) {
  for (const part of fragment.querySelectorAll("[data-part]")) {
    const old = document.querySelector(`[data-part="${part.dataset.part}"]`);
    if (old) old.replaceWith(part);
  }
  const count = Number(document.querySelector('[data-part="alarms"]').dataset.count);
  document.title = count ? `(${count}) flagged · ${title}` : title;
}

const standsBefore = (one, other) =>
  one.dataset.first !== other.dataset.first
    ? one.dataset.first > other.dataset.first
    : Number(one.dataset.number) > Number(other.dataset.number);

function placeRow(row) {
  const old = rows.querySelector(`[data-id="${row.dataset.id}"]`);
  if (old) {
    const link = old.querySelector("a");
    if (link.hasAttribute("aria-current")) row.querySelector("a").setAttribute("aria-current", "true");
    old.remove();
  } else {
    row.classList.add("fresh");
  }
  const others = [...rows.querySelectorAll(".row")];
  rows.insertBefore(row, others.find((other) => standsBefore(row, other)) || rows.querySelector(".empty"));
  others.slice(MAX_ROWS).forEach((old) => old.remove());
}

async function showChange(id) {
  const fragment = await fetchFragment(`/live/rows/${id}`);
  placeRow(fragment.querySelector("li"));
  replaceParts(fragment);
  const study = document.getElementById("study");
  if (!study.dataset.id) {
    study.replaceWith((await fetchFragment(`/live/study/${id}`)).querySelector("#study"));
    watchStudy();
  } else if (study.dataset.id === id) {
    // Only the answer can change; a new image never replaces the one under a person's finger.
    replaceParts(await fetchFragment(`/live/study/${id}`));
  }
  tick();
}

// One after the other, so that an older answer never overwrites a newer one. What could not be fetched is made good by
// loading the page anew, as soon as the box answers again.
const queue = (step) => { work = work.then(step).catch(() => { missed = true; }); };

function connect() {
  source = new EventSource(`/api/v1/events?after=${seq}&page=${pageName()}`);
  for (const kind of ["beat", "result", "device"]) source.addEventListener(kind, sign);
  source.addEventListener("result", (event) => {
    seq = Number(event.lastEventId);
    const { id } = JSON.parse(event.data);
    queue(() => showChange(id));
  });
  source.addEventListener("device", () => queue(async () => replaceParts(await fetchFragment("/live/device"))));
  source.addEventListener("reset", () => location.reload());
  source.addEventListener("signed-out", () => location.reload());
  source.addEventListener("replaced", () => { // this tab was duplicated, and its twin took the name
    sessionStorage.removeItem("page");
    source.close();
    connect();
  });
  source.onerror = () => {
    isLive = false;
    tick();
    if (source.readyState === EventSource.CLOSED) setTimeout(reconnect, RETRY_MS); // refused: full, or signed out
  };
}

async function reconnect() {
  try {
    await fetchFragment("/live/device");
  } catch {
    setTimeout(reconnect, RETRY_MS);
    return;
  }
  connect();
}

function pageName() {
  const name = sessionStorage.getItem("page") || Math.random().toString(36).slice(2);
  sessionStorage.setItem("page", name);
  return name;
}

function watchStudy() {
  const overlay = document.querySelector(".overlay");
  const strength = document.getElementById("opacity");
  if (overlay && strength) {
    strength.parentElement.hidden = false;
    strength.addEventListener("input", () => { overlay.style.opacity = strength.value / 100; });
  }
  for (const picture of document.querySelectorAll(".stack img")) retryPicture(picture, [...PICTURE_RETRIES_MS]);
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

rows.addEventListener("keydown", (event) => {
  const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
  const next = step && event.target.closest("li")?.[step]?.querySelector("a");
  if (!next) return;
  event.preventDefault();
  next.focus();
});

watchStudy();
connect();
setInterval(tick, 500);
