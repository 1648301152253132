"""Run cases on both sides, and find out whether, where and by how much the two differ."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

from ..prediction.allocation import give_back_freed_memory
from ..prediction.arithmetic import Arithmetic
from .activations import Activations, SeenEnough, watched
from .backends.base import Backend, CannotRun
from .backends.truth import Truth
from .cases import Case
from .explain.known_differences import KnownDifference, emulating, known
from .findings import ScenarioResult
from .metrics import Noise, compare, first_mismatch
from .names import kind
from .noise import NumericalVariant, measuring, noise_of, variants
from .scenarios import PixelScenario


class ScenarioFailed(Exception):  # noqa: N818  # a result of the comparison, not an error of it
    """A package failed while it ran a scenario; the message says how."""


@contextmanager
def failing(backend: Backend) -> Iterator[None]:
    """A context in which an error of a package is a result of the comparison.

    Args:
        backend: The backend that is run; an error of the ground truth is one of this package.

    Yields:
        Nothing.

    Raises:
        ScenarioFailed: When the package fails.
    """
    try:
        yield
    except (CannotRun, SeenEnough):
        raise
    except Exception as error:  # from within a package, so it may be any
        if isinstance(backend, Truth):
            raise
        text = " ".join(str(error).split())
        raise ScenarioFailed(
            f"{backend.name} {backend.version} stopped with {type(error).__name__}: {text}"
        ) from error


@dataclass(frozen=True)
class PassedCase:
    """A case in parity, which negative controls may run again.

    Attributes:
        case: The case.
        backend: The backend that agrees with the other side: the reference, or the ground truth
            that emulates known differences.
        context: Makes the context in which ``backend`` must be run.
        other: Activations of the other side.
        noise: The noise of each activation; None when the two must be equal.
    """

    case: Case
    backend: Backend
    context: Callable[[], AbstractContextManager[None]]
    other: Activations
    noise: Noise | None


@dataclass
class Comparison:
    """Two sides that are asked the same.

    Attributes:
        reference: The side whose magnitudes differences are divided by.
        other: The other side.
        reference_is_left: Whether the reference is the user's left side.
        arithmetic: Device and type to compute in.
        truth: The ground truth with the weights of the reference. It measures the noise and
            emulates known differences. None when the two sides must be equal.
        passed: The cases in parity so far.
    """

    reference: Backend
    other: Backend
    reference_is_left: bool
    arithmetic: Arithmetic
    truth: Truth | None
    passed: list[PassedCase] = field(default_factory=list)
    _measured_by: dict[str, None] = field(default_factory=dict)

    @property
    def sides(self) -> tuple[Backend, Backend]:
        """The left and the right side."""
        both = self.reference, self.other
        return both if self.reference_is_left else (self.other, self.reference)

    @property
    def variant_names(self) -> tuple[str, ...]:
        """Names of the numerical variants that measured the noise."""
        return tuple(self._measured_by)

    def judge(self, case: Case) -> ScenarioResult:
        """Run one case on both sides and compare them.

        Args:
            case: The case. It is added to ``passed`` when it is in parity.

        Returns:
            The result. Its status is ``"not run"`` when one of the sides cannot run the case.
        """
        start = time.perf_counter()
        blank = ScenarioResult(case.scenario.name, case.scenario.summary, case.input, "not run")
        try:
            self.refuse(case.needs, sized=not isinstance(case.scenario, PixelScenario))
            found = self._judge(case, blank)
        except CannotRun as reason:
            found = replace(blank, why=str(reason))
        except ScenarioFailed as reason:
            found = replace(blank, status="differs", why=str(reason))
        return replace(found, seconds=round(time.perf_counter() - start, 2))

    def ask(self, backend: Backend, case: Case, agreed: Activations | None = None) -> Activations:
        """Run a case on one backend, in the arithmetic of the comparison.

        Args:
            backend: The backend.
            case: The case.
            agreed: Activations that the answer will be compared with: see
                :class:`~.activations.Recorder`.

        Returns:
            The activations.

        Raises:
            CannotRun: When the backend cannot do what the case asks for.
            SeenEnough: When what watches the activations ends the run.
            ScenarioFailed: When the package of the backend fails.
        """
        with self.arithmetic.in_force(), failing(backend):
            return case.ask(backend, agreed)

    def refuse(self, needs: str, *, sized: bool = True) -> None:
        """Refuse what one of the sides cannot do.

        Args:
            needs: The ability that it takes: see :class:`~.backends.base.Backend`.
            sized: Whether the two must have the same image size.

        Raises:
            CannotRun: When a side cannot do it.
        """
        for side in (self.reference, self.other):
            if needs not in side.abilities:
                what = "image model" if "images" in side.abilities else "trunk"
                raise CannotRun(f"{side.name} has only the {what} of {side.source}")
        sizes = self.reference.config.image_size, self.other.config.image_size
        if sized and sizes[0] != sizes[1]:
            raise CannotRun(f"the image sizes differ: {sizes[0]} and {sizes[1]} pixels")

    def _judge(self, case: Case, blank: ScenarioResult) -> ScenarioResult:
        reference = self.ask(self.reference, case)
        other = self.ask(self.other, case, reference)
        noise = self._noise(case, reference)
        activations = compare(reference, other, noise)
        if not activations:
            raise CannotRun("the two have no activation in common")
        # Inner activations may be missing on one side; what users get must be there on both.
        alone = [name for name in {*reference} ^ {*other} if kind(name) in ("masks", "pixels")]
        if alone:
            raise ScenarioFailed(f"only one of the two has {min(alone)}")
        sides = (reference, other) if self.reference_is_left else (other, reference)
        found = replace(
            blank,
            activations=activations,
            first_mismatch=first_mismatch(activations),
            views=case.make_views(*sides),
        )
        if found.first_mismatch is None:
            self.passed.append(PassedCase(case, self.reference, nullcontext, other, noise))
            return replace(found, status="same")
        known_differences = self._known_differences(case)
        if not known_differences:
            return replace(found, status="differs")
        own = other if self.other.name == known_differences[0].backend else reference
        return self._explained(case, known_differences, found, noise, own)

    def _explained(
        self,
        case: Case,
        known_differences: tuple[KnownDifference, ...],
        found: ScenarioResult,
        noise: Noise | None,
        own: Activations,
    ) -> ScenarioResult:
        """Compare with a ground truth that emulates the differences: do they explain everything?

        ``own`` are the activations of the package that differs. It is asked again only where it
        shares memories with the other side, see :class:`~.activations.Recorder`.
        """
        assert self.truth is not None
        context = partial(emulating, self.truth, known_differences)
        with context():
            emulated = self.ask(self.truth, case)
        if case.needs == "videos":
            package = known_differences[0].backend
            side = self.other if self.other.name == package else self.reference
            own = self.ask(side, case, emulated)
        activations = compare(emulated, own, noise)
        first = first_mismatch(activations)
        if first is None:
            self.passed.append(PassedCase(case, self.truth, context, own, noise))
        results = [one for one in found.activations if kind(one.name) in ("masks", "pixels")]
        return replace(
            found,
            status="known difference" if first is None else "differs",
            activations=activations,
            first_mismatch=first,
            apart=max((one.relative for one in results), default=None),
            why=" ".join(difference.summary for difference in known_differences),
        )

    def _known_differences(self, case: Case) -> tuple[KnownDifference, ...]:
        """Known differences of either side; none if both are run by the same package."""
        found: tuple[KnownDifference, ...] = ()
        if self.reference.name != self.other.name:
            for side in (self.reference, self.other):
                found += known(side.name, side.version, case.scenario.name)
        return found

    def _noise(self, case: Case, reference: Activations) -> Noise | None:
        """How far variants of the ground truth are from it; None where the two must be equal."""
        if self.truth is None:
            return None
        if isinstance(case.scenario, PixelScenario):
            return noise_of(reference, (), Arithmetic("cpu", "float32").floor)
        give_back_freed_memory()  # variants use other arrays: this is where the peak is
        usual = reference if self.reference is self.truth else self.ask(self.truth, case)
        apart: list[dict[str, float]] = []
        for variant in self._variants:
            if case.needs in variant.backend.abilities:
                self._measured_by[variant.name] = None
                apart.append({})
                with variant.context(), watched(measuring(usual, apart[-1])):
                    self.ask(variant.backend, case, usual)
        return noise_of(usual, apart, self.arithmetic.floor)

    @cached_property
    def _variants(self) -> list[NumericalVariant]:
        assert self.truth is not None
        return variants(self.truth, self.arithmetic)
