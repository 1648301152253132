from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from sam2.modeling.backbones.hieradet import Hiera
from torch import Tensor

from sam21convert.config.registry import shipped_config, shipped_tensors
from sam21convert.prediction import resample as positions
from sam21convert.prediction.resample import (
    AGES,
    BACKGROUND,
    can_resample,
    resample,
    resample_ages,
    resample_background,
    stored_config,
)

from ..support.checkpoints import DEBUG, state_dict

CONFIG = shipped_config(DEBUG)
GRIDS = [(7, 7), (14, 14), (7, 9)]


def ages(values: Tensor) -> Tensor:
    """An encoding with one row for each age, before that of prompted frames, which is random."""
    prompted = torch.randn(1, values.shape[1], generator=torch.Generator().manual_seed(9))
    return torch.cat((values, prompted))[:, None, None]  # n, 1, 1, K


def smooth_ages(count: int = 6) -> Tensor:
    age = torch.linspace(0, 2, count)[:, None]
    return ages(torch.sin(age + torch.arange(64) / 10))


def random_ages(count: int = 6) -> Tensor:
    return ages(torch.randn(count, 64, generator=torch.Generator().manual_seed(1)))


def random_grid(height: int, width: int) -> Tensor:
    return torch.randn(1, 8, height, width, generator=torch.Generator().manual_seed(2))


def smooth_grid(height: int, width: int) -> Tensor:
    y, x = torch.linspace(0, 1, height)[:, None], torch.linspace(0, 1, width)
    return torch.stack([torch.sin(2 * x + 0.3 * c) + torch.cos(0.2 * y * c) for c in range(8)])[
        None
    ]


def error(first: Tensor, second: Tensor) -> float:
    """Root mean square of the difference, relative to the first."""
    return float((first - second).norm() / first.norm())


def naive(encoding: Tensor, count: int) -> Tensor:
    """The mistake to be caught: all entries along time, that of prompted frames among them."""
    channels = encoding[:, 0].permute(1, 2, 0)  # 1, K, n
    between = F.interpolate(channels, size=count, mode="linear", align_corners=True)
    return between.permute(2, 0, 1)[:, None]  # count, 1, 1, K


@pytest.mark.parametrize(
    "name",
    [
        AGES,
        BACKGROUND,
        "image_encoder.trunk.pos_embed_window",
        "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
        "no_mem_pos_enc",
        "obj_ptr_tpos_proj.weight",
    ],
)
def test_every_stored_positional_tensor_is_explained(name: str) -> None:
    assert name in shipped_tensors(DEBUG)
    assert f"\n``{name}``" in str(positions.__doc__)


class TestBackground:
    @pytest.mark.parametrize("grid", GRIDS)
    @pytest.mark.parametrize("side", [8, 16, 32])
    def test_it_is_interpolated_as_the_official_trunk_does(
        self, grid: tuple[int, int], side: int
    ) -> None:
        official: Any = Hiera(embed_dim=8, num_heads=1, window_pos_embed_bkg_spatial_size=grid)
        official.pos_embed.copy_(random_grid(*grid))
        expected = official._get_pos_embed((side, side))
        ours = resample_background(official.pos_embed, (side, side)).permute(0, 2, 3, 1)
        assert torch.equal(ours, expected)
        bilinear = F.interpolate(official.pos_embed, size=(side, side), mode="bilinear")
        assert not torch.allclose(bilinear.permute(0, 2, 3, 1), expected, atol=0.01)

    @pytest.mark.parametrize("grid", GRIDS)
    def test_the_same_grid_gives_the_same_bits(self, grid: tuple[int, int]) -> None:
        assert torch.equal(resample_background(random_grid(*grid), grid), random_grid(*grid))

    @pytest.mark.parametrize("side", [7, 14])
    def test_three_times_as_fine_and_back_is_the_identity(self, side: int) -> None:
        """The centre of every third cell is that of a stored one."""
        fine = resample_background(random_grid(side, side), (3 * side, 3 * side))
        assert error(random_grid(side, side), resample_background(fine, (side, side))) < 1e-6

    @pytest.mark.parametrize("side", [7, 14])
    def test_twice_as_fine_and_back_is_near_the_identity(self, side: int) -> None:
        def there_and_back(grid: Tensor) -> float:
            fine = resample_background(grid, (2 * side, 2 * side))
            return error(grid, resample_background(fine, (side, side)))

        assert there_and_back(smooth_grid(side, side)) < 0.002
        assert 0.01 < there_and_back(random_grid(side, side)) < 0.05

    def test_a_half_precision_tensor_stays_one(self) -> None:
        half = random_grid(7, 7).bfloat16()
        fine = resample_background(half, (14, 14))
        assert torch.equal(fine, resample_background(half.float(), (14, 14)).bfloat16())


