// Numbers and faults, in words.

export function size(bytes) {
  let left = bytes;
  for (const unit of ["bytes", "kB", "MB"]) {
    if (left < 1000) return unit === "bytes" ? `${left} bytes` : `${left.toFixed(1)} ${unit}`;
    left /= 1000;
  }
  return `${left.toFixed(2)} GB`;
}

// Never rounded to all or nothing.
export function percent(share) {
  if (share === 0 || share === 1) return `${100 * share} %`;
  return `${Math.min(Math.max(100 * share, 0.1), 99.9).toFixed(1)} %`;
}

// An IoU; only equality is 1.
export function iou(value) {
  if (value === 0 || value === 1) return String(value);
  return Math.min(Math.max(value, 0.0001), 0.9999).toFixed(value > 0.99 ? 4 : 3);
}

export function duration(milliseconds) {
  if (milliseconds < 1000) return `${Math.max(1, Math.round(milliseconds))} ms`;
  return `${(milliseconds / 1000).toFixed(1)} s`;
}

export function tiny(value) {
  if (value === 0) return "0";
  return value < 0.01 ? value.toExponential(1) : value.toPrecision(2);
}

// What a runtime says when memory is short, in its many ways.
const SHORTAGE = /out of memory|bad_alloc|allocation failed|could not allocate|failed to allocate|array buffer allocation|invalid (typed )?array length|OrtMemory|memory access out of bounds/i;

export function explain(fault, doing) {
  const said = String(fault?.message ?? fault).replace(/\s+/g, " ").trim().slice(0, 300);
  if (SHORTAGE.test(said)) {
    return `Not enough memory ${doing}. Close other tabs, take a smaller variant or a smaller picture, or another device. (${said})`;
  }
  if (fault?.told) return said;
  return `Something failed ${doing}: ${said}`;
}

// A fault whose message is meant for people.
export class Told extends Error {
  told = true;
}
