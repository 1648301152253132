// The page: puts the parts together, and keeps what is shown up to date.

import { showCandidates } from "./candidates.js";
import { check, goldenPicture } from "./check.js";
import { bestDevice } from "./device.js";
import { json } from "./download.js";
import { differenceFrame, sideFrame } from "./frames.js";
import { area, iouOf } from "./masks.js";
import { bytesOf, ModelCard } from "./models.js";
import { firstFile, maskAsPng, pictureOf, save } from "./picture.js";
import { Prompts } from "./prompts.js";
import { Side } from "./side.js";
import { showVerdict } from "./verdicts.js";
import { explain, iou, percent, size } from "./words.js";

const get = (id) => document.getElementById(id);
const state = { picture: null, prompts: new Prompts(), candidate: 0, tool: "on", cursor: null, drag: null };
let site, device, sides, cards, frames, difference = null;
let chosen = false; // whether the user chose the candidate that is shown
let busy = false, again = false;

let speaking; // until the place of the cursor is told

function tell(text) {
  clearTimeout(speaking);
  get("status").textContent = text;
}

function alarm(text) {
  get("alert").textContent = text;
  get("alert").hidden = !text;
  if (text) get("alert").scrollIntoView({ block: "nearest" });
}

async function main() {
  site = await json(new URL("site.json", location.href).href);
  const address = (path) => new URL(path, location.href).href;
  const runtime = { ...site.runtime, base: address(site.runtime.base) };
  device = await bestDevice();
  sides = site.models.map((model) => new Side({ ...model, base: address(model.base) }, runtime, device, showSide));
  const several = sides.length > 1;
  get("models-title").textContent = several ? "Models" : "Model";
  cards = sides.map((side, at) => new ModelCard(get("models"), side, at, several, changeVariant));
  const on = { point, box, corner, begun, moved, redraw, save: saveMask };
  frames = sides.map((side, at) => sideFrame(get("views"), side, several ? at : null, state, on));
  if (several) difference = differenceFrame(get("views"), sides, state);
  document.body.dataset.sides = sides.length;
  const examples = sides.filter(({ model }) => model.golden);
  get("checking").hidden = get("example").hidden = examples.length === 0;
  showCost();
  bind();
  get("still").hidden = true;
  document.querySelector("main").hidden = false;
  tell(`Nothing is loaded before you choose a picture${examples.length ? ", or check" : ""}.`);
}

function showCost() {
  const models = sides.reduce((sum, side) => sum + bytesOf(side.variant), 0);
  const runtime = site.runtime.bytes[device];
  get("cost").textContent = `Loads ${size(models)} of models and ${size(runtime)} of onnxruntime-web into this browser.`;
}

function bind() {
  get("file").addEventListener("change", ({ target }) => {
    if (target.files[0]) take(target.files[0], target.files[0].name);
    target.value = "";
  });
  get("example").addEventListener("click", useExample);
  get("another").addEventListener("click", () => get("file").click());
  get("undo").addEventListener("click", undo);
  get("clear").addEventListener("click", () => { state.prompts.clear(); changed(); });
  get("check").addEventListener("click", runChecks);
  get("tools").addEventListener("change", ({ target }) => {
    state.tool = target.value;
    get("views").dataset.tool = target.value;
  });
  document.addEventListener("keydown", shortcut);
  document.addEventListener("paste", ({ clipboardData }) => {
    const file = firstFile(clipboardData);
    if (file) take(file, file.name || "The pasted picture");
    else alarm("What was pasted holds no picture. Copy a picture, or choose its file.");
  });
  bindDrops();
}

function bindDrops() {
  const over = (shown) => (event) => {
    event.preventDefault();
    get("dropping").hidden = !shown;
  };
  document.addEventListener("dragover", over(true));
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) over(false)(event); });
  document.addEventListener("drop", (event) => {
    over(false)(event);
    const file = firstFile(event.dataTransfer);
    if (file) take(file, file.name);
    else alarm("What was dropped is no file. Save the picture first, then drop its file.");
  });
}

function shortcut(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("select")) return;
  if (event.key === "Backspace") undo();
  else if (["1", "2", "3"].includes(event.key) && sides.some((side) => side.answer)) choose(event.key - 1);
  else return;
  event.preventDefault();
}

async function take(blob, title) {
  try {
    await show(await pictureOf(blob, title));
  } catch (fault) {
    alarm(explain(fault, "while the picture was read"));
  }
}

async function useExample() {
  const { model } = sides.find((side) => side.model.golden);
  try {
    await show(await goldenPicture(model));
  } catch (fault) {
    alarm(explain(fault, "while the example was read"));
  }
}

async function show(picture) {
  alarm("");
  Object.assign(state, { picture, candidate: 0, cursor: null, drag: null });
  chosen = false;
  state.prompts.forget();
  for (const side of sides) {
    side.forget();
    if (side.fault) side.choose(side.variant); // another try
  }
  get("start").hidden = true;
  get("work").hidden = document.querySelector(".keys").hidden = false;
  for (const frame of [...frames, difference]) frame?.fit(picture.width, picture.height);
  frames[0].focus();
  state.cursor = null;
  changed();
}

