"""Read headers of files on the Hub without downloading the files, whatever their size.

Ranges of bytes are requested with ``huggingface_hub``, so its settings, token and retries apply.
They are kept in memory; nothing is written to disk.
"""

from __future__ import annotations

import io
import re
import shlex
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import PosixPath
from typing import Any, NamedTuple

from ..errors import UnreachableError, UnreadableError
from .download import BadAnswerError, Pace, TooSlowError, refuse_encoded
from .errors import BUSY, Failure, translate_read_errors
from .fetch import choose, listing
from .retry import retry

_BLOCK = 1 << 16  # bytes: enough for the header of most safetensors files and zip directories
_SHOWN = 60  # characters of a header that an error message quotes
_MAX_READ = 1 << 26  # bytes in one request: no header may be larger
_MAX_KEPT = 1 << 27  # bytes of one file that are kept
_MAX_WHOLE = 1 << 20  # bytes of a file that is read whole from a server without range requests


def open_remote(
    head: str, repo: str, revision: str | None, file: str | None
) -> tuple[HubPath, HubPath | None]:
    """Find a checkpoint and its config in a repository, as a download would, without downloading.

    Args:
        head: what the user wrote before the name of the file; the paths begin with it.
        repo: the repository, as ``org/name``.
        revision: a branch, tag, ``refs/pr/N`` or commit; None is the main branch.
        file: the path of a file or folder in the repository, None for the whole repository.

    Returns:
        The checkpoint and its config. The first is the folder that holds the weights, or the only
        checkpoint. The second is the YAML beside that, None unless there is exactly one, or if a
        file was named.

    Raises:
        UsageError: when there are several checkpoints.
        RefusedError: when there is no checkpoint.
        UnreadableError: when the repository does not exist, is closed to the user, or cannot be
            reached.
    """
    with translate_read_errors(head):
        commit, names = listing(repo, revision)
    top = HubPath.of(_Repository(head, repo, commit, frozenset(names)), "")
    folder = top / file.rstrip("/") if file else top
    if not folder.is_dir():
        return folder, None
    chosen = choose(str(folder), folder.files())
    path = folder / chosen.weights.place if chosen.weights.place else folder
    return path, None if chosen.config is None else folder / chosen.config


class HubPath(PosixPath):
    """A file or folder of a repository, as a path for code that reads headers.

    Only the operations defined here work. Any other gives a path that has the right name but cannot
    be read.
    """

    _repository: _Repository
    _file: str

    @classmethod
    def of(cls, repository: _Repository, file: str) -> HubPath:
        """Make the path of a file or folder.

        Args:
            repository: the repository.
            file: the path in the repository; ``""`` is its top folder.

        Returns:
            The path, whose text is the head of the reference, followed by ``file``.
        """
        path = cls(f"{repository.head}/{file}")
        path._repository, path._file = repository, file
        return path

    def __str__(self) -> str:
        return super().__str__().replace("hf:/", "hf://", 1)

    def __truediv__(self, name: Any) -> HubPath:
        return self.of(self._repository, f"{self._file}/{name}".lstrip("/"))

    @property
    def parent(self) -> HubPath:
        """The folder that holds it."""
        return self.of(self._repository, self._file.rpartition("/")[0])

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Tell whether it is the top folder of the repository, or one below it.

        Args:
            follow_symlinks: for compatibility only; the Hub has no links.

        Returns:
            Whether it is.
        """
        return not self._file or self._file in self._repository.folders

    def iterdir(self) -> Generator[HubPath, None, None]:
        """List the files and folders in it.

        Yields:
            Each of them, in no order.
        """
        for name in self._repository.folders.get(self._file, ()):
            yield self / name

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Tell whether the repository lists it as a file.

        Args:
            follow_symlinks: for compatibility only; the Hub has no links.

        Returns:
            Whether it does.
        """
        return self._file in self._repository.names

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        """Tell whether it is a folder or a file of the repository.

        Args:
            follow_symlinks: for compatibility only; the Hub has no links.

        Returns:
            Whether it is one of the two.
        """
        return self.is_dir() or self.is_file()

    def files(self) -> tuple[str, ...]:
        """List the files in it and in the folders below it.

        Returns:
            Their paths in it, sorted.
        """
        start = f"{self._file}/" if self._file else ""
        names = self._repository.names
        return tuple(sorted(n.removeprefix(start) for n in names if n.startswith(start)))

    def open(self, mode: str = "r", *_: Any, **__: Any) -> Any:
        """Open the file for reading bytes; only ranges that are read are requested.

        Args:
            mode: must be ``"rb"``.
            *_: ignored, for compatibility.
            **__: ignored, for compatibility.

        Returns:
            A binary file that can seek.

        Raises:
            UnreachableError: when the Hub cannot be read; so does reading from the file.
            io.UnsupportedOperation: for any other mode.
        """
        if mode != "rb":
            raise io.UnsupportedOperation(f"{self}: can only be opened for reading bytes")
        return _HubFile(self._repository.content(self._file))


class _Repository:
    """A commit of a repository: the names of its files, and the bytes read from them so far."""

    def __init__(self, head: str, repo: str, commit: str | None, names: frozenset[str]):
        self.head, self.names = head, names
        self.folders: dict[str, set[str]] = {"": set()}  # the names in each
        for name in names:
            while name:
                home, _, last = name.rpartition("/")
                self.folders.setdefault(home, set()).add(last)
                name = home
        self._repo, self._commit = repo, commit
        self._contents: dict[str, _Content] = {}

    def content(self, file: str) -> _Content:
        from huggingface_hub import hf_hub_url

        if file not in self._contents:
            url = hf_hub_url(self._repo, file, revision=self._commit)
            self._contents[file] = _Content(f"{self.head}/{file}", url)
        return self._contents[file]


