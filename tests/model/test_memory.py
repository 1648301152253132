"""The memory of a video as part of the model: its steps, activations, choices and ways to run."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, combinations

import pytest
import torch
from sam2.modeling.sam2_utils import select_closest_cond_frames
from torch import Tensor

from sam21convert.config.registry import shipped_config
from sam21convert.model import SAM2, SAM2VideoPredictor, Segmentation
from sam21convert.model.memory_bank import MemoryBank, reach

from ..support.official import DEBUG, randomise

CONFIG = shipped_config(DEBUG[0])
WIDTH, SIDE, GRID = CONFIG.hidden_dim, CONFIG.image_size, CONFIG.embedding_size
MEMORY = CONFIG.memory_encoder.out_dim
POINTS, LABELS = torch.tensor([[[31.0, 40.0]]]), torch.tensor([[1]])


@pytest.fixture(scope="module")
def model() -> SAM2:
    """A model that always sees the object."""
    built = SAM2(CONFIG).eval()
    randomise(built, seed=0)
    built.get_parameter("sam_mask_decoder.pred_obj_score_head.layers.2.bias").data.add_(5)
    return built


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    return torch.randn(2, 1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def follow(
    model: SAM2, pixels: Tensor, activations: dict[str, Tensor] | None = None
) -> tuple[Segmentation, Tensor]:
    """A click on the first frame; the second is segmented by the memory of it."""
    first, second = (model.encode_frame(frame) for frame in pixels)
    seen = model.predict_single_mask(
        model.without_memory(first), POINTS, LABELS, multimask_output=True
    )
    memory = model.encode_memory(first, seen.high_res, seen.object_score, binarize=True)
    spatial = [(CONFIG.num_maskmem - 1, memory), (0, memory)]
    conditioned = model.attend_to_memory(second, spatial, [(1, seen.pointer)], 15, activations)
    found = model.predict_single_mask(conditioned, multimask_output=True, activations=activations)
    return found, model.encode_memory(
        second, found.high_res, found.object_score, activations=activations
    )


class TestSteps:
    def test_shapes(self, model: SAM2, pixels: Tensor) -> None:
        found, memory = follow(model, pixels)
        assert found.low_res.shape == (1, 1, SIDE // 4, SIDE // 4)
        assert found.high_res.shape == (1, 1, SIDE, SIDE)
        assert found.pointer.shape == (1, WIDTH)
        assert found.object_score.shape == (1, 1)
        assert memory.shape == (1, MEMORY, GRID, GRID)

    def test_taps_come_in_the_order_of_the_data(self, model: SAM2, pixels: Tensor) -> None:
        activations: dict[str, Tensor] = {}
        follow(model, pixels, activations)
        tokens = 2 * GRID**2 + WIDTH // MEMORY
        shapes = {name: tuple(value.shape) for name, value in activations.items()}
        assert shapes == {
            "memory_attention.memory": (1, tokens, MEMORY),
            "memory_attention.position": (1, tokens, MEMORY),
            "memory_attention.output": (1, WIDTH, GRID, GRID),
            "prompt.sparse": (1, 2, WIDTH),
            "prompt.dense": (1, WIDTH, GRID, GRID),
            "decoder.tokens": (1, 4, WIDTH),
            "decoder.logits": (1, 4, SIDE // 4, SIDE // 4),
            "decoder.iou": (1, 4),
            "decoder.object_score": (1, 1),
            "pointer": (1, WIDTH),
            "memory_encoder.output": (1, MEMORY, GRID, GRID),
        }
        assert list(shapes)[:3] == [name for name in shapes if name.startswith("memory_att")]

    def test_an_empty_mask_means_that_the_object_is_not_there(
        self, model: SAM2, pixels: Tensor
    ) -> None:
        frame = model.encode_frame(pixels[0].repeat(2, 1, 1, 1))
        masks = torch.zeros(2, 1, SIDE, SIDE)
        masks[1, :, 20:60, 30:80] = 1
        both = model.use_mask_as_output(frame, masks)
        assert both.object_score.tolist() == [[-10], [10]]
        assert torch.equal(both.pointer[0], model.no_obj_ptr[0])
        assert torch.allclose(both.low_res[0], torch.tensor(-10.0))
        assert torch.equal(both.high_res > 0, masks > 0)

    def test_masks_of_another_size_are_refused(self, model: SAM2, pixels: Tensor) -> None:
        frame, masks = model.encode_frame(pixels[0]), torch.zeros(1, 1, 32, 32)
        with pytest.raises(ValueError, match="masks: expected shape any x 1 x 128 x 128"):
            model.encode_memory(frame, masks, torch.ones(1, 1))
        with pytest.raises(ValueError, match="masks: expected shape any x 1 x 128 x 128"):
            model.use_mask_as_output(frame, masks)


class TestWaysToRun:
    def test_every_tensor_kept_belongs_to_the_state_dict(self, model: SAM2, pixels: Tensor) -> None:
        follow(model, pixels)
        for name, module in model.named_modules():
            kept = [key for key, value in vars(module).items() if isinstance(value, Tensor)]
            assert not kept, name
        buffers = dict(model.named_buffers())
        assert set(buffers) <= set(model.state_dict())

    def test_gradients_reach_every_parameter_of_the_memory(
        self, model: SAM2, pixels: Tensor
    ) -> None:
        model.zero_grad()
        with torch.enable_grad():
            found, memory = follow(model, pixels)
            frame = model.encode_frame(pixels[0])
            absent = model.encode_memory(frame, found.high_res, torch.full((1, 1), -1.0))
            empty = model.use_mask_as_output(frame, torch.zeros_like(found.high_res))
            terms = (found.high_res, found.pointer, memory, absent, empty.pointer)
            total = torch.cat([term.flatten() for term in terms]).sum()
            total.backward()  # type: ignore[no-untyped-call]
        weights = dict(model.named_parameters())
        parts = ("maskmem_", "memory_", "mask_downsample.", "obj_ptr_", "no_")
        memory_weights = [name for name in weights if name.startswith(parts)]
        assert [name for name in memory_weights if weights[name].grad is None] == ["no_mem_pos_enc"]

    def test_compiles_without_a_break(self, model: SAM2, pixels: Tensor) -> None:
        compiled = torch.compile(follow, fullgraph=True, backend="eager")
        both = flat(compiled(model, pixels)), flat(follow(model, pixels))
        for mine, expected in zip(*both, strict=True):
            assert torch.equal(mine, expected)

    @pytest.mark.slow
    @pytest.mark.filterwarnings("ignore:.*complex operators")
    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_compiled_by_inductor_it_is_the_same_model(self, model: SAM2, pixels: Tensor) -> None:
        compiled = torch.compile(follow, fullgraph=True)
        both = flat(compiled(model, pixels)), flat(follow(model, pixels))
        for mine, expected in zip(*both, strict=True):
            assert torch.allclose(mine, expected, atol=1e-4 * float(expected.abs().max()))

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    @pytest.mark.parametrize("way", ["autocast", "weights"])
    def test_half_precision_is_near(
        self, model: SAM2, pixels: Tensor, way: str, dtype: torch.dtype
    ) -> None:
        exact, exact_memory = follow(model, pixels)
        if way == "weights":
            other = SAM2(CONFIG).eval()
            other.load_state_dict(model.state_dict())
            rough, memory = follow(other.to(dtype), pixels)
            assert memory.dtype == rough.pointer.dtype == dtype
        else:
            with torch.autocast("cpu", dtype=dtype):
                rough, memory = follow(model, pixels)
        assert rough.low_res.dtype == torch.float32
        for mine, expected in ((rough.low_res, exact.low_res), (memory, exact_memory)):
            difference = (mine.float() - expected).abs().mean()
            assert 0 < difference < 0.05 * expected.abs().mean()

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_a_video_is_followed_in_half_precision(self, dtype: torch.dtype) -> None:
        predictor = SAM2VideoPredictor(CONFIG).eval()
        randomise(predictor, seed=0)
        predictor.to(dtype)
        state = predictor.init_state(torch.randint(0, 256, (3, 60, 80, 3), dtype=torch.uint8))
        predictor.add_new_points_or_box(state, 0, 1, points=[[30, 40]], labels=[1])
        predictor.add_new_mask(state, 1, 2, torch.ones(60, 80))
        answers = list(predictor.propagate_in_video(state))
        assert [masks.shape for _, _, masks in answers] == [(2, 1, 60, 80)] * 3
        assert all(masks.isfinite().all() for _, _, masks in answers)


def flat(result: tuple[Segmentation, Tensor]) -> Iterator[Tensor]:
    return chain(result[0], result[1:])


class TestChoiceOfMemories:
    """Frames stand for their own memories."""

    @pytest.mark.parametrize("limit", [-1, 2, 3, 4])
    def test_nearest_prompted_frames(self, limit: int) -> None:
        for size in range(6):
            for chosen in combinations((0, 2, 3, 7, 8, 11), size):
                prompted = {number: number for number in reversed(chosen)}
                for frame in range(13):
                    near, far = MemoryBank(prompted, {}, frame).nearest_prompted(limit)
                    expected = select_closest_cond_frames(frame, prompted, limit)
                    assert [list(near.items()), far] == [list(expected[0].items()), expected[1]]

    def test_the_frame_just_before_has_the_first_row(self) -> None:
        bank = MemoryBank({0: 0}, {number: number for number in range(1, 20)}, 20)
        assert bank.spatial(7) == [(6, 0), (5, 14), (4, 15), (3, 16), (2, 17), (1, 18), (0, 19)]

    def test_backwards_it_is_the_frame_after(self) -> None:
        bank = MemoryBank({19: 19}, {number: number for number in range(19)}, 10, reverse=True)
        assert bank.spatial(7) == [(6, 19), (5, 16), (4, 15), (3, 14), (2, 13), (1, 12), (0, 11)]

    def test_a_stride_keeps_the_last_frame_and_multiples(self) -> None:
        bank = MemoryBank({0: 0}, {number: number for number in range(1, 20)}, 19)
        assert bank.spatial(4, stride=5) == [(3, 0), (2, 10), (1, 15), (0, 18)]

    def test_missing_frames_leave_their_rows_empty(self) -> None:
        assert MemoryBank({0: 0}, {3: 3}, 5).spatial(7) == [(6, 0), (1, 3)]

    def test_prompted_frames_beyond_the_limit_stand_in_for_tracked_ones(self) -> None:
        bank = MemoryBank({0: 0, 4: 4, 5: 5, 9: 9}, {}, 6)
        assert bank.spatial(7, max_prompted=2) == [(6, 5), (6, 9), (5, 0), (1, 4)]
        assert bank.pointers(16, 20, max_prompted=2) == [(1, 5), (2, 4), (6, 0)]

    def test_pointers_come_from_the_past_only(self) -> None:
        bank = MemoryBank({2: 2, 8: 8}, {number: number for number in (3, 4, 6)}, 5)
        assert bank.pointers(16, 20) == [(3, 2), (1, 4), (2, 3)]
        backwards = MemoryBank(
            {2: 2, 8: 8}, {number: number for number in (3, 4, 6)}, 5, reverse=True
        )
        assert backwards.pointers(16, 20) == [(3, 8), (1, 6)]

    @pytest.mark.parametrize(("most", "frames", "count"), [(16, 40, 15), (4, 40, 3), (16, 5, 4)])
    def test_their_number_is_limited(self, most: int, frames: int, count: int) -> None:
        bank = MemoryBank({}, {number: number for number in range(30)}, 30)
        assert len(bank.pointers(most, frames)) == count


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("stride", range(1, 5))
@pytest.mark.parametrize("pointers", [1, 2, 5, 16])
@pytest.mark.parametrize("memories", range(1, 9))
def test_no_frame_attends_farther_back_than_its_reach(
    memories: int, pointers: int, stride: int, reverse: bool
) -> None:
    """And some frame does attend that far, so that no less may be kept."""
    far, length = reach(memories, stride, pointers), 60
    farthest = 0
    for frame in range(20, 40):
        past = range(frame + 1, length) if reverse else range(frame)
        bank = MemoryBank({}, {number: number for number in past}, frame, reverse)
        used = [*bank.spatial(memories, stride), *bank.pointers(pointers, length)]
        distances = [abs(number - frame) for _, number in used]
        assert all(1 <= distance <= far for distance in distances)
        farthest = max(farthest, *distances, 1)
    assert farthest == far
