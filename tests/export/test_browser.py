"""The page in a real browser, with the real runtime: what it computes, and all that it says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import sam21convert
from sam21convert.errors import Sam21ConvertError
from sam21convert.export.page import runtime
from sam21convert.export.page.folders import GRAPHS
from sam21convert.model.image_predictor import pixels_of
from sam21convert.model.sam2 import SAM2
from sam21convert.prediction.draw import scene

from ..support.browser import CHROMIUM, SHIFT, Browser, saved, served
from .conftest import SIDE

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
CLOSE = 1e-5  # of scale, between two builds of onnxruntime
IDLE = "document.body.ariaBusy === 'false'"
STARTED = "!document.querySelector('#work').hidden"
ANSWERED = f"{IDLE} && !document.querySelector('#result').hidden"
RED = "document.querySelector('#alert').innerText"
STATUS = "document.querySelector('#status').innerText"
Array = NDArray[np.float32]
# A function that loads the model of the page that is open.
LOADED = """async () => {
    const { Engine } = await import("/engine.js");
    const site = await (await fetch("/site.json")).json();
    const [model] = site.models, at = (path) => new URL(path, location.href).href;
    const engine = new Engine();
    await engine.load({ model: { ...model, base: at(model.base) }, device: "wasm",
        variant: model.variants[0], runtime: { base: at(site.runtime.base) } });
    return engine;
}"""


@pytest.fixture(scope="module")
def ort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of onnxruntime-web, from npm."""
    folder = tmp_path_factory.mktemp("ort")
    try:
        runtime.download(folder)
    except Sam21ConvertError as error:
        pytest.skip(error.message)
    return folder


