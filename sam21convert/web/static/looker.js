// One checkpoint: what it found, and how that is drawn.

import { colour, logitsOf, paintLayers, united } from "./layers.js";
import { area } from "./masks.js";
import { paintBox, paintMask, paintPoint } from "./paint.js";
import { percent } from "./words.js";

export class Looker {
  constructor(facts) {
    this.facts = facts;
    this.forget();
  }

  get name() {
    return this.facts.name;
  }

  forget() {
    this.answer = null; // candidates, or everything: { masks, ious }
    this.everything = false; // whether that was asked for
    this.all = undefined; // all masks as one, of everything
    this.found = new Map(); // by frame: run lengths by object
    this.shown = null; // of the frame that is looked at: logits by object
  }

  // Three candidates of one object.
  take({ masks, ious }) {
    this.answer = { masks: masks.map(logitsOf), ious };
    this.everything = false;
  }

  takeEverything({ masks, ious }) {
    this.answer = { masks: masks.map(logitsOf), ious };
    this.everything = true;
    this.all = united(this.answer.masks);
  }

  takeFrame(frame, objects) {
    this.found.set(frame, objects);
    if (this.shown?.frame === frame) this.shown = null;
  }

  objects(frame) {
    if (this.shown?.frame !== frame) {
      const found = Object.entries(this.found.get(frame) ?? {});
      this.shown = { frame, masks: new Map(found.map(([name, runs]) => [name, logitsOf(runs)])) };
    }
    return this.shown.masks;
  }

  // The mask that is looked at, as logits.
  shape(state) {
    if (state.kind === "video") return this.objects(state.frame).get(state.object);
    if (this.everything) return this.all;
    return this.answer?.masks[state.candidate];
  }

  share(state) {
    const mask = this.shape(state);
    return mask ? area(mask.data.map((value) => (value > 0 ? 1 : 0))) / mask.data.length : 0;
  }

  // Beside the name.
  get said() {
    if (this.everything) return `${this.answer.masks.length} masks`;
    return "";
  }

  paint(pen, width, height, scale, state) {
    if (state.kind === "video") {
      const masks = this.objects(state.frame);
      const layers = [...masks].map(([name, mask]) => [mask, colour(state.objects.indexOf(name))]);
      paintLayers(pen, width, height, scale, layers);
      for (const { points, box } of state.others) {
        if (box) paintBox(pen, width, height, scale, box);
        for (const point of points) paintPoint(pen, width, height, scale, point);
      }
    } else if (this.everything) {
      paintLayers(pen, width, height, scale, this.answer.masks.map((mask, at) => [mask, colour(at)]));
    } else if (this.answer) {
      paintMask(pen, width, height, scale, this.shape(state));
    }
  }

  told(state) {
    const share = percent(this.share(state));
    return `covers ${share} of the ${state.kind === "video" ? "frame" : "picture"}`;
  }
}
