"""Operators that this package writes itself: what they compute, and what they spare users."""

from __future__ import annotations

from typing import Any

import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from sam21convert.export.check import MULTIPLE, relative
from sam21convert.export.graphs import Axes, Graph
from sam21convert.export.write import export
from sam21convert.model.sam2 import SAM2
from sam21convert.packages import onnxruntime

from ..support.exports import Exported


class Attend(Graph):
    """Attention to values of another width."""

    file = "attend"
    inputs, outputs = (Axes("query", {}), Axes("key", {}), Axes("value", {})), (Axes("mixed", {}),)

    def __init__(self, model: SAM2, queries: int) -> None:
        super().__init__(model)
        draw = torch.Generator().manual_seed(queries)
        self.given = tuple(
            torch.randn(2, 3, count, width, generator=draw)
            for count, width in ((queries, 16), (40, 16), (40, 8))
        )

    def example(self) -> tuple[Tensor, ...]:
        """Queries, keys and values."""
        return self.given

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """As the model."""
        return F.scaled_dot_product_attention(query, key, value)


class Stretch(Graph):
    """A plane for each channel, stretched."""

    file, mode = "stretch", "bicubic"
    inputs, outputs = (Axes("planes", {}),), (Axes("stretched", {}),)

    def __init__(self, model: SAM2, size: tuple[int, int]) -> None:
        super().__init__(model)
        self.size = size
        draw = torch.Generator().manual_seed(size[1])
        self.given = (torch.randn(1, 5, 7, 9, generator=draw),)

    def example(self) -> tuple[Tensor, ...]:
        """The planes."""
        return self.given

    def forward(self, planes: Tensor) -> Tensor:
        """As the trunk."""
        return F.interpolate(planes, size=self.size, mode=self.mode)


def answers(graph: onnx.ModelProto, *inputs: Tensor) -> Any:
    """What onnxruntime computes."""
    session = onnxruntime().InferenceSession(
        graph.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [one.name for one in session.get_inputs()]
    feeds = {name: one.numpy() for name, one in zip(names, inputs, strict=True)}
    return session.run(None, feeds)[0]


@pytest.mark.parametrize(("queries", "pieces"), [(1, 1), (512, 1), (513, 2), (2050, 5)])
def test_many_queries_attend_in_pieces(newer: Exported, queries: int, pieces: int) -> None:
    """As exactly as torch's own kernels; with the last query left out the numbers are others."""
    attend = Attend(newer.model, queries)
    query, key, value = attend.given
    graph = export(attend).model_proto
    assert [node.op_type for node in graph.graph.node].count("Softmax") == pieces
    # A kernel of WebGPU may count on eight buffers, of which one is what it writes.
    assert max(len(node.input) + len(node.output) for node in graph.graph.node) <= 8
    exact = F.scaled_dot_product_attention(query.double(), key.double(), value.double())
    with sdpa_kernel(SDPBackend.MATH):  # summed in two orders
        runs = [
            F.scaled_dot_product_attention(query, key, value),
            F.scaled_dot_product_attention(query, key.flip(2), value.flip(2)),
        ]
    noise = max(relative(exact.float().numpy(), run.numpy()) for run in runs)
    found = answers(graph, query, key, value)
    assert 0 < relative(exact.float().numpy(), found) <= MULTIPLE * noise
    query[:, :, -1] = 0
    assert relative(exact.float().numpy(), answers(graph, query, key, value)) > MULTIPLE * noise


@pytest.mark.parametrize("size", [(8, 8), (24, 40), (256, 256)])
def test_a_stretched_plane_is_that_of_torch(
    newer: Exported, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    stretch = Stretch(newer.model, size)
    (planes,) = stretch.given
    graph = export(stretch).model_proto
    assert "Resize" not in {node.op_type for node in graph.graph.node}
    exact, own = stretch(planes.double()).float().numpy(), stretch(planes).numpy()
    noise = relative(exact, own)
    found = answers(graph, planes)
    assert relative(exact, found) <= MULTIPLE * noise
    monkeypatch.setattr(Stretch, "mode", "bilinear")
    assert relative(stretch(planes).numpy(), found) > MULTIPLE * noise


def test_no_runtime_stretches_the_position_embedding_when_it_loads(newer: Exported) -> None:
    """Only the finer level of the neck is stretched, by its nearest neighbours, for each image."""
    for path in (newer.folder / "onnx").glob("vision_encoder*.onnx"):
        nodes = onnx.load(path).graph.node
        kinds = [
            attribute.s.decode()
            for node in nodes
            if node.op_type == "Resize"
            for attribute in node.attribute
            if attribute.name == "mode"
        ]
        assert kinds == ["nearest"], path.name


def test_every_product_with_weights_is_one_of_bytes(newer: Exported) -> None:
    """Those of constants alone are not: they are taken once, and keep their digits."""
    for path in (newer.folder / "onnx").glob("*_quantized.onnx"):
        graph = onnx.load(path).graph
        constants = {one.name for one in graph.initializer} | {
            name for node in graph.node if node.op_type == "Constant" for name in node.output
        }
        products = {"MatMul": 0, "MatMulInteger": 0}
        for node in graph.node:
            if node.op_type == "DynamicQuantizeLinear":
                assert not constants & {*node.input}, node.name
            if node.op_type in products:
                products[node.op_type] += 1
                assert node.op_type != "MatMul" or len(constants & {*node.input}) != 1, node.name
        assert all(products.values()), path.name
