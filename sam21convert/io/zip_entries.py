"""The entries that ``torch.save`` writes into its archives, and those that look like them.

Programs find an entry in different ways: PyTorch ignores case, others normalise separators or
Unicode. So two names that any of them may take for one are refused, and so is a name that only some
of them take for one that ``torch.save`` writes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from ..errors import RefusedError, UnreadableError
from .names import folded, refuse_twins

_SHOWN = 60  # characters of a name that an error message quotes
_PICKLE = "data.pkl"
# Below the top folder. The keys of storages are numbers.
_WRITTEN = re.compile(
    r"data\.pkl|byteorder|version|\.format_version|\.storage_alignment"
    r"|\.data/serialization_id|data/[0-9]+"
)


def check_names(names: Collection[str]) -> None:
    """Refuse an archive in which programs may find different entries by the same name.

    Args:
        names: The names of all entries, as the directory spells them.

    Raises:
        UnreadableError: If two entries have the same name.
        RefusedError: If two names are equal when case, separators and Unicode forms are ignored, or
            a name is, to some programs, one that ``torch.save`` writes.
    """
    if len(set(names)) < len(names):
        raise UnreadableError("two entries of the zip archive have the same name")
    names = [_as_utf8(name) for name in names]
    refuse_twins("the zip archive", names)
    for name in names:
        if _WRITTEN.fullmatch(name.partition("/")[2]):
            continue
        usual = folded(name).partition("/")[2]
        if _WRITTEN.fullmatch(usual):
            raise RefusedError(f"some programs take the entry {name[:_SHOWN]!r} for {usual}")


def _as_utf8(name: str) -> str:
    """The name as a program reads it that takes every name for UTF-8, whatever its flags say."""
    if name.isascii():
        return name
    try:
        return name.encode("cp437").decode("utf-8")
    except UnicodeError:
        return name


def others(names: Iterable[str]) -> tuple[str, ...]:
    """Find the entries that ``torch.save`` does not write.

    Args:
        names: The names of entries.

    Returns:
        Those whose name is none that it writes, in their order. Names of folders, which hold
        nothing, are left out.
    """
    return tuple(
        name
        for name in names
        if not name.endswith("/") and not _WRITTEN.fullmatch(name.partition("/")[2])
    )


def may_be_pickle(name: str) -> bool:
    """Whether an entry may hold a pickle, by its name.

    Args:
        name: The name of an entry.

    Returns:
        False for the entries of ``torch.save`` that no program unpickles.
    """
    below = name.partition("/")[2]
    return below == _PICKLE or not _WRITTEN.fullmatch(below)
