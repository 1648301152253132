"""Models of every published size become programs that compute what the models do.

    pytest -m slow tests/export/test_published.py

Tiny runs with the other tests, at a smaller image.
"""

from __future__ import annotations

import faulthandler
from dataclasses import replace

import pytest

import sam21convert
from sam21convert.comparison.scenarios import chosen
from sam21convert.config.registry import SHIPPED, shipped_config

# At full size the encoder takes nearly all of the time, so fewer pictures are encoded there.
FEW = ("encoder", "point", "box", "video-two")
ALL = ("quick", "video-two", "video-absent", "video-reverse")
SCENARIOS = {256: ALL, 512: ALL, 1024: FEW}
TINY = pytest.param(("sam2.1/sam2.1_hiera_t", 256), id="tiny")
SLOW = (
    pytest.param((one.name, side), id=f"{one.name}-{side}", marks=pytest.mark.slow)
    for side in (512, 1024)
    for one in SHIPPED
)


@pytest.fixture(scope="module", params=[TINY, *SLOW])
def found(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> sam21convert.ParityReport:
    """The comparison of a model with its export."""
    faulthandler.cancel_dump_traceback_later()  # it takes longer than a test that hangs may
    name, side = request.param
    home = tmp_path_factory.mktemp("published")
    weights, folder = home / "model.pt", home / "onnx"
    sam21convert.sample(weights, name)
    config = replace(shipped_config(name), image_size=side)
    sam21convert.export_onnx(weights, folder, variants=("fp32",), with_video=True, config=config)
    return sam21convert.parity(weights, f"onnx:{folder}", scenarios=SCENARIOS[side], config=config)


# One test for each scenario: tests of files that have many of them are the first to be handed out,
# and the others are not to wait for a file that takes a minute.
@pytest.mark.parametrize("scenario", [one.name for one in chosen(ALL)])
def test_the_export_computes_what_the_model_does(
    found: sam21convert.ParityReport, scenario: str
) -> None:
    status = {one.name: one.status for one in found.scenarios}
    if scenario not in status:
        pytest.skip("left out at full size")
    assert status[scenario] == "same", found


def test_nothing_else_differs_and_faults_are_seen(found: sam21convert.ParityReport) -> None:
    assert found.ok, found
    assert all(control.detected for control in found.negative_controls)
