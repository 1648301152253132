"""The definition of a case of the corpus."""

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
    """An input, how it is made, and the expected verdict on it.

    Attributes:
        kind: Class of faults, counted in docs/safety.md.
        name: Name within the kind.
        build: Makes the input at the path that it is given.
        says: Texts that each answer with another exit code than 0 must contain.
        codes: Exit codes of inspect, validate and convert.
        file: Name of the input in its folder.
        loader: Loader of :mod:`tests.corpus.danger` that runs the code in a malicious file.
        argument: Given to the commands in place of the path.
        config: Whether the ``config.yaml`` beside the input is given as ``--config``.
        carries: Bytes that convert must write for ``no_mem_embed``.
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
