// What the page says, and what it does for long.

import { server } from "./server.js";
import { changed, state } from "./state.js";
import { explain } from "./words.js";

export const get = (id) => document.getElementById(id);

let speaking; // until the place of the cursor is told

export function tell(text) {
  clearTimeout(speaking);
  get("status").textContent = text;
}

export function alarm(text) {
  get("alert").textContent = text;
  get("alert").hidden = !text;
  if (text) get("alert").scrollIntoView({ block: "nearest" });
}

// What goes wrong on the way is said; gives false then.
export async function trying(doing, work) {
  try {
    await work();
    return true;
  } catch (fault) {
    alarm(explain(fault, doing));
    tell("It did not work; see the message above.");
    return false;
  }
}

// Says it when the cursor has come to rest.
export function tellSoon(text) {
  clearTimeout(speaking);
  speaking = setTimeout(() => { const said = text(); if (said) tell(said); }, 400);
}

// Long work with its progress; gives what it returns, or null if it was stopped or did not work.
export async function long(what, given, doing, told) {
  state.going = true;
  document.body.ariaBusy = "true";
  get("going").hidden = false;
  get("stop").hidden = !["follow", "everything"].includes(what);
  get("progress").removeAttribute("value");
  changed();
  let found = null;
  const well = await trying(doing, async () => {
    found = await server.follow(what, given, told);
    if (!found) tell("Stopped.");
  });
  state.going = false;
  get("going").hidden = true;
  document.body.ariaBusy = "false";
  changed();
  return well ? found : null;
}

export function progress({ progress: label, done, total }) {
  tell(total ? `${label}: ${done} of ${total}` : `${label} …`);
  if (total) Object.assign(get("progress"), { max: total, value: done });
  else get("progress").removeAttribute("value");
}
