"""``parity --gradients``: the same losses and gradients, and the name of what gets none."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from functools import cache
from math import isinf
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import sam21convert
from sam21convert.commands.main import main
from sam21convert.comparison.backends.base import LoadOptions
from sam21convert.comparison.backends.truth import Truth
from sam21convert.comparison.comparison import Comparison
from sam21convert.comparison.findings import NegativeControl, ScenarioResult
from sam21convert.comparison.gradients import comparison as module
from sam21convert.comparison.gradients import noise
from sam21convert.comparison.gradients.comparison import GradientComparison, compare, named
from sam21convert.comparison.gradients.inputs import example
from sam21convert.comparison.gradients.scenarios import ALL, BY_NAME
from sam21convert.comparison.gradients.step import Outcome, take_step
from sam21convert.comparison.gradients.truth import TruthTrainee
from sam21convert.comparison.influence import INVARIANT, UNDETECTABLE
from sam21convert.comparison.names import OF_TRAINING, kind
from sam21convert.comparison.report import ParityReport
from sam21convert.prediction.arithmetic import Arithmetic
from sam21convert.training.losses import LossSettings

from ...support.checkpoints import DEBUG, DEBUG_20
from ...support.official import DEBUG as GENERATIONS

CPU = Arithmetic("cpu", "float32")
VIDEO = BY_NAME["train-video-point"]
QUICKEST = sorted(ALL, key=lambda scenario: (scenario.frames, len(scenario.corrections)))
Checkpoints = Callable[[str], Path]


@cache
def truth(path: Path) -> Truth:
    return Truth.load(path, LoadOptions())


@cache
def step(path: Path, scenario: str) -> Outcome:
    model = truth(path).model
    return take_step(
        TruthTrainee(model),
        example(BY_NAME[scenario], model.image_size, "cpu"),
        LossSettings(),
        CPU,
    )


def with_gradients(left: object, right: object, **options: Any) -> ParityReport:
    return sam21convert.parity(str(left), str(right), gradients=True, device="cpu", **options)


def of(report: ParityReport, name: str) -> ScenarioResult:
    return next(found for found in report.scenarios if found.name == name)


class TestTransformers:
    """Images are learned alike; videos cannot be learned, which is known, seen and said."""

    def test_the_gradients_of_an_image(self, checkpoints: Checkpoints) -> None:
        report = with_transformers(checkpoints(DEBUG))
        assert report.ok, str(report)
        for name in ("train-point", "train-box"):
            found = of(report, name)
            assert found.status == "same"
            assert len(found.activations) > 200
            assert {one.side for one in found.without_gradient} == {"both"}
            tolerances = sorted(one.tolerance for one in found.activations)
            assert 0 < tolerances[0] < 1e-5
            assert tolerances[len(tolerances) // 2] < 1e-2
            assert tolerances[-1] < 0.1  # where an input of ReLU lies near 0

    def test_what_lets_no_gradient_through_is_named(self, checkpoints: Checkpoints) -> None:
        report = with_transformers(checkpoints(DEBUG))
        for name in ("train-video-point", "train-video-mask"):
            found = of(report, name)
            assert found.status == "known difference"
            assert not found.activations
            assert {one.side for one in found.without_gradient} == {"right"}
            assert {one.reason for one in found.without_gradient} == {
                "Sam2VideoModel.forward runs under torch.inference_mode"
            }
            assert len(found.without_gradient) > 300

    def test_what_is_not_known_is_no_excuse(
        self, checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "known", lambda *_: None)
        path = checkpoints(DEBUG)
        found = with_gradients(path, f"transformers:{path}", scenarios="train-video-mask")
        assert not found.ok
        assert of(found, "train-video-mask").status == "differs"
        assert "Sam2VideoModel.forward runs under torch.inference_mode" in found.problems[0]

    def test_a_fault_of_a_weight_is_seen(self, checkpoints: Checkpoints, tmp_path: Path) -> None:
        tensors = torch.load(checkpoints(DEBUG_20))
        tensors["model"]["sam_mask_decoder.conv_s0.weight"] *= 1.01
        torch.save(tensors, tmp_path / "other.pt")
        found = with_gradients(
            checkpoints(DEBUG_20), f"transformers:{tmp_path / 'other.pt'}", scenarios="train-point"
        )
        assert of(found, "train-point").status == "differs"


@cache
def with_transformers(path: Path) -> ParityReport:
    return with_gradients(path, f"transformers:{path}")


class TestDetached:
    """A tensor that is detached on one side is named, and nothing else is."""

    @pytest.mark.parametrize("name", GENERATIONS)
    def test_every_one(self, name: str, checkpoints: Checkpoints) -> None:
        # A detached tensor changes no value and no other gradient: see the next test.
        path, unread = checkpoints(name), []
        for parameter in dict(truth(path).model.named_parameters()):
            outcomes = [step(path, scenario.name) for scenario in ALL]
            reached = [one for one in outcomes if parameter in one.gradients]
            if not reached:
                unread.append(parameter)
                continue
            some = part_of(reached[0], parameter)
            found = compare(some, without(some, parameter), None)
            assert [one.name for one in found if not one.within] == [f"{parameter}.grad"]
            assert isinf(next(one.relative for one in found if not one.within))
        assert unread == ["no_mem_pos_enc"]  # nothing reads it

    @pytest.mark.parametrize(
        "parameter",
        [
            "no_obj_ptr",
            "maskmem_tpos_enc",
            "obj_ptr_tpos_proj.weight",
            "image_encoder.trunk.pos_embed",
            "image_encoder.neck.convs.2.conv.bias",
            "memory_attention.layers.1.cross_attn_image.v_proj.weight",
            "memory_encoder.fuser.layers.0.gamma",
            "sam_mask_decoder.output_hypernetworks_mlps.3.layers.0.weight",  # a gradient of zeros
            "sam_prompt_encoder.point_embeddings.1.weight",
        ],
    )
    def test_in_a_real_step(self, parameter: str, checkpoints: Checkpoints) -> None:
        detached_in_a_real_step(checkpoints(DEBUG), parameter)

    @pytest.mark.slow
    @pytest.mark.parametrize("name", GENERATIONS)
    def test_every_one_in_a_real_step(self, name: str, checkpoints: Checkpoints) -> None:
        path = checkpoints(name)
        for parameter in dict(truth(path).model.named_parameters()):
            if parameter != "no_mem_pos_enc":
                detached_in_a_real_step(path, parameter)

    def test_a_frozen_one_says_so(self, checkpoints: Checkpoints) -> None:
        with other_side(checkpoints(DEBUG)) as (comparison, model):
            model.no_mem_embed.requires_grad_(False)
            model.memory_encoder.requires_grad_(False)
            found = comparison.judge(VIDEO)
        names = {one.parameter: one.reason for one in found.without_gradient if one.side == "right"}
        assert set(names.values()) == {"frozen: requires_grad is False"}
        assert {name.partition(".")[0] for name in names} == {"no_mem_embed", "memory_encoder"}

    def test_one_under_no_grad_says_so(self, checkpoints: Checkpoints) -> None:
        with other_side(checkpoints(DEBUG)) as (comparison, model):
            encode = model.memory_encoder.forward
            model.memory_encoder.forward = torch.no_grad()(encode)
            found = comparison.judge(VIDEO)
        names = {one.parameter: one.reason for one in found.without_gradient if one.side == "right"}
        assert set(names.values()) == {"used under torch.no_grad"}
        assert {name.partition(".")[0] for name in names} == {"memory_encoder"}

    def test_one_that_is_not_used_says_so(self, checkpoints: Checkpoints) -> None:
        with other_side(checkpoints(DEBUG)) as (comparison, model):
            model.without_memory = lambda frame: frame
            found = comparison.judge(BY_NAME["train-box"])
        assert ("right", "not reached: nothing was computed from it", ["no_mem_embed"]) in [
            *found.missing()
        ]

    def test_a_loss_that_is_no_number_is_not_compared(self, checkpoints: Checkpoints) -> None:
        with other_side(checkpoints(DEBUG)) as (comparison, model):
            torch.nn.init.constant_(model.no_mem_embed, torch.nan)
            comparison.sides.reference = comparison.sides.other
            found = comparison.judge(BY_NAME["train-box"])
        assert found.status == "not run"
        assert found.why == "the loss is not a finite number on either side"

    def test_on_the_left_as_well(self, checkpoints: Checkpoints) -> None:
        with other_side(checkpoints(DEBUG), reference_is_left=False) as (comparison, model):
            model.no_mem_embed.requires_grad_(False)
            found = comparison.judge(BY_NAME["train-box"])
        assert ("left", "frozen: requires_grad is False", ["no_mem_embed"]) in [*found.missing()]


def part_of(outcome: Outcome, parameter: str) -> Outcome:
    """The outcome with every twentieth of the other gradients: comparing all takes a while."""
    names = {*[*outcome.gradients][::20], parameter}
    kept = {name: one for name, one in outcome.gradients.items() if name in names}
    return replace(outcome, gradients=kept)


def without(outcome: Outcome, parameter: str) -> Outcome:
    kept = {name: one for name, one in outcome.gradients.items() if name != parameter}
    return replace(outcome, gradients=kept)


@contextmanager
def other_side(
    path: Path, *, reference_is_left: bool = True
) -> Iterator[tuple[GradientComparison, Any]]:
    """A comparison with itself, and the model of the other side, to break."""
    backend = truth(path)
    broken = Truth(path, deepcopy(backend.model), images_only=False)
    sides = Comparison(backend, broken, reference_is_left, CPU, None)
    yield GradientComparison(sides), broken.model


class Detaching(TorchFunctionMode):
    """Detaches one tensor wherever something is computed from it."""

    def __init__(self, tensor: Tensor) -> None:
        super().__init__()
        self.tensor = tensor

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is Tensor.detach:
            return func(*args, **(kwargs or {}))
        return func(*self._of(args), **self._of(kwargs or {}))

    def _of(self, given: Any) -> Any:
        if given is self.tensor:
            with torch._C.DisableTorchFunctionSubclass():
                return self.tensor.detach()
        if isinstance(given, (tuple, list)):
            return type(given)(map(self._of, given))
        return {k: self._of(v) for k, v in given.items()} if isinstance(given, dict) else given


def detached_in_a_real_step(path: Path, parameter: str) -> None:
    scenario = next(one for one in QUICKEST if parameter in step(path, one.name).gradients)
    with other_side(path) as (comparison, model):
        learner, tensor = comparison._trainees[1], model.get_parameter(parameter)
        forward = learner.losses

        def losses(*given: Any) -> Any:
            with Detaching(tensor):
                return forward(*given)

        vars(learner)["losses"] = losses
        # Without the gradient tensors lie elsewhere, and some kernels of MKL round by where they
        # lie. So rounding is measured, as between two implementations.
        comparison.sides.truth = truth(path)
        found = comparison.judge(scenario)
    assert found.status == "differs"
    assert found.first_mismatch == f"{parameter}.grad"
    beyond = [one.name for one in found.activations if not one.within]
    assert beyond == [f"{parameter}.grad"]
    (missing,) = (one for one in found.without_gradient if one.side != "both")
    assert missing.parameter == parameter
    assert (missing.side, missing.reason) == (
        "right",
        "detached: it was used, but autograd does not lead to it from the loss",
    )


class TestNegativeControls:
    def test_they_are_seen_where_the_tolerance_is_measured(self, checkpoints: Checkpoints) -> None:
        path = checkpoints(DEBUG)
        sides = Comparison(truth(path), truth(path), True, CPU, truth(path))
        comparison = GradientComparison(sides)
        for name in ("train-point", "train-video-mask"):
            assert comparison.judge(BY_NAME[name]).status == "same"
        assert comparison.variant_names == (
            "another attention kernel",
            "float64",
            "moved corners",
        )
        features, memory, weight = comparison.controls()
        assert features.detected
        assert features.activation is not None
        assert kind(features.activation) == "image_encoder.neck"
        assert memory.detected
        assert memory.activation is not None
        assert kind(memory.activation) != "loss"  # no value changes, only gradients do
        assert weight == NegativeControl(
            "train-point", "weight of loss.focal", 0.01, True, "loss", False
        )

    def test_a_blind_comparison_is_no_proof(
        self, checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        @contextmanager
        def nothing(_: nn.Module) -> Iterator[None]:
            yield

        monkeypatch.setattr(module, "cut_off", nothing)
        found = with_gradients(checkpoints(DEBUG), checkpoints(DEBUG), scenarios="train-video-mask")
        assert not found.ok
        assert found.problems == (
            "the comparison is blind: input of memory_encoder was detached in train-video-mask, "
            "and this was not detected",
        )


class TestNoise:
    @pytest.mark.parametrize("arithmetic", [CPU, Arithmetic("cpu", "bfloat16")])
    def test_what_is_too_large_or_too_coarse_for_float64_is_tried_with_other_threads(
        self, arithmetic: Arithmetic, checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(noise, "affordable", lambda _: False)
        found = noise.variants(truth(checkpoints(DEBUG)), arithmetic)
        assert [name for name, *_ in found] == [
            "another attention kernel",
            "another number of threads",
        ]

    def test_each_gradient_is_compared_in_units_of_its_scale(
        self, checkpoints: Checkpoints
    ) -> None:
        usual = step(checkpoints(DEBUG), "train-box")
        doubled = replace(usual, gradients={n: 2 * g for n, g in usual.gradients.items()})
        for one in compare(usual, doubled, None):
            bias = one.name.removesuffix(".grad")
            if UNDETECTABLE.get(bias) == INVARIANT:  # nothing but rounding
                assert one.relative < 1e-4, one.name
            elif bias in usual.gradients and usual.gradients[bias].any():
                assert one.relative == 1.0, one.name
            else:
                assert one.relative == 0.0, one.name

    def test_the_order_is_that_of_the_backward_pass(self, checkpoints: Checkpoints) -> None:
        names = [*named(step(checkpoints(DEBUG), "train-video-mask"))]
        assert names[:5] == [
            "loss",
            *(f"loss.{n}" for n in ("focal", "dice", "iou", "object_score")),
        ]
        assert kind(names[5]) == "sam_mask_decoder"
        assert kind(names[-1]) == "image_encoder.trunk"
        assert {kind(name) for name in names} <= {*OF_TRAINING}

    def test_nothing_is_left_behind(self, checkpoints: Checkpoints) -> None:
        model = truth(checkpoints(DEBUG)).model
        step(checkpoints(DEBUG), "train-box")
        assert not model.training
        assert all(parameter.grad is None for parameter in model.parameters())


class TestTheCommand:
    def run(self, *args: object) -> Any:
        return CliRunner().invoke(main, ["parity", *map(str, args), "--gradients"])

    def test_the_report(self, checkpoints: Checkpoints, tmp_path: Path) -> None:
        path = checkpoints(DEBUG)
        given = (path, path, "--scenarios", "train-box", "--device", "cpu")
        shown = self.run(*given, "--report", tmp_path / "out")
        assert shown.exit_code == 0, shown.output
        assert "no gradient       train-box: 118 parameters on both sides" in shown.output
        assert "input of sam_mask_decoder.conv_s0 detached in train-box: detected" in shown.output
        page = (tmp_path / "out" / "index.html").read_text()
        assert "Parameters without a gradient" in page
        assert "<summary>118 parameters</summary>" in page
        assert "118 parameters on both sides" in (tmp_path / "out" / "table.md").read_text()
        answer = json.loads((tmp_path / "out" / "report.json").read_text())
        assert answer["gradients"] is True
        assert answer["command"].endswith("--gradients")
        assert {"parameter": "no_obj_ptr", "side": "both", "reason": ""} in (
            answer["scenarios"][0]["without_gradient"]
        )
        names = {one["name"] for one in answer["scenarios"][0]["activations"]}
        assert {"loss", "loss.dice", "no_mem_embed.grad"} <= names

    @pytest.mark.parametrize(
        ("args", "message"),
        [
            (("--scenarios", "point"), "scenario 'point' does not exist"),
            (("--sensitivity",), "gradients: cannot be compared with sensitivity"),
            (("--images", "."), "gradients: cannot be compared on pictures or a video of yours"),
        ],
    )
    def test_what_cannot_be_asked(
        self, args: tuple[str, ...], message: str, checkpoints: Checkpoints
    ) -> None:
        found = self.run(checkpoints(DEBUG), checkpoints(DEBUG), *args)
        assert found.exit_code == 2
        assert found.output.startswith(f"error: {message}")

    def test_what_cannot_be_trained(self, checkpoints: Checkpoints) -> None:
        found = self.run(checkpoints(DEBUG), f"timm:{checkpoints(DEBUG)}")
        assert found.exit_code == 2
        assert found.output.startswith("error: timm: has no training step of SAM 2")
