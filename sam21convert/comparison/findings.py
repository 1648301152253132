"""The results of a comparison, as plain data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, fields
from math import isfinite
from pathlib import Path
from typing import Any, Literal

from ..checkpoint.safety.report import Safety, SourceReport, together
from ..io.folding import few
from ..prediction.draw import Mask, Pixels
from ..prediction.prompts import Prompted
from ..report import plain
from .gradients.lost import WithoutGradient
from .names import kind, rank

CaseStatus = Literal["same", "known difference", "differs", "not run"]


@dataclass(frozen=True)
class ActivationResult:
    """How far one activation is apart on the two sides.

    Attributes:
        name: Name of the activation, with its place.
        max_abs: The largest absolute difference.
        relative: The largest difference divided by the largest magnitude of the reference. This
            number is judged. An object score is a single logit, so it is divided by 1 at least.
        cosine: Cosine similarity of the two.
        noise: How far numerical variants of the ground truth are from it, relative as well.
        tolerance: The largest value of ``relative`` that counts as equal.
        iou: For masks, IoU after thresholding at 0; else None.
        differing: For masks, the share of pixels that differ; else None.
    """

    name: str
    max_abs: float
    relative: float
    cosine: float
    noise: float
    tolerance: float
    iou: float | None = None
    differing: float | None = None

    @property
    def within(self) -> bool:
        """Whether the difference is within tolerance; one that is not finite is not."""
        return isfinite(self.relative) and self.relative <= self.tolerance

    def to_dict(self) -> dict[str, Any]:
        """The fields for JSON, which cannot hold numbers that are not finite.

        Returns:
            The fields and ``within``, with None for each number that is not finite.
        """
        found: dict[str, Any] = plain({**asdict(self), "within": self.within})
        return found


@dataclass(frozen=True)
class View:
    """A picture with its prompts, and the mask that each side gave.

    Attributes:
        title: Which answer this is, such as ``frame 3``.
        picture: H x W x 3 bytes.
        prompts: Points and box in pixels of the picture; None without any.
        left: The mask of the left side: H x W.
        right: The mask of the right side: H x W.
    """

    title: str
    picture: Pixels
    prompts: Prompted | None
    left: Mask
    right: Mask


@dataclass(frozen=True)
class ScenarioResult:
    """The result of one scenario on one input.

    Attributes:
        name: Name of the scenario.
        summary: What was asked, in a few words.
        input: Name of the user's picture or video; empty for the drawn one.
        status: ``"same"``, ``"known difference"``, ``"differs"`` or ``"not run"``.
        activations: One result for each activation, in the order of computation. For a known
            difference they compare with a ground truth that emulates it.
        first_mismatch: Name of the first activation out of tolerance; None when all are within.
        why: The known difference, why the scenario was not run, or how a package failed.
        apart: For a known difference, the relative difference of the masks without the emulation.
        seconds: Time that it took.
        without_gradient: Of a training step, the parameters that got no gradient.
        views: Pictures for the report.
    """

    name: str
    summary: str
    input: str
    status: CaseStatus
    activations: tuple[ActivationResult, ...] = ()
    first_mismatch: str | None = None
    why: str = ""
    apart: float | None = None
    seconds: float = 0.0
    without_gradient: tuple[WithoutGradient, ...] = ()
    views: tuple[View, ...] = field(default=(), repr=False)

    @property
    def title(self) -> str:
        """Its name, with that of the user's picture or video."""
        return f"{self.name} ({self.input})" if self.input else self.name

    @property
    def first(self) -> ActivationResult | None:
        """The result of the activation ``first_mismatch``; None when all are within tolerance."""
        named = (one for one in self.activations if one.name == self.first_mismatch)
        return next(named, None)

    @property
    def furthest(self) -> ActivationResult | None:
        """The activation nearest to its tolerance, or furthest beyond it; None without any."""
        return max(
            self.activations,
            key=lambda one: one.relative / one.tolerance if one.tolerance else one.relative,
            default=None,
        )

    @property
    def telling(self) -> ActivationResult | None:
        """The first activation out of tolerance, or else the one nearest to its tolerance."""
        return self.first or self.furthest

    def differences(self, number: Callable[[float], str]) -> str:
        """Give the difference of the telling activation.

        Args:
            number: Writes a number.

        Returns:
            The number; for a known difference, which was emulated, in parentheses also how far the
            results are apart without that. Empty if nothing was compared.
        """
        if self.telling is None:
            return ""
        real = "" if self.apart is None else f" ({number(self.apart)})"
        return f"{number(self.telling.relative)}{real}"

    def missing(self) -> Iterator[tuple[str, str, list[str]]]:
        """Give the parameters that got no gradient, those with the same reason together.

        Yields:
            The side, the reason, and canonical names.
        """
        together: dict[tuple[str, str], list[str]] = {}
        for one in self.without_gradient:
            together.setdefault((one.side, one.reason), []).append(one.parameter)
        yield from ((*why, names) for why, names in together.items())

    @property
    def iou(self) -> float | None:
        """The smallest IoU of all masks; None without any."""
        return min((one.iou for one in self.activations if one.iou is not None), default=None)

    def to_dict(self) -> dict[str, Any]:
        """The fields but for the pictures, for JSON.

        Returns:
            The fields; renamed ones also under their names of version 0.1.
        """
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "views"}
        activations = [activation.to_dict() for activation in self.activations]
        known = self.status == "known difference"
        return {
            **plain,
            "activations": activations,
            "without_gradient": [asdict(one) for one in self.without_gradient],
            "taps": activations,
            "first": self.first_mismatch,
            "outcome": "known deviation" if known else self.status,
        }


