"""Show that the comparison could have failed: put a tensor off, and see it noticed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from ..config.registry import tensors_of
from . import influence
from .backends.base import held
from .comparison import Bench, Heard
from .findings import Control, Proof
from .metrics import compare, first_beyond
from .scenarios import EncoderScenario, ImageScenario, VideoScenario

_SHARE = {"float32": 0.01, "bfloat16": 0.3, "float16": 0.1}  # of a tensor's largest magnitude
# What is put off in every run, in the first case of its kind that is in parity.
_CONTROLS = (
    {
        ImageScenario: "sam_mask_decoder.output_upscaling.0.weight",
        EncoderScenario: "image_encoder.trunk.blocks.0.attn.proj.weight",
    },
    {VideoScenario: "memory_encoder.out_proj.weight"},
)


@contextmanager
def put_off(tensor: Tensor, share: float) -> Iterator[None]:
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


def controls(bench: Bench) -> Iterator[Control]:
    """One tensor for prompts, or else for the trunk, and one for videos."""
    probe, share = _Probe(bench), _SHARE[bench.arithmetic.dtype]
    for group in _CONTROLS:
        for wanted, tensor in group.items():
            heard = next((h for h in bench.heard if isinstance(h.case.scenario, wanted)), None)
            if heard is not None:
                tap = probe.first_to_notice(tensor, heard)
                yield Control(heard.case.title, tensor, share, tap is not None, tap)
                break


def prove_all(bench: Bench, progress: Callable[[str], None]) -> Proof:
    """Put every tensor that both sides have off in turn, and list those that no case shows.

    ``progress`` is called with the name of each as it begins.
    """
    probe, unseen = _Probe(bench), []
    names = provable(bench)
    for name in names:
        progress(name)
        if not any(probe.first_to_notice(name, heard) for heard in _worth_trying(bench, name)):
            unseen.append(name)
    expected = {name: influence.UNSEEN[name] for name in unseen if name in influence.UNSEEN}
    return Proof(len(names), tuple(unseen), expected)


def provable(bench: Bench) -> list[str]:
    """The tensors that both sides hold and have the ability to use."""
    able = bench.reference.abilities & bench.other.abilities
    names = (n for n in tensors_of(bench.reference.config) if influence.ability(n) in able)
    return [name for name in names if all(held(side, name) is not None for side in bench.sides)]


def _worth_trying(bench: Bench, name: str) -> Iterator[Heard]:
    """Cases in which a tensor can show, the cheapest first."""
    ability = influence.ability(name)
    for heard in bench.heard:
        if (ability == "encode") == (heard.case.needs == "encode") and (
            ability != "videos" or heard.case.needs == "videos"
        ):
            yield heard


class _Probe:
    """Asks again with a tensor put off."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.share = _SHARE[bench.arithmetic.dtype]
        # Of each runner, the picture whose features it holds, untouched.
        self.holds: dict[int, str | None] = {}

    def first_to_notice(self, name: str, heard: Heard) -> str | None:
        """The first tap that is out of tolerance then; None when all stay within."""
        case, upstream, who = heard.case, influence.encodes(name), id(heard.runner)
        if not upstream and self.holds.get(who) != case.input:
            self._prepare(heard)
            self.holds[who] = case.input
        with put_off(heard.runner.tensor(name), self.share):
            if upstream:
                self._prepare(heard)
                self.holds[who] = None
            with heard.circumstances():
                taps = self.bench.ask(heard.runner, case, heard.other)
        return first_beyond(compare(taps, heard.other, heard.noise))

    def _prepare(self, heard: Heard) -> None:
        case = heard.case
        if case.prepare is not None:
            self.bench.ask(heard.runner, replace(case, ask=case.prepare))
