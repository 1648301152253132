"""The config that is written with a conversion, and where it is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..checkpoint.identify import IdentifiedCheckpoint
from ..config.plain_yaml import load_yaml
from ..config.registry import shipped_config, shipped_like
from ..errors import Sam21ConvertError, UsageError
from ..io.source import FOLDERS, Container
from ..model.config import ConfigError, Generation, ModelConfig


def yaml_beside(destination: Path, config: ModelConfig) -> Path | None:
    """Decide whether a YAML must be written beside an official file.

    Args:
        destination: the file.
        config: the config of its model.

    Returns:
        The YAML to write; None if a shipped config, or the YAML that is already there, says the
        same.
    """
    shipped = shipped_like(config)
    if shipped is not None and shipped_config(shipped.name) == config:
        return None
    path = destination.with_suffix(".yaml")
    try:
        return None if load_yaml(path) == config else path
    except Sam21ConvertError:
        return path


def written_config(
    checkpoint: IdentifiedCheckpoint,
    complete: IdentifiedCheckpoint,
    container: Container,
    generation: Generation | None,
    size: int | None,
) -> ModelConfig | None:
    """Find the config to write.

    Args:
        checkpoint: the checkpoint to convert.
        complete: the base that completes it, or the checkpoint itself.
        container: the container to write.
        generation: the generation to write; None keeps that of the config.
        size: the image size that was asked for, in pixels.

    Returns:
        The config. For a file None, unless the source states a config or a size is asked for.

    Raises:
        UsageError: when the model cannot have this image size.
    """
    config = checkpoint.config
    if container in FOLDERS or size is not None:
        config = checkpoint.model_config
    if complete is not checkpoint and config is not None:
        config = _with_memory(checkpoint.config, complete.model_config)
    if config is None:
        return None
    config = replace(config, generation=generation or config.generation)
    try:
        return config if size is None else replace(config, image_size=size)
    except ConfigError as error:
        raise UsageError(f"`image_size`: {error.problem}") from error


def _with_memory(config: ModelConfig | None, base: ModelConfig) -> ModelConfig:
    """The config of the base, with what the config of a part states about that part."""
    if config is None:
        return base
    return replace(
        base,
        image_size=config.image_size,
        trunk=config.trunk,
        fpn_top_down_levels=config.fpn_top_down_levels,
        dynamic_multimask_via_stability=config.dynamic_multimask_via_stability,
        dynamic_multimask_stability_delta=config.dynamic_multimask_stability_delta,
        dynamic_multimask_stability_thresh=config.dynamic_multimask_stability_thresh,
    )
