"""Say what a checkpoint is, without torch; but for statistics, from headers alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.registry import format_line
from ..dialects import OFFICIAL
from ..hub.resolve import resolve
from ..io.folding import fold
from ..io.source import CONFIG, Container
from ..io.tensor import TensorSpec
from ..model.config import Generation
from ..report import BLANK, SILENT, Line, Part, Progress, Report, one_line, size_text, table
from .mismatch import describe, part_text
from .open import Checkpoint, open_checkpoint
from .order import in_model_order
from .safety.report import FailOn, Safety, assess, check_fail_on
from .tree import Module, tree_of

if TYPE_CHECKING:
    from .stats import Statistics

_SHOWN = 8  # names on a line


@dataclass(frozen=True)
class Inspection(Report, schema="inspect/1"):
    """The answer of :func:`~sam21convert.inspect`. None stands for what the file does not tell.

    Attributes:
        path: the file or folder.
        container: the form of the file.
        dialect: the name of the dialect of its tensors.
        generation: ``"2.0"`` or ``"2.1"``.
        size: the size of the model, such as ``tiny``.
        config: the shipped config whose tensors the file has.
        parts: the parts of a model that the file holds, if it holds only some.
        task: what the dialect has tensors for: "video", "image" or "trunk".
        image_size: the side of the input in pixels, if a config beside the file states it.
        wrappers: keys and prefixes that were removed to find the state dict, from the outside in.
        tensors: the number of tensors in the state dict.
        parameters: the number of their elements.
        bytes: the size of their data.
        dtypes: element type -> number of tensors, the most common first.
        extras: names of what else is in the file.
        placeholders: classes that the pickle in the file names and that were not imported.
        problems: why the checkpoint would not load, as far as headers tell; a line each.
        notes: how its tensors were found, where that needs saying; a line each.
        safety: what loading the file with torch or pickle would import and call.
        fail_on: the rating from which on the answer is no.
        inventory: name -> type and shape of each tensor; None unless asked for.
        tree: the tensors by module; None unless asked for.
        stats: statistics of the values of each tensor; None unless asked for.

    Example:
        >>> found = sam21convert.inspect("model.pt")
        >>> found.safety.dangerous
        ()
    """

    path: Path
    container: Container
    dialect: str | None
    generation: Generation | None
    size: str | None
    config: str | None
    parts: tuple[str, ...]
    task: str | None
    image_size: int | None
    wrappers: tuple[str, ...]
    tensors: int
    parameters: int
    bytes: int
    dtypes: dict[str, int]
    extras: tuple[str, ...]
    placeholders: tuple[str, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    safety: Safety
    fail_on: FailOn = "unknown"
    inventory: dict[str, TensorSpec] | None = field(default=None, repr=False)
    tree: Module | None = field(default=None, repr=False)
    stats: Statistics | None = field(default=None, repr=False)

    @property
    def exit_code(self) -> int:
        """1 when it is not a SAM 2 checkpoint, or not known to be safe to load as a pickle."""
        return 0 if self.dialect is not None and self.safety.passes(self.fail_on) else 1

    @property
    def summary(self) -> str:
        """What it is, in a few words."""
        if self.dialect is None:
            return "not SAM 2"
        model = f"SAM {self.generation or '2.x'} {self.size or 'of another size'}"
        of = "part of " if self.parts else ""
        return f"{of}{model}, {self.dialect}"

    @property
    def advice(self) -> str | None:
        """What to do with a file that is not safe to load; None for any other."""
        if self.safety.passes(self.fail_on):
            return None
        return self.safety.advice(self.path, readable=self.converts)

    @property
    def converts(self) -> bool:
        """Whether it is a model of SAM 2 that converts without further options."""
        return self.dialect is not None and self.task != "trunk" and not self.problems

    def to_dict(self) -> dict[str, Any]:
        """Give the report as plain data.

        Returns:
            The fields. ``safety`` is the rating alone, and ``inventory``, ``tree`` and ``stats``
            are there if they were asked for. ``pickle``, ``doubts``, ``not_scanned`` and
            ``other_entries`` say what is behind the rating.
        """
        content = super().to_dict()
        content |= {**self.safety.facts(), "advice": self.advice}
        inventory = content.pop("inventory")
        if inventory is not None:
            content["inventory"] = [
                {"name": name, "dtype": spec.dtype, "shape": list(spec.shape)}
                for name, spec in inventory.items()
            ]
        for name in ("tree", "stats"):
            found = content.pop(name)
            if found is not None:
                content[name] = asdict(found)
        return content

    def _repr_html_(self) -> str:
        """What a notebook shows: the facts in a table, the tree unfolded with clicks."""
        facts = Report._repr_html_(replace(self, tree=None, stats=None))
        return "".join([facts, *(part.to_html() for part in (self.tree, self.stats) if part)])

    def shown(self) -> list[Part]:
        """What people see.

        Returns:
            A table of the facts, and what was asked for: a line for each tensor, the tree, the
            statistics.
        """
        dtypes = ", ".join(f"{count} {dtype}" for dtype, count in self.dtypes.items())
        side = f"{self.image_size} pixels" if self.image_size else "unknown: no tensor tells it"
        rows = [
            ("file", str(self.path)),
            ("container", self.container),
            ("dialect", self.dialect or "unknown"),
            ("generation", f"SAM {self.generation}" if self.generation else "unknown"),
            ("size", self.size or "unknown"),
            ("config", self.config or "unknown"),
            *([("part", " and ".join(self.parts))] if self.parts else []),
            ("task", self.task or "unknown"),
            ("image size", side),
            ("tensors", f"{self.tensors} ({dtypes})"),
            ("parameters", f"{self.parameters:,} in {size_text(self.bytes)}"),
        ]
        for label, what, items in (
            ("wrappers", "", self.wrappers),
            ("extras", "", tuple(fold(self.extras))),
            ("left out", "values that only code can make: ", self.placeholders),
        ):
            if items:
                end = " ..." if len(items) > 12 else ""
                rows.append((label, f"{what}{', '.join(items[:12])}{end}"))
        safety = self.safety.rows()
        if self.advice is None:
            rows += safety
        else:  # the verdict first
            rows = [*safety, ("what to do", self.advice), *rows]
        rows += [("problem", problem) for problem in self.problems]
        rows += [("note", note) for note in self.notes]
        parts: list[Part] = [table(rows)]
        parts += [Line((format_line(*item),)) for item in (self.inventory or {}).items()]
        for more in (self.tree, self.stats):
            parts += [BLANK, *more.shown()] if more else []
        return parts


def inspect(
    path: str | Path,
    *,
    tensors: bool = False,
    tree: bool = False,
    stats: bool = False,
    weights: str | None = None,
    prefix: str | None = None,
    allow: Collection[str] = (),
    fail_on: FailOn = "unknown",
    progress: Progress = SILENT,
) -> Inspection:
    """Say what a checkpoint is.

    A repository of the Hub (``hf://``) is not downloaded: reading some kilobytes of it is enough,
    unless statistics are asked for.

    Args:
        path: a path, a published name, ``hf://org/repo`` or ``https://...``.
        tensors: whether to list every tensor of the state dict.
        tree: whether to show the tensors by module, modules that are alike once.
        stats: whether to read all tensors, for statistics of their values.
        weights: the keys that lead to one of several state dicts in the file, such as ``model`` or
            ``a.b``; or ``ema`` for averaged weights, ``model`` for the others.
        prefix: the prefix of the names in one of several state dicts.
        allow: full names that a pickle may call, as the report prints them: your own classes.
        fail_on: ``"unknown"`` if the answer is no when a pickle calls something that is not known
            to be harmless, or when something was not looked through; ``"dangerous"`` if it is no
            only for what is known to do harm.
        progress: is told the number of bytes read for ``stats``.

    Returns:
        What the file tells.

    Raises:
        UsageError: when ``allow`` has a name that is known to do harm.
        UnreadableError: when the file is damaged, or cannot be read or downloaded.
        RefusedError: when it is not a SAM 2 checkpoint. Both errors also say what in the file could
            do harm.

    Example:
        >>> found = sam21convert.inspect("model.pt")
        >>> found.dialect, found.generation
        ('official', '2.1')
    """
    check_fail_on(fail_on)
    located = resolve(path, header_only=not stats)
    checkpoint = open_checkpoint(
        located, header_only=not stats, weights=weights, prefix=prefix, with_lora=True
    )
    inventory = checkpoint.inventory
    dialect, shipped = checkpoint.dialect, checkpoint.shipped
    # Without memory tensors both generations have the same names, so that no one config is right.
    known = shipped is not None and checkpoint.generation is not None
    return Inspection(
        path=checkpoint.source.path,
        container=checkpoint.source.container,
        dialect=dialect.name if dialect else None,
        generation=checkpoint.generation if dialect else None,
        size=shipped.size if shipped else None,
        config=shipped.name if shipped and known else None,
        parts=checkpoint.parts,
        task=dialect.task if dialect else None,
        image_size=checkpoint.config.image_size if checkpoint.config else None,
        wrappers=checkpoint.wrappers,
        tensors=len(inventory),
        parameters=sum(spec.numel for spec in inventory.values()),
        bytes=sum(spec.nbytes for spec in inventory.values()),
        dtypes=dict(Counter(spec.dtype for spec in inventory.values()).most_common()),
        extras=checkpoint.extras,
        placeholders=checkpoint.source.placeholders,
        problems=(*faults(checkpoint), *missing_copies(checkpoint)),
        notes=checkpoint.source.notes,
        safety=assess(checkpoint.source.path, allow),
        fail_on=fail_on,
        inventory=dict(inventory) if tensors else None,
        tree=tree_of({name: inventory[name] for name in in_model_order(checkpoint)})
        if tree
        else None,
        stats=_statistics(checkpoint, progress) if stats else None,
    )


def _statistics(checkpoint: Checkpoint, progress: Progress) -> Statistics:
    from .stats import statistics  # numpy

    return statistics(checkpoint, progress)


def faults(checkpoint: Checkpoint) -> list[str]:
    """Say why a checkpoint does not load, as far as the header tells.

    Args:
        checkpoint: the checkpoint.

    Returns:
        A line for each kind of fault; none when it loads.
    """
    if checkpoint.dialect is None:
        return ["no tensor has a name that SAM 2 uses in any dialect this tool knows"]
    if checkpoint.fit is None and checkpoint.parts:
        return [part_text(checkpoint)]
    if checkpoint.fit is None:
        return ["not the size of any published SAM 2: it needs a config (`config=FILE`)"]
    found = describe(checkpoint.fit)
    if checkpoint.parts:
        lacking = replace(checkpoint.fit, missing=())
        found = [
            f"{part_text(checkpoint)}: {len(checkpoint.fit.missing)} tensors are missing",
            *describe(lacking),
        ]
    if checkpoint.lora is not None:
        found.insert(0, f"{checkpoint.lora.problem}; {checkpoint.lora.hint}")
    folder = checkpoint.config_file is None
    graphs = checkpoint.source.container == "onnx folder"
    if (
        checkpoint.dialect is OFFICIAL
        and checkpoint.config_from == CONFIG
        and folder
        and not graphs
    ):
        found.append("the tensors have the official names, which transformers does not load")
    return found


def missing_copies(checkpoint: Checkpoint) -> list[str]:
    """Say what a missing copy of a tensor that the dialect holds twice means.

    Args:
        checkpoint: the checkpoint.

    Returns:
        A line for each missing copy.
    """
    return [
        f"{name} is absent: "
        + (
            "transformers 4.57 reads the copy that is there, transformers 5 puts"
            if name.startswith("prompt_encoder.")
            else "transformers puts"
        )
        + " random numbers in its place; convert to hf-video or hf-image writes both"
        for name in (checkpoint.fit.missing_copies if checkpoint.fit else ())
    ]


def left_out(checkpoint: Checkpoint) -> Iterator[str]:
    """Name what is in the file and not part of the model.

    Args:
        checkpoint: the checkpoint.

    Yields:
        Names, tensors first: of those all, shortened or counted; of the rest what fits on a line.
    """
    tensors = checkpoint.extra_tensors
    groups = fold(tensors)
    if len(groups) > _SHOWN:
        counts = Counter(name.partition(".")[0] for name in tensors)
        groups = [f"{name} ({count})" for name, count in counts.items()]
    yield from groups
    others = [name for name in checkpoint.extras if name not in set(tensors)]
    yield from map(one_line, others[:_SHOWN])
    if len(others) > _SHOWN:
        yield f"{len(others) - _SHOWN} more that are no tensors"


def untold(checkpoint: Checkpoint, *, sized: bool = False) -> Iterator[str]:
    """Say what is assumed because no tensor and no config tells it.

    Args:
        checkpoint: the checkpoint.
        sized: whether the image size is given.

    Yields:
        A line, if anything is taken from the published model.
    """
    if checkpoint.config_from is None and checkpoint.shipped is not None:
        size = "" if sized else "image size, "
        yield (
            f"{size}windows and heads are those of the published model: no tensor tells them; "
            "`config=FILE` gives others"
        )
