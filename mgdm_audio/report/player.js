// Players in step: one AudioBufferSourceNode a row, all started at the same time of one clock.

const play = byId("play"), seek = byId("seek"), time = byId("time"), message = byId("message");
const { dataset } = document.querySelector("main");
const rate = Number(dataset.rate), duration = Number(dataset.samples) / rate; // Hz, seconds
const rows = [...document.querySelectorAll(".row")].map((element) => ({
  element,
  name: element.dataset.name,
  muteButton: element.querySelector(".mute"),
  soloButton: element.querySelector(".solo"),
  volume: element.querySelector(".volume input"),
  muted: element.querySelector(".mute").getAttribute("aria-pressed") === "true",
  solo: false,
  playhead: element.querySelector(".playhead"),
  region: element.querySelector(".region"),
  axis: element.querySelector(".axis"),
}));

let context = null; // made by the first click or key: browsers keep earlier ones silent
let sources = []; // of the rows, while they sound
let position = 0; // seconds, of the last start or stop
let started = 0; // the context's time at which ``position`` sounds

const playing = () => sources.length > 0;

function now() {
  if (!playing()) return position;
  const { loop: repeats, loopStart, loopEnd } = sources[0];
  const here = position + Math.max(0, context.currentTime - started);
  if (!repeats || here < loopEnd) return Math.min(duration, here);
  return loopStart + ((here - loopStart) % (loopEnd - loopStart));
}

function show() {
  const here = now(), share = duration ? here / duration : 0;
  time.textContent = `${clock(here)} / ${clock(duration)}`;
  seek.value = String(share);
  seek.setAttribute("aria-valuetext", `${clock(here)} of ${clock(duration)}`);
  for (const row of rows) row.playhead.style.left = `${percent(here)}%`;
}

const isAudible = (row) => (rows.some((other) => other.solo) ? row.solo : !row.muted);
const gainOf = (row) => (isAudible(row) ? Number(row.volume.value) : 0);

function mix() {
  for (const row of rows) {
    const gain = gainOf(row);
    row.element.dataset.audible = String(isAudible(row));
    row.muteButton.setAttribute("aria-pressed", String(row.muted));
    row.soloButton.setAttribute("aria-pressed", String(row.solo));
    row.volume.setAttribute("aria-valuetext", `${Math.round(100 * Number(row.volume.value))} %`);
    // In 10 ms rather than at once, which would click.
    if (row.gain) row.gain.gain.setTargetAtTime(gain, context.currentTime, 0.01);
  }
}

function stop() {
  position = now();
  for (const source of sources) {
    source.onended = null;
    source.stop();
  }
  sources = [];
  document.body.dataset.state = "ready";
  play.textContent = "Play";
}

function start() {
  if (!context) {
    context = new AudioContext({ sampleRate: rate });
    for (const row of rows) {
      row.gain = new GainNode(context, { gain: 0 });
      row.gain.connect(context.destination);
    }
    mix();
  }
  context.resume();
  if (position >= duration) position = 0;
  if (looping && !(position >= region.from && position < region.to)) position = region.from;
  started = context.currentTime + 0.05; // the same moment for all, not yet over for the last
  sources = rows.map((row) => {
    const ends = { loop: looping, loopStart: region.from, loopEnd: region.to };
    const source = new AudioBufferSourceNode(context, { buffer: row.buffer, ...ends });
    source.connect(row.gain);
    source.start(started, position);
    return source;
  });
  sources[0].onended = () => {
    stop();
    position = 0;
    show();
  };
  document.body.dataset.state = "playing";
  play.textContent = "Pause";
  requestAnimationFrame(tick);
}

function tick() {
  if (!playing()) return;
  follow();
  requestAnimationFrame(tick);
}

function toggle() {
  if (play.disabled) return;
  if (playing()) stop();
  else start();
  show();
}

function moveTo(seconds) {
  if (play.disabled) return;
  const wasPlaying = playing();
  if (wasPlaying) stop();
  position = Math.max(0, Math.min(duration, seconds));
  if (wasPlaying) start();
  follow();
}

function solo(row, add) {
  const on = !row.solo;
  if (!add) for (const other of rows) other.solo = false;
  row.solo = on;
  mix();
}

for (const row of rows) {
  row.muteButton.addEventListener("click", () => {
    row.muted = !row.muted;
    mix();
  });
  row.soloButton.addEventListener("click", (event) => solo(row, event.shiftKey));
  row.volume.addEventListener("input", mix);
}
play.addEventListener("click", toggle);
seek.addEventListener("input", () => moveTo(duration * Number(seek.value)));

// After the mouse, a key means the page again, not the button that was clicked last.
document.addEventListener("pointerup", () => {
  const active = document.activeElement;
  if (active instanceof HTMLButtonElement || active instanceof HTMLInputElement) active.blur();
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const onButton = event.target.closest("button, a, [type=checkbox]");
  const onRange = event.target.closest("[type=range]");
  const digit = /^(?:Digit|Numpad)([0-9])$/.exec(event.code);
  if (event.code === "Space" && !onButton) toggle();
  else if (event.code === "ArrowLeft" && !onRange) moveTo(now() - 5);
  else if (event.code === "ArrowRight" && !onRange) moveTo(now() + 5);
  else if (digit && digit[1] === "0") {
    for (const row of rows) row.solo = false;
    mix();
  } else if (digit && rows[Number(digit[1]) - 1]) solo(rows[Number(digit[1]) - 1], event.shiftKey);
  else return;
  event.preventDefault();
});
