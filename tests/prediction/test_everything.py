"""``predict image --everything`` draws all masks and writes them as COCO's tools read them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image

import sam21convert
from sam21convert.commands.main import main
from sam21convert.config.registry import shipped_config
from sam21convert.model import SAM2, SAM2AutomaticMaskGenerator, run_lengths
from sam21convert.prediction.draw import Mask, drawing_of, scene

from ..support.answers import conforms
from ..support.checkpoints import DEBUG, official_pt
from ..support.official import randomise
from ..support.progress import Recorded

# What random weights find is neither sure nor stable.
GRID = {"points_per_side": 3, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}
OPTIONS = ["--points-per-side", "3", "--iou-threshold", "0", "--stability-threshold", "0"]
TOLD = {"area", "bbox", "iou", "stability"}


@dataclass(frozen=True)
class Everything:
    """What the command wrote and said, and what the generator finds in the same picture."""

    home: Path
    words: list[str]
    told: list[dict[str, Any]]
    coco: dict[str, Any]
    expected: list[dict[str, Any]]

    @property
    def masks(self) -> list[Mask]:
        """Those of the generator, the largest first."""
        return [one["segmentation"] for one in self.expected]


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Everything:
    home = tmp_path_factory.mktemp("everything")
    picture, out = home / "in.png", home / "out.png"
    Image.fromarray(scene(96)).save(picture)
    weights = randomise(SAM2(shipped_config(DEBUG)), seed=2)
    pt = official_pt(home / "m.pt", weights)
    words = ["predict", "image", str(picture), "--checkpoint", str(pt), "-o", str(out), "--json"]
    ran = CliRunner().invoke(main, [*words, "--everything", *OPTIONS])
    assert ran.exit_code == 0, ran.output
    coco = json.loads((home / "out.coco.json").read_text())
    model, _ = sam21convert.load_model(pt, device="cpu")
    found = SAM2AutomaticMaskGenerator(model, **GRID).generate(scene(96))  # type: ignore[arg-type]
    found.sort(key=lambda one: -one["area"])
    return Everything(home, words, conforms(ran.stdout)["masks"], coco, found)


def counted(mask: Mask) -> dict[str, Any]:
    """A mask as COCO's text."""
    return run_lengths.as_text(run_lengths.encode(mask))


def shown(masks: list[Mask]) -> NDArray[Any]:
    """The picture with masks drawn."""
    return np.asarray(drawing_of(scene(96), masks))


def test_the_annotations_hold_the_masks_of_the_generator(everything: Everything) -> None:
    (image,), found = everything.coco["images"], everything.coco["annotations"]
    assert image == {"id": 1, "file_name": "in.png", "width": 96, "height": 96}
    assert [one["id"] for one in found] == list(range(1, len(found) + 1))
    held = [one["segmentation"] for one in found]
    assert held == [*map(counted, everything.masks)]
    assert len({one["counts"] for one in held}) > 1
    assert held != [*map(counted, everything.masks[::-1])]


def test_the_drawing_shows_them(everything: Everything) -> None:
    drawn = np.asarray(Image.open(everything.home / "out.png"))
    assert np.array_equal(drawn, shown(everything.masks))
    assert not np.array_equal(drawn, shown(everything.masks[1:]))


def test_the_report_says_of_each_what_the_generator_does(everything: Everything) -> None:
    names = {"iou": "predicted_iou", "stability": "stability_score"}
    expected = [
        {name: one[names.get(name, name)] for name in sorted(TOLD)} for one in everything.expected
    ]
    told = [{name: one[name] for name in sorted(TOLD)} for one in everything.told]
    assert told == expected
    assert [[one["area"], one["bbox"]] for one in everything.coco["annotations"]] == [
        [one["area"], one["bbox"]] for one in expected
    ]
    assert all(len({str(one[name]) for one in told}) > 1 for name in TOLD)


def test_in_python_with_progress_and_without_files(everything: Everything) -> None:
    before = sorted(everything.home.iterdir())
    progress = Recorded()
    found = sam21convert.predict_everything(
        everything.home / "in.png",
        everything.home / "m.pt",
        settings=GRID,
        device="cpu",
        progress=progress,
    )
    assert sorted(everything.home.iterdir()) == before
    assert all(map(np.array_equal, found.arrays, everything.masks))
    assert np.array_equal(found.masks, np.stack(everything.masks))
    assert np.array_equal(np.asarray(found.overlay), shown(everything.masks))
    assert len(found.arrays) == len(found.arrays[:]) == len(everything.masks)
    assert (progress.label, progress.total, progress.done) == ("segmenting", 9, 9)


@pytest.mark.parametrize("wrong", [["--everything", "--point", "3,3"], ["--crops", "1"]])
def test_prompts_and_settings_exclude_each_other(everything: Everything, wrong: list[str]) -> None:
    ran = CliRunner().invoke(main, [*everything.words, "--overwrite", *wrong])
    assert ran.exit_code == 2
