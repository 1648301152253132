"""Run an exported file, and compare what comes out with the model that it was made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import MismatchError
from ..io.onnx import FP32
from ..packages import onnxruntime
from ..report import one_line
from .graphs import Graph

BOUND = 1e-5  # of the scale of an output: the largest difference of a file in float32
_LOGIT = (
    "object_score_logits"  # one number, which may be 0: it is compared on a scale of 1 at least
)
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
    return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def check(graph: Graph, files: Mapping[str, Path]) -> dict[str, float]:
    """Run files at sizes other than those they were traced with.

    Args:
        graph: What they were made of.
        files: The file of each variant.

    Returns:
        For each variant the largest difference of an output from the graph's, relative to its
        scale.

    Raises:
        MismatchError: If a file does not run, or the one in float32 computes something else.
    """
    running = {variant: session(path) for variant, path in files.items()}
    furthest = dict.fromkeys(files, 0.0)
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(0)
        for inputs in graph.trials():
            found = graph(*inputs)
            wanted = found if isinstance(found, tuple) else (found,)
            for variant, path in files.items():
                apart = _apart(graph, running[variant], path.name, inputs, wanted)
                worst = max(apart, key=lambda name: apart[name])
                if variant == FP32 and not apart[worst] <= BOUND:
                    raise MismatchError(
                        f"{path.name}: {worst} is {apart[worst]:.1e} of its scale from the model's "
                        f"with inputs of {_sizes(inputs)}; at most {BOUND:.0e} was expected",
                        hint=_HINT,
                    )
                furthest[variant] = max(furthest[variant], apart[worst])
    return furthest


def _apart(
    graph: Graph, running: Any, name: str, inputs: Sequence[Tensor], wanted: Sequence[Tensor]
) -> dict[str, float]:
    """How far each output of a file is from the graph's."""
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
        output: relative(own.numpy(), other, least=1.0 if output == _LOGIT else 0.0)
        for output, own, other in zip(outputs, wanted, got, strict=True)
    }


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
