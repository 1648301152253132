// What a model runs on: the graphics processor where the browser gives one, else WebAssembly.

export async function bestDevice() {
  const asked = new URLSearchParams(location.search).get("device");
  if (["wasm", "webgpu"].includes(asked)) return asked;
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  return adapter ? "webgpu" : "wasm";
}