@dataclass(frozen=True)
class ParitySide:
    """What was compared: one side.

    Attributes:
        backend: Name of the package that ran the model.
        version: Version of the package.
        source: Path of the checkpoint.
        dialect: Name of its dialect, or ``"unknown"``.
        container: File format of the checkpoint.
        generation: ``"2.0"`` or ``"2.1"``.
        config: Name of the shipped config, or ``"of no published size"``.
        image_size: Side of the model's input in pixels.
        sha256: SHA-256 of each file of the checkpoint, by path.
        notes: What loading did beyond loading, such as tensors with random values.
        safety: What loading the checkpoint with torch or pickle would import and call.
    """

    backend: str
    version: str
    source: Path
    dialect: str
    container: str
    generation: str
    config: str
    image_size: int
    sha256: dict[str, str]
    notes: tuple[str, ...]
    safety: Safety

    def to_dict(self) -> dict[str, Any]:
        """The fields for JSON.

        Returns:
            The fields, the backend also as ``runner``, its name in version 0.1.
        """
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        ours = {"source": str(self.source), "runner": self.backend, "safety": self.safety.rating}
        return {**plain, **ours}

    def __str__(self) -> str:
        return (
            f"{self.backend} {self.version}: {self.source} ({self.dialect}, {self.container}), "
            f"SAM {self.generation} {self.config}, {self.image_size} pixels"
        )


