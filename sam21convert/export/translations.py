"""Operators of torch in ONNX, where what the exporter writes for them costs time or memory.

They are given to ``torch.onnx.export``. onnxscript is imported with this module.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import onnx
import torch
import torch.nn.functional as F
from onnxscript import opset18 as op
from torch import Tensor

_ROWS = 512  # queries that attend at once
_JOINED = 4  # pieces that are joined at once: WebGPU promises a kernel eight buffers

Value: TypeAlias = Any  # of onnxscript, while a program is translated


def attention(
    query: Value,
    key: Value,
    value: Value,
    attn_mask: Value = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Value:
    """Attend to all keys, many queries in pieces.

    What 4,096 queries give to as many keys, or to seven memories, fills up to half a gigabyte;
    that of a piece stays near the processor.

    Args:
        query: ``B x heads x N x D``.
        key: ``B x heads x M x D``.
        value: ``B x heads x M x E``.
        attn_mask: None; as all that follows, it is what the model leaves at its default.
        dropout_p: 0.
        is_causal: False.
        scale: None.
        enable_gqa: False.

    Returns:
        ``B x heads x N x E``.
    """
    asked = op.Mul(query, query.shape[3] ** -0.5)
    turned = op.Transpose(key, perm=[0, 1, 3, 2])

    def mixed(rows: Value) -> Value:
        return op.MatMul(op.Softmax(op.MatMul(rows, turned), axis=-1), value)

    count = query.shape[2]
    if not isinstance(count, int) or count <= _ROWS:
        return mixed(asked)
    pieces = [mixed(_rows(asked, start)) for start in range(0, count, _ROWS)]
    while len(pieces) > 1:
        groups = range(0, len(pieces), _JOINED)
        pieces = [op.Concat(*pieces[at : at + _JOINED], axis=2) for at in groups]
    return pieces[0]


def _rows(queries: Value, start: int) -> Value:
    bounds: list[Value] = [op.Constant(value_ints=[at]) for at in (start, start + _ROWS, 2)]
    return op.Slice(queries, *bounds)


def stretched(
    input: Value,  # noqa: A002  # its name in torch
    output_size: Sequence[int],
    align_corners: bool = False,
    scale_factors: Sequence[float] | None = None,
) -> Value:
    """Stretch planes bicubically, by products with two matrices.

    Runtimes compute this from the weights whenever they load a file. onnxruntime takes longer for
    a ``Resize`` of the position embedding than for all else of tiny, and no time for products. The
    planes stand first in theirs: onnxruntime stores what stands second as bytes with a scale for
    each column, and then cannot multiply by it if it has more than two axes.

    Args:
        input: ``B x C x h x w``.
        output_size: ``H`` and ``W``.
        align_corners: False, as the model has it.
        scale_factors: None, as the model has it.

    Returns:
        ``B x C x H x W``.
    """
    down, across = (
        _stretching(old, int(new)) for old, new in zip(input.shape[2:], output_size, strict=True)
    )
    return op.MatMul(_constant(down.T), op.MatMul(input, _constant(across)))


def _stretching(old: int, new: int) -> Tensor:
    """What each of ``old`` places gives to each of ``new`` ones, ``old x new``, as torch has it."""
    one_each = torch.eye(old).reshape(1, old, old, 1)
    return F.interpolate(one_each, (new, 1), mode="bicubic").reshape(old, new)


def _constant(matrix: Tensor) -> Value:
    return op.Constant(value=onnx.numpy_helper.from_array(matrix.contiguous().numpy()))


TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.aten.scaled_dot_product_attention.default: attention,
    torch.ops.aten.upsample_bicubic2d.vec: stretched,
}
