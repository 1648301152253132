// The pixels that a model is given, as PyTorch makes them: bytes to floats, an antialiased bilinear
// resize (a triangle that widens as the picture shrinks, first along rows, then along columns), and
// then the mean and the spread of each colour.

// For each output the first input that counts, and the weights of that one and those after it.
function taps(from, to) {
  const scale = from / to;
  const reach = Math.max(scale, 1);
  return Array.from({ length: to }, (_, at) => {
    const centre = scale * (at + 0.5);
    const first = Math.max(Math.trunc(centre - reach + 0.5), 0);
    const last = Math.min(Math.trunc(centre + reach + 0.5), from);
    const weights = new Float64Array(last - first);
    let sum = 0;
    for (let n = 0; n < weights.length; n++) {
      weights[n] = Math.max(0, 1 - Math.abs((n + first - centre + 0.5) / reach));
      sum += weights[n];
    }
    return { first, weights: weights.map((weight) => weight / sum) };
  });
}

// rgba: bytes, four a pixel. Gives 3 x side x side floats from 0 to 1.
export function resized(rgba, width, height, side) {
  const columns = taps(width, side);
  const rows = taps(height, side);
  const narrow = new Float32Array(3 * height * side); // row by row: side reds, greens, blues
  for (let y = 0; y < height; y++) {
    const line = y * width * 4;
    for (let x = 0; x < side; x++) {
      const { first, weights } = columns[x];
      let red = 0, green = 0, blue = 0;
      for (let n = 0, at = line + first * 4; n < weights.length; n++, at += 4) {
        const weight = weights[n];
        red += weight * rgba[at];
        green += weight * rgba[at + 1];
        blue += weight * rgba[at + 2];
      }
      const to = y * 3 * side + x;
      narrow[to] = red / 255;
      narrow[to + side] = green / 255;
      narrow[to + 2 * side] = blue / 255;
    }
  }
  const planes = new Float32Array(3 * side * side);
  const sums = new Float64Array(3 * side);
  for (let y = 0; y < side; y++) {
    const { first, weights } = rows[y];
    sums.fill(0);
    for (let n = 0; n < weights.length; n++) {
      const line = (first + n) * 3 * side;
      for (let x = 0; x < sums.length; x++) sums[x] += weights[n] * narrow[line + x];
    }
    for (let plane = 0; plane < 3; plane++) {
      planes.set(sums.subarray(plane * side, (plane + 1) * side), (plane * side + y) * side);
    }
  }
  return planes;
}

export function pixelsOf(rgba, width, height, { side, mean, std }) {
  const planes = resized(rgba, width, height, side);
  const area = side * side;
  for (let at = 0; at < planes.length; at++) {
    const plane = Math.floor(at / area);
    planes[at] = (planes[at] - mean[plane]) / std[plane];
  }
  return planes;
}
