"""The official builders: published snippets run with only their import changed.

.. code-block:: python

    predictor = SAM2ImagePredictor(build_sam2("configs/sam2.1/sam2.1_hiera_l.yaml", checkpoint))

Arguments, their names and defaults are those of ``sam2/build_sam.py``, except that the default
device is a GPU only if there is one. A config or a checkpoint may be in any format that this
package reads.
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

from ..config.hydra import BUILDERS, VIDEO_BUILDERS
from ..model.config import ConfigError, ModelConfig, TrackingOptions
from ..model.keywords import keywords_of, nearest, warn, warn_of_unknown
from ..model.sam2 import SAM2
from ..model.video_predictor import SAM2VideoPredictor
from ..report import one_line

_Model = TypeVar("_Model", bound=nn.Module)

# Settings by their official names: what an override names after "model.".
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
_STABILITY = {f"{_DECODER}.{name}": value for name, value in BUILDERS.items()}
_WITHOUT_STABILITY = {**_STABILITY, f"{_DECODER}.dynamic_multimask_via_stability": False}
_TRACKING = tuple(field.name for field in fields(TrackingOptions))
# Accepted and ignored: the rotary embedding adapts to the image size when the model runs, in the
# official code as well.
_WITHOUT_EFFECT = tuple(
    f"memory_attention.layer.{which}_attention.feat_sizes" for which in ("self", "cross")
)
_OVERRIDE = re.compile(r"\+{0,2}model\.([\w.]+)=(.*)", re.DOTALL)


def build_sam2(
    config_file: str | Path | None,
    ckpt_path: str | Path | None = None,
    device: str | torch.device = "auto",
    mode: str = "eval",
    hydra_overrides_extra: Iterable[str] = (),
    apply_postprocessing: bool = True,
    *,
    image_size: int | None = None,
    **kwargs: Any,
) -> SAM2:
    """Build the model in float32 and load a checkpoint into it.

    With ``apply_postprocessing`` a single mask that is not stable is replaced by the best of three
    candidates, whatever the config and the overrides say. Without it this is off, unless an
    override or an official YAML turns it on. This package's own configs do not turn it on: they
    only state what the builder sets.

    Args:
        config_file: An official name (``configs/sam2.1/sam2.1_hiera_l.yaml``), a YAML file or a
            ``config.json``; None uses the config that belongs to the checkpoint.
        ckpt_path: Any checkpoint that :func:`~sam21convert.load_model` takes, or an image model
            (transformers' ``Sam2Model``), which has no memory. None leaves the initial weights of
            torch.
        device: The device of the model, as torch names it; ``"auto"`` means a GPU if there is one.
        mode: ``"eval"`` for evaluation mode; any other text for training mode.
        hydra_overrides_extra: Settings such as ``++model.image_size=512``. Memory attention adapts
            to the image size by itself.
        apply_postprocessing: Whether to set what the official builder sets, see above.
        image_size: Side of the model's input in pixels, in place of the config's. The official
            builder has no such argument.
        **kwargs: Ignored, as in the official code, with a warning for each.

    Returns:
        The model.

    Raises:
        UsageError: If an override is unknown or has an impossible value, the device is not there,
            or both ``config_file`` and ``ckpt_path`` are None.
        Sam21ConvertError: For a checkpoint or a config, as :func:`~sam21convert.load_model` does.
    """
    warn_of_unknown("build_sam2", kwargs, keywords_of(build_sam2))
    known = (*_ARCHITECTURE, *_STABILITY)
    settings = _settings(known, config_file, hydra_overrides_extra, image_size)
    if apply_postprocessing:
        settings |= _STABILITY
    return _build(SAM2, config_file, ckpt_path, device, mode, settings, images_only=True)


def build_sam2_video_predictor(
    config_file: str | Path | None,
    ckpt_path: str | Path | None = None,
    device: str | torch.device = "auto",
    mode: str = "eval",
    hydra_overrides_extra: Iterable[str] = (),
    apply_postprocessing: bool = True,
    vos_optimized: bool = False,
    *,
    image_size: int | None = None,
    **kwargs: Any,
) -> SAM2VideoPredictor:
    """Build the video predictor in float32 and load a checkpoint into it.

    Args:
        config_file: As for :func:`build_sam2`.
        ckpt_path: As for :func:`build_sam2`, but not an image model.
        device: As for :func:`build_sam2`.
        mode: As for :func:`build_sam2`.
        hydra_overrides_extra: As for :func:`build_sam2`; settings may also be the fields of
            :class:`TrackingOptions`.
        apply_postprocessing: As for :func:`build_sam2`; it also makes the memories of prompted
            masks binary and fills holes of up to 8 pixels.
        vos_optimized: Whether to compile the parts of the model, which takes minutes on their first
            call.
        image_size: As for :func:`build_sam2`.
        **kwargs: As for :func:`build_sam2`.

    Returns:
        The predictor, which is also the model.

    Raises:
        Sam21ConvertError: As :func:`build_sam2` does.
    """
    build = build_sam2_video_predictor
    warn_of_unknown("build_sam2_video_predictor", kwargs, keywords_of(build))
    known = (*_ARCHITECTURE, *_STABILITY, *_TRACKING)
    settings = _settings(known, config_file, hydra_overrides_extra, image_size)
    if apply_postprocessing:
        settings |= {**_STABILITY, **VIDEO_BUILDERS}
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


def build_sam2_hf(model_id: str | Path, *, image_size: int | None = None, **kwargs: Any) -> SAM2:
    """Build the model from a repository of the Hugging Face Hub, as :func:`build_sam2` does.

    Args:
        model_id: ``org/name`` or ``org/name@revision``: one of the official eight or any other
            repository with one checkpoint. A local path works too.
        image_size: As for :func:`build_sam2`.
        **kwargs: Those of :func:`build_sam2`, except for the config and the checkpoint.

    Returns:
        The model.

    Raises:
        Sam21ConvertError: As :func:`sam21convert.hub.fetch.fetch` and :func:`build_sam2` do.
    """
    from ..hub.fetch import fetch

    checkpoint, config = fetch(model_id)
    return build_sam2(config, checkpoint, image_size=image_size, **kwargs)


def build_sam2_video_predictor_hf(
    model_id: str | Path, *, image_size: int | None = None, **kwargs: Any
) -> SAM2VideoPredictor:
    """Build the video predictor from a repository of the Hugging Face Hub.

    Args:
        model_id: As for :func:`build_sam2_hf`.
        image_size: As for :func:`build_sam2`.
        **kwargs: Those of :func:`build_sam2_video_predictor`, except for the config and the
            checkpoint.

    Returns:
        The predictor, which is also the model.

    Raises:
        Sam21ConvertError: As :func:`build_sam2_hf` does.
    """
    from ..hub.fetch import fetch

    checkpoint, config = fetch(model_id)
    return build_sam2_video_predictor(config, checkpoint, image_size=image_size, **kwargs)


def _settings(
    known: tuple[str, ...],
    config_file: str | Path | None,
    overrides: Iterable[str],
    image_size: int | None,
) -> dict[str, Any]:
    """The settings of overrides, and those of the YAML that :class:`ModelConfig` does not hold."""
    from ..config.plain_yaml import settings_in, unread_settings
    from ..errors import UsageError

    settings: dict[str, Any] = dict(_WITHOUT_STABILITY)
    if config_file is not None:
        settings |= settings_in(config_file, set(known) - set(_ARCHITECTURE))
        for name in unread_settings(config_file):
            warn(f"{config_file}: SAM 2 has no setting model.{one_line(name)}, so it has no effect")
    for name, value in map(_parse, overrides):
        if name in known:
            settings[name] = value
        elif name not in _WITHOUT_EFFECT:
            raise UsageError(
                f"hydra_overrides_extra: unknown setting model.{name}{nearest(name, known)}",
                hint=f"settings after model.: {', '.join(sorted(known))}",
            )
    if image_size is not None:
        overridden = settings.setdefault("image_size", image_size)
        if overridden != image_size:
            raise UsageError(
                f"image_size is {image_size}, and {overridden} in hydra_overrides_extra",
                hint="give it once",
            )
    return settings


def _parse(override: str) -> tuple[str, bool | int | float | str]:
    """The name and the value in ``++model.name=value``, not yet checked against the config."""
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
    """Report an impossible value: it comes from an override or from an official YAML."""
    from ..errors import UsageError

    try:
        yield
    except ConfigError as error:
        raise UsageError(f"hydra_overrides_extra, config_file or image_size: {error}") from error


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
    from ..config.skeleton import undrawn
    from ..errors import UsageError
    from .devices import place_model
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
        place, config = place_model(device), change(load_config(config_file))
        with undrawn() if place == "meta" else torch.device(place):
            model = make(config)
    else:
        raise UsageError("expected `config_file` or `ckpt_path`, or both; both are None")
    return model.train(mode != "eval")


def _compile(model: SAM2) -> None:
    """Compile the same parts as ``SAM2VideoPredictorVOS``, in the same way."""
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
    """Return copies of the results: the next call of a compiled function overwrites its outputs."""

    def copied(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.clone()
        parts = [copied(part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)

    @wraps(run)
    def forward(*args: Any, **kwargs: Any) -> Any:
        return copied(run(*args, **kwargs))

    return forward
