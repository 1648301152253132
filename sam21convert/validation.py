"""Does it load, strictly, and are its values sound? Answered without torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .checkpoint import Checkpoint, open_checkpoint, unequal_copies
from .containers.checking import check_sums, used_blobs
from .containers.copying import Files, Progress, payload
from .fitting import hint
from .inspection import faults, lone_copies, untold
from .model.config import ModelConfig
from .report import Report
from .tensors import WEIGHT_DTYPES, Tensor, TensorRef, fold


@dataclass(frozen=True)
class Validation(Report):
    """The answer of :func:`validate`. The lists hold names as they stand in the file.

    The checkpoint loads when the first six are empty. All-zero and constant tensors are worth a
    look, and are no fault. ``notes`` say what was assumed, as no tensor tells it.
    """

    path: Path
    dialect: str | None
    config: str | None
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[str, ...]
    wrong_type: tuple[str, ...]
    nan: tuple[str, ...]
    inf: tuple[str, ...]
    zero: tuple[str, ...]
    constant: tuple[str, ...]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    hint: str | None

    @property
    def ok(self) -> bool:
        """Whether the checkpoint loads strictly and every value is finite."""
        return not self.problems

    @property
    def exit_code(self) -> int:
        """0 when it is sound, 1 when not."""
        return 0 if self.ok else 1

    def __str__(self) -> str:
        fits = f"dialect '{self.dialect}' with config '{self.config}'"
        head = f"{self.path} loads: it fits {fits}" if self.ok else f"{self.path} does not load"
        if not self.ok and self.config is not None:
            head += f" as {fits}"
        lines = [head, *(f"  {problem}" for problem in self.problems)]
        lines += [f"warning: {warning}" for warning in self.warnings]
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join([*lines, *([f"hint: {self.hint}"] if self.hint else [])])


def validate(
    path: str | Path,
    config: str | Path | ModelConfig | None = None,
    *,
    weights: str | None = None,
    prefix: str | None = None,
    progress: Progress = lambda _: None,
) -> Validation:
    """Check a checkpoint against a config, by default the one it says or shows itself to be.

    Reads every tensor once. ``weights`` and ``prefix`` choose between several state dicts, as for
    :func:`~sam21convert.inspect`. ``progress`` is called with numbers of bytes.
    Raises :class:`~sam21convert.errors.UnreadableError` (also for a checksum that does not hold)
    and :class:`~sam21convert.errors.RefusedError`.
    """
    checkpoint = open_checkpoint(path, config, weights=weights, prefix=prefix)
    tensors = {name: Tensor(ref.spec, (ref,)) for name, ref in checkpoint.tensors.items()}
    check_sums(used_blobs(checkpoint.source.blobs, tensors.values()), lambda _: None)
    values = _survey(checkpoint, progress)
    fit = checkpoint.fit
    problems = [*faults(checkpoint), *unequal_copies(checkpoint)]
    advice = hint(checkpoint) if problems else None
    problems += [
        f"{label:<11} {len(values[kind]):>4}   {'  '.join(fold(values[kind])[:4])}"
        for kind, label in (("nan", "NaN"), ("inf", "infinite"))
        if values[kind]
    ]
    warnings = lone_copies(checkpoint) + [
        f"{len(values[kind])} {text}: {', '.join(fold(values[kind])[:4])}"
        for kind, text in (("zero", "all zero"), ("constant", "one value throughout"))
        if values[kind]
    ]
    shipped = checkpoint.shipped.name if checkpoint.shipped else None
    return Validation(
        path=checkpoint.source.path,
        dialect=checkpoint.dialect.name if checkpoint.dialect else None,
        config=checkpoint.config_from or shipped,
        missing=fit.missing if fit else (),
        unexpected=fit.unexpected if fit else (),
        misshapen=tuple(name for name, _, _ in fit.misshapen) if fit else (),
        wrong_type=tuple(name for name, _ in fit.wrong_type) if fit else (),
        problems=tuple(problems),
        warnings=tuple(warnings),
        notes=tuple(untold(checkpoint)),
        hint=advice,
        **{kind: tuple(names) for kind, names in values.items()},
    )


def _survey(checkpoint: Checkpoint, progress: Progress) -> dict[str, list[str]]:
    """Names of tensors by what is odd about their values."""
    found: dict[str, list[str]] = {"nan": [], "inf": [], "zero": [], "constant": []}
    with Files() as files:
        for name, ref in checkpoint.tensors.items():
            # A stride of 0 lets a small file claim a huge tensor, which fits no model anyway.
            believable = ref.stride is None or ref.spec.nbytes <= ref.path.stat().st_size
            if ref.spec.dtype in WEIGHT_DTYPES and ref.spec.numel and believable:
                for kind in _oddities(files, ref, progress):
                    found[kind].append(name)
    return found


def _oddities(files: Files, ref: TensorRef, progress: Callable[[int], None]) -> set[str]:
    """Which of nan, inf, zero, constant hold for a tensor, read piece by piece."""
    import numpy as np

    from .containers.arrays import to_float

    odd: set[str] = set()
    low, high = np.inf, -np.inf
    for chunk in payload(files, Tensor(ref.spec, (ref,))):
        values = to_float(chunk, ref.spec.dtype)
        least, most = values.min(), values.max()  # NaN when there is one
        if not np.isfinite(least) or not np.isfinite(most):
            odd |= {"nan"} if np.isnan(values).any() else set()
            odd |= {"inf"} if np.isinf(values).any() else set()
        low, high = min(low, least), max(high, most)
        progress(len(chunk))
    if not odd and low == high and ref.spec.numel > 1:
        odd.add("zero" if low == 0 else "constant")
    return odd
