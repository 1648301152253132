"""The page of a parity report is complete, self-contained, safe, and looks right in a browser."""

from __future__ import annotations

import base64
import io
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from html import escape
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sam21convert.comparison.findings import (
    Diagnosis,
    NegativeControl,
    Sensitivity,
    View,
)
from sam21convert.comparison.page.heatmap import band
from sam21convert.comparison.page.numbers import percent, ratio
from sam21convert.comparison.page.page import page
from sam21convert.comparison.page.pictures import LOUD, views
from sam21convert.comparison.report import ParityReport
from sam21convert.comparison.scenarios import QUICK
from sam21convert.prediction.draw import Pixels, scene
from sam21convert.report import share

from ..support.html import Document
from ..support.paths import ROOT
from ..support.reports import (
    FAILING,
    HOSTILE,
    KNOWN,
    LONG_NAMES,
    NOT_RUN,
    OF_A_VIDEO,
    PASSING,
    activation,
    image,
    report,
    side,
    video,
    view,
)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # comes with pytest


class TestContents:
    @pytest.mark.parametrize("shown", [PASSING, FAILING, LONG_NAMES], ids=["yes", "no", "long"])
    def test_nothing_comes_from_elsewhere_and_nothing_runs(self, shown: ParityReport) -> None:
        html = page(shown)
        document = Document(html)
        assert all(source.startswith("data:image/png;") for source in document.values("src"))
        ids = {f"#{name}" for name in document.values("id")}
        assert set(document.values("href")) == ids
        assert not {tag for tag, _ in document.elements} & {"script", "link", "iframe", "object"}
        assert not [name for _, given in document.elements for name in given if name[:2] == "on"]
        assert not re.search(r"url\(|@import|https?:", html)
        policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
        assert policy in document.values("content")

    def test_the_parser_of_these_tests_sees_wrong_nesting(self) -> None:
        with pytest.raises(AssertionError):
            Document("<p><b>text</p></b>")

    def test_every_activation_is_in_the_heat_map_and_in_a_table(self) -> None:
        html = page(FAILING)
        names = Counter(one.name for found in FAILING.scenarios for one in found.activations)
        assert Counter(title.splitlines()[0] for title in Document(html).values("title")) == names
        rows = re.findall(r'<th scope="row"><i [^>]*></i><code>(.*?)</code>', html)
        assert Counter(row.replace("<wbr>", "") for row in rows) == names

    def test_a_row_for_each_frame(self) -> None:
        html = page(report(video(frames=18)))
        heat = html[html.index('class="heat"') : html.index("</table>", html.index('class="heat"'))]
        assert re.findall(r"<b>(\d+)</b>", heat) == [str(n) for n in range(18)]
        assert heat.count("<i ") == 18 * 2 * len(OF_A_VIDEO)

    def test_of_many_gradients_the_heat_map_shows_those_that_matter(self) -> None:
        names = [f"memory_encoder.layers.{number}.weight.grad" for number in range(100)]
        wrong = {names[50]: 0.5, names[51]: 0.9}
        found = replace(
            video("train-video-point"),
            status="differs",
            activations=tuple(activation(name, wrong.get(name, 0.0)) for name in names),
            first_mismatch=names[50],
        )
        html = page(replace(report(found), gradients=True))
        heat = html[html.index('class="heat"') : html.index("</table>", html.index('class="heat"'))]
        assert (
            heat.count("<i ") == 20
        )  # the furthest of five each, but the first one if it is there
        assert names[50] in heat
        assert names[51] not in heat
        assert all(name in html for name in names)  # the table has all

    def test_a_no_says_where_and_why(self) -> None:
        text = Document(page(FAILING)).text
        assert "Not in parity" in text
        assert (
            "The two sides first differ in box at decoder.logits: difference 2.0e-01, "
            "tolerance 1.0e-06." in text
        )
        assert "Cause: a tensor differs by up to 0.1: b.weight; changes decoder.logits" in text
        assert "Look into b." in text

    def test_every_scenario_that_differs_is_named_in_the_verdict(self) -> None:
        names = ("point", "points", "box", "mask")
        html = page(report(*(image(name, apart=0.2) for name in names)))
        verdict = Document(html[html.index("<main>") + 6 : html.index("</section>") + 10]).text
        assert "The two sides first differ in point at" in verdict
        assert [name for name in names if f"{name} differs at" in verdict] == [
            "points",
            "box",
            "mask",
        ]

    def test_the_activation_nearest_to_its_tolerance_is_named(self) -> None:
        activations = (
            activation("decoder.logits", 9e-7, 1e-6),
            activation("masks", 8e-6, 1e-5),
            activation("pointer", 1e-9),
        )
        text = Document(page(report(replace(image(), activations=activations)))).text
        assert (
            "Nearest to it is decoder.logits of point: difference 9.0e-07, tolerance 1.0e-06."
            in text
        )

    def test_a_yes_says_how_close_it_is_and_what_is_left_out(self) -> None:
        text = Document(page(report(image(), video(), KNOWN, NOT_RUN))).text
        assert "Not in parity" not in text
        assert (
            "All 148 activations of 2 scenarios are within tolerance. "
            "Nearest to it is frame0.object1." in text
        )
        assert "With a known difference: 1 scenario. Not run: 1 scenario." in text
        assert "it rounds twice" in text
        assert "The results differ by 3.0e-02." in text
        assert "it has no memory" in text
        assert "equal to the last bit" in Document(page(report(image()))).text

    def test_negative_controls_and_sensitivity(self) -> None:
        blind = NegativeControl("video-point", "c.bias", 0.01, detected=False, activation=None)
        sensitivity = Sensitivity(471, ("d.bias", "e.bias"), {"d.bias": "softmax ignores it"})
        text = Document(
            page(
                replace(
                    PASSING,
                    negative_controls=(*PASSING.negative_controls, blind),
                    sensitivity=sensitivity,
                )
            )
        ).text
        assert "Not in parity" in text
        assert (
            "a.weight was changed by 1% of its scale in point: detected, first at decoder" in text
        )
        assert "c.bias was changed by 1% of its scale in video-point: not detected." in text
        assert "471 tensors changed one at a time: 469 detected." in text
        assert "Not detectable: d.bias; softmax ignores it." in text
        assert "Not detected, and should have been: e.bias." in text

    def test_tolerances_are_explained(self) -> None:
        assert "(another kernel, float64)" in Document(page(PASSING)).text
        assert "The tolerance is 10 times the noise." in Document(page(PASSING)).text
        exact = Document(page(replace(PASSING, exact=True, scenarios=(image(),)))).text
        assert "The tolerance is 0" in exact

    @pytest.mark.parametrize(
        "where", ["source", "note", "sha256", "backend", "input", "why", "diagnosis"]
    )
    def test_foreign_text_is_escaped(self, where: str) -> None:
        def shown(text: str) -> Document:
            left = replace(
                side(
                    "truth" if where != "backend" else text, text if where == "source" else "a.pt"
                ),
                notes=(text if where == "note" else "n",),
                sha256={text if where == "sha256" else "f": "0", "g": "1"},
            )
            point = replace(image(), input=text if where == "input" else "i")
            not_run = replace(NOT_RUN, why=text if where == "why" else "w")
            found = Diagnosis(text if where == "diagnosis" else "c", "masks", text)
            return Document(page(replace(report(point, not_run), left=left, diagnosis=(found,))))

        harmless, hostile = shown("plain"), shown(HOSTILE)
        assert [tag for tag, _ in hostile.elements if tag != "wbr"] == [
            tag for tag, _ in harmless.elements if tag != "wbr"
        ]
        assert HOSTILE in hostile.text

    def test_the_quick_set_is_small(self) -> None:
        pictures = [image(name, apart=0.2, pixels=scene(1024)) for name in QUICK if "v" not in name]
        assert 100_000 < len(page(report(*pictures, video("video-point", 3)))) < 3_000_000


