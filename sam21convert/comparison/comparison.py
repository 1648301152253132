"""Put cases to both sides and say whether, where and by how much they part."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial

from .activations import Taps, kind
from .backends.base import CannotRun, Runner
from .backends.truth import Truth
from .backends.variants import Arithmetic, Voice, variants
from .cases import Case
from .explain.known_differences import Deviation, emulating, known
from .findings import ScenarioFinding
from .metrics import Noise, compare, first_beyond, noise_of
from .scenarios import PixelScenario, VideoScenario


class Stopped(Exception):  # noqa: N818  # an answer, if not the one that was hoped for
    """A package failed at a scenario; the message says how."""


@dataclass(frozen=True)
class Heard:
    """A case in parity: who agrees with what the other side answered, and within what.

    That is the reference or, where a deviation is known, the ground truth made to deviate.
    """

    case: Case
    runner: Runner
    circumstances: Callable[[], AbstractContextManager[None]]
    other: Taps
    noise: Noise | None


@dataclass
class Bench:
    """Two sides that are asked the same.

    Differences are in units of the scale of ``reference``. ``truth`` is loaded from its source,
    gives its noise, and shows what a known deviation does; it is None where 0 is asked for.
    """

    reference: Runner
    other: Runner
    reference_is_left: bool
    arithmetic: Arithmetic
    truth: Truth | None
    heard: list[Heard] = field(default_factory=list)
    _variants: dict[bool, list[Voice]] = field(default_factory=dict)

    @property
    def sides(self) -> tuple[Runner, Runner]:
        """Left and right."""
        both = self.reference, self.other
        return both if self.reference_is_left else (self.other, self.reference)

    @property
    def variant_names(self) -> tuple[str, ...]:
        """By what other means the noise was measured."""
        return tuple(dict.fromkeys(v.name for group in self._variants.values() for v in group))

    def judge(self, case: Case) -> ScenarioFinding:
        """Run one case, unless one of the sides cannot."""
        start = time.perf_counter()
        blank = ScenarioFinding(case.scenario.name, case.scenario.summary, case.input, "not run")
        try:
            self._refuse(case)
            found = self._judge(case, blank)
        except CannotRun as reason:
            found = replace(blank, why=str(reason))
        except Stopped as reason:
            found = replace(blank, outcome="differs", why=str(reason))
        return replace(found, seconds=round(time.perf_counter() - start, 2))

    def ask(self, runner: Runner, case: Case, agreed: Taps | None = None) -> Taps:
        """What a runner answers, in the arithmetic of the comparison.

        ``agreed`` are the taps with which it will be compared.

        Raises :class:`Stopped` when a package fails.
        """
        with self.arithmetic.in_force():
            try:
                return case.ask(runner, agreed)
            except CannotRun:
                raise
            except Exception as error:  # any: it comes from within a package
                if isinstance(runner, Truth):
                    raise
                said = " ".join(str(error).split())
                raise Stopped(
                    f"{runner.name} {runner.version} stopped with {type(error).__name__}: {said}"
                ) from error

    def _refuse(self, case: Case) -> None:
        for side in (self.reference, self.other):
            if case.needs not in side.abilities:
                what = "an image model" if "images" in side.abilities else "a trunk"
                raise CannotRun(f"{side.name} has {what} of {side.source}, and no more")
        sizes = self.reference.config.image_size, self.other.config.image_size
        if sizes[0] != sizes[1] and not isinstance(case.scenario, PixelScenario):
            raise CannotRun(f"no input fits both {sizes[0]} and {sizes[1]} pixels")

    def _judge(self, case: Case, blank: ScenarioFinding) -> ScenarioFinding:
        reference = self.ask(self.reference, case)
        other = self.ask(self.other, case, reference)
        noise = self._noise(case, reference)
        taps = compare(reference, other, noise)
        if not taps:
            raise CannotRun("the two have no tap in common")
        alone = [name for name in {*reference} ^ {*other} if kind(name) in ("masks", "pixels")]
        if alone:
            raise Stopped(f"only one of the two has {min(alone)}")
        sides = (reference, other) if self.reference_is_left else (other, reference)
        found = replace(blank, taps=taps, first=first_beyond(taps), views=case.look(*sides))
        if found.first is None:
            self.heard.append(Heard(case, self.reference, nullcontext, other, noise))
            return replace(found, outcome="same")
        deviations = self._deviations(case)
        if not deviations:
            return replace(found, outcome="differs")
        return self._explained(case, deviations, found, noise)

    def _explained(
        self,
        case: Case,
        deviations: tuple[Deviation, ...],
        found: ScenarioFinding,
        noise: Noise | None,
    ) -> ScenarioFinding:
        """Whether known deviations are all there is: the ground truth, made to deviate, agrees."""
        assert self.truth is not None
        circumstances = partial(emulating, self.truth, deviations)
        with circumstances():
            emulated = self.ask(self.truth, case)
        package = deviations[0].runner
        side = self.other if self.other.name == package else self.reference
        deviating = self.ask(side, case, emulated)
        taps = compare(emulated, deviating, noise)
        first = first_beyond(taps)
        if first is None:
            self.heard.append(Heard(case, self.truth, circumstances, deviating, noise))
        last = [tap.relative for tap in found.taps if kind(tap.name) in ("masks", "pixels")]
        return replace(
            found,
            outcome="known deviation" if first is None else "differs",
            taps=taps,
            first=first,
            apart=max(last, default=None),
            why=" ".join(deviation.summary for deviation in deviations),
        )

    def _deviations(self, case: Case) -> tuple[Deviation, ...]:
        """What is known of one side and not of the other."""
        found: tuple[Deviation, ...] = ()
        if self.reference.name != self.other.name:
            for side in (self.reference, self.other):
                found += known(side.name, side.version, case.scenario.name)
        return found

    def _noise(self, case: Case, reference: Taps) -> Noise | None:
        """How far the ground truth is from itself; None where 0 is asked for."""
        if self.truth is None:
            return None
        if isinstance(case.scenario, PixelScenario):
            return noise_of(reference, (), Arithmetic("cpu", "float32").floor)
        same = self.reference is self.truth
        usual = reference if same else self.ask(self.truth, case)
        others = []
        for voice in self._voices(video=isinstance(case.scenario, VideoScenario)):
            with voice.circumstances():
                others.append(self.ask(voice.runner, case, usual))
        return noise_of(usual, others, self.arithmetic.floor)

    def _voices(self, *, video: bool) -> list[Voice]:
        assert self.truth is not None
        if video not in self._variants:
            self._variants[video] = variants(self.truth, self.arithmetic, video=video)
        return self._variants[video]
