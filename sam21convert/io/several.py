"""From what names many files to the files: patterns, and folders that hold several checkpoints."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from ..errors import UsageError
from .deepspeed import find_deepspeed
from .folder import Found, Listing, find_weights, is_index, is_shard, list_folder
from .nearby import expanded
from .sharded_by_process import has_processes
from .unsupported import archive


@dataclass(frozen=True)
class Several:
    """What a folder holds that is not one checkpoint.

    Attributes:
        checkpoints: the files and folders that may be checkpoints.
        others: all other files, but for those within the folders of ``checkpoints``.
        complete: whether all files of the folder were looked at.
    """

    checkpoints: tuple[Path, ...]
    others: tuple[Path, ...]
    complete: bool


class Listed(NamedTuple):
    """What sources, patterns and folders stand for.

    Attributes:
        sources: what may be checkpoints, as it was written.
        others: the other files of the folders that hold several.
        cut: the folders that have more files than were looked at.
        inside: the checkpoints in those repositories that were asked already.
    """

    sources: tuple[str, ...]
    others: tuple[str, ...]
    cut: tuple[str, ...]
    inside: Mapping[str, Sequence[str]] = MappingProxyType({})


def expand_pattern(text: str) -> Sequence[str]:
    """Expand a pattern that the shell did not.

    Args:
        text: A path, an address, a published name, or a pattern such as ``runs/*.pt``.

    Returns:
        The matches, sorted with numbers by value, so that epoch_2 comes before epoch_10; the text
        alone if it is no pattern, or a file of this very name.

    Raises:
        UsageError: If nothing matches.
    """
    text = str(expanded(Path(text))) if text.startswith("~") else text
    if "://" in text or not glob.has_magic(text) or os.path.lexists(text):
        return [text]
    found = sorted(glob.glob(text, recursive=True), key=_by_number)  # noqa: PTH207 - any root
    if not found:
        raise UsageError(f"{text}: nothing matches", hint="try the pattern with ls")
    return found


def several_in(folder: Path, *, none: bool = False) -> Several | None:
    """List the checkpoints of a folder that is not one checkpoint itself.

    Args:
        folder: A folder on this machine.
        none: Whether a folder with files of which none holds weights is listed, too.

    Returns:
        What is in it and below; None if the folder is one checkpoint, or holds one or, unless
        ``none``, none.

    Raises:
        UnreadableError: If the folder cannot be read.
    """
    listing = list_folder(folder)
    found = find_weights(str(folder), listing)
    places = {one.place for one in found.candidates}
    if len(places) == 1 or found.weights or find_deepspeed(folder) or has_processes(folder):
        return None
    if not places and not (none and _holds_other_files(listing, found)):
        return None
    with_index = {place.rpartition("/")[0] for place in places if is_index(place)}

    def belongs(name: str) -> bool:
        home = name.rpartition("/")[0]
        above = {name[: at.start()] for at in re.finditer("/", name)}
        sharded = home in with_index and is_shard(name.rpartition("/")[2])
        return name in places or not places.isdisjoint(above) or sharded

    others = tuple(folder / name for name in listing.names if not belongs(name))
    checkpoints = tuple(folder / one.place for one in found.candidates)
    return Several(checkpoints, others, listing.complete)


def _holds_other_files(listing: Listing, found: Found) -> bool:
    """Whether a folder without weights has files, and is no other model nor parts of one."""
    near = {"/".join(name.split("/")[:2]) for name in listing.names}
    return bool(near) and listing.complete and not found.shards and archive(near) is None


def list_sources(
    texts: Iterable[str], inside: Callable[[Path], Several | None] = several_in
) -> Listed:
    """Expand patterns, and folders that hold several checkpoints.

    Args:
        texts: Paths, patterns, addresses and published names.
        inside: Lists the checkpoints of a folder; None if it stands for itself.

    Returns:
        Each source once, however it is written, and what is beside them.

    Raises:
        UsageError: If a pattern matches nothing.
        UnreadableError: As ``inside`` does.
    """
    sources: dict[str, str] = {}
    others: dict[str, None] = {}
    cut = []
    for source in (found for text in texts for found in expand_pattern(text)):
        several = inside(Path(source)) if Path(source).is_dir() else None
        for one in [source] if several is None else map(str, several.checkpoints):
            sources.setdefault(one if "://" in one else os.path.abspath(one), one)  # noqa: PTH100
        if several is not None:
            others.update(dict.fromkeys(map(str, several.others)))
            if not several.complete:
                cut.append(source)
    return Listed(tuple(sources.values()), tuple(others), tuple(cut))


def _by_number(text: str) -> list[tuple[int, str]]:
    """A key that sorts epoch_2 before epoch_10."""
    parts = re.split(r"([0-9]+)", text)
    return [(int(part) if at % 2 else 0, part) for at, part in enumerate(parts)]
