"""Download files over https: resume after a broken connection, verify, and only then rename.

The HTTP client is that of ``huggingface_hub``, so its proxies, certificates and ``HF_HUB_OFFLINE``
apply here too. No token is sent. No server can fill the disk or keep a download waiting for ever:
what is too large, encoded, longer than stated or too slow is refused, and not kept.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from ..errors import UnreadableError
from ..io.data.checksums import sha256
from ..report import size_text
from .watching import Download

MAX_FILE = 16 * 10**9  # bytes: the training checkpoints of SAM 2.1 large have some 3 GB
_RESERVE = 10**9  # bytes of the disk that a file of unknown size must leave free
_TIMEOUT = 30  # seconds without a byte
_CHUNK = 1 << 16  # bytes, for clients that must be told how much to hand out at once
_WAITS = (0.5, 1, 2, 4, 8)  # seconds, by the number of tries in a row that brought no new byte
_LONGEST_WAIT = 60.0  # seconds, even if a server asks for more
_POOR, _MOST_POOR = 1 << 20, 100  # bytes; tries that bring less than that until we give up
_WINDOW, _SLOWEST = 60, 1000  # seconds, and the bytes per second that must arrive in them
_LONGEST_VALIDATOR = 1000  # characters
_TRANSIENT = {408, 425, 429, 500, 502, 503, 504}


class _TransientError(Exception):
    """The download may succeed if it is tried again after ``wait`` seconds."""

    def __init__(self, why: str, wait: float = 0) -> None:
        super().__init__(why)
        self.wait = wait


class BadAnswerError(Exception):
    """A server answers with what no file can be; the request is not sent again."""


class Pace:
    """Watches that the body of a response arrives at a tolerable speed."""

    def __init__(self) -> None:
        self._begun, self._bytes = time.monotonic(), 0

    def add(self, count: int) -> None:
        """Count bytes that have arrived.

        Args:
            count: Their number.

        Raises:
            TooSlowError: If fewer than 1000 bytes per second arrived within a minute.
        """
        self._bytes += count
        passed = time.monotonic() - self._begun
        if passed >= _WINDOW:
            if self._bytes < _SLOWEST * passed:
                raise TooSlowError(f"sends less than {_SLOWEST} bytes per second")
            self._begun, self._bytes = time.monotonic(), 0


class TooSlowError(Exception):
    """A server sends so slowly that it would never end."""


def cache() -> Path:
    """Locate the cache of this package, for files that are not in that of ``huggingface_hub``.

    Returns:
        ``$XDG_CACHE_HOME/sam21convert``, or ``~/.cache/sam21convert``; it may not exist yet.
    """
    home = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(home) if Path(home).is_absolute() else Path.home() / ".cache") / "sam21convert"


def download(url: str, path: Path, nbytes: int | None = None, digest: str | None = None) -> None:
    """Download a file, unless it is there already.

    Until the file is complete its bytes are in ``<path>.part``. If the download is interrupted,
    the next call resumes it. ``<path>.validator`` holds the ETag or date that the server gave, by
    which it tells that its file has changed since; then the download starts over. Calls for the
    same path wait for each other, in other processes too.

    Args:
        url: the address of the file.
        path: where to put it; missing parent folders are created.
        nbytes: the expected size, None when it is not known.
        digest: the expected SHA-256 in hexadecimal, None when it is not known.

    Raises:
        UnreadableError: when the server refuses, cannot be reached, keeps failing or sends too
            much, when the disk is full, and when the file has the wrong size or hash. A file with a
            wrong hash is kept beside ``path``, see :func:`check`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _beside(path, "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            return
        part, validator = _beside(path, "part"), _beside(path, "validator")
        if not validator.exists() and digest is None:
            part.unlink(missing_ok=True)  # nothing could tell whether it is part of the same file
        if nbytes is None or _size(part) != nbytes:
            try:
                _fetch(url, part, validator, nbytes)
            except BadAnswerError as error:
                raise UnreadableError(
                    f"{redacted(url)}: {error}; nothing of it was kept",
                    hint="check the address; open it in a browser to see what is there",
                ) from error
            except OSError as error:  # of this machine: network errors are handled in _fetch
                raise UnreadableError(
                    f"{redacted(url)}: cannot be saved in {part.parent}: {error.strerror}",
                    hint="free some space there and run again: "
                    f"{size_text(_size(part))} have arrived and are kept",
                ) from error
        validator.unlink(missing_ok=True)
        check(part, redacted(url), nbytes, digest, path)
        part.replace(path)


def check(file: Path, what: str, nbytes: int | None, digest: str | None, keep_beside: Path) -> None:
    """Check the size and hash of a file, and move a wrong one away.

    Args:
        file: the file, or a link to it.
        what: its name in the error message.
        nbytes: the expected size, None to accept any.
        digest: the expected SHA-256 in hexadecimal, None to accept any.
        keep_beside: a path; a wrong file is moved beside it, as ``<keep_beside>.wrong-...``.

    Raises:
        UnreadableError: when the size or the hash is wrong.
    """
    size = file.stat().st_size
    found = sha256(file) if digest is not None else None
    if nbytes in (None, size) and found == digest:
        return
    label = f"{size}-bytes" if found is None else f"sha256-{found[:16]}"
    wrong = (
        f"has {size} bytes, expected {nbytes}"
        if nbytes not in (None, size)
        else f"has SHA-256 {found}, expected {digest}"
    )
    reject(file, what, wrong, label, keep_beside)


def reject(file: Path, what: str, wrong: str, label: str, keep_beside: Path) -> NoReturn:
    """Move a wrong file out of the way, so that the next try downloads it again, and raise.

    Args:
        file: the file, or a link to it; the link is removed.
        what: its name in the error message.
        wrong: what the file has and what was expected, for the error message.
        label: the end of its new name.
        keep_beside: the file is moved beside this path, as ``<keep_beside>.wrong-<label>``.

    Raises:
        UnreadableError: always.
    """
    kept = _beside(keep_beside, f"wrong-{label}")
    kept.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(file.resolve(), kept)
    if file.is_symlink():
        file.unlink()
    raise UnreadableError(
        f"{what}: {wrong}; the wrong file is kept as {kept}",
        hint="the file was changed at the source or on the way: look at it, then try again",
    )


def redacted(url: str) -> str:
    """Remove what may be secret from an address.

    Args:
        url: the address.

    Returns:
        The address without user name, password, query and fragment, for messages.
    """
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _fetch(url: str, part: Path, validator: Path, nbytes: int | None) -> None:
    """Complete ``part``, in as many requests as it takes while each brings new bytes."""
    furthest, failures, poor = _size(part), 0, 0
    while True:
        try:
            _request_rest(url, part, validator, nbytes)
        except _TransientError as error:
            arrived = _size(part)
            failures = 0 if arrived > furthest else failures + 1
            poor += arrived - furthest < _POOR
            furthest = max(furthest, arrived)
            if failures == len(_WAITS) or poor == _MOST_POOR:
                raise UnreadableError(
                    f"{redacted(url)}: {error}",
                    hint=f"run it again later: {size_text(arrived)} have arrived and are kept",
                ) from error
            time.sleep(max(_WAITS[failures], min(error.wait, _LONGEST_WAIT)))
        else:
            return


def _request_rest(url: str, part: Path, validator: Path, nbytes: int | None) -> None:
    """Send one request for the bytes that ``part`` does not have yet, and append them."""
    start = _size(part)
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if validator.exists():  # a file that has changed is then sent as a whole, with status 200
            headers["If-Range"] = validator.read_text()
    with ExitStack() as stack:
        response = _open_response(stack, url, headers)
        refuse_encoded(response.headers)
        start = 0 if response.status_code == 200 else start
        stop, total = _extent(response, start, part)
        room = _room(url, part, start, total, nbytes)
        most = room if stop is None else stop
        if response.status_code == 200:
            _save_validator(response.headers, validator)
        file = stack.enter_context(part.open("r+b" if start else "wb"))
        file.seek(start)
        told = stack.enter_context(Download(part.stem, total, start))
        for chunk in _chunks(response):
            if file.tell() + len(chunk) > most:
                part.unlink()
                validator.unlink(missing_ok=True)
                raise BadAnswerError(f"the server sends more than {most:,} bytes")
            file.write(chunk)
            told.arrived(len(chunk))
        file.flush()
        os.fsync(file.fileno())
        if total is not None and file.tell() < total:
            raise _TransientError(f"ended after {file.tell()} of {total} bytes")


def refuse_encoded(headers: Any) -> None:
    """Refuse a body that would have to be unpacked, which may be a small one of any size.

    Args:
        headers: The headers of the response.

    Raises:
        BadAnswerError: If the body is encoded, although that was not asked for.
    """
    if headers.get("Content-Encoding", "identity").strip().lower() not in ("identity", ""):
        raise BadAnswerError("the server sends the file encoded, which was not asked for")


def _room(url: str, part: Path, start: int, total: int | None, nbytes: int | None) -> int:
    """The number of bytes that the file may have; refuses a stated size before the first byte."""
    if total is not None and nbytes not in (None, total):
        raise BadAnswerError(f"the server states a size of {total:,} bytes, expected {nbytes:,}")
    if total is not None and total > MAX_FILE:
        raise BadAnswerError(
            f"the server states a size of {total:,} bytes, more than the {MAX_FILE:,} allowed"
        )
    free = shutil.disk_usage(part.parent).free
    size = nbytes if total is None else total
    missing = _RESERVE if size is None else size - start
    if missing > free:
        raise UnreadableError(
            f"{redacted(url)}: {size_text(missing)} are needed, and the disk of {part.parent} has "
            f"only {size_text(free)} left",
            hint="free some space there and run again: "
            f"{size_text(start)} have arrived and are kept",
        )
    return min(MAX_FILE, free - _RESERVE) if size is None else size


def _open_response(stack: ExitStack, url: str, headers: dict[str, str]) -> Any:
    """Send a request; a response with a usable status is returned, and closed by ``stack``."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        response: Any = stack.enter_context(_request(url, headers))
    except OfflineModeIsEnabled as error:
        raise UnreadableError(
            f"{redacted(url)}: not in the cache, and HF_HUB_OFFLINE forbids downloading it",
            hint="unset HF_HUB_OFFLINE, or give the path of a local copy",
        ) from error
    except Exception as error:  # of httpx or of requests
        raise _TransientError(f"cannot be reached: {type(error).__name__}") from error
    status = response.status_code
    if status in _TRANSIENT:
        after = response.headers.get("Retry-After", "")
        wait = float(after) if after.isdecimal() else 0
        raise _TransientError(f"the server answered with status {status}", wait)
    if status not in (200, 206, 416):
        raise UnreadableError(
            f"{redacted(url)}: the server answered with status {status}",
            hint="check the address; open it in a browser to see what is there",
        )
    return response


def _request(url: str, headers: dict[str, str]) -> AbstractContextManager[Any]:
    """Start streaming with the library of huggingface_hub: httpx since 1.0, requests before."""
    from huggingface_hub.utils import get_session  # type: ignore[attr-defined]

    session: Any = get_session()
    if callable(session.stream):
        return session.stream("GET", url, headers=headers, timeout=_TIMEOUT)  # type: ignore[no-any-return]
    return session.get(url, headers=headers, timeout=_TIMEOUT, stream=True)  # type: ignore[no-any-return]


def _chunks(response: Any) -> Iterator[bytes]:
    """The body of a response as it arrives."""
    pace = Pace()
    try:
        if hasattr(response, "iter_bytes"):
            chunks = response.iter_bytes()
        else:
            chunks = response.iter_content(_CHUNK)
        for chunk in chunks:
            pace.add(len(chunk))
            yield chunk
    except TooSlowError as error:
        raise _TransientError(f"the server {error}") from error
    except Exception as error:  # of httpx or of requests; errors of writing are not raised here
        raise _TransientError(f"the connection broke: {type(error).__name__}") from error


def _extent(response: Any, start: int, part: Path) -> tuple[int | None, int | None]:
    """Where the body of a response ends in the file, and the size of the file, if they are stated.

    Any other range than the requested one means that ``part`` belongs to another file: start over.
    """
    if response.status_code == 200:
        length = _header(response, "Content-Length", r"(\d{1,18})")
        total = None if length is None else int(length[1])
        return total, total
    if response.status_code == 206:
        stated = _header(response, "Content-Range", r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")
        if stated is None:
            raise BadAnswerError("the server sends a part of the file and does not state which")
        first, stop, total = int(stated[1]), int(stated[2]) + 1, int(stated[3])
        if not first < stop <= total:
            raise BadAnswerError("the server states a range that no file has")
        if first == start:
            return stop, total
    part.unlink(missing_ok=True)
    raise _TransientError("the server does not have the requested range")


def _header(response: Any, name: str, form: str) -> re.Match[str] | None:
    """A header in its only form; None if it is not there. Those that occur twice are joined."""
    value = response.headers.get(name)
    if value is None:
        return None
    found = re.fullmatch(form, value.strip(), re.ASCII)
    if found is None:
        raise BadAnswerError(f"the server sends a {name} that cannot be understood")
    return found


def _save_validator(headers: Any, validator: Path) -> None:
    """Save what ``If-Range`` accepts: an ETag that is not weak, or else a date."""
    tag = headers.get("ETag", "W/")
    value = headers.get("Last-Modified") if tag.startswith("W/") else tag
    if value is None or len(value) > _LONGEST_VALIDATOR:
        validator.unlink(missing_ok=True)
    else:
        validator.write_text(value)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(f"{path.name}.{suffix}")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
