"""Files of the Hub, read where they are: a header costs kilobytes, whatever the file weighs.

``huggingface_hub`` asks for parts of files, with its settings, token and patience. What was read is
kept in memory, nothing on disk.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PosixPath
from typing import Any, NamedTuple

from ..errors import UnreachableError, UnreadableError
from ..io.source import CONFIG
from .errors import BUSY, Failure, translate_read_errors
from .fetch import choose, listing
from .retry import retry

_BLOCK = 1 << 16  # bytes: the header of most safetensors files, the directory of most archives
_MOST = 1 << 26  # bytes in one piece: as much as a header may have
_WHOLE = 1 << 20  # bytes of a file that is taken whole from a server that knows no parts


def at_hub(
    head: str, repo: str, revision: str | None, file: str | None
) -> tuple[HubPath, HubPath | None]:
    """A file of a repository, or what stands for all of it, with its only YAML, as a download is.

    ``head`` is what the user wrote before the name of the file: paths begin with it. Raises what
    :func:`~sam21convert.hub.fetch` does.
    """
    with translate_read_errors(head):
        commit, names = listing(repo, revision)
    whole = HubPath.of(_Repository(head, repo, commit, frozenset(names)), "")
    if file is not None:
        return whole / file, None
    weights, config = choose(head, names)
    if config == CONFIG:
        return whole, None
    return whole / weights, None if config is None else whole / config


class HubPath(PosixPath):
    """A file of a repository, or its top folder, with what readers of headers ask of a path.

    Another operation of a path gives one with the right name, of which nothing can be read.
    """

    _repository: _Repository
    _file: str

    @classmethod
    def of(cls, repository: _Repository, file: str) -> HubPath:
        """A file of a repository; "" is the folder."""
        path = cls(f"{repository.head}/{file}")
        path._repository, path._file = repository, file
        return path

    def __str__(self) -> str:
        return super().__str__().replace("hf:/", "hf://", 1)

    def __truediv__(self, name: Any) -> HubPath:
        return self.of(self._repository, f"{self._file}/{name}".lstrip("/"))

    @property
    def parent(self) -> HubPath:
        """The folder that it is in."""
        return self.of(self._repository, self._file.rpartition("/")[0])

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is the repository itself."""
        return not self._file

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Whether the repository lists it."""
        return self._file in self._repository.names

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is one of the two."""
        return self.is_dir() or self.is_file()

    def open(self, mode: str = "r", *_: Any, **__: Any) -> Any:
        """For reading bytes only. Raises :class:`UnreachableError`, as reading does."""
        if mode != "rb":
            raise io.UnsupportedOperation(f"{self}: can only be opened for reading bytes")
        return _HubFile(self._repository.content(self._file))


class _Repository:
    """A commit: the names of its files, and what was read of them."""

    def __init__(self, head: str, repo: str, commit: str | None, names: frozenset[str]):
        self.head, self.names = head, names
        self._repo, self._commit = repo, commit
        self._contents: dict[str, _Content] = {}

    def content(self, file: str) -> _Content:
        from huggingface_hub import hf_hub_url

        if file not in self._contents:
            url = hf_hub_url(self._repo, file, revision=self._commit)
            self._contents[file] = _Content(f"{self.head}/{file}", url)
        return self._contents[file]


