// What was clicked in a video: by object and frame, in the present round and those before it.

import { Prompts } from "./prompts.js";

const NOTHING = { points: [], box: null };

export class Marks {
  #now = new Map(); // since the objects were followed last
  #past = new Map();

  key(object, frame) {
    return `${object} ${frame}`;
  }

  // The prompts that can be changed.
  at(object, frame) {
    const key = this.key(object, frame);
    if (!this.#now.has(key)) this.#now.set(key, new Prompts());
    return this.#now.get(key);
  }

  past(object, frame) {
    return this.#past.get(this.key(object, frame)) ?? NOTHING;
  }

  // Those of other objects on a frame, and of earlier rounds.
  others(objects, object, frame) {
    return objects.flatMap((one) => [
      this.past(one, frame),
      ...(one === object ? [] : [this.#now.get(this.key(one, frame))?.now ?? NOTHING]),
    ]);
  }

  get waiting() {
    return [...this.#now.values()].some((prompts) => !prompts.empty);
  }

  get undoable() {
    return [...this.#now.values()].some((prompts) => prompts.undoable);
  }

  // The objects were followed: what was clicked cannot be changed any longer, only corrected.
  settle() {
    for (const [key, prompts] of this.#now) {
      const { points, box } = prompts.now, past = this.#past.get(key) ?? NOTHING;
      this.#past.set(key, { points: [...past.points, ...points], box: box ?? past.box });
    }
    this.#now.clear();
  }
}
