// The link to the box as every open page has it: asking again with patience, and saying when nothing comes back.

export const LOST_AFTER_MS = 4000;
export const ASK_EVERY_MS = 2000;
export const LOOK_EVERY_MS = 500;

export const words = JSON.parse(document.body.dataset.words);

const lost = document.getElementById("lost");
const live = document.getElementById("live");

export const filled = (text, values) => text.replace(/%\((\w+)\)s/g, (_, name) => values[name]);

// What is not live loses its colour, and a sentence says so; `said` is for while it is.
export function showLink(isLive, said) {
  const chip = isLive ? said : words.not_live;
  if (live.textContent !== chip) live.textContent = chip;
  live.className = `chip live ${isLive ? "on" : "off"}`;
  document.body.classList.toggle("stale", !isLive);
  if (lost.hidden !== isLive) {
    lost.hidden = isLive;
    lost.textContent = isLive ? "" : words.lost;
  }
}

// Whether the box has answered within the time. By ETag: 304 while nothing changed, which is a sign of life too.
export async function ask(path, tag, take) {
  const patience = new AbortController();
  const timer = setTimeout(() => patience.abort(), LOST_AFTER_MS);
  try {
    const headers = { "If-None-Match": tag };
    const response = await fetch(path, { headers, cache: "no-store", signal: patience.signal });
    if (response.status === 401) location.reload(); // signed out: the box asks to sign in, and comes back here
    if (response.status === 200) await take(response);
    return response.ok || response.status === 304;
  } catch {
    return false; // after 4 s of it the page says so
  } finally {
    clearTimeout(timer);
  }
}
