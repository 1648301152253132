// The example that was stored with a model: does this browser compute what PyTorch computed?

import { download, json } from "./download.js";
import { enlarged, fromRuns, iouOf } from "./masks.js";
import { pictureOf } from "./picture.js";
import { Told } from "./words.js";

// What each variant holds: difference of logits, relative to the largest, and IoU. Graphics processors
// round exponentials and roots as they please; for them it is ten times what was measured.
const BOUNDS = {
  fp32: { wasm: { logits: 1e-5, iou: 1 }, webgpu: { logits: 3.5e-4, iou: 0.995 } },
  fp16: { wasm: { logits: 5e-3, iou: 0.995 }, webgpu: { logits: 5e-3, iou: 0.995 } },
  q8: { wasm: { logits: null, iou: 0.95 }, webgpu: { logits: null, iou: 0.95 } },
};
const CLOSE = 0.95; // masks that agree this far are of the same model

export async function check(side, tell) {
  const { base, side: pixels } = side.model;
  await side.open(tell);
  tell(`${side.name} computes its example …`);
  const expected = await json(new URL("golden/expected.json", base).href);
  const picture = await goldenPicture(side.model);
  if (picture.width !== pixels || picture.height !== pixels) {
    throw new Told(`golden/picture.png has ${picture.width} x ${picture.height} pixels, expected ${pixels} x ${pixels}.`);
  }
  const bytes = Uint8Array.from(atob(expected.logits.float32), (letter) => letter.charCodeAt(0));
  const reference = new Float32Array(bytes.buffer);
  const points = expected.points.map(([x, y], at) => ({ x: x / pixels, y: y / pixels, label: expected.labels[at] }));
  const answer = await side.answerFor(picture, { points, box: null });
  return compared(answer, expected, reference, BOUNDS[side.variant.name][side.opened.device]);
}

export async function goldenPicture({ base, golden }) {
  const bytes = await download(new URL("golden/picture.png", base).href, golden["picture.png"]);
  return pictureOf(new Blob([bytes], { type: "image/png" }), "golden/picture.png");
}

function compared(answer, expected, reference, bound) {
  let scale = 0, apart = 0, at = 0;
  for (const { data } of answer.masks) {
    for (const value of data) {
      const wanted = reference[at++];
      scale = Math.max(scale, Math.abs(wanted));
      const distance = Math.abs(value - wanted);
      if (!(distance <= apart)) apart = distance; // NaN stays
    }
  }
  if (at !== reference.length) throw new Told(`The model gave ${at} logits, expected ${reference.length}.`);
  const logits = apart / scale;
  const ious = answer.masks.map((mask, number) =>
    iouOf(enlarged(mask, mask.width, mask.height), fromRuns(expected.masks[number])));
  const iou = Math.min(...ious);
  const within = (bound.logits === null || logits <= bound.logits) && iou >= bound.iou;
  return {
    logits, iou, bound,
    iouScores: Math.max(...answer.ious.map((value, number) => Math.abs(value - expected.iou_scores[number]))),
    objectScore: Math.abs(answer.objectScore - expected.object_score_logits),
    verdict: within ? "same" : iou >= CLOSE ? "close" : "other",
  };
}
