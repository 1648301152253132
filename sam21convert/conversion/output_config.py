"""The config that is written with a conversion, and where it is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..checkpoint.identify import IdentifiedCheckpoint
from ..checkpoint.open import Checkpoint
from ..config.beside import Beside, beside, read_sam2_json
from ..config.load import load_config
from ..config.registry import shipped_config, shipped_like
from ..dialects import TIMM
from ..dialects.rules import Dialect
from ..errors import Sam21ConvertError, UsageError
from ..io.source import CONFIG, FOLDERS, Container
from ..model.config import ConfigError, Generation, ModelConfig


def told_by_tensors(
    destination: Path,
    complete: IdentifiedCheckpoint,
    dialect: Dialect,
    generation: Generation | None,
) -> bool:
    """Whether a file is read as the same model from its tensors alone, whatever their config.

    Args:
        destination: the file.
        complete: the checkpoint that decides the model.
        dialect: the dialect to write.
        generation: the generation to write.

    Returns:
        True if they are those of a shipped model and nothing beside the file says another, so that
        there is no need to read the config.
    """
    shipped = complete.shipped
    return (
        complete.config is None
        and shipped is not None
        and shipped.generation == generation
        and dialect.task == "video"
        and beside(destination) == Beside(None, ())
    )


def yaml_beside(
    destination: Path, config: ModelConfig, dialect: Dialect, generation: Generation | None
) -> Path | None:
    """Decide whether a YAML must be written beside a file, for it to be read as the same model.

    Args:
        destination: the file.
        config: the config of its model.
        dialect: the dialect to write.
        generation: the generation to write; None when nothing tells it.

    Returns:
        The YAML to write; None if the tensors alone, or the YAML that is already there, say the
        same.

    Raises:
        UsageError: when the ``config.json`` of the folder would be read with the file, and says
            otherwise.
    """
    found = beside(destination)
    if found.json is not None and _differs(found.json, config):
        raise UsageError(
            f"{destination}: {found.json.name} beside it would be read with it, and describes "
            "another model",
            hint="write it to another folder",
        )
    path = destination.with_suffix(".yaml")
    if found.yamls:
        return path if any(_differs(one, config) for one in found.yamls) else None
    shipped = shipped_like(config)
    assumed = None if shipped is None else shipped_config(shipped.name)
    untold = dialect.task != "video" and generation is not None
    return path if untold or config != assumed else None


def _differs(path: Path, config: ModelConfig) -> bool:
    """Whether a file does not say the same as a config."""
    try:
        if path.suffix == ".json" and read_sam2_json(path) is None:
            return False
        return load_config(path) != config
    except Sam21ConvertError:
        return True


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
        The config. For a file None, unless the source or its base states a config, or a size is
        asked for.

    Raises:
        UsageError: when the model cannot have this image size.
    """
    stated = any(one.config is not None for one in (checkpoint, complete))
    if not stated and size is None and container not in FOLDERS:
        return None
    config = checkpoint.model_config
    if complete is not checkpoint:
        config = _completed(checkpoint, complete.model_config)
    config = replace(config, generation=generation or config.generation)
    try:
        return config if size is None else replace(config, image_size=size)
    except ConfigError as error:
        raise UsageError(f"`image_size`: {error.problem}") from error


def tells_trunk_alone(checkpoint: Checkpoint) -> bool:
    """Whether the config of a checkpoint says nothing about the rest of the model.

    Args:
        checkpoint: the checkpoint.

    Returns:
        True for a folder of timm, whose other settings are assumed.
    """
    return checkpoint.dialect is TIMM and checkpoint.config_from == CONFIG


def _completed(checkpoint: Checkpoint, base: ModelConfig) -> ModelConfig:
    """The config of the base, with what the config of a part states about that part."""
    config = checkpoint.config
    if config is None:
        return base
    if tells_trunk_alone(checkpoint):
        return replace(base, trunk=config.trunk)
    return replace(
        base,
        image_size=config.image_size,
        trunk=config.trunk,
        fpn_top_down_levels=config.fpn_top_down_levels,
        dynamic_multimask_via_stability=config.dynamic_multimask_via_stability,
        dynamic_multimask_stability_delta=config.dynamic_multimask_stability_delta,
        dynamic_multimask_stability_thresh=config.dynamic_multimask_stability_thresh,
    )
