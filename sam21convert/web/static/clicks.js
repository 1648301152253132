// Clicks on a picture or a frame, and the masks that answer them.

import { alarm, get, long, progress, tell, tellSoon, trying } from "./says.js";
import { server } from "./server.js";
import { changed, state } from "./state.js";
import { iou } from "./words.js";

const NEAR = 12; // pixels of the screen, from a point that a click takes away

const waiting = new Map(); // what is to be asked, by object and frame

// From fractions to tenths of a pixel, which commands can name; inside the picture.
function pixel(share, length, most) {
  return Math.min(Math.round(share * length * 10) / 10, most);
}

function inPixels({ points, box }) {
  const { width, height } = state.picture;
  const pixels = points.map(({ x, y, label }) => [pixel(x, width, width - 0.1), pixel(y, height, height - 0.1), label]);
  const edges = box?.map((edge, at) => (at % 2 ? pixel(edge, height, height) : pixel(edge, width, width)));
  return { points: pixels, box: edges ?? null };
}

export function point(x, y, other) {
  if (state.going) return;
  const { clientWidth, clientHeight } = document.querySelector("#views canvas");
  const at = state.prompts.now.points.findIndex((one) =>
    Math.hypot((one.x - x) * clientWidth, (one.y - y) * clientHeight) < NEAR);
  if (at >= 0) state.prompts.removePoint(at);
  else state.prompts.addPoint(x, y, (state.tool === "off") !== other ? 0 : 1);
  ask();
}

export function box(...edges) {
  if (state.going) return;
  state.prompts.setBox(...edges);
  ask();
}

export function corner() {
  tell("Drag from one corner of the box to the other.");
}

export function begun() {
  tell("First corner of the box. Move, and press Enter at the other corner.");
}

export function undo() {
  if (state.going || !state.prompts.undoable) return;
  state.prompts.undo();
  ask();
}

export function clear() {
  if (state.prompts.empty && !state.lookers.some(({ everything }) => everything)) return;
  state.prompts.clear();
  ask();
}

export function moved() {
  tellSoon(() => {
    const { x, y } = state.cursor ?? {};
    if (x === undefined) return null;
    const mask = state.lookers[0].shape(state);
    let where = "";
    if (mask) {
      const column = Math.min(Math.floor(x * mask.width), mask.width - 1);
      const row = Math.min(Math.floor(y * mask.height), mask.height - 1);
      where = mask.data[row * mask.width + column] > 0 ? ", inside the mask" : ", outside the mask";
    }
    return `Cursor ${Math.round(100 * x)} % from the left, ${Math.round(100 * y)} % from the top${where}.`;
  });
}

export function prefer(number) {
  state.candidate = number;
  state.preferred = true;
  changed();
  summary();
}

// Asks for the masks of what is marked now.
async function ask() {
  const { object, frame, prompts } = state;
  waiting.set(`${object} ${frame}`, { object, frame, prompts });
  if (state.busy) return changed();
  state.busy = true;
  changed();
  document.body.ariaBusy = "true";
  const which = state.opened;
  let well = true;
  while (waiting.size && well) {
    const [[key, next]] = waiting;
    waiting.delete(key);
    alarm("");
    well = await trying("while the prompt was answered", async () => {
      const { object, frame, prompts } = next;
      if (state.kind === "video") {
        takeFrame(frame, await server.ask("mark", { object, frame, ...inPixels(prompts.now) }), which);
      } else if (prompts.empty) {
        for (const looker of state.lookers) looker.forget();
        state.agreement = null;
        state.commands = [];
      } else {
        takeCandidates(await server.ask("prompt", inPixels(prompts.now)), which);
      }
    });
  }
  waiting.clear();
  state.busy = false;
  document.body.ariaBusy = "false";
  changed();
  if (well) summary();
}

function takeCandidates({ sides, alike: found, commands }, which) {
  if (which !== state.opened) return;
  state.lookers.forEach((looker, at) => looker.take(sides[at]));
  const [{ ious }] = sides;
  if (!state.preferred) state.candidate = ious.indexOf(Math.max(...ious));
  state.agreement = found;
  state.commands = commands;
}

export function takeFrame(frame, { sides, alike: found, commands }, which) {
  if (which !== state.opened) return;
  state.lookers.forEach((looker, at) => looker.takeFrame(frame, sides[at]));
  if (found && Object.keys(found).length) state.alike.set(frame, found);
  else state.alike.delete(frame);
  if (commands) state.commands = commands;
}

export async function everything() {
  alarm("");
  state.prompts.forget();
  const points = Number(get("points-per-side").value);
  const found = await long("everything", { points_per_side: points }, "while everything was found", progress);
  if (!found) return;
  state.lookers.forEach((looker, at) => looker.takeEverything(found.sides[at]));
  state.agreement = null;
  state.commands = found.commands;
  changed();
  tell(state.lookers.map(({ name, said }) => `${name}: ${said}`).join("; ") + ".");
}

export function summary() {
  const several = state.lookers.length > 1, who = ({ name }) => (several ? `${name} ` : "");
  if (state.kind === "video") {
    const seen = state.lookers.filter((looker) => looker.shape(state));
    const parts = seen.map((looker) => who(looker) + looker.told(state));
    tell(parts.length ? `Object ${state.object} on frame ${state.frame}: ${parts.join("; ")}.` : "Click an object on any frame, then follow it.");
    return;
  }
  const answered = state.lookers.filter(({ answer }) => answer);
  const parts = answered.map((looker) => `${who(looker)}expects IoU ${iou(looker.answer.ious[state.candidate])} and ${looker.told(state)}`);
  tell(parts.length ? `Candidate ${state.candidate + 1} of 3: ${parts.join("; ")}.` : "Ready. Click the object, or drag a box around it.");
}
