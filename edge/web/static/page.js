// Keeps an open page live. Everything it shows comes rendered from the box, and so do the few words that it says by
// itself (data-words); without this script the page reads just as well.

import { ASK_EVERY_MS, LOOK_EVERY_MS, LOST_AFTER_MS, ask, filled, showLink, words } from "./link.js";
import { watchStudy } from "./study.js";
import { sounding } from "./sound.js";

const RETRY_MS = 3000;
const MAX_ROWS = 200; // a page may stay open for weeks
const SILENT_MS = 5000; // a stream that says nothing for so long may never come through: the page asks by itself as well

const body = document.body;
const rows = document.getElementById("rows");
const sound = sounding(words);

let seq = Number(body.dataset.seq);
let lastSign = performance.now();
let boxAhead = Number(body.dataset.now) - Date.now() / 1000; // tablets' clocks are often wrong: the box's counts
let isLive = false;
let source;
let lastBeat = window.EventSource ? performance.now() : -Infinity;
let isPolling = false;
let tag = "";
let missed = false;
let work = Promise.resolve();

const boxNow = () => Date.now() / 1000 + boxAhead;

function spanOf(seconds) {
  const span = Math.max(0, Math.floor(seconds));
  const [, unit, said] = words.spans.find(([until]) => until === null || span < until);
  return filled(said, { num: Math.floor(span / unit) });
}

function sign(event) {
  if (event.type === "beat") boxAhead = JSON.parse(event.data).now - Date.now() / 1000;
  lastBeat = performance.now();
  isPolling = false;
  alive();
}

function alive() {
  lastSign = performance.now();
  isLive = true;
  if (missed) location.reload();
  tick();
}

function tick() {
  const silence = performance.now() - lastSign;
  if (silence > LOST_AFTER_MS) isLive = false;
  if (!isPolling && performance.now() - lastBeat > SILENT_MS) poll();
  const told = !isPolling ? filled(words.live, { span: spanOf(silence / 1000) }) : words.polling;
  showLink(isLive, told);
  for (const time of document.querySelectorAll("time[data-at]")) {
    const span = spanOf(boxNow() - Number(time.dataset.at));
    const said = "ago" in time.dataset ? filled(words.ago, { span }) : span;
    if (time.textContent !== said) time.textContent = said;
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
  const { count, urgent } = document.querySelector('[data-part="alarms"]').dataset;
  const badge = Number(count) ? `${filled(words.flagged, { count })} · ` : "";
  document.title = badge + body.dataset.title;
  sound.waiting(Number(urgent));
}

const standsBefore = (one, other) =>
  one.dataset.first !== other.dataset.first
    ? one.dataset.first > other.dataset.first
    : Number(one.dataset.number) > Number(other.dataset.number);

function placeRow(row) {
  const old = rows.querySelector(`[data-id="${row.dataset.id}"]`);
  const hadFocus = old && old.contains(document.activeElement);
  if (old) {
    const link = old.querySelector("a");
    if (link.hasAttribute("aria-current")) row.querySelector("a").setAttribute("aria-current", "true");
    old.remove();
  } else {
    row.classList.add("fresh");
  }
  const others = [...rows.querySelectorAll(".row")];
  rows.insertBefore(row, others.find((other) => standsBefore(row, other)) || rows.querySelector(".empty"));
  if (hadFocus) row.querySelector("a").focus({ preventScroll: true });
  others.slice(MAX_ROWS).forEach((old) => old.remove());
}

async function showChange(id) {
  const fragment = await fetchFragment(`/live/rows/${id}`);
  placeRow(fragment.querySelector("li"));
  replaceParts(fragment);
  const study = document.getElementById("study");
  if (!study.dataset.id) {
    study.replaceWith((await fetchFragment(`/live/study/${id}`)).querySelector("#study"));
    watchStudy(words);
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
  if (!window.EventSource) return;
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

// While no stream comes through: ask every 2 s what changed. The answer is 304 while nothing did, a sign of life too.
async function poll() {
  isPolling = true;
  if (await ask(`/live/changes?after=${seq}`, tag, take)) alive();
  setTimeout(() => { if (isPolling) poll(); }, ASK_EVERY_MS);
}

async function take(response) {
  const change = await response.json();
  if (change.reset) location.reload();
  tag = response.headers.get("ETag");
  seq = change.seq;
  change.ids.forEach((id) => queue(() => showChange(id)));
  queue(async () => replaceParts(await fetchFragment("/live/device")));
}

function pageName() {
  const name = sessionStorage.getItem("page") || Math.random().toString(36).slice(2);
  sessionStorage.setItem("page", name);
  return name;
}

rows.addEventListener("keydown", (event) => {
  const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
  const next = step && event.target.closest("li")?.[step]?.querySelector("a");
  if (!next) return;
  event.preventDefault();
  next.focus();
});

sound.waiting(Number(document.querySelector('[data-part="alarms"]').dataset.urgent));
watchStudy(words);
connect();
setInterval(tick, LOOK_EVERY_MS);
