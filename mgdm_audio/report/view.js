// What part of the track is shown, its time axis, and the region that is looped.

const view = { from: 0, to: duration }; // seconds
const region = { from: 0, to: duration }; // seconds, looped while ``looping``
let looping = false;

const SHORTEST = 0.05; // seconds, of a region
const CLOSEST = 0.25; // seconds, of a view
const COLUMNS = 800; // of a waveform drawn anew
const STEPS = [0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800];
const LABEL = 64; // pixels, the least distance of two ticks

// The pictures as they came, over the whole track.
const drawings = [...document.querySelectorAll(".pictures svg")].map((element) => ({
  element,
  width: element.viewBox.baseVal.width,
  height: element.viewBox.baseVal.height,
}));
for (const row of rows) {
  row.path = row.element.querySelector(".sound");
  row.whole = row.path.getAttribute("d");
}

// Of the width of the pictures.
const percent = (seconds) => (100 * (seconds - view.from)) / (view.to - view.from || 1);

// The waveform's extremes between the view's ends, in the coordinates of the whole picture.
function detail(row) {
  const channels = Array.from({ length: row.buffer.numberOfChannels }, (_, c) =>
    row.buffer.getChannelData(c));
  const peak = (row.peak ??= channels.reduce(
    (most, x) => x.reduce((found, value) => Math.max(found, Math.abs(value)), most), 0) || 1);
  const width = row.path.ownerSVGElement.viewBox.baseVal.width / COLUMNS;
  const first = view.from * rate, step = ((view.to - view.from) * rate) / COLUMNS;
  const tops = [], bottoms = [];
  for (let column = 0; column < COLUMNS; column++) {
    const begin = Math.floor(first + column * step);
    const end = Math.max(begin + 1, Math.ceil(first + (column + 1) * step));
    let top = -1, bottom = 1;
    for (const x of channels) {
      for (let i = begin; i < Math.min(end, x.length); i++) {
        top = Math.max(top, x[i] / peak);
        bottom = Math.min(bottom, x[i] / peak);
      }
    }
    tops.push(`V${100 - 100 * top}h${width}`);
    bottoms.unshift(`V${100 - 100 * bottom}h${-width}`);
  }
  return `M${row.path.ownerSVGElement.viewBox.baseVal.x} 100${tops.join("")}${bottoms.join("")}z`;
}

function drawAxis() {
  const width = rows[0].axis.clientWidth || 1, length = view.to - view.from;
  const step = STEPS.find((s) => (s / length) * width >= LABEL) || STEPS[STEPS.length - 1];
  const decimals = step >= 1 ? 0 : step >= 0.1 ? 1 : 2;
  for (const row of rows) {
    row.axis.replaceChildren();
    for (let k = Math.ceil(view.from / step); k * step <= view.to; k++) {
      const tick = document.createElement("span");
      tick.textContent = clock(k * step, decimals);
      tick.style.left = `${percent(k * step)}%`;
      row.axis.append(tick);
    }
  }
}

function showRegion() {
  byId("loop").setAttribute("aria-pressed", String(looping));
  byId("region").textContent = looping ? `${clock(region.from)} to ${clock(region.to)}` : "";
  byId("export").textContent = looping ? "Export the loop (WAV)" : "Export the mix (WAV)";
  byId("fit").textContent = looping && !fits() ? "Show loop" : "Show all";
  for (const row of rows) {
    row.region.hidden = !looping;
    row.region.style.left = `${percent(region.from)}%`;
    row.region.style.right = `${100 - percent(region.to)}%`;
  }
}

const fits = () => view.from === region.from && view.to === region.to;

function look(from, to) {
  const length = Math.min(duration, Math.max(CLOSEST, to - from));
  view.from = Math.max(0, Math.min(from, duration - length));
  view.to = view.from + length;
  for (const { element, width, height } of drawings) {
    const scale = width / duration;
    element.setAttribute("viewBox", `${view.from * scale} 0 ${length * scale} ${height}`);
  }
  for (const row of rows) { // what was drawn has 1600 columns
    row.path.setAttribute("d", row.buffer && length < duration / 2 ? detail(row) : row.whole);
  }
  drawAxis();
  showRegion();
  show();
}

// Shows the position, and the next part of the track when that has passed the view's end.
function follow() {
  const here = now();
  if (here < view.from || here > view.to) look(here, here + view.to - view.from);
  else show();
}

function zoom(factor) {
  const centre = looping ? (region.from + region.to) / 2 : now();
  const half = (factor * (view.to - view.from)) / 2;
  look(centre - half, centre + half);
}

function mark(from, to, on = true) {
  region.from = Math.max(0, Math.min(from, duration - SHORTEST));
  region.to = Math.min(duration, Math.max(to, region.from + SHORTEST));
  looping = on;
  showRegion();
}

function loop(from, to, on = true) {
  mark(from, to, on);
  if (playing()) moveTo(now()); // sources take the loop when they start
}

byId("loop").addEventListener("click", () => loop(region.from, region.to, !looping));
byId("from").addEventListener("click", () => {
  const here = now();
  loop(here, here < region.to ? region.to : duration);
});
byId("to").addEventListener("click", () => {
  const here = now();
  loop(here > region.from ? region.from : 0, here);
});
byId("zoom-in").addEventListener("click", () => zoom(0.5));
byId("zoom-out").addEventListener("click", () => zoom(2));
byId("fit").addEventListener("click", () => {
  if (looping && !fits()) look(region.from, region.to);
  else look(0, duration);
});

// A click moves there, and dragging sets the loop.
for (const row of rows) {
  let begin = null, dragged = false; // pixels
  const pictures = row.element.querySelector(".pictures");
  const seconds = (x) => {
    const box = pictures.getBoundingClientRect(), place = (x - box.left) / box.width;
    return view.from + Math.max(0, Math.min(1, place)) * (view.to - view.from);
  };
  pictures.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    begin = event.clientX;
    dragged = false;
    pictures.setPointerCapture(event.pointerId);
  });
  pictures.addEventListener("pointermove", (event) => {
    if (begin === null || play.disabled) return;
    dragged ||= Math.abs(event.clientX - begin) > 6;
    if (!dragged) return;
    const ends = [seconds(begin), seconds(event.clientX)];
    mark(Math.min(...ends), Math.max(...ends));
  });
  pictures.addEventListener("pointerup", (event) => {
    if (begin !== null && dragged) loop(region.from, region.to);
    else if (begin !== null) moveTo(seconds(event.clientX));
    begin = null;
  });
  pictures.addEventListener("pointercancel", () => { // the page is scrolled instead
    begin = null;
  });
}
addEventListener("resize", drawAxis);