@pytest.mark.parametrize(
    ("apart", "allowed", "expected"),
    [
        (0, 1e-6, "zero"),
        (0, 0, "zero"),
        (0.9e-8, 1e-6, "in1"),
        (0.9e-7, 1e-6, "in2"),
        (1e-6, 1e-6, "in3"),
        (1.1e-6, 1e-6, "out1"),
        (1.1e-5, 1e-6, "out2"),
        (1.1e-3, 1e-6, "out3"),
        (1e-9, 0, "out1"),
        (1e-5, 0, "out2"),
        (1e-3, 0, "out3"),
        (float("inf"), 1e-6, "out3"),
        (float("nan"), 1e-6, "out3"),
        (float("nan"), 0, "out3"),
    ],
)
def test_the_colour_of_an_activation(apart: float, allowed: float, expected: str) -> None:
    found = replace(activation(), relative=apart, tolerance=allowed)
    assert band(found) == expected
    assert found.within is not expected.startswith("out")


def test_no_number_is_rounded_to_0_or_1() -> None:
    assert [share(x) for x in (None, 0, 0.99999, 1)] == ["", "0", "0.9999", "1"]
    assert [percent(x) for x in (None, 0, 1e-9, 0.5)] == ["", "0", "0.01 %", "50.00 %"]
    assert [ratio(activation(apart=x)) for x in (0, 1e-12, 5e-7, 1e-3)] == [
        "",
        "1.0e-06",
        "0.50",
        "1.0e+03",
    ]


