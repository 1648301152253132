"""What is said of a score beside the published one, and when it may be said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sam21convert.evaluation.expect import expected
from sam21convert.evaluation.figures import BENCHMARKS, FIGURES, SAV_TEST, SOURCE
from sam21convert.evaluation.report import Evaluation
from sam21convert.hub.published import PUBLISHED

from ..support.paths import ROOT

TINY = next(one for one in PUBLISHED if one.name == "sam2_hiera_tiny")
# The whole of SA-V test, as the published figures are of it.
WHOLE = Evaluation(
    data=Path("sav_test"),
    layout="sav",
    protocol="sav",
    checkpoint=Path("model.pt"),
    sha256={"model.pt": TINY.sha256},
    masks=None,
    videos=150,
    objects=278,
    frames=9000,
    j=71.0,
    f=79.0,
    jf=75.0,
    per_object=(),
    notes=(),
    model=TINY.config,
    image_size=1024,
    backend="truth",
    dtype="bfloat16",
)
LIST = Path("sav_test.txt")


def test_every_published_checkpoint_has_figures_of_every_benchmark() -> None:
    assert {*FIGURES} == {one.name for one in PUBLISHED}
    names = {one.name for one in BENCHMARKS} - {"SA-V val"}
    assert all({*figures} == names for figures in FIGURES.values())
    # The larger the model, the better; each of 2.1 is above the same of 2.0.
    for benchmark in names:
        for size in ("tiny", "small", "base_plus", "large"):
            new, old = (FIGURES[f"{stem}_hiera_{size}"][benchmark] for stem in ("sam2.1", "sam2"))
            assert new >= old


@pytest.mark.parametrize(
    ("jf", "ok", "text"),
    [
        (75.0, True, "75.0 of sam2_hiera_tiny on SA-V test; here +0.0, within the 0.5"),
        (74.6, True, "here -0.4, within"),  # what somebody got
        (74.51, True, "here -0.5, within"),
        (74.49, False, "here -0.5, lower by more than the 0.5 that is known of others"),
        (60.0, False, "here -15.0, lower by more"),
        (77.0, True, "here +2.0, higher by more"),
    ],
)
def test_the_whole_of_a_benchmark(jf: float, ok: bool, text: str) -> None:
    found = expected(replace(WHOLE, jf=jf), LIST)
    assert (found.ok, found.why, found.published_file) == (ok, None, True)
    assert found.apart == pytest.approx(jf - 75.0)
    assert text in found.answer
    assert found.source == SOURCE
    assert replace(WHOLE, jf=jf, expected=found).exit_code == (0 if ok else 1)


def test_what_was_not_scored_is_not_compared() -> None:
    found = expected(replace(WHOLE, jf=None, j=None, f=None, objects=0), LIST)
    assert (found.ok, found.apart, found.why) == (True, None, "nothing was scored")


def test_the_document_shows_the_same_figures() -> None:
    lines = (ROOT / "docs" / "evaluation.md").read_text().splitlines()
    rows = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in lines]
    shown = {row[0]: [*map(float, row[1:])] for row in rows if row and row[0] in FIGURES}
    assert shown == {name: [*figures.values()] for name, figures in FIGURES.items()}


def test_what_is_lower_is_no_if_either_of_two_is() -> None:
    low = replace(WHOLE, jf=60.0)
    low = replace(low, expected=expected(low, LIST))
    assert replace(WHOLE, against=low).exit_code == 1


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            {"videos": 149, "objects": 270},
            "has 150 videos and 278 objects, and here are 149 videos",
        ),
        ({"objects": 277}, "and here are 150 videos and 277 objects"),
        ({"image_size": 512}, "at 512 pixels, and the published figure is at 1024"),
        ({"protocol": "mosev2"}, "the rules of mosev2 are not those"),
        ({"model": "debug/sam2_debug"}, "this architecture is not a published one"),
        ({"model": None}, "this architecture is not a published one"),
        ({"layout": "davis", "protocol": "davis"}, "has none of data of layout davis"),
        ({"layout": "youtube"}, "has none of data of layout youtube"),
        ({"layout": "mose", "protocol": "davis", "videos": 311, "jf": None}, "MOSE's server"),
        ({"layout": "lvos", "protocol": "lvos", "videos": 140}, "136 of its videos"),
        ({"layout": "lvos", "protocol": "lvos", "videos": 50}, "LVOS v2 val has 140 videos"),
    ],
)
def test_what_cannot_be_compared_is_never_a_no(change: dict[str, Any], why: str) -> None:
    """However low the score is."""
    low: dict[str, Any] = {"jf": 10.0, **change}
    found = expected(replace(WHOLE, **low), LIST if "layout" not in change else None)
    assert found.ok
    assert found.why is not None
    assert why in found.why
    assert why in found.answer
    if "videos" in change and change["videos"] not in (140, 311):
        assert found.apart is None


def test_of_val_there_is_no_figure() -> None:
    val = replace(WHOLE, videos=155, objects=293)
    for listed in (Path("sav_val.txt"), None):
        found = expected(val, listed)
        assert (found.benchmark, found.figure, found.ok) == ("SA-V val", None, True)
        assert found.answer == "no published figure: the README of SAM 2 has no figures of SA-V val"
    part = expected(replace(val, videos=3, objects=5), Path("sav_val.txt"))
    assert part.benchmark == "SA-V val"


def test_without_a_list_the_number_of_videos_tells() -> None:
    assert expected(WHOLE, None).benchmark == SAV_TEST.name
    assert expected(WHOLE, None).why is None


def test_another_file_and_another_type_are_said() -> None:
    other = replace(WHOLE, sha256={"model.pt": "0" * 64}, dtype="float32")
    found = expected(other, LIST)
    assert not found.published_file
    assert "has the architecture of sam2_hiera_tiny and is another file" in found.notes[0]
    assert found.notes[1].startswith("tracked in float32; the published figures are of bfloat16")
    assert "issues/279" in found.notes[2]
    assert len(expected(WHOLE, LIST).notes) == 1
    text = str(replace(other, expected=found))
    assert "published" in text
    assert SOURCE in text