class _Content:
    """The blocks of a file that were requested so far; the first is requested at once."""

    def __init__(self, name: str, url: str) -> None:
        self._name, self._url = name, url
        self._pull = f"sam21convert pull {shlex.quote(name)} COPY"
        self._blocks: dict[int, bytes] = {}
        self.size = _BLOCK
        self._fetch(0, 0)

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes from ``start`` to ``stop``, which must lie within the file."""
        first, last = start // _BLOCK, (stop - 1) // _BLOCK
        missing = [block for block in range(first, last + 1) if block not in self._blocks]
        if missing:
            end = (self.size - 1) // _BLOCK
            # A zip archive is read from its end, then its directory: get both in one request.
            before = missing[0] - (missing[0] == end and end - 1 not in self._blocks)
            self._fetch(before, missing[-1])
        joined = b"".join(self._blocks[block] for block in range(first, last + 1))
        return joined[start - first * _BLOCK : stop - first * _BLOCK]

    def _fetch(self, first: int, last: int) -> None:
        start, stop = first * _BLOCK, min((last + 1) * _BLOCK, self.size)
        for count, most, what in (
            (stop - start, _MAX_READ, "in one request"),
            (stop - start + len(self._blocks) * _BLOCK, _MAX_KEPT, "in all"),
        ):
            if count > most:
                raise UnreachableError(
                    f"{self._name}: {count} bytes would have to be read {what}, more than the "
                    f"{most} allowed",
                    hint=f"{self._pull} downloads it: use the copy",
                )
        try:
            with translate_read_errors(self._name):
                answer = retry(lambda: self._request(start, stop), _had_no_answer)
        except UnreachableError:
            raise
        except UnreadableError as error:
            raise UnreachableError(error.message, hint=error.hint) from error
        start, self.size = self._position_of(answer, start, stop)
        for at in range(0, len(answer.body), _BLOCK):
            self._blocks[(start + at) // _BLOCK] = answer.body[at : at + _BLOCK]

    def _request(self, start: int, stop: int) -> _Answer:
        try:
            return _request_range(self._url, start, stop)
        except (BadAnswerError, TooSlowError) as error:
            raise UnreachableError(
                f"{self._name}: {error}",
                hint=f"try again later, or {self._pull} downloads it: use the copy",
            ) from error

    def _position_of(self, answer: _Answer, start: int, stop: int) -> tuple[int, int]:
        """Where the body of an answer begins in the file, and the size of the file."""
        count, known = len(answer.body), self.size if self._blocks else None
        if answer.status == 416 and known is None:  # not even byte 0 exists: the file is empty
            return 0, 0
        if answer.status == 200 and count <= _MAX_WHOLE and known in (None, count):
            return 0, count
        if answer.status == 200:
            raise UnreachableError(
                f"{self._name}: the server sends whole files only",
                hint=f"{self._pull} downloads it: use the copy",
            )
        found = re.fullmatch(
            r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", answer.content_range, re.ASCII
        )
        begin, end, size = map(int, found.groups()) if found else (0, 0, 0)
        expected = (start, min(stop, size) - 1, size if known is None else known)
        if (begin, end, size) != expected or count != end + 1 - begin:
            raise UnreachableError(
                f"{self._name}: asked for bytes {start} to {stop - 1}, the server sent {count} "
                f"bytes with {answer.content_range[:_SHOWN] or 'no'} content range",
                hint=f"try again later, or {self._pull} downloads it: use the copy",
            )
        return start, size


def _had_no_answer(error: Exception) -> bool:
    """Whether the connection broke; after an answer, ``huggingface_hub`` has retried itself."""
    failure = Failure.of(error)
    return failure.status is None and failure.transient


class _HubFile(io.RawIOBase):
    """A file of the Hub, open for reading."""

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
        """Read as many bytes as requested, fewer only at the end of the file."""
        left = max(self._content.size - self._position, 0)
        count = left if size is None or size < 0 else min(size, left)
        if count == 0:
            return b""
        self._position += count
        return self._content.read(self._position - count, self._position)


class _Answer(NamedTuple):
    """The answer of a server to a request for a range of a file."""

    status: int
    content_range: str
    body: bytes


def _request_range(url: str, start: int, stop: int) -> _Answer:
    """Request a range, and read no more than it, or of a whole file no more than can be used."""
    pace = Pace()
    with _stream(url, f"bytes={start}-{stop - 1}") as response:
        limit, body = _MAX_WHOLE if response.status_code == 200 else stop - start, bytearray()
        chunks = getattr(response, "iter_bytes", None) or response.iter_content
        for chunk in chunks(_BLOCK):
            pace.add(len(chunk))
            body += chunk
            if len(body) > limit:
                break
    content_range = response.headers.get("content-range", "")
    return _Answer(response.status_code, content_range, bytes(body))


@contextmanager
def _stream(url: str, byte_range: str) -> Iterator[Any]:
    """Start a request; a busy server is retried here, a broken connection by the caller."""
    from huggingface_hub import constants
    from huggingface_hub import utils as exported

    utils: Any = exported
    options: dict[str, Any] = {
        "headers": {**utils.build_hf_headers(), "range": byte_range, "accept-encoding": "identity"},
        "timeout": constants.HF_HUB_DOWNLOAD_TIMEOUT,
        "retry_on_exceptions": (),
        "retry_on_status_codes": BUSY,
    }
    if hasattr(utils, "http_stream_backoff"):
        answer = utils.http_stream_backoff("GET", url, **options)
    else:  # huggingface_hub before 1.0
        answer = utils.http_backoff("GET", url, stream=True, **options)
    with answer as response:
        if response.status_code != 416:  # the answer for an empty file
            utils.hf_raise_for_status(response)
            refuse_encoded(response.headers)
        yield response
