"""The facts that fix a SAM 2 / 2.1 architecture, as frozen dataclasses of plain data.

Field names follow the official YAML files (``sam2/configs``). What all published SAM 2 models share
(patch size 4 with a 7x7 kernel, stride 16, three query-pooling stages, a two-layer mask decoder
with three candidate masks, ...) is not configurable: it is a constant in the module that uses it.

This module needs neither torch nor the rest of the project.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

Generation = Literal["2.0", "2.1"]

# Mean and deviation of ImageNet, for RGB in [0, 1]. Pixels are normalised by them.
PIXEL_MEAN = (0.485, 0.456, 0.406)
PIXEL_STD = (0.229, 0.224, 0.225)
BACKBONE_STRIDE = 16  # pixels per token of the image embedding
NUM_STAGES = 4
_MAX_SIDE = 1 << 16  # no image, width or count of a real model comes near this
_SHOWN = 60  # characters or values of a wrong value that an error message shows
_MAX_REAL = 1e300  # excludes infinity and NaN
_MAX_BLOCKS = 1 << 7  # the largest published model has 48


class ConfigError(ValueError):
    """A config contradicts itself or holds a value that no SAM 2 model can have.

    Args:
        field: Dotted name of the field at fault, such as ``trunk.stages``.
        problem: What is wrong with its value.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


def _whole(field: str, value: Any, low: int = 1, high: int = _MAX_SIDE) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ConfigError(
            field, f"expected a whole number from {low} to {high}, found {shown(value)}"
        )


def _wholes(field: str, value: Any, count: int | None, low: int = 1) -> None:
    if not isinstance(value, tuple):
        raise ConfigError(field, f"expected a list of whole numbers, found {shown(value)}")
    if count is not None and len(value) != count:
        raise ConfigError(field, f"expected {count} numbers, found {len(value)}: {shown(value)}")
    for item in value:
        _whole(field, item, low)


def _real(field: str, value: Any) -> None:
    if (
        not isinstance(value, (int, float))
        or isinstance(value, bool)
        or not abs(value) <= _MAX_REAL
    ):
        raise ConfigError(field, f"expected a number, found {shown(value)}")


def _flags(prefix: str, section: Any) -> None:
    for field in fields(section):
        value = getattr(section, field.name)
        if field.type == "bool" and not isinstance(value, bool):
            raise ConfigError(
                f"{prefix}{field.name}", f"expected true or false, found {shown(value)}"
            )


def shown(value: Any) -> str:
    """Describe a wrong value for an error message, without quoting a text.

    A config may be any file that somebody else has named, and its text nothing to be shown.

    Args:
        value: The value that was found.

    Returns:
        A number, true or false, or a list of numbers as it is, if it is short; of anything else
        only what it is.
    """
    if isinstance(value, (list, tuple)):
        items = [shown(item) for item in value[:_SHOWN]]
        text = f"[{', '.join(items)}]"
        numbers = all(isinstance(item, (int, float)) for item in value)
        return text if numbers and len(text) <= _SHOWN else f"a list of {len(value)} values"
    if isinstance(value, (int, float)):
        try:
            text = repr(value)
        except ValueError:  # Python prints no number of more than 4300 digits
            text = " " * (_SHOWN + 1)
        return text if len(text) <= _SHOWN else "a number of very many digits"
    kinds = {str: "a text", dict: "named values", type(None): "nothing"}
    return kinds.get(type(value), f"a value of type {type(value).__name__}")


@dataclass(frozen=True)
class TrunkConfig:
    """Hiera (arXiv 2306.00989), the trunk of the image encoder.

    Attributes:
        embed_dim: Channels of stage 1; each later stage doubles them.
        num_heads: Attention heads of stage 1; each later stage doubles them.
        stages: Number of blocks of each of the four stages.
        global_att_blocks: Blocks, counted from 0, that attend to the whole grid.
        window_spec: Side of the attention window of each stage, in tokens.
        window_pos_embed_bkg_spatial_size: Height and width of the stored background embedding,
            which is stretched over the image.

    Raises:
        ConfigError: If the parts do not fit together; it names the field.
    """

    embed_dim: int
    num_heads: int
    stages: tuple[int, ...]
    global_att_blocks: tuple[int, ...]
    window_spec: tuple[int, ...]
    window_pos_embed_bkg_spatial_size: tuple[int, ...]

    def __post_init__(self) -> None:
        _whole("trunk.embed_dim", self.embed_dim)
        _whole("trunk.num_heads", self.num_heads)
        _wholes("trunk.stages", self.stages, NUM_STAGES)
        _wholes("trunk.global_att_blocks", self.global_att_blocks, None, low=0)
        _wholes("trunk.window_spec", self.window_spec, NUM_STAGES)
        _wholes(
            "trunk.window_pos_embed_bkg_spatial_size", self.window_pos_embed_bkg_spatial_size, 2
        )
        if self.depth > _MAX_BLOCKS:
            raise ConfigError(
                "trunk.stages", f"{self.depth} blocks in all; at most {_MAX_BLOCKS} make sense"
            )
        if self.embed_dim % self.num_heads:
            raise ConfigError(
                "trunk.num_heads",
                f"{self.num_heads} heads do not divide embed_dim {self.embed_dim}",
            )
        odd = [window for window in self.window_spec[:-1] if window % 2]
        if odd:
            raise ConfigError(
                "trunk.window_spec",
                f"a window of {odd[0]} tokens cannot be halved where the next stage begins",
            )
        beyond = [block for block in self.global_att_blocks if block >= self.depth]
        if beyond:
            raise ConfigError(
                "trunk.global_att_blocks",
                f"block {beyond[0]} does not exist: stages {list(self.stages)} make {self.depth}",
            )

    @property
    def depth(self) -> int:
        """Number of transformer blocks."""
        return sum(self.stages)

    @property
    def dims(self) -> tuple[int, ...]:
        """Channels of each stage."""
        return tuple(self.embed_dim << stage for stage in range(len(self.stages)))

    @property
    def heads(self) -> tuple[int, ...]:
        """Attention heads of each stage."""
        return tuple(self.num_heads << stage for stage in range(len(self.stages)))


