"""The ground truth as a module: its tensors, and what it can be asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from sam21convert.config.registry import shipped_config
from sam21convert.model import SAM2, ImageFeatures, MaskPrediction

from ..support import official
from ..support.official import DEBUG, PUBLISHED

CONFIG = shipped_config(DEBUG[0])
WIDTH, SIDE, GRID = CONFIG.hidden_dim, CONFIG.image_size, CONFIG.embedding_size


def tensors(model: Any) -> list[tuple[str, torch.Size, torch.dtype]]:
    return [(name, t.shape, t.dtype) for name, t in model.state_dict().items()]


class TestStateDict:
    @pytest.mark.parametrize("name", [*PUBLISHED, *DEBUG])
    def test_names_order_shapes_and_types_are_official(self, name: str) -> None:
        config = shipped_config(name)
        with torch.device("meta"):
            ours = SAM2(config)
        with official.on_meta():
            theirs = official.build_official(config)
        assert tensors(ours) == tensors(theirs)

    @pytest.mark.parametrize("name", PUBLISHED)
    def test_our_building_of_the_official_model_is_that_of_its_yaml(self, name: str) -> None:
        with official.on_meta():
            built = official.build_official(shipped_config(name))
            published = official.build_published(name)
        assert tensors(built) == tensors(published)
        assert official.settings(built) == official.settings(published)

    def test_the_generations_differ_in_three_tensors(self) -> None:
        new, old = (
            {name for name, *_ in tensors(SAM2(shipped_config(config)))} for config in DEBUG
        )
        assert not old - new
        assert new - old == {
            "no_obj_embed_spatial",
            "obj_ptr_tpos_proj.weight",
            "obj_ptr_tpos_proj.bias",
        }

    def test_memories_as_wide_as_features_need_no_projection(self) -> None:
        config = replace(CONFIG, memory_encoder=replace(CONFIG.memory_encoder, out_dim=WIDTH))
        with official.on_meta():
            theirs = official.build_official(config)
        assert tensors(SAM2(config)) == tensors(theirs)


@pytest.fixture(scope="module")
def model() -> SAM2:
    built = SAM2(CONFIG).eval()
    official.randomise(built, seed=0)
    return built


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    return torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


POINTS = torch.tensor([[[31.0, 40.0], [90.0, 77.0]]])
LABELS = torch.tensor([[1, 0]])


def segment(model: SAM2, pixels: Tensor) -> MaskPrediction:
    return model.predict_masks(model.encode_image(pixels), POINTS, LABELS)


class TestResults:
    def test_shapes(self, model: SAM2, pixels: Tensor) -> None:
        features = model.encode_image(pixels)
        assert features.embedding.shape == (1, WIDTH, GRID, GRID)
        assert [level.shape for level in features.high_res] == [
            (1, WIDTH // 8, 4 * GRID, 4 * GRID),
            (1, WIDTH // 4, 2 * GRID, 2 * GRID),
        ]
        masks = model.predict_masks(features, POINTS, LABELS)
        assert masks.logits.shape == (1, 3, 4 * GRID, 4 * GRID)
        assert masks.iou.shape == (1, 3)
        assert masks.object_score.shape == (1, 1)
        assert masks.tokens.shape == (1, 3, WIDTH)

    def test_a_mask_can_be_given_back(self, model: SAM2, pixels: Tensor) -> None:
        features = model.encode_image(pixels)
        first = model.predict_masks(features, POINTS, LABELS, multimask_output=False)
        again = model.predict_masks(features, POINTS, LABELS, mask_input=first.logits)
        assert not torch.equal(again.logits[:, :1], first.logits)

    def test_each_prompt_is_answered_by_itself(self, model: SAM2, pixels: Tensor) -> None:
        features = model.encode_image(pixels)
        points = torch.cat((POINTS, POINTS.flip(1)))
        together = model.predict_masks(features, points, LABELS.repeat(2, 1))
        for index in range(2):
            alone = model.predict_masks(features, points[index : index + 1], LABELS)
            assert torch.allclose(together.logits[index], alone.logits[0], atol=1e-4)

    def test_without_a_prompt_every_image_gets_its_masks(self, model: SAM2, pixels: Tensor) -> None:
        features = model.encode_image(torch.cat((pixels, pixels.flip(3))))
        assert model.predict_masks(features).logits.shape[0] == 2

    def test_taps_come_in_the_order_of_the_data(self, model: SAM2, pixels: Tensor) -> None:
        activations: dict[str, Tensor] = {}
        features = model.encode_image(pixels, activations=activations)
        model.predict_masks(features, POINTS, LABELS, activations=activations)
        assert {name: tuple(value.shape) for name, value in activations.items()} == {
            "trunk.stage0": (1, 8, 32, 32),
            "trunk.stage1": (1, 16, 16, 16),
            "trunk.stage2": (1, 32, 8, 8),
            "trunk.stage3": (1, 64, 4, 4),
            "neck.level0": (1, WIDTH, 32, 32),
            "neck.level1": (1, WIDTH, 16, 16),
            "neck.level2": (1, WIDTH, 8, 8),
            "prompt.sparse": (1, 3, WIDTH),
            "prompt.dense": (1, WIDTH, 8, 8),
            "decoder.tokens": (1, 4, WIDTH),
            "decoder.logits": (1, 4, 32, 32),
            "decoder.iou": (1, 4),
            "decoder.object_score": (1, 1),
        }
        assert next(iter(activations)) == "trunk.stage0"
        assert list(activations)[-1] == "decoder.object_score"


class TestWaysToRun:
    def test_built_on_meta_and_given_tensors(self, model: SAM2, pixels: Tensor) -> None:
        with torch.device("meta"):
            other = SAM2(model.config).eval()
        other.load_state_dict(model.state_dict(), strict=True, assign=True)
        assert torch.equal(segment(other, pixels).logits, segment(model, pixels).logits)

    def test_inference_mode_leaves_nothing_behind(self, model: SAM2, pixels: Tensor) -> None:
        with torch.inference_mode():
            expected = segment(model, pixels).logits
        with torch.enable_grad():
            masks = segment(model, pixels)
            masks.logits.sum().backward()  # type: ignore[no-untyped-call]
        model.zero_grad()
        assert torch.equal(masks.logits, expected)

    def test_compiles_without_a_break(self, model: SAM2, pixels: Tensor) -> None:
        encode = torch.compile(model.encode_image, fullgraph=True, backend="eager")
        predict = torch.compile(model.predict_masks, fullgraph=True, backend="eager")
        masks = predict(encode(pixels), POINTS, LABELS)
        assert torch.equal(masks.logits, segment(model, pixels).logits)

    @pytest.mark.parametrize("way", ["autocast", "weights"])
    def test_bfloat16_is_near(self, model: SAM2, pixels: Tensor, way: str) -> None:
        exact = segment(model, pixels)
        if way == "weights":
            other = SAM2(model.config).eval()
            other.load_state_dict(model.state_dict())
            rough = segment(other.bfloat16(), pixels)
            assert all(field.dtype == torch.bfloat16 for field in rough)
        else:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                rough = segment(model, pixels)
        difference = (rough.logits.float() - exact.logits).abs().mean()
        assert 0 < difference < 0.05 * exact.logits.abs().mean()
        assert torch.allclose(rough.iou.float(), exact.iou, atol=0.02)

    def test_prompts_keep_their_precision_in_bfloat16(self, model: SAM2) -> None:
        """Neighbouring pixels of a large image are equal as bfloat16 numbers."""
        other = SAM2(replace(model.config, image_size=1024)).eval()
        other.load_state_dict(model.state_dict())
        other.bfloat16()
        points = torch.tensor([[[801.0, 800.0]], [[802.0, 800.0]]])
        sparse, _ = other.sam_prompt_encoder(2, points, torch.ones(2, 1))
        assert not torch.equal(sparse[0], sparse[1])

    def test_autocast_as_the_official_code_does_it(self, model: SAM2, pixels: Tensor) -> None:
        theirs = official.build_official(model.config)
        theirs.load_state_dict(model.state_dict())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            ours = model.encode_image(pixels)
            levels = theirs.forward_image(pixels)["backbone_fpn"]
        assert torch.equal(ours.high_res[0], levels[0])
        assert torch.equal(ours.high_res[1], levels[1])
        assert torch.equal(ours.embedding, levels[2] + model.no_mem_embed.reshape(1, -1, 1, 1))


class TestWrongShapes:
    @pytest.mark.parametrize(
        "shape", [(3, SIDE, SIDE), (1, 1, SIDE, SIDE), (1, 3, SIDE, 64), (1, 3, 1024, 1024)]
    )
    def test_pixels(self, model: SAM2, shape: tuple[int, ...]) -> None:
        found = " x ".join(map(str, shape))
        with pytest.raises(ValueError, match=f"expected shape any x 3 x 128 x 128, found {found}"):
            model.encode_image(torch.zeros(shape))

    @pytest.mark.parametrize(
        ("prompts", "message"),
        [
            ({"points": (1, 2), "labels": (1, 1)}, "points: expected shape 1 x any x 2, found 1 x"),
            ({"points": (1, 2, 3), "labels": (1, 2)}, "points: expected shape 1 x any x 2, found"),
            ({"points": (1, 2, 2), "labels": (1, 1)}, "labels: expected shape 1 x 2, found 1 x 1"),
            ({"points": (1, 2, 2)}, "points and labels: expected both or neither"),
            ({"labels": (1, 2)}, "points and labels: expected both or neither"),
            ({"boxes": (1, 2, 2)}, "boxes: expected shape 1 x 4, found 1 x 2 x 2"),
            (
                {"points": (2, 1, 2), "labels": (2, 1), "boxes": (1, 4)},
                "boxes: expected shape 2 x 4, found 1 x 4",
            ),
            (
                {"mask_input": (1, 1, 64, 64)},
                "mask_input: expected shape 1 x 1 x 32 x 32, found 1 x 1 x 64 x 64",
            ),
            ({"boxes": ()}, "boxes: expected shape 1 x 4, found a scalar"),
        ],
    )
    def test_prompts(
        self, model: SAM2, pixels: Tensor, prompts: dict[str, tuple[int, ...]], message: str
    ) -> None:
        features = model.encode_image(pixels)
        given: Any = {name: torch.ones(shape) for name, shape in prompts.items()}
        with pytest.raises(ValueError, match=message):
            model.predict_masks(features, **given)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda e, h: (e[:, :, :4], h), f"embedding: expected shape any x {WIDTH} x 8 x 8"),
            (lambda e, h: (e, h[::-1]), rf"\[0\]: expected shape 1 x {WIDTH // 8} x 32 x 32"),
            (lambda e, h: (e, (h[0], h[0])), rf"\[1\]: expected shape 1 x {WIDTH // 4} x 16 x 16"),
        ],
    )
    def test_features(
        self, model: SAM2, pixels: Tensor, change: Callable[[Any, Any], Any], message: str
    ) -> None:
        features = ImageFeatures(*change(*model.encode_image(pixels)))
        with pytest.raises(ValueError, match=message):
            model.predict_masks(features)

    def test_other_numbers_of_images_and_prompts(self, model: SAM2, pixels: Tensor) -> None:
        features = model.encode_image(pixels.repeat(2, 1, 1, 1))
        with pytest.raises(ValueError, match="expected those of 1 or 3 images, found 2"):
            model.predict_masks(features, boxes=torch.ones(3, 4))
