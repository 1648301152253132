// Pictures: from a file to what is drawn and the bytes that a model is given.

import { Told } from "./words.js";

let count = 0;

// Gives a name of its own, the size, a canvas to draw from, and RGBA bytes. Parts that one can see
// through are white.
export async function pictureOf(blob, title) {
  if (blob.size === 0) throw new Told(`${title} is empty.`);
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  } catch {
    const kind = blob.type ? ` (${blob.type})` : "";
    throw new Told(`${title} is not a picture that this browser can read${kind}. JPEG, PNG and WebP are.`);
  }
  const { width, height } = bitmap;
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  if (!pen) throw new Told(`${title} is too large for this browser: ${width} x ${height} pixels.`);
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, width, height);
  pen.drawImage(bitmap, 0, 0);
  bitmap.close();
  let rgba;
  try {
    rgba = pen.getImageData(0, 0, width, height).data;
  } catch {
    throw new Told(`${title} is too large for this browser: ${width} x ${height} pixels.`);
  }
  return { name: `picture ${++count}`, title, width, height, canvas, rgba };
}

// The first file of a drop or a paste.
export function firstFile(transfer) {
  return [...(transfer?.files ?? [])][0] ?? null;
}

export function maskAsPng(mask, width, height) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  const pen = canvas.getContext("2d");
  const image = pen.createImageData(width, height);
  const words = new Uint32Array(image.data.buffer);
  mask.forEach((pixel, at) => { words[at] = pixel ? 0xffffffff : 0xff000000; });
  pen.putImageData(image, 0, 0);
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Told("The mask is too large to be saved."))), "image/png");
  });
}

export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
