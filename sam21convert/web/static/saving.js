// Masks and other files, saved by the browser.

import { enlarged } from "./masks.js";
import { maskAsPng, save } from "./picture.js";
import { alarm, tell, trying } from "./says.js";
import { server } from "./server.js";
import { state } from "./state.js";

export async function saveMask(looker) {
  const { width, height, name } = state.picture;
  const number = state.kind === "video" ? `-${state.object}-${String(state.frame).padStart(5, "0")}` : "";
  const whose = state.lookers.length > 1 ? `-${looker.name}` : "";
  await trying("while the mask was saved", async () => {
    const blob = await maskAsPng(enlarged(looker.shape(state), width, height), width, height);
    save(blob, `${name.replace(/\.\w+$/, "")}-mask${number}${whose}.png`);
    tell("The mask was saved: white is the object.");
  });
}

export async function download(kind, at) {
  alarm("");
  await trying("while the file was made", async () => {
    tell("Making the file …");
    const { blob, name } = await server.file(`download/${kind}/${at}`);
    save(blob, name);
    tell(`${name} was saved.`);
  });
}
