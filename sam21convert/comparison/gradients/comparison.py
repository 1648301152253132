"""Take the same steps of training on both sides, and compare losses and gradients."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import inf, nan
from typing import Any, Literal

from torch import Tensor, nn
from torch.utils._pytree import tree_map

from ...training.losses import Losses, LossSettings
from ..backends.base import Backend, CannotRun
from ..comparison import Comparison, ScenarioFailed, failing
from ..findings import ActivationResult, NegativeControl, ScenarioResult
from ..metrics import MULTIPLE, Noise, first_mismatch, known_noise, result_of
from ..perturb import SHARE
from .corners import Corners, MovedCorners, shares_of
from .inputs import Example, example
from .known import known
from .lost import WithoutGradient
from .noise import jumps_of, least_units, noise_of, variants
from .scenarios import TrainingScenario
from .step import NoGradients, Outcome, Trainee, reasons, take_step
from .trainees import trainee_of

_OFFICIAL = LossSettings()
# Where gradients are cut off on purpose, by what the scenario needs.
_BRANCHES = {"images": "sam_mask_decoder.conv_s0", "videos": "memory_encoder"}


@dataclass(frozen=True)
class _Passed:
    """A scenario in parity, which negative controls may run again."""

    scenario: TrainingScenario
    other: Outcome
    noise: Noise | None


@dataclass
class GradientComparison:
    """Two sides that take the same steps.

    Attributes:
        sides: The two sides, loaded, and how they are compared.
    """

    sides: Comparison
    _passed: dict[str, _Passed] = field(default_factory=dict)
    _measured_by: dict[str, None] = field(default_factory=dict)

    @property
    def variant_names(self) -> tuple[str, ...]:
        """Names of the numerical variants that measured the noise."""
        return tuple(self._measured_by)

    def judge(self, scenario: TrainingScenario) -> ScenarioResult:
        """Take one step on both sides and compare.

        Args:
            scenario: What the step is about.

        Returns:
            The result. Its status is ``"not run"`` when one of the sides cannot take the step.
        """
        start = time.perf_counter()
        blank = ScenarioResult(scenario.name, scenario.summary, "", "not run")
        try:
            self.sides.refuse(scenario.needs)
            found = self._judge(scenario, blank)
        except CannotRun as reason:
            found = replace(blank, why=str(reason))
        except ScenarioFailed as reason:
            found = replace(blank, status="differs", why=str(reason))
        return replace(found, seconds=round(time.perf_counter() - start, 2))

    def controls(self) -> Iterator[NegativeControl]:
        """The negative controls of a run: cut a branch off from autograd, and weigh a loss anew.

        Yields:
            Whether each was detected, and where.
        """
        share, trainee = SHARE[self.sides.arithmetic.dtype], self._trainees[0]
        for needs, path in _BRANCHES.items():
            if needs in self._passed:
                passed = self._passed[needs]
                with cut_off(trainee.part(path)):
                    found = self._first_to_detect(passed, _OFFICIAL)
                yield self._control(passed, f"input of {path}", found, detached=True)
        for passed in [*self._passed.values()][:1]:
            term, weight = _heaviest(passed.other)
            heavier = replace(_OFFICIAL, **{term: weight * (1 + share)})
            found = self._first_to_detect(passed, heavier)
            yield self._control(passed, f"weight of loss.{term}", found, share=share)

    @cached_property
    def _trainees(self) -> tuple[Trainee, Trainee]:
        """The reference and the other side."""
        return trainee_of(self.sides.reference), trainee_of(self.sides.other)

    def _example(self, scenario: TrainingScenario) -> Example:
        size = self.sides.reference.config.image_size
        return example(scenario, size, self.sides.arithmetic.device)

    def _step(self, at: int, given: Example, settings: LossSettings) -> Outcome:
        """A step of the reference (0) or of the other side (1)."""
        with failing(self._backend(at)):
            return take_step(self._trainees[at], given, settings, self.sides.arithmetic)

    def _backend(self, at: int) -> Backend:
        return (self.sides.reference, self.sides.other)[at]

    def _side(self, at: int) -> Literal["left", "right"]:
        return "left" if (at == 0) == self.sides.reference_is_left else "right"

    def _judge(self, scenario: TrainingScenario, blank: ScenarioResult) -> ScenarioResult:
        given = self._example(scenario)
        outcomes: list[Outcome | NoGradients] = []
        for at in (0, 1):
            try:
                outcomes.append(self._step(at, given, _OFFICIAL))
            except NoGradients as reason:
                outcomes.append(reason)
        reference, other = outcomes
        if isinstance(reference, NoGradients) or isinstance(other, NoGradients):
            return self._cut(scenario, blank, reference, other)
        if not any(one.losses["loss"].isfinite() for one in (reference, other)):
            raise CannotRun("the loss is not a finite number on either side")
        noise = self._noise(given, reference)
        results = compare(reference, other, noise)
        found = replace(
            blank,
            status="same",
            activations=results,
            first_mismatch=first_mismatch(results),
            without_gradient=tuple(self._without(given, reference, other)),
        )
        if found.first_mismatch is not None:
            return replace(found, status="differs")
        self._passed.setdefault(scenario.needs, _Passed(scenario, other, noise))
        return found

    def _cut(
        self, scenario: TrainingScenario, blank: ScenarioResult, *outcomes: Outcome | NoGradients
    ) -> ScenarioResult:
        """The result where a package lets no gradients through, which may be known of it."""
        cut = [at for at in (0, 1) if isinstance(outcomes[at], NoGradients)]
        if len(cut) == 2:
            raise CannotRun(f"neither side lets gradients through: {outcomes[0]}")
        at, reason = cut[0], outcomes[cut[0]]
        whole = outcomes[1 - at]
        assert isinstance(whole, Outcome)
        side, backend = self._side(at), self._backend(at)
        summary = known(backend.name, backend.version, scenario.name, str(reason))
        return replace(
            blank,
            status="differs" if summary is None else "known difference",
            why=summary or str(reason),
            without_gradient=tuple(
                WithoutGradient(name, side, str(reason)) for name in whole.gradients
            ),
        )

    def _without(
        self, given: Example, reference: Outcome, other: Outcome
    ) -> Iterator[WithoutGradient]:
        """The weights without a gradient on one side, with the reason, and on both."""
        outcomes, arithmetic = (reference, other), self.sides.arithmetic
        for at in (0, 1):
            lacking = [
                name for name in outcomes[1 - at].gradients if name not in outcomes[at].gradients
            ]
            if lacking:
                why = reasons(self._trainees[at], given, _OFFICIAL, arithmetic, lacking)
                for name in lacking:
                    yield WithoutGradient(name, self._side(at), why[name])
        for name in {**self._trainees[0].weights, **self._trainees[1].weights}:
            if name not in reference.gradients and name not in other.gradients:
                yield WithoutGradient(name, "both")

    def _noise(self, given: Example, reference: Outcome) -> Noise | None:
        truth, arithmetic = self.sides.truth, self.sides.arithmetic
        if truth is None:
            return None
        usual, runs, corners = reference, [], []
        if self.sides.reference is not truth:
            usual = take_step(trainee_of(truth), given, _OFFICIAL, arithmetic)
        for name, trainee, context in variants(truth, arithmetic):
            self._measured_by[name] = None
            with context(), Corners() as seen:
                runs.append(named(take_step(trainee, given, _OFFICIAL, arithmetic)))
            corners.append(seen)
        self._measured_by["moved corners"] = None
        shares, moved = shares_of(corners, arithmetic.floor), []
        for side in (-1, 1):
            with MovedCorners(shares, side):
                moved.append(named(take_step(trainee_of(truth), given, _OFFICIAL, arithmetic)))
        smooth = noise_of(named(usual), runs, arithmetic.floor)
        jumps = jumps_of(named(usual), *moved)
        return {name: noise + jumps.get(name, 0.0) / MULTIPLE for name, noise in smooth.items()}

    def _first_to_detect(self, passed: _Passed, settings: LossSettings) -> str | None:
        found = self._step(0, self._example(passed.scenario), settings)
        return first_mismatch(compare(found, passed.other, passed.noise))

    @staticmethod
    def _control(
        passed: _Passed, what: str, found: str | None, share: float = 0.0, *, detached: bool = False
    ) -> NegativeControl:
        seen = found is not None
        return NegativeControl(passed.scenario.name, what, share, seen, found, detached)


def _heaviest(outcome: Outcome) -> tuple[str, float]:
    """The term that is the largest part of a loss, and its weight."""
    weights = {term: getattr(_OFFICIAL, term) for term in Losses._fields[1:]}
    parts = {term: weight * outcome.losses[f"loss.{term}"] for term, weight in weights.items()}
    term = max(parts, key=lambda term: float(parts[term]))
    return term, weights[term]


def named(outcome: Outcome) -> dict[str, Tensor]:
    """Losses and gradients under the names that reports use.

    Args:
        outcome: What a step gave.

    Returns:
        ``loss``, ``loss.focal`` and so on, then such as ``no_mem_embed.grad``, in the order in
        which they were computed.
    """
    gradients = {f"{name}.grad": gradient for name, gradient in outcome.gradients.items()}
    return {**outcome.losses, **gradients}


def compare(
    reference: Outcome, other: Outcome, noise: Noise | None
) -> tuple[ActivationResult, ...]:
    """Compare the losses and every gradient of two steps.

    Args:
        reference: That of the reference.
        other: That of the other side.
        noise: The noise by name; None where the two must be equal.

    Returns:
        One result for each name, in the order of the reference, or of the other side if that has
        more. A gradient that only one side has is infinitely far apart.
    """
    left, right = named(reference), named(other)
    names = {**left, **right} if len(left) >= len(right) else {**right, **left}
    allowed, least = known_noise(names, noise), least_units(left)
    results = []
    for name in names:
        one, two, tolerance = left.get(name), right.get(name), MULTIPLE * allowed[name]
        if one is not None and two is not None:
            results.append(
                result_of(name, one, two, allowed[name], tolerance, least.get(name, 0.0))
            )
        else:
            scale = float(names[name].abs().amax())
            results.append(ActivationResult(name, scale, inf, nan, allowed[name], tolerance))
    return tuple(results)


@contextmanager
def cut_off(module: nn.Module) -> Iterator[None]:
    """A context in which no gradient goes through the inputs of a module.

    Args:
        module: The module; no value that it computes changes.

    Yields:
        Nothing.
    """

    def detached(_: nn.Module, args: Any, given: Any) -> Any:
        return tree_map(_detached, args), tree_map(_detached, given)

    hook = module.register_forward_pre_hook(detached, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


def _detached(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else value