class TestPictures:
    @staticmethod
    def panels(shown: View) -> list[Pixels]:
        (markup,) = views((shown,), "truth", "sam2")
        data = re.findall(r"base64,([^\"]+)", markup)
        return [
            np.asarray(Image.open(io.BytesIO(base64.b64decode(one))).convert("RGB")) for one in data
        ]

    @staticmethod
    def loud(pixels: Pixels) -> int:
        return int((pixels == LOUD).all(axis=-1).sum())

    @pytest.mark.parametrize(
        "size", [(1024, 1024), (97, 1501), (1501, 97), (128, 128), (180, 240), (1, 1)]
    )
    def test_a_single_pixel_that_differs_is_visible(self, size: tuple[int, int]) -> None:
        pixels, empty = np.full((*size, 3), 90, np.uint8), np.zeros(size, bool)
        same = self.panels(View("", pixels, None, empty, empty))
        assert [self.loud(panel) for panel in same] == [0, 0, 0, 0]
        for at in ((0, 0), (size[0] - 1, size[1] - 1), (size[0] // 2, size[1] // 3)):
            other = empty.copy()
            other[at] = True
            panels = self.panels(View("", pixels, None, empty, other))
            assert all(max(panel.shape) <= 480 for panel in panels)
            assert self.loud(panels[3]) > 0

    def test_prompts_and_both_masks_are_drawn(self) -> None:
        grey = np.full((200, 200, 3), 90, np.uint8)
        asked, left, right, difference = self.panels(view(grey, differing=True))
        marks = (asked != 90).any(axis=-1)
        assert 100 < marks.sum() < marks.size / 4
        assert tuple(asked[100, 100]) == (255, 255, 255)  # the plus of the point, twice as large
        assert (left[150] != 90).any(axis=-1).mean() == pytest.approx(0.5)
        assert (right[150] != 90).any(axis=-1).mean() == pytest.approx(0.4)
        assert self.loud(difference) / marks.size == pytest.approx(0.075, abs=0.005)

    def test_a_photograph_gets_fewer_colours_and_a_drawing_keeps_its_own(self) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (300, 480, 3), np.uint8)
        assert len(np.unique(self.panels(view(noise))[1].reshape(-1, 3), axis=0)) <= 64
        drawn = scene(480)
        kept = self.panels(view(drawn))[1]
        assert (kept[:100] == drawn[:100]).all()

    def test_later_views_are_folded_up(self) -> None:
        shown = tuple(view(scene(32), differing=n == 9) for n in range(10))
        *rows, folded = views(shown, "a", "b")
        assert len(rows) == 4
        assert "6 more; pixels differ in 1 of them" in folded


class TestNotebook:
    """A notebook shows what ``_repr_html_`` returns."""

    @pytest.mark.parametrize("shown", [PASSING, FAILING, LONG_NAMES], ids=["yes", "no", "long"])
    def test_a_report_is_shown_as_its_page(self, shown: ParityReport) -> None:
        ((tag, attributes),) = Document(shown._repr_html_()).elements
        assert tag == "iframe"
        assert attributes["srcdoc"] == page(shown)
        assert attributes["sandbox"] == ""  # no scripts, not even those of a hostile file name

    def test_no_style_leaks_into_the_notebook(self) -> None:
        html = FAILING._repr_html_()
        assert "<style" not in html
        assert html.count("<") == 2  # the tags of the frame


@pytest.mark.parametrize("package", ["comparison.page", "evaluation.page", "markup"])
def test_the_style_is_part_of_the_package(package: str) -> None:
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folder = ROOT / "sam21convert" / package.replace(".", "/")
    every = {path for path in folder.rglob("*") if path.is_file()}
    data = {path for path in every if path.suffix not in (".py", ".pyc")}
    patterns = setup["package-data"][f"sam21convert.{package}"]
    assert data == {path for pattern in patterns for path in folder.glob(pattern)} != set()


BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
)
# Of the verdict's edge, in light and in dark.
EDGES = {"yes": ((31, 95, 158), (125, 183, 236)), "no": ((184, 67, 11), (245, 154, 87))}
Screen = NDArray[np.uint8]


def browse(tmp_path: Path, html: str, *options: str) -> str:
    """Open a page in a browser, and return what the browser prints."""
    assert BROWSER is not None
    source = tmp_path / "shown.html"
    source.write_text(html)
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    command = [BROWSER, *OPTIONS, profile, *options, source.as_uri()]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


def count(screen: Screen, colour: tuple[int, int, int]) -> int:
    return int((screen == colour).all(axis=-1).sum())


