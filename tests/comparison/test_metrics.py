"""How far apart two sets of activations are, and how far they may be."""

from __future__ import annotations

from math import inf, isnan

import pytest
import torch
from torch import Tensor

from sam21convert.comparison.activations import Recorder, watched
from sam21convert.comparison.metrics import compare, first_mismatch, relative, result_of
from sam21convert.comparison.names import kind
from sam21convert.comparison.noise import measuring, noise_of


def activations(**values: float) -> dict[str, Tensor]:
    return {name: torch.tensor([value, 1.0]) for name, value in values.items()}


class TestRelative:
    def test_is_in_units_of_the_largest_magnitude_of_the_reference(self) -> None:
        assert relative(torch.tensor([1.0, -4.0]), torch.tensor([2.0, -4.0])) == 0.25

    def test_is_0_only_for_equal_values(self) -> None:
        one = torch.tensor([1.0])
        assert relative(one, one.clone()) == 0
        assert relative(one, one + 2**-23) == 2**-23

    @pytest.mark.parametrize(
        "other", [torch.zeros(3), torch.tensor([float("nan"), 1.0]), torch.tensor([inf, 1.0])]
    )
    def test_is_infinite_for_another_shape_and_for_values_that_are_not_finite(
        self, other: Tensor
    ) -> None:
        assert relative(torch.ones(2), other) == inf

    def test_of_a_reference_that_is_zero(self) -> None:
        assert relative(torch.zeros(2), torch.zeros(2)) == 0
        assert relative(torch.zeros(2), torch.ones(2)) == inf


class TestResult:
    def test_masks_have_iou_and_share_of_differing_pixels(self) -> None:
        one, other = torch.tensor([1.0, 1.0, -1.0, -1.0]), torch.tensor([1.0, -1.0, -1.0, -1.0])
        found = result_of("frame3.masks (2)", one, other, 0, 0)
        assert (found.iou, found.differing) == (0.5, 0.25)
        assert (found.max_abs, found.relative) == (2, 2)

    def test_other_activations_have_none(self) -> None:
        found = result_of("pointer", torch.ones(2), torch.ones(2), 0, 0)
        assert (found.iou, found.differing) == (None, None)
        assert found.cosine == pytest.approx(1)

    def test_two_empty_masks_overlap(self) -> None:
        assert result_of("masks", -torch.ones(4), -torch.ones(4), 0, 0).iou == 1

    def test_cosine_depends_on_the_direction_only(self) -> None:
        one = torch.tensor([1.0, 2.0])
        assert result_of("pointer", one, 3 * one, 0, 0).cosine == pytest.approx(1)
        assert result_of("pointer", one, -one, 0, 0).cosine == pytest.approx(-1)

    def test_another_shape_is_infinitely_far_apart(self) -> None:
        found = result_of("masks", torch.ones(2), torch.ones(3), 1.0, 10.0)
        assert found.relative == found.max_abs == inf
        assert isnan(found.cosine)
        assert not found.within

    def test_what_is_not_finite_is_within_no_tolerance(self) -> None:
        one = torch.tensor([1.0, float("nan")])
        found = result_of("masks", one, one, inf, inf)
        assert found.relative == inf
        assert not found.within


def apart(reference: dict[str, Tensor], variant: dict[str, Tensor]) -> dict[str, float]:
    """What is measured while a variant runs."""
    found: dict[str, float] = {}
    recorder = Recorder()
    with watched(measuring(reference, found)):
        for name, tensor in variant.items():
            recorder.add(name, tensor)
    assert all(recorder[name].numel() == 0 for name in variant)  # nothing was kept
    return found


