// A model in a worker, seen from the page.

import { Told } from "./words.js";

export class Engine {
  #worker;
  #waiting = new Map();
  #count = 0;

  constructor(onProgress = () => {}) {
    // A worker made from a blob is held to the security policy of this page; others are not.
    const source = `import ${JSON.stringify(new URL("worker.js", import.meta.url).href)};`;
    const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
    this.#worker = new Worker(address, { type: "module" });
    this.#worker.onmessage = ({ data }) => {
      if ("progress" in data) return onProgress(data.progress);
      const { resolve, reject } = this.#waiting.get(data.id);
      this.#waiting.delete(data.id);
      if (data.fault) reject(data.fault.told ? new Told(data.fault.message) : new Error(data.fault.message));
      else resolve(data.result);
    };
    this.#worker.onerror = (event) => this.#end(new Error(event.message || "the worker ended"));
  }

  load(given) { return this.#ask("load", given); }
  encode(given) { return this.#ask("encode", given); }
  prompt(given) { return this.#ask("prompt", given); }
  forget(given) { return this.#ask("forget", given); }

  close() {
    this.#worker.terminate();
    this.#end(new Told("It was closed."));
  }

  #ask(doing, given) {
    const id = ++this.#count;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ id, doing, given });
    });
  }

  #end(fault) {
    for (const { reject } of this.#waiting.values()) reject(fault);
    this.#waiting.clear();
  }
}
