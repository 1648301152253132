"""Show that the comparison would detect a fault: change a tensor, and compare again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from ..config.registry import tensors_of
from ..report import Progress
from . import influence
from .activations import SeenEnough, Watch, watched
from .backends.base import held
from .comparison import Comparison, PassedCase
from .findings import NegativeControl, Sensitivity
from .metrics import MULTIPLE, known_noise, least_unit, relative
from .scenarios import EncoderScenario, ImageScenario, VideoScenario

# Size of a change, as a share of the largest magnitude of a tensor. In half precision, 1 % would
# drown in the noise.
SHARE = {"float32": 0.01, "bfloat16": 0.3, "float16": 0.1}
# Tensors that every run changes, by the kind of scenario. Of each group, the first kind counts that
# has a case in parity.
_CONTROLS = (
    {
        ImageScenario: "sam_mask_decoder.output_upscaling.0.weight",
        EncoderScenario: "image_encoder.trunk.blocks.0.attn.proj.weight",
    },
    {VideoScenario: "memory_encoder.out_proj.weight"},
)


@contextmanager
def perturb(tensor: Tensor, share: float) -> Iterator[None]:
    """A context in which a tensor is changed.

    Every element moves up or down, with fixed pseudo-random signs.

    Args:
        tensor: The tensor, which is changed in place and restored afterwards.
        share: Size of the change, as a share of the tensor's largest magnitude.

    Yields:
        Nothing.
    """
    kept = tensor.detach().clone()
    signs = torch.randint(0, 2, kept.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    step = share * float(kept.abs().max() or 1.0)
    with torch.no_grad():
        tensor.add_(signs.to(tensor) * step)
    try:
        yield
    finally:
        with torch.no_grad():
            tensor.copy_(kept)


def run_controls(comparison: Comparison) -> Iterator[NegativeControl]:
    """The negative controls of a run: change one tensor for prompts and one for videos.

    Where no prompt is in parity, a tensor of the trunk is changed instead.

    Args:
        comparison: A comparison whose cases have been judged.

    Yields:
        Whether each change was detected, and at which activation.
    """
    probe, share = _Probe(comparison), SHARE[comparison.arithmetic.dtype]
    for passed, tensor in _controls(comparison.passed):
        activation = probe.first_to_detect(tensor, passed)
        yield NegativeControl(passed.case.title, tensor, share, activation is not None, activation)


def forget_others(comparison: Comparison) -> None:
    """Keep only the cases that :func:`run_controls` runs again; each holds its activations.

    Args:
        comparison: A comparison, some cases of which have been judged.
    """
    comparison.passed[:] = [passed for passed, _ in _controls(comparison.passed)]


def _controls(passed: Sequence[PassedCase]) -> Iterator[tuple[PassedCase, str]]:
    """The cases to run again, each with the tensor to change."""
    for group in _CONTROLS:
        for wanted, tensor in group.items():
            found = next((one for one in passed if isinstance(one.case.scenario, wanted)), None)
            if found is not None:
                yield found, tensor
                break


def measure_sensitivity(comparison: Comparison, progress: Progress) -> Sensitivity:
    """Change every tensor in turn, and list those whose change no case detects.

    Args:
        comparison: A comparison whose cases have been judged.
        progress: Told of each tensor before it is changed, by name: one step for each.

    Returns:
        The number of tensors, and those whose change went undetected.
    """
    probe, undetected = _Probe(comparison), []
    names = perturbable(comparison)
    for name in names:
        progress.advance(0, name)
        if not any(
            probe.first_to_detect(name, passed) for passed in _worth_trying(comparison, name)
        ):
            undetected.append(name)
        progress.advance(1)
    expected = {
        name: influence.UNDETECTABLE[name] for name in undetected if name in influence.UNDETECTABLE
    }
    return Sensitivity(len(names), tuple(undetected), expected)


def perturbable(comparison: Comparison) -> list[str]:
    """The tensors whose change a comparison should detect.

    Args:
        comparison: The two sides.

    Returns:
        Canonical names of the tensors that both sides hold and are able to use.
    """
    able = comparison.reference.abilities & comparison.other.abilities
    names = (n for n in tensors_of(comparison.reference.config) if influence.ability(n) in able)
    return [
        name for name in names if all(held(side, name) is not None for side in comparison.sides)
    ]


def _worth_trying(comparison: Comparison, name: str) -> Iterator[PassedCase]:
    """Cases whose results depend on a tensor, in the order in which they were run."""
    ability = influence.ability(name)
    for passed in comparison.passed:
        if (ability == "encode") == (passed.case.needs == "encode") and (
            ability != "videos" or passed.case.needs == "videos"
        ):
            yield passed


class _Probe:
    """Runs cases again with one tensor changed."""

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison
        self.share = SHARE[comparison.arithmetic.dtype]
        # By backend, the input whose features it holds, computed with unchanged weights.
        self.encoded: dict[int, str | None] = {}

    def first_to_detect(self, name: str, passed: PassedCase) -> str | None:
        """The first activation out of tolerance with the tensor changed; None if all are within.

        Nothing is computed after it.
        """
        case, upstream, key = passed.case, influence.encodes(name), id(passed.backend)
        if not upstream and self.encoded.get(key) != case.input:
            self._prepare(passed)
            self.encoded[key] = case.input
        with perturb(passed.backend.tensor(name), self.share):
            if upstream:
                self._prepare(passed)
                self.encoded[key] = None
            try:
                with passed.context(), watched(_until_out_of_tolerance(passed)):
                    self.comparison.ask(passed.backend, case, passed.other)
            except SeenEnough as seen:
                return str(seen)
        return None

    def _prepare(self, passed: PassedCase) -> None:
        case = passed.case
        if case.prepare is not None:
            self.comparison.ask(passed.backend, replace(case, ask=case.prepare))


def _until_out_of_tolerance(passed: PassedCase) -> Watch:
    """Ends a run at the first activation that is out of tolerance, with its name as the message."""
    noise = known_noise(passed.other, passed.noise)

    def watch(name: str, activation: Tensor) -> None:
        if name in noise:
            apart = relative(activation, passed.other[name], least_unit(name))
            if not apart <= MULTIPLE * noise[name]:  # also where it is not a number
                raise SeenEnough(name)

    return watch
