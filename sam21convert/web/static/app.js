// The page: puts the parts together, and keeps what is shown up to date.

import { showCandidates } from "./candidates.js";
import { begun, box, clear, corner, everything, moved, point, prefer, undo } from "./clicks.js";
import { showCurve } from "./curve.js";
import { dropped } from "./files.js";
import { differenceFrame, sideFrame } from "./frames.js";
import { Looker } from "./looker.js";
import { take } from "./opening.js";
import { showCommands, showDownloads, showModels, showObjects } from "./panels.js";
import { download, saveMask } from "./saving.js";
import { alarm, get, tell } from "./says.js";
import { server } from "./server.js";
import { state, watch } from "./state.js";
import { choose, follow, newObject, pause, seek, toggle } from "./video.js";
import { explain, iou, size } from "./words.js";

const KINDS = [["masks", "Masks (PNG)"], ["coco", "Run lengths (COCO)"]], VIDEO = ["video", "Video (MP4)"];
let frames, difference = null;
const shown = { commands: null, kind: null }; // made anew only if they change: else the focus is lost

async function main() {
  const facts = await server.begin();
  const lookers = facts.sides.map((side) => new Looker(side)), { limits } = facts;
  Object.assign(state, { lookers, limits });
  const several = lookers.length > 1;
  document.title = get("title").textContent = lookers.map(({ name }) => name).join(" and ");
  get("private").textContent = facts.local
    ? "Runs on this machine. Nothing is sent elsewhere."
    : "What you open goes to this server alone, and is forgotten when the page is closed.";
  get("bounds").textContent = `Pictures and videos of ${size(limits.bytes)} at most, videos of ${limits.frames} frames.`;
  get("models-title").textContent = several ? "Models" : "Model";
  showModels(get("models"), lookers);
  document.body.dataset.sides = lookers.length;
  const on = { point, box, corner, begun, moved, save: saveMask, redraw: () => frames.forEach((frame) => frame.draw()) };
  frames = lookers.map((looker, at) => sideFrame(get("views"), looker, several ? at : null, state, on));
  if (several) difference = differenceFrame(get("views"), lookers, state);
  bind();
  watch(update);
  get("still").hidden = true;
  document.querySelector("main").hidden = false;
  document.body.ariaBusy = "false";
  tell("Choose a picture or a video.");
}

function bind() {
  for (const id of ["file", "folder"]) {
    get(id).addEventListener("change", ({ target }) => {
      const files = [...target.files];
      target.value = "";
      if (files.length) open(files);
    });
  }
  const pressed = {
    another: () => get("file").click(), undo, clear, everything, follow, stop: () => server.ask("stop"),
    "new-object": newObject, play: toggle,
  };
  for (const [id, work] of Object.entries(pressed)) get(id).addEventListener("click", work);
  get("tools").addEventListener("change", ({ target }) => {
    state.tool = target.value;
    get("views").dataset.tool = target.value;
  });
  get("frame").addEventListener("input", ({ target }) => { pause(); seek(Number(target.value)); });
  document.addEventListener("keydown", shortcut);
  document.addEventListener("paste", ({ clipboardData }) => {
    const files = [...(clipboardData?.files ?? [])];
    if (files.length) open(files);
    else alarm("What was pasted holds no picture. Copy a picture, or choose its file.");
  });
  const over = (shown) => (event) => {
    event.preventDefault();
    get("dropping").hidden = !shown;
  };
  document.addEventListener("dragover", over(true));
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) over(false)(event); });
  document.addEventListener("drop", async (event) => {
    over(false)(event);
    const files = await dropped(event.dataTransfer);
    if (files.length) open(files);
    else alarm("What was dropped is no file. Save the picture first, then drop its file.");
  });
}

function open(files) {
  pause();
  take(files);
}

function shortcut(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("select")) return;
  const candidates = state.kind === "picture" && state.lookers.some(({ answer, everything }) => answer && !everything);
  if (event.key === "Backspace") undo();
  else if (["1", "2", "3"].includes(event.key) && candidates) prefer(event.key - 1);
  else return;
  event.preventDefault();
}

// Everything that depends on what is shown.
function update() {
  const { kind, lookers, going, marks } = state, video = kind === "video", picture = kind === "picture";
  const answered = lookers.filter(({ answer, everything: all }) => answer && !all);
  const found = video ? lookers[0].found.size > 0 : lookers.some(({ answer }) => answer);
  fit();
  if (video) state.others = marks.others(state.objects, state.object, state.frame);
  get("undo").disabled = going || !state.prompts.undoable;
  get("clear").disabled = going || (state.prompts.empty && !lookers.some(({ everything: all }) => all));
  get("another").disabled = get("everything").disabled = get("new-object").disabled = going;
  get("follow").disabled = going || state.busy || !video || !marks.waiting;
  get("timeline").hidden = get("following").hidden = !video;
  get("all").hidden = !picture || !lookers.every(({ facts }) => facts.everything);
  get("result").hidden = !(picture && answered.length) && !(video && lookers.length > 1 && state.alike.has(state.frame));
  get("candidates").hidden = get("candidates-title").hidden = !picture;
  get("repeat").hidden = state.commands.length === 0;
  get("saving").hidden = !found || going;
  if (shown.kind !== kind) showDownloads(get("downloads"), lookers, video ? [...KINDS, VIDEO] : KINDS, download);
  if (shown.commands !== state.commands) showCommands(get("commands"), state.commands, lookers, tell);
  Object.assign(shown, { kind, commands: state.commands });
  if (video) showObjects(get("objects"), state.objects, state.object, choose);
  if (picture && answered.length) showCandidates(get("candidates"), lookers, state.picture, state.candidate, prefer);
  showAgreement();
  showTime();
  for (const frame of frames) frame.show();
}

function fit() {
  if (!state.picture) return;
  const { width, height } = state.picture;
  for (const view of [...frames, difference]) view?.fit(width, height);
}

function showAgreement() {
  if (!difference) return;
  const { kind, alike, frame, object, agreement, candidate } = state;
  const here = kind === "video" ? alike.get(frame)?.[object] : agreement?.[candidate];
  const said = here === undefined ? "" : `IoU of the two masks: ${iou(here)}`;
  get("agreement").hidden = !said;
  get("agreement").textContent = said;
  difference.show(said, here === undefined ? null : iou(here));
}

function showTime() {
  get("place").textContent = `Frame ${state.frame} of 0–${state.count - 1}`;
  if (state.kind === "video" && difference) showCurve(get("curve"), state.alike, state, (frame) => { pause(); seek(frame); });
  else get("curve").replaceChildren();
}

main().catch((fault) => {
  get("still").hidden = true;
  alarm(explain(fault, "while the page started"));
});
