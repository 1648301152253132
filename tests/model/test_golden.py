"""Results of the official code that were written down once, by fixtures/make_golden.py.

On another machine additions happen in another order. How much that matters is measured here: what
is rounded in memories, stored in bfloat16, matters much more than what is not.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from sam21convert.config.registry import shipped_config
from sam21convert.model import SAM2VideoPredictor, TrackingOptions

from ..fixtures import make_golden
from ..fixtures.make_golden import BOX, GOLDEN, LENGTH, OPTIONS, POINT
from ..support.official import DEBUG
from ..support.rounding import beyond_rounding, rounding


@cache
def stored() -> dict[str, Tensor]:
    return load_file(GOLDEN)


def predictor_of(name: str) -> SAM2VideoPredictor:
    config = shipped_config(name)
    predictor = SAM2VideoPredictor(config, TrackingOptions(**OPTIONS)).eval()
    predictor.load_state_dict(make_golden.weights(config))
    return predictor


def results(predictor: SAM2VideoPredictor) -> dict[str, Tensor]:
    """Ours, by the names of those that are stored."""
    config = predictor.config
    side = config.image_size
    state = predictor.init_state(make_golden.video(side))
    features = predictor.encode_image(state.images[:1])
    found = {"embedding": features.embedding[:, ::8]}
    point: dict[str, Any] = {"points": torch.tensor([POINT]), "labels": torch.tensor([[1]])}
    box: dict[str, Any] = {"boxes": torch.tensor([BOX])}
    for kind, prompt in (("point", point), ("box", box)):
        masks = predictor.predict_masks(features, **prompt, multimask_output=kind == "point")
        found |= {f"{kind}.{part}": value for part, value in masks._asdict().items()}
        del found[f"{kind}.tokens"]
    predictor.add_new_points_or_box(state, 0, 1, points=POINT, labels=[1])
    predictor.add_new_mask(state, 0, 2, make_golden.square_mask(side))
    list(predictor.propagate_in_video(state))
    for obj_id, tracked in state.objects.items():
        for frame, seen in {**tracked.settled.prompted, **tracked.settled.tracked}.items():
            assert seen.memory is not None
            start = f"object{obj_id}.frame{frame}"
            found[f"{start}.logits"], found[f"{start}.pointer"] = seen.low_res, seen.pointer
            found[f"{start}.object_score"] = seen.object_score
            if frame in (0, LENGTH - 1):
                found[f"{start}.memory"] = seen.memory[:, ::4]
    return {f"{config.generation}.{key}": value.float() for key, value in found.items()}


@cache
def noise(name: str) -> dict[str, float]:
    """How far rounding alone moves each result, and with it what is computed from it later.

    Of an image, what is found for a point or a box moves as far as either. Of objects that are
    followed, later frames look at memories of earlier ones; whether a number of these is rounded
    up or down when it is stored is chance, so one object may move as far as the other.
    """
    measured, carried = rounding(predictor_of(name), results), dict[str, float]()
    for part in ("logits", "iou", "object_score"):  # by chance, one number may hardly move
        both = [key for key in measured if key.endswith((f".point.{part}", f".box.{part}"))]
        measured |= dict.fromkeys(both, max(measured[key] for key in both))
    found, later = {}, 0.0
    for key, one in measured.items():
        start = key.rpartition(".frame")[0] or key
        found[key] = carried[start] = max(carried.get(start, 0.0), one)
    for frame in range(1, LENGTH):
        keys = [key for key in measured if f".frame{frame}." in key]
        later = max(later, *(measured[key] for key in keys if not key.endswith(".memory")))
        found |= {key: max(later, found[key]) for key in keys}
    return found


def of(name: str, found: dict[str, Tensor]) -> dict[str, Tensor]:
    """The results of one generation."""
    generation = shipped_config(name).generation
    return {key: value.float() for key, value in found.items() if key.startswith(generation)}


@pytest.mark.parametrize("name", DEBUG)
def test_our_results_are_those_written_down(name: str) -> None:
    golden = of(name, stored())
    assert not beyond_rounding(noise(name), results(predictor_of(name)), golden)
    scores = [float(value) for key, value in golden.items() if "object_score" in key]
    assert min(scores) < 0 < max(scores)


def test_they_were_computed_by_the_official_code() -> None:
    found = make_golden.golden()
    assert set(found) == set(stored())
    for name in DEBUG:
        assert not beyond_rounding(noise(name), of(name, found), of(name, stored()))


@pytest.mark.parametrize(
    "tensor",
    [
        "image_encoder.trunk.blocks.2.mlp.layers.0.weight",
        "sam_mask_decoder.transformer.layers.0.norm2.bias",
        "memory_attention.layers.1.linear1.weight",
        "memory_encoder.fuser.layers.0.pwconv1.weight",
        "maskmem_tpos_enc",
    ],
)
def test_a_tensor_that_is_off_would_be_noticed(tensor: str) -> None:
    name = DEBUG[0]
    predictor = predictor_of(name)
    predictor.get_parameter(tensor).mul_(1.2)
    assert beyond_rounding(noise(name), results(predictor), of(name, stored()))
