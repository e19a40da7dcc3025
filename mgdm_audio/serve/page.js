// Files are sent one after the other; the state of each is asked for twice a second.
"use strict";

const byId = (id) => document.getElementById(id);
const drop = byId("drop"), files = byId("files"), message = byId("message");
const tracks = new Map(); // id -> its section
const KEY = "tracks"; // of this tab: a reload finds them again

function clock(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

async function ask(address, options) {
  try {
    const answer = await fetch(address, options);
    const text = answer.status === 204 ? "{}" : await answer.text();
    return { status: answer.status, ...JSON.parse(text) };
  } catch {
    return { status: 0, message: "the server does not answer; is it still running?" };
  }
}

function remember() {
  sessionStorage.setItem(KEY, JSON.stringify([...tracks.keys()]));
}

function describe(track) {
  if (track.state === "arriving") return "arriving";
  if (track.state === "waiting") return `waiting, ${track.ahead} before it`;
  if (track.state === "failed") return `Not separated: ${track.message}`;
  if (track.state === "done") return `separated in ${clock(track.seconds)}`;
  const percent = `${Math.floor(100 * track.share)} %, ${clock(track.seconds)}`;
  if (track.share < 0.02) return `separating: ${percent}`;
  return `separating: ${percent}, ${clock(track.seconds / track.share - track.seconds)} left`;
}

function section(track) {
  const found = tracks.get(track.id);
  if (found) return found;
  const made = byId("track").content.firstElementChild.cloneNode(true);
  made.querySelector("h2").textContent = track.name;
  made.querySelector(".remove").addEventListener("click", async () => {
    await ask(`/tracks/${track.id}`, { method: "DELETE" });
    forget(track.id);
  });
  byId("tracks").prepend(made);
  tracks.set(track.id, made);
  remember();
  return made;
}

function forget(id) {
  tracks.get(id)?.remove();
  tracks.delete(id);
  remember();
}

function link(place, text, address) {
  const made = document.createElement("a");
  made.textContent = text;
  made.href = address;
  place.append(made);
  return made;
}

function show(track) {
  const place = section(track);
  if (place.dataset.state === "done" || place.dataset.state === "failed") return;
  place.dataset.state = track.state;
  place.querySelector(".state").textContent = describe(track);
  const bar = place.querySelector("progress");
  bar.value = track.share;
  bar.hidden = track.state === "done" || track.state === "failed";
  if (track.state !== "done") return;
  const results = place.querySelector(".results"), frame = place.querySelector("iframe");
  results.hidden = frame.hidden = false;
  for (const name of track.results) {
    const page = name.endsWith(".html");
    const made = link(results, page ? "Listening page" : name, `/tracks/${track.id}/${name}`);
    if (page) {
      made.target = "_blank";
      frame.src = made.href;
    }
  }
}

async function send(list) {
  message.textContent = "";
  for (const file of list) {
    const query = new URLSearchParams({ name: file.name });
    const track = await ask(`/tracks?${query}`, { method: "POST", body: file });
    if (track.status === 201) show(track);
    else message.textContent = `${file.name}: ${track.message}`;
  }
}

async function look() {
  for (const [id, place] of [...tracks]) {
    if (place.dataset.state === "done" || place.dataset.state === "failed") continue;
    const track = await ask(`/tracks/${id}`);
    if (track.status === 200) show(track);
    else if (track.status === 404) forget(id);
    else message.textContent = track.message;
  }
  setTimeout(look, 500);
}

async function recall() {
  for (const id of JSON.parse(sessionStorage.getItem(KEY) || "[]")) {
    const track = await ask(`/tracks/${id}`);
    if (track.status === 200) show(track);
  }
  remember();
  look();
}

files.addEventListener("change", () => {
  send([...files.files]);
  files.value = "";
});
// A file that misses the field would else replace this page.
for (const kind of ["dragover", "drop"]) {
  document.addEventListener(kind, (event) => event.preventDefault());
}
document.addEventListener("dragover", () => drop.classList.add("over"));
document.addEventListener("dragleave", () => drop.classList.remove("over"));
document.addEventListener("drop", (event) => {
  drop.classList.remove("over");
  send([...event.dataTransfer.files]);
});
recall();
