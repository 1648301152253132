// Files that were dropped, pasted or chosen: one picture or video, or the frames of a folder.

import { Told } from "./words.js";

// Frames are JPEGs or, where there are none, PNGs.
const FRAMES = [/^\d+\.jpe?g$/i, /^\d+\.png$/i];

async function inFolder(entry) {
  const reader = entry.createReader();
  const found = [];
  for (;;) { // it gives at most a hundred at a time
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) break;
    found.push(...some.filter(({ isFile }) => isFile));
  }
  return Promise.all(found.map((one) => new Promise((resolve, reject) => one.file(resolve, reject))));
}

export async function dropped({ items, files }) {
  const entries = [...items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (entries.length !== 1 || !entries[0].isDirectory) return [...files];
  const found = await inFolder(entries[0]);
  found.folder = entries[0].name;
  return found;
}

// The name of the folder that frames are from, as far as browsers tell it.
export function folderOf(files) {
  return files.folder ?? (files[0]?.webkitRelativePath.split("/").slice(0, -1).at(-1) || "frames");
}

// Which of them are opened: of several, those that are numbered frames.
export function chosen(files) {
  if (files.length < 2) return files;
  const kinds = FRAMES.map((kind) => files.filter(({ name }) => kind.test(name)));
  const frames = kinds.find((found) => found.length > 0);
  if (frames === undefined) throw new Told(`${files.length} files were given, and none is a frame: frames are named by their number, as in 00012.jpg.`);
  return frames.sort((one, other) => parseInt(one.name, 10) - parseInt(other.name, 10));
}