@pytest.fixture(scope="module")
def one(exported: Path, ort: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a page with one model."""
    out = tmp_path_factory.mktemp("one") / "site"
    sam21convert.page(exported, out, runtime=ort)
    with served(out) as address:
        yield address


@pytest.fixture(scope="module")
def two(
    exported: Path, changed: Path, ort: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of a page with two models, of which the second is not what its example says."""
    out = tmp_path_factory.mktemp("two") / "site"
    sam21convert.page([exported, changed], out, runtime=ort)
    with served(out) as address:
        yield address


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def browser(started: Browser) -> Iterator[Browser]:
    """A browser; at the end nothing was logged but that there is no graphics processor."""
    started.events.clear()
    started.prefer(color_scheme="light", reduced_motion="reduce")
    yield started
    said = [one for one in started.complaints() if "No available adapters" not in one]
    assert said == []


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture of another shape than the model's."""
    path = tmp_path_factory.mktemp("photo") / "house.png"
    Image.fromarray(scene(240)[:160]).save(path)
    return path


def opened(browser: Browser, address: str, width: int = 1280) -> None:
    """Open the page, if it is not open already: loading a model takes seconds."""
    if browser.address == address:
        browser.resize(width, 900)
        return
    browser.open(address, width)
    browser.until("!document.querySelector('main').hidden")


def shown(browser: Browser, address: str, photo: Path, width: int = 1280) -> None:
    """Open the page and a picture in it."""
    opened(browser, address, width)
    if browser.value(STARTED):  # with the tool of another test
        browser.click("#tools label:first-of-type")
    browser.value("document.querySelector('#status').textContent = ''")
    browser.give("#file", photo)
    browser.until(f"{IDLE} && {STATUS} === 'Ready. Click the object, or drag a box around it.'")
    assert browser.value(RED) == ""


def logits_of(folder: Path, picture: NDArray[np.uint8], prompts: dict[str, NDArray[Any]]) -> Array:
    """What onnxruntime in Python gives for a picture, ``3 x h x w``."""
    encoder, decoder = (
        onnxruntime.InferenceSession(folder / "onnx" / f"{graph}.onnx") for graph in GRAPHS
    )
    pixels = pixels_of(picture, SIDE).numpy()
    names = [output.name for output in encoder.get_outputs()]
    features = dict(zip(names, encoder.run(None, {"pixel_values": pixels}), strict=True))
    wanted = {one.name for one in decoder.get_inputs()}
    feeds = {name: value for name, value in {**features, **prompts}.items() if name in wanted}
    (masks,) = decoder.run(["pred_masks"], feeds)
    return np.asarray(masks[0, 0], np.float32)


def feeds(
    points: list[list[float]], labels: list[int], box: list[float] | None = None
) -> dict[str, NDArray[Any]]:
    return {
        "input_points": np.array(points, np.float32).reshape(1, 1, -1, 2) * SIDE,
        "input_labels": np.array(labels, np.int64).reshape(1, 1, -1),
        "input_boxes": np.array(box or [], np.float32).reshape(1, -1, 4) * SIDE,
    }


def apart(found: Array, wanted: Array) -> float:
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def in_javascript(picture: NDArray[np.uint8]) -> str:
    """The bytes of a picture, four a pixel, as an expression."""
    alpha = np.full((*picture.shape[:2], 1), 255, np.uint8)
    return f"Uint8ClampedArray.from({np.concatenate([picture, alpha], -1).ravel().tolist()})"


class TestNumbers:
    @pytest.mark.parametrize("size", [(150, 200), (90, 33), (128, 128), (700, 129), (1, 1)])
    def test_the_pixels_are_those_of_the_predictor(
        self, browser: Browser, one: str, size: tuple[int, int]
    ) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
        opened(browser, one)
        given = "{ side: 64, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] }"
        code = f"pixelsOf({in_javascript(noise)}, {size[1]}, {size[0]}, {given})"
        found = browser.value(f"import('/pixels.js').then(({{ pixelsOf }}) => [...{code}])")
        wanted = pixels_of(noise, 64).numpy().ravel()
        assert np.abs(np.array(found, np.float32) - wanted).max() < 1e-5

    @pytest.mark.parametrize("size", [(40, 60), (7, 5), (16, 16)])
    def test_masks_are_enlarged_as_the_predictor_does(
        self, browser: Browser, one: str, size: tuple[int, int]
    ) -> None:
        logits = np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32)
        opened(browser, one)
        given = f"{{ width: 16, height: 16, data: {logits.ravel().tolist()} }}"
        code = f"enlarged({given}, {size[1]}, {size[0]})"
        found = browser.value(f"import('/masks.js').then(({{ enlarged }}) => [...{code}])")
        wanted = SAM2.resize_masks(torch.from_numpy(logits)[None, None], *size)[0, 0]
        sure = wanted.abs() > 1e-5
        assert (torch.tensor(found).reshape(size).bool() == (wanted > 0))[sure].all()
        assert sure.float().mean() > 0.99

    @pytest.mark.parametrize(
        ("points", "labels", "box"),
        [
            ([[0.4, 0.5]], [1], None),
            ([[0.4, 0.5], [0.9, 0.1]], [1, 0], None),
            ([], [], [0.2, 0.3, 0.7, 0.9]),
            ([[0.4, 0.5], [0.3, 0.8]], [1, 1], [0.2, 0.3, 0.7, 0.9]),
        ],
        ids=["a point", "two points", "a box", "both"],
    )
    def test_logits_are_those_of_onnxruntime_in_python(
        self,
        browser: Browser,
        one: str,
        exported: Path,
        points: list[list[float]],
        labels: list[int],
        box: list[float] | None,
    ) -> None:
        noise = np.random.default_rng(1).integers(0, 256, (150, 200, 3), np.uint8)
        opened(browser, one)
        marks = [{"x": x, "y": y, "label": n} for (x, y), n in zip(points, labels, strict=True)]
        code = f"""(async () => {{
            const engine = await (window.engine ??= ({LOADED})());
            const picture = {{ rgba: {in_javascript(noise)}, width: 200, height: 150 }};
            await engine.encode({{ name: "noise", ...picture }});
            const prompts = {{ points: {json.dumps(marks)}, box: {json.dumps(box)} }};
            const {{ masks }} = await engine.prompt({{ name: "noise", prompts }});
            return masks.map(({{ data }}) => [...data]);
        }})()"""
        found = np.array(browser.value(code), np.float32)
        wanted = logits_of(exported, noise, feeds(points, labels, box))
        difference = apart(found, wanted.reshape(3, -1))
        assert difference < CLOSE
        other = logits_of(exported, noise, feeds([[0.41, 0.5]], [1])).reshape(3, -1)
        assert apart(found, other) > 100 * CLOSE  # what another prompt would give


@pytest.mark.slow
def test_webgpu_by_software_holds_its_bounds(one: str, tmp_path: Path) -> None:
    software = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader")
    vulkan = ("--enable-features=Vulkan", "--use-vulkan=swiftshader", "--use-angle=swiftshader")
    browser = Browser(tmp_path, *software, *vulkan)
    try:
        opened(browser, one)
        if browser.value("import('/device.js').then((m) => m.bestDevice())") != "webgpu":
            pytest.skip("this chromium has no WebGPU")
        browser.click("#check")
        browser.until("document.querySelectorAll('.verdict').length === 1")
        verdict = browser.value("document.querySelector('.verdict').innerText")
        assert "Computes what PyTorch computed" in verdict
        assert float(verdict.split("of scale\t")[1].split("\t")[0]) <= 3.5e-4
        assert "WebGPU" in browser.value("document.querySelector('.facts').innerText")
    finally:
        browser.close()


