// One checkpoint: its variant, its engine, and what it answered last.

import { Engine } from "./engine.js";
import { enlarged } from "./masks.js";
import { paintMask } from "./paint.js";
import { explain, Told } from "./words.js";

export class Side {
  #engine = null;
  #opening = null;
  #encoded = null; // name of the picture that the engine knows
  #masks = new Map(); // by candidate, at the size of the picture

  constructor(model, runtime, device, changed) {
    this.model = model;
    this.runtime = runtime;
    this.device = device;
    this.changed = changed;
    this.variant = model.variants[0];
    this.progress = null; // of loading: { loaded, total }
    this.opened = null; // { device, threads, note }
    this.times = {};
    this.answer = null; // of the decoder, for this.prompts
    this.prompts = null;
    this.fault = null;
  }

  get name() {
    return this.model.name;
  }

  // What the answer says beside its masks.
  get said() {
    if (!this.answer) return "";
    const score = this.answer.objectScore;
    return `${score > 0 ? "object seen" : "no object seen"}, score ${score.toFixed(1).replace("-", "−")}`;
  }

  choose(variant) {
    this.#engine?.close();
    this.#engine = this.#opening = this.#encoded = null;
    Object.assign(this, { variant, opened: null, progress: null, times: {}, fault: null });
    this.forget();
  }

  forget() {
    this.answer = this.prompts = null;
    this.#masks.clear();
  }

  // Brings the answer up to date; tells what it does. Faults end in this.fault, in words.
  async update(picture, prompts, tell) {
    let doing = "while the model was loaded";
    try {
      await this.open(tell);
      if (picture && this.#encoded !== picture.name) {
        doing = "while the picture was encoded";
        tell(`${this.name} looks at the picture …`);
        if (this.#encoded) await this.#engine.forget({ name: this.#encoded });
        this.#encoded = null;
        const { name, rgba, width, height } = picture;
        this.times.encode = (await this.#engine.encode({ name, rgba, width, height })).milliseconds;
        this.#encoded = name;
        this.forget();
      }
      if (picture && this.prompts !== prompts) {
        doing = "while the prompt was answered";
        const empty = prompts.points.length === 0 && prompts.box === null;
        const answer = empty ? null : await this.#engine.prompt({ name: picture.name, prompts });
        this.forget();
        Object.assign(this, { answer, prompts });
        if (answer) this.times.prompt = answer.milliseconds;
      }
    } catch (fault) {
      this.fault = `${this.name}: ${explain(fault, doing)}`;
    }
    this.changed(this);
  }

  async open(tell) {
    this.#opening ??= this.#load(tell);
    await this.#opening;
  }

  async #load(tell) {
    tell(`Loading ${this.name} …`);
    const engine = new Engine((progress) => {
      if (engine !== this.#engine) return;
      this.progress = progress;
      this.changed(this);
    });
    this.#engine = engine;
    const { side, mean, std, base } = this.model;
    const opened = await engine.load({
      model: { side, mean, std, base },
      variant: this.variant,
      runtime: this.runtime,
      device: this.device,
    });
    if (engine !== this.#engine) throw new Told("Another variant was chosen.");
    this.opened = opened;
    this.progress = null;
    this.changed(this);
  }

  // The answer for another picture, which leaves the present one as it is.
  async answerFor(picture, prompts) {
    const { name, rgba, width, height } = picture;
    await this.#engine.encode({ name, rgba, width, height });
    const answer = await this.#engine.prompt({ name, prompts });
    await this.#engine.forget({ name });
    return answer;
  }

  // A mask at the size of the picture, made when it is first asked for.
  mask(candidate, { width, height }) {
    if (!this.#masks.has(candidate)) {
      this.#masks.set(candidate, enlarged(this.answer.masks[candidate], width, height));
    }
    return this.#masks.get(candidate);
  }
  // The mask that is shown, as logits.
  shape({ candidate }) {
    return this.answer?.masks[candidate];
  }

  paint(pen, width, height, scale, state) {
    if (this.answer) paintMask(pen, width, height, scale, this.shape(state));
  }
}
