// What is drawn on a picture: masks, marks, the cursor, and where two masks differ.

import { enlarged, outlined } from "./masks.js";

export const BLUE = [47, 127, 224], ORANGE = [224, 101, 15];
const css = ([red, green, blue], alpha = 1) => `rgb(${red} ${green} ${blue} / ${alpha})`;

// Colours of all pixels, laid over what is there.
function lay(pen, width, height, colourOf) {
  const layer = new OffscreenCanvas(width, height);
  const over = layer.getContext("2d");
  const image = over.createImageData(width, height);
  for (let at = 0; at < width * height; at++) {
    const colour = colourOf(at);
    if (colour) image.data.set(colour, at * 4);
  }
  over.putImageData(image, 0, 0);
  pen.drawImage(layer, 0, 0);
}

const SHADE = [10, 14, 20, 115], TINT = [...BLUE, 90], EDGE = [255, 255, 255, 255];

export function paintMask(pen, width, height, scale, logits) {
  const mask = enlarged(logits, width, height);
  const edge = outlined(mask, width, height, Math.max(1, Math.round(1.25 * scale)));
  lay(pen, width, height, (at) => (edge[at] ? EDGE : mask[at] ? TINT : SHADE));
}

const WASH = [10, 14, 20, 160], BOTH = [255, 255, 255, 70];

export function paintDifference(pen, width, height, one, other) {
  const left = enlarged(one, width, height), right = enlarged(other, width, height);
  const only = [[...BLUE, 235], [...ORANGE, 235]];
  lay(pen, width, height, (at) => {
    if (left[at] && right[at]) return BOTH;
    return left[at] ? only[0] : right[at] ? only[1] : WASH;
  });
}

export function paintBox(pen, width, height, scale, [x0, y0, x1, y1]) {
  const edges = [x0 * width, y0 * height, (x1 - x0) * width, (y1 - y0) * height];
  pen.lineJoin = "round";
  for (const [colour, thick] of [["#fff", 4], [css(BLUE), 2]]) {
    pen.strokeStyle = colour;
    pen.lineWidth = thick * scale;
    pen.strokeRect(...edges);
  }
}

export function paintPoint(pen, width, height, scale, { x, y, label }) {
  const at = [x * width, y * height], arm = 3.6 * scale;
  pen.beginPath();
  pen.arc(...at, 8 * scale, 0, 2 * Math.PI);
  pen.fillStyle = "#fff";
  pen.fill();
  pen.beginPath();
  pen.arc(...at, 6.5 * scale, 0, 2 * Math.PI);
  pen.fillStyle = css(label ? BLUE : ORANGE);
  pen.fill();
  pen.beginPath();
  pen.moveTo(at[0] - arm, at[1]);
  pen.lineTo(at[0] + arm, at[1]);
  if (label) {
    pen.moveTo(at[0], at[1] - arm);
    pen.lineTo(at[0], at[1] + arm);
  }
  pen.strokeStyle = "#fff";
  pen.lineWidth = 2 * scale;
  pen.stroke();
}

export function paintCursor(pen, width, height, scale, { x, y }) {
  const left = x * width, top = y * height, gap = 14 * scale, dot = 2 * scale;
  for (const [colour, thick] of [["#000", 3], ["#fff", 1]]) {
    pen.strokeStyle = colour;
    pen.lineWidth = thick * scale;
    pen.beginPath();
    pen.moveTo(left, 0);
    pen.lineTo(left, top - gap);
    pen.moveTo(left, top + gap);
    pen.lineTo(left, height);
    pen.moveTo(0, top);
    pen.lineTo(left - gap, top);
    pen.moveTo(left + gap, top);
    pen.lineTo(width, top);
    pen.moveTo(left + dot, top);
    pen.arc(left, top, dot, 0, 2 * Math.PI);
    pen.stroke();
  }
}
