"""What is computed once: each picture by each model, but again after a weight has changed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sam21convert
from sam21convert.comparison.activations import Activations, watched
from sam21convert.comparison.backends.base import LoadOptions
from sam21convert.comparison.backends.encodings import Encodings
from sam21convert.comparison.backends.sam2 import Official
from sam21convert.comparison.backends.transformers import Transformers
from sam21convert.comparison.backends.truth import Truth
from sam21convert.comparison.cases import cases
from sam21convert.comparison.inputs import Clip, clip, pictures
from sam21convert.comparison.noise import backward_attention, measuring, plain_attention
from sam21convert.comparison.perturb import perturb
from sam21convert.comparison.scenarios import BY_NAME, Scenario, VideoScenario
from sam21convert.model.image_encoder import FpnNeck, Hiera
from sam21convert.model.memory_attention import MemoryAttention

from ..support.checkpoints import DEBUG

SCENARIO = BY_NAME["video-point"]
WEIGHTS = ["image_encoder.trunk.pos_embed", "image_encoder.trunk.blocks.0.attn.proj.weight"]
LATER_WEIGHTS = ["image_encoder.neck.convs.3.conv.bias", "no_mem_embed"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("truth") / "model.pt"
    sam21convert.sample(path, DEBUG)
    return path


@pytest.fixture
def truth(checkpoint: Path) -> Truth:
    return Truth.load(checkpoint, LoadOptions())


def drawn(truth: Truth, length: int = 4) -> Clip:
    return clip(None, truth.config.image_size, length)


def track(
    backend: Any,
    video: Clip,
    scenario: Scenario = SCENARIO,
    agreed: Activations | None = None,
) -> Activations:
    assert isinstance(scenario, VideoScenario)
    with torch.inference_mode():
        found: Activations = backend.track(video, scenario, agreed)
    return found


def encode(backend: Any, pixels: Tensor) -> Activations:
    with torch.inference_mode():
        found: Activations = backend.encode(pixels)
    return found


def same(left: Activations, right: Activations) -> bool:
    return [*left] == [*right] and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("kind", [Truth, Official, Transformers])
def test_the_picture_and_the_video_share_their_first_frame(kind: Any, checkpoint: Path) -> None:
    """The image model and the video model of transformers share it as well."""
    backend, fresh = (kind.load(checkpoint, LoadOptions()) for _ in range(2))
    video, (picture,) = drawn(backend), pictures(None, backend.config.image_size)
    encode(backend, picture.tensor)
    assert backend.encodings.computed == 1
    found = track(backend, video)
    assert backend.encodings.computed == 3  # frame 2 is frame 0 again
    assert same(found, track(fresh, video))
    assert same(track(backend, video), found)
    assert backend.encodings.computed == 3


@pytest.mark.parametrize("name", ["", "my video"])
def test_the_drawn_video_stands_still_where_the_scenario_says_so(name: str, truth: Truth) -> None:
    """A video of the user's plays, and so does the drawn one elsewhere."""
    video = replace(drawn(truth), name=name)
    given: list[Clip] = []
    for scenario in (SCENARIO, BY_NAME["video-holes"]):
        (case,) = cases([scenario], (), video)
        case.ask(SimpleNamespace(track=lambda clip, *_: given.append(clip)), None)
    still, playing = given
    assert [len(still.frames), len(still.tensor)] == [3, 3]
    assert torch.equal(still.tensor[0], still.tensor[1]) == (name == "")
    assert np.array_equal(still.frames[0], still.frames[1]) == (name == "")
    assert not torch.equal(playing.tensor[0], playing.tensor[1])


def test_only_some_pictures_are_remembered(truth: Truth) -> None:
    frames = drawn(truth, 7).tensor
    for pixels in (*frames, *frames):
        encode(truth, pixels[None])
    assert truth.encodings.computed == 2 + 4 + 2  # of 0, 1, 3, 4, 5 and 6 the first four


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_changed_weight_is_noticed(truth: Truth, name: str) -> None:
    """And what was remembered of the weights before is still there when it changes back."""
    video = drawn(truth)
    first = track(truth, video)
    with perturb(truth.tensor(name), 0.3):
        changed = track(truth, video)
        assert not same(changed, first)
        assert truth.encodings.computed == 3 + 4
    assert same(track(truth, video), first)
    assert truth.encodings.computed == 3 + 4


@pytest.mark.parametrize("name", LATER_WEIGHTS)
def test_what_follows_the_trunk_is_computed_again(truth: Truth, name: str) -> None:
    video = drawn(truth)
    first = track(truth, video)
    with perturb(truth.tensor(name), 0.3):
        assert not same(track(truth, video), first)
    assert truth.encodings.computed == 3


def test_weights_of_any_layout_are_compared(truth: Truth) -> None:
    """Those of a checkpoint whose layers are transposed."""
    weight = truth.model.get_parameter("image_encoder.trunk.patch_embed.proj.weight")
    video = drawn(truth)
    first = track(truth, video)
    weight.data = weight.data.to(memory_format=torch.channels_last)
    assert not weight.is_contiguous()
    assert [*track(truth, video)] == [*first]


def test_trunks_of_other_settings_or_classes_share_nothing() -> None:
    class Trunk(nn.Module):
        def __init__(self, config: str) -> None:
            super().__init__()
            self.config = config

    class Other(Trunk):
        pass

    encodings, pixels = Encodings(), torch.zeros(1, 3, 4, 4)
    kinds = Trunk("a"), Trunk("a"), Trunk("b"), Other("a")
    found = [encodings.of(trunk, lambda _, n=n: n, pixels) for n, trunk in enumerate(kinds)]
    assert found == [0, 0, 2, 3]


