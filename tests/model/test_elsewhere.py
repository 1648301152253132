"""The model and its predictors on a device other than the CPU, without one: no tensor is misplaced.

The results must be those of the CPU to the last bit, because the device of these tests computes on
the CPU. What is tested is where tensors are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from sam21convert.comparison.noise import plain_attention
from sam21convert.config.registry import shipped_config
from sam21convert.model import SAM2ImagePredictor, SAM2VideoPredictor, TrackingOptions
from sam21convert.model.sam2 import NO_OBJECT
from sam21convert.prediction.devices import pick_device

from ..support import videos
from ..support.checkpoints import DEBUG
from ..support.elsewhere import ELSEWHERE, WrongDeviceError, elsewhere
from ..support.official import randomise

NO_DOUBLES = {"doubles": False}  # what runs so runs on MPS as well


def predictor() -> SAM2VideoPredictor:
    options = TrackingOptions(fill_hole_area=8, binarize_mask_from_pts_for_mem_enc=True)
    made = SAM2VideoPredictor(shipped_config(DEBUG), options).eval()
    randomise(made, seed=0)
    made.get_parameter("sam_mask_decoder.pred_obj_score_head.layers.2.bias").data += 5  # is there
    return made


@pytest.fixture(autouse=True)
def _same_kernels() -> Iterator[None]:
    """The fused attention of the CPU is not chosen for another device."""
    with plain_attention():
        yield


class TestTheDevice:
    """What the tests below rely on."""

    @pytest.fixture(autouse=True)
    def _there(self) -> Iterator[None]:
        with elsewhere(**NO_DOUBLES):
            yield

    def test_it_is_there_only_where_it_is_asked_for(self) -> None:
        assert pick_device("auto") == ELSEWHERE

    @pytest.mark.parametrize(
        "mix",
        [
            lambda there: there + torch.ones(2),
            lambda there: torch.cat([torch.ones(2), there]),
            lambda there: there @ torch.ones(2),
            lambda there: torch.where(torch.tensor([True, False]), there, 0.0),
            lambda there: torch.nn.functional.linear(there, torch.ones(1, 2)),
            lambda there: there.double(),
            lambda there: torch.zeros(2, dtype=torch.float64, device=there.device),
        ],
    )
    def test_mixing_and_doubles_raise(self, mix: Callable[[Tensor], Tensor]) -> None:
        with pytest.raises(WrongDeviceError):
            mix(torch.ones(2, device=ELSEWHERE))

    def test_its_tensors_must_be_brought_back(self) -> None:
        there = torch.arange(3, device=ELSEWHERE)
        with pytest.raises((RuntimeError, TypeError)):
            there.numpy()
        assert there.cpu().numpy().tolist() == [0, 1, 2]

    def test_numbers_go_with_tensors_of_any_device(self) -> None:
        there = torch.tensor([1.0, 2.0], device=ELSEWHERE)
        for one in (there + 1, there * torch.tensor(2.0), there.mul_(3), there[:1], there.clone()):
            assert one.device.type == ELSEWHERE
        assert there.cpu().tolist() == [3, 6]
        assert float(there.sum()) == 9


def test_it_is_gone_afterwards() -> None:
    with elsewhere():
        pass
    assert pick_device("auto") != ELSEWHERE


def image_answers(device: str) -> list[np.ndarray[Any, Any]]:
    """All kinds of prompts, for one picture and for several."""
    images = SAM2ImagePredictor(predictor().to(device), max_hole_area=4, max_sprinkle_area=4)
    picture, point = videos.frame(0), videos.POINT
    images.set_image(picture)
    found = [*images.predict(point, [1])]
    low = found[2][:1]
    box = np.array(videos.BOX, np.float64)  # NumPy's default, which MPS does not have
    found += images.predict(point, [0], box, low, multimask_output=False, return_logits=True)
    found += images.predict(box=np.stack([box, box + 3]), multimask_output=False)
    found += images.predict()
    images.set_image_batch([picture, videos.frame(5)])
    for part in images.predict_batch([point, point], [[1], [1]]):
        found += part
    assert images.get_image_embedding().device.type == device
    return found


def brief(made: Any, state: Any) -> Iterator[videos.Answer]:
    """A bit of everything on few frames: points, a box, masks, corrections, both directions."""
    yield made.add_new_points_or_box(state, 0, 1, **videos.clicks(videos.POINT, [1]))
    yield made.add_new_mask(state, 1, 2, videos.disc_mask())
    yield from made.propagate_in_video(state)
    yield made.add_new_points_or_box(state, 2, 1, box=videos.BOX)
    more = videos.clicks([[100.0, 80.0]], [0])
    yield made.add_new_points_or_box(state, 2, 1, **more, clear_old_points=False)
    yield from made.propagate_in_video(state, start_frame_idx=2, reverse=True)
    yield made.clear_all_prompts_in_frame(state, 2, 1)


def video_answers(device: str, frames: Any, **options: Any) -> list[Tensor]:
    made = predictor().to(device)
    answers = [masks for _, _, masks in brief(made, made.init_state(frames, **options))]
    assert {masks.device.type for masks in answers} == {device}
    return [masks.cpu() for masks in answers]


def test_images() -> None:
    expected = image_answers("cpu")
    with elsewhere(**NO_DOUBLES) as device:
        found = image_answers(device)
    assert all(np.array_equal(*both) for both in zip(found, expected, strict=True))


def test_videos() -> None:
    frames = [videos.frame(number) for number in range(3)]
    expected = video_answers("cpu", frames)
    assert all(bool((masks > NO_OBJECT).any()) for masks in expected)
    with elsewhere(**NO_DOUBLES) as device:
        found = video_answers(device, frames)
    assert all(torch.equal(*both) for both in zip(found, expected, strict=True))


def test_videos_that_are_kept_in_main_memory_or_read_on_the_way(tmp_path: Path) -> None:
    for number in range(3):
        Image.fromarray(videos.frame(number)).save(tmp_path / f"{number}.jpg")
    options = {"async_loading_frames": True, "offload_state_to_cpu": True}
    expected = video_answers("cpu", tmp_path, **options)
    with elsewhere(**NO_DOUBLES) as device:
        found = video_answers(device, tmp_path, offload_video_to_cpu=True, **options)
    assert all(torch.equal(*both) for both in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    "misplaced",
    [
        "sam_mask_decoder.iou_token.weight",
        "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
    ],
)
def test_a_misplaced_tensor_is_noticed_in_images(
    misplaced: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _misplace(misplaced, monkeypatch)
    with elsewhere() as device, pytest.raises(WrongDeviceError):
        image_answers(device)


@pytest.mark.parametrize(
    "misplaced",
    ["maskmem_tpos_enc", "no_obj_ptr", "sine_grid"],
)
def test_a_misplaced_tensor_is_noticed_in_videos(
    misplaced: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _misplace(misplaced, monkeypatch)
    with elsewhere() as device, pytest.raises(WrongDeviceError):
        video_answers(device, [videos.frame(0), videos.frame(1), videos.frame(2)])


def _misplace(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave a tensor of the model, or what a function makes, on the CPU."""
    if name == "sine_grid":
        from sam21convert.model import memory_attention, sam2

        for module in (memory_attention, sam2):
            made = module.sine_grid
            monkeypatch.setattr(module, name, lambda *args, made=made: made(*args[:3], "cpu"))
        return
    move = SAM2VideoPredictor.to

    def moved(self: SAM2VideoPredictor, device: str) -> SAM2VideoPredictor:
        module, _, tensor = name.rpartition(".")
        kept = getattr(self.get_submodule(module), tensor)
        move(self, device)
        owner = self.get_submodule(module)
        (owner._buffers if tensor in owner._buffers else owner._parameters)[tensor] = kept
        return self

    monkeypatch.setattr(SAM2VideoPredictor, "to", moved)
