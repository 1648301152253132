"""Every fault of a single tensor is detected, at the activation where it must show, and its cause named.

The ground truth with the fault against itself without it, so that nothing but the fault shows; the
smallest model of each generation, and every tensor of it. That the same is detected when the other
side is transformers, within tolerances, is shown by the proofs of ``test_proving``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from pathlib import Path
from tempfile import mkdtemp

import pytest
import torch
from torch import Tensor

import sam21convert
from sam21convert.comparison import influence
from sam21convert.comparison.activations import kind, rank
from sam21convert.comparison.backends.base import LoadOptions
from sam21convert.comparison.backends.truth import Truth
from sam21convert.comparison.backends.variants import Arithmetic
from sam21convert.comparison.cases import cases
from sam21convert.comparison.comparison import Comparison
from sam21convert.comparison.explain.diagnosis import diagnose
from sam21convert.comparison.inputs import clip, pictures
from sam21convert.comparison.metrics import compare, first_mismatch
from sam21convert.comparison.perturb import perturb
from sam21convert.comparison.scenarios import chosen

from ..support.official import DEBUG

SCENARIOS = "encoder,point,points,box,mask,video-point,video-mask,video-absent"
BOTH = pytest.mark.parametrize("name", DEBUG)


class Subject:
    """A bench on which every case is equal, and the tensors of its reference."""

    def __init__(self, name: str) -> None:
        path = Path(mkdtemp()) / "model.pt"
        sam21convert.sample(path, name)
        self.truth, self.sound = (Truth.load(path, LoadOptions()) for _ in range(2))
        self.bench = Comparison(self.truth, self.sound, True, Arithmetic("cpu", "float32"), None)
        size = self.truth.config.image_size
        for case in cases(chosen(SCENARIOS), pictures(None, size), clip(None, size, 4)):
            assert self.bench.judge(case).status == "same"
        self.features = self.truth.features
        self.names = list(self.truth.model.state_dict())

    def first(self, *names: str) -> str | None:
        """The first activation that has changed now that those tensors are as they are."""
        of_videos = {influence.ability(name) == "videos" for name in names}
        upstream = any(influence.encodes(name) for name in names)
        self.truth.features = self.features
        changed = set()
        for passed in self.bench.passed:
            if (passed.case.needs == "videos") not in of_videos:
                continue
            if upstream and passed.case.prepare is not None:
                passed.case.prepare(self.truth, None)
            activations = self.bench.ask(self.truth, passed.case, passed.other)
            found = first_mismatch(compare(activations, passed.other, passed.noise))
            changed |= {kind(found)} if found else set()
        return min(changed, key=rank, default=None)

    def diagnosis(self) -> list[tuple[str, str | None]]:
        return [(cause.text, cause.activation) for cause in diagnose(self.truth, self.sound)]

    @contextmanager
    def holding(self, values: dict[str, Tensor]) -> Iterator[None]:
        """With other values in some tensors, by name."""
        kept = {name: self.truth.tensor(name).clone() for name in values}
        for name, value in values.items():
            self.truth.tensor(name).copy_(value)
        try:
            yield
        finally:
            for name, value in kept.items():
                self.truth.tensor(name).copy_(value)


@cache
def subject(name: str) -> Subject:
    return Subject(name)


def expected(one: Subject, *names: str) -> str | None:
    """The earliest activation that any of the tensors can reach."""
    return min((influence.of_tensor(name, one.truth.config) for name in names), key=rank)


def seen(names: tuple[str, ...]) -> list[str]:
    return [name for name in names if name not in influence.UNSEEN]


@BOTH
def test_without_a_fault_nothing_is_noticed(name: str) -> None:
    one = subject(name)
    assert one.first("image_encoder.trunk.pos_embed") is None
    assert one.first("no_obj_ptr") is None
    assert one.diagnosis() == []


@BOTH
def test_a_tensor_off_by_a_hundredth_of_its_scale(name: str) -> None:
    one = subject(name)
    for tensor in seen(tuple(one.names)):
        with perturb(one.truth.tensor(tensor), 0.01):
            assert one.first(tensor) == expected(one, tensor), tensor
            ((text, activation),) = one.diagnosis()
        assert text.startswith(f"{tensor} differs by up to")
        assert activation == expected(one, tensor)


@BOTH
def test_two_tensors_of_the_same_shape_swapped(name: str) -> None:
    one = subject(name)
    alike: dict[torch.Size, list[str]] = defaultdict(list)
    for tensor in one.names:
        alike[one.truth.tensor(tensor).shape].append(tensor)
    pairs = [pair for names in alike.values() for pair in pairwise(names) if seen(pair)]
    assert len(pairs) > 200
    for this, that in pairs:
        swapped = {this: one.truth.tensor(that).clone(), that: one.truth.tensor(this).clone()}
        with one.holding(swapped):
            assert one.first(this, that) == expected(one, this, that), (this, that)
            texts = [text for text, _ in one.diagnosis()]
        assert f"{this} and {that} are swapped" in texts


@BOTH
def test_a_square_matrix_transposed(name: str) -> None:
    one = subject(name)
    shapes = {tensor: one.truth.tensor(tensor).shape for tensor in one.names}
    square = [tensor for tensor, shape in shapes.items() if shape[1:] == shape[:1]]
    assert len(square) == 41
    for tensor in square:
        with one.holding({tensor: one.truth.tensor(tensor).T.clone()}):
            assert one.first(tensor) == expected(one, tensor), tensor
            assert one.diagnosis() == [(f"{tensor} is transposed", expected(one, tensor))]


@BOTH
def test_what_no_result_depends_on_is_a_cause_all_the_same(name: str) -> None:
    """In the least: the biases among them change the rounding."""
    one = subject(name)
    for tensor in influence.UNSEEN:
        with perturb(one.truth.tensor(tensor), 0.01):
            assert [activation for _, activation in one.diagnosis()] == [None]
    with perturb(one.truth.tensor("no_mem_pos_enc"), 0.01):
        assert one.first("no_mem_pos_enc") is None
