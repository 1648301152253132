// How alike two checkpoints are, object by object, along a video: a curve that can be clicked.

import { colour } from "./layers.js";
import { iou } from "./words.js";

const WIDTH = 600, HEIGHT = 96, EDGE = 6;
const SVG = "http://www.w3.org/2000/svg";

function make(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

// alike: by frame, the IoU of each object.
export function showCurve(home, alike, { objects, count, frame }, seek) {
  home.replaceChildren();
  if (alike.size === 0) return;
  const x = (at) => EDGE + (at / Math.max(1, count - 1)) * (WIDTH - 2 * EDGE);
  const y = (value) => HEIGHT - EDGE - value * (HEIGHT - 2 * EDGE);
  const picture = make("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", preserveAspectRatio: "none" });
  for (const value of [0, 0.5, 1]) picture.append(make("line", { class: "grid", x1: 0, x2: WIDTH, y1: y(value), y2: y(value) }));
  const frames = [...alike.keys()].sort((one, other) => one - other);
  const told = [];
  objects.forEach((name, number) => {
    const values = frames.filter((at) => name in alike.get(at)).map((at) => [at, alike.get(at)[name]]);
    if (values.length === 0) return;
    const points = values.map(([at, value]) => `${x(at)},${y(value)}`).join(" ");
    const paint = `rgb(${colour(number).join(" ")})`;
    if (values.length > 1) picture.append(make("polyline", { class: "line", points, stroke: paint }));
    for (const [at, value] of values) picture.append(make("circle", { cx: x(at), cy: y(value), r: 2.5, fill: paint }));
    const [worst, least] = values.reduce((low, next) => (next[1] < low[1] ? next : low));
    const mean = values.reduce((sum, [, value]) => sum + value, 0) / values.length;
    told.push(`Object ${name}: IoU ${iou(mean)} on average, least ${iou(least)} on frame ${worst}.`);
  });
  picture.append(make("line", { class: "here", x1: x(frame), x2: x(frame), y1: 0, y2: HEIGHT }));
  picture.setAttribute("aria-label", `IoU of the two checkpoints by frame. ${told.join(" ")}`);
  picture.addEventListener("click", ({ clientX }) => {
    const { left, width } = picture.getBoundingClientRect();
    const share = (((clientX - left) / width) * WIDTH - EDGE) / (WIDTH - 2 * EDGE);
    seek(Math.min(Math.max(Math.round(share * (count - 1)), 0), count - 1));
  });
  const words = Object.assign(document.createElement("p"), { className: "quiet", textContent: `IoU of A and B from 0 to 1, by frame. ${told.join(" ")}` });
  home.append(picture, words);
}
