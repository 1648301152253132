"""The page of an evaluation: self-contained, bounded, and true to the scores."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sam21convert
from sam21convert.evaluation.datasets import open_dataset
from sam21convert.evaluation.expect import with_expected
from sam21convert.evaluation.figures import FIGURES
from sam21convert.evaluation.page.charts import lines, steps
from sam21convert.evaluation.page.page import page
from sam21convert.evaluation.page.videos import SHOWN, worst_videos
from sam21convert.evaluation.paired import compare
from sam21convert.evaluation.protocols import ObjectScore
from sam21convert.evaluation.report import Evaluation, FailedVideo
from sam21convert.evaluation.worst import draw_worst, over_frames, worst_frame

from ..support import tracked_masks as drawn
from ..support.html import Document

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with frames, masks of one program, and of another that shifts them."""
    home = tmp_path_factory.mktemp("page")
    root, masks = drawn.davis(home)
    for folder in masks.iterdir():
        ids = np.stack([np.array(Image.open(path)) for path in sorted(folder.iterdir())])
        drawn.write(home / "other" / folder.name, drawn.moved(ids, 0, len(folder.name) % 4))
        frames = root / "JPEGImages/480p" / folder.name
        frames.mkdir(parents=True)
        for number in range(drawn.FRAMES):
            frame = np.full((drawn.HEIGHT, drawn.WIDTH, 3), 20 * number, np.uint8)
            Image.fromarray(frame).save(frames / f"{number:05d}.jpg")
    return home


@pytest.fixture(scope="module")
def both(home: Path) -> Evaluation:
    one, other = (sam21convert.score(home / name, home / "DAVIS") for name in ("masks", "other"))
    one, other = (
        replace(
            found,
            checkpoint=Path(name),
            sha256={name: "ab" * 32},
            model="sam2/sam2_hiera_t",
            image_size=1024,
            backend="truth",
            dtype="float32",
        )
        for found, name in ((one, "sam2_hiera_tiny.pt"), (other, "my_finetune.pt"))
    )
    paired = compare(one.per_object, other.per_object, 1234, 567_890)
    return with_expected(replace(one, against=other, paired=paired), None)


@pytest.fixture(scope="module")
def pictures(home: Path, both: Evaluation) -> Path:
    assert both.against is not None
    for video in open_dataset(home / "DAVIS").videos:
        scores = [
            [one for one in found.per_object if one.video == video.name]
            for found in (both, both.against)
        ]
        folders = [home / name / video.name for name in ("masks", "other")]
        draw_worst(video, scores, folders, home / "pictures" / video.name)
    return home / "pictures"


def kinds(both: Evaluation) -> Iterator[Evaluation]:
    yield both
    yield replace(both, against=None, paired=None)
    yield replace(both, against=None, paired=None, expected=None, checkpoint=None, masks=Path("m"))
    yield replace(both, jf=None, j=None, f=None, per_object=(), against=None, paired=None)
    failed = (FailedVideo(HOSTILE, f"{HOSTILE}: is broken", None),)
    yield replace(both, failed=failed, notes=(HOSTILE,), data=Path("a") / HOSTILE[:7])


def test_nothing_comes_from_elsewhere_and_nothing_runs(both: Evaluation, pictures: Path) -> None:
    for found in kinds(both):
        document = Document(page(found, pictures))
        assert all(source.startswith("data:image/jpeg;") for source in document.values("src"))
        assert not {tag for tag, _ in document.elements} & {"script", "link", "iframe", "object"}
        assert not [name for _, given in document.elements for name in given if name[:2] == "on"]
        assert all(link.startswith("https://github.com/") for link in document.values("href"))
        policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
        assert policy in document.values("content")


def test_everything_is_said_in_words_too(both: Evaluation, pictures: Path) -> None:
    document = Document(page(both, pictures))
    images = [given for tag, given in document.elements if tag == "img"]
    assert len(images) == 4 * SHOWN
    assert all(given["alt"] for given in images)
    charts = [given for tag, given in document.elements if tag == "svg"]
    assert len(charts) == 1 + SHOWN
    assert all(given["role"] == "img" and given["aria-label"] for given in charts)
    heads = [given for tag, given in document.elements if tag == "th"]
    assert all(given["scope"] in ("row", "col") for given in heads)