class TestNoise:
    def test_is_the_furthest_of_the_variants(self) -> None:
        one = activations(a=1.0)
        runs = [apart(one, activations(a=1.5)), apart(one, activations(a=0.9))]
        assert runs[0] == {"a": 0.5}
        assert noise_of(one, runs, 0.0) == {"a": 0.5}

    def test_is_carried_on_to_later_activations(self) -> None:
        one = activations(a=1, b=1, c=1)
        found = noise_of(one, [apart(one, activations(a=1, b=1.25, c=1))], 0.0)
        assert found == {"a": 0.0, "b": 0.25, "c": 0.25}

    def test_is_not_smaller_than_the_floor(self) -> None:
        assert noise_of(["a"], [{"a": 0.0}], 2**-23) == {"a": 2**-23}

    def test_a_variant_may_lack_an_activation_or_have_others(self) -> None:
        one = activations(a=1, b=1)
        found = noise_of(one, [apart(one, activations(a=1.5, z=9))], 0.0)
        assert found == {"a": 0.5, "b": 0.5}


class TestCompare:
    def test_the_first_activation_out_of_tolerance_is_named(self) -> None:
        found = compare(
            activations(a=1, b=1, c=1),
            activations(a=1.0, b=1.5, c=9),
            {"a": 0.1, "b": 0.1, "c": 0.1},
            4,
        )
        assert [activation.within for activation in found] == [True, False, False]
        assert first_mismatch(found) == "b"

    def test_tolerance_is_a_multiple_of_the_noise(self) -> None:
        (found,) = compare(activations(a=1), activations(a=1.5), {"a": 0.125}, 4)
        assert (found.noise, found.tolerance, found.within) == (0.125, 0.5, True)

    def test_without_noise_the_tolerance_is_0(self) -> None:
        assert first_mismatch(compare(activations(a=1), activations(a=1), None)) is None
        assert first_mismatch(compare(activations(a=1), activations(a=1 + 2**-23), None)) == "a"

    def test_activations_that_one_side_lacks_are_not_compared(self) -> None:
        assert [
            activation.name
            for activation in compare(activations(a=1, b=1), activations(b=1, c=1), None)
        ] == ["b"]


class TestRecorder:
    def test_names_are_preceded_by_their_place(self) -> None:
        recorder = Recorder()
        with recorder.within("frame3.object1"):
            recorder.add("pointer", torch.ones(1))
            recorder.add("neck.level2", torch.ones(1))
        recorder.add("masks", torch.ones(1))
        assert list(recorder) == ["frame3.object1.pointer", "frame3.neck.level2", "masks"]

    def test_a_name_that_comes_again_is_numbered(self) -> None:
        recorder = Recorder()
        for value in (1.0, 2.0, 3.0):
            recorder.add("frame0.masks", torch.tensor([value]))
        assert {name: float(activation) for name, activation in recorder.items()} == {
            "frame0.masks": 1,
            "frame0.masks (2)": 2,
            "frame0.masks (3)": 3,
        }

    def test_features_are_kept_once_and_of_one_frame_of_a_video(self) -> None:
        recorder = Recorder()
        recorder.update({"frame5.trunk.stage0": torch.ones(1), "frame5.neck.level0": torch.ones(1)})
        recorder.update({"frame5.trunk.stage0": torch.zeros(1)})
        recorder.update({"frame6.trunk.stage0": torch.ones(1), "frame6.masks": torch.ones(1)})
        assert list(recorder) == ["frame5.trunk.stage0", "frame5.neck.level0", "frame6.masks"]
        assert recorder["frame5.trunk.stage0"] == 1

    def test_tensors_are_copies_in_float32_or_wider(self) -> None:
        recorder, tensor = Recorder(), torch.ones(2)
        recorder.add("pointer", tensor)
        recorder.add("masks", tensor.to(torch.bfloat16))
        recorder.add("pixels", tensor.double())
        tensor.add_(1)
        assert recorder["pointer"].tolist() == [1, 1]
        assert [activation.dtype for activation in recorder.values()] == [
            torch.float32,
            torch.float32,
            torch.float64,
        ]

    @pytest.mark.parametrize(
        "name",
        ["pointer", "frame12.pointer", "frame0.object1.pointer (2)", "frame3.objectab.pointer"],
    )
    def test_the_kind_of_an_activation_is_its_name_without_its_place(self, name: str) -> None:
        assert kind(name) == "pointer"