@dataclass(frozen=True)
class MemoryAttentionConfig:
    """The transformer that conditions a frame on its memories (SAM 2 paper, section 4).

    Attributes:
        num_layers: Number of layers.
        dim_feedforward: Hidden width of the feed-forward network of each layer.
        rope_theta: Base of the axial rotary embedding.

    Raises:
        ConfigError: If a value is impossible; it names the field.
    """

    num_layers: int
    dim_feedforward: int
    rope_theta: float

    def __post_init__(self) -> None:
        _whole("memory_attention.num_layers", self.num_layers, high=_MAX_BLOCKS)
        _whole("memory_attention.dim_feedforward", self.dim_feedforward)
        _real("memory_attention.rope_theta", self.rope_theta)
        if self.rope_theta <= 0:
            raise ConfigError(
                "memory_attention.rope_theta", f"must be above 0, found {self.rope_theta}"
            )


@dataclass(frozen=True)
class MemoryEncoderConfig:
    """The network that turns a frame and its mask into a memory (SAM 2 paper, section 4).

    Attributes:
        out_dim: Channels of a spatial memory.
        fuser_layers: Number of blocks that mix the frame with its mask.

    Raises:
        ConfigError: If a value is impossible; it names the field.
    """

    out_dim: int
    fuser_layers: int

    def __post_init__(self) -> None:
        _whole("memory_encoder.out_dim", self.out_dim)
        _whole("memory_encoder.fuser_layers", self.fuser_layers, high=_MAX_BLOCKS)