class TestUse:
    def test_a_click_gives_three_candidates_and_undo_takes_it_back(
        self, browser: Browser, one: str, photo: Path
    ) -> None:
        shown(browser, one, photo)
        before = browser.screen(whole=False)
        browser.click("#views canvas", 0.4, 0.7)
        browser.until(ANSWERED)
        names = browser.value(
            "[...document.querySelectorAll('#candidates input')].map((e) => e.ariaLabel)"
        )
        assert [name.partition(", expected IoU")[0] for name in names] == [
            f"Candidate {number}" for number in (1, 2, 3)
        ]
        ious = [float(name.rpartition(" ")[2]) for name in names]
        best = int(np.argmax(ious)) + 1
        status = browser.value(STATUS)
        assert status.startswith(f"Candidate {best} of 3: expects IoU {max(ious):.3f} and covers")
        assert (browser.screen(whole=False) != before).mean() > 0.05
        browser.click("#views canvas", 0.8, 0.2, SHIFT)
        browser.until(f"{IDLE} && {STATUS} !== {json.dumps(status)}")
        browser.click("#undo")
        browser.until(f"{IDLE} && {STATUS} === {json.dumps(status)}")
        browser.click("#clear")
        browser.until(f"{IDLE} && document.querySelector('#result').hidden")

    def test_a_mask_is_saved_at_the_size_of_the_picture(
        self, browser: Browser, one: str, photo: Path, exported: Path, tmp_path: Path
    ) -> None:
        shown(browser, one, photo)
        browser.drag("#views canvas", (0.25, 0.25), (0.75, 0.75))
        browser.until(ANSWERED)
        browser.click("#candidates label:nth-child(2)")
        browser.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
        browser.click("figcaption button")
        path = saved(tmp_path, "house-mask.png")
        found = np.asarray(Image.open(path).convert("L")) > 0
        picture = np.asarray(Image.open(photo).convert("RGB"))
        place = [0.25, 0.25, 0.75, 0.75]
        logits = logits_of(exported, picture, feeds([], [], place))[1]
        wanted = SAM2.resize_masks(torch.from_numpy(logits)[None, None], *found.shape)[0, 0] > 0
        assert found.shape == picture.shape[:2]
        assert (found != wanted.numpy()).mean() < 0.01  # the mouse moves in whole pixels

    def test_two_checkpoints_and_where_they_differ(
        self, browser: Browser, two: str, photo: Path
    ) -> None:
        shown(browser, two, photo)
        browser.click("#views figure:nth-child(2) canvas", 0.4, 0.7)
        browser.until(ANSWERED)
        browser.press("1")
        alike = "document.querySelector('#agreement').innerText"
        browser.until(f"{alike}.length > 0")
        assert 0 < float(browser.value(alike).removeprefix("IoU of the two masks: ")) < 1
        assert browser.value("document.querySelectorAll('.card canvas').length") == 6
        drawn = browser.screen_of("#views figure:last-child canvas").astype(int)
        assert (abs(drawn[..., 2] - drawn[..., 0]) > 100).sum() > 100  # blue or orange on grey
        browser.press("2")  # the weight that was changed is that of the first candidate
        browser.until(f"{alike} === 'IoU of the two masks: 1'")

    def test_the_check_says_yes_and_no(self, browser: Browser, two: str) -> None:
        opened(browser, two)
        browser.click("#check")
        browser.until("document.querySelectorAll('.verdict').length === 2")
        good, bad = (
            browser.value(f"document.querySelectorAll('.verdict')[{at}].innerText") for at in (0, 1)
        )
        assert "Computes what PyTorch computed" in good
        assert "Computes what" not in bad
        assert "of three\t1\t≥ 1" in good
        assert float(good.split("of scale\t")[1].split("\t")[0]) <= 1e-5
        assert float(bad.split("of scale\t")[1].split("\t")[0]) > 1e-3

    def test_another_variant_is_loaded_and_checked(self, browser: Browser, one: str) -> None:
        browser.address = ""  # it stays with the other variant
        opened(browser, one)
        browser.address = ""
        sizes = browser.value("document.querySelector('select').innerText").splitlines()
        assert [line.split(" · ")[0] for line in sizes] == ["fp32", "q8"]
        browser.press("Tab")
        browser.value("document.querySelector('select').focus()")
        browser.press("ArrowDown")
        browser.click("#check")
        browser.until("document.querySelectorAll('.verdict').length === 1")
        verdict = browser.value("document.querySelector('.verdict').innerText")
        assert ", q8" in verdict
        assert 1e-4 < float(verdict.split("of scale\t")[1].split("\t")[0]) < 0.5

    def test_a_touch_marks_a_point(self, browser: Browser, one: str, photo: Path) -> None:
        shown(browser, one, photo, width=360)
        browser.click("#tools label:nth-of-type(2)")
        browser.tap("#views canvas", 0.4, 0.7)
        browser.until(ANSWERED)