function point(x, y, other) {
  state.prompts.addPoint(x, y, (state.tool === "off") !== other ? 0 : 1);
  changed();
}

function box(...edges) {
  state.prompts.setBox(...edges);
  changed();
}

function corner() {
  tell("Drag from one corner of the box to the other.");
}

function begun() {
  tell("First corner of the box. Move, and press Enter at the other corner.");
}

function undo() {
  state.prompts.undo();
  changed();
}

function moved() {
  clearTimeout(speaking);
  speaking = setTimeout(() => {
    const { x, y } = state.cursor ?? {};
    if (x === undefined) return;
    const [side] = sides;
    const { width, height } = state.picture;
    const at = Math.min(Math.floor(y * height), height - 1) * width + Math.min(Math.floor(x * width), width - 1);
    const where = side.answer ? (side.mask(state.candidate, state.picture)[at] ? ", inside the mask" : ", outside the mask") : "";
    tell(`Cursor ${Math.round(100 * x)} % from the left, ${Math.round(100 * y)} % from the top${where}.`);
  }, 400);
}

function redraw() {
  for (const frame of frames) frame.draw();
}

function choose(number) {
  state.candidate = number;
  chosen = true;
  showResult();
}

function changeVariant(side, variant) {
  alarm("");
  get("verdicts").replaceChildren();
  side.choose(variant);
  showCost();
  if (state.picture) changed();
  else showSide(side);
}

// Something is to be computed or shown anew.
async function changed() {
  get("undo").disabled = !state.prompts.undoable;
  get("clear").disabled = state.prompts.empty;
  redraw();
  again = true;
  if (busy) return;
  busy = true;
  while (again) {
    again = false;
    const { picture } = state, prompts = state.prompts.now;
    document.body.ariaBusy = "true";
    for (const side of sides) if (!side.fault) await side.update(picture, prompts, tell);
    if (!again) showResult();
  }
  busy = false;
  document.body.ariaBusy = "false";
}

function showSide(side) {
  cards[sides.indexOf(side)].show();
}

function showResult() {
  const faults = sides.map((side) => side.fault).filter(Boolean);
  if (faults.length) alarm(faults.join("\n"));
  const answered = sides.filter((side) => side.answer);
  get("result").hidden = answered.length === 0;
  if (answered.length === 0) {
    state.candidate = 0;
    chosen = false;
    tell(faults.length ? "It did not work; see the message above." : "Ready. Click the object, or drag a box around it.");
  } else {
    if (!chosen) state.candidate = best(answered[0].answer.ious);
    showCandidates(get("candidates"), sides, state.picture, state.candidate, choose);
    tell(summary(answered));
  }
  showAgreement(answered);
  for (const frame of frames) frame.show();
}

function best(ious) {
  return ious.indexOf(Math.max(...ious));
}

function summary(answered) {
  const { candidate, picture } = state;
  const parts = answered.map((side) => {
    const share = area(side.mask(candidate, picture)) / (picture.width * picture.height);
    const who = sides.length > 1 ? `${side.name} ` : "";
    return `${who}expects IoU ${iou(side.answer.ious[candidate])} and covers ${percent(share)} of the picture`;
  });
  const text = parts.join("; ");
  return `Candidate ${candidate + 1} of 3: ${text}.`;
}

function showAgreement(answered) {
  const home = get("agreement");
  home.hidden = answered.length < 2;
  if (!difference) return;
  const [one, other] = answered.map((side) => side.mask(state.candidate, state.picture));
  const alike = other ? iou(iouOf(one, other)) : null;
  const said = other ? `IoU of the two masks: ${alike}` : "";
  home.textContent = said;
  difference.show(said, alike);
}

async function saveMask(side) {
  const { width, height, title } = state.picture;
  try {
    const blob = await maskAsPng(side.mask(state.candidate, state.picture), width, height);
    const stem = title.split("/").at(-1).replace(/\.\w+$/, "");
    save(blob, `${stem}-mask${sides.length > 1 ? `-${side.name}` : ""}.png`);
    tell("The mask was saved: white is the object.");
  } catch (fault) {
    alarm(explain(fault, "while the mask was saved"));
  }
}

async function runChecks() {
  alarm("");
  get("verdicts").replaceChildren();
  get("check").disabled = true;
  const several = sides.length > 1;
  for (const [at, side] of sides.entries()) {
    if (!side.model.golden) continue;
    try {
      showVerdict(get("verdicts"), side, several ? at : null, await check(side, tell));
      tell("The check is done.");
    } catch (fault) {
      side.fault = `${side.name}: ${explain(fault, "during the check")}`;
      alarm(side.fault);
      tell("The check could not be made; see the message above.");
    }
    showSide(side);
  }
  get("check").disabled = false;
}

main().catch((fault) => {
  get("still").hidden = true;
  alarm(explain(fault, "while the page started"));
});