@dataclass(frozen=True)
class ModelConfig:
    """Everything about a SAM 2 model that its weights alone may not tell.

    Attributes:
        generation: ``"2.0"`` or ``"2.1"``, which adds three tensors in the memory path; see
            ``docs/formats.md``.
        image_size: Side of the square input, in pixels.
        hidden_dim: Channels of the image embedding and of every token.
        trunk: The trunk of the image encoder.
        fpn_top_down_levels: Levels of the feature pyramid, 0 being the finest, that receive the
            features of the next coarser level.
        memory_attention: The transformer that conditions a frame on memories.
        memory_encoder: The network that makes memories.
        num_maskmem: Spatial memories attended to: one row of ``maskmem_tpos_enc`` for prompted
            frames, the others for the frames just before the current one.
        max_obj_ptrs_in_encoder: One more than the number of frames before the current one whose
            object pointers are attended to; those of prompted frames come in addition.
        sigmoid_scale_for_mem_enc: Factor of a mask's probabilities before they are remembered.
        sigmoid_bias_for_mem_enc: What is added to them after that.
        multimask_output_in_sam: Whether three candidate masks are considered at all in a video.
        multimask_output_for_tracking: Whether also on frames that are tracked or corrected.
        multimask_min_pt_num: Three candidates are considered from this number of points on.
        multimask_max_pt_num: Three candidates are considered up to this number of points.
        dynamic_multimask_via_stability: Whether an unstable single mask is replaced by the best of
            the three candidates.
        dynamic_multimask_stability_delta: Distance from 0 of the two logit thresholds at which a
            mask is compared with itself.
        dynamic_multimask_stability_thresh: IoU of the two from which on a mask is stable.

    Example:
        >>> from dataclasses import replace
        >>> tiny = sam21convert.load_config("sam2.1/sam2.1_hiera_t")
        >>> replace(tiny, image_size=512).embedding_size
        32

    Raises:
        ConfigError: If the parts do not fit together; it names the field.
    """

    generation: Generation
    image_size: int
    hidden_dim: int
    trunk: TrunkConfig
    fpn_top_down_levels: tuple[int, ...]
    memory_attention: MemoryAttentionConfig
    memory_encoder: MemoryEncoderConfig
    num_maskmem: int
    max_obj_ptrs_in_encoder: int
    sigmoid_scale_for_mem_enc: float
    sigmoid_bias_for_mem_enc: float
    multimask_output_in_sam: bool
    multimask_output_for_tracking: bool
    multimask_min_pt_num: int
    multimask_max_pt_num: int
    dynamic_multimask_via_stability: bool
    dynamic_multimask_stability_delta: float
    dynamic_multimask_stability_thresh: float

    def __post_init__(self) -> None:
        if self.generation not in ("2.0", "2.1"):
            raise ConfigError(
                "generation", f'expected "2.0" or "2.1", found {shown(self.generation)}'
            )
        for name in ("image_size", "hidden_dim", "num_maskmem", "max_obj_ptrs_in_encoder"):
            _whole(name, getattr(self, name))
        for name in ("multimask_min_pt_num", "multimask_max_pt_num"):
            _whole(name, getattr(self, name), low=0)
        for name in (
            "sigmoid_scale_for_mem_enc",
            "sigmoid_bias_for_mem_enc",
            "dynamic_multimask_stability_delta",
            "dynamic_multimask_stability_thresh",
        ):
            _real(name, getattr(self, name))
        _wholes("fpn_top_down_levels", self.fpn_top_down_levels, None, low=0)
        _flags("", self)
        self._check_agreement()

    def _check_agreement(self) -> None:
        window = self.trunk.window_spec[0]
        grid = self.image_size // 4  # tokens of stage 1 along a side
        if self.image_size % 32 or grid % window:
            raise ConfigError(
                "image_size",
                f"{self.image_size} is not a multiple of 32 that makes a stage-1 grid "
                f"divisible by the window of {window} tokens",
            )
        if self.hidden_dim % 16:
            raise ConfigError("hidden_dim", f"must be a multiple of 16, found {self.hidden_dim}")
        if self.memory_encoder.out_dim % 2 or self.hidden_dim % self.memory_encoder.out_dim:
            raise ConfigError(
                "memory_encoder.out_dim",
                f"{self.memory_encoder.out_dim} must be even and divide hidden_dim "
                f"{self.hidden_dim}: an object pointer is cut into memory-sized tokens",
            )
        beyond = [level for level in self.fpn_top_down_levels if level >= NUM_STAGES]
        if beyond:
            raise ConfigError(
                "fpn_top_down_levels", f"level {beyond[0]} does not exist; levels are 0 to 3"
            )
        if self.multimask_min_pt_num > self.multimask_max_pt_num:
            raise ConfigError(
                "multimask_min_pt_num",
                f"{self.multimask_min_pt_num} is above multimask_max_pt_num "
                f"{self.multimask_max_pt_num}",
            )

    @property
    def embedding_size(self) -> int:
        """Side of the image embedding, in tokens (64 for a 1024-pixel input)."""
        return self.image_size // BACKBONE_STRIDE

    def wants_candidates(self, points: int, *, first: bool) -> bool:
        """Tell whether three candidate masks are considered on a frame of a video.

        Args:
            points: Number of points there; a box counts as two.
            first: Whether the frame is prompted at the start, and not tracked or corrected.

        Returns:
            Whether they are, rather than a single mask.
        """
        return (
            self.multimask_output_in_sam
            and (first or self.multimask_output_for_tracking)
            and self.multimask_min_pt_num <= points <= self.multimask_max_pt_num
        )


@dataclass(frozen=True)
class TrackingOptions:
    """Options of a video predictor that do not change the architecture.

    The names and defaults are those of ``SAM2Base`` and ``SAM2VideoPredictor``. The official
    builder of video predictors turns on ``binarize_mask_from_pts_for_mem_enc`` and sets
    ``fill_hole_area`` to 8.

    Attributes:
        fill_hole_area: Holes of up to this many pixels of the low-resolution mask are filled;
            0 fills none.
        non_overlap_masks: Whether a pixel belongs to one object at most.
        clear_non_cond_mem_around_input: Whether a new prompt removes the memories of unprompted
            frames near it.
        add_all_frames_to_correct_as_cond: Whether a tracked frame that is corrected counts as
            prompted from then on.
        binarize_mask_from_pts_for_mem_enc: Whether prompted masks are remembered as 0 and 1
            instead of probabilities.
        memory_temporal_stride_for_eval: Frames between two memories; the frame just before the
            current one is always remembered.
        max_cond_frames_in_attn: Prompted frames attended to, at least 2; -1 for all.

    Raises:
        ConfigError: If a value is impossible; it names the field.
    """

    fill_hole_area: int = 0
    non_overlap_masks: bool = False
    clear_non_cond_mem_around_input: bool = False
    add_all_frames_to_correct_as_cond: bool = False
    binarize_mask_from_pts_for_mem_enc: bool = False
    memory_temporal_stride_for_eval: int = 1
    max_cond_frames_in_attn: int = -1

    def __post_init__(self) -> None:
        _flags("", self)
        _whole("fill_hole_area", self.fill_hole_area, low=0, high=_MAX_SIDE**2)
        _whole("memory_temporal_stride_for_eval", self.memory_temporal_stride_for_eval)
        if self.max_cond_frames_in_attn != -1:
            _whole("max_cond_frames_in_attn", self.max_cond_frames_in_attn, low=2)
