"""Run an exported file, and compare what comes out with the model that it was made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..errors import MismatchError
from ..io.onnx import FP32
from ..report import one_line
from .graphs import Graph
from .runtime.sessions import PROVIDERS, Layout
from .runtime.sessions import Graph as Loaded

BOUND = 1e-5  # of the scale of an output: what a file in float32 keeps with most weights
MULTIPLE = 10  # of the noise of the model itself, which may be larger than that
_LOGIT = "object_score_logits"  # one number, which may be 0: its scale is 1 at least
_HINT = "use another version of torch, which writes the file"

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Checked:
    """What files of a graph gave.

    Attributes:
        apart: For each variant the largest difference of an output from the model's, relative to
            its scale.
        wanted: What the model gives at the first size.
        given: What the file of each variant gives there.
    """

    apart: dict[str, float]
    wanted: tuple[Tensor, ...]
    given: dict[str, tuple[Array, ...]]


def check(graph: Graph, files: Mapping[str, Path]) -> Checked:
    """Run files at sizes other than those they were traced with, by the driver that users run.

    With weights that sharpen attention, rounding alone may move an output further than ``BOUND``.
    So what is further is compared with the noise of the model: how far its own result moves if it
    is computed in double precision, or with attention step by step.

    Args:
        graph: What they were made of.
        files: The file of each variant.

    Returns:
        How far they are from the model, and what was computed first.

    Raises:
        MismatchError: If a file does not run, or the one in float32 computes something else.
        Sam21ConvertError: If the driver does not load a file.
    """
    apart, given = dict[str, float](), dict[str, tuple[Array, ...]]()
    with torch.inference_mode():
        wanted = [graph.expected(*inputs) for inputs in _trials(graph)]
        for variant, path in files.items():
            apart[variant], given[variant] = _run(graph, variant, path, wanted)
    return Checked(apart, wanted[0], given)


def _trials(graph: Graph) -> Iterator[tuple[Tensor, ...]]:
    """The same inputs each time, made when they are needed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield from graph.trials()


def _run(
    graph: Graph, variant: str, path: Path, expected: Sequence[tuple[Tensor, ...]]
) -> tuple[float, tuple[Array, ...]]:
    """How far a file is from the model at any size, and what it gives at the first."""
    furthest, first = list[float](), list[Array]()
    names = [tuple(one.name for one in side) for side in (graph.inputs, graph.outputs)]
    loaded = Loaded(path, Layout(*names), None, PROVIDERS)
    for inputs, wanted in zip(_trials(graph), expected, strict=True):
        given = _given(loaded, path.name, inputs)
        apart = {
            one.name: _relative(one.name, own.numpy(), other)
            for one, own, other in zip(graph.outputs, wanted, given, strict=True)
        }
        if variant == FP32 and not max(apart.values()) <= BOUND:
            _refuse_more_than_noise(graph, path.name, inputs, wanted, apart)
        furthest.append(max(apart.values()))
        # Arrays of onnxruntime keep the memory of their session, a gigabyte, from being freed.
        first = first or [array.copy() for array in given]
    return max(furthest), tuple(first)


def _refuse_more_than_noise(
    graph: Graph,
    name: str,
    inputs: Sequence[Tensor],
    wanted: Sequence[Tensor],
    apart: Mapping[str, float],
) -> None:
    noise = noise_of(graph, inputs, wanted)
    for output, found in apart.items():
        most = max(BOUND, MULTIPLE * noise[output])
        if not (isfinite(found) and found <= most):  # the noise may be infinite as well
            raise MismatchError(
                f"{name}: {output} is {found:.1e} of its scale from the model's with inputs of "
                f"{_sizes(inputs)}; at most {most:.0e} was expected",
                hint=_HINT,
            )


def noise_of(graph: Graph, inputs: Sequence[Tensor], wanted: Sequence[Tensor]) -> dict[str, float]:
    """Measure how far rounding moves what a graph must give.

    Args:
        graph: The graph.
        inputs: Its inputs.
        wanted: What the model gives for them.

    Returns:
        For each output the largest difference, relative to its scale.
    """
    exact = deepcopy(graph).double()
    wide = [tensor.double() if tensor.is_floating_point() else tensor for tensor in inputs]
    with sdpa_kernel(SDPBackend.MATH):
        runs = [exact.expected(*wide), graph.expected(*inputs)]
    return {
        one.name: max(_relative(one.name, own.numpy(), run[at].float().numpy()) for run in runs)
        for at, (one, own) in enumerate(zip(graph.outputs, wanted, strict=True))
    }


def _given(loaded: Loaded, name: str, inputs: Sequence[Tensor]) -> tuple[Array, ...]:
    """The outputs of a file."""
    try:
        return loaded(*(tensor.numpy() for tensor in inputs))
    except Exception as error:  # onnxruntime raises errors of its own, without a base
        raise MismatchError(
            f"{name}: was written and does not run with inputs of {_sizes(inputs)}: "
            f"{one_line(str(error))[:200]}",
            hint=_HINT,
        ) from error


def _relative(output: str, own: Array, other: Array) -> float:
    return relative(own, other, least=1.0 if output == _LOGIT else 0.0)


def _sizes(inputs: Sequence[Tensor]) -> str:
    return ", ".join("x".join(map(str, tensor.shape)) for tensor in inputs)


def relative(own: Array, other: Array, least: float = 0.0) -> float:
    """The largest difference, relative to the largest magnitude.

    Args:
        own: The array that gives the scale.
        other: The other.
        least: The smallest scale.

    Returns:
        0 for equal arrays; infinity for other shapes, and where a number is not finite.
    """
    if own.shape != other.shape:
        return float("inf")
    apart = float(np.abs(own - other).max(initial=0.0))
    scale = max(float(np.abs(own).max(initial=0.0)), least)
    if apart == 0:
        return 0.0
    return apart / scale if scale and np.isfinite(apart) else float("inf")
