"""Folders that hold an exported model: what a page needs to know of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from ...errors import RefusedError, UnreadableError, call_of
from ...io.folder import export_in, find_weights, list_folder
from ...io.nearby import missing
from ...io.onnx import FOLDER as ONNX
from ...io.onnx import VARIANTS
from ...io.text import read_json
from ...report import size_text

GRAPHS = ("vision_encoder", "prompt_encoder_mask_decoder")
PROCESSOR = "preprocessor_config.json"
Colours: TypeAlias = tuple[float, float, float]  # of red, green and blue
_CONFIG = "config.json"
_GOLDEN = ("expected.json", "picture.png")


@dataclass(frozen=True)
class Variant:
    """A model in one type of numbers.

    Attributes:
        name: ``fp32``, ``fp16`` or ``q8``.
        bytes: the size of its files.
        files: graph, path in the folder and size of each: the graph before what it has outside.
    """

    name: str
    bytes: int
    files: tuple[tuple[str, str, int], ...]


@dataclass(frozen=True)
class Exported:
    """A folder that holds an exported model.

    Attributes:
        folder: the folder.
        name: what the page calls the model.
        image_size: side of the model's input in pixels.
        mean: what is subtracted from red, green and blue, which go from 0 to 1.
        std: what they are divided by.
        variants: fp32 first.
        golden: sizes of the files of the golden example; empty if there is none.
    """

    folder: Path
    name: str
    image_size: int
    mean: Colours
    std: Colours
    variants: tuple[Variant, ...]
    golden: dict[str, int]

    def files(self) -> list[str]:
        """List the files that a page takes.

        Returns:
            Their paths in the folder.
        """
        graphs = [path for variant in self.variants for _, path, _ in variant.files]
        sides = [name for name in (_CONFIG, PROCESSOR) if (self.folder / name).is_file()]
        return [*graphs, *sides, *(f"golden/{name}" for name in self.golden)]

    def __str__(self) -> str:
        sizes = ", ".join(f"{one.name} {size_text(one.bytes)}" for one in self.variants)
        return f"{self.name}: {self.image_size} pixels, {sizes}"


def read_export(folder: Path) -> Exported:
    """Read what a page needs to know of an exported model.

    Args:
        folder: A folder of the layout of transformers.js, or one that holds nothing else.

    Returns:
        What it holds. No graph is read.

    Raises:
        MissingFileError: If there is no such folder.
        RefusedError: If it is of another layout.
        UnreadableError: If a file cannot be read.
    """
    if not folder.exists():
        raise missing(folder)
    if folder.is_dir() and not (folder / ONNX).is_dir():
        folder = export_in(folder) or folder  # the only one below
    variants = tuple(_variants(folder))
    if not variants:
        raise _refused(folder, _absent(folder))
    if not (folder / PROCESSOR).is_file():
        raise _refused(folder, f"no {PROCESSOR}, which says the image size")
    side, mean, std = _processing(folder / PROCESSOR)
    sizes = {name: folder / "golden" / name for name in _GOLDEN}
    whole = all(path.is_file() for path in sizes.values())
    golden = {name: path.stat().st_size for name, path in sizes.items()} if whole else {}
    name = folder.resolve().name or "model"
    return Exported(folder, name, side, mean, std, variants, golden)


def _variants(folder: Path) -> Iterator[Variant]:
    for name, suffix in VARIANTS.items():
        paths = [folder / path for path in _paths(suffix)]
        if all(path.is_file() for path in paths):
            files = [
                (graph, f"onnx/{each.name}", each.stat().st_size)
                for graph, path in zip(GRAPHS, paths, strict=True)
                for each in (path, *sorted(path.parent.glob(f"{path.name}_data*")))
            ]
            yield Variant(name, sum(size for *_, size in files), tuple(files))


def _paths(suffix: str) -> list[str]:
    return [f"onnx/{graph}{suffix}.onnx" for graph in GRAPHS]


def _absent(folder: Path) -> str:
    """What is missing of the variant that is most complete."""
    variants = (
        [path for path in _paths(suffix) if not (folder / path).is_file()]
        for suffix in VARIANTS.values()
    )
    fewest = sorted(variants, key=len)[0]
    return f"no {' and no '.join(fewest)}"


def _refused(folder: Path, found: str) -> RefusedError:
    what = f"a folder with {found}" if folder.is_dir() else "a file"
    source = folder if folder.is_file() or _holds_weights(folder) else "SOURCE"
    return RefusedError(
        f"{folder}: expected a folder with an exported model, found {what}",
        hint=f"{call_of('convert', source, 'to=onnx')} writes one",
    )


def _holds_weights(folder: Path) -> bool:
    """Whether other commands read a folder as a checkpoint, graphs aside."""
    found = find_weights(str(folder), list_folder(folder)).weights
    return found is not None and found.container != "onnx folder"


def _processing(path: Path) -> tuple[int, Colours, Colours]:
    """Image size, mean and standard deviation of the colours."""
    content = read_json(path)
    size = content.get("size")
    sides = {size.get("height"), size.get("width")} if isinstance(size, dict) else {size}
    side = sides.pop() if len(sides) == 1 else None
    if type(side) is not int or not 16 <= side <= 16384 or side % 16:
        raise UnreadableError(f"{path}: size: expected two equal multiples of 16, found {size!r}")
    return side, _colours(path, content, "image_mean"), _colours(path, content, "image_std")


def _colours(path: Path, content: Mapping[str, Any], name: str) -> Colours:
    found = content.get(name)
    good = isinstance(found, list) and len(found) == 3
    if not good or not all(type(one) in (int, float) and one > 0 for one in found or ()):
        raise UnreadableError(f"{path}: {name}: expected three positive numbers, found {found!r}")
    red, green, blue = map(float, found or ())
    return red, green, blue


def distinct(models: tuple[Exported, ...]) -> list[str]:
    """Name the folder of each model in a site.

    Args:
        models: The models.

    Returns:
        Names without what an address would have to escape, of which no two are equal.
    """
    names: list[str] = []
    for model in models:
        plain = re.sub(r"[^A-Za-z0-9._-]", "-", model.name).strip(".") or "model"
        number = sum(other.rpartition("~")[0] == plain or other == plain for other in names)
        names.append(f"{plain}~{number + 1}" if number else plain)
    return names
