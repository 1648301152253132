"""Where transformers lets gradients through, and where not: the table in docs/compatibility.md."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from packaging.specifiers import SpecifierSet
from torch import Tensor

from sam21convert.comparison.backends.base import LoadOptions
from sam21convert.comparison.backends.transformers import Transformers
from sam21convert.comparison.gradients.known import KNOWN_CUTS, known
from sam21convert.comparison.gradients.scenarios import BY_NAME
from sam21convert.comparison.inputs import clip

from ...support.checkpoints import DEBUG

Checkpoints = Callable[[str], Path]


@cache
def loaded(path: Path) -> Transformers:
    return Transformers.load(path, LoadOptions())


@cache
def frames(size: int) -> Tensor:
    return clip(None, size, 2).tensor


def points(size: int) -> dict[str, Tensor]:
    middle = torch.full((1, 1, 1, 2), size / 2)
    return {"input_points": middle, "input_labels": torch.ones(1, 1, 1, dtype=torch.int32)}


def session_of(side: Transformers) -> Any:
    video = frames(side.config.image_size)
    session = transformers.Sam2VideoInferenceSession(
        video=video,
        video_height=video.shape[-2],
        video_width=video.shape[-1],
        inference_device="cpu",
        inference_state_device="cpu",
        video_storage_device="cpu",
        dtype=torch.float32,
    )
    mask = torch.zeros(video.shape[-2:], dtype=torch.bool)
    mask[20:60, 20:60] = True
    side.processor.add_inputs_to_inference_session(session, 0, 1, input_masks=[mask.numpy()])
    return session


def test_an_image_is_learned_from_pixels(checkpoints: Checkpoints) -> None:
    side = loaded(checkpoints(DEBUG))
    size = side.config.image_size
    with torch.enable_grad():
        found = side.image(pixel_values=frames(size)[:1], **points(size))
        sum(one.sum() for one in (found.pred_masks, found.iou_scores)).backward()
    got = {name for name, one in side.image.named_parameters() if one.grad is not None}
    side.image.zero_grad()
    assert {name.partition(".")[0] for name in got} == {
        "mask_decoder",
        "no_memory_embedding",
        "prompt_encoder",
        "vision_encoder",
    }


def test_embeddings_are_computed_without_gradients(checkpoints: Checkpoints) -> None:
    side = loaded(checkpoints(DEBUG))
    size = side.config.image_size
    with torch.enable_grad():
        image = side.image.get_image_embeddings(frames(size)[:1])
        sparse, _ = side.image.get_prompt_embeddings(**points(size))
        masks = side.image(image_embeddings=image, **points(size)).pred_masks
    assert not any(one.requires_grad for one in (*image, sparse))
    assert masks.requires_grad  # of the decoder and the prompts alone


def test_a_video_is_followed_under_inference_mode(checkpoints: Checkpoints) -> None:
    side = loaded(checkpoints(DEBUG))
    session = session_of(side)
    with torch.enable_grad():
        found = side.video(session, frame_idx=0)
        tracked = [*side.video.propagate_in_video_iterator(session)]
    for one in (found, *tracked):
        assert one.pred_masks.is_inference()
        with torch.enable_grad(), pytest.raises(RuntimeError, match="does not require grad"):
            one.object_score_logits.sum().backward()


def test_a_video_cannot_be_followed_in_training_mode(checkpoints: Checkpoints) -> None:
    side = loaded(checkpoints(DEBUG))
    session = session_of(side)
    side.video.train()
    try:
        with pytest.raises(KeyError, match="object_score_logits"):
            side.video(session, frame_idx=0)
    finally:
        side.video.eval()


def test_a_video_gives_nothing_to_compute_the_losses_of(checkpoints: Checkpoints) -> None:
    side = loaded(checkpoints(DEBUG))
    found = side.video(session_of(side), frame_idx=0)
    assert "iou_scores" not in found
    assert found.pred_masks.shape[1] == 1


@pytest.mark.parametrize("cut", KNOWN_CUTS, ids=lambda cut: cut.name)
def test_what_is_known_counts_for_what_was_seen_only(cut: Any) -> None:
    version = transformers.__version__
    assert version in SpecifierSet(cut.versions, prereleases=True)
    for name in BY_NAME:
        expected = cut.summary if name in cut.scenarios else None
        assert known(cut.backend, version, name, cut.seen) == expected
    name = cut.scenarios[0]
    assert known(cut.backend, version, name, "something else") is None
    assert known(cut.backend, "4.55.0", name, cut.seen) is None
    assert known("sam2", version, name, cut.seen) is None
