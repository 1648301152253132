from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sam21convert.workflows.publish.repository import Repository, compose

from ..support import exports as support
from ..support.checkpoints import DEBUG, DEBUG_20
from ..support.exports import SIDES, Exported

SIDE = SIDES[DEBUG]
VERSION = "4.3.2"  # of @huggingface/transformers


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Exports by the names of configs, made when first asked for, once for all processes."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    home = Path(shared) / "exports"
    home.mkdir(exist_ok=True)
    return cache(lambda name: support.exported(name, home))


@pytest.fixture(
    params=[
        pytest.param(DEBUG, id="2.1"),
        pytest.param(DEBUG_20, id="2.0", marks=pytest.mark.slow),  # an export takes a minute
    ]
)
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
    import onnx  # not above: without it, the test modules are skipped
    from onnx import numpy_helper

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


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which Node finds the library."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("no npm on this machine")
    folder = tmp_path_factory.mktemp("node")
    line = [npm, "install", "--no-audit", "--no-fund", f"@huggingface/transformers@{VERSION}"]
    # Else a script of onnxruntime-node downloads files for CUDA.
    settings = os.environ | {"ONNXRUNTIME_NODE_INSTALL": "skip"}
    done = subprocess.run(line, cwd=folder, env=settings, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"npm cannot install it: {done.stderr.strip().splitlines()[:1]}")
    return folder


@pytest.fixture(scope="session")
def published(exports: Any, tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A repository with graphs, composed of an export."""
    folder = tmp_path_factory.mktemp("published") / "repository"
    return compose(exports(DEBUG).folder, folder, "me/my-sam2", with_onnx=True)
