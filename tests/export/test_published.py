"""Models of every published size become programs that compute what the models do.

    pytest -m slow tests/export/test_published.py

Tiny runs with the other tests, at a smaller image.
"""

from __future__ import annotations

import faulthandler
from dataclasses import replace
from pathlib import Path

import pytest

import sam21convert
from sam21convert.config.registry import SHIPPED, shipped_config

# At full size the encoder takes nearly all of the time, so fewer pictures are encoded there.
FEW = ("encoder", "point", "box", "video-two")
ALL = ("quick", "video-two", "video-absent", "video-reverse")
SCENARIOS = {256: ALL, 512: ALL, 1024: FEW}
TINY = pytest.param("sam2.1/sam2.1_hiera_t", 256)
SLOW = (
    pytest.param(one.name, side, marks=pytest.mark.slow) for side in (512, 1024) for one in SHIPPED
)


@pytest.mark.parametrize(("name", "side"), [TINY, *SLOW])
def test_pictures_and_videos(name: str, side: int, tmp_path: Path) -> None:
    faulthandler.cancel_dump_traceback_later()  # it takes longer than a test that hangs may
    weights, folder = tmp_path / "model.pt", tmp_path / "onnx"
    sam21convert.sample(weights, name)
    config = replace(shipped_config(name), image_size=side)
    sam21convert.export_onnx(weights, folder, variants=("fp32",), with_video=True, config=config)
    found = sam21convert.parity(weights, f"onnx:{folder}", scenarios=SCENARIOS[side], config=config)
    assert found.ok, found
    assert {one.status for one in found.scenarios} == {"same"}
    assert all(control.detected for control in found.negative_controls)
