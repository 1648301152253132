"""An export on the page of ``serve``: its masks are those of ``predict`` with the same folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

import sam21convert
from sam21convert import Point
from sam21convert.model.run_lengths import decode
from sam21convert.prediction.draw import scene
from sam21convert.web.sides import open_sides

from ..support.exports import Exported
from ..support.web import Page, serving

AT = (40.0, 50.0)
_SCORE = "sam_mask_decoder.pred_obj_score_head.layers.2.bias"


@pytest.fixture
def sure(newer: Exported, tmp_path: Path) -> Path:
    """An export that sees every object, so that there are masks."""
    folder = Path(shutil.copytree(newer.folder, tmp_path / "sure"))
    path = folder / "onnx" / "frame_decoder.onnx"
    model = onnx.load(path)
    (score,) = (one for one in model.graph.initializer if one.name == _SCORE)
    score.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(score) + np.float32(50), _SCORE))
    onnx.save(model, path)
    return folder


def test_a_picture_and_a_video(sure: Path, tmp_path: Path) -> None:
    picture, frames, out = tmp_path / "house.png", tmp_path / "frames", tmp_path / "out"
    Image.fromarray(scene(96)).save(picture)
    frames.mkdir()
    for number in range(3):
        moved = np.roll(scene(96), 4 * number, axis=1)
        Image.fromarray(moved).save(frames / f"{number:05}.jpg")
    with serving(open_sides([str(sure)])) as server:
        page = Page(server)
        page.open(picture)
        (answer,) = page.ask("prompt", points=[[*AT, 1]])["sides"]
        wanted = sam21convert.predict_image(picture, sure, None, [Point(*AT)], multimask=True)
        assert np.array_equal([decode(mask) for mask in answer["masks"]], wanted.masks)
        assert 0 < wanted.masks.mean() < 1
        (refusal,) = page.lines("everything", points_per_side=8)
        assert "everything is found by torch alone" in refusal["error"]
        page.open(*sorted(frames.iterdir()))
        page.ask("mark", object="1", frame=0, points=[[*AT, 1]])
        *told, _ = page.lines("follow")
        sam21convert.predict_video(frames, sure, out, [Point(*AT)])
        found = [decode(line["sides"][0]["1"]) for line in told]
        written = [np.asarray(Image.open(path)) > 0 for path in sorted(out.glob("masks/1/*.png"))]
        assert np.array_equal(found, written)
        assert 0 < np.mean(found) < 1
