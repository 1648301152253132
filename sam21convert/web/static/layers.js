// Masks of several objects, each in its colour.

import { enlarged, outlined } from "./masks.js";

// Those in which predict draws (after Okabe and Ito).
const COLOURS = [
  [30, 144, 255], [255, 140, 0], [0, 190, 120], [230, 70, 180],
  [240, 220, 50], [90, 220, 240], [215, 60, 20], [130, 80, 220],
];
const TINT = 128; // of 255

export function colour(number) {
  return COLOURS[number % COLOURS.length];
}

// Run lengths as in COCO, column by column, become logits: 1 inside and -1 outside.
export function logitsOf({ size: [height, width], counts }) {
  const data = new Int8Array(width * height).fill(-1);
  let at = 0;
  counts.forEach((count, number) => {
    if (number % 2) {
      let row = at % height, column = (at - row) / height;
      for (let left = count; left > 0; left--) {
        data[row * width + column] = 1;
        if (++row === height) { row = 0; column++; }
      }
    }
    at += count;
  });
  return { width, height, data };
}

// One mask of several.
export function united(masks) {
  const [first, ...others] = masks;
  if (!first) return undefined;
  const data = Int8Array.from(first.data);
  for (const other of others) other.data.forEach((value, at) => { if (value > 0) data[at] = 1; });
  return { ...first, data };
}

// layers: [mask, colour] each, the later over the earlier.
export function paintLayers(pen, width, height, scale, layers) {
  const canvas = new OffscreenCanvas(width, height);
  const over = canvas.getContext("2d");
  const image = over.createImageData(width, height);
  for (const [logits, [red, green, blue]] of layers) {
    const mask = enlarged(logits, width, height);
    const edge = outlined(mask, width, height, Math.max(1, Math.round(1.25 * scale)));
    for (let at = 0, to = 0; at < mask.length; at++, to += 4) {
      if (!mask[at]) continue;
      image.data[to] = red;
      image.data[to + 1] = green;
      image.data[to + 2] = blue;
      image.data[to + 3] = edge[at] ? 255 : TINT;
    }
  }
  over.putImageData(image, 0, 0);
  pen.drawImage(canvas, 0, 0);
}
