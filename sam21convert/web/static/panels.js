// The parts beside the picture: objects, commands, downloads, models.

import { letter } from "./candidates.js";
import { colour } from "./layers.js";

function element(tag, given = {}, ...inside) {
  const made = Object.assign(document.createElement(tag), given);
  made.append(...inside);
  return made;
}

function button(text, label, pressed) {
  const made = element("button", { type: "button", textContent: text });
  made.setAttribute("aria-label", label);
  made.addEventListener("click", pressed);
  return made;
}

export function showObjects(home, objects, chosen, choose) {
  const focused = home.contains(document.activeElement);
  home.replaceChildren(...objects.map((name, number) => {
    const input = element("input", { type: "radio", name: "object", value: name, checked: name === chosen });
    input.setAttribute("aria-label", `Object ${name}`);
    input.addEventListener("change", () => choose(name));
    return element("label", {}, input, element("span", {}, swatch(number), name));
  }));
  if (focused) home.querySelector("input:checked")?.focus();
}

function swatch(number) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const circle = document.createElementNS("http://www.w3.org/2000/svg", "circle");
  svg.setAttribute("viewBox", "0 0 10 10");
  svg.setAttribute("aria-hidden", "true");
  for (const [name, value] of Object.entries({ cx: 5, cy: 5, r: 5, fill: `rgb(${colour(number).join(" ")})` })) circle.setAttribute(name, value);
  svg.append(circle);
  return svg;
}

export function showCommands(home, commands, lookers, tell) {
  home.replaceChildren(...commands.map((command, at) => {
    const whose = lookers.length > 1 ? ` of ${lookers[at].name}` : "";
    const copy = button("Copy", `Copy the command${whose}`, async () => {
      await navigator.clipboard.writeText(command);
      tell("The command was copied.");
    });
    return element("div", { className: "command" }, element("code", { textContent: command }), copy);
  }));
}

export function showDownloads(home, lookers, kinds, download) {
  home.replaceChildren(...lookers.map(({ name }, at) => {
    const buttons = kinds.map(([kind, text]) => button(text, `Download ${text} of ${name}`, () => download(kind, at)));
    const whose = lookers.length > 1 ? [letter(at)] : [];
    return element("div", { className: "saves" }, ...whose, ...buttons);
  }));
}

export function showModels(home, lookers) {
  home.replaceChildren(...lookers.map(({ facts }, at) => {
    const title = element("h3", {}, ...(lookers.length > 1 ? [letter(at)] : []), facts.name);
    const cannot = facts.videos ? [] : ["pictures alone: it cannot follow objects"];
    return element("div", { className: "model" }, title, element("p", { textContent: [facts.model, ...cannot, ...facts.notes].join("\n") }));
  }));
}
