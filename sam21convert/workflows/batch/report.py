"""The answer of a batch: the outcome for each source."""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ...checkpoint.safety.policy import Rating
from ...report import Report, not_checkpoints, one_line, size_text
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
        others: Files of the given folders that are no checkpoints.

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

    def __str__(self) -> str:
        rows = [_row(item) for item in self.items]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = []
        for item, row in zip(self.items, rows, strict=True):
            cells = [text.ljust(width) for text, width in zip(row, widths, strict=True)]
            lines.append("  ".join(cells).rstrip())
            for label, text in (
                ("identical to", item.identical_to),
                ("error", item.error),
                ("hint", item.hint),
            ):
                lines += _labelled(label, text) if text is not None else []
        if self.left_out:
            names = ", ".join(map(one_line, self.left_out))
            lines.append(f"left out, written by this batch: {names}")
        if self.others:
            lines.append(not_checkpoints(self.others))
        counts = ", ".join(f"{n} {name}" for name, n in self.totals.items() if name != "bytes")
        size = size_text(self.totals["bytes"])
        done = (
            "to write"
            if self.dry_run
            else f"in {self.seconds:.1f} s, see {one_line(str(self.out / JOURNAL))}"
        )
        return "\n".join([*lines, f"{len(self.items)} in all: {counts}; {size} {done}"])


def _labelled(label: str, text: str) -> list[str]:
    """A text below its item. Further lines stand right of the label, so none can pass for one."""
    first, *others = map(one_line, text.split("\n"))
    return [f"  {label}: {first}", *(" " * (len(label) + 4) + other for other in others)]


def _row(item: Item) -> list[str]:
    """The cells of one line of the table, empty where nothing is known."""
    if item.outcome == "failed":
        return [item.outcome, one_line(item.source), *[""] * 6]
    return [
        item.outcome,
        one_line(item.source),
        one_line(str(item.output)),
        f"{item.source_dialect} to {item.dialect}",
        item.config or "custom config",
        ", ".join(item.dtypes),
        size_text(item.bytes),
        f"{item.seconds:.1f} s" if item.outcome == "converted" else "",
    ]
