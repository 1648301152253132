"""Put cases to both sides and say whether, where and by how much they part."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial

from .activations import Activations, kind
from .backends.base import Backend, CannotRun
from .backends.truth import Truth
from .backends.variants import Arithmetic, NumericalVariant, variants
from .cases import Case
from .explain.known_differences import KnownDifference, emulating, known
from .findings import ScenarioResult
from .metrics import Noise, compare, first_mismatch, noise_of
from .scenarios import PixelScenario, VideoScenario


class Stopped(Exception):  # noqa: N818  # an answer, if not the one that was hoped for
    """A package failed at a scenario; the message says how."""


@dataclass(frozen=True)
class PassedCase:
    """A case in parity: who agrees with what the other side answered, and within what.

    That is the reference or, where a deviation is known, the ground truth made to deviate.
    """

    case: Case
    backend: Backend
    circumstances: Callable[[], AbstractContextManager[None]]
    other: Activations
    noise: Noise | None


@dataclass
class Comparison:
    """Two sides that are asked the same.

    Differences are in units of the scale of ``reference``. ``truth`` is loaded from its source,
    gives its noise, and shows what a known difference does; it is None where 0 is asked for.
    """

    reference: Backend
    other: Backend
    reference_is_left: bool
    arithmetic: Arithmetic
    truth: Truth | None
    passed: list[PassedCase] = field(default_factory=list)
    _variants: dict[bool, list[NumericalVariant]] = field(default_factory=dict)

    @property
    def sides(self) -> tuple[Backend, Backend]:
        """Left and right."""
        both = self.reference, self.other
        return both if self.reference_is_left else (self.other, self.reference)

    @property
    def variant_names(self) -> tuple[str, ...]:
        """By what other means the noise was measured."""
        return tuple(dict.fromkeys(v.name for group in self._variants.values() for v in group))

    def judge(self, case: Case) -> ScenarioResult:
        """Run one case, unless one of the sides cannot."""
        start = time.perf_counter()
        blank = ScenarioResult(case.scenario.name, case.scenario.summary, case.input, "not run")
        try:
            self._refuse(case)
            found = self._judge(case, blank)
        except CannotRun as reason:
            found = replace(blank, why=str(reason))
        except Stopped as reason:
            found = replace(blank, status="differs", why=str(reason))
        return replace(found, seconds=round(time.perf_counter() - start, 2))

    def ask(self, backend: Backend, case: Case, agreed: Activations | None = None) -> Activations:
        """What a backend answers, in the arithmetic of the comparison.

        ``agreed`` are the activations with which it will be compared.

        Raises :class:`Stopped` when a package fails.
        """
        with self.arithmetic.in_force():
            try:
                return case.ask(backend, agreed)
            except CannotRun:
                raise
            except Exception as error:  # any: it comes from within a package
                if isinstance(backend, Truth):
                    raise
                said = " ".join(str(error).split())
                raise Stopped(
                    f"{backend.name} {backend.version} stopped with {type(error).__name__}: {said}"
                ) from error

    def _refuse(self, case: Case) -> None:
        for side in (self.reference, self.other):
            if case.needs not in side.abilities:
                what = "an image model" if "images" in side.abilities else "a trunk"
                raise CannotRun(f"{side.name} has {what} of {side.source}, and no more")
        sizes = self.reference.config.image_size, self.other.config.image_size
        if sizes[0] != sizes[1] and not isinstance(case.scenario, PixelScenario):
            raise CannotRun(f"no input fits both {sizes[0]} and {sizes[1]} pixels")

    def _judge(self, case: Case, blank: ScenarioResult) -> ScenarioResult:
        reference = self.ask(self.reference, case)
        other = self.ask(self.other, case, reference)
        noise = self._noise(case, reference)
        activations = compare(reference, other, noise)
        if not activations:
            raise CannotRun("the two have no activation in common")
        alone = [name for name in {*reference} ^ {*other} if kind(name) in ("masks", "pixels")]
        if alone:
            raise Stopped(f"only one of the two has {min(alone)}")
        sides = (reference, other) if self.reference_is_left else (other, reference)
        found = replace(
            blank,
            activations=activations,
            first_mismatch=first_mismatch(activations),
            views=case.look(*sides),
        )
        if found.first_mismatch is None:
            self.passed.append(PassedCase(case, self.reference, nullcontext, other, noise))
            return replace(found, status="same")
        known_differences = self._known_differences(case)
        if not known_differences:
            return replace(found, status="differs")
        return self._explained(case, known_differences, found, noise)

    def _explained(
        self,
        case: Case,
        known_differences: tuple[KnownDifference, ...],
        found: ScenarioResult,
        noise: Noise | None,
    ) -> ScenarioResult:
        """Whether known differences are all there is: the ground truth, made to deviate, agrees."""
        assert self.truth is not None
        circumstances = partial(emulating, self.truth, known_differences)
        with circumstances():
            emulated = self.ask(self.truth, case)
        package = known_differences[0].backend
        side = self.other if self.other.name == package else self.reference
        deviating = self.ask(side, case, emulated)
        activations = compare(emulated, deviating, noise)
        first = first_mismatch(activations)
        if first is None:
            self.passed.append(PassedCase(case, self.truth, circumstances, deviating, noise))
        last = [
            activation.relative
            for activation in found.activations
            if kind(activation.name) in ("masks", "pixels")
        ]
        return replace(
            found,
            status="known difference" if first is None else "differs",
            activations=activations,
            first_mismatch=first,
            apart=max(last, default=None),
            why=" ".join(known_difference.summary for known_difference in known_differences),
        )

    def _known_differences(self, case: Case) -> tuple[KnownDifference, ...]:
        """What is known of one side and not of the other."""
        found: tuple[KnownDifference, ...] = ()
        if self.reference.name != self.other.name:
            for side in (self.reference, self.other):
                found += known(side.name, side.version, case.scenario.name)
        return found

    def _noise(self, case: Case, reference: Activations) -> Noise | None:
        """How far the ground truth is from itself; None where 0 is asked for."""
        if self.truth is None:
            return None
        if isinstance(case.scenario, PixelScenario):
            return noise_of(reference, (), Arithmetic("cpu", "float32").floor)
        same = self.reference is self.truth
        usual = reference if same else self.ask(self.truth, case)
        others = []
        for variant in self._numerical_variants(video=isinstance(case.scenario, VideoScenario)):
            with variant.circumstances():
                others.append(self.ask(variant.backend, case, usual))
        return noise_of(usual, others, self.arithmetic.floor)

    def _numerical_variants(self, *, video: bool) -> list[NumericalVariant]:
        assert self.truth is not None
        if video not in self._variants:
            self._variants[video] = variants(self.truth, self.arithmetic, video=video)
        return self._variants[video]
