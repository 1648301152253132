// Opens what was dropped, pasted or chosen.

import { chosen, folderOf } from "./files.js";
import { alarm, get, long, progress, tell, trying } from "./says.js";
import { server } from "./server.js";
import { changed, forget, state } from "./state.js";
import { size, Told } from "./words.js";

const KEPT = 64; // frames of a video that are kept decoded
const images = new Map();

function reset() {
  images.clear();
  forget();
  get("work").hidden = true;
  get("start").hidden = false;
}

export async function take(given) {
  if (state.going || state.busy) return alarm("Something is still going on: stop it, or wait.");
  alarm("");
  document.body.ariaBusy = "true";
  let begun = false;
  const sent = await trying("while the files were sent", async () => {
    const files = chosen(given);
    const bytes = files.reduce((sum, file) => sum + file.size, 0);
    if (bytes > state.limits.bytes) throw new Told(`${files[0].name}: is too large (${size(bytes)}): the files of a page may have ${size(state.limits.bytes)}.`);
    if (files.length > state.limits.frames) throw new Told(`${files.length} frames are more than the ${state.limits.frames} that a page takes.`);
    begun = true;
    reset();
    await server.ask("clear");
    for (const [at, file] of files.entries()) {
      tell(files.length > 1 ? `Sending frame ${at + 1} of ${files.length}` : `Sending ${file.name} …`);
      await server.upload(file, file.name);
    }
    const facts = await long("open", { names: files.map(({ name }) => name), folder: folderOf(given) }, "while the file was opened", progress);
    if (facts) await show(facts, files[0]);
  });
  document.body.ariaBusy = "false";
  if (begun && !sent) reset();
}

async function show(facts, file) {
  const { kind, name, width, height, frames: count } = facts;
  const canvas = kind === "picture" ? await createImageBitmap(file).catch(() => imageOf(0)) : await imageOf(0);
  Object.assign(state, { kind, count, picture: { name, width, height, canvas } });
  if (kind === "video") state.prompts = state.marks.at("1", 0);
  Object.assign(get("frame"), { max: count - 1, value: 0 });
  get("start").hidden = true;
  get("work").hidden = document.querySelector(".keys").hidden = false;
  changed();
  document.querySelector("#views canvas").focus();
  state.cursor = null;
  changed();
  tell(kind === "picture" ? "Ready. Click the object, or drag a box around it." : "Ready. Click an object on any frame, then follow it.");
}

export async function imageOf(frame) {
  if (!images.has(frame)) {
    const { blob } = await server.file(`frame/${frame}`);
    images.set(frame, await createImageBitmap(blob));
    if (images.size > KEPT) images.delete(images.keys().next().value);
  }
  return images.get(frame);
}
