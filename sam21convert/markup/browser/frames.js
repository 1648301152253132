// The pictures on the stage: one for each checkpoint, and one of where two differ.

import { letter } from "./candidates.js";
import { paintBox, paintCursor, paintDifference, paintPoint } from "./paint.js";
import { listen } from "./pointing.js";
import { View } from "./view.js";

const HELP = "Arrow keys move a cursor, Enter marks a point there, Shift and Enter one off the object, Backspace undoes, 1 to 3 choose a candidate.";

function frame(home, name, at) {
  const figure = document.createElement("figure");
  const canvas = document.createElement("canvas");
  const caption = document.createElement("figcaption");
  const title = document.createElement("b");
  title.append(...(at === null ? [] : [letter(at)]), name);
  const facts = document.createElement("span");
  caption.append(title, facts);
  figure.append(canvas, caption);
  home.append(figure);
  return { canvas, caption, facts };
}

// side: { name, said, paint, shape }: what it answered last, in words and as it is drawn.
// state: { picture, prompts, candidate, cursor, drag, tool }.
export function sideFrame(home, side, at, state, on) {
  const { canvas, caption, facts } = frame(home, side.name, at);
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "application");
  canvas.setAttribute("aria-roledescription", "picture to mark");
  canvas.setAttribute("aria-label", `${side.name}. ${HELP}`);
  const download = Object.assign(document.createElement("button"), { type: "button", textContent: "Save mask" });
  download.setAttribute("aria-label", `Save the mask of ${side.name} as PNG`);
  download.addEventListener("click", () => on.save(side));
  caption.append(download);
  const view = new View(canvas, (pen, width, height, scale) => {
    const { picture, prompts, cursor, drag } = state;
    if (!picture) return;
    pen.imageSmoothingQuality = "high";
    pen.drawImage(picture.canvas, 0, 0, width, height);
    side.paint(pen, width, height, scale, state);
    const box = drag ?? prompts.now.box;
    if (box) paintBox(pen, width, height, scale, box);
    for (const point of prompts.now.points) paintPoint(pen, width, height, scale, point);
    if (cursor) paintCursor(pen, width, height, scale, cursor);
  });
  listen(view, state, on);
  return {
    fit: (width, height) => view.fit(width, height),
    show() {
      download.disabled = !side.shape(state);
      facts.textContent = side.said;
      view.draw();
    },
    draw: () => view.draw(),
    focus: () => canvas.focus(),
  };
}

export function differenceFrame(home, sides, state) {
  const { canvas, facts } = frame(home, "Where they differ", null);
  canvas.setAttribute("role", "img");
  const view = new View(canvas, (pen, width, height) => {
    const { picture } = state;
    if (!picture) return;
    pen.filter = "grayscale(1)";
    pen.drawImage(picture.canvas, 0, 0, width, height);
    pen.filter = "none";
    const [one, other] = sides.map((side) => side.shape(state));
    if (one && other) paintDifference(pen, width, height, one, other);
  });
  return {
    fit: (width, height) => view.fit(width, height),
    show(said, alike) {
      canvas.setAttribute("aria-label", `Where the masks differ. ${said}`);
      facts.replaceChildren(key("left", "only A"), key("right", "only B"), key("both", "both"), ...(alike === null ? [] : [`IoU ${alike}`]));
      view.draw();
    },
    draw: () => view.draw(),
  };
}

function key(kind, text) {
  const span = Object.assign(document.createElement("span"), { className: "key", textContent: text });
  span.prepend(Object.assign(document.createElement("i"), { className: `swatch ${kind}` }));
  return span;
}
