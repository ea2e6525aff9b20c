// Keeps the open device page current. It is rendered by the box; what differs is changed where it stands, so that nothing
// that a person has opened, focused or scrolled to is lost.

import { ASK_EVERY_MS, LOOK_EVERY_MS, LOST_AFTER_MS, ask, filled, showLink, words } from "./link.js";

const shown = document.getElementById("main");

let lastSign = performance.now();
let tag = "";

function renew(old, fresh) {
  if (old.nodeName !== fresh.nodeName) {
    old.replaceWith(fresh);
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  for (const { name } of [...old.attributes]) if (name !== "open" && !fresh.hasAttribute(name)) old.removeAttribute(name);
  const [there, wanted] = [[...old.childNodes], [...fresh.childNodes]];
  wanted.forEach((child, at) => (there[at] ? renew(there[at], child) : old.append(child)));
  there.slice(wanted.length).forEach((child) => child.remove());
}

async function take(response) {
  const fragment = new DOMParser().parseFromString(await response.text(), "text/html");
  renew(shown, fragment.getElementById("main"));
  tag = response.headers.get("ETag");
}

async function look() {
  if (await ask("/live/device-view", tag, take)) lastSign = performance.now();
  tick();
  setTimeout(look, ASK_EVERY_MS);
}

function tick() {
  const isLive = performance.now() - lastSign <= LOST_AFTER_MS;
  showLink(isLive, filled(words.live_as_of, { time: shown.dataset.asOf }));
}

look();
setInterval(tick, LOOK_EVERY_MS);