class _Content:
    """The bytes of a file, as far as they were asked for; the first of them at once."""

    def __init__(self, name: str, url: str) -> None:
        self._name, self._url = name, url
        self._blocks: dict[int, bytes] = {}
        self.size = _BLOCK
        self._fetch(0, 0)

    def read(self, start: int, stop: int) -> bytes:
        """A part, which must lie within the file."""
        first, last = start // _BLOCK, (stop - 1) // _BLOCK
        missing = [block for block in range(first, last + 1) if block not in self._blocks]
        if missing:
            end = (self.size - 1) // _BLOCK
            # Whoever reads the end of an archive goes on with the directory before it.
            before = missing[0] - (missing[0] == end and end - 1 not in self._blocks)
            self._fetch(before, missing[-1])
        whole = b"".join(self._blocks[block] for block in range(first, last + 1))
        return whole[start - first * _BLOCK : stop - first * _BLOCK]

    def _fetch(self, first: int, last: int) -> None:
        start, stop = first * _BLOCK, min((last + 1) * _BLOCK, self.size)
        if stop - start > _MOST:
            raise UnreachableError(
                f"{self._name}: {stop - start} bytes of it would have to be read",
                hint="look at a copy of it: sam21convert pull",
            )
        try:
            with translate_read_errors(self._name):
                answer = retry(lambda: _ask(self._url, start, stop), _was_cut)
        except UnreadableError as error:
            raise UnreachableError(error.message, hint=error.hint) from error
        start, self.size = self._placed(answer, start, stop)
        for at in range(0, len(answer.body), _BLOCK):
            self._blocks[(start + at) // _BLOCK] = answer.body[at : at + _BLOCK]

    def _placed(self, answer: _Answer, start: int, stop: int) -> tuple[int, int]:
        """Where the body of an answer begins in the file, and the size of the file."""
        count, known = len(answer.body), self.size if self._blocks else None
        if answer.status == 416 and known is None:
            return 0, 0
        if answer.status == 200 and count <= _WHOLE and known in (None, count):
            return 0, count
        if answer.status == 200:
            raise UnreachableError(
                f"{self._name}: the server sends whole files only",
                hint="look at a copy of it: sam21convert pull",
            )
        found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", answer.span)
        begin, end, size = map(int, found.groups()) if found else (0, 0, 0)
        expected = (start, min(stop, size) - 1, size if known is None else known)
        if (begin, end, size) != expected or count != end + 1 - begin:
            raise UnreachableError(
                f"{self._name}: asked for bytes {start} to {stop - 1}, the server sent {count} "
                f"bytes as {answer.span or 'no part of the file'}",
                hint="try again later, or look at a copy of it: sam21convert pull",
            )
        return start, size


def _was_cut(error: Exception) -> bool:
    """Whether there was no answer: where there is one, the client has asked again itself."""
    failure = Failure.of(error)
    return failure.status is None and failure.transient


class _HubFile(io.RawIOBase):
    """Reads a file of the Hub."""

    def __init__(self, content: _Content) -> None:
        self._content, self._position = content, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        position = offset + (0, self._position, self._content.size)[whence]
        if position < 0:
            raise OSError("a position before the beginning of the file")
        self._position = position
        return position

    def readall(self) -> bytes:
        return self.read()

    def read(self, size: int | None = -1) -> bytes:
        """As many bytes as are asked for, unless the file ends."""
        left = max(self._content.size - self._position, 0)
        count = left if size is None or size < 0 else min(size, left)
        if count == 0:
            return b""
        self._position += count
        return self._content.read(self._position - count, self._position)


class _Answer(NamedTuple):
    """What a server said to a request for a part of a file; ``span`` is its Content-Range."""

    status: int
    span: str
    body: bytes


def _ask(url: str, start: int, stop: int) -> _Answer:
    """Ask for a part, and read no more than that, or than can be used of a whole file."""
    with _asking(url, f"bytes={start}-{stop - 1}") as response:
        limit, body = _WHOLE if response.status_code == 200 else stop - start, bytearray()
        pieces = getattr(response, "iter_bytes", None) or response.iter_content
        for piece in pieces(_BLOCK):
            body += piece
            if len(body) > limit:
                break
    span = response.headers.get("content-range", "")
    return _Answer(response.status_code, span, bytes(body))


@contextmanager
def _asking(url: str, span: str) -> Iterator[Any]:
    """The client waits for a server that is busy; a connection that is cut is left to us."""
    from huggingface_hub import constants
    from huggingface_hub import utils as exported

    utils: Any = exported
    options: dict[str, Any] = {
        "headers": {**utils.build_hf_headers(), "range": span, "accept-encoding": "identity"},
        "timeout": constants.HF_HUB_DOWNLOAD_TIMEOUT,
        "retry_on_exceptions": (),
        "retry_on_status_codes": BUSY,
    }
    if hasattr(utils, "http_stream_backoff"):
        answer = utils.http_stream_backoff("GET", url, **options)
    else:  # huggingface_hub before 1.0
        answer = utils.http_backoff("GET", url, stream=True, **options)
    with answer as response:
        if response.status_code != 416:  # so an empty file is answered
            utils.hf_raise_for_status(response)
        yield response
