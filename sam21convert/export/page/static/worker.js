// One model, in a thread of its own: loads it, encodes pictures, answers prompts.

import { download } from "./download.js";
import { inputsOf } from "./inputs.js";
import { pixelsOf } from "./pixels.js";
import { Told } from "./words.js";

const ENCODER = "vision_encoder", DECODER = "prompt_encoder_mask_decoder";
const RUNTIMES = { webgpu: "ort.webgpu.min.mjs", wasm: "ort.wasm.min.mjs" };

let ort, sessions, settings;
const encoded = new Map(); // the features of each picture, by its name

async function start(device, base, graphs) {
  ort = await import(new URL(RUNTIMES[device], base).href).catch(() => {
    throw new Told(`The runtime (onnxruntime-web) cannot be loaded from ${base}. Copy the whole folder to the server.`);
  });
  ort.env.wasm.wasmPaths = base;
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency, 4) : 1;
  ort.env.logLevel = "error";
  const opened = {};
  for (const [name, { graph, externalData }] of Object.entries(graphs)) {
    opened[name] = await ort.InferenceSession.create(graph, {
      executionProviders: [device], externalData, logSeverityLevel: 3,
    });
  }
  return opened;
}

async function load({ model, variant, runtime, device }) {
  settings = model;
  const total = variant.files.reduce((sum, { bytes }) => sum + bytes, 0);
  let loaded = 0;
  const graphs = {};
  for (const { graph, file, bytes } of variant.files) {
    const data = await download(new URL(file, model.base).href, bytes, (count) => {
      loaded += count;
      postMessage({ progress: { loaded, total } });
    });
    const kept = (graphs[graph] ??= { externalData: [] });
    if (file.endsWith(".onnx")) kept.graph = data;
    else kept.externalData.push({ path: file.split("/").at(-1), data });
  }
  postMessage({ progress: null });
  let used = device, note = "";
  try {
    sessions = await start(device, runtime.base, graphs);
  } catch (fault) {
    if (device === "wasm") throw fault;
    used = "wasm";
    note = `WebGPU could not load it: ${fault.message}`;
    sessions = await start(used, runtime.base, graphs);
  }
  return { device: used, threads: ort.env.wasm.numThreads, note };
}

async function encode({ name, rgba, width, height }) {
  const { side } = settings;
  const pixels = pixelsOf(rgba, width, height, settings);
  const before = performance.now();
  const input = new ort.Tensor("float32", pixels, [1, 3, side, side]);
  const output = await sessions[ENCODER].run({ pixel_values: input });
  encoded.set(name, output);
  return { milliseconds: performance.now() - before };
}

async function prompt({ name, prompts }) {
  const feeds = {};
  for (const [key, { type, data, shape }] of Object.entries(inputsOf(prompts, settings.side))) {
    feeds[key] = new ort.Tensor(type, data, shape);
  }
  for (const key of sessions[DECODER].inputNames) feeds[key] ??= encoded.get(name)[key];
  const before = performance.now();
  const output = await sessions[DECODER].run(feeds);
  const milliseconds = performance.now() - before;
  const [height, width] = output.pred_masks.dims.slice(-2);
  const logits = Float32Array.from(output.pred_masks.data);
  const masks = Array.from({ length: logits.length / (width * height) }, (_, number) => ({
    width, height, data: logits.subarray(number * width * height, (number + 1) * width * height),
  }));
  const objectScore = Number(output.object_score_logits.data[0]);
  return { masks, ious: Array.from(output.iou_scores.data, Number), objectScore, milliseconds };
}

function forget({ name }) {
  encoded.delete(name);
}

const WORK = { load, encode, prompt, forget };
let last = Promise.resolve(); // one thing at a time

self.onmessage = ({ data: { id, doing, given } }) => {
  last = last.then(async () => {
    try {
      postMessage({ id, result: await WORK[doing](given) });
    } catch (fault) {
      postMessage({ id, fault: { message: String(fault?.message ?? fault), told: fault?.told ?? false } });
    }
  });
};
