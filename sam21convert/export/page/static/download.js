// Fetch a file of this site, tell how far it is, and check that it is all there.

import { size, Told } from "./words.js";

export async function download(address, bytes, advance = () => {}) {
  const name = decodeURIComponent(new URL(address).pathname.split("/").slice(-3).join("/"));
  let response;
  try {
    response = await fetch(address);
  } catch {
    throw new Told(`${name} cannot be fetched: the server does not answer.`);
  }
  if (!response.ok) {
    throw new Told(`${name} is missing from this site (the server says ${response.status}). Copy the whole folder to the server.`);
  }
  const whole = new Uint8Array(bytes);
  let filled = 0;
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    if (filled + value.length <= bytes) whole.set(value, filled);
    filled += value.length;
    advance(value.length);
  }
  if (filled !== bytes) {
    throw new Told(`${name} has ${size(filled)} (${filled} bytes), expected ${bytes} bytes: it was not copied whole, or is another file.`);
  }
  return whole;
}

export async function json(address) {
  const response = await fetch(address).catch(() => null);
  if (!response?.ok) throw new Told(`${address} is missing from this site.`);
  return response.json();
}
