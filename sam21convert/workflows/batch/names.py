"""The names of the outputs of a batch, decided before anything is written."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import takewhile
from urllib.parse import unquote

from ...errors import UsageError
from ...io.names import folded
from ...io.output.folders import meant_for_a_file
from .manifest import ManifestEntry, identity

# Extensions of files that may be mistaken for checkpoints; any other ending is part of the name, as
# in epoch_1.5.
_ENDINGS = re.compile(
    r"(?:\.(?:bin|ckpt|gguf|json|npz|onnx|pkl|pt|pth|safetensors|tar|ya?ml|zip))+$", re.IGNORECASE
)
_REVISION = re.compile(r"@refs/([^/]+)/([^/]+)")


def name_outputs(
    entries: Sequence[ManifestEntry], suffixes: Sequence[str], kept: Mapping[tuple[str, str], str]
) -> list[str]:
    """Choose a file name for the output of each entry.

    The name is the one that the entry states, or the one that the same source had before, or that
    of the source. Sources of the same name are told apart by the path below the deepest folder that
    they share, joined by ``-``, and then by their extension. Names that some file system does not
    distinguish, for example because they differ only in case, count as the same. Line breaks and
    other unprintable characters become ``_``.

    Args:
        entries: The entries.
        suffixes: The extension of each output, empty for a folder.
        kept: Source, as :func:`~sam21convert.workflows.batch.manifest.identity` gives it, and
            extension to the name in an earlier run, without the extension.

    Returns:
        The names with their extensions, in the order of the entries.

    Raises:
        UsageError: If two outputs would have the same name.
    """
    paths = [_parts(entry.source) for entry in entries]
    fixed = [
        entry.name.removesuffix(suffix)
        if entry.name
        else kept.get((identity(entry.source), suffix))
        for entry, suffix in zip(entries, suffixes, strict=True)
    ]
    short = [name or _stem(path[-1]) for name, path in zip(fixed, paths, strict=True)]
    alike: dict[str, list[int]] = defaultdict(list)
    for at, name in enumerate(short):
        alike[folded(name + suffixes[at])].append(at)
    for group in [group for group in alike.values() if len(group) > 1]:
        longer = _longer([paths[at] for at in group])
        for at, name in zip(group, longer, strict=True):
            short[at] = fixed[at] or name
    outputs = [name + suffix for name, suffix in zip(short, suffixes, strict=True)]
    _refuse_equal(entries, outputs)
    return outputs


def _parts(source: str) -> list[str]:
    """The parts of the path of a source, of whatever form, without ``.`` and ``..``."""
    source = identity(source)
    if source.startswith("hf://"):
        path = _REVISION.sub(r"@\1-\2", source.removeprefix("hf://"))
    elif "://" in source:
        # not urlsplit: an address that is not valid fails alone, when it is its turn
        path = unquote(re.split("[?#]", source.partition("://")[2])[0].partition("/")[2])
    else:
        path = source
    path = "".join(char if char.isprintable() else "_" for char in path)
    return [part for part in path.split("/") if part.strip(".")] or ["checkpoint"]


def _stem(name: str) -> str:
    stem = _ENDINGS.sub("", name) or name.lstrip(".")
    # What is no checkpoint, such as notes.txt, fails alone, and not by the name of its output.
    return stem if meant_for_a_file(stem) is None else stem.replace(".", "-")


def _longer(paths: Sequence[list[str]]) -> list[str]:
    full = [[*path[:-1], _stem(path[-1])] for path in paths]
    if len({folded("/".join(path)) for path in full}) < len(full):
        full = [[*path[:-1], path[-1].lstrip(".").replace(".", "-")] for path in paths]
    folders = zip(*(path[:-1] for path in full), strict=False)
    shared = len(list(takewhile(lambda level: len(set(level)) == 1, folders)))
    return ["-".join(path[shared:]) for path in full]


def _refuse_equal(entries: Sequence[ManifestEntry], outputs: Sequence[str]) -> None:
    first: dict[str, ManifestEntry] = {}
    for entry, output in zip(entries, outputs, strict=True):
        other = first.setdefault(folded(output), entry)
        if other is not entry:
            raise UsageError(
                f"{other.source} and {entry.source}: both would be written as {output}",
                hint="list the sources in a manifest and set `name` for one of them",
            )
