"""The names of the outputs of a batch, decided before anything is written."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import takewhile
from urllib.parse import unquote, urlsplit

from ...errors import UsageError
from .manifest import ManifestEntry, identity

# What files that may be taken for checkpoints end in; anything else may be part of a name, as in
# epoch_1.5.
_ENDINGS = re.compile(
    r"(?:\.(?:bin|ckpt|gguf|json|npz|onnx|pkl|pt|pth|safetensors|tar|ya?ml|zip))+$", re.IGNORECASE
)
_REVISION = re.compile(r"@refs/([^/]+)/([^/]+)")


def name_outputs(
    entries: Sequence[ManifestEntry], suffixes: Sequence[str], kept: Mapping[tuple[str, str], str]
) -> list[str]:
    """A file name for the output of each entry, with its suffix.

    The name that the entry states, else the one that :func:`~sam21convert.workflows.batch.manifest.identity` and
    suffix had before, in ``kept``, else that of the source. Sources of the same name get the path
    below the deepest folder that they share, joined by ``-``; what differs only in its ending gets
    that too. Names that differ only in case are the same, as on some file systems.

    Raises :class:`UsageError` when two outputs would have one name.
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
        alike[_folded(name + suffixes[at])].append(at)
    for group in [group for group in alike.values() if len(group) > 1]:
        longer = _longer([paths[at] for at in group])
        for at, name in zip(group, longer, strict=True):
            short[at] = fixed[at] or name
    outputs = [name + suffix for name, suffix in zip(short, suffixes, strict=True)]
    _refuse_equal(entries, outputs)
    return outputs


def _parts(source: str) -> list[str]:
    """The path of a source, whatever its form; no part is a way up."""
    if source.startswith("hf://"):
        path = _REVISION.sub(r"@\1-\2", source.removeprefix("hf://"))
    elif "://" in source:
        path = unquote(urlsplit(source).path)
    else:
        path = identity(source)
    return [part for part in path.split("/") if part.strip(".")] or ["checkpoint"]


def _stem(name: str) -> str:
    return _ENDINGS.sub("", name) or name.lstrip(".")


def _longer(paths: Sequence[list[str]]) -> list[str]:
    whole = [[*path[:-1], _stem(path[-1])] for path in paths]
    if len({_folded("/".join(path)) for path in whole}) < len(whole):
        whole = [[*path[:-1], path[-1].lstrip(".").replace(".", "-")] for path in paths]
    folders = zip(*(path[:-1] for path in whole), strict=False)
    shared = len(list(takewhile(lambda level: len(set(level)) == 1, folders)))
    return ["-".join(path[shared:]) for path in whole]


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _refuse_equal(entries: Sequence[ManifestEntry], outputs: Sequence[str]) -> None:
    first: dict[str, ManifestEntry] = {}
    for entry, output in zip(entries, outputs, strict=True):
        other = first.setdefault(_folded(output), entry)
        if other is not entry:
            raise UsageError(
                f"{other.source} and {entry.source}: both would be written as {output}",
                hint="give one of them another name in a manifest",
            )
