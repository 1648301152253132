// What the user marked: points and one box, in fractions of the picture's width and height.

const NOTHING = { points: [], box: null };

export class Prompts {
  #states = [NOTHING];

  get now() {
    return this.#states.at(-1);
  }

  get empty() {
    return this.now.points.length === 0 && this.now.box === null;
  }

  get undoable() {
    return this.#states.length > 1;
  }

  addPoint(x, y, label) {
    this.#states.push({ ...this.now, points: [...this.now.points, { x, y, label }] });
  }

  removePoint(number) {
    this.#states.push({ ...this.now, points: this.now.points.filter((_, at) => at !== number) });
  }

  setBox(x0, y0, x1, y1) {
    const box = [Math.min(x0, x1), Math.min(y0, y1), Math.max(x0, x1), Math.max(y0, y1)];
    this.#states.push({ ...this.now, box });
  }

  undo() {
    if (this.undoable) this.#states.pop();
  }

  clear() {
    if (!this.empty) this.#states.push(NOTHING);
  }

  forget() {
    this.#states = [NOTHING];
  }
}
