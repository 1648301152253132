"""The last word on a conversion of a published checkpoint: the same weights, published elsewhere.

Nothing else in this package knows those bytes, so nothing else could make the same mistake.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import MismatchError
from ..hub import published
from ..hub.published import Published, Twin
from ..io.data.checksums import sha256
from ..io.source import FOLDERS
from .plan import Plan


def compare_with_published(plan: Plan, written: Path) -> Twin | None:
    """Compare what was written with what is published of the same checkpoint.

    Only sources with the size of a published file cost anything: one SHA-256 of the output.

    Args:
        plan: the plan that was carried out.
        written: the file or folder that was written, under whatever name.

    Returns:
        The published file that has the same bytes; None if there is none to compare with.

    Raises:
        MismatchError: when the source is a published checkpoint, and the output is not the file
            that its authors publish in that form.
    """
    if _changes_weights(plan):
        return None
    (name,) = plan.shards
    file = written / name if plan.container in FOLDERS else written
    (source,) = plan.source.source.files
    size = source.stat().st_size
    twins = [(known, twin) for known in published.PUBLISHED for twin in known.twins]
    twins = [
        (known, twin)
        for known, twin in twins
        if (known.bytes, twin.dialect) == (size, plan.dialect.name)
    ]
    found = sha256(file) if twins else ""
    for known, twin in twins:
        if found == twin.sha256:
            return twin
        if twin.binding and sha256(source) == known.sha256:
            raise _differs(plan, known, twin, found)
    return None


def _changes_weights(plan: Plan) -> bool:
    """Whether the output cannot be a published file: the request asks for something else."""
    return (
        plan.container == "torch zip"
        or len(plan.sources) != 1
        or len(plan.source.source.files) != 1
        or len(plan.shards) != 1
        or plan.generation != plan.source.generation
        or {tensor.spec.dtype for tensor in plan.tensors.values()} != {"F32"}
    )


def _differs(plan: Plan, known: Published, twin: Twin, found: str) -> MismatchError:
    return MismatchError(
        f"{plan.destination}: the source is {known.file} as its authors publish it, but its "
        f"weights would not be those of {twin}: expected SHA-256 {twin.sha256}, found {found}",
        hint="nothing was written; this is a fault of sam21convert, please report it",
    )
