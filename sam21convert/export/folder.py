"""Write the folder of an export: the graphs, their settings, and an example.

The layout is that of transformers.js: ``config.json``, ``preprocessor_config.json`` and two graphs
in ``onnx/``. What is ours beside them: the graphs for videos, ``onnx/config.json`` with all
settings of the model, ``onnx/model.safetensors`` with the tensors that no graph holds, and
``golden/``.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..config.transformers_folder import IMAGES, side_files
from ..dialects import HF_IMAGE
from ..dialects.keymap import covers
from ..io.onnx import CONFIG_OF_ALL, FOLDER, FP32, REST, VARIANTS, Variant
from ..io.source import CONFIG
from ..model.image_predictor import pixels_of
from ..model.sam2 import SAM2, ImageFeatures
from ..report import Progress
from .check import Checked, check
from .golden import Apart, Golden, Pixels, measure
from .graphs import Graph, PromptDecoder, VisionEncoder
from .runtime.model import Features
from .video_graphs import VIDEO_GRAPHS
from .write import export, save

_SHARED = "no_obj_ptr"  # in a graph, and needed outside it: where a given mask is empty


@dataclass(frozen=True)
class ExportedFile:
    """A graph that was written.

    Attributes:
        name: Its path in the folder.
        variant: How its numbers are stored.
        bytes: Its size.
        apart: The largest difference of an output from the model's, relative to its scale, over
            all sizes that were tried; the image encoder is given the picture of the example, the
            others random inputs.
    """

    name: str
    variant: str
    bytes: int
    apart: float


@dataclass(frozen=True)
class WrittenGraph:
    """The files of a graph.

    Attributes:
        files: What was written, the exact one first.
        held: Names of the tensors that the graph holds.
        checked: What the files gave.
    """

    files: tuple[ExportedFile, ...]
    held: set[str]
    checked: Checked


@dataclass(frozen=True)
class Written:
    """What a folder was filled with.

    Attributes:
        graphs: The graphs.
        others: Paths of the other files.
        golden: How far each variant is from the model, on the example.
    """

    graphs: tuple[ExportedFile, ...]
    others: tuple[str, ...]
    golden: tuple[Apart, ...]


def write_folder(
    model: SAM2,
    folder: Path,
    variants: Sequence[Variant],
    metadata: Mapping[str, str],
    progress: Progress,
    picture: Pixels,
    point: tuple[float, float],
    *,
    with_video: bool,
) -> Written:
    """Fill a folder, and run every file before it counts as written.

    Args:
        model: The model, in evaluation mode and float32.
        folder: An empty folder.
        variants: Keys of ``VARIANTS``. Graphs for videos are written in float32 only.
        metadata: Where the model comes from, for the metadata of each graph.
        progress: Told of each graph.
        picture: The picture of the example, ``S x S x 3`` bytes.
        point: The point on it, x and y as shares of the side.
        with_video: Whether the graphs for videos are written.

    Returns:
        What was written.

    Raises:
        MismatchError: If a graph in float32 computes something else than the model.
    """
    (folder / FOLDER).mkdir()
    videos = VIDEO_GRAPHS if with_video else ()
    progress.start("exporting", 2 * (2 + len(videos)))
    encoder = VisionEncoder(model, pixels_of(picture, model.image_size), frames=with_video)
    first = write_graph(encoder, folder, f"{FOLDER}/{encoder.file}", variants, metadata, progress)
    files, held = [*first.files], {*first.held}
    for kind in (PromptDecoder, *videos):
        graph, own = kind(model), variants if kind is PromptDecoder else (FP32,)
        made = write_graph(graph, folder, f"{FOLDER}/{graph.file}", own, metadata, progress)
        files += made.files
        held |= made.held
    fine, middle, embedding, *_ = first.checked.wanted
    golden = Golden.of(model, picture, point, ImageFeatures(embedding, (fine, middle)))
    others = (*_settings(model, folder, held, with_video=with_video), *golden.write(folder))
    apart = [measure(golden, folder, one, Features(*first.checked.given[one])) for one in variants]
    return Written(tuple(files), others, tuple(apart))


def write_graph(
    graph: Graph,
    folder: Path,
    stem: str,
    variants: Sequence[Variant],
    metadata: Mapping[str, str],
    progress: Progress,
) -> WrittenGraph:
    """Write a graph in each variant, and run the files at several sizes.

    Args:
        graph: The graph.
        folder: The folder to fill.
        stem: The path of the graph in it, without what tells the variant.
        variants: Keys of ``VARIANTS``.
        metadata: Where the model comes from.
        progress: Told of two steps.

    Returns:
        What was written.

    Raises:
        MismatchError: If a graph in float32 computes something else than the model.
        UsageError: If the installed version of torch cannot export it.
    """
    progress.advance(0, graph.file)
    # The others are made of the exact one by changing it, so that comes first.
    names = {one: f"{stem}{end}.onnx" for one, end in VARIANTS.items() if one in variants}
    files = {variant: folder / name for variant, name in names.items()}
    held = _save_all(graph, files, {**metadata, "graph": graph.file})
    gc.collect()  # programs are in circles, and as large as the model
    progress.advance(1, f"running {graph.file}")
    checked = check(graph, files)
    progress.advance(1)
    facts = (
        ExportedFile(names[one], one, path.stat().st_size, checked.apart[one])
        for one, path in files.items()
    )
    return WrittenGraph(tuple(facts), held, checked)


def _save_all(graph: Graph, files: Mapping[str, Path], metadata: Mapping[str, str]) -> set[str]:
    """Write a graph in each variant, and return the names of the tensors that it holds."""
    program = export(graph.eval())
    held = {*program.model.graph.initializers}
    for variant, path in files.items():
        save(program, path, variant, metadata)
    return held


def _settings(model: SAM2, folder: Path, held: set[str], *, with_video: bool) -> Iterator[str]:
    """Write the settings, and the tensors of the image or video model that no graph holds."""
    from safetensors.torch import save as to_bytes

    config = model.config
    plain = side_files(config, "sam2", "float32", generation=True)
    for name in (CONFIG, IMAGES):
        (folder / name).write_text(plain[name], encoding="utf-8", newline="\n")
        yield name
    home = folder / FOLDER
    whole = side_files(config, "sam2_video", "float32", generation=True)[CONFIG]
    (home / CONFIG_OF_ALL).write_text(whole, encoding="utf-8", newline="\n")
    yield f"{FOLDER}/{CONFIG_OF_ALL}"
    rest = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if (name not in held and (with_video or covers(HF_IMAGE, name)))
        or (with_video and name == _SHARED)
    }
    content = to_bytes({name: tensor.contiguous() for name, tensor in rest.items()})
    (home / REST).write_bytes(content)  # save_file would write for nobody else to read
    yield f"{FOLDER}/{REST}"