class TestAges:
    @pytest.mark.parametrize("count", range(2, 20))
    def test_the_latest_frame_and_the_oldest_keep_their_entries(self, count: int) -> None:
        stored = random_ages()
        found = resample_ages(stored, count)
        assert found.shape == (count, 1, 1, 64)
        assert torch.equal(found[0], stored[0])
        assert count == 2 or torch.equal(found[-2], stored[-2])

    @pytest.mark.parametrize("count", range(3, 20))
    def test_what_grows_evenly_with_age_still_does(self, count: int) -> None:
        evenly = ages(torch.arange(6.0)[:, None].expand(6, 64))
        expected = torch.linspace(0, 5, count - 1)
        assert torch.allclose(resample_ages(evenly, count)[:-1, 0, 0, 0], expected)

    @pytest.mark.parametrize("count", [1, 2, 5, 6, 8, 12, 17])
    def test_the_entry_of_prompted_frames_never_mixes_with_the_others(self, count: int) -> None:
        stored = random_ages()
        others = torch.cat((torch.zeros_like(stored[:-1]), stored[-1:]))
        assert torch.equal(resample_ages(stored, count)[-1], stored[-1])
        assert not resample_ages(others, count)[:-1].any()

    def test_interpolating_all_entries_alike_would_be_detected(self) -> None:
        stored = random_ages()
        others = torch.cat((torch.zeros_like(stored[:-1]), stored[-1:]))
        assert naive(others, 12)[:-1].any()
        assert error(resample_ages(stored, 12)[:-1], naive(stored, 12)[:-1]) > 0.1

    @pytest.mark.parametrize("stored", [smooth_ages(), random_ages()])
    @pytest.mark.parametrize("count", [7, 12, 17, 22])
    def test_up_and_back_is_the_identity_where_old_ages_are_among_the_new(
        self, stored: Tensor, count: int
    ) -> None:
        assert torch.equal(resample_ages(resample_ages(stored, count), 7), stored)

    @pytest.mark.parametrize("count", [8, 9, 10, 11, 13])
    def test_up_and_back_is_near_the_identity_where_the_encoding_is_smooth(
        self, count: int
    ) -> None:
        def there_and_back(stored: Tensor) -> float:
            return error(stored, resample_ages(resample_ages(stored, count), 7))

        assert there_and_back(smooth_ages()) < 0.02
        assert 0.15 < there_and_back(random_ages()) < 0.4

    def test_a_half_precision_tensor_stays_one(self) -> None:
        half = random_ages().half()
        assert resample_ages(half, 12).dtype == torch.float16
        assert torch.equal(resample_ages(half, 12)[::2][:5], half[:5])


class TestStateDict:
    def test_what_has_its_shape_is_left_alone(self) -> None:
        tensors = state_dict()
        before = dict(tensors)
        assert resample(tensors, CONFIG) == ()
        assert all(tensors[name] is tensor for name, tensor in before.items())

    def test_only_the_two_tensors_change_and_it_says_how(self) -> None:
        trunk = replace(CONFIG.trunk, window_pos_embed_bkg_spatial_size=(14, 14))
        config = replace(CONFIG, num_maskmem=12, trunk=trunk)
        tensors = state_dict()
        before = dict(tensors)
        first, second = resample(tensors, config)
        assert first[:3] == (AGES, (7, 1, 1, 64), (12, 1, 1, 64))
        assert second[:3] == (BACKGROUND, (1, 8, 7, 7), (1, 8, 14, 14))
        assert str(first).startswith("maskmem_tpos_enc from 7x1x1x64 to 12x1x1x64: linear over")
        assert "bicubic, as the trunk does" in str(second)
        changed = {name for name in before if tensors[name] is not before[name]}
        assert changed == {AGES, BACKGROUND}
        shapes = {name: tuple(tensor.shape) for name, tensor in before.items()}
        assert stored_config(config, shapes) == CONFIG


@pytest.mark.parametrize(
    ("name", "stored", "wanted", "answer"),
    [
        (AGES, (7, 1, 1, 64), (12, 1, 1, 64), True),
        (AGES, (7, 1, 1, 64), (1, 1, 1, 64), True),
        (AGES, (2, 1, 1, 64), (7, 1, 1, 64), True),
        (AGES, (1, 1, 1, 64), (7, 1, 1, 64), False),
        (AGES, (0, 1, 1, 64), (7, 1, 1, 64), False),
        (AGES, (7, 1, 1, 32), (7, 1, 1, 64), False),
        (AGES, (7, 64), (12, 1, 1, 64), False),
        (BACKGROUND, (1, 8, 7, 7), (1, 8, 14, 14), True),
        (BACKGROUND, (1, 8, 7, 7), (1, 16, 14, 14), False),
        (BACKGROUND, (1, 8, 0, 7), (1, 8, 14, 14), False),
        ("image_encoder.trunk.pos_embed_window", (1, 8, 8, 8), (1, 8, 4, 4), False),
    ],
)
def test_what_can_be_resampled(
    name: str, stored: tuple[int, ...], wanted: tuple[int, ...], answer: bool
) -> None:
    assert can_resample(name, stored, wanted) is answer
