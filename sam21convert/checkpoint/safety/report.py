"""What loading a file with ``torch.load(weights_only=False)`` or ``pickle.load`` would run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .find_pickles import references_in
from .pickle_scan import GlobalReference
from .policy import RATINGS, Rating, rate

_SHOWN = 12


@dataclass(frozen=True)
class Global:
    """A global that a pickle in a file imports.

    Attributes:
        name: Its full name, as the pickle spells it, with unprintable characters escaped.
        entry: The zip entry that holds the pickle; empty when the file itself is the pickle.
        offset: Bytes from the start of ``entry`` to the first opcode that names the global.
        called: Whether it is called, as a function or to make an object.
        changed: Whether attributes or items of it are set.
        count: How often the pickle refers to it.
        rating: ``"harmless"``, ``"unknown"`` or ``"dangerous"``.
    """

    name: str
    entry: str
    offset: int
    called: bool
    changed: bool
    count: int
    rating: Rating

    def __str__(self) -> str:
        action = "called" if self.called else "changed" if self.changed else "imported"
        times = f" {self.count} times" if self.count > 1 else ""
        entry = f" of {self.entry}" if self.entry else ""
        return f"{self.name} would be {action}{times} (byte {self.offset}{entry})"


@dataclass(frozen=True)
class Safety:
    """Everything that the pickles in a file import.

    Attributes:
        names: The globals, the most dangerous first.
        complete: Whether every pickle was scanned to its end.
    """

    names: tuple[Global, ...] = ()
    complete: bool = True

    @property
    def rating(self) -> Rating:
        """The rating of the worst name; at best unknown if not every pickle was scanned."""
        least: Rating = "harmless" if self.complete else "unknown"
        return max((least, *(name.rating for name in self.names)), key=RATINGS.index)

    @property
    def dangerous(self) -> tuple[Global, ...]:
        """The globals that can do harm."""
        return tuple(name for name in self.names if name.rating == "dangerous")

    def rows(self) -> list[tuple[str, str]]:
        """Describe the findings for people.

        Returns:
            Pairs of a label and a text: one pair for a harmless file, otherwise a verdict and up to
            12 of the globals that are not harmless.
        """
        if self.rating == "harmless":
            return [("safety", f"nothing but tensors and plain data: {len(self.names)} names")]
        harm = "can do harm" if self.dangerous else "is unknown to this tool"
        rows = [("safety", f"torch.load(weights_only=False) runs code that {harm}")]
        if not self.complete:
            rows.append(("unknown", "not every pickle in it was scanned to its end"))
        shown = [(name.rating, str(name)) for name in self.names if name.rating != "harmless"]
        left = len(shown) - _SHOWN
        return [*rows, *shown[:_SHOWN], *([("", f"... {left} more")] if left > 0 else [])]


def assess(path: Path) -> Safety:
    """Rate what the pickles in a file would import and call, without running any of it.

    Args:
        path: A file, or a folder of ``torch.distributed.checkpoint``.

    Returns:
        The rated globals; none for a file without pickles.

    Raises:
        OSError: ``path`` cannot be read, or is not a regular file.
    """
    found = references_in(path)
    names = sorted(map(_rated, found.names), key=lambda name: -RATINGS.index(name.rating))
    return Safety(tuple(names), found.complete)


def _rated(found: GlobalReference) -> Global:
    full = f"{found.module}.{found.name}".lstrip(".")
    return Global(
        full if full.isprintable() else ascii(full)[1:-1],
        found.entry,
        found.offset,
        found.called,
        found.changed,
        found.count,
        # The file then decides what other code finds under the name, however harmless that is.
        "dangerous" if found.changed else rate(found.module, found.name),
    )