class TestKeyboard:
    def test_everything_is_done_with_keys(self, browser: Browser, one: str, photo: Path) -> None:
        shown(browser, one, photo)
        assert browser.value("document.activeElement.tagName") == "CANVAS"
        browser.press("ArrowLeft", "ArrowLeft", "ArrowDown")
        browser.until(f"{STATUS} === 'Cursor 45 % from the left, 53 % from the top.'")
        browser.press("Enter")
        browser.until(ANSWERED)
        first = browser.value(STATUS)
        browser.press("ArrowRight", "ArrowUp")
        browser.press("ArrowUp", modifiers=SHIFT)
        browser.press("Enter", modifiers=SHIFT)
        other = f"{STATUS} !== {json.dumps(first)}"
        browser.until(f"{IDLE} && {STATUS}.startsWith('Candidate') && {other}")
        for key in ("3", "1", "2"):
            browser.press(key)
            assert browser.value(STATUS).startswith(f"Candidate {key} of 3")
        browser.press("Backspace", "Backspace")
        browser.until(f"{IDLE} && document.querySelector('#result').hidden")

    def test_a_box_by_keys(self, browser: Browser, one: str, photo: Path) -> None:
        shown(browser, one, photo)
        browser.click("#tools label:nth-of-type(3)")
        browser.value("document.querySelector('#views canvas').focus()")
        browser.press("Enter")
        assert browser.value(STATUS).startswith("First corner of the box.")
        browser.press(*["ArrowRight"] * 5, *["ArrowDown"] * 5, "Enter")
        browser.until(ANSWERED)

    def test_tab_reaches_all_and_each_has_a_name(
        self, browser: Browser, two: str, photo: Path
    ) -> None:
        shown(browser, two, photo)
        browser.click("#views canvas", 0.4, 0.7)
        browser.until(ANSWERED)
        browser.value("document.activeElement.blur()")
        reached = set()
        for _ in range(40):
            browser.press("Tab")
            focused = "document.activeElement"
            reached.add(browser.value(f"{focused}.id || {focused}.tagName"))
        assert reached >= {"undo", "clear", "another", "check", "CANVAS", "INPUT", "SUMMARY"}
        nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
        roles = {"button", "radio", "combobox", "application", "image", "progressbar", "radiogroup"}
        named = [
            (node["role"]["value"], node.get("name", {}).get("value"))
            for node in nodes
            if not node["ignored"] and node["role"]["value"] in roles
        ]
        assert len(named) > 12
        assert all(name for _, name in named), named


class TestAppearance:
    @pytest.mark.parametrize("width", [360, 768, 1280])
    def test_nothing_is_wider_than_the_window(
        self, browser: Browser, two: str, photo: Path, width: int
    ) -> None:
        shown(browser, two, photo, width)
        browser.click("#views canvas", 0.4, 0.7)
        browser.until(ANSWERED)
        assert browser.value("document.documentElement.scrollWidth") == width
        small = browser.value(
            "[...document.querySelectorAll('button, select, .segments span, .card')]"
            ".filter((e) => e.offsetParent && e.offsetHeight < 32).map((e) => e.outerHTML)"
        )
        assert small == []

    def test_dark_and_light(self, browser: Browser, one: str) -> None:
        opened(browser, one)
        light = browser.screen().mean()
        browser.prefer(color_scheme="dark", reduced_motion="reduce")
        assert browser.screen().mean() < 60 < 200 < light

    def test_text_stands_out(self, browser: Browser, one: str) -> None:
        for scheme in ("light", "dark"):
            browser.prefer(color_scheme=scheme, reduced_motion="reduce")
            opened(browser, one)
            for name in ("ink", "quiet", "blue", "no"):
                code = (
                    "((names) => names.map((n) => { const e = document.createElement('i');"
                    "e.style.color = `var(--${n})`; document.body.append(e);"
                    "return getComputedStyle(e).color.match(/\\d+/g).map(Number); }))"
                    f"(['{name}', 'soft'])"
                )
                assert contrast(*browser.value(code)) >= 4.5, (scheme, name)


