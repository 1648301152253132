"""What is found of one video, as plain data that travels between processes and into a journal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import (
    MismatchError,
    MissingFileError,
    MissingPackageError,
    RefusedError,
    Sam21ConvertError,
    UnreachableError,
    UnreadableError,
    UsageError,
    shortage,
)
from ..report import one_line
from .protocols import ObjectScore

_KINDS: Mapping[str, type[Sam21ConvertError]] = {
    kind.__name__: kind
    for kind in (
        MismatchError,
        MissingFileError,
        MissingPackageError,
        RefusedError,
        UnreachableError,
        UnreadableError,
        UsageError,
    )
}


@dataclass(frozen=True)
class Failure:
    """Why something could not be done.

    Attributes:
        kind: The name of the class of the error in :mod:`~sam21convert.errors`.
        reason: One sentence, with the file, what was expected and what was found.
        hint: What to do next; None if nothing is known to help.
    """

    kind: str
    reason: str
    hint: str | None = None

    @classmethod
    def of(cls, error: Exception, name: str) -> Failure:
        """Describe an exception.

        Args:
            error: The exception.
            name: What could not be done, for an error that does not say so.

        Returns:
            The failure.
        """
        found = shortage(error, name) or error
        if isinstance(found, Sam21ConvertError):
            return cls(type(found).__name__, one_line(found.message), found.hint)
        if isinstance(found, OSError):  # the operating system explains it
            text = f"{found.filename or name}: {found.strerror or found}"
            return cls(UnreadableError.__name__, one_line(text))
        return cls(
            RefusedError.__name__,
            one_line(f"{name}: {type(found).__name__}: {found}"),
            "this is a bug in sam21convert, please report it",
        )

    def error(self) -> Sam21ConvertError:
        """The error to raise.

        Returns:
            An error of the same class.
        """
        return _KINDS.get(self.kind, Sam21ConvertError)(self.reason, hint=self.hint)


@dataclass(frozen=True)
class Row:
    """What was found of one video.

    Attributes:
        video: Its name.
        scores: The scores of its objects, for each checkpoint; empty if nothing is scored.
        pixels: How many pixels differ between the masks of two checkpoints.
        of_pixels: How many were compared.
        seconds: How long it took.
        device: What tracked its objects, such as ``cpu, 2 threads``; empty if masks were scored.
        failure: Why there is nothing else here; None if the video is done.
    """

    video: str
    scores: tuple[tuple[ObjectScore, ...], ...] = ()
    pixels: int = 0
    of_pixels: int = 0
    seconds: float = 0.0
    device: str = ""
    failure: Failure | None = None

    def to_dict(self) -> dict[str, Any]:
        """Give the row as plain data.

        Returns:
            What JSON can hold, to the last bit of each number.
        """
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Row:
        """Make a row of what :meth:`to_dict` gave, also if JSON has made lists of its tuples.

        Args:
            data: The plain data.

        Returns:
            The row.
        """
        failure = data["failure"]
        return cls(
            video=data["video"],
            scores=tuple(tuple(map(_score, of)) for of in data["scores"]),
            pixels=data["pixels"],
            of_pixels=data["of_pixels"],
            seconds=data["seconds"],
            device=data["device"],
            failure=None if failure is None else Failure(**failure),
        )


def _score(data: Mapping[str, Any]) -> ObjectScore:
    lists = {name: tuple(data[name]) for name in ("names", "j_of", "f_of")}
    return ObjectScore(**{**data, **lists})
