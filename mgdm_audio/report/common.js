// Shared by the listening page and the page of the server: times, and files made in the browser.
"use strict";

const byId = (id) => document.getElementById(id);

// Minutes and seconds with so many decimals, rounded down.
function clock(seconds, decimals = 1) {
  const units = 10 ** decimals, whole = Math.floor(seconds * units + 1e-6);
  const rest = ((whole % (60 * units)) / units).toFixed(decimals);
  return `${Math.floor(whole / (60 * units))}:${rest.padStart(decimals ? decimals + 3 : 2, "0")}`;
}

const fileName = (text) => text.replace(/[\p{Cc}/\\:*?"<>|]/gu, "_");

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = fileName(name);
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000); // the browser may still be reading it
}

// Bytes of little-endian numbers, each as [bytes, value].
function packed(...fields) {
  const view = new DataView(new ArrayBuffer(fields.reduce((sum, [bytes]) => sum + bytes, 0)));
  let at = 0;
  for (const [bytes, value] of fields) {
    if (bytes === 4) view.setUint32(at, value, true);
    else view.setUint16(at, value, true);
    at += bytes;
  }
  return new Uint8Array(view.buffer);
}

const CRC = Uint32Array.from({ length: 256 }, (_, value) => {
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

async function crc32(blob) {
  const step = 2 ** 24; // bytes in memory at a time
  let crc = -1;
  for (let at = 0; at < blob.size; at += step) {
    const bytes = new Uint8Array(await blob.slice(at, at + step).arrayBuffer());
    for (let i = 0; i < bytes.length; i++) crc = (crc >>> 8) ^ CRC[(crc ^ bytes[i]) & 255];
  }
  return ~crc >>> 0;
}

// A zip of [name, blob] pairs in a folder, without compression (APPNOTE 6.3.10, 4.3).
async function zip(folder, files) {
  const now = new Date(), encoder = new TextEncoder(), parts = [], directory = [];
  const time = (now.getHours() << 11) | (now.getMinutes() << 5) | (now.getSeconds() >> 1);
  const date = ((now.getFullYear() - 1980) << 9) | ((now.getMonth() + 1) << 5) | now.getDate();
  let at = 0;
  const total = files.reduce((sum, [, blob]) => sum + blob.size, 0);
  if (total > 0xf0000000) throw new Error("a zip holds at most 4 GB; take the files one by one");
  for (const [name, blob] of files) {
    const text = encoder.encode(`${fileName(folder)}/${fileName(name)}`);
    const crc = await crc32(blob);
    const common = [[2, 20], [2, 0x800], [2, 0], [2, time], [2, date], [4, crc], [4, blob.size]];
    common.push([4, blob.size], [2, text.length], [2, 0]);
    parts.push(packed([4, 0x04034b50], ...common), text, blob);
    const place = [[2, 0], [2, 0], [2, 0], [4, 0], [4, at]];
    directory.push(packed([4, 0x02014b50], [2, 20], ...common, ...place), text);
    at += 30 + text.length + blob.size;
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0), count = [2, files.length];
  const end = packed([4, 0x06054b50], [2, 0], [2, 0], count, count, [4, size], [4, at], [2, 0]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}
