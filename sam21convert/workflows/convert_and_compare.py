"""A conversion that ends in parity, or leaves nothing behind."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from ..comparison import packages
from ..comparison.api import parity
from ..comparison.report import ParityReport
from ..comparison.sides import backend_for
from ..conversion.generation import GENERATIONS
from ..conversion.plan import Plan
from ..conversion.report import report
from ..conversion.write import carry_out
from ..errors import MismatchError, UsageError
from ..io.tensor import OF_TORCH, DType
from ..model.config import ModelConfig
from ..report import Progress, Report


@dataclass(frozen=True)
class WithParity(Report):
    """An answer, and the evidence for it."""

    answer: Report
    parity: ParityReport

    @property
    def exit_code(self) -> int:
        """1 when either answer is no."""
        return max(self.answer.exit_code, self.parity.exit_code)

    def to_dict(self) -> dict[str, Any]:
        """The answer's own fields, with those of the comparison under ``parity``."""
        return {**self.answer.to_dict(), "parity": self.parity.to_dict()}

    def __str__(self) -> str:
        return f"{self.answer}\n\n{self.parity}"


def convert_in_parity(
    plan: Plan,
    *,
    overwrite: bool,
    verify: bool,
    hashes: bool,
    progress: Progress,
    alone: AbstractContextManager[Any] | None = None,
) -> WithParity:
    """Carry out a conversion; the output gets its name only if it computes what the source does.

    A file or folder with the names of transformers or timm is run by that package, any other by the
    ground truth, which computes what the official code does: an error in mapping names, made twice,
    would otherwise go unseen. Of weights that are cast, the source's are rounded as well before.

    ``alone`` is held while the two models run, for a caller that has other threads.

    Raises :class:`MismatchError` when it does not hold, :class:`UsageError` when the source is an
    HQ-SAM 2, and else as
    :func:`~sam21convert.convert` and :func:`~sam21convert.parity`.
    """
    if plan.source.dropped:
        raise UsageError(
            f"{plan.source.source.path}: nothing here runs an HQ-SAM 2 to compare with",
            hint="`drop_hq` goes without `parity`; the tensors that stay are copied bit for bit",
        )
    if plan.adapter is not None:
        raise UsageError(
            f"{plan.adapter.source.path}: `parity` runs the source, and an adapter is no model",
            hint="convert it without `parity`",
        )
    for backend in {backend_for(plan.source.dialect), backend_for(plan.dialect)} - {"truth"}:
        packages.module(backend)  # before anything is written
    found: list[ParityReport] = []

    def check(written: Path) -> None:
        with alone or nullcontext():
            found.append(_compare(plan, written, progress))

    carry_out(plan, overwrite=overwrite, verify=verify, progress=progress, check=check)
    done = report(plan, dry_run=False, verified=verify, hashes=hashes)
    return WithParity(done, found[0])


def _compare(plan: Plan, written: Path, progress: Progress) -> ParityReport:
    source = plan.source
    size = plan.config.image_size if plan.config is not None else None
    dtypes = {tensor.spec.dtype for tensor in plan.tensors.values()}
    rounded = next((name for name in get_args(DType) if {OF_TORCH[name]} == dtypes), None)
    result = parity(
        f"{backend_for(source.dialect)}:{source.source.path}",
        f"{backend_for(plan.dialect)}:{written}",
        image_size=size,
        config=source.config,
        right_config=_raised(source.config, plan.generation),
        rounded_to=rounded,
        progress=progress,
    )
    result = _under_its_name(result, written, plan.destination)
    if not result.ok:
        raise MismatchError(
            f"{plan.destination}: does not compute what {source.source.path} does\n\n{result}",
            hint="nothing was written; sam21convert parity --report shows more",
        )
    return result


def _raised(config: ModelConfig | None, generation: str | None) -> ModelConfig | None:
    """The config of the output, which may be of another generation."""
    wanted = next((known for known in GENERATIONS if known == generation), None)
    return config if config is None or wanted is None else replace(config, generation=wanted)


def _under_its_name(result: ParityReport, written: Path, name: Path) -> ParityReport:
    """The report with the name that the output will have, in place of where it was written."""
    files = {
        path.replace(str(written), str(name)): digest
        for path, digest in result.right.sha256.items()
    }
    return replace(
        result,
        right=replace(result.right, source=name, sha256=files),
        command=result.command.replace(str(written), str(name)),
    )
