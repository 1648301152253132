from __future__ import annotations

import os
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from ..support import exports as support
from ..support.checkpoints import DEBUG, DEBUG_20
from ..support.exports import SIDES, Exported

SIDE = SIDES[DEBUG]


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Exports by the names of configs, made when first asked for, once for all processes."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    home = Path(shared) / "exports"
    home.mkdir(exist_ok=True)
    return cache(lambda name: support.exported(name, home))


@pytest.fixture(params=[DEBUG, DEBUG_20], ids=["2.1", "2.0"])
def both(request: pytest.FixtureRequest, exports: Any) -> Exported:
    """An export of each generation."""
    found: Exported = exports(request.param)
    return found


@pytest.fixture
def newer(exports: Any) -> Exported:
    """An export of SAM 2.1."""
    found: Exported = exports(DEBUG)
    return found


@pytest.fixture(scope="session")
def exported(exports: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an export in fp32 and q8."""
    folder = tmp_path_factory.mktemp("exports") / "first"
    shutil.copytree(exports(DEBUG).folder, folder, ignore=shutil.ignore_patterns("*_fp16.onnx"))
    return folder


@pytest.fixture(scope="session")
def changed(exported: Path) -> Path:
    """The same with one weight changed, so that its golden example is not its own."""
    folder = exported.with_name("changed")
    shutil.copytree(exported, folder, ignore=shutil.ignore_patterns("*_quantized.onnx"))
    path = folder / "onnx" / "prompt_encoder_mask_decoder.onnx"
    model = onnx.load(path)
    (tensor,) = (
        one
        for one in model.graph.initializer
        if one.name == "sam_mask_decoder.output_hypernetworks_mlps.1.layers.2.bias"
    )
    values = numpy_helper.to_array(tensor) + np.float32(0.5)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, path)
    return folder
