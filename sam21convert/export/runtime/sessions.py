"""One file of an export as a function of arrays.

onnxruntime is imported when the first file is opened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import RefusedError, UnreadableError, UsageError, printable
from ...io.nearby import missing
from ...io.onnx import runnable
from ...packages import onnxruntime, require
from .resize import Floats

PROVIDERS = ("CPUExecutionProvider",)

_TYPES: Mapping[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
}
_ERRORS_ONLY = 3  # of the levels of severity of onnxruntime's log


class Layout(NamedTuple):
    """What goes into a graph and what comes out, by name and in order; its own may be more.

    Attributes:
        inputs: Names of all inputs.
        outputs: Names of the outputs that are used.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class Graph:
    """A file of an export, loaded.

    Args:
        path: The file.
        layout: What it must have.
        threads: Number of threads of each operator; None for as many as there are processors.
        providers: Names of onnxruntime's execution providers, the first choice first.

    Raises:
        MissingPackageError: If onnxruntime is not installed.
        MissingFileError: If there is no such file.
        UnreadableError: If onnxruntime cannot load the file.
        RefusedError: If it is not one of an export, or may not be loaded.
        UsageError: If there is no such provider.
    """

    def __init__(
        self, path: Path, layout: Layout, threads: int | None, providers: Sequence[str]
    ) -> None:
        require("onnx", "running an export", packages=("onnxruntime",))
        runtime = onnxruntime()
        unknown = {*providers} - {*runtime.get_available_providers()}
        if unknown:
            raise UsageError(
                f"providers: onnxruntime has no {', '.join(sorted(unknown))} here",
                hint=f"use some of {', '.join(runtime.get_available_providers())}",
            )
        options = runtime.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        # A plan of the memory makes the first run slower and larger, and later runs no faster.
        options.enable_mem_pattern = False
        # Threads that spin while they wait keep others from the processor: those of the next graph.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self._session = runtime.InferenceSession(
                str(_checked(path)), options, providers=[*providers]
            )
        except (UnreadableError, RefusedError):
            raise
        except Exception as error:  # its own classes have no base of their own
            raise UnreadableError(
                f"{path}: onnxruntime cannot load it: {_in_one_line(error)}",
                hint="export the model again",
            ) from error
        self._layout = layout
        self._types = _types(path, self._session, layout)

    def __call__(self, *arrays: NDArray[Any]) -> tuple[Floats, ...]:
        """Run the graph.

        Args:
            *arrays: Its inputs, in the order of the layout, in any type.

        Returns:
            The outputs of the layout, in float32.
        """
        typed = zip(self._layout.inputs, arrays, self._types, strict=True)
        feeds = {name: np.ascontiguousarray(array, kind) for name, array, kind in typed}
        found = self._session.run(list(self._layout.outputs), feeds)
        return tuple(np.asarray(array, np.float32) for array in found)


def _checked(path: Path) -> Path:
    """Check a file before onnxruntime sees it, and return it."""
    if not path.exists():
        raise missing(path)
    return runnable(path).path


def _types(path: Path, session: Any, layout: Layout) -> tuple[type[np.generic], ...]:
    """The types of the inputs, if the graph has the layout."""
    inputs = {one.name: one.type for one in session.get_inputs()}
    outputs = {one.name for one in session.get_outputs()}
    wrong = {*inputs} ^ {*layout.inputs} or {*layout.outputs} - outputs
    if wrong or not {*inputs.values()} <= {*_TYPES}:
        raise RefusedError(
            f"{path}: expected the inputs {', '.join(layout.inputs)} and the outputs "
            f"{', '.join(layout.outputs)} in floats and int64; "
            f"found {printable(', '.join(sorted(wrong)) or ', '.join(sorted(inputs.values())))}",
            hint="export the model again",
        )
    return tuple(_TYPES[inputs[name]] for name in layout.inputs)


def _in_one_line(error: Exception) -> str:
    return printable(" ".join(str(error).split()))
