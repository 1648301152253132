"""The phases of publishing, by number and name, in front of what is done in each."""

from __future__ import annotations

from ...report import Progress

_NAMES = ("convert", "validate", "compare", "upload")


class Phases(Progress):
    """Passes on what is done, with the phase in front: ``3/4 compare: importing transformers``.

    Args:
        progress: Told of everything.
        uploads: Whether the last phase is part of the work.
    """

    def __init__(self, progress: Progress, *, uploads: bool) -> None:
        self._progress = progress
        self._names = _NAMES if uploads else _NAMES[:-1]
        self._place = ""

    @classmethod
    def of(cls, progress: Progress) -> Phases:
        """Divide work without an upload into phases, unless it is divided already.

        Args:
            progress: Told of everything.

        Returns:
            ``progress`` if it has phases, else one that has.
        """
        return progress if isinstance(progress, Phases) else cls(progress, uploads=False)

    def enter(self, name: str) -> None:
        """Begin a phase.

        Args:
            name: Its name.
        """
        self._place = f"{self._names.index(name) + 1}/{len(self._names)} {name}"
        self._progress.start(self._place, 0)

    def start(self, label: str, total: int) -> None:
        """Begin a stage of the present phase.

        Args:
            label: What is done.
            total: How much there is to do; 0 where it is not known.
        """
        self._progress.start(f"{self._place}: {label}" if self._place else label, total)

    def advance(self, count: int, doing: str = "") -> None:
        """Report what was done since the last call.

        Args:
            count: How much of the total.
            doing: What begins now.
        """
        self._progress.advance(count, doing)

    def tell(self, text: str) -> None:
        """Say how far the stage is.

        Args:
            text: A few words.
        """
        self._progress.tell(text)
