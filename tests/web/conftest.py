from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

import sam21convert
from sam21convert.prediction.draw import scene
from sam21convert.web.sides import Side, open_sides

from ..support.checkpoints import DEBUG, official_pt

if TYPE_CHECKING:  # the rest of it needs what the test modules are skipped without
    from ..support.web import Page, Served

FRAMES = 12


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two checkpoints, a picture and a folder of twelve frames."""
    home = tmp_path_factory.mktemp("looking")
    for number, name in enumerate(("first.pt", "second.pt")):
        sam21convert.sample(home / name, DEBUG, number)
        _make_sure(home / name)
    Image.fromarray(scene(120)[:90]).save(home / "house.png")
    (home / "frames").mkdir()
    for number in range(FRAMES):
        moved = np.roll(scene(96)[:72], 2 * number, axis=1)
        Image.fromarray(moved).save(home / "frames" / f"{number:05}.jpg", quality=95)
    return home


def _make_sure(path: Path) -> None:
    """Let a model see every object, expect much of its masks, and give them steep edges."""
    tensors = torch.load(path)["model"]
    decoder = "sam_mask_decoder"
    tensors[f"{decoder}.pred_obj_score_head.layers.2.bias"] += 20
    tensors[f"{decoder}.iou_prediction_head.layers.2.bias"] += 4
    for number in range(4):
        for name in ("weight", "bias"):
            tensors[f"{decoder}.output_hypernetworks_mlps.{number}.layers.2.{name}"] *= 50
    official_pt(path, tensors)


@pytest.fixture(scope="session")
def one(work: Path) -> tuple[Side, ...]:
    """A checkpoint that is loaded."""
    return open_sides([str(work / "first.pt")], device="cpu")


@pytest.fixture(scope="session")
def two(work: Path) -> tuple[Side, ...]:
    """Two that are loaded."""
    return open_sides([str(work / name) for name in ("first.pt", "second.pt")], device="cpu")


@pytest.fixture(scope="module")
def alone(one: tuple[Side, ...]) -> Iterator[Served]:
    from ..support.web import serving

    with serving(one) as server:
        yield server


@pytest.fixture(scope="module")
def both(two: tuple[Side, ...]) -> Iterator[Served]:
    from ..support.web import serving

    with serving(two) as server:
        yield server


@pytest.fixture
def page(both: Served) -> Iterator[Page]:
    """A page that looks at two checkpoints."""
    from ..support.web import Page

    opened = Page(both)
    yield opened
    opened.ask("close")


@pytest.fixture
def frames(work: Path) -> list[Path]:
    return sorted((work / "frames").iterdir())
