"""Read a :class:`ModelConfig` from whatever describes a SAM 2 model.

Three forms are understood: this project's plain YAML (``configs/``), the official Hydra YAML (also
that of a training run), and transformers' ``config.json``.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import UsageError
from ..io.text import read_json
from ..model.config import ModelConfig
from . import registry, transformers
from .plain_yaml import load_yaml, naming


def load_config(source: str | Path) -> ModelConfig:
    """The config of a shipped name, a YAML file, a ``config.json`` or a folder that holds one.

    Raises :class:`UsageError` when there is no such name or file, :class:`UnreadableError` when it
    cannot be parsed, and :class:`RefusedError`, naming the field, when it contradicts itself or
    describes something that is not a SAM 2.
    """
    path = source if isinstance(source, Path) else Path(source)
    shipped = registry.find(str(source))
    if shipped is not None and not path.is_file():
        return registry.shipped_config(shipped.name)
    if path.is_dir():
        path = path / "config.json"
    if not path.is_file():
        names = ", ".join(shipped.name for shipped in registry.SHIPPED)
        raise UsageError(
            f"{source}: no such config", hint=f"a YAML or JSON file, or one of {names}"
        )
    return load_json(path) if path.suffix == ".json" else load_yaml(path)


def load_json(path: Path) -> ModelConfig:
    """The ``config.json`` of a transformers folder. Raises as :func:`load_config` does."""
    with naming(path):
        return transformers.from_json(read_json(path))
