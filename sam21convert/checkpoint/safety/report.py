"""What loading a file the ordinary way, with ``torch.load`` or ``pickle.load``, would run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .policy import RATINGS, Rating, rate
from .scan import references_in
from .walk import GlobalReference

_SHOWN = 12


@dataclass(frozen=True)
class Global:
    """A name that the pickles of a file import, ``offset`` bytes into that in ``entry`` first.

    ``entry`` is empty where the file itself is the pickle. The global is ``called``, ``changed``
    (attributes or items of it are set) or only referred to, ``count`` times in all.
    """

    name: str
    entry: str
    offset: int
    called: bool
    changed: bool
    count: int
    rating: Rating

    def __str__(self) -> str:
        use = "called" if self.called else "changed" if self.changed else "imported"
        times = f" {self.count} times" if self.count > 1 else ""
        entry = f" of {self.entry}" if self.entry else ""
        return f"{self.name} would be {use}{times} (byte {self.offset}{entry})"


@dataclass(frozen=True)
class Safety:
    """All that the pickles of a file import, the worst first; ``whole``: none is left unseen."""

    names: tuple[Global, ...] = ()
    whole: bool = True

    @property
    def rating(self) -> Rating:
        """That of the worst name; what was not gone through to its end is unknown at best."""
        least: Rating = "harmless" if self.whole else "unknown"
        return max((least, *(name.rating for name in self.names)), key=RATINGS.index)

    @property
    def dangerous(self) -> tuple[Global, ...]:
        """The names that can do harm."""
        return tuple(name for name in self.names if name.rating == "dangerous")

    def rows(self) -> list[tuple[str, str]]:
        """What to show: a line for a file that is harmless, else one for each name that is not."""
        if self.rating == "harmless":
            return [("safety", f"nothing but tensors and plain data: {len(self.names)} names")]
        said = "runs what can do harm" if self.dangerous else "runs what this tool does not know"
        rows = [("safety", f"torch.load(weights_only=False) {said}")]
        if not self.whole:
            rows.append(("unknown", "not every pickle in it was gone through to its end"))
        shown = [(name.rating, str(name)) for name in self.names if name.rating != "harmless"]
        left = len(shown) - _SHOWN
        return [*rows, *shown[:_SHOWN], *([("", f"... {left} more")] if left > 0 else [])]


def assess(path: Path) -> Safety:
    """Rate what the pickles in a file would import and call. Nothing in it is run.

    Raises OSError where the file cannot be read.
    """
    found = references_in(path)
    names = sorted(map(_rated, found.names), key=lambda name: -RATINGS.index(name.rating))
    return Safety(tuple(names), found.whole)


def _rated(use: GlobalReference) -> Global:
    full = f"{use.module}.{use.name}".lstrip(".")
    return Global(
        full if full.isprintable() else ascii(full)[1:-1],
        use.entry,
        use.offset,
        use.called,
        use.changed,
        use.count,
        # What other code finds under a name is up to the file then, whatever the name.
        "dangerous" if use.changed else rate(use.module, use.name),
    )