@dataclass(frozen=True)
class Diagnosis:
    """A difference of weights or settings, which is found without running the models.

    Attributes:
        text: What differs.
        activation: The first activation that it can change; None when no result depends on it.
        hint: What to do about it; None when there is nothing to say.
    """

    text: str
    activation: str | None
    hint: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The fields for JSON.

        Returns:
            The fields, the activation also as ``tap``, its name in version 0.1.
        """
        return {**asdict(self), "tap": self.activation}


@dataclass(frozen=True)
class NegativeControl:
    """One tensor was changed on purpose: was the change detected?

    Attributes:
        scenario: Title of the scenario that was run again.
        tensor: Canonical name of the tensor, or what else was changed.
        share: Size of the change, as a share of the tensor's largest magnitude.
        detected: Whether an activation was out of tolerance.
        activation: The first one that was; None when the change was not detected.
        detached: Whether it was kept from autograd, and no value changed.
    """

    scenario: str
    tensor: str
    share: float
    detected: bool
    activation: str | None
    detached: bool = False

    @property
    def change(self) -> str:
        """What was done to it."""
        return "detached" if self.detached else f"changed by {self.share:.0%} of its scale"

    def to_dict(self) -> dict[str, Any]:
        """The fields for JSON.

        Returns:
            The fields; renamed ones also under their names of version 0.1.
        """
        return {**asdict(self), "noticed": self.detected, "tap": self.activation}


@dataclass(frozen=True)
class Sensitivity:
    """Every tensor was changed in turn: which changes were not detected?

    Attributes:
        tensors: Number of tensors that were changed.
        undetected: Names of those whose change no scenario of the run detected.
        expected: The reason for each of them on which no result depends.
    """

    tensors: int
    undetected: tuple[str, ...]
    expected: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """The fields for JSON.

        Returns:
            The fields, the undetected tensors also as ``unseen``, their name in version 0.1.
        """
        return {**asdict(self), "unseen": self.undetected}

    @property
    def unexpected(self) -> tuple[str, ...]:
        """Tensors whose change should have been detected."""
        return tuple(name for name in self.undetected if name not in self.expected)


def _place_of_first_mismatch(found: ScenarioResult) -> int:
    return rank(kind(found.first_mismatch) if found.first_mismatch else None)


def short(number: float) -> str:
    """A difference in few characters.

    Args:
        number: The difference, 0 or positive.

    Returns:
        ``0``, or two digits and an exponent: ``1.2e-06``.
    """
    return "0" if number == 0 else f"{number:.1e}"


@dataclass(frozen=True)
class ParityResult(SourceReport, schema="parity/1"):
    """Everything that a comparison found: the data of a :class:`~.report.ParityReport`.

    Attributes:
        left: The left side.
        right: The right side.
        reference: Which side gives the scale of the differences.
        device: Device that both ran on.
        dtype: Type that both computed in.
        threads: Number of threads on the CPU.
        versions: Version of Python and of each package.
        exact: Whether the two had to be equal everywhere (tolerance 0).
        multiple: Otherwise, tolerance divided by noise.
        noise_from: Names of the numerical variants that measured the noise.
        scenarios: One result for each scenario and input, in the order of the run.
        diagnosis: Differences of weights and settings, in the order of the data flow.
        negative_controls: Whether changes made on purpose were detected.
        sensitivity: The same for every tensor; None when this was not asked for.
        command: The command that runs the same comparison again.
        seconds: Time that it took.
        date: When it ran, in UTC as in ISO 8601, or what ``SOURCE_DATE_EPOCH`` says.
        gradients: Whether the losses and gradients of training steps were compared, which are then
            the activations of the scenarios.
    """

    left: ParitySide
    right: ParitySide
    reference: Literal["left", "right"]
    device: str
    dtype: str
    threads: int
    versions: dict[str, str]
    exact: bool
    multiple: float
    noise_from: tuple[str, ...]
    scenarios: tuple[ScenarioResult, ...]
    diagnosis: tuple[Diagnosis, ...]
    negative_controls: tuple[NegativeControl, ...]
    sensitivity: Sensitivity | None
    command: str
    seconds: float
    date: str
    gradients: bool = False

    @property
    def noun(self) -> str:
        """What was compared, in the singular: losses and gradients are tensors."""
        return "tensor" if self.gradients else "activation"

    @property
    def safety(self) -> Safety:
        """What loading the two with torch or pickle would import and call."""
        return together((self.left.safety, self.right.safety))

    @property
    def first_mismatch(self) -> tuple[str, str | None] | None:
        """Scenario and activation of the first difference in the data flow; None without one."""
        return next(((found.title, found.first_mismatch) for found in self.differing), None)

    @property
    def differing(self) -> tuple[ScenarioResult, ...]:
        """Scenarios in which the two differ, in the order of the data flow."""
        apart = (found for found in self.scenarios if found.status == "differs")
        return tuple(sorted(apart, key=_place_of_first_mismatch))

    def reasons(self) -> Iterator[tuple[CaseStatus, str, str]]:
        """Give the reasons for known differences, and then for what was not run.

        Yields:
            The status, the titles of all scenarios with the same reason, and the reason.
        """
        statuses: tuple[CaseStatus, ...] = ("known difference", "not run")
        for status in statuses:
            together: dict[str, list[str]] = {}
            for found in self.scenarios:
                if found.status == status:
                    size = "" if found.apart is None else f" (difference {short(found.apart)})"
                    together.setdefault(f"{found.why}{size}", []).append(found.title)
            for why, titles in together.items():
                yield status, ", ".join(titles), why

    @property
    def problems(self) -> tuple[str, ...]:
        """Why the answer is no, the most important reason first; empty when it is yes."""
        return tuple(self._problems())

    def _problems(self) -> Iterator[str]:
        for found in self.differing:
            if found.first is None:
                yield f"{found.title}: {found.why}"
            else:
                yield (
                    f"{found.title} differs at {found.first.name}: {found.first.relative:.2g} of "
                    f"its scale, tolerance {found.first.tolerance:.2g}"
                )
            for side, reason, names in found.missing():
                if side != "both":
                    where = f"{found.title}, no gradient on the {side}"
                    yield f"{where}: {few(names)} ({reason})"
        yield from (difference.text for difference in self.diagnosis)
        for control in self.negative_controls:
            if not control.detected:
                yield (
                    f"the comparison is blind: {control.tensor} was {control.change} in "
                    f"{control.scenario}, and this was not detected"
                )
        if self.sensitivity is not None and self.sensitivity.unexpected:
            unseen = self.sensitivity.unexpected
            count = f"{len(unseen)} of {self.sensitivity.tensors} tensors"
            yield f"no scenario of this run detected a change of {count}: {few(unseen)}"
        if not any(found.status in ("same", "known difference") for found in self.scenarios):
            yield "no scenario was the same on both sides: none could be run, or all differ"

    @property
    def ok(self) -> bool:
        """Whether the two are in parity, and the negative controls were detected."""
        return not self.problems

    @property
    def exit_code(self) -> int:
        """0 for parity, 1 for anything else."""
        return 0 if self.ok else 1

    def to_dict(self) -> dict[str, Any]:
        """Everything but the pictures, for JSON.

        Returns:
            The fields, the verdict and the problems; renamed fields also under their names of
            version 0.1.
        """
        diagnosis = [found.to_dict() for found in self.diagnosis]
        controls = [control.to_dict() for control in self.negative_controls]
        sensitivity = None if self.sensitivity is None else self.sensitivity.to_dict()
        return {
            **super().to_dict(),
            "ok": self.ok,
            "problems": list(self.problems),
            "first_mismatch": self.first_mismatch,
            "left": self.left.to_dict(),
            "right": self.right.to_dict(),
            "scenarios": [found.to_dict() for found in self.scenarios],
            "diagnosis": diagnosis,
            "negative_controls": controls,
            "sensitivity": sensitivity,
            # The names of version 0.1, for programs that read them.
            "first": self.first_mismatch,
            "causes": diagnosis,
            "controls": controls,
            "proof": sensitivity,
        }
