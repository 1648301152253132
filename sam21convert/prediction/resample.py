"""The positional tensors that a checkpoint stores, and the resampling of two of them.

C is the width of the trunk, K that of a memory, D that of the image embedding. Everything else that
is positional (sine positions, the rotary embedding of memory attention) is computed when the model
runs, for the image size it runs at, and stored nowhere.

``image_encoder.trunk.pos_embed``, 1 x C x 7 x 7 or 1 x C x 14 x 14
    The coarse half of a token's position, one grid over the whole image. The trunk stretches it
    bicubically to its tokens each time it runs, so no image size changes it. Another stored grid
    (``window_pos_embed_bkg_spatial_size``) takes :func:`resample`.
``image_encoder.trunk.pos_embed_window``, 1 x C x 8 x 8
    The fine half, the same in every window of the first stage. Repeated side by side, never
    stretched: an image size is possible when whole windows fill the grid of tokens.
``sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix``, 2 x D/2
    Random frequencies, drawn once, for places given as shares of the image's sides. As shares they
    are the same at every image size.
``maskmem_tpos_enc``, num_maskmem x 1 x 1 x K
    How old a memory is. Entry k, but for the last, belongs to the frame k + 1 frames ago; the last
    belongs to prompted frames of whatever age (``sam2_base.py`` counts from the end:
    ``num_maskmem - t_pos - 1``, where ``t_pos`` is 0 for prompted frames). It knows frames and no
    pixels; only another ``num_maskmem`` takes :func:`resample`.
``no_mem_pos_enc``, 1 x 1 x D
    Meant for frames without memories. No published config reads it; carried along, never changed.
``obj_ptr_tpos_proj.weight`` and ``.bias``, K x D and K (SAM 2.1)
    Projects the sine encoding of how many frames away an object pointer is. Knows no pixels either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..model.config import ModelConfig

AGES = "maskmem_tpos_enc"
BACKGROUND = "image_encoder.trunk.pos_embed"


class Resampled(NamedTuple):
    """A tensor that was resampled.

    Attributes:
        tensor: Its canonical name.
        stored: The shape that the checkpoint stores.
        shape: The shape that the model has.
        how: The interpolation, in words.
    """

    tensor: str
    stored: tuple[int, ...]
    shape: tuple[int, ...]
    how: str

    def __str__(self) -> str:
        stored, shape = ("x".join(map(str, size)) for size in (self.stored, self.shape))
        return f"{self.tensor} from {stored} to {shape}: {self.how}"


def can_resample(name: str, stored: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Tell whether :func:`resample` can bring a tensor from one shape to another.

    Args:
        name: The canonical name of the tensor.
        stored: The shape that the checkpoint stores.
        wanted: The shape that the model has.

    Returns:
        True only for the temporal encoding of memories and for the background position.
    """
    if len(stored) != 4 or len(wanted) != 4 or 0 in stored:
        return False
    if name == AGES:  # a single entry belongs to prompted frames and has no age
        return stored[1:] == wanted[1:] and (stored[0] > 1 or wanted[0] == 1)
    return name == BACKGROUND and stored[:2] == wanted[:2]


def stored_config(config: ModelConfig, shapes: Mapping[str, tuple[int, ...]]) -> ModelConfig:
    """Adapt a config to the positional tensors that a checkpoint stores.

    Args:
        config: The config of the model.
        shapes: Canonical name to stored shape, of one or both tensors that can be resampled.

    Returns:
        The config of a model that has these shapes.
    """
    if AGES in shapes:
        config = replace(config, num_maskmem=shapes[AGES][0])
    if BACKGROUND in shapes:
        grid = shapes[BACKGROUND][2:]
        config = replace(
            config, trunk=replace(config.trunk, window_pos_embed_bkg_spatial_size=grid)
        )
    return config


def resample(state_dict: dict[str, Tensor], config: ModelConfig) -> tuple[Resampled, ...]:
    """Bring the positional tensors of a state dict to the shapes of a config, in place.

    Args:
        state_dict: Canonical name to tensor; it is changed.
        config: The config of the model.

    Returns:
        What was resampled; a tensor that has its shape already is left alone.
    """
    count, grid = config.num_maskmem, config.trunk.window_pos_embed_bkg_spatial_size
    ages, background = state_dict[AGES], state_dict[BACKGROUND]
    done = []
    if len(ages) != count:
        state_dict[AGES] = resample_ages(ages, count)
        how = "linear over the ages of memories; the entry of prompted frames is kept"
        done.append(Resampled(AGES, tuple(ages.shape), tuple(state_dict[AGES].shape), how))
    if tuple(background.shape[2:]) != grid:
        state_dict[BACKGROUND] = wanted = resample_background(background, (grid[0], grid[1]))
        how = "bicubic, as the trunk does when it runs"
        done.append(Resampled(BACKGROUND, tuple(background.shape), tuple(wanted.shape), how))
    return tuple(done)


def resample_background(embedding: Tensor, grid: tuple[int, int]) -> Tensor:
    """Interpolate the background position, as ``_get_pos_embed`` of ``hieradet.py`` does.

    Args:
        embedding: ``1 x C x h x w``.
        grid: New height and width.

    Returns:
        ``1 x C x grid[0] x grid[1]``, of the same type.
    """
    exact = embedding.to(torch.promote_types(embedding.dtype, torch.float32))
    return F.interpolate(exact, size=grid, mode="bicubic").to(embedding.dtype)


def resample_ages(encoding: Tensor, count: int) -> Tensor:
    """Interpolate the temporal encoding of memories for another number of them.

    The last entry, that of prompted frames, is kept. The others are interpolated linearly: the
    latest frame keeps its entry, and the oldest frame gets the entry of the oldest one stored. An
    entry that coincides with a stored one is equal to it, bit for bit.

    Args:
        encoding: ``n x 1 x 1 x K``; n is at least 2 unless ``count`` is 1.
        count: The new number of memories.

    Returns:
        ``count x 1 x 1 x K``, of the same type.
    """
    ages, prompted = encoding[:-1], encoding[-1:]
    steps = max(count - 2, 1)  # from the first age to the last
    place = torch.arange(count - 1, device=encoding.device) * (len(ages) - 1)
    before = place // steps
    after = (before + 1).clamp(max=len(ages) - 1)
    share = (place % steps / steps).to(torch.float64)
    exact = ages.to(torch.float64)
    between = torch.lerp(exact[before], exact[after], share[:, None, None, None])
    return torch.cat((between.to(encoding.dtype), prompted))
