#!/usr/bin/env bash
# transformers.js 4.3.2 in Node enlarges pictures by an affine transform of sharp's, which puts the centre
# of the first pixel where its corner belongs, and takes what lies beyond the last one for black. So of a
# white picture of 100 x 100 pixels, which any interpolation leaves white, the last columns and rows that
# the model gets are dark; and where the left half is black and the right half is white, the step is 5
# columns from the middle. So the model gets a picture of less than its 1024 pixels moved, and with a dark
# frame at two sides: objects there are not what the user sees. Larger pictures have no such frame.
# Seen (levels from 0 to 255 in the last five columns, and the column of the step):
#   100 x 100    125 100 75 50 25     507
#   512 x 512    255 255 255 255 128  511
#   1800 x 1200  255 255 255 255 255  512
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
echo '{"private": true}' > package.json
ONNXRUNTIME_NODE_INSTALL=skip npm install --silent --no-audit --no-fund @huggingface/transformers@4.3.2 sharp@0.35.5
mkdir model
echo '{"model_type": "sam2"}' > model/config.json
cat > model/preprocessor_config.json <<'JSON'
{
  "image_processor_type": "Sam2ImageProcessorFast", "processor_class": "Sam2Processor",
  "do_resize": true, "resample": 2, "size": {"height": 1024, "width": 1024},
  "do_rescale": true, "rescale_factor": 0.00392156862745098,
  "do_normalize": true, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]
}
JSON
cat > run.mjs <<'JS'
import { AutoProcessor, RawImage, env } from "@huggingface/transformers";

Object.assign(env, { allowRemoteModels: false, localModelPath: "./" });
const processor = await AutoProcessor.from_pretrained("model");

// Levels of red, from 0 to 255, in the middle row of what the model gets.
async function row(width, height, isWhite) {
  const bytes = new Uint8ClampedArray(width * height * 3);
  for (let at = 0; at < bytes.length; at++) bytes[at] = isWhite(Math.floor(at / 3) % width) ? 255 : 0;
  const { pixel_values } = await processor(new RawImage(bytes, width, height, 3));
  const [, , , side] = pixel_values.dims;
  return Array.from(pixel_values.data.slice((side / 2) * side, (side / 2 + 1) * side), (v) => 255 * (v * 0.229 + 0.485));
}

const seen = [];
for (const [width, height] of [[100, 100], [512, 512], [1800, 1200]]) {
  const end = (await row(width, height, () => true)).slice(-5).map(Math.round);
  const step = (await row(width, height, (x) => x >= width / 2)).findIndex((level) => level > 127);
  seen.push({ end, step });
  console.log(`${width} x ${height}`.padEnd(12), end.join(" ").padEnd(20), step);
}
const [small, half, large] = seen;
const dark = small.end[4] < 64 && half.end[4] < 160 && small.step < 509;
process.exit(dark && large.end[4] > 250 && large.step > 509 ? 0 : 1);
JS
node run.mjs
