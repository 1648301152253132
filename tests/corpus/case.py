"""What a case of the corpus is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Codes = tuple[int, int, int]
REFUSED: Codes = (3, 3, 3)
ACCEPTED: Codes = (0, 0, 0)
# A whole model, and beside it what an ordinary loader would run: it is left out.
CARRIED: Codes = (1, 0, 0)  # inspect tells what would run


@dataclass(frozen=True)
class Case:
    """An input, how it is made, and the verdict on it.

    ``build`` makes it at the path that it is given, ``file`` in a folder of its own; a ``kind`` is
    a class of faults. ``codes`` are the exit codes of inspect, validate and convert, and ``says``
    what stands in each answer whose code is not 0. ``loader`` is what runs the code in a malicious
    one, by its name in :mod:`tests.corpus.danger`. ``argument`` is given in place of the path,
    ``config`` as ``--config``; ``carries`` is what convert writes for ``no_mem_embed``.
    """

    kind: str
    name: str
    build: Callable[[Path], object]
    says: tuple[str, ...] = ()
    codes: Codes = REFUSED
    file: str = "a.pt"
    loader: str | None = None
    argument: str | None = None
    config: bool = False
    carries: bytes | None = None

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}"


def written(data: bytes | Callable[[], bytes]) -> Callable[[Path], object]:
    """Make a file of these bytes."""
    return lambda path: path.write_bytes(data if isinstance(data, bytes) else data())
