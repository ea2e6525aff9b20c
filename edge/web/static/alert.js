// Keeps the number of flags that wait up to date on the sign-in form, where a locked screen stands. It says nothing else.

const LOOK_EVERY_MS = 5000;
const title = document.title.replace(/^\(\d+\) /, "");

async function look() {
  const shown = document.getElementById("waiting");
  const { waiting } = await (await fetch("/api/v1/alert", { cache: "no-store" })).json();
  if (waiting === Number(shown.dataset.waiting)) return;
  const page = new DOMParser().parseFromString(await (await fetch("/sign-in", { cache: "no-store" })).text(), "text/html");
  const fresh = page.getElementById("waiting");
  if (fresh) shown.replaceWith(fresh);
  document.title = waiting ? `(${waiting}) ${title}` : title;
}

// What cannot be fetched now is fetched the next time.
setInterval(() => look().catch(() => {}), LOOK_EVERY_MS);
