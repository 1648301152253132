"""A conversion that leaves no output unless it computes, and tracks, what its source does."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from .. import packages
from ..comparison.api import parity
from ..comparison.report import ParityReport
from ..conversion.plan import Plan
from ..conversion.report import report
from ..conversion.write import carry_out
from ..errors import MismatchError, UsageError
from ..evaluation.report import Evaluation
from ..io.tensor import OF_TORCH, DType
from ..model.config import Generation, ModelConfig
from ..prediction.backends.names import backend_for
from ..prediction.devices import pick_device
from ..report import BLANK, Part, Progress, Report
from .track_and_compare import refuse_untrackable, tracked_alike, under_its_name


@dataclass(frozen=True)
class WithEvidence(Report):
    """An answer together with comparisons.

    Attributes:
        answer: What was done.
        parity: The comparison of what its result and the source compute; None if there is none.
        evaluation: How both track the objects of a data set; None if that was not asked.
    """

    answer: Report
    parity: ParityReport | None = None
    evaluation: Evaluation | None = None

    @property
    def evidence(self) -> dict[str, Report]:
        """The comparisons by name."""
        found = {"parity": self.parity, "evaluation": self.evaluation}
        return {name: report for name, report in found.items() if report is not None}

    @property
    def exit_code(self) -> int:
        """1 if an answer is no."""
        return max(one.exit_code for one in (self.answer, *self.evidence.values()))

    def alerts(self) -> tuple[str, ...]:
        """Warn of what any answer warns of, once.

        Returns:
            A line, or none.
        """
        both = (*self.evidence.values(), self.answer)
        return next(filter(None, (one.alerts() for one in both)), ())

    @property
    def schema(self) -> str:
        """That of the answer."""
        return self.answer.schema

    def to_dict(self) -> dict[str, Any]:
        """Give the fields as plain data.

        Returns:
            The fields of the answer, and the comparisons under ``parity`` and ``evaluation``.
        """
        found = {name: report.to_dict() for name, report in self.evidence.items()}
        return {**self.answer.to_dict(), **found}

    def shown(self) -> list[Part]:
        """What people see.

        Returns:
            The answer, then the comparisons.
        """
        parts = [*self.answer.shown()]
        for one in self.evidence.values():
            parts += [BLANK, *one.shown()]
        return parts


def convert_with_evidence(
    plan: Plan,
    *,
    parity: bool = True,
    data: str | Path | None = None,
    overwrite: bool,
    verify: bool,
    hashes: bool,
    device: str = "auto",
    progress: Progress,
    alone: AbstractContextManager[Any] | None = None,
) -> WithEvidence:
    """Carry out a conversion and keep the output only if it computes what the source does.

    Checkpoints in the dialects of transformers or timm are run by that package. All others are run
    by the ground truth, which computes what the official code does. Another package is needed: an
    error in the key map would be made twice and stay undetected if this package ran both sides. If
    the conversion casts weights, those of the source are rounded for the comparison too.

    Args:
        plan: The conversion.
        parity: Whether both are run on the same inputs.
        data: A data set, whose objects both track; None for none. Unless the conversion casts, no
            pixel of their masks may differ.
        overwrite: Whether an existing output may be replaced.
        verify: Whether to read the output back and compare checksums.
        hashes: Whether the report lists the SHA-256 of every file.
        device: The device to compare on, as for :func:`~sam21convert.parity`.
        progress: Receives the steps of the conversion and of the comparison.
        alone: A lock to hold while the models run, if the caller uses several threads.

    Returns:
        The report of the conversion and the comparisons.

    Raises:
        MismatchError: If the output is not in parity, or tracks otherwise; it is then removed.
        UsageError: If the source is an HQ-SAM 2, a part of a model or an adapter, which cannot be
            run, a package is not installed, or the device is not there.
        Sam21ConvertError: Otherwise as :func:`~sam21convert.convert` and
            :func:`~sam21convert.parity` do.
    """
    refuse_unrunnable(plan)
    if data is not None:
        refuse_untrackable(plan.dialect.task, plan.dialect.name, data)
    backends = {backend_for(plan.source.dialect), backend_for(plan.dialect)} - {"truth"}
    for backend in backends if parity else ():
        packages.module(backend)  # fails before anything is written if it is missing
    device = pick_device(device, to_compare=True)
    compared: list[ParityReport] = []
    tracked: list[Evaluation] = []

    def check(written: Path) -> None:
        with alone or nullcontext():
            if parity:
                compared.append(_compare(plan, written, device, progress))
            if data is not None:
                tracked.append(_track(plan, written, data, device, progress))

    equal = carry_out(plan, overwrite=overwrite, verify=verify, progress=progress, check=check)
    done = report(plan, dry_run=False, verified=verify, hashes=hashes, identical_to=equal)
    return WithEvidence(done, next(iter(compared), None), next(iter(tracked), None))


def refuse_unrunnable(plan: Plan) -> None:
    """Check that the source of a conversion is a model that a backend can run as it is.

    Args:
        plan: The conversion.

    Raises:
        UsageError: If it is an HQ-SAM 2, a part of a model, or an adapter.
    """
    if plan.source.dropped:
        raise UsageError(
            f"{plan.source.source.path}: `parity` cannot run an HQ-SAM 2",
            hint="convert it without `parity`; the remaining tensors are copied bit for bit",
        )
    if plan.source.lora is not None:
        raise UsageError(
            f"{plan.source.source.path}: `parity` cannot run a model with a LoRA inside",
            hint="convert it without `parity`",
        )
    if plan.source.parts or plan.source.fit.missing:
        raise UsageError(
            f"{plan.source.source.path}: `parity` cannot run a part of a model",
            hint="convert it without `parity`",
        )
    if plan.adapter is not None:
        raise UsageError(
            f"{plan.adapter.source.path}: `parity` cannot run an adapter, which is not a model",
            hint="convert it without `parity`",
        )


def compare_with_output(
    plan: Plan, folder: Path, destination: Path, progress: Progress
) -> ParityReport:
    """Run the source of a conversion and graphs that were made of it on the same inputs.

    Args:
        plan: The conversion of the source.
        folder: The folder of the graphs, under its temporary name.
        destination: The folder under its final name.
        progress: Receives the steps of the comparison.

    Returns:
        The comparison.

    Raises:
        MismatchError: If the two do not compute the same.
    """
    left = f"{backend_for(plan.source.dialect)}:{plan.source.source.path}"
    size = plan.config.image_size if plan.config is not None else None
    result = parity(
        left,
        f"onnx:{folder}",
        device="cpu",
        image_size=size,
        config=plan.source.config,
        progress=progress,
    )
    return _refuse_difference(_under_its_name(result, folder, destination), plan, destination)


def _compare(plan: Plan, written: Path, device: str, progress: Progress) -> ParityReport:
    source = plan.source
    size = plan.config.image_size if plan.config is not None else None
    dtypes = {tensor.spec.dtype for tensor in plan.tensors.values()}
    rounded = next((name for name in get_args(DType) if {OF_TORCH[name]} == dtypes), None)
    result = parity(
        f"{backend_for(source.dialect)}:{source.source.path}",
        f"{backend_for(plan.dialect)}:{written}",
        device=device,
        image_size=size,
        config=source.config,
        right_config=_raised(source.config, plan.generation),
        rounded_to=rounded,
        progress=progress,
    )
    result = _under_its_name(result, written, plan.destination)
    return _refuse_difference(result, plan, plan.destination)


def _track(
    plan: Plan, written: Path, data: str | Path, device: str, progress: Progress
) -> Evaluation:
    source = plan.source
    types = [
        {spec.dtype for spec in of}
        for of in (source.inventory.values(), (tensor.spec for tensor in plan.tensors.values()))
    ]
    found = tracked_alike(
        source.source.path,
        source.config,
        written,
        _raised(source.config, plan.generation),
        data,
        lossless=types[0] == types[1] and not plan.change.lost,
        image_size=plan.config.image_size if plan.config is not None else None,
        device=device,
        progress=progress,
    )
    return under_its_name(found, written, plan.destination)


def _refuse_difference(result: ParityReport, plan: Plan, destination: Path) -> ParityReport:
    if not result.ok:
        raise MismatchError(
            f"{destination}: does not compute what {plan.source.source.path} does\n\n{result}",
            hint="nothing was written; without `parity` it is, and then "
            f"{result.command} --report FOLDER shows more",
        )
    return result


def _raised(config: ModelConfig | None, generation: Generation | None) -> ModelConfig | None:
    """The config of the output, whose generation may differ."""
    return config and replace(config, generation=generation or config.generation)


def _under_its_name(result: ParityReport, written: Path, name: Path) -> ParityReport:
    """The report with the final path of the output in place of its temporary one."""
    files = {
        path.replace(str(written), str(name)): digest
        for path, digest in result.right.sha256.items()
    }
    return replace(
        result,
        right=replace(result.right, source=name, sha256=files),
        command=result.command.replace(str(written), str(name)),
    )
