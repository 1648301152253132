"""Graphs are spelt so that programs of others that rewrite them know what they read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from sam21convert.export import write
from sam21convert.export.check import relative
from sam21convert.export.video_graphs import MemoryEncoder
from sam21convert.packages import onnxruntime

from ..support.exports import Exported

PARTS = (
    *("vision_encoder", "prompt_encoder_mask_decoder", "frame_decoder"),
    *("memory_attention", "memory_encoder"),
)


def odd_constants(graph: Any) -> list[str]:
    """Names of constants that are no tensors, of those that are cast, and of those for nothing."""
    made = {node.output[0]: node for node in graph.node if node.op_type == "Constant"}
    used = {value for node in graph.node for value in node.input}
    cast = {node.input[0] for node in graph.node if node.op_type == "Cast"}
    return [
        name
        for name, node in made.items()
        if node.attribute[0].name != "value" or name in cast or name not in used
    ]


@pytest.mark.parametrize("part", PARTS)
def test_every_constant_is_a_tensor_of_its_type(newer: Exported, part: str) -> None:
    """OnnxSlim takes lists of floats for doubles, and writes a file that nothing loads."""
    assert odd_constants(onnx.load(newer.folder / "onnx" / f"{part}.onnx").graph) == []


def test_torch_spells_them_otherwise(newer: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "_spell_plainly", lambda node: None)
    assert odd_constants(write.export(MemoryEncoder(newer.model).eval()).model_proto.graph)


def answers(path: Path, pixels: Any) -> Any:
    """The coarsest features that onnxruntime computes."""
    session = onnxruntime().InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["image_embeddings.2"], {"pixel_values": pixels})[0]


def test_onnxruntime_can_store_weights_with_a_scale_for_each_column(
    newer: Exported, tmp_path: Path
) -> None:
    """It cannot multiply by such weights if they have more axes than two."""
    onnxruntime()
    from onnxruntime.quantization import QuantType, quantize_dynamic

    exact, stored = newer.folder / "onnx/vision_encoder.onnx", tmp_path / "stored.onnx"
    quantize_dynamic(exact, stored, weight_type=QuantType.QUInt8, per_channel=True)
    side = newer.model.config.image_size
    pixels = np.random.default_rng(0).standard_normal((1, 3, side, side), np.float32)
    assert 0 < relative(answers(exact, pixels), answers(stored, pixels)) < 0.1


@pytest.mark.parametrize("part", ["frame_decoder", "memory_attention", "memory_encoder"])
def test_onnxruntime_infers_all_shapes(newer: Exported, tmp_path: Path, part: str) -> None:
    """It stops at constants that are lists of integers."""
    onnxruntime()
    from onnxruntime.quantization.shape_inference import quant_pre_process

    quant_pre_process(newer.folder / "onnx" / f"{part}.onnx", tmp_path / "inferred.onnx")