def test_a_variant_encodes_one_frame_of_a_video_and_carries_its_error(truth: Truth) -> None:
    video = drawn(truth)
    usual = track(truth, video)
    variant, whole = truth.variant(), Truth(truth.source, truth.model, images_only=False)
    with backward_attention():
        carried, own = track(variant, video), track(whole, video)
    assert (variant.encodings.computed, whole.encodings.computed) == (1, 3)
    assert all(torch.equal(carried[name], own[name]) for name in own if name.startswith("frame0."))
    for name in ("frame1.masks", "frame2.object1.decoder.tokens"):
        scale, far = usual[name].abs().max(), (carried[name] - usual[name]).abs().max()
        assert 0 < far < 1e-3 * scale
    assert 0.1 < apart(carried, usual) / apart(own, usual) < 10


def test_a_variant_attends_once_and_carries_its_error(tmp_path: Path) -> None:
    """In videos of 18 frames, with seven memories and sixteen pointers at the end.

    The errors that it carries are nearer, on average, to those of a variant which attends on every
    frame than the errors of two such variants are to each other at the furthest.
    """
    scenario = BY_NAME["video-long"]
    assert isinstance(scenario, VideoScenario)
    once, always = [], []
    for seed in range(4):
        sam21convert.sample(tmp_path / f"{seed}.pt", DEBUG, seed=seed)
        truth = Truth.load(tmp_path / f"{seed}.pt", LoadOptions())
        video = drawn(truth, scenario.frames)
        usual = track(truth, video, scenario)
        whole = Truth(truth.source, truth.model, images_only=False, encodings=truth.encodings)
        errors = []
        for backend, attention, attends in (
            (truth.variant(), backward_attention(), 1),
            (whole, backward_attention(), 17),
            (whole, plain_attention(), 17),
        ):
            found: dict[str, float] = {}
            with (
                attention,
                watched(measuring(usual, found)),
                counted(MemoryAttention) as attended,
            ):
                track(backend, video, scenario, usual)
            assert len(attended) == attends
            errors.append([found[name] for name in usual if name.endswith("attention.output")])
        for carried, own, other in list(zip(*errors, strict=True))[1:]:
            assert carried > 0
            once.append(abs(math.log(carried / own)))
            always.append(abs(math.log(other / own)))
    assert fmean(once) < max(always)


def test_the_neck_runs_once_for_the_first_picture(truth: Truth) -> None:
    video = drawn(truth)
    with counted(FpnNeck) as built:
        encode(truth, video.tensor[:1])
        first = track(truth, video)
        assert len(built) == 3  # for frames 0, 1 and 3; frame 2 is frame 0 again
        assert same(track(truth, video), first)
        assert len(built) == 5  # for frames 1 and 3 again
    with perturb(truth.tensor(LATER_WEIGHTS[0]), 0.3), counted(FpnNeck) as built:
        track(truth, video)
    assert len(built) == 4


def apart(found: Activations, usual: Activations) -> float:
    names = [name for name in usual if name.endswith("masks")]
    return float(max((found[name] - usual[name]).abs().max() for name in names))


@pytest.fixture
def through() -> Iterator[list[str]]:
    """The types in which a trunk of the ground truth ran."""
    with counted(Hiera) as found:
        yield found


@contextmanager
def counted(kind: type[nn.Module]) -> Iterator[list[str]]:
    found: list[str] = []
    forward = kind.forward

    def noted(self: nn.Module, *given: Any, **options: Any) -> Any:
        found.append(str(next(self.parameters()).dtype))
        return forward(self, *given, **options)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(kind, "forward", noted)
        yield found


@pytest.fixture(scope="module")
def folder(checkpoint: Path) -> Path:
    sam21convert.convert(checkpoint, checkpoint.parent / "hf")
    return checkpoint.parent / "hf"


def test_a_quick_comparison_with_transformers(
    checkpoint: Path, folder: Path, through: list[str]
) -> None:
    """One picture by each model and each variant; the controls encode nothing.

    Two frames attend to memories on each side, and one in each variant.
    """
    from transformers.models.sam2.modeling_sam2 import Sam2HieraDetModel, Sam2VisionNeck
    from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoMemoryAttention

    with (
        counted(Sam2HieraDetModel) as encoded,
        counted(Sam2VisionNeck) as built,
        counted(Sam2VideoMemoryAttention) as attended,
        counted(FpnNeck) as built_by_truth,
        counted(MemoryAttention) as attended_by_truth,
    ):
        assert sam21convert.parity(checkpoint, f"transformers:{folder}").ok
    assert (len(encoded), len(built), len(attended)) == (1, 1, 2)
    assert sorted(through) == ["torch.float32"] * 2 + ["torch.float64"]
    assert sorted(built_by_truth) == sorted(through)
    assert sorted(attended_by_truth) == ["torch.float32"] * 3 + ["torch.float64"]


def test_a_quick_comparison_that_must_be_exact(checkpoint: Path, through: list[str]) -> None:
    from sam2.modeling.backbones.hieradet import Hiera as Theirs

    with counted(Theirs) as theirs:
        assert sam21convert.parity(f"sam2:{checkpoint}", checkpoint).ok
    assert (len(theirs), len(through)) == (1, 1)


def test_videos_share_their_frames(checkpoint: Path, folder: Path, through: list[str]) -> None:
    """Four frames of five scenarios, of which three show different pictures."""
    from transformers.models.sam2.modeling_sam2 import Sam2HieraDetModel

    names = "video-point,video-box,video-mask,video-two,video-correction"
    with counted(Sam2HieraDetModel) as theirs:
        found = sam21convert.parity(checkpoint, f"transformers:{folder}", scenarios=names)
    assert found.ok
    assert len(theirs) == 3
    assert through.count("torch.float32") == 3 + 1
