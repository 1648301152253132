"""Read the official Hydra YAML, of a model or of a training run, without importing hydra.

Source: ``sam2/configs`` for the files; ``sam2_base.py`` and ``hieradet.py`` for the defaults of
settings that a file leaves out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from fnmatch import fnmatchcase
from typing import Any

from ..model.config import (
    ConfigError,
    Generation,
    MemoryAttentionConfig,
    MemoryEncoderConfig,
    ModelConfig,
    TrunkConfig,
    shown,
)

# Settings that are the same in every SAM 2: (field, its value, the official default). A file that
# leaves out a field has its official default; where that is None, leaving it out is accepted.
FIXED: tuple[tuple[str, Any, Any], ...] = (
    ("backbone_stride", 16, 16),
    ("image_encoder.scalp", 1, 0),
    ("image_encoder.neck.fpn_interp_model", "nearest", "bilinear"),
    ("image_encoder.trunk.q_pool", 3, 3),
    ("image_encoder.trunk.q_stride", [2, 2], [2, 2]),
    ("image_encoder.trunk.dim_mul", 2.0, 2.0),
    ("image_encoder.trunk.head_mul", 2.0, 2.0),
    ("memory_attention.pos_enc_at_input", True, None),
    ("memory_attention.layer.activation", "relu", None),
    ("memory_attention.layer.pos_enc_at_attn", False, None),
    ("memory_attention.layer.pos_enc_at_cross_attn_keys", True, None),
    ("memory_attention.layer.pos_enc_at_cross_attn_queries", False, None),
    ("memory_attention.layer.self_attention.num_heads", 1, None),
    ("memory_attention.layer.self_attention.downsample_rate", 1, 1),
    ("memory_attention.layer.cross_attention.num_heads", 1, None),
    ("memory_attention.layer.cross_attention.downsample_rate", 1, 1),
    ("memory_attention.layer.cross_attention.rope_k_repeat", True, False),
    ("memory_encoder.mask_downsampler.kernel_size", 3, 4),
    ("memory_encoder.mask_downsampler.stride", 2, 4),
    ("memory_encoder.mask_downsampler.padding", 1, 0),
    ("memory_encoder.mask_downsampler.total_stride", 16, 16),
    ("memory_encoder.fuser.layer.kernel_size", 7, 7),
    ("memory_encoder.fuser.layer.padding", 3, 3),
    ("memory_encoder.fuser.layer.use_dwconv", True, True),
    ("use_mask_input_as_output_without_sam", True, False),
    ("directly_add_no_mem_embed", True, False),
    ("use_high_res_features_in_sam", True, False),
    ("iou_prediction_use_sigmoid", True, False),
    ("use_obj_ptrs_in_encoder", True, False),
    ("only_obj_ptrs_in_the_past_for_eval", True, False),
    ("pred_obj_scores", True, False),
    ("pred_obj_scores_mlp", True, False),
    ("fixed_no_obj_ptr", True, False),
    ("soft_no_obj_ptr", False, False),
    ("use_multimask_token_for_obj_ptr", True, False),
    ("use_mlp_for_obj_ptr_proj", True, False),
)

# The switches that SAM 2.1 added, with the official defaults. SAM 2.0 has them all off.
GENERATION = (
    ("no_obj_embed_spatial", False),
    ("add_tpos_enc_to_obj_ptrs", True),
    ("proj_tpos_enc_in_obj_ptrs", False),
    ("use_signed_tpos_enc_to_obj_ptrs", False),
)
# What the official builders set, whatever the file states (``apply_postprocessing=True`` in
# build_sam.py): fields of ModelConfig for every model, fields of TrackingOptions for video.
BUILDERS: Mapping[str, Any] = {
    "dynamic_multimask_via_stability": True,
    "dynamic_multimask_stability_delta": 0.05,
    "dynamic_multimask_stability_thresh": 0.98,
}
VIDEO_BUILDERS: Mapping[str, Any] = {
    "binarize_mask_from_pts_for_mem_enc": True,
    "fill_hole_area": 8,
}
_ATTENTION = ("_target_", "dropout", "feat_sizes")
# What else the official classes take, of which nothing depends that a model of ours computes, or
# which is the same in every SAM 2: by section. The rest of their arguments are in the tables above
# and read below. SAM2Train, the class of a training run, takes those with a * at the end.
ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "": (
        *("_target_", "_partial_", "binarize_mask_from_pts_for_mem_enc", "fill_hole_area"),
        *("max_cond_frames_in_attn", "memory_temporal_stride_for_eval", "compile_image_encoder"),
        *("non_overlap_masks", "non_overlap_masks_for_mem_enc", "sam_mask_decoder_extra_args"),
        *("clear_non_cond_mem_around_input", "clear_non_cond_mem_for_multi_obj"),
        *("add_all_frames_to_correct_as_cond", "freeze_image_encoder", "prob_to_*", "num_*"),
        *("rand_*", "use_act_ckpt_iterative_pt_sampling", "forward_backbone_per_frame_for_eval"),
    ),
    "image_encoder": ("_target_",),
    "image_encoder.neck": ("_target_", "position_encoding", "kernel_size", "stride", "padding"),
    "memory_attention": ("_target_", "batch_first"),
    "memory_attention.layer": ("_target_", "dropout"),
    "memory_attention.layer.self_attention": _ATTENTION,
    "memory_attention.layer.cross_attention": _ATTENTION,
    "memory_encoder": ("_target_", "position_encoding", "in_dim"),
    "memory_encoder.mask_downsampler": ("_target_", "embed_dim", "activation"),
    "memory_encoder.fuser": ("_target_", "dim", "input_projection"),
    "memory_encoder.fuser.layer": ("_target_", "drop_path", "layer_scale_init_value"),
    "image_encoder.trunk": ("_target_", "drop_path_rate", "weights_path", "return_interm_layers"),
}
# A section that the official code does not read: what its own settings cannot say.
OWN = "sam21convert"
UNKNOWN = "unknown"
# The settings that differ between models: fields of ModelConfig, by their names in the file.
_READ = {
    *("image_size", "num_maskmem", "max_obj_ptrs_in_encoder", "memory_attention.num_layers"),
    *("sigmoid_scale_for_mem_enc", "sigmoid_bias_for_mem_enc", "multimask_output_in_sam"),
    *("multimask_output_for_tracking", "multimask_min_pt_num", "multimask_max_pt_num"),
    *("image_encoder.neck.d_model", "image_encoder.neck.fpn_top_down_levels"),
    *("image_encoder.neck.backbone_channel_list", "memory_attention.layer.dim_feedforward"),
    *("memory_attention.d_model", "memory_attention.layer.d_model", "memory_encoder.out_dim"),
    *("memory_encoder.fuser.num_layers", "memory_encoder.fuser.layer.dim"),
    *(
        f"memory_attention.layer.{kind}_attention.{name}"
        for kind in ("self", "cross")
        for name in ("embedding_dim", "rope_theta", "rope_k_repeat", "kv_in_dim")
    ),
    *(f"image_encoder.trunk.{field.name}" for field in fields(TrunkConfig)),
}
_INTERPOLATION = re.compile(r"\$\{([\w.]+)\}")
_SCIENTIFIC = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")  # text to YAML 1.1, a number to hydra
_ABSENT: Any = object()


def recognises(content: Mapping[str, Any]) -> bool:
    """Tell the official format from the plain one.

    Args:
        content: a parsed YAML file.

    Returns:
        Whether it is the official config of a model or of a training run.
    """
    return _model_of(content) is not None


def from_hydra(content: Mapping[str, Any]) -> ModelConfig:
    """Read the config from a parsed official YAML.

    Args:
        content: the parsed file, for which :func:`recognises` holds.

    Returns:
        The config. Its multimask stability switches are those that the official builders set
        regardless of the file, unless its section ``sam21convert`` has others.

    Raises:
        ConfigError: naming the field, when the file does not describe a SAM 2.
    """
    model = _model_of(content)
    assert model is not None
    read = _Reader(content, model)
    trunk_class = read("image_encoder.trunk._target_", "Hiera")
    if not isinstance(trunk_class, str) or trunk_class.rpartition(".")[2] != "Hiera":
        raise ConfigError("image_encoder.trunk._target_", f"expected Hiera, found {trunk_class}")
    for name, expected, default in FIXED:
        found = read(name, expected if default is None else default)
        if found != expected:
            raise ConfigError(name, f"every SAM 2 has {expected}, found {shown(found)}")
    _check_widths(read)
    return ModelConfig(
        generation=_generation(read),
        image_size=read("image_size", 512),
        hidden_dim=read("image_encoder.neck.d_model"),
        trunk=_trunk(read),
        fpn_top_down_levels=read.numbers("image_encoder.neck.fpn_top_down_levels", [0, 1, 2, 3]),
        memory_attention=MemoryAttentionConfig(
            num_layers=read("memory_attention.num_layers"),
            dim_feedforward=read("memory_attention.layer.dim_feedforward"),
            rope_theta=read("memory_attention.layer.self_attention.rope_theta", 10000.0),
        ),
        memory_encoder=MemoryEncoderConfig(
            out_dim=read("memory_encoder.out_dim"),
            fuser_layers=read("memory_encoder.fuser.num_layers"),
        ),
        num_maskmem=read("num_maskmem", 7),
        max_obj_ptrs_in_encoder=read("max_obj_ptrs_in_encoder", 16),
        sigmoid_scale_for_mem_enc=read("sigmoid_scale_for_mem_enc", 1.0),
        sigmoid_bias_for_mem_enc=read("sigmoid_bias_for_mem_enc", 0.0),
        multimask_output_in_sam=read("multimask_output_in_sam", False),
        multimask_output_for_tracking=read("multimask_output_for_tracking", False),
        multimask_min_pt_num=read("multimask_min_pt_num", 1),
        multimask_max_pt_num=read("multimask_max_pt_num", 1),
        **{**BUILDERS, **_own(content, BUILDERS)},
    )


def tells_generation(content: Mapping[str, Any]) -> bool:
    """Check whether a parsed official YAML states the generation.

    Args:
        content: the parsed file.

    Returns:
        False for one that was written for a model of unknown generation: it has to state one for
        the official code, and says so in its section ``sam21convert``.
    """
    return _own(content, ("generation",)).get("generation") != UNKNOWN


def unread(content: Mapping[str, Any]) -> tuple[str, ...]:
    """Find settings that no SAM 2 has, and that are therefore not read.

    Args:
        content: a parsed file, for which :func:`recognises` holds.

    Returns:
        Dotted names of the settings of the model and of its parts that the official code does not
        take, such as those of a tracker built around SAM 2.
    """
    model = _model_of(content)
    assert model is not None
    known = {name for name, _, _ in FIXED} | {name for name, _ in GENERATION} | _READ
    found = []
    for section, arguments in ARGUMENTS.items():
        values = _lookup(model, section) if section else model
        for name in values if isinstance(values, dict) else ():
            dotted = f"{section}.{name}".lstrip(".")
            inside = any(one == dotted or one.startswith(f"{dotted}.") for one in known)
            if not inside and not any(fnmatchcase(str(name), one) for one in arguments):
                found.append(dotted)
    return tuple(found)


def _own(content: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Those of these settings that are in the section that only this package reads."""
    section = content.get(OWN)
    return {name: section[name] for name in names if isinstance(section, dict) and name in section}


