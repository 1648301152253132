"""Whether a file that a loader may be given can be read to its end, and what it is otherwise."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from pathlib import Path

from ...errors import Sam21ConvertError
from ...io.safetensors import read_safetensors
from ...io.torch_legacy import read_torch_legacy
from ...io.unsupported import HEAD, PROGRAMS, UNSUPPORTED
from ...io.zip_directory import NOT_A_ZIP, check_end

_NAMED = re.compile(r".*\.(pt|pth|pt2|ckpt|bin|pkl|pickle|safetensors|pth\.tar)", re.IGNORECASE)
_ARCHIVE = b"PK\3\4"
_TEXTS = ("text", PROGRAMS[1], "JSON", "XML", "a web page")


def is_named(name: str) -> bool:
    """Whether a file has the name of a checkpoint or a pickle.

    Args:
        name: Its name, without its folder.

    Returns:
        True for ``model.pt``, ``data.pkl``, ``pytorch_model.bin``, ...
    """
    return _NAMED.fullmatch(name) is not None


def is_text(head: bytes) -> bool:
    """Whether a file is text of any kind.

    Args:
        head: Its first bytes.

    Returns:
        True if so. A pickle of protocol 0 is text as well.
    """
    return kind_by_head(head) in _TEXTS


def kind_by_head(head: bytes) -> str | None:
    """Say what a file is that is neither a checkpoint nor a pickle.

    Args:
        head: Its first bytes.

    Returns:
        What it is, with its article; None if it may be anything.
    """
    return next((kind.what for kind in UNSUPPORTED if kind.tells(head)), None)


def begins_like_a_pickle(head: bytes) -> bool:
    """Whether a file begins with the opcode PROTO, which protocols 2 to 5 begin with.

    Args:
        head: Its first bytes.

    Returns:
        True if so.
    """
    return head[:1] == b"\x80" and head[1:2] <= b"\5"


def begins_like_a_checkpoint(head: bytes) -> bool:
    """Whether a file begins like a pickle, an archive or a safetensors file.

    Args:
        head: Its first bytes.

    Returns:
        True if so.
    """
    return begins_like_a_pickle(head) or head.startswith(_ARCHIVE) or _is_safetensors(head)


def kind_of(
    path: Path, pickles: bool, listed: bool, *, headers: bool
) -> tuple[str | None, str | None]:
    """Say what a file is that is no checkpoint, or cannot be read to its end.

    Args:
        path: A regular file.
        pickles: Whether all of it is pickles that end.
        listed: Whether its entries were listed, as those of an archive.
        headers: Whether the header of a safetensors file is read.

    Returns:
        What kind of other file it is; why it cannot be read. Both are given for another kind of
        file that has the name of a checkpoint, and for programs, which are not called harmless.

    Raises:
        OSError: ``path`` cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        head, size = file.read(HEAD), file.seek(0, 2)
        if not size:
            return None, "is empty"
        if head.startswith(_ARCHIVE):
            try:
                check_end(file, size)  # zipfile would read a directory of any size
                if not listed:
                    zipfile.ZipFile(file).close()
            except Sam21ConvertError as error:
                return None, error.message
            except NOT_A_ZIP:
                return None, "not an intact zip archive"
            return None, None
    if _is_safetensors(head) or path.suffix == ".safetensors":
        return None, _fault(path, read_safetensors) if headers else None
    if pickles:
        return None, None
    if begins_like_a_pickle(head):
        return None, "begins like a pickle, and is cut short, broken or followed by something else"
    kind = kind_by_head(head)
    if kind is None:
        return None, "is neither a pickle nor an archive, nor another kind of file that is known"
    if is_named(path.name):
        return kind, f"has the name of a checkpoint, and is {kind}"
    return kind, f"is {kind}" if kind == PROGRAMS[0] else None


def legacy_fault(path: Path) -> str | None:
    """Say why a file in the format of PyTorch before 1.6 cannot be read to its end.

    Args:
        path: The file.

    Returns:
        The reason; None if it can.
    """
    return _fault(path, read_torch_legacy)


def _fault(path: Path, read: Callable[[Path], object]) -> str | None:
    try:
        read(path)
    except Sam21ConvertError as error:
        return error.message.removeprefix(f"{path}: ")
    return None


def _is_safetensors(head: bytes) -> bool:
    return head[4:9] == b"\0\0\0\0{"
