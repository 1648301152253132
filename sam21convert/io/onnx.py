"""The ONNX container: what a graph takes, gives and holds, without running or copying anything.

Follows ``onnx.proto`` (https://github.com/onnx/onnx). Weights are read of the graphs that this
package writes, in which each initialiser has the name of the tensor that it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Literal, TypeAlias

from ..errors import RefusedError, UnreadableError, unreadable
from ..report import one_line
from .protobuf import Field, WireError, fields, varint
from .safetensors import read_safetensors
from .source import Source, is_file_name, refuse_special
from .tensor import DTYPES, TensorRef, TensorSpec

FOLDER, REST, CONFIG_OF_ALL = "onnx", "model.safetensors", "config.json"
PREFIX = "sam21convert."  # of the entries that this package writes into the metadata of a graph
CONSTANT = "constant."  # begins the names of initialisers that are no tensor of the model
Variant: TypeAlias = Literal["fp32", "fp16", "q8"]
FP32: Variant = "fp32"
# Endings of the names of graphs, by how their numbers are stored.
VARIANTS: Mapping[str, str] = {FP32: "", "fp16": "_fp16", "q8": "_quantized"}

_MODEL_GRAPH, _MODEL_METADATA = 7, 14
_NODE, _INITIALIZER, _INPUT, _OUTPUT = 1, 5, 11, 12
_NODE_ATTRIBUTE, _NODE_DOMAIN = 5, 7
_ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS = (5, 10), (6, 11)
_DIMS, _TYPE, _NAME, _RAW, _EXTERNAL = 1, 2, 8, 9, 13
_TYPES = {
    1: "F32",
    2: "U8",
    3: "I8",
    4: "U16",
    5: "I16",
    6: "I32",
    7: "I64",
    9: "BOOL",
    10: "F16",
    11: "F64",
    12: "U32",
    13: "U64",
    16: "BF16",
}
_SHOWN = 100  # characters of a name that a report shows
_KNOWN_DOMAINS = ("", "ai.onnx", "com.microsoft")  # the last for what onnxruntime quantises
_MOST_TENSORS, _MOST_TEXT, _MOST_RANK, _DEEPEST = 100_000, 1 << 20, 64, 8


@dataclass(frozen=True)
class Graph:
    """What an ONNX file says about itself.

    Attributes:
        path: The file.
        inputs: Names of what goes in.
        outputs: Names of what comes out.
        metadata: Its properties.
        tensors: The weights in the file, by name; those of types that no tensor of a model has, or
            that are stored in another way than as raw bytes, are left out.
        external: Names of the files that hold weights of it.
        domains: Domains of its operators.
    """

    path: Path
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    metadata: Mapping[str, str]
    tensors: Mapping[str, TensorRef]
    external: tuple[str, ...]
    domains: tuple[str, ...]

    @property
    def is_ours(self) -> bool:
        """Whether this package wrote it."""
        return f"{PREFIX}graph" in self.metadata

    @property
    def variant(self) -> str:
        """How its numbers are stored: ``fp32``, ``fp16`` or ``q8``; empty if it is not ours."""
        return self.metadata.get(f"{PREFIX}variant", "")

    @property
    def what(self) -> str:
        """What it is, in words, told by what goes in and comes out."""
        return next(
            (words for words, names in _LAYOUTS.items() if names <= {*self.inputs, *self.outputs}),
            "an ONNX model",
        )


_LAYOUTS: Mapping[str, set[str]] = {
    "the image encoder of a SAM 2 in ONNX, in the layout of transformers.js": {
        "pixel_values",
        "image_embeddings.0",
        "image_embeddings.2",
    },
    "the mask decoder of a SAM 2 in ONNX, in the layout of transformers.js": {
        "input_points",
        "image_embeddings.2",
        "pred_masks",
    },
    "the image encoder of a SAM 2 in ONNX, in the layout of samexporter": {
        "image",
        "high_res_feats_0",
        "image_embed",
    },
    "the mask decoder of a SAM 2 in ONNX, in the layout of samexporter": {
        "image_embed",
        "high_res_feats_0",
        "has_mask_input",
    },
}


def read_graph(path: Path) -> Graph:
    """Read what an ONNX file says about itself.

    Args:
        path: The file.

    Returns:
        The graph, whose weights are described, not read.

    Raises:
        UnreadableError: If the file is cut short, or is not an ONNX model.
        RefusedError: If it keeps weights in a file elsewhere, or has more than can be looked at.
    """
    with _mapped(path) as data:
        try:
            return _graph(path, data)
        except WireError as error:
            raise UnreadableError(
                f"{path}: is damaged, or is not an ONNX model: {error}",
                hint="copy or download it again",
            ) from error


def runnable(path: Path) -> Graph:
    """Check that a runtime may be given an ONNX file.

    Args:
        path: The file.

    Returns:
        The graph.

    Raises:
        UnreadableError: If the file is damaged, or weights are missing that it keeps elsewhere.
        RefusedError: If it needs operators that no runtime has, or names files elsewhere.
    """
    graph = read_graph(path)
    foreign = sorted({*graph.domains} - {*_KNOWN_DOMAINS})
    if foreign:
        raise RefusedError(
            f"{path}: has operators of {len(foreign)} domains that are not part of ONNX",
            hint="export it again: sam21convert convert CHECKPOINT FOLDER --to onnx",
        )
    for name in graph.external:
        if not (path.parent / name).is_file():
            raise UnreadableError(
                f"{path}: keeps weights in {name}, which is not beside it",
                hint="copy or download that file too",
            )
    return graph


def read_onnx(path: Path) -> Source:
    """Open an ONNX file as a checkpoint.

    Args:
        path: The file.

    Returns:
        The opened checkpoint; its ``root`` holds the tensors of the model that are in the graph.

    Raises:
        UnreadableError: If the file is damaged.
        RefusedError: If it is not one that :func:`~sam21convert.export_onnx` writes, or its numbers
            were rounded.
    """
    graph = read_graph(path)
    _refuse_foreign(graph)
    metadata = graph.metadata
    return Source(path, "onnx", (path,), _weights(graph), dict(metadata), notes=(origin(metadata),))


def read_onnx_folder(path: Path) -> Source:
    """Open a folder of graphs as a checkpoint: all tensors that its graphs hold.

    Args:
        path: The folder.

    Returns:
        The opened checkpoint.

    Raises:
        UnreadableError: If a file is damaged, or two graphs hold different weights of one name.
        RefusedError: If a file is not one of ours, or there is no graph in float32.
    """
    home = path / FOLDER
    graphs = [read_graph(file) for file in sorted(home.glob("*.onnx"))]
    for graph in graphs:
        if not graph.is_ours:
            _refuse_foreign(graph)
    exact = [graph for graph in graphs if graph.variant == FP32]
    if not exact:
        raise RefusedError(
            f"{path}: holds no graph in float32: the weights of the others were rounded",
            hint="convert the checkpoint that it was exported from",
        )
    rest = read_safetensors(home / REST)
    found = dict(rest.root)
    for graph in exact:
        for name, ref in _weights(graph).items():
            if name in found and not _same_bytes(found[name], ref):
                raise UnreadableError(
                    f"{path}: {name} in {graph.path.name} is not that in {found[name].path.name}",
                    hint="export it again: sam21convert convert CHECKPOINT FOLDER --to onnx",
                )
            found.setdefault(name, ref)
    files = (home / CONFIG_OF_ALL, rest.path, *(graph.path for graph in exact))
    metadata = exact[0].metadata
    return Source(path, "onnx folder", files, found, dict(metadata), notes=(origin(metadata),))


def origin(metadata: Mapping[str, str]) -> str:
    """Tell where a graph of ours says that it comes from.

    Args:
        metadata: That of the graph.

    Returns:
        A phrase for a report.
    """
    source, hashes = (metadata.get(f"{PREFIX}{key}", "") for key in ("source", "sha256"))
    found = re.findall(r'": "([0-9a-f]{64})"', hashes)
    known = f", SHA-256 {', '.join(found)}" if found else ""
    return f"exported from {one_line(source)[:_SHOWN]}{known}"


def _refuse_foreign(graph: Graph) -> None:
    if not graph.is_ours:
        raise RefusedError(
            f"{graph.path}: is {graph.what}, which does not tell which weight is which",
            hint="convert the checkpoint that it was exported from",
        )
    if graph.variant != FP32:
        raise RefusedError(
            f"{graph.path}: is a graph in {graph.variant}: its weights were rounded",
            hint="give the folder, if it holds the graphs in float32 too, or convert the "
            "checkpoint that it was exported from",
        )


def _weights(graph: Graph) -> dict[str, TensorRef]:
    return {name: ref for name, ref in graph.tensors.items() if not name.startswith(CONSTANT)}


def _same_bytes(one: TensorRef, other: TensorRef) -> bool:
    """Whether two tensors are equal; those that several graphs hold have some megabytes."""
    if one.spec != other.spec:
        return False
    with one.path.open("rb") as first, other.path.open("rb") as second:
        first.seek(one.offset)
        second.seek(other.offset)
        return first.read(one.spec.nbytes) == second.read(other.spec.nbytes)


@contextmanager
def _mapped(path: Path) -> Iterator[memoryview]:
    refuse_special(path)
    try:
        with path.open("rb") as file:
            if not path.stat().st_size:
                raise UnreadableError(f"{path}: is empty", hint="copy or download it again")
            import mmap

            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                view = memoryview(content)
                try:
                    yield view
                finally:
                    view.release()
    except OSError as error:
        raise unreadable(path, error) from error


def _graph(path: Path, data: memoryview) -> Graph:
    graph: Field | None = None
    metadata: dict[str, str] = {}
    for field in fields(data, 0, len(data)):
        if field.number == _MODEL_GRAPH:
            graph = field
        elif field.number == _MODEL_METADATA:
            key, value = _pair(data, field)
            metadata[key] = value
    if graph is None:
        raise WireError("it has no graph")
    found = _Reader(path, data)
    found.read(graph)
    return Graph(
        path,
        tuple(found.inputs),
        tuple(found.outputs),
        metadata,
        found.tensors,
        tuple(sorted(found.external)),
        tuple(sorted(found.domains)),
    )


class _Reader:
    """Collects what a graph and the graphs within it hold."""

    def __init__(self, path: Path, data: memoryview) -> None:
        self.path, self.data = path, data
        self.inputs: list[str] = []
        self.outputs: list[str] = []
        self.tensors: dict[str, TensorRef] = {}
        self.external: set[str] = set()
        self.domains: set[str] = set()
        self._count = 0

    def read(self, graph: Field, depth: int = 0) -> None:
        if depth > _DEEPEST:
            raise RefusedError(f"{self.path}: has graphs more than {_DEEPEST} levels deep")
        for field in fields(self.data, graph.begin, graph.end):
            if field.number == _NODE:
                self._node(field, depth)
            elif field.number == _INITIALIZER:
                self._tensor(field)
            elif not depth and field.number in (_INPUT, _OUTPUT):
                names = self.inputs if field.number == _INPUT else self.outputs
                names += [_text(self.data, one) for one in self._fields(field) if one.number == 1]

    def _fields(self, field: Field) -> Iterator[Field]:
        return fields(self.data, field.begin, field.end)

    def _node(self, node: Field, depth: int) -> None:
        domain = ""
        for field in self._fields(node):
            if field.number == _NODE_DOMAIN:
                domain = _text(self.data, field)
            elif field.number == _NODE_ATTRIBUTE:
                for part in self._fields(field):
                    if part.number in _ATTRIBUTE_GRAPHS:
                        self.read(part, depth + 1)
                    elif part.number in _ATTRIBUTE_TENSORS:
                        self._elsewhere(part)
        self.domains.add(domain)

    def _tensor(self, tensor: Field) -> None:
        self._count += 1
        if self._count > _MOST_TENSORS:
            raise RefusedError(f"{self.path}: has more than {_MOST_TENSORS} tensors")
        name, dtype, shape, raw = "", 0, list[int](), None
        for field in self._fields(tensor):
            if field.number == _NAME:
                name = _text(self.data, field)
            elif field.number == _TYPE:
                dtype = field.value
            elif field.number == _DIMS:
                shape += _numbers(self.data, field)
            elif field.number == _RAW:
                raw = field
        self._elsewhere(tensor)
        if raw is None or dtype not in _TYPES or len(shape) > _MOST_RANK:
            return
        spec = TensorSpec(_TYPES[dtype], tuple(shape))
        if prod(shape) * DTYPES[spec.dtype] != raw.end - raw.begin:
            raise WireError(f"{spec} does not take {raw.end - raw.begin} bytes")
        if name in self.tensors:
            raise WireError("two initialisers have one name")
        self.tensors[name] = TensorRef(spec, self.path, raw.begin)

    def _elsewhere(self, tensor: Field) -> None:
        """Note the file in which the data of a tensor stands, if it is another."""
        pairs = [_pair(self.data, one) for one in self._fields(tensor) if one.number == _EXTERNAL]
        for location in [value for key, value in pairs if key == "location"]:
            if not is_file_name(location):
                raise RefusedError(
                    f"{self.path}: keeps weights in a file of another folder",
                    hint="a graph may only name files beside it; export it again",
                )
            self.external.add(location)


def _numbers(data: memoryview, field: Field) -> Iterator[int]:
    """A repeated number, which may be packed."""
    at = field.begin
    while at < field.end:
        value, at = varint(data, at, field.end)
        if value >= 1 << 63:
            raise WireError(f"a negative size at byte {field.begin}")
        yield value


def _pair(data: memoryview, field: Field) -> tuple[str, str]:
    found = {1: "", 2: ""}
    for part in fields(data, field.begin, field.end):
        if part.number in found:
            found[part.number] = _text(data, part)
    return found[1], found[2]


def _text(data: memoryview, field: Field) -> str:
    if field.end - field.begin > _MOST_TEXT:
        raise WireError(f"a text of {field.end - field.begin} bytes at byte {field.begin}")
    try:
        return str(data[field.begin : field.end], "utf-8")
    except UnicodeDecodeError as error:
        raise WireError(f"a text at byte {field.begin} is not UTF-8") from error