def settings_in(content: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Read single settings from a parsed official YAML.

    Args:
        content: the parsed file, for which :func:`recognises` holds.
        names: dotted names below ``model``, as in ``image_encoder.scalp``.

    Returns:
        Dotted name to value, with interpolations resolved, for those of ``names`` that are set.

    Raises:
        ConfigError: when an interpolation cannot be resolved.
    """
    model = _model_of(content)
    assert model is not None
    read = _Reader(content, model)
    found = {name: read(name, None) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def _trunk(read: _Reader) -> TrunkConfig:
    where = "image_encoder.trunk"
    return TrunkConfig(
        embed_dim=read(f"{where}.embed_dim", 96),
        num_heads=read(f"{where}.num_heads", 1),
        stages=read.numbers(f"{where}.stages", [2, 3, 16, 3]),
        global_att_blocks=read.numbers(f"{where}.global_att_blocks", [12, 16, 20]),
        window_spec=read.numbers(f"{where}.window_spec", [8, 4, 14, 7]),
        window_pos_embed_bkg_spatial_size=read.numbers(
            f"{where}.window_pos_embed_bkg_spatial_size", [14, 14]
        ),
    )


def _generation(read: _Reader) -> Generation:
    found = {name: read(name, default) for name, default in GENERATION}
    if all(value is True for value in found.values()):
        return "2.1"
    if all(value is False for value in found.values()):
        return "2.0"
    differing = next(name for name in found if found[name] is not found["no_obj_embed_spatial"])
    switch = "SAM 2.1" if found["no_obj_embed_spatial"] else "SAM 2"
    raise ConfigError(
        differing,
        f"is {shown(found[differing])} while no_obj_embed_spatial is "
        f"{shown(found['no_obj_embed_spatial'])}: "
        f"in {switch} the two are equal",
    )


def _check_widths(read: _Reader) -> None:
    """Check that the widths that a file repeats in several sections agree."""
    hidden = read("image_encoder.neck.d_model")
    memory = read("memory_encoder.out_dim")
    for name, expected in (
        ("memory_attention.d_model", hidden),
        ("memory_attention.layer.d_model", hidden),
        ("memory_attention.layer.self_attention.embedding_dim", hidden),
        ("memory_attention.layer.cross_attention.embedding_dim", hidden),
        ("memory_attention.layer.cross_attention.kv_in_dim", memory),
        ("memory_encoder.fuser.layer.dim", hidden),
    ):
        found = read(name, expected)
        if found != expected:
            raise ConfigError(
                name, f"is {shown(found)}, which contradicts a width of {shown(expected)}"
            )
    channels = read("image_encoder.neck.backbone_channel_list", None)
    width = read("image_encoder.trunk.embed_dim", 96)
    if channels is not None and isinstance(width, int):
        expected_channels = [width * 8, width * 4, width * 2, width]
        if channels != expected_channels:
            raise ConfigError(
                "image_encoder.neck.backbone_channel_list",
                f"is {shown(channels)}; a trunk of embed_dim {width} gives {expected_channels}",
            )


def _model_of(content: Mapping[str, Any]) -> dict[str, Any] | None:
    trainer = content.get("trainer")
    for section in (content, trainer if isinstance(trainer, dict) else {}):
        model = section.get("model")
        if isinstance(model, dict) and "image_encoder" in model:
            return model
    return None


class _Reader:
    """Reads settings of the model by dotted name, resolving ``${...}`` within the whole file."""

    def __init__(self, content: Mapping[str, Any], model: Mapping[str, Any]) -> None:
        self._content = content
        self._model = model

    def __call__(self, name: str, default: Any = _ABSENT) -> Any:
        value = _lookup(self._model, name)
        for _ in range(8):  # an interpolation may lead to another; a limit ends circular ones
            reference = _INTERPOLATION.fullmatch(value) if isinstance(value, str) else None
            if reference is None:
                break
            value = _lookup(self._content, reference[1])
            if value is _ABSENT:
                raise ConfigError(name, f"refers to {reference[1]}, which the file does not hold")
        if isinstance(value, str) and "${" in value:
            raise ConfigError(name, "cannot resolve its interpolation: write its value instead")
        if value is _ABSENT and default is _ABSENT:
            raise ConfigError(name, "is missing")
        if isinstance(value, str) and _SCIENTIFIC.fullmatch(value):
            return float(value)
        return default if value is _ABSENT else value

    def numbers(self, name: str, default: list[int]) -> tuple[int, ...]:
        value = self(name, default)
        if not isinstance(value, list):
            raise ConfigError(name, f"expected a list of whole numbers, found {shown(value)}")
        return tuple(value)


def _lookup(tree: Mapping[str, Any], name: str) -> Any:
    value: Any = tree
    for segment in name.split("."):
        if not isinstance(value, dict) or segment not in value:
            return _ABSENT
        value = value[segment]
    return value
