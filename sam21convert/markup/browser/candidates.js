// The three candidates: a small picture of each mask, and the IoU that each model expects of it.

import { paintMask } from "./paint.js";
import { iou } from "./words.js";

const LONG = 112; // of a small picture, in pixels

export function showCandidates(home, sides, picture, chosen, choose) {
  const count = Math.max(...sides.map((side) => side.answer?.masks.length ?? 0));
  const cards = Array.from({ length: count }, (_, number) => card(number, sides, picture, number === chosen, choose));
  const focused = home.contains(document.activeElement);
  home.replaceChildren(...cards);
  if (focused) home.querySelector("input:checked")?.focus();
}

function card(number, sides, picture, checked, choose) {
  const label = document.createElement("label");
  const input = Object.assign(document.createElement("input"), { type: "radio", name: "candidate", value: number, checked });
  input.addEventListener("change", () => choose(number));
  const body = Object.assign(document.createElement("span"), { className: "card" });
  const title = document.createElement("b");
  title.textContent = number + 1;
  title.setAttribute("aria-hidden", "true");
  body.append(title);
  const told = [];
  sides.forEach((side, at) => {
    if (!side.answer) return;
    const expected = iou(side.answer.ious[number]);
    body.append(thumbnail(side.answer.masks[number], picture), score(sides.length > 1 ? at : null, expected));
    told.push(sides.length > 1 ? `${side.name} ${expected}` : expected);
  });
  input.setAttribute("aria-label", `Candidate ${number + 1}, expected IoU ${told.join(", ")}`);
  label.append(input, body);
  return label;
}

function score(at, expected) {
  const line = Object.assign(document.createElement("span"), { className: "score" });
  line.textContent = at === null ? `IoU ${expected}` : expected;
  if (at !== null) line.prepend(letter(at));
  return line;
}

export function letter(at) {
  return Object.assign(document.createElement("i"), { className: `letter side-${at}`, textContent: "AB"[at] });
}

function thumbnail(logits, { width, height, canvas: drawn }) {
  const shrink = LONG / Math.max(width, height);
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(width * shrink));
  canvas.height = Math.max(1, Math.round(height * shrink));
  canvas.setAttribute("aria-hidden", "true");
  const pen = canvas.getContext("2d");
  pen.drawImage(drawn, 0, 0, canvas.width, canvas.height);
  paintMask(pen, canvas.width, canvas.height, 1, logits);
  return canvas;
}
