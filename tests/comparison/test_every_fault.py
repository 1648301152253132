"""Every fault of a single tensor is detected at the activation where it must show, and diagnosed.

The ground truth with the fault is compared with itself without it, so that only the fault shows:
every tensor of the smallest model of each generation. ``test_api`` shows by sensitivity tests that
faults are also detected within tolerances, with transformers as the other side.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from torch import Tensor

import sam21convert
from sam21convert.comparison import influence
from sam21convert.comparison.activations import SeenEnough, watched
from sam21convert.comparison.backends.base import LoadOptions
from sam21convert.comparison.backends.truth import Truth
from sam21convert.comparison.cases import cases
from sam21convert.comparison.comparison import Comparison, PassedCase
from sam21convert.comparison.explain.diagnosis import diagnose
from sam21convert.comparison.inputs import clip, pictures
from sam21convert.comparison.names import kind, rank
from sam21convert.comparison.perturb import perturb
from sam21convert.comparison.scenarios import chosen
from sam21convert.prediction.arithmetic import Arithmetic

from ..support.official import SAM2_IS_SLOW

SCENARIOS = "encoder,point,points,box,mask,video-point,video-mask,video-absent"
BOTH = pytest.mark.parametrize("name", SAM2_IS_SLOW)


class Subject:
    """A comparison in which every case is equal, and the tensors of its reference."""

    def __init__(self, name: str) -> None:
        with TemporaryDirectory() as home:
            path = Path(home) / "model.pt"
            sam21convert.sample(path, name)
            self.truth, self.sound = (Truth.load(path, LoadOptions()) for _ in range(2))
        self.comparison = Comparison(
            self.truth, self.sound, True, Arithmetic("cpu", "float32"), None
        )
        size = self.truth.config.image_size
        for case in cases(chosen(SCENARIOS), pictures(None, size), clip(None, size, 4)):
            assert self.comparison.judge(case).status == "same"
        self.features = self.truth.features
        self.names = list(self.truth.model.state_dict())

    def first(self, *names: str) -> str | None:
        """The first activation that differs, where only cases run that use one of the tensors."""
        of_videos = {influence.ability(name) == "videos" for name in names}
        encoded = not any(influence.encodes(name) for name in names)
        self.truth.features = self.features
        first: str | None = None
        for passed in self.comparison.passed:
            if (passed.case.needs == "videos") not in of_videos or not earlier(passed, first):
                continue
            if passed.case.prepare is not None and not encoded:
                passed.case.prepare(self.truth, None)  # all cases are about the same picture
                encoded = True
            first = self._first_of(passed, first)
        return first

    def _first_of(self, passed: PassedCase, first: str | None) -> str | None:
        """The first activation that differs in a case, or that of the cases before it."""
        to_check = earlier(passed, first)

        def watch(name: str, tensor: Tensor) -> None:
            if not torch.equal(tensor, passed.other[name]):
                raise SeenEnough(min(kind(name), first or kind(name), key=rank))
            if first is not None and name == to_check[-1]:
                raise SeenEnough(first)

        with watched(watch):
            try:
                found = self.comparison.ask(self.truth, passed.case, passed.other)
            except SeenEnough as seen:
                return str(seen)
        assert found.keys() == passed.other.keys()
        return first

    def diagnosis(self) -> list[tuple[str, str | None]]:
        return [(found.text, found.activation) for found in diagnose(self.truth, self.sound)]

    @contextmanager
    def holding(self, values: dict[str, Tensor]) -> Iterator[None]:
        """A context in which some tensors have other values, by name."""
        kept = {name: self.truth.tensor(name).clone() for name in values}
        for name, value in values.items():
            self.truth.tensor(name).copy_(value)
        try:
            yield
        finally:
            for name, value in kept.items():
                self.truth.tensor(name).copy_(value)


def earlier(passed: PassedCase, first: str | None) -> list[str]:
    """The activations of a case that would be reported before the first one known to differ."""
    return [name for name in passed.other if rank(kind(name)) < rank(first)]


# Attention heeds no order: with these two swapped, the tokens of masks change by rounding at most,
# and on some processors not at all. What is read off the two themselves does.
TOKENS = ("sam_mask_decoder.iou_token.weight", "sam_mask_decoder.obj_score_token.weight")


@cache
def loaded(name: str) -> Subject:
    return Subject(name)


def expected(subject: Subject, *names: str) -> str | None:
    """The first activation that any of the tensors can change."""
    return min((influence.of_tensor(name, subject.truth.config) for name in names), key=rank)


def visible(names: tuple[str, ...]) -> list[str]:
    return [name for name in names if name not in influence.UNDETECTABLE]


@BOTH
def test_without_a_fault_nothing_is_detected(name: str) -> None:
    subject = loaded(name)
    assert subject.first("image_encoder.trunk.pos_embed") is None
    assert subject.first("no_obj_ptr") is None
    assert subject.diagnosis() == []


@BOTH
def test_a_tensor_changed_by_1_percent_of_its_scale(name: str) -> None:
    subject = loaded(name)
    for tensor in visible(tuple(subject.names)):
        with perturb(subject.truth.tensor(tensor), 0.01):
            assert subject.first(tensor) == expected(subject, tensor), tensor
            ((text, activation),) = subject.diagnosis()
        assert re.fullmatch(f"a tensor differs by up to .* of its scale: {re.escape(tensor)}", text)
        assert activation == expected(subject, tensor)


@BOTH
def test_two_tensors_of_the_same_shape_swapped(name: str) -> None:
    subject = loaded(name)
    alike: dict[torch.Size, list[str]] = defaultdict(list)
    for tensor in subject.names:
        alike[subject.truth.tensor(tensor).shape].append(tensor)
    pairs = [pair for names in alike.values() for pair in pairwise(names) if visible(pair)]
    assert len(pairs) > 200
    for this, that in pairs:
        swapped = {
            this: subject.truth.tensor(that).clone(),
            that: subject.truth.tensor(this).clone(),
        }
        first = {expected(subject, this, that)}
        if (this, that) == TOKENS:
            first.add("decoder.iou")
        with subject.holding(swapped):
            assert subject.first(this, that) in first, (this, that)
            texts = [text for text, _ in subject.diagnosis()]
        assert f"two tensors are swapped: {this} and {that}" in texts


@BOTH
def test_a_square_matrix_transposed(name: str) -> None:
    subject = loaded(name)
    shapes = {tensor: subject.truth.tensor(tensor).shape for tensor in subject.names}
    square = [tensor for tensor, shape in shapes.items() if shape[1:] == shape[:1]]
    assert len(square) == 41
    for tensor in square:
        with subject.holding({tensor: subject.truth.tensor(tensor).T.clone()}):
            assert subject.first(tensor) == expected(subject, tensor), tensor
            told = f"a tensor is transposed: {tensor}"
            assert subject.diagnosis() == [(told, expected(subject, tensor))]


@BOTH
def test_tensors_that_no_result_depends_on_are_diagnosed(name: str) -> None:
    """The biases among them change the rounding only."""
    subject = loaded(name)
    for tensor in influence.UNDETECTABLE:
        with perturb(subject.truth.tensor(tensor), 0.01):
            assert [activation for _, activation in subject.diagnosis()] == [None]
    with perturb(subject.truth.tensor("no_mem_pos_enc"), 0.01):
        assert subject.first("no_mem_pos_enc") is None
