"""The changes between two checkpoints, as data and as text."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ...dialects import OFFICIAL
from ...io.folding import fold
from ...io.tensor import TensorSpec
from ...report import BLANK, Line, Part, Table, Toned, heading, one_line, table
from ..safety.report import Safety, SourceReport
from .modules import rank

# "misshapen" means mismatched shapes; the word stays because it is part of the JSON output.
TensorStatus = Literal["identical", "cast", "within", "different", "misshapen"]

SAME = ("identical", "cast", "within")
_CHANGED = ("different", "only_a", "only_b")
_SHOWN = 10  # of the largest changes
_LISTED = 2  # of the names that only one side has


@dataclass(frozen=True)
class TensorChange:
    """One tensor that both sides hold.

    Attributes:
        name: its official name, or that in the files where ``Difference.names`` says so.
        module: the module that it belongs to.
        outcome: "identical" (every bit), "cast" (equal once the wider is rounded to the type of the
            narrower), "within" (the tolerance), "different" or "misshapen" (the shapes differ).
        a: type and shape in A.
        b: type and shape in B.
        largest: the largest absolute difference of two elements that are finite on both sides; like
            the next four, None where nothing can be measured.
        mean: the mean of these differences.
        scale: the largest magnitude on either side.
        relative: ``largest`` in units of ``scale``.
        relative_mean: ``mean`` in units of ``scale``.
        unmatched: the number of elements that are NaN or infinite on one side and not the same on
            the other.
        cast: the wider and the narrower type, if the outcome is "cast".
    """

    name: str
    module: str
    outcome: TensorStatus
    a: TensorSpec
    b: TensorSpec
    largest: float | None = None
    mean: float | None = None
    scale: float | None = None
    relative: float | None = None
    relative_mean: float | None = None
    unmatched: int = 0
    cast: tuple[str, str] | None = None

    @property
    def weight(self) -> tuple[bool, bool, int, float]:
        """A sort key that is largest for the largest change."""
        different = self.outcome == "different"
        return self.outcome == "misshapen", different, self.unmatched, self.relative or 0.0

    def __str__(self) -> str:
        return one_line(f"{self.name}  {self.size}")

    @property
    def size(self) -> str:
        """How far apart the two are; their types and shapes where nothing can be measured."""
        if self.relative is None:
            return f"{self.a} in A, {self.b} in B"
        numbers = f"{self.relative:.1e} of scale  max {self.largest:.2e}  mean {self.mean:.2e}"
        return (f"{self.unmatched} not finite on one side  " if self.unmatched else "") + numbers


@dataclass(frozen=True)
class OneSided:
    """A tensor that only one side holds.

    Attributes:
        name: its official name, or that in the file if it has no place in the model.
        module: the module that it belongs to.
        spec: its type and shape.
        why: why the other side does not hold it.
    """

    name: str
    module: str
    spec: TensorSpec
    why: str


@dataclass(frozen=True)
class ModuleChange:
    """How a module compares.

    Attributes:
        module: a key of ``MODULES``, or ``OTHER``.
        tensors: the number of tensors that both sides hold.
        identical: how many of them have the same bits.
        cast: how many are equal once cast.
        within: how many are equal within the tolerance.
        different: how many differ, also in shape.
        only_a: the number of tensors that only A holds.
        only_b: the number of tensors that only B holds.
        relative: the largest relative change of those that differ; 0 if none can be measured.
    """

    module: str
    tensors: int
    identical: int
    cast: int
    within: int
    different: int
    only_a: int
    only_b: int
    relative: float

    @property
    def untouched(self) -> bool:
        """Whether both sides hold all of it with the same bits."""
        return self.identical == self.tensors and not self.only_a and not self.only_b

    def __str__(self) -> str:
        share = f"{self.different} of {self.tensors} tensors"
        most = f", up to {self.relative:.1e} of scale" if self.relative else ""
        return f"{self.module} ({share}{most})"


@dataclass(frozen=True)
class Difference(SourceReport, schema="diff/1"):
    """The answer of :func:`~sam21convert.diff`.

    Attributes:
        a: the first checkpoint.
        b: the second checkpoint.
        a_form: dialect and container of A.
        b_form: dialect and container of B.
        names: the dialect whose names are used: ``official``, or the dialect of both checkpoints
            when no config tells what model they are.
        tolerance: the tolerance that was asked for.
        tensors: the tensors that both hold, the largest changes first.
        only_a: the tensors that only A holds.
        only_b: the tensors that only B holds.
        safety: what loading the two with torch or pickle would import and call.

    Example:
        >>> found = sam21convert.diff("model.pt", "my_finetune.pt")
        >>> found.exit_code
        1
    """

    a: Path
    b: Path
    a_form: str
    b_form: str
    names: str
    tolerance: float | None
    tensors: tuple[TensorChange, ...]
    only_a: tuple[OneSided, ...]
    only_b: tuple[OneSided, ...]
    safety: Safety

    @property
    def same(self) -> bool:
        """Whether both hold the same tensors with the same values."""
        shared = all(change.outcome in SAME for change in self.tensors)
        return shared and not self.only_a and not self.only_b

    @property
    def exit_code(self) -> int:
        """0 when the two are the same, 1 otherwise."""
        return 0 if self.same else 1

    @property
    def modules(self) -> tuple[ModuleChange, ...]:
        """The modules in the order of the data flow."""
        found = {t.module for t in self.tensors}
        found |= {tensor.module for tensor in (*self.only_a, *self.only_b)}
        return tuple(self._module(module) for module in sorted(found, key=rank))

    def _module(self, module: str) -> ModuleChange:
        own = [change for change in self.tensors if change.module == module]
        count = {kind: sum(c.outcome == kind for c in own) for kind in SAME}
        return ModuleChange(
            module,
            len(own),
            **count,
            different=len(own) - sum(count.values()),
            only_a=sum(tensor.module == module for tensor in self.only_a),
            only_b=sum(tensor.module == module for tensor in self.only_b),
            relative=max((c.relative or 0 for c in own if c.outcome == "different"), default=0.0),
        )

    def to_dict(self) -> dict[str, Any]:
        """Give the report as plain data.

        Returns:
            The fields, and ``same`` and ``modules``.
        """
        return {
            **super().to_dict(),
            "same": self.same,
            "modules": [asdict(module) for module in self.modules],
            **{
                side: [asdict(item) for item in getattr(self, side)]
                for side in ("tensors", "only_a", "only_b")
            },
        }

    def shown(self) -> list[Part]:
        """What people see.

        Returns:
            The sides and the verdict, a line for each part of the model, and the largest changes.
        """
        rows = [("A", f"{self.a} ({self.a_form})"), ("B", f"{self.b} ({self.b_form})")]
        if self.names != OFFICIAL.name:
            rows.append(("names", f"{self.names}: no config tells what model this is"))
        rows += [("changed", str(m)) for m in self.modules if m.different]
        untouched = [m.module for m in self.modules if m.untouched]
        if untouched:
            rows.append(("untouched", ", ".join(untouched)))
        for side, tensors in (("only in A", self.only_a), ("only in B", self.only_b)):
            for why in dict.fromkeys(item.why for item in tensors):
                names = fold(item.name for item in tensors if item.why == why)
                count = sum(item.why == why for item in tensors)
                more = " ..." if len(names) > _LISTED else ""
                rows.append((side, f"{count} ({why}): {'  '.join(names[:_LISTED])}{more}"))
        rows.append(("verdict", Toned(self._verdict(), "good" if self.same else "bad")))
        return [table(rows), BLANK, self._grid(), *self._largest()]

    def _verdict(self) -> str:
        if not all(change.outcome in SAME for change in self.tensors):
            return "different"
        casts = dict.fromkeys(f"{c.cast[0]} to {c.cast[1]}" for c in self.tensors if c.cast)
        alike = f"the same after a cast, {', '.join(casts)}" if casts else "the same, every bit"
        if any(change.outcome == "within" for change in self.tensors):
            alike = f"the same within {self.tolerance:g} of each tensor's scale"
        if self.same:
            return alike
        one_sided = ((len(self.only_a), "A"), (len(self.only_b), "B"))
        more = " and ".join(f"{count} more only in {side}" for count, side in one_sided if count)
        return f"different: {more}; what both hold is {alike}"

    def _grid(self) -> Table:
        """A line for each part of the model, without columns that say nothing."""
        modules = self.modules
        names = ("tensors", "identical", "cast", "within", *_CHANGED)
        shown = [name for name in names if any(getattr(module, name) for module in modules)]
        head = ("module", *(name.replace("_", " ") for name in shown))
        rows: list[tuple[str, ...]] = [heading((*head, "largest"))]
        for module in modules:
            counts = [_count(name, getattr(module, name)) for name in shown]
            largest = Toned(f"{module.relative:.1e}", "bad") if module.relative else "-"
            rows.append((module.module, *counts, largest))
        return Table(tuple(rows), gives=0, right=tuple(range(1, len(shown) + 2)))

    def _largest(self) -> list[Part]:
        changed = [change for change in self.tensors if change.outcome not in SAME]
        rows = [(change.name, change.size) for change in changed[:_SHOWN]]
        more = len(changed) - len(rows)
        head = f"largest changes{f' ({more} more with --json)' if more else ''}"
        return [BLANK, Line((head,)), table(rows)] if rows else []


def _count(column: str, count: int) -> str:
    if not count:
        return "-"
    return Toned(f"{count}", "bad") if column in _CHANGED else f"{count}"
