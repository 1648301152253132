// Going through a video, and following objects in it.

import { takeFrame } from "./clicks.js";
import { imageOf } from "./opening.js";
import { alarm, get, long, progress, tell, trying } from "./says.js";
import { changed, state } from "./state.js";

const PLAY = 100; // milliseconds for a frame
let playing = null;

export async function follow() {
  alarm("");
  pause();
  const which = state.opened;
  let done = 0;
  const found = await long("follow", {}, "while the objects were followed", (said) => {
    takeFrame(said.frame, said, which);
    done += 1;
    progress({ progress: "Following", done, total: state.count });
    changed();
  });
  if (!found) return;
  state.marks.settle();
  state.prompts = state.marks.at(state.object, state.frame);
  state.commands = found.commands;
  changed();
  tell(`Followed through ${state.count} frames. A click on any frame corrects an object there; then follow again.`);
}

export function newObject() {
  const name = String(Math.max(...state.objects.map(Number)) + 1);
  state.objects.push(name);
  choose(name);
  tell(`Object ${name}: click it, or drag a box around it.`);
}

export function choose(name) {
  state.object = name;
  state.prompts = state.marks.at(name, state.frame);
  changed();
}

export async function seek(frame) {
  state.frame = frame;
  state.prompts = state.marks.at(state.object, frame);
  get("frame").value = frame;
  const which = state.opened;
  await trying("while the frame was read", async () => {
    const canvas = await imageOf(frame);
    if (state.frame !== frame || which !== state.opened) return;
    state.picture = { ...state.picture, canvas };
    changed();
  });
}

function play() {
  playing = setInterval(() => { if (!state.busy) seek((state.frame + 1) % state.count); }, PLAY);
  get("play").textContent = "❚❚";
  get("play").setAttribute("aria-label", "Pause");
}

export function pause() {
  clearInterval(playing);
  playing = null;
  get("play").textContent = "▶";
  get("play").setAttribute("aria-label", "Play");
}

export function toggle() {
  if (playing) pause();
  else play();
}
