"""The config beside a checkpoint that is named by its file.

A file of tensors does not tell the image size, and many other things. ``convert`` writes what it
knows of them to ``NAME.yaml`` beside ``NAME.pt``; transformers and timm write it to ``config.json``
in the folder of their weights.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import Any

from ..errors import RefusedError, Sam21ConvertError
from ..io.source import CONFIG
from ..io.text import read_json
from ..model.config import ModelConfig
from .load import load_json
from .plain_yaml import load_yaml

YAML = (".yaml", ".yml")
_CHECKPOINTS = {".bin", ".ckpt", ".pt", ".pth", ".safetensors"}
# What transformers, accelerate and timm call the weights that their config.json describes.
_WEIGHTS = re.compile(r"(?:pytorch_)?model(?:[._-].+)?\.(?:safetensors|bin)(?:\.index.*\.json)?")
_LISTED = 20  # YAML files of other names that are looked into, as there may be many


@dataclass(frozen=True)
class Beside:
    """The configs that lie beside a checkpoint file.

    Attributes:
        json: the ``config.json`` of its folder, if this file is the weights of the folder.
        yamls: the YAML files with its name.
    """

    json: Path | None
    yamls: tuple[Path, ...]


def beside(file: Path) -> Beside:
    """Find the configs that belong to a checkpoint file, by their names.

    Args:
        file: the file, on this machine or on the Hub; it need not exist.

    Returns:
        The paths of the configs.
    """
    names: list[str] = []
    with suppress(OSError):
        names = [path.name for path in file.parent.iterdir()]
    json, *yamls = (file.parent / name for name in (CONFIG, *_yamls_of(file.name)))
    found = names_beside(file.name, names)
    return Beside(
        json if CONFIG in found and json.is_file() else None,
        tuple(path for path in yamls if path.name in found and path.is_file()),
    )


def names_beside(file: str, names: Collection[str]) -> list[str]:
    """Tell which files of a folder are the configs of a checkpoint in it.

    Args:
        file: the name of the checkpoint.
        names: the names of all files in its folder.

    Returns:
        The names of its configs: ``config.json`` is that of the weights of its folder, which are
        those with the name that the libraries give to weights, or else the only checkpoint there.
        A YAML has the name of the checkpoint.
    """
    there = [name for name in names if PurePath(name).suffix in _CHECKPOINTS]
    of_folder = _WEIGHTS.fullmatch(file) or there in ([], [file])
    own = [name for name in _yamls_of(file) if name in names]
    return [*([CONFIG] if of_folder and CONFIG in names else []), *own]


def _yamls_of(file: str) -> list[str]:
    return [PurePath(file).with_suffix(ending).name for ending in YAML]


def configs_of_others(file: Path) -> Iterator[tuple[Path, ModelConfig]]:
    """Find the configs in the folder of a checkpoint file that do not belong to it.

    Args:
        file: the file.

    Yields:
        Path and config of ``config.json``, if it is not known to be that of the file, and of each
        YAML file that does not have the name of a checkpoint there, in the order of their names, if
        it describes a SAM 2.
    """
    paths = sorted(file.parent.iterdir(), key=lambda path: path.name)
    json = file.parent / CONFIG
    if json in paths and beside(file).json is None:
        with suppress(Sam21ConvertError):
            if read_sam2_json(json):
                yield json, load_json(json)
    own = {path.stem for path in paths if path.suffix in _CHECKPOINTS}
    yamls = [path for path in paths if path.suffix in YAML]
    for path in [path for path in yamls if path.stem not in {*own, file.stem}][:_LISTED]:
        try:
            yield path, load_yaml(path)
        except Sam21ConvertError:
            continue  # a YAML of something else


def read_sam2_json(path: Path) -> dict[str, Any] | None:
    """Read a ``config.json`` that lies beside a file, if it is one that describes SAM 2.

    Args:
        path: the file.

    Returns:
        Its content; None when it is the config of something else.

    Raises:
        UnreadableError: when it is not a JSON object.
        RefusedError: when it is too large for a config.
    """
    content = read_json(path)
    architecture = str(content.get("architecture", ""))
    of_sam2 = content.get("model_type") in ("sam2", "sam2_video")
    return content if of_sam2 or architecture.startswith("sam2_hiera") else None


def refuse_contradiction(
    file: Path, one: tuple[Path, ModelConfig], other: tuple[Path, ModelConfig]
) -> None:
    """Check that two configs beside a checkpoint file agree.

    Args:
        file: the checkpoint file.
        one: path and content of a config.
        other: path and content of another.

    Raises:
        RefusedError: naming a field in which they differ, with both values.
    """
    first, second = dict(_flat(asdict(one[1]))), dict(_flat(asdict(other[1])))
    for field, value in first.items():
        if second[field] != value:
            raise RefusedError(
                f"{file}: two configs beside it contradict each other: {field} is {value} in "
                f"{one[0].name} and {second[field]} in {other[0].name}",
                hint=" or ".join(f"`config={shlex.quote(str(path))}`" for path, _ in (one, other))
                + " chooses one",
            )


def _flat(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted name and value of each leaf."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", list(value) if isinstance(value, tuple) else value
