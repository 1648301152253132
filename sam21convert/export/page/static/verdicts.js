// The outcome of a check, with its numbers.

import { letter } from "./candidates.js";
import { iou, tiny } from "./words.js";

const SAID = {
  same: ["✓", "Computes what PyTorch computed"],
  close: ["≈", "Same masks, but the numbers are further off than they should be"],
  other: ["✗", "Does not compute what PyTorch computed"],
};

export function showVerdict(home, side, at, found) {
  const box = document.createElement("div");
  box.className = `verdict ${found.verdict}`;
  const title = document.createElement("h3");
  const { name } = side.variant;
  const kept = found.verdict === "same" && name !== "fp32";
  const [glyph, said] = kept ? ["✓", `As near to PyTorch as ${name} has to be`] : SAID[found.verdict];
  title.append(mark(glyph), ...(at === null ? [] : [letter(at)]), said);
  const { logits, iou: least } = found.bound;
  const rows = [
    ["Logits, largest difference of scale", tiny(found.logits), logits === null ? "" : `≤ ${tiny(logits)}`],
    ["Masks, least IoU of three", iou(found.iou), `≥ ${iou(least)}`],
    ["Expected IoU, difference", tiny(found.iouScores), ""],
    ["Object score, difference", tiny(found.objectScore), ""],
  ];
  box.append(title, table(`${side.name}, ${name}`, rows));
  home.append(box);
}

function mark(glyph) {
  const span = Object.assign(document.createElement("span"), { className: "glyph", textContent: glyph });
  span.setAttribute("aria-hidden", "true");
  return span;
}

function table(caption, rows) {
  const made = document.createElement("table");
  made.createCaption().textContent = caption;
  for (const [name, value, bound] of rows) {
    const row = made.insertRow();
    const head = Object.assign(document.createElement("th"), { scope: "row", textContent: name });
    row.append(head);
    row.insertCell().textContent = value;
    row.insertCell().textContent = bound;
  }
  return made;
}
