"""The page in a real browser: each errand, by mouse and by keys, and what it says of faults."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import sam21convert
from sam21convert.model.image_predictor import SAM2ImagePredictor
from sam21convert.prediction.prompts import parse_prompts
from sam21convert.web.sides import Side

from ..support.browser import CHROMIUM, SHIFT, Browser, saved
from ..support.paths import ROOT
from ..support.web import Served, serving
from .conftest import FRAMES

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
IDLE = "document.body.ariaBusy === 'false'"
RED = "document.querySelector('#alert').innerText"
STATUS = "document.querySelector('#status').innerText"
ANSWERED = f"{IDLE} && !document.querySelector('#result').hidden"
COMMANDS = "[...document.querySelectorAll('#commands code')].map((e) => e.textContent)"
CANVAS = "#views canvas"


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    browser.prefer(color_scheme="light", reduced_motion="reduce")
    yield browser
    browser.close()


@pytest.fixture
def browser(started: Browser, tmp_path: Path) -> Iterator[Browser]:
    """A browser; at the end nothing went wrong, and nobody but the server was asked."""
    started.events.clear()
    started.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    yield started
    assert started.complaints() == []
    asked = [
        event["params"]["request"]["url"]
        for event in started.events
        if event.get("method") == "Network.requestWillBeSent"
    ]
    own = (started.address, f"blob:{started.address}", "about:blank")
    assert [url for url in asked if not url.startswith(own)] == []
    started.open("about:blank")


def opened(browser: Browser, server: Served, *files: Path, width: int = 1280) -> None:
    """Open the page, and files in it."""
    browser.open(server.address, width)
    browser.until("!document.querySelector('main').hidden")
    give(browser, *files)


def give(browser: Browser, *files: Path) -> None:
    browser.value("document.querySelector('#status').textContent = ''")
    browser.give("#file", *files)
    browser.until(f"{IDLE} && {STATUS}.startsWith('Ready.')")
    assert browser.value(RED) == ""


def mark(browser: Browser, x: float, y: float, modifiers: int = 0, canvas: str = CANVAS) -> None:
    """Click, and wait for the answer."""
    before = browser.value(COMMANDS)
    browser.click(canvas, x, y, modifiers)
    browser.until(f"{IDLE} && JSON.stringify({COMMANDS}) !== {json.dumps(json.dumps(before))}")
    browser.until(f"JSON.stringify({COMMANDS}).length > 0 && {IDLE}")


def press(browser: Browser, selector: str, until: str) -> None:
    browser.click(selector)
    browser.until(f"{IDLE} && {until}")


def in_python(command: str, work: Path) -> NDArray[Any]:
    """The three candidates that the Python API gives for what a command names."""
    words = shlex.split(command)
    given = [word for at, word in enumerate(words) if words[at - 1] in ("--point", "--box")]
    prompts = parse_prompts(
        *([one for one in given if one.count(",") in wanted] for wanted in ((1, 2), (3,)))
    )
    model, _ = sam21convert.load_model(words[words.index("--checkpoint") + 1])
    predictor = SAM2ImagePredictor(model)
    predictor.set_image(np.asarray(Image.open(work / "house.png")))
    points = [one for one in prompts if isinstance(one, sam21convert.Point)]
    boxes = [(one.x0, one.y0, one.x1, one.y1) for one in prompts if not hasattr(one, "x")]
    masks, _, _ = predictor.predict(
        [(one.x, one.y) for one in points] or None,
        [one.label for one in points] or None,
        boxes[0] if boxes else None,
    )
    return np.asarray(masks) > 0


def candidates(path: Path) -> NDArray[Any]:
    with zipfile.ZipFile(path) as archive:
        return np.array([np.asarray(Image.open(archive.open(n))) > 0 for n in archive.namelist()])


class TestPictures:
    def test_clicks_box_undo_candidates_and_the_masks_of_python(
        self, browser: Browser, alone: Served, work: Path, tmp_path: Path
    ) -> None:
        opened(browser, alone, work / "house.png")
        mark(browser, 0.35, 0.7)
        names = browser.value(
            "[...document.querySelectorAll('#candidates input')].map((e) => e.ariaLabel)"
        )
        assert [name.partition(", expected IoU")[0] for name in names] == [
            f"Candidate {number}" for number in (1, 2, 3)
        ]
        (first,) = browser.value(COMMANDS)
        mark(browser, 0.8, 0.2, SHIFT)
        (second,) = browser.value(COMMANDS)
        assert second.count("--point") == 2
        assert ",0 -o " in second
        mark(browser, 0.35, 0.7)  # on a point: takes it away
        assert browser.value(COMMANDS)[0].count("--point") == 1
        press(browser, "#undo", f"{COMMANDS}[0] === {json.dumps(second)}")
        press(browser, "#undo", f"{COMMANDS}[0] === {json.dumps(first)}")
        browser.drag(CANVAS, (0.2, 0.3), (0.6, 0.9))
        browser.until(f"{IDLE} && {COMMANDS}[0].includes('--box')")
        (command,) = browser.value(COMMANDS)
        wanted = in_python(command, work)
        assert not np.array_equal(wanted, in_python(first, work))
        browser.click("#downloads button:nth-of-type(1)")
        assert np.array_equal(candidates(saved(tmp_path, "house-masks.zip")), wanted)
        browser.press("2")
        assert browser.value(STATUS).startswith("Candidate 2 of 3: expects IoU")
        browser.click("figcaption button")
        mask = np.asarray(Image.open(saved(tmp_path, "house-mask.png")).convert("L")) > 0
        assert np.array_equal(mask, wanted[1])
        press(browser, "#clear", "document.querySelector('#result').hidden")

    def test_everything(self, browser: Browser, alone: Served, work: Path, tmp_path: Path) -> None:
        opened(browser, alone, work / "house.png")
        before = browser.screen_of(CANVAS)
        browser.value("document.querySelector('#points-per-side').value = '8'")
        press(browser, "#everything", f"/^first.pt: \\d+ masks\\.$/.test({STATUS})")
        count = int(browser.value(STATUS).split()[1])
        assert count > 0
        assert (browser.screen_of(CANVAS) != before).mean() > 0.05
        browser.click("#downloads button:nth-of-type(2)")
        coco = json.loads(saved(tmp_path, "house-coco.json").read_text())
        assert len(coco["annotations"]) == count

    def test_two_checkpoints_and_where_they_differ(
        self, browser: Browser, both: Served, work: Path, tmp_path: Path
    ) -> None:
        opened(browser, both, work / "house.png")
        mark(browser, 0.35, 0.7, canvas="#views figure:nth-child(2) canvas")
        commands = browser.value(COMMANDS)
        browser.press("1")
        one, other = (in_python(command, work) for command in commands)
        iou = (one[0] & other[0]).sum() / (one[0] | other[0]).sum()
        said = browser.value("document.querySelector('#agreement').innerText")
        assert said == f"IoU of the two masks: {iou:.3f}"
        assert browser.value("document.querySelectorAll('.card canvas').length") == 6
        drawn = browser.screen_of("#views figure:last-child canvas").astype(int)
        apart = (abs(drawn[..., 2] - drawn[..., 0]) > 100).mean()  # blue or orange on grey
        assert apart == pytest.approx((one[0] != other[0]).mean(), abs=0.05)
        for row, masks in enumerate((one, other), 1):
            browser.click(f"#downloads .saves:nth-child({row}) button:nth-of-type(1)")
            name = ("first", "second")[row - 1]
            path = saved(tmp_path, f"house-masks-{name}.pt.zip")
            assert np.array_equal(candidates(path), masks)


class TestVideos:
    def test_two_objects_a_correction_and_the_masks_of_predict(
        self, browser: Browser, both: Served, work: Path, frames: list[Path], tmp_path: Path
    ) -> None:
        opened(browser, both, *frames)
        seek(browser, 2)
        mark(browser, 0.35, 0.7)
        browser.click("#new-object")
        mark(browser, 0.8, 0.3)
        press(browser, "#follow", f"{STATUS}.startsWith('Followed through {FRAMES} frames')")
        curve = "document.querySelector('#curve svg')"
        assert browser.value(f"{curve}.querySelectorAll('circle').length") == 2 * FRAMES
        assert "Object 2: IoU" in browser.value(f"{curve}.getAttribute('aria-label')")
        browser.click("#curve svg", 0.99, 0.5)
        browser.until("document.querySelector('#frame').value === '11'")
        seek(browser, 7)
        mark(browser, 0.5, 0.4, SHIFT)
        press(
            browser, "#follow", f"{COMMANDS}[0].includes('@7/2') && {STATUS}.startsWith('Follow')"
        )
        for row, command in enumerate(browser.value(COMMANDS), 1):
            words = shlex.split(command)
            prompts = parse_prompts(
                [word for at, word in enumerate(words) if words[at - 1] == "--point"], []
            )
            checkpoint = words[words.index("--checkpoint") + 1]
            followed = tmp_path / f"followed{row}"
            sam21convert.predict_video(work / "frames", checkpoint, followed, prompts)
            browser.click(f"#downloads .saves:nth-child({row}) button:nth-of-type(1)")
            name = ("first", "second")[row - 1]
            with zipfile.ZipFile(saved(tmp_path, f"frames-masks-{name}.pt.zip")) as archive:
                assert len(archive.namelist()) == 2 * FRAMES
                for entry in archive.namelist():
                    assert archive.read(entry) == (followed / entry).read_bytes()

    def test_stop_and_go_on(
        self, browser: Browser, alone: Served, frames: list[Path], tmp_path: Path
    ) -> None:
        opened(browser, alone, *frames)
        mark(browser, 0.35, 0.7)
        (session,) = alone.app.sessions._open.values()
        clip, turn = session.media, alone.app._sides[0].turn
        whole = clip._followed  # type: ignore[union-attr]

        def slowly(stopped: Any) -> Any:
            for step in whole(stopped):
                time.sleep(0.1)
                yield step

        clip._followed = slowly  # type: ignore[union-attr,method-assign]
        browser.click("#follow")
        browser.until("document.querySelector('#progress').value >= 2")
        assert browser.value("document.querySelector('#undo').disabled")
        press(browser, "#stop", f"{STATUS} === 'Stopped.'")
        assert not turn.locked()
        clip._followed = whole  # type: ignore[union-attr,method-assign]
        press(browser, "#follow", f"{STATUS}.startsWith('Followed')")
        browser.click("#downloads button:nth-of-type(3)")
        assert saved(tmp_path, "frames-video.mp4").stat().st_size > 1000

    def test_playing_goes_through_the_frames(
        self, browser: Browser, alone: Served, frames: list[Path]
    ) -> None:
        opened(browser, alone, *frames)
        before = browser.screen_of(CANVAS)
        browser.click("#play")
        browser.until("Number(document.querySelector('#frame').value) >= 3")
        browser.click("#play")
        assert browser.value("document.querySelector('#play').ariaLabel") == "Play"
        browser.until("document.querySelector('#place').innerText.startsWith('Frame')")
        assert (browser.screen_of(CANVAS) != before).any()


def seek(browser: Browser, frame: int) -> None:
    browser.value(
        f"(() => {{ const e = document.querySelector('#frame'); e.value = {frame};"
        "e.dispatchEvent(new Event('input')); })()"
    )
    browser.until(f"document.querySelector('#place').innerText.startsWith('Frame {frame} ')")


class TestPages:
    def test_a_closed_page_is_forgotten_at_once(
        self, browser: Browser, alone: Served, work: Path
    ) -> None:
        opened(browser, alone, work / "house.png")
        assert len(alone.app.sessions) == 1
        browser.open("about:blank")
        end = time.monotonic() + 20
        while len(alone.app.sessions):
            assert time.monotonic() < end
            time.sleep(0.02)

    def test_the_policy_holds(self, browser: Browser, alone: Served) -> None:
        browser.open(alone.address)
        browser.until("!document.querySelector('main').hidden")
        code = "fetch('http://127.0.0.1:1/').then(() => 'sent', () => 'blocked')"
        assert browser.value(code) == "blocked"
        logged = browser.complaints()
        assert any("Content Security Policy" in one for one in logged)
        browser.events.clear()


class TestFaults:
    def test_a_file_that_is_none_and_then_a_picture(
        self, browser: Browser, alone: Served, work: Path, tmp_path: Path
    ) -> None:
        opened(browser, alone, work / "house.png")
        (tmp_path / "notes.txt").write_text("hello")
        browser.give("#file", tmp_path / "notes.txt")
        browser.until(f"{RED}.startsWith('Notes.txt: is neither a picture')")
        give(browser, work / "house.png")
        mark(browser, 0.35, 0.7)

    def test_numbered_pngs_are_frames(
        self, browser: Browser, alone: Served, work: Path, tmp_path: Path
    ) -> None:
        for number in range(2):
            shutil.copy(work / "house.png", tmp_path / f"{number}.png")
        opened(browser, alone, tmp_path / "0.png", tmp_path / "1.png")
        assert browser.value("document.querySelector('#frame').max") == "1"

    def test_two_files_that_are_no_frames(
        self, browser: Browser, alone: Served, work: Path, tmp_path: Path
    ) -> None:
        opened(browser, alone, work / "house.png")
        for name in ("a.png", "b.png"):
            (tmp_path / name).write_bytes(b"")
        browser.give("#file", tmp_path / "a.png", tmp_path / "b.png")
        browser.until(f"{RED}.startsWith('2 files were given, and none is a frame')")
        mark(browser, 0.35, 0.7)  # the picture is still there

    def test_a_server_that_was_started_anew_or_stopped(
        self, started: Browser, one: tuple[Side, ...], work: Path
    ) -> None:
        with serving(one) as server:
            opened(started, server, work / "house.png")
            server.app.sessions.end_all()
            started.click(CANVAS, 0.35, 0.7)
            started.until(f"{IDLE} && {RED}.startsWith('The server does not know this page')")
            assert "What helps: reload the page" in started.value(RED)
        started.click(CANVAS, 0.5, 0.7)
        started.until(f"{IDLE} && {RED}.startsWith('The server does not answer: it was stopped')")
        started.open("about:blank")


class TestUse:
    def test_keys_alone(self, browser: Browser, both: Served, work: Path) -> None:
        opened(browser, both, work / "house.png")
        browser.press("ArrowLeft", "ArrowDown")
        browser.until(f"{STATUS} === 'Cursor 48 % from the left, 53 % from the top.'")
        browser.press("Enter")
        browser.until(ANSWERED)
        for key in ("3", "1", "2"):
            browser.press(key)
            assert browser.value(STATUS).startswith(f"Candidate {key} of 3")
        browser.press("Backspace")
        browser.until(f"{IDLE} && document.querySelector('#result').hidden")

    @pytest.mark.parametrize("kind", ["picture", "video"])
    def test_tab_reaches_all_and_each_has_a_name(
        self, browser: Browser, both: Served, work: Path, frames: list[Path], kind: str
    ) -> None:
        opened(browser, both, *([work / "house.png"] if kind == "picture" else frames))
        mark(browser, 0.35, 0.7)
        browser.value("document.activeElement.blur()")
        reached = set()
        for _ in range(40):
            browser.press("Tab")
            focused = "document.activeElement"
            reached.add(browser.value(f"{focused}.id || {focused}.tagName"))
        own = (
            {"everything", "points-per-side"} if kind == "picture" else {"follow", "frame", "play"}
        )
        assert reached >= {"undo", "clear", "another", "CANVAS", "INPUT", "SUMMARY", "BUTTON"} | own
        nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
        roles = {"button", "radio", "combobox", "application", "image", "slider", "radiogroup"}
        named = [
            (node["role"]["value"], node.get("name", {}).get("value"))
            for node in nodes
            if not node["ignored"] and node["role"]["value"] in roles
        ]
        assert len(named) > 15
        assert all(name for _, name in named), named

    @pytest.mark.parametrize("width", [380, 1280])
    def test_nothing_is_wider_than_the_window_or_too_small_to_touch(
        self, browser: Browser, both: Served, frames: list[Path], width: int
    ) -> None:
        opened(browser, both, *frames, width=width)
        mark(browser, 0.35, 0.7)
        press(browser, "#follow", f"{STATUS}.startsWith('Followed')")
        assert browser.value("document.documentElement.scrollWidth") == width
        small = browser.value(
            "[...document.querySelectorAll('button, select, .segments span, input[type=range]')]"
            ".filter((e) => e.offsetParent && e.offsetHeight < 32).map((e) => e.outerHTML)"
        )
        assert small == []


@pytest.mark.slow
def test_the_pictures_of_the_documents_show_this_page(work: Path, tmp_path: Path) -> None:
    """Those of docs/serve.md are made by the same program, with models that were taught."""
    for name, source in (("sam2.1_debug.pt", "first.pt"), ("my_finetune.pt", "second.pt")):
        (tmp_path / name).symlink_to(work / source)
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import look; from pathlib import Path;"
        "look.look(Path(sys.argv[2]), Path(sys.argv[2]))"
    )
    folder = ROOT / "docs" / "pictures"
    subprocess.run([sys.executable, "-c", program, folder, tmp_path], cwd=ROOT, check=True)
    page = (ROOT / "docs" / "serve.md").read_text()
    for name in ("serve-picture.png", "serve-video.png", "serve-phone.png"):
        assert f"](pictures/{name})" in page
        with Image.open(tmp_path / name) as made, Image.open(folder / name) as shown:
            assert made.width == shown.width
            assert abs(made.height - shown.height) < 100  # commands are as long as their numbers
