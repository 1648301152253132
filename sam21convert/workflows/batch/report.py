"""The answer of a batch: the outcome for each source."""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ...checkpoint.safety.policy import Rating
from ...report import (
    Line,
    Part,
    Report,
    Table,
    Tone,
    Toned,
    labelled,
    not_checkpoints,
    one_line,
    size_text,
)
from .journal import JOURNAL

BatchStatus = Literal["planned", "converted", "skipped", "failed"]


@dataclass(frozen=True)
class Item(Report):
    """The outcome for one source. A failure has an error and no facts about an output.

    Attributes:
        source: As it was given.
        output: The path of the output.
        outcome: ``"planned"`` in a dry run, ``"converted"``, ``"skipped"`` if the output is up to
            date, or ``"failed"``.
        source_dialect: The dialect of the source.
        dialect: The dialect of the output.
        config: The name of a shipped config; None for any other.
        generation: The generation of the output.
        dtypes: Type to number of tensors in the output.
        bytes: Size of the output's tensors, also if it is only planned.
        identical_to: The published file that has the same bytes; None if there is none to compare
            with.
        safety: The rating of what loading the source with torch or pickle would run; None where it
            was not looked at in this run.
        seconds: The duration of the conversion.
        error: Why it failed.
        hint: How to mend that.
    """

    source: str
    output: Path
    outcome: BatchStatus = "failed"
    source_dialect: str | None = None
    dialect: str | None = None
    config: str | None = None
    generation: str | None = None
    dtypes: dict[str, int] = field(default_factory=dict)
    bytes: int = 0
    identical_to: str | None = None
    safety: Rating | None = None
    seconds: float = 0.0
    error: str | None = None
    hint: str | None = None


@dataclass(frozen=True)
class BatchReport(Report, schema="batch/1"):
    """The answer of :func:`~sam21convert.batch`.

    Attributes:
        out: The output folder.
        items: The outcomes, in the order of the sources.
        left_out: Sources that the batch itself has written.
        seconds: The duration of the whole batch.
        dry_run: Whether nothing was written.
        others: Files that patterns match, and those in folders, which are no checkpoints.

    Example:
        >>> report = sam21convert.batch("*.pt", "converted", suffix=".safetensors")
        >>> report.exit_code
        0
    """

    out: Path
    items: tuple[Item, ...]
    left_out: tuple[str, ...]
    seconds: float
    dry_run: bool
    others: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """1 when any failed."""
        return int(any(item.outcome == "failed" for item in self.items))

    def alerts(self) -> tuple[str, ...]:
        """Warn of sources that are not clean.

        Returns:
            A line for each.
        """
        return tuple(
            f"{one_line(item.source)}: is {item.safety}: sam21convert inspect "
            f"{shlex.quote(one_line(item.source))} says what loading it would run"
            for item in self.items
            if item.safety not in (None, "harmless")
        )

    @property
    def totals(self) -> dict[str, int]:
        """Outcome to number of items, and the bytes of outputs that were, or would be, written."""
        counts = Counter(item.outcome for item in self.items)
        new = [item.bytes for item in self.items if item.outcome in ("converted", "planned")]
        return {**dict(sorted(counts.items())), "bytes": sum(new)}

    def to_dict(self) -> dict[str, Any]:
        """Give the fields as plain data.

        Returns:
            Field name to value, each item as a dict, and the totals.
        """
        items = [item.to_dict() for item in self.items]
        return {**super().to_dict(), "items": items, "totals": self.totals}

    def shown(self) -> list[Part]:
        """What people see.

        Returns:
            A row for each source with what went wrong below it, and the totals.
        """
        rows: list[tuple[str, ...] | Line] = []
        for item in self.items:
            rows.append(_row(item))
            for name, text in (
                ("identical to", item.identical_to),
                ("error", item.error),
                ("hint", item.hint),
            ):
                rows += _labelled(name, text) if text is not None else []
        parts: list[Part] = [Table(tuple(rows), right=(6, 7))]
        if self.left_out:
            parts.append(labelled("left out, written by this batch", ", ".join(self.left_out)))
        if self.others:
            parts.append(Line((Toned(not_checkpoints(self.others), "dim"),)))
        totals = [(name, count) for name, count in self.totals.items() if name != "bytes"]
        counts = ", ".join(f"{count} {name}" for name, count in totals)
        size = size_text(self.totals["bytes"])
        done = "to write" if self.dry_run else f"in {self.seconds:.1f} s, see {self.out / JOURNAL}"
        tone: Tone = "bad" if self.exit_code else "good"
        in_all = f"{len(self.items)} in all: "
        return [*parts, Line((in_all, Toned(counts, tone), f"; {size} {done}"))]


def _labelled(name: str, text: str) -> list[Line]:
    """A text below its item. Further lines stand right of the label, so none can pass for one."""
    first, *others = text.split("\n")
    line = labelled(name, first, 2)
    return [line, *(Line((" " * line.hang, other), line.hang + 2) for other in others)]


_TONES: dict[BatchStatus, Tone] = {
    "planned": "note",
    "converted": "good",
    "skipped": "dim",
    "failed": "bad",
}


def _row(item: Item) -> tuple[str, ...]:
    """The cells of one line of the table, empty where nothing is known."""
    outcome = Toned(item.outcome, _TONES[item.outcome])
    if item.outcome == "failed":
        return (outcome, item.source)
    return (
        outcome,
        item.source,
        str(item.output),
        f"{item.source_dialect} to {item.dialect}",
        item.config or "custom config",
        ", ".join(item.dtypes),
        size_text(item.bytes),
        f"{item.seconds:.1f} s" if item.outcome == "converted" else "",
    )