def contrast(one: list[float], other: list[float]) -> float:
    """As WCAG 2 defines it."""

    def light(colour: list[float]) -> float:
        parts = [
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
            for c in (v / 255 for v in colour)
        ]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    dark, bright = sorted((light(one), light(other)))
    return (bright + 0.05) / (dark + 0.05)


class TestSaidInWords:
    def test_a_file_that_is_no_picture(
        self, browser: Browser, one: str, photo: Path, tmp_path: Path
    ) -> None:
        opened(browser, one)
        for name, content, said in (
            (
                "notes.png",
                b"not a picture",
                "notes.png is not a picture",
            ),
            ("cut.png", photo.read_bytes()[:30], "cut.png is not a picture"),
            ("empty.jpg", b"", "empty.jpg is empty."),
        ):
            (tmp_path / name).write_bytes(content)
            browser.give("#file", tmp_path / name)
            browser.until(f"{RED}.startsWith({json.dumps(said)})")
        browser.give("#file", photo)
        browser.until(f"{IDLE} && {RED} === ''")

    def test_a_model_that_is_missing_cut_or_too_large(
        self, started: Browser, exported: Path, ort: Path, photo: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "site"
        sam21convert.page(exported, out, runtime=ort)
        path = out / "models" / "first" / "onnx" / f"{GRAPHS[0]}.onnx"
        whole, told = path.read_bytes(), out / "site.json"
        with served(out) as address:

            def complaint() -> str:
                started.open(address)
                started.until("!document.querySelector('main').hidden")
                started.give("#file", photo)
                started.until(f"{IDLE} && {RED} !== ''")
                assert started.value(STATUS) == "It did not work; see the message above."
                return str(started.value(RED))

            path.unlink()
            said = complaint()
            assert "first: first/onnx/vision_encoder.onnx is missing from this site" in said
            path.write_bytes(whole[:-9])
            assert f"({len(whole) - 9} bytes), expected {len(whole)} bytes" in complaint()
            path.write_bytes(bytes(len(whole)))
            assert "Something failed while the model was loaded: " in complaint()
            path.write_bytes(whole)
            told.write_text(told.read_text().replace(f'"side": {SIDE}', '"side": 65536'))
            assert "Not enough memory while the picture was encoded." in complaint()
            shutil.rmtree(out / "runtime")
            assert "The runtime (onnxruntime-web) cannot be loaded" in complaint()

    def test_shortages_have_many_names(self, browser: Browser, one: str) -> None:
        opened(browser, one)
        for fault in (
            "std::bad_alloc",
            "Array buffer allocation failed",
            "out of memory",
        ):
            code = f"explain(new Error({json.dumps(fault)}), 'here')"
            said = browser.value(f"import('/words.js').then(({{ explain }}) => {code})")
            assert said.startswith("Not enough memory here. Close other tabs")
            assert fault in said


class TestAtHome:
    def test_no_picture_and_nothing_else_leaves_the_page(
        self, started: Browser, one: str, photo: Path, tmp_path: Path
    ) -> None:
        """A worker made as the page makes its own is held to the policy; a page without is not."""
        (tmp_path / "index.html").write_text("<!doctype html><title>free</title>")
        with served(tmp_path) as elsewhere:
            code = f"""new Promise((done) => {{
                const source = `fetch("{elsewhere}", {{ mode: "no-cors" }})
                    .then(() => postMessage("reached"), () => postMessage("blocked"))`;
                const address = URL.createObjectURL(new Blob([source]));
                new Worker(address).onmessage = ({{ data }}) => done(data);
            }})"""
            shown(started, one, photo)
            started.click("#views canvas", 0.5, 0.5)
            started.until(ANSWERED)
            assert started.value(code) == "blocked"
            asked = [
                event["params"]["request"]["url"]
                for event in started.events
                if event.get("method") == "Network.requestWillBeSent"
            ]
            assert [url for url in asked if not url.startswith((one, f"blob:{one}"))] == []
            started.open(elsewhere)
            assert started.value(code) == "reached"

    def test_threads_where_the_server_allows_them(
        self, browser: Browser, exported: Path, ort: Path, photo: Path, tmp_path: Path
    ) -> None:
        sam21convert.page(exported, tmp_path / "site", runtime=ort)
        with served(tmp_path / "site", isolated=True) as address:
            shown(browser, address, photo)
            browser.click("#views canvas", 0.4, 0.7)
            browser.until(ANSWERED)
            assert " threads" in browser.value("document.querySelector('.facts').innerText")
