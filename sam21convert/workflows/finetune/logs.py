"""Logs for TensorBoard, where it is installed."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

LOGS = "logs"


def can_log() -> bool:
    """Tell whether logs can be written.

    Returns:
        Whether TensorBoard is installed.
    """
    return find_spec("tensorboard") is not None


class Logs:
    """Writes numbers of steps.

    Args:
        out: The folder of the results; None to write nothing.
        steps: Number of steps that were done. What an earlier run has written of later ones is
            not shown.
    """

    def __init__(self, out: Path | None, steps: int) -> None:
        self._writer: Any = None
        if out is not None and can_log():
            from torch.utils.tensorboard.writer import SummaryWriter

            self._writer = SummaryWriter(str(out / LOGS), purge_step=steps or None)

    def __enter__(self) -> Logs:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.close()

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Write numbers.

        Args:
            step: The number of the step.
            numbers: The numbers by name.
        """
        if self._writer is not None:
            for name, number in numbers.items():
                self._writer.add_scalar(name, number, step)