def test_the_title_names_current_folders_too(
    both: Evaluation, pictures: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    here = replace(both, checkpoint=Path(), data=Path(".."))
    html = page(here, pictures)
    assert f"<title>How well {tmp_path.name} tracks {tmp_path.parent.name}</title>" in html


def test_a_backend_stands_before_its_checkpoint(both: Evaluation, pictures: Path) -> None:
    assert both.against is not None
    found = replace(both, against=replace(both.against, checkpoint=both.checkpoint, backend="sam2"))
    name = str(both.checkpoint)
    assert f"First: {name}. Second: sam2:{name}." in page(found, pictures)
    shown = [line.split() for line in str(found).splitlines()]
    assert [words[-1] for words in shown if words[:1] == ["tracked"]] == [name, f"sam2:{name}"]


def test_the_page_says_what_has_tracked(both: Evaluation, pictures: Path) -> None:
    text = page(replace(both, tracked_on=("NVIDIA H100", "cpu, 7 threads")), pictures)
    assert "NVIDIA H100" in text
    assert "cpu, 7 threads" in text


def test_published_figures_stand_beside_those_of_two_checkpoints(
    both: Evaluation, pictures: Path
) -> None:
    html = page(both, pictures)
    assert both.against is not None
    row = re.search(r'<tr class="published">(.*?)</tr>', html)
    assert row is not None
    for figure in FIGURES["sam2_hiera_tiny"].values():
        assert f"<td>{figure}</td>" in row[1]
    for one in (both, both.against):
        assert f"<td>{one.jf:.1f}</td>" in html
    assert "no published figure: the README" in html
    unknown = replace(both, model=None, against=None, paired=None)
    assert 'class="published"' not in page(unknown, pictures)


def test_objects_are_sorted_by_what_they_lost(both: Evaluation, pictures: Path) -> None:
    html = page(both, pictures)
    table = html[html.index('class="objects"') :]
    shown = [float(text) for text in re.findall(r"<td>([+-][\d.]+)</td>", table)]
    assert both.against is not None
    pairs = zip(both.per_object, both.against.per_object, strict=True)
    lost = sorted(b.jf - a.jf for a, b in pairs)
    assert shown == [float(f"{value:+.1f}") for value in lost[:10]]


def test_pictures_show_frame_truth_and_both_masks(both: Evaluation, pictures: Path) -> None:
    html = page(both, pictures)
    for name in worst_videos(both):
        files = [pictures / name / f"{kind}.jpg" for kind in ("frame", "truth", "first", "second")]
        found = [path.read_bytes() for path in files]
        assert len({*found}) >= 3  # one of the two may be right
        for data in found:
            picture = Image.open(BytesIO(data))
            assert picture.size == (drawn.WIDTH, drawn.HEIGHT)
    sources = re.findall(r'src="data:image/jpeg;base64,(.*?)"', html)
    assert b64decode(sources[0]) == (pictures / worst_videos(both)[0] / "frame.jpg").read_bytes()
    assert "<img" not in page(both, pictures / "nowhere")


def test_the_worst_frame_is_that_of_the_largest_loss() -> None:
    def object_of(*j: float) -> ObjectScore:
        names = tuple(str(at) for at in range(len(j)))
        return ObjectScore("v", "1", 0, 0, len(j), names, j, j)

    first, second = object_of(0.9, 0.2, 0.8), object_of(0.8, 0.2, 0.3)
    assert worst_frame([[first], [second]]) == "2"
    assert worst_frame([[first]]) == "1"
    assert worst_frame([[first], [first]]) == "1"  # nothing is lost: the lowest
    assert worst_frame([[]]) is None
    assert over_frames([first, second]) == pytest.approx({"0": 85, "1": 20, "2": 55})


@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_pictures_are_small_and_need_the_frame(home: Path, tmp_path: Path, ending: str) -> None:
    video = open_dataset(home / "DAVIS").videos[0]
    scores = [[one for one in drawn_scores(home) if one.video == video.name]]
    large = tmp_path / "frames"
    large.mkdir()
    Image.new("RGB", (1600, 960)).save(large / f"{worst_frame(scores)}.{ending}")
    draw_worst(replace(video, frames=large), scores, [home / "masks" / video.name], tmp_path / "a")
    for path in (tmp_path / "a").iterdir():
        assert Image.open(BytesIO(path.read_bytes())).size == (480, 288)
    assert {path.stem for path in (tmp_path / "a").iterdir()} == {"frame", "truth", "first"}
    draw_worst(replace(video, frames=tmp_path / "no"), scores, [], tmp_path / "b")
    assert not (tmp_path / "b").exists()


def drawn_scores(home: Path) -> tuple[ObjectScore, ...]:
    return sam21convert.score(home / "masks", home / "DAVIS").per_object


def test_charts_stay_small_and_keep_the_lowest() -> None:
    values = [90.0] * 100_000
    values[54_321] = 3.0
    chart = lines([values], "said")
    assert len(chart) < 20_000
    assert " 97.0" in chart  # 100 - 3, from above
    assert 'aria-label="said"' in chart
    assert "<span>0</span>" in steps([5.0, 10.0], "all above")
    assert "<span>+2.0</span><span>-5.0</span>" in steps([-5.0, 0.0, 2.0], "both ways")
    assert steps([0.0, 0.0], "nothing")  # no range to divide by


def test_two_of_one_name_are_told_apart(both: Evaluation, pictures: Path) -> None:
    assert both.against is not None
    runs = [Path("runs") / number / "checkpoint.pt" for number in ("1", "2")]
    second = replace(both.against, checkpoint=runs[1])
    shown = Document(page(replace(both, checkpoint=runs[0], against=second), pictures)).text
    assert f"First: {runs[0]}. Second: {runs[1]}." in shown


def test_published_figures_are_announced_where_there_are_any(both: Evaluation) -> None:
    alone = replace(both, against=None, paired=None)
    for found, announced in ((alone, True), (replace(alone, model=None, expected=None), False)):
        assert ("beside the published figures" in page(found, Path("none"))) is announced
