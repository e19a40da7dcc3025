// Decodes the sounds of the page, and makes files of them.

const BYTES = 3; // of a sample in an exported file, as in the stems' own

// A WAV file of [channel][sample], at most at full scale.
function wav(channels, frameRate) {
  const frame = BYTES * channels.length, size = frame * channels[0].length;
  const data = new Uint8Array(size), top = 2 ** (8 * BYTES - 1) - 1;
  for (const [c, samples] of channels.entries()) {
    for (let i = 0, at = BYTES * c; i < samples.length; i++, at += frame) {
      const value = Math.round(top * samples[i]);
      data[at] = value;
      data[at + 1] = value >> 8;
      data[at + 2] = value >> 16;
    }
  }
  const pad = size % 2;
  const format = [[4, 16], [2, 1], [2, channels.length], [4, frameRate], [4, frame * frameRate]];
  const head = [[4, 0x46464952], [4, 36 + size + pad], [4, 0x45564157], [4, 0x20746d66], ...format];
  head.push([2, frame], [2, 8 * BYTES], [4, 0x61746164], [4, size]);
  return new Blob([packed(...head), data, new Uint8Array(pad)], { type: "audio/wav" });
}

// The sum of the rows with their gains between two times: [channel][sample].
function mixed(from, to) {
  const first = Math.round(from * rate), length = Math.round(to * rate) - first;
  const parts = rows.map((row) => [row.buffer, gainOf(row)]).filter(([, gain]) => gain > 0);
  return Array.from({ length: rows[0].buffer.numberOfChannels }, (_, c) => {
    const sum = new Float32Array(length);
    for (const [buffer, gain] of parts) {
      const samples = buffer.getChannelData(c).subarray(first, first + length);
      for (let i = 0; i < samples.length; i++) sum[i] += gain * samples[i];
    }
    return sum;
  });
}

const track = document.title;

byId("export").addEventListener("click", () => {
  const channels = looping ? mixed(region.from, region.to) : mixed(0, duration);
  let peak = 1;
  for (const samples of channels) {
    for (let i = 0; i < samples.length; i++) peak = Math.max(peak, Math.abs(samples[i]));
  }
  for (const samples of peak > 1 ? channels : []) {
    for (let i = 0; i < samples.length; i++) samples[i] /= peak;
  }
  const lowered = `Lowered by ${(20 * Math.log10(peak)).toFixed(1)} dB so as not to clip.`;
  message.textContent = peak > 1 ? lowered : "";
  save(wav(channels, rate), `${track} (${looping ? "loop" : "mix"}).wav`);
});

byId("zip").addEventListener("click", async () => {
  const files = rows.filter((row) => row.file).map((row) => [`${row.name}.flac`, row.file]);
  save(await zip(track, files), `${track}.zip`);
});

// The sum of the other rows, for a mixture that has no sound of its own.
function summed(parts) {
  const { numberOfChannels, length } = parts[0];
  const whole = new AudioBuffer({ numberOfChannels, length, sampleRate: rate });
  for (let c = 0; c < numberOfChannels; c++) {
    const sum = whole.getChannelData(c);
    for (const samples of parts.map((buffer) => buffer.getChannelData(c))) {
      for (let i = 0; i < length; i++) sum[i] += samples[i];
    }
  }
  return whole;
}

async function load() {
  const decoder = new OfflineAudioContext(1, 1, rate);
  for (const [index, row] of rows.entries()) {
    message.textContent = `Decoding ${index + 1} of ${rows.length}: ${row.name}`;
    const holder = byId(`sound-${index}`);
    if (!holder) continue;
    const text = atob(holder.textContent);
    holder.remove(); // its megabytes are not needed twice
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    row.file = new Blob([bytes], { type: "audio/flac" }); // outside of the script's memory
    row.buffer = await decoder.decodeAudioData(bytes.buffer);
  }
  rows[0].buffer ??= summed(rows.slice(1).map((row) => row.buffer));
  message.textContent = "";
  play.disabled = seek.disabled = byId("export").disabled = byId("zip").disabled = false;
  document.body.dataset.state = "ready";
}

document.body.dataset.state = "loading";
mix();
look(0, duration);
load().catch((error) => {
  document.body.dataset.state = "failed";
  message.textContent = `This browser cannot decode the sound (${error.message}).`;
});
