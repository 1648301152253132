"""Run an exported file, and compare what comes out with the model that it was made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..errors import MismatchError
from ..io.onnx import FP32
from ..packages import onnxruntime
from ..report import one_line
from .graphs import Graph

BOUND = 1e-5  # of the scale of an output: what a file in float32 keeps with most weights
MULTIPLE = 10  # of the noise of the model itself, which may be larger than that
_LOGIT = "object_score_logits"  # one number, which may be 0: its scale is 1 at least
_HINT = "use another version of torch, which writes the file"

Array = NDArray[np.float32]


def session(path: Path) -> Any:
    """Load a file into onnxruntime, on the CPU.

    Args:
        path: The file.

    Returns:
        An ``onnxruntime.InferenceSession``.
    """
    runtime = onnxruntime()
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.enable_mem_pattern = False  # a plan for the next run of the same size takes memory
    return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def check(graph: Graph, files: Mapping[str, Path]) -> dict[str, float]:
    """Run files at sizes other than those they were traced with.

    With weights that sharpen attention, rounding alone may move an output further than ``BOUND``.
    So what is further is compared with the noise of the model: how far its own result moves if it
    is computed in double precision, or with attention step by step.

    Args:
        graph: What they were made of.
        files: The file of each variant.

    Returns:
        For each variant the largest difference of an output from the model's, relative to its
        scale.

    Raises:
        MismatchError: If a file does not run, or the one in float32 computes something else.
    """
    with torch.inference_mode():
        wanted = [graph.expected(*inputs) for inputs in _trials(graph)]
        return {
            variant: max(_furthest(graph, variant, path, wanted)) for variant, path in files.items()
        }


def _trials(graph: Graph) -> Iterator[tuple[Tensor, ...]]:
    """The same inputs each time, made when they are needed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield from graph.trials()


def _furthest(
    graph: Graph, variant: str, path: Path, expected: Sequence[tuple[Tensor, ...]]
) -> Iterator[float]:
    """How far a file is from the model at each size; one file at a time is loaded."""
    running = session(path)
    for inputs, wanted in zip(_trials(graph), expected, strict=True):
        apart = _apart(graph, running, path.name, inputs, wanted)
        if variant == FP32 and not max(apart.values()) <= BOUND:
            _refuse_more_than_noise(graph, path.name, inputs, wanted, apart)
        yield max(apart.values())


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
        if not found <= most:
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


def _apart(
    graph: Graph, running: Any, name: str, inputs: Sequence[Tensor], wanted: Sequence[Tensor]
) -> dict[str, float]:
    """How far each output of a file is from the model's."""
    given = zip((one.name for one in graph.inputs), inputs, strict=True)
    outputs = [one.name for one in graph.outputs]
    try:
        got = running.run(outputs, {name: tensor.numpy() for name, tensor in given})
    except Exception as error:  # onnxruntime raises errors of its own, without a base
        raise MismatchError(
            f"{name}: was written and does not run with inputs of {_sizes(inputs)}: "
            f"{one_line(str(error))[:200]}",
            hint=_HINT,
        ) from error
    return {
        output: _relative(output, own.numpy(), other)
        for output, own, other in zip(outputs, wanted, got, strict=True)
    }


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
