"""Read a :class:`ModelConfig` from any file that describes a SAM 2 model.

Three formats are understood: the plain YAML of this project (``configs/``), the official Hydra YAML
(of a model or of a training run), and the ``config.json`` of transformers.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import MissingFileError, did_you_mean, nearest
from ..io.nearby import expanded, nearby, there
from ..io.text import read_json
from ..model.config import ModelConfig
from . import registry, transformers
from .plain_yaml import load_yaml, naming


def load_config(source: str | Path) -> ModelConfig:
    """Load a config by its shipped name or from a file.

    Args:
        source: a shipped name as :func:`~.registry.find` takes it, a YAML file, a ``config.json``,
            or a folder that holds a ``config.json``. A file that exists is preferred to a name.

    Returns:
        The config.

    Raises:
        MissingFileError: when there is no such name or file.
        UnreadableError: when the file cannot be parsed.
        RefusedError: naming the field, when the file contradicts itself or describes something
            that is not a SAM 2.

    Example:
        >>> sam21convert.load_config("sam2.1/sam2.1_hiera_t").trunk.embed_dim
        96
    """
    path = expanded(source if isinstance(source, Path) else Path(source))
    shipped = registry.find(str(source))
    if shipped is not None and not path.is_file():
        return registry.shipped_config(shipped.name)
    if path.is_dir():
        path = path / "config.json"
    if not there(path):
        names = [shipped.name for shipped in registry.SHIPPED]
        near = [str(other) for other in nearby(path)] or nearest(str(source), names)
        raise MissingFileError(
            f"{source}: no such config",
            hint=did_you_mean(near, f"give a YAML or JSON file, or one of {', '.join(names)}"),
        )
    return load_json(path) if path.suffix == ".json" else load_yaml(path)


def load_json(path: Path) -> ModelConfig:
    """Load the ``config.json`` of a transformers folder.

    Args:
        path: the file itself.

    Returns:
        The config.

    Raises:
        UnreadableError: when the file is not a JSON object.
        RefusedError: naming the field, when it is not the config of a SAM 2.
    """
    with naming(path):
        return transformers.from_json(read_json(path))