def has_edge(screen: Screen, colour: tuple[int, int, int]) -> bool:
    """Whether there is an upright line of that colour, at least 4 pixels wide and 60 high."""
    return bool(((screen == colour).all(axis=-1).sum(axis=0) >= 60).sum() >= 4)


@pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine")
class TestInABrowser:
    @pytest.fixture
    def shoot(self, tmp_path: Path) -> Callable[[str], Screen]:
        def shoot(html: str) -> Screen:
            path = tmp_path / "screen.png"
            browse(tmp_path, html, "--window-size=1200,3200", f"--screenshot={path}")
            return np.asarray(Image.open(path).convert("RGB"))

        return shoot

    @pytest.fixture
    def overflow(self, tmp_path: Path) -> Callable[[str, int], int]:
        """By how many pixels a page is wider than a window of that width."""

        def overflow(html: str, width: int) -> int:
            frame = (
                f"<iframe width={width} height=900 style=border:0 srcdoc='{escape(html)}'></iframe>"
            )
            script = "document.title = frames[0].document.documentElement.scrollWidth"
            around = f"<!doctype html>{frame}<script>onload = () => {{ {script} }}</script>"
            found = re.search(r"<title>(\d+)</title>", browse(tmp_path, around, "--dump-dom"))
            assert found is not None
            return int(found[1]) - width

        return overflow

    @pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
    @pytest.mark.parametrize("verdict", ["yes", "no"])
    def test_the_verdict_and_the_differences_have_their_colours(
        self, shoot: Callable[[str], Screen], verdict: str, dark: bool
    ) -> None:
        shown = report(image("point")) if verdict == "yes" else report(image("point", apart=0.2))
        html = page(shown)
        if dark:
            html = html.replace("@media (prefers-color-scheme: dark)", "@media all")
        screen = shoot(html)
        assert bool(screen.mean() < 100) is dark
        banner = screen[:220]
        other = {"yes": "no", "no": "yes"}[verdict]
        assert has_edge(banner, EDGES[verdict][dark])
        assert count(banner, EDGES[other][dark]) == 0
        assert (count(screen, LOUD) > 500) is (verdict == "no")
        assert (count(screen, LOUD) == 0) is (verdict == "yes")

    def test_nothing_that_belongs_together_is_split_between_printed_pages(
        self, tmp_path: Path
    ) -> None:
        """Columns as high as letter paper break where its pages do, and a script sees them."""
        shown = report(image(), image("box", apart=0.2), KNOWN, NOT_RUN, video("two", 9), video())
        sheet = "main { columns: 700px; column-fill: auto; column-gap: 100px; height: 940px; }"
        paper = page(shown).replace("@media print", "@media all")
        paper = paper.replace("</style>", f"{sheet}</style>")
        anywhere = re.sub(r"break-(inside|after): avoid;", "", paper)
        script = """
            const place = at => Math.floor(at.left / 800);
            const columns = box => new Set([...box.getClientRects()].map(place));
            const count = page => {
              const boxes = [...page.querySelectorAll("figure, article, tr, .verdict, .panels")];
              const heads = [...page.querySelectorAll("h2")].filter(one => one.nextElementSibling);
              const alone = heads.filter(head =>
                columns(head).isDisjointFrom(columns(head.nextElementSibling)));
              return boxes.filter(box => columns(box).size > 1).length + alone.length;
            };
            document.title = [0, 1].map(at => count(frames[at].document)).join(" ");"""
        shells = "".join(
            f"<iframe width=700 height=980 srcdoc='{escape(one)}'></iframe>"
            for one in (paper, anywhere)
        )
        around = f"<!doctype html>{shells}<script>onload = () => {{ {script} }}</script>"
        found = re.search(r"<title>(.*)</title>", browse(tmp_path, around, "--dump-dom"))
        assert found is not None
        ours, control = map(int, found[1].split())
        assert ours == 0
        assert control > 0

    def test_a_page_without_its_style_fails_the_check(self, shoot: Callable[[str], Screen]) -> None:
        plain = shoot(re.sub("<style>.*</style>", "", page(PASSING), flags=re.DOTALL))
        assert not has_edge(plain[:220], EDGES["yes"][0])

    @pytest.mark.parametrize("width", [400, 760, 1200])
    @pytest.mark.parametrize("shown", [PASSING, FAILING, LONG_NAMES], ids=["yes", "no", "long"])
    def test_a_page_fits_its_window(
        self, overflow: Callable[[str, int], int], shown: ParityReport, width: int
    ) -> None:
        assert overflow(page(shown), width) <= 0
        if shown is PASSING:
            wide = page(shown).replace("<main>", "<main><div style=width:1300px>.</div>")
            assert overflow(wide, width) > 0
