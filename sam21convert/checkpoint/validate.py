"""Check whether a checkpoint loads strictly and its values are sound, without torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..io.data.checksums import used_blobs
from ..io.folding import fold
from ..model.config import ModelConfig
from ..report import SILENT, Line, Part, Progress, Toned, labelled
from .inspect import faults, missing_copies, untold
from .mismatch import hint
from .open import Checkpoint, open_checkpoint, unequal_copies
from .safety.report import Safety, SourceReport


@dataclass(frozen=True)
class Validation(SourceReport, schema="validate/1"):
    """The answer of :func:`~sam21convert.validate`. Names of tensors are those in the file.

    Tensors that are zero or constant throughout, or hold denormal numbers, deserve a look, but are
    no fault.

    Attributes:
        path: the file or folder.
        dialect: the name of the dialect; None if no dialect has such names.
        config: the config that the tensors were checked against; None when nothing tells one.
        missing: names of missing tensors.
        unexpected: names of tensors that the dialect does not know.
        mismatched: names of tensors of another shape.
        wrong_type: names of tensors of a type that no weight has.
        nan: names of tensors with NaN.
        inf: names of tensors with infinities.
        zero: names of tensors that are zero throughout.
        constant: names of tensors with one other value throughout.
        denormal: names of tensors with denormal numbers.
        problems: why the checkpoint does not load or is not sound, a line each.
        warnings: what deserves a look, a line each.
        notes: what was assumed because no tensor tells it, a line each.
        hint: what to do about the problems, if there are any.
        safety: what loading the file with torch or pickle would import and call.

    Example:
        >>> answer = sam21convert.validate("model.pt", config="debug/sam2_debug")
        >>> answer.unexpected[0]
        'no_obj_embed_spatial'
    """

    path: Path
    dialect: str | None
    config: str | None
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[str, ...]
    wrong_type: tuple[str, ...]
    nan: tuple[str, ...]
    inf: tuple[str, ...]
    zero: tuple[str, ...]
    constant: tuple[str, ...]
    denormal: tuple[str, ...]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    hint: str | None
    safety: Safety

    @property
    def ok(self) -> bool:
        """Whether the checkpoint loads strictly and every value is finite."""
        return not self.problems

    @property
    def exit_code(self) -> int:
        """0 when the checkpoint is sound, 1 otherwise."""
        return 0 if self.ok else 1

    def to_dict(self) -> dict[str, Any]:
        """Give the report as plain data.

        Returns:
            The fields, and ``misshapen``, an older name of ``mismatched``.
        """
        content = super().to_dict()
        return {**content, "misshapen": content["mismatched"]}

    def shown(self) -> list[Part]:
        """What people see.

        Returns:
            The verdict, and a line for each problem, warning and note.
        """
        fits = f"dialect '{self.dialect}' with config '{self.config}'"
        said = Toned("loads", "good") if self.ok else Toned("does not load", "bad")
        more = f": it fits {fits}" if self.ok else f" as {fits}" if self.config else ""
        lines = [Line((f"{self.path} ", said, more))]
        lines += [Line(("  ", problem), hang=4) for problem in self.problems]
        lines += [labelled("warning", warning) for warning in self.warnings]
        lines += [labelled("note", note) for note in self.notes]
        return [*lines, *([labelled("hint", self.hint)] if self.hint else [])]


def validate(
    path: str | Path,
    config: str | Path | ModelConfig | None = None,
    *,
    weights: str | None = None,
    prefix: str | None = None,
    drop: str | Sequence[str] = (),
    progress: Progress = SILENT,
) -> Validation:
    """Check a checkpoint against a config, by reading all of it.

    Args:
        path: a path, a published name, ``hf://org/repo`` or ``https://...``.
        config: a shipped name, a file, or a model config; None for the config found beside the
            checkpoint, or else the published model with these tensors.
        weights: which of several state dicts to check, as for :func:`~sam21convert.inspect`.
        prefix: the prefix of the names in one of several state dicts.
        drop: names of tensors that are not part of SAM 2 and are not checked, as for
            :func:`~sam21convert.convert`.
        progress: is told the number of bytes read.

    Returns:
        What is wrong with it, if anything.

    Raises:
        UnreadableError: when the file is damaged, or a checksum in it does not match.
        RefusedError: when it is not a SAM 2 checkpoint, or ``drop`` names a part of SAM 2.
        MissingFileError: when there is no such file or config.
        UsageError: when ``drop`` matches nothing.

    Example:
        >>> sam21convert.validate("model.pt").ok
        True
    """
    drop = (drop,) if isinstance(drop, str) else tuple(drop)
    opened = open_checkpoint(
        path, config, weights=weights, prefix=prefix, drop=drop, with_lora=True
    )
    return examine(opened, progress)


def examine(checkpoint: Checkpoint, progress: Progress = SILENT) -> Validation:
    """Check a checkpoint that is open, by reading all of it.

    Args:
        checkpoint: the checkpoint, with its config.
        progress: is told the number of bytes read.

    Returns:
        What is wrong with it, if anything.

    Raises:
        UnreadableError: when the file is damaged, or a checksum in it does not match.
    """
    from .values import survey  # numpy

    blobs = used_blobs(checkpoint.source.blobs, checkpoint.tensors.values())
    values = survey(checkpoint.tensors, blobs, progress)
    fit = checkpoint.fit
    problems = [*faults(checkpoint), *unequal_copies(checkpoint)]
    advice = hint(checkpoint) if problems and checkpoint.lora is None else None
    problems += [
        f"{label:<11} {len(values[kind]):>4}   {'  '.join(fold(values[kind])[:4])}"
        for kind, label in (("nan", "NaN"), ("inf", "infinite"))
        if values[kind]
    ]
    # Every cast to float16 makes some denormal numbers, so that they deserve no warning there.
    half = [name for name in values["denormal"] if checkpoint.tensors[name].spec.dtype == "F16"]
    shipped = checkpoint.shipped.name if checkpoint.shipped else None
    return Validation(
        path=checkpoint.source.path,
        dialect=checkpoint.dialect.name if checkpoint.dialect else None,
        config=checkpoint.config_from or shipped,
        missing=fit.missing if fit else (),
        unexpected=fit.unexpected if fit else (),
        mismatched=tuple(name for name, _, _ in fit.mismatched) if fit else (),
        wrong_type=tuple(name for name, _ in fit.wrong_type) if fit else (),
        problems=tuple(problems),
        warnings=(*missing_copies(checkpoint), *_warnings(values, half)),
        notes=(*checkpoint.source.notes, *untold(checkpoint), *_notes(half)),
        hint=advice,
        safety=checkpoint.safety,
        **{kind: tuple(names) for kind, names in values.items()},
    )


def _warnings(values: Mapping[str, list[str]], half: list[str]) -> Iterator[str]:
    for kind, text in (
        ("zero", "all zero"),
        ("constant", "one value throughout"),
        ("denormal", "with denormal numbers"),
    ):
        names = [name for name in values[kind] if kind != "denormal" or name not in half]
        if names:
            yield f"{len(names)} {text}: {', '.join(fold(names)[:4])}"


def _notes(half: list[str]) -> Iterator[str]:
    if half:
        yield f"{len(half)} in float16 with denormal numbers, which have fewer digits there"
