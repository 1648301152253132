"""The official builders: published snippets run with no more than the import changed.

.. code-block:: python

    predictor = SAM2ImagePredictor(build_sam2("configs/sam2.1/sam2.1_hiera_l.yaml", checkpoint))

Arguments, their names and defaults are those of ``sam2/build_sam.py``. A config or a checkpoint may
be anything that the project reads. The only module of the model that knows the rest of the project.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import fields, replace
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..model.config import ConfigError, ModelConfig, TrackingOptions
from ..model.sam2 import SAM2
from ..model.video_predictor import SAM2VideoPredictor

_Model = TypeVar("_Model", bound=nn.Module)

# Settings by their official names, which are overrides without "model." before them.
_DECODER = "sam_mask_decoder_extra_args"
_ARCHITECTURE = (
    "image_size",
    "num_maskmem",
    "max_obj_ptrs_in_encoder",
    "sigmoid_scale_for_mem_enc",
    "sigmoid_bias_for_mem_enc",
    "multimask_output_in_sam",
    "multimask_output_for_tracking",
    "multimask_min_pt_num",
    "multimask_max_pt_num",
)
_STABILITY = {
    f"{_DECODER}.dynamic_multimask_via_stability": True,
    f"{_DECODER}.dynamic_multimask_stability_delta": 0.05,
    f"{_DECODER}.dynamic_multimask_stability_thresh": 0.98,
}
_WITHOUT_STABILITY = {**_STABILITY, f"{_DECODER}.dynamic_multimask_via_stability": False}
FOR_VIDEO: Mapping[str, Any] = {"binarize_mask_from_pts_for_mem_enc": True, "fill_hole_area": 8}
_TRACKING = tuple(field.name for field in fields(TrackingOptions))
# The rotary embedding follows the image size by itself, in the official code as well.
_WITHOUT_EFFECT = tuple(
    f"memory_attention.layer.{which}_attention.feat_sizes" for which in ("self", "cross")
)
_OVERRIDE = re.compile(r"\+{0,2}model\.([\w.]+)=(.*)", re.DOTALL)


def build_sam2(
    config_file: str | Path | None,
    ckpt_path: str | Path | None = None,
    device: str | torch.device = "cuda",
    mode: str = "eval",
    hydra_overrides_extra: Iterable[str] = (),
    apply_postprocessing: bool = True,
    **kwargs: Any,
) -> SAM2:
    """The model, in float32; without a checkpoint its weights are torch's initial ones.

    ``config_file`` is an official name (``configs/sam2.1/sam2.1_hiera_l.yaml``), a YAML file or a
    ``config.json``; None takes what the checkpoint says. ``hydra_overrides_extra`` are settings
    such as ``++model.image_size=512``; memory attention follows the image size by itself.

    With ``apply_postprocessing`` a single mask that is not stable gives way to the best of three,
    whatever config and overrides say. Without it that is off, unless they turn it on: an official
    YAML or an override, that is, for this project's own configs state what the builder sets.

    An image model (transformers' ``Sam2Model``), which has no memory, is taken too. Other
    ``kwargs`` are ignored. Raises :class:`UsageError` for an override that is not known or
    not possible, else as :func:`~sam21convert.load_model` does.
    """
    known = (*_ARCHITECTURE, *_STABILITY)
    settings = _settings(known, config_file, hydra_overrides_extra)
    if apply_postprocessing:
        settings |= _STABILITY
    return _build(SAM2, config_file, ckpt_path, device, mode, settings, images_only=True)


def build_sam2_video_predictor(
    config_file: str | Path | None,
    ckpt_path: str | Path | None = None,
    device: str | torch.device = "cuda",
    mode: str = "eval",
    hydra_overrides_extra: Iterable[str] = (),
    apply_postprocessing: bool = True,
    vos_optimized: bool = False,
    **kwargs: Any,
) -> SAM2VideoPredictor:
    """The video predictor; all as for :func:`build_sam2`.

    Overrides may name the fields of :class:`TrackingOptions` too. ``apply_postprocessing`` also
    makes memories of prompted masks binary and fills holes of up to 8 pixels. ``vos_optimized``
    compiles the parts of the model, which takes minutes when they first run.
    """
    known = (*_ARCHITECTURE, *_STABILITY, *_TRACKING)
    settings = _settings(known, config_file, hydra_overrides_extra)
    if apply_postprocessing:
        settings |= {**_STABILITY, **FOR_VIDEO}
    with _naming_overrides():
        options = TrackingOptions(**{n: settings.pop(n) for n in _TRACKING if n in settings})
    predictor = _build(
        lambda config: SAM2VideoPredictor(config, options),
        config_file,
        ckpt_path,
        device,
        mode,
        settings,
    )
    if vos_optimized:
        _compile(predictor)
    return predictor


def build_sam2_hf(model_id: str | Path, **kwargs: Any) -> SAM2:
    """:func:`build_sam2` of a Hugging Face id, ``org/name`` or ``org/name@revision``.

    Not only of the official eight: any repository with one checkpoint, and a local path too.
    ``kwargs`` are those of :func:`build_sam2`; what is raised:
    :func:`sam21convert.hub.fetch`.
    """
    from ..hub.fetch import fetch

    checkpoint, config = fetch(model_id)
    return build_sam2(config, checkpoint, **kwargs)


def build_sam2_video_predictor_hf(model_id: str | Path, **kwargs: Any) -> SAM2VideoPredictor:
    """:func:`build_sam2_video_predictor` of what :func:`build_sam2_hf` takes."""
    from ..hub.fetch import fetch

    checkpoint, config = fetch(model_id)
    return build_sam2_video_predictor(config, checkpoint, **kwargs)


def _settings(
    known: tuple[str, ...], config_file: str | Path | None, overrides: Iterable[str]
) -> dict[str, Any]:
    """What config and overrides say of settings that the config's own fields do not hold."""
    from ..config.plain_yaml import settings_in
    from ..errors import UsageError

    settings: dict[str, Any] = dict(_WITHOUT_STABILITY)
    if config_file is not None:
        settings |= settings_in(config_file, set(known) - set(_ARCHITECTURE))
    for name, value in map(_parse, overrides):
        if name in known:
            settings[name] = value
        elif name not in _WITHOUT_EFFECT:
            raise UsageError(
                f"hydra_overrides_extra: no setting is called model.{name}",
                hint=f"after model. may stand: {', '.join(sorted(known))}",
            )
    return settings


def _parse(override: str) -> tuple[str, bool | int | float | str]:
    """The name and the value in ``++model.name=value``; whether they fit is seen later."""
    from ..errors import UsageError

    hit = _OVERRIDE.fullmatch(override)
    if hit is None:
        raise UsageError(
            f"hydra_overrides_extra: {override!r} is not of the form ++model.NAME=VALUE",
            hint="for example ++model.image_size=512",
        )
    name, text = hit[1], hit[2].strip()
    if text.lower() in ("true", "false"):
        return name, text.lower() == "true"
    for kind in (int, float):
        with suppress(ValueError):
            return name, kind(text)
    return name, text


@contextmanager
def _naming_overrides() -> Iterator[None]:
    """A setting that is known and impossible comes from an override, or from an official YAML."""
    from ..errors import UsageError

    try:
        yield
    except ConfigError as error:
        raise UsageError(f"hydra_overrides_extra or config_file: {error}") from error


def _build(
    make: Callable[[ModelConfig], _Model],
    config_file: str | Path | None,
    ckpt_path: str | Path | None,
    device: str | torch.device,
    mode: str,
    settings: Mapping[str, Any],
    *,
    images_only: bool = False,
) -> _Model:
    from ..config.load import load_config
    from ..errors import UsageError
    from .load import load_onto

    changes = {name.removeprefix(f"{_DECODER}."): value for name, value in settings.items()}

    def change(config: ModelConfig) -> ModelConfig:
        with _naming_overrides():
            return replace(config, **changes)

    if ckpt_path is not None:
        model, _ = load_onto(
            make,
            ckpt_path,
            config_file,
            change=change,
            device=device,
            dtype=torch.float32,
            images_only=images_only,
        )
    elif config_file is not None:
        with torch.device(device):
            model = make(change(load_config(config_file)))
    else:
        raise UsageError("neither config_file nor ckpt_path: there is nothing to build")
    return model.train(mode != "eval")


def _compile(model: SAM2) -> None:
    """Compile the parts that ``SAM2VideoPredictorVOS`` does, in the same way."""
    for part, dynamic in (
        (model.image_encoder, False),
        (model.memory_encoder, False),
        (model.memory_attention, True),  # the number of memories varies
        (model.sam_prompt_encoder, False),
        (model.sam_mask_decoder, False),
    ):
        run = torch.compile(part.forward, mode="max-autotune", fullgraph=True, dynamic=dynamic)
        part.forward = _owning(run)  # type: ignore[method-assign]


def _owning(run: Callable[..., Any]) -> Callable[..., Any]:
    """A compiled function's results lie where its next call writes: return copies of them."""

    def copied(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.clone()
        parts = [copied(part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)

    @wraps(run)
    def forward(*args: Any, **kwargs: Any) -> Any:
        return copied(run(*args, **kwargs))

    return forward
