"""Show that the comparison could have failed: put a tensor off, and see it detected."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from ..config.registry import tensors_of
from ..report import Progress
from . import influence
from .backends.base import held
from .comparison import Comparison, PassedCase
from .findings import NegativeControl, Sensitivity
from .metrics import compare, first_mismatch
from .scenarios import EncoderScenario, ImageScenario, VideoScenario

_SHARE = {"float32": 0.01, "bfloat16": 0.3, "float16": 0.1}  # of a tensor's largest magnitude
# What is changed in every run, in the first case of its kind that is in parity.
_CONTROLS = (
    {
        ImageScenario: "sam_mask_decoder.output_upscaling.0.weight",
        EncoderScenario: "image_encoder.trunk.blocks.0.attn.proj.weight",
    },
    {VideoScenario: "memory_encoder.out_proj.weight"},
)


@contextmanager
def perturb(tensor: Tensor, share: float) -> Iterator[None]:
    """Move every element up or down, in no order, by a share of the largest magnitude."""
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


def run_controls(bench: Comparison) -> Iterator[NegativeControl]:
    """One tensor for prompts, or else for the trunk, and one for videos."""
    probe, share = _Probe(bench), _SHARE[bench.arithmetic.dtype]
    for group in _CONTROLS:
        for wanted, tensor in group.items():
            passed = next((h for h in bench.passed if isinstance(h.case.scenario, wanted)), None)
            if passed is not None:
                activation = probe.first_to_detect(tensor, passed)
                yield NegativeControl(
                    passed.case.title, tensor, share, activation is not None, activation
                )
                break


def measure_sensitivity(bench: Comparison, progress: Progress) -> Sensitivity:
    """Put every tensor that both sides have off in turn, and list those that no case shows.

    ``progress`` is told of each tensor, by name.
    """
    probe, undetected = _Probe(bench), []
    names = perturbable(bench)
    for name in names:
        progress.advance(0, name)
        if not any(probe.first_to_detect(name, passed) for passed in _worth_trying(bench, name)):
            undetected.append(name)
    expected = {name: influence.UNSEEN[name] for name in undetected if name in influence.UNSEEN}
    return Sensitivity(len(names), tuple(undetected), expected)


def perturbable(bench: Comparison) -> list[str]:
    """The tensors that both sides hold and have the ability to use."""
    able = bench.reference.abilities & bench.other.abilities
    names = (n for n in tensors_of(bench.reference.config) if influence.ability(n) in able)
    return [name for name in names if all(held(side, name) is not None for side in bench.sides)]


def _worth_trying(bench: Comparison, name: str) -> Iterator[PassedCase]:
    """Cases in which a tensor can show, the cheapest first."""
    ability = influence.ability(name)
    for passed in bench.passed:
        if (ability == "encode") == (passed.case.needs == "encode") and (
            ability != "videos" or passed.case.needs == "videos"
        ):
            yield passed


class _Probe:
    """Asks again with a tensor changed."""

    def __init__(self, bench: Comparison) -> None:
        self.bench = bench
        self.share = _SHARE[bench.arithmetic.dtype]
        # Of each backend, the picture whose features it holds, untouched.
        self.holds: dict[int, str | None] = {}

    def first_to_detect(self, name: str, passed: PassedCase) -> str | None:
        """The first activation that is out of tolerance then; None when all stay within."""
        case, upstream, who = passed.case, influence.encodes(name), id(passed.backend)
        if not upstream and self.holds.get(who) != case.input:
            self._prepare(passed)
            self.holds[who] = case.input
        with perturb(passed.backend.tensor(name), self.share):
            if upstream:
                self._prepare(passed)
                self.holds[who] = None
            with passed.circumstances():
                activations = self.bench.ask(passed.backend, case, passed.other)
        return first_mismatch(compare(activations, passed.other, passed.noise))

    def _prepare(self, passed: PassedCase) -> None:
        case = passed.case
        if case.prepare is not None:
            self.bench.ask(passed.backend, replace(case, ask=case.prepare))
