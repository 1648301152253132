// What the page shows, and who is told when that changes.

import { Marks } from "./marks.js";
import { Prompts } from "./prompts.js";

function nothing() {
  return {
    kind: null, // or "picture" or "video"
    picture: null, // { name, width, height, canvas }: the picture, or the frame that is looked at
    prompts: new Prompts(), marks: new Marks(), others: [],
    candidate: 0, preferred: false, // whether the user chose the candidate
    frame: 0, count: 1, object: "1", objects: ["1"],
    agreement: null, alike: new Map(), // of two checkpoints: by candidate; by frame and object
    commands: [],
    cursor: null, drag: null,
  };
}

export const state = {
  ...nothing(),
  lookers: [], limits: null, tool: "on",
  going: false, busy: false, // with long work, with an answer
  opened: 0, // counts what was opened, so that late answers are dropped
};

export function forget() {
  Object.assign(state, nothing(), { opened: state.opened + 1 });
  for (const looker of state.lookers) looker.forget();
  changed();
}

const watching = [];

export function watch(work) {
  watching.push(work);
}

export function changed() {
  for (const work of watching) work();
}
