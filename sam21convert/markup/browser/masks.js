// Masks: from the logits of a model at a quarter of its resolution to any size, and how alike.

function steps(from, to) {
  return Array.from({ length: to }, (_, at) => {
    const place = Math.max((at + 0.5) * (from / to) - 0.5, 0);
    const low = Math.min(Math.floor(place), from - 1);
    return { low, high: Math.min(low + 1, from - 1), part: place - low };
  });
}

// Bilinear, as PyTorch does it without align_corners; 1 where the logit is above 0.
export function enlarged(logits, width, height) {
  const columns = steps(logits.width, width);
  const mask = new Uint8Array(width * height);
  const line = new Float32Array(logits.width);
  steps(logits.height, height).forEach(({ low, high, part }, y) => {
    const above = low * logits.width, below = high * logits.width;
    for (let x = 0; x < line.length; x++) {
      const start = logits.data[above + x];
      line[x] = start + part * (logits.data[below + x] - start);
    }
    for (let x = 0, to = y * width; x < width; x++, to++) {
      const column = columns[x];
      const start = line[column.low];
      mask[to] = start + column.part * (line[column.high] - start) > 0 ? 1 : 0;
    }
  });
  return mask;
}

export function area(mask) {
  let count = 0;
  for (const pixel of mask) count += pixel;
  return count;
}

// Of two empty masks it is 1.
export function iouOf(one, other) {
  let both = 0, any = 0;
  for (let at = 0; at < one.length; at++) {
    both += one[at] & other[at];
    any += one[at] | other[at];
  }
  return any === 0 ? 1 : both / any;
}

// Run lengths as in COCO: column by column, outside and inside in turn.
export function fromRuns({ size: [height, width], counts }) {
  const mask = new Uint8Array(width * height);
  let at = 0;
  counts.forEach((count, number) => {
    for (const end = at + count; at < end; at++) {
      if (number % 2) mask[(at % height) * width + Math.floor(at / height)] = 1;
    }
  });
  return mask;
}

// Pixels inside a mask that have one outside it within reach, above, below or beside.
export function outlined(mask, width, height, reach) {
  const edge = new Uint8Array(mask.length);
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) {
      if (!mask[at]) continue;
      for (let step = 1; step <= reach && !edge[at]; step++) {
        const out =
          (x >= step && !mask[at - step]) ||
          (x + step < width && !mask[at + step]) ||
          (y >= step && !mask[at - step * width]) ||
          (y + step < height && !mask[at + step * width]);
        if (out) edge[at] = 1;
      }
    }
  }
  return edge;
}
