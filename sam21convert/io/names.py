"""Names that another program or file system may take for one and the same."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from ..errors import RefusedError

_SHOWN = 60  # characters of a name that an error message quotes
# Characters without a shape: the property Default_Ignorable_Code_Point of Unicode.
_INVISIBLE = re.compile(
    "[\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]"
)
# Where more than case is ignored in a name of ASCII characters.
_FOLDS = re.compile(r"\\|/(?:/|\Z)|\A/|[. ](?:/|\Z)")
# Normalisation sorts accents that follow each other, in a time that grows with the square of their
# number. A longer stretch is therefore normalised character by character.
_LONG = re.compile(r"[^\x00-\x7f]{100}")


def folded(name: str) -> str:
    """Reduce a name to what remains of it under the most forgiving rules.

    File systems and unpackers ignore different parts of a name. Ignored here are: the case of
    letters, the Unicode form (NFC, NFD and compatibility characters), invisible characters, the
    kind and number of separators, segments ``.`` and ``..``, and dots and spaces at the end of a
    segment.

    Args:
        name: A path in an archive, the name of a file or of a tensor.

    Returns:
        A text that is equal for names that may be taken for each other. It is not a usable name.
    """
    if name.isascii() and not _FOLDS.search(name):
        return name.lower()
    for _ in range(2):  # folding the case can undo the normal form
        name = _INVISIBLE.sub("", _decomposed(name)).casefold()
    segments = (segment.rstrip(". ") for segment in name.replace("\\", "/").split("/"))
    return "/".join(segment for segment in segments if segment)


def twins(names: Iterable[str]) -> tuple[str, str] | None:
    """Find two names that may be taken for each other.

    Args:
        names: The names. One that occurs twice is its own twin.

    Returns:
        The first such pair, in the order of ``names``; None if there is none.
    """
    seen: dict[str, str] = {}
    for name in names:
        key = folded(name)
        if key in seen:
            return seen[key], name
        seen[key] = name
    return None


def refuse_twins(where: str, names: Iterable[str]) -> None:
    """Refuse names of which another program or file system may see only one.

    Args:
        where: The file, for the error message.
        names: The names.

    Raises:
        RefusedError: If two of them may be taken for each other.
    """
    same = twins(names)
    if same is not None:
        one, other = (repr(name[:_SHOWN]) for name in same)
        raise RefusedError(
            f"{where}: the names {one} and {other} may be taken for each other",
            hint="rename one of them where the file was written",
        )


def _decomposed(name: str) -> str:
    if _LONG.search(name):
        return "".join(unicodedata.normalize("NFKD", char) for char in name)
    return unicodedata.normalize("NFKD", name)
