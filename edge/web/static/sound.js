// A sound while an urgent flag waits: off until this person switches it on, made here, and repeated until somebody answers.

const REPEAT_MS = 30000;
const TONES = [[880, 0], [660, 0.28], [880, 0.56]]; // Hz, seconds: three, falling and rising, unlike a phone

export function sounding(words) {
  const choice = document.getElementById("sound");
  let context;
  let urgent = 0;
  let last = -Infinity;

  const wanted = () => localStorage.getItem("sound") === "on";

  function ring() {
    if (!wanted() || !urgent) return;
    context = context || new AudioContext();
    if (context.state !== "running") { // browsers are silent until the page was touched: say so, and ring then
      choice.parentElement.dataset.waits = words.sound_waits;
      document.addEventListener("pointerdown", resume, { once: true });
      document.addEventListener("keydown", resume, { once: true });
      return;
    }
    last = performance.now();
    for (const [pitch, wait] of TONES) play(pitch, context.currentTime + wait);
  }

  function play(pitch, at) {
    const tone = context.createOscillator();
    const volume = context.createGain();
    tone.frequency.value = pitch;
    volume.gain.setValueAtTime(0, at);
    volume.gain.linearRampToValueAtTime(0.4, at + 0.02);
    volume.gain.exponentialRampToValueAtTime(0.001, at + 0.25);
    tone.connect(volume).connect(context.destination);
    tone.start(at);
    tone.stop(at + 0.26);
  }

  async function resume() {
    await context.resume();
    delete choice.parentElement.dataset.waits;
    ring();
  }

  choice.closest(".sound").hidden = false;
  choice.checked = wanted();
  choice.addEventListener("change", () => {
    localStorage.setItem("sound", choice.checked ? "on" : "off");
    if (choice.checked) ring();
  });
  setInterval(() => { if (performance.now() - last >= REPEAT_MS) ring(); }, 1000);

  return {
    // How many urgent flags wait now: one more rings at once.
    waiting(count) {
      const more = count > urgent;
      urgent = count;
      if (more) ring();
    },
  };
}
