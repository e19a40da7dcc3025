// Files are sent one after the other; the state of each is asked for twice a second. All tabs of a
// browser show the same files: their names, which only the browser knows, lie in its storage.

const drop = byId("drop"), files = byId("files"), message = byId("message");
const tracks = new Map(); // id -> its section
const KEY = "track "; // before the id; the value is the time at which it was sent

async function ask(address, options) {
  try {
    const answer = await fetch(address, options);
    const text = answer.status === 204 ? "{}" : await answer.text();
    return { status: answer.status, ...JSON.parse(text) };
  } catch {
    return { status: 0, message: "the server does not answer; is it still running?" };
  }
}

function describe(track) {
  if (track.state === "waiting") return `waiting, ${track.ahead} before it`;
  if (track.state === "failed") return `Not separated: ${track.message}`;
  if (track.state === "done") return `separated in ${clock(track.seconds, 0)}`;
  return track.state === "working" ? "separating" : track.state;
}

// Apart from the state: a screen reader would read out every percent.
function progress(track) {
  if (track.state !== "working") return "";
  const sofar = `${Math.floor(100 * track.share)} %, ${clock(track.seconds, 0)}`;
  if (track.share < 0.02) return sofar;
  return `${sofar}, ${clock(track.seconds / track.share - track.seconds, 0)} left`;
}

function section(track) {
  const found = tracks.get(track.id);
  if (found) return found;
  const made = byId("track").content.firstElementChild.cloneNode(true);
  made.querySelector("h2").textContent = track.name;
  made.querySelector("progress").setAttribute("aria-label", `Progress of ${track.name}`);
  made.querySelector("iframe").title = `Listening page of ${track.name}`;
  const remove = made.querySelector(".remove");
  remove.setAttribute("aria-label", `Remove ${track.name}`);
  remove.addEventListener("click", async () => {
    await ask(`/tracks/${track.id}`, { method: "DELETE" });
    forget(track.id);
  });
  // The newest first, in whatever order the answers come.
  made.dataset.sent = localStorage.getItem(KEY + track.id);
  const others = [...byId("tracks").children], sent = Number(made.dataset.sent);
  const older = others.find((other) => Number(other.dataset.sent) <= sent);
  byId("tracks").insertBefore(made, older ?? null);
  tracks.set(track.id, made);
  return made;
}

function forget(id) {
  tracks.get(id)?.remove();
  tracks.delete(id);
  localStorage.removeItem(KEY + id);
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
  const state = place.querySelector(".state"), said = describe(track);
  if (state.textContent !== said) state.textContent = said;
  place.querySelector(".left").textContent = progress(track);
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
  const button = document.createElement("button");
  button.textContent = "All stems (zip)";
  button.addEventListener("click", () => zipped(track, button));
  results.append(button);
}

// It may have been removed, here or in another tab, while the server answered.
function showKept(track) {
  if (localStorage.getItem(KEY + track.id) !== null) show(track);
}

async function zipped(track, button) {
  const files = [], folder = track.name.replace(/\.[^.]*$/, "");
  button.disabled = true;
  message.textContent = "";
  try {
    for (const name of track.results.filter((result) => !result.endsWith(".html"))) {
      const answer = await fetch(`/tracks/${track.id}/${name}`);
      if (!answer.ok) throw new Error((await answer.json()).message);
      files.push([name, await answer.blob()]);
    }
    save(await zip(folder, files), `${folder}.zip`);
  } catch (error) {
    message.textContent = `${track.name}: ${error.message}`;
  }
  button.disabled = false;
}

async function send(list) {
  message.textContent = "";
  for (const file of list) {
    const query = new URLSearchParams({ name: file.name });
    const track = await ask(`/tracks?${query}`, { method: "POST", body: file });
    if (track.status === 201) {
      localStorage.setItem(KEY + track.id, String(Date.now()));
      show(track);
    } else message.textContent = `${file.name}: ${track.message}`;
  }
}

async function look() {
  for (const [id, place] of [...tracks]) {
    if (place.dataset.state === "done" || place.dataset.state === "failed") continue;
    const track = await ask(`/tracks/${id}`);
    if (track.status === 200) showKept(track);
    else if (track.status === 404) forget(id);
    else message.textContent = track.message;
  }
  setTimeout(look, 500);
}

async function recall(id) {
  const track = await ask(`/tracks/${id}`);
  if (track.status === 200) showKept(track);
  else if (track.status === 404) forget(id);
}

async function recallAll() {
  const kept = Object.entries(localStorage).filter(([key]) => key.startsWith(KEY));
  kept.sort(([, one], [, other]) => Number(one) - Number(other));
  for (const [key] of kept) await recall(key.slice(KEY.length));
  look();
}

// The browser tells only the other tabs.
addEventListener("storage", (event) => {
  if (!event.key?.startsWith(KEY)) return;
  const id = event.key.slice(KEY.length);
  if (event.newValue === null) forget(id);
  else recall(id);
});

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
recallAll();
