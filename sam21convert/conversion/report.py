"""The report of a conversion: what it did, or would do."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from ..checkpoint.safety.report import Safety, SourceReport, assess, together
from ..hub.published import Twin
from ..io.data.checksums import sha256
from ..io.source import FOLDERS, Container
from ..model.config import Generation
from ..report import Part, Toned, size_text, table
from .plan import Plan
from .write import side_files_of

_CLEAN = "the output is clean: nothing but tensors and settings is taken from the source"


@dataclass(frozen=True)
class Conversion(SourceReport, schema="convert/1"):
    """The answer of :func:`~sam21convert.convert`.

    Attributes:
        source: what was converted.
        destination: what was written.
        source_dialect: the dialect of the source; ``lora`` for an adapter.
        source_container: the form of the source.
        dialect: the dialect that was written.
        container: the container that was written.
        config: the shipped config with these tensors, if there is one.
        generation: the generation that was written; None when nothing tells it.
        image_size: the side of the input in pixels, if a config was written or stated.
        dtypes: element type -> number of tensors written.
        lost: name in the source -> the largest magnitude in a tensor that ``allow_lossy`` dropped,
            None where it is not finite.
        dropped: names of the tensors that ``drop_hq`` left out.
        tensors: for each tensor written its ``name``, ``dtype``, ``shape``, and ``from``: the names
            in the source that it is made of; none for zeros and constants that were added.
        bytes: the size of the tensor data.
        files: names of the files written.
        sha256: path -> SHA-256 of each file read or written, if hashes were asked for.
        verified: whether the output was read back.
        identical_to: the published file that has the same bytes as the weights that were written,
            if there is one to compare with: its ``repo``, ``file``, ``revision`` and ``sha256``.
        dry_run: whether nothing was written.
        notes: what was left out, added or assumed, a sentence each.
        safety: what loading the sources with torch or pickle would import and call. The output has
            nothing but tensors.

    Example:
        >>> done = sam21convert.convert("model.pt", "copy.safetensors", dtype="float16")
        >>> done.dtypes
        {'F16': 359}
    """

    source: Path
    destination: Path
    source_dialect: str
    source_container: Container
    dialect: str
    container: Container
    config: str | None
    generation: Generation | None
    image_size: int | None
    dtypes: dict[str, int]
    lost: dict[str, float | None]
    dropped: tuple[str, ...]
    tensors: tuple[dict[str, Any], ...]
    bytes: int
    files: tuple[str, ...]
    sha256: dict[str, str]
    verified: bool
    identical_to: Twin | None
    dry_run: bool
    notes: tuple[str, ...]
    safety: Safety

    def to_dict(self) -> dict[str, Any]:
        """Give the fields as plain data.

        Returns:
            Field name to value, the published file as a dict.
        """
        equal = None if self.identical_to is None else asdict(self.identical_to)
        return {**super().to_dict(), "identical_to": equal}

    def shown(self) -> list[Part]:
        """What people see.

        Returns:
            A table of what was read and written.
        """
        done = "would write" if self.dry_run else "wrote"
        dtypes = ", ".join(f"{count} {dtype}" for dtype, count in self.dtypes.items())
        checked = "read back, every byte accounted for" if self.verified else "not read back"
        rows = [
            ("read", f"{self.source} ({self.source_dialect}, {self.source_container})"),
            (
                done if self.dry_run else Toned(done, "good"),
                f"{self.destination} ({self.dialect}, {self.container})",
            ),
            ("model", self.config or "of no published size"),
            ("tensors", f"{len(self.tensors)} ({dtypes}) in {size_text(self.bytes)}"),
            ("files", ", ".join(self.files)),
            *([("dropped", ", ".join(self.dropped))] if self.dropped else []),
            *([] if self.dry_run else [("checked", checked)]),
            *([] if self.identical_to is None else [("identical", f"to {self.identical_to}")]),
            *(("note", note) for note in self.notes),
        ]
        return [table(rows)]


def report(
    plan: Plan, *, dry_run: bool, verified: bool, hashes: bool, identical_to: Twin | None = None
) -> Conversion:
    """Describe a plan, carried out or not.

    Args:
        plan: the plan.
        dry_run: whether it was not carried out.
        verified: whether the output was read back.
        hashes: whether to compute the SHA-256 of every file.
        identical_to: the published file that has the same bytes; those of the output are not
            hashed again.

    Returns:
        The report.
    """
    folder = plan.container in FOLDERS
    beside = (plan.yaml.name,) if plan.yaml else ()
    names = (*side_files_of(plan), *plan.shards) if folder else (plan.destination.name, *beside)
    home = plan.destination if folder else plan.destination.parent
    read = [file for source in plan.sources for file in source.files]
    hashed = [*read, *([] if dry_run else [home / name for name in names])] if hashes else []
    known = {}
    if identical_to is not None:  # which has one file of weights
        weights = next(iter(plan.shards)) if folder else plan.destination.name
        known[home / weights] = identical_to.sha256
    safety = together(assess(source.path) for source in plan.sources if source.path.exists())
    return Conversion(
        source=plan.sources[0].path,
        destination=plan.destination,
        source_dialect=_dialect_of(plan),
        source_container=plan.sources[0].container,
        dialect=plan.dialect.name,
        container=plan.container,
        config=plan.shipped.name if plan.shipped else None,
        generation=plan.generation,
        image_size=plan.config.image_size if plan.config else None,
        dtypes=dict(Counter(tensor.spec.dtype for tensor in plan.tensors.values())),
        lost={
            name: largest if isfinite(largest) else None
            for name, largest in plan.change.lost.items()
        },
        dropped=plan.source.dropped,
        tensors=tuple(
            {
                "name": name,
                "dtype": tensor.spec.dtype,
                "shape": list(tensor.spec.shape),
                "from": list(plan.origins[name]),
            }
            for name, tensor in plan.tensors.items()
        ),
        bytes=plan.nbytes,
        files=names,
        sha256={str(file): known.get(file) or sha256(file) for file in hashed},
        verified=verified,
        identical_to=identical_to,
        dry_run=dry_run,
        notes=(*plan.notes, *([] if safety.clean else [_CLEAN])),
        safety=safety,
    )


def _dialect_of(plan: Plan) -> str:
    if plan.adapter is not None:
        return "lora"
    return plan.source.dialect.name
