// What is told of each model: its variants with their sizes, its device, its times.

import { letter } from "./candidates.js";
import { duration, size } from "./words.js";

export function bytesOf(variant) {
  return variant.files.reduce((sum, { bytes }) => sum + bytes, 0);
}

export class ModelCard {
  constructor(home, side, at, several, choose) {
    this.side = side;
    const card = document.createElement("div");
    card.className = "model";
    const name = document.createElement("h3");
    name.textContent = side.name;
    if (several) name.prepend(letter(at));
    const select = document.createElement("select");
    select.setAttribute("aria-label", `Variant of ${side.name}`);
    side.model.variants.forEach((variant, number) => {
      select.add(new Option(`${variant.name} · ${size(bytesOf(variant))}`, number));
    });
    select.disabled = side.model.variants.length === 1;
    select.addEventListener("change", () => choose(side, side.model.variants[select.value]));
    this.facts = Object.assign(document.createElement("p"), { className: "facts" });
    this.bar = document.createElement("progress");
    this.bar.setAttribute("aria-label", `Loading ${side.name}`);
    card.append(name, select, this.bar, this.facts);
    home.append(card);
    this.show();
  }

  show() {
    const { progress, opened, times, model, fault } = this.side;
    this.bar.hidden = !progress;
    if (progress) Object.assign(this.bar, { max: progress.total, value: progress.loaded });
    const state = progress
      ? `${size(progress.loaded)} of ${size(progress.total)}`
      : opened ? device(opened) : fault ? "failed" : "not loaded yet";
    const lines = [`${model.side} × ${model.side} pixels · ${state}`];
    const spent = [];
    if (times.encode) spent.push(`picture in ${duration(times.encode)}`);
    if (times.prompt) spent.push(`prompt in ${duration(times.prompt)}`);
    if (spent.length) lines.push(spent.join(" · "));
    if (opened?.note) lines.push(opened.note);
    this.facts.textContent = lines.join("\n");
  }
}

function device({ device, threads }) {
  if (device === "webgpu") return "WebGPU";
  return threads > 1 ? `WebAssembly, ${threads} threads` : "WebAssembly";
}
