// The server that this page came from: what is asked of it, and how it answers.

import { Told } from "./words.js";

const SILENT = "The server does not answer: it was stopped. Start it again, and reload this page.";
const STILL_HERE = 60_000; // milliseconds between two signs of life

function told({ error, hint }) {
  const text = error[0].toUpperCase() + error.slice(1);
  return new Told(hint ? `${text}.\nWhat helps: ${hint}` : `${text}.`);
}

async function answered(asking) {
  const response = await asking.catch(() => { throw new Told(SILENT); });
  if (response.ok) return response;
  const text = await response.text();
  let said;
  try {
    said = JSON.parse(text);
  } catch {
    said = { error: text || `the server says ${response.status}`, hint: null };
  }
  throw told(said);
}

class Server {
  #home;

  // What the server says of its checkpoints.
  async begin() {
    const { session, ...facts } = await (await answered(fetch("/api/begin", { method: "POST" }))).json();
    this.#home = `/api/${session}`;
    setInterval(() => this.ask("here").catch(() => {}), STILL_HERE);
    addEventListener("pagehide", () => navigator.sendBeacon(`${this.#home}/close`));
    addEventListener("pageshow", ({ persisted }) => { if (persisted) location.reload(); });
    return facts;
  }

  async ask(what, given = {}) {
    return (await this.#post(what, JSON.stringify(given))).json();
  }

  async upload(file, name) {
    await this.#post(`upload?name=${encodeURIComponent(name)}`, file);
  }

  // What long work returns; each thing that it tells on its way goes to tell. Null if it was stopped.
  async follow(what, given, tell) {
    const response = await this.#post(what, JSON.stringify(given));
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = ""; ; ) {
      const { done, value } = await reader.read().catch(() => { throw new Told(SILENT); });
      if (done) throw new Told(SILENT);
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        const said = JSON.parse(line);
        if (said.error) throw told(said);
        if (said.stopped) return null;
        if (said.result) return said.result;
        tell(said);
      }
    }
  }

  // A file that the server makes, and its name.
  async file(path) {
    const response = await answered(fetch(`${this.#home}/${path}`));
    const header = response.headers.get("content-disposition") ?? "";
    const [, coded] = /filename\*=utf-8''([^;]+)/i.exec(header) ?? [];
    const [, plain] = /filename="([^"]+)"/.exec(header) ?? [];
    return { blob: await response.blob(), name: coded ? decodeURIComponent(coded) : plain };
  }

  #post(path, body) {
    return answered(fetch(`${this.#home}/${path}`, { method: "POST", body }));
  }
}

export const server = new Server();
