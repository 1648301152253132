"""Times of an exported model in the browser: loading it, encoding a picture, answering a prompt.

    python -m benchmarks.page ONNX_FOLDER... [--rounds N]

The page of each folder is opened in a headless Chromium and runs on WebAssembly, with one thread
and, on a server that isolates pages, with several. Each number is the best of some rounds. Run it
from the root of a checkout with the test dependencies, npm and Chromium.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

import sam21convert
from sam21convert.prediction.draw import scene
from tests.support.browser import Browser, served

# Loads the first variant that a page has, encodes its picture, and asks for a point.
_MEASURE = """(async () => {
    const { Engine } = await import("/engine.js");
    const { pictureOf } = await import("/picture.js");
    const site = await (await fetch("/site.json")).json();
    const [model] = site.models, at = (path) => new URL(path, location.href).href;
    const engine = new Engine(), before = performance.now();
    const { threads } = await engine.load({ model: { ...model, base: at(model.base) },
        device: "wasm", variant: model.variants[VARIANT], runtime: { base: at("runtime/") } });
    const load = performance.now() - before;
    const blob = await (await fetch("/picture.png")).blob();
    const { rgba, width, height } = await pictureOf(blob, "picture");
    const best = { encode: Infinity, prompt: Infinity };
    const prompts = { points: [{ x: 0.4, y: 0.6, label: 1 }], box: null };
    for (let round = 0; round < ROUNDS; round++) {
        const encoded = await engine.encode({ name: "picture", rgba, width, height });
        const answered = await engine.prompt({ name: "picture", prompts });
        best.encode = Math.min(best.encode, encoded.milliseconds);
        best.prompt = Math.min(best.prompt, answered.milliseconds);
    }
    engine.close();
    return [threads, load, best.encode, best.prompt];
})()"""


def rows(folder: Path, home: Path, rounds: int) -> Iterator[str]:
    """Measure each variant of a model, with one thread and with several."""
    report = sam21convert.page(folder, home / "site", overwrite=True)
    Image.fromarray(scene(1500)).save(home / "site" / "picture.png")
    for isolated in (False, True):
        with served(home / "site", isolated=isolated) as address:
            for number, variant in enumerate(report.models[0].variants):
                code = _MEASURE.replace("VARIANT", str(number)).replace("ROUNDS", str(rounds))
                browser = Browser(home / f"profile-{isolated}-{number}", patience=600)
                try:
                    browser.open(address)
                    threads, *times = browser.value(code)
                finally:
                    browser.close()
                cells = [
                    folder.name,
                    variant,
                    str(threads),
                    *(f"{one / 1000:.3f}" for one in times),
                ]
                yield f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    print("| model | variant | threads | load s | encode s | prompt s |\n|---|---|---|---|---|---|")
    for folder in given.folders:
        with tempfile.TemporaryDirectory() as home:
            for row in rows(folder, Path(home), given.rounds):
                print(row, flush=True)


if __name__ == "__main__":
    main()
