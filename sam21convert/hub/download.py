"""Files by https: they go on after a cut, and get their names when they are whole and right.

Through the HTTP client of ``huggingface_hub``, so proxies, certificates and ``HF_HUB_OFFLINE`` hold
here too. No token is sent.
"""

from __future__ import annotations

import fcntl
import os
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

_TIMEOUT = 30  # seconds without a byte
_PIECE = 1 << 16  # bytes, where a client does not hand out what it has
_WAITS = (0.5, 1, 2, 4, 8)  # seconds, by how many tries in a row brought not a byte
_LONGEST_WAIT = 60.0  # seconds, whatever a server asks for
_TRANSIENT = {408, 425, 429, 500, 502, 503, 504}


class _TransientError(Exception):
    """The download may succeed when it is tried again, after ``wait`` seconds."""

    def __init__(self, why: str, wait: float = 0) -> None:
        super().__init__(why)
        self.wait = wait


def cache() -> Path:
    """The folder of what is not in the cache of ``huggingface_hub``."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(home) if Path(home).is_absolute() else Path.home() / ".cache") / "sam21convert"


def download(url: str, path: Path, nbytes: int | None = None, digest: str | None = None) -> None:
    """Download ``url`` as ``path``, unless that is there already.

    What has come stands in ``<path>.part`` meanwhile, where the next call goes on if this one does
    not end; with it goes the validator of the server, by which a file that has changed since is
    begun anew. ``nbytes`` and ``digest`` (SHA-256) are checked as by :func:`check`. Calls for the
    same path wait for each other, also in other processes.

    Raises :class:`UnreadableError` when the server refuses, cannot be reached, or keeps failing,
    when the disk is full, and when the file is not the right one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _beside(path, "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            return
        part, validator = _beside(path, "part"), _beside(path, "validator")
        if not validator.exists() and digest is None:
            part.unlink(missing_ok=True)  # nothing would tell that it is of the same file
        if nbytes is None or _size(part) != nbytes:
            try:
                _fetch(url, part, validator)
            except OSError as error:  # of this machine: others are tried again, and then explained
                raise UnreadableError(
                    f"{shown(url)}: cannot be kept in {part.parent}: {error.strerror}",
                    hint=f"free space there: {size_text(_size(part))} have come and are kept",
                ) from error
        validator.unlink(missing_ok=True)
        check(part, shown(url), nbytes, digest, path)
        part.replace(path)


def check(file: Path, what: str, nbytes: int | None, digest: str | None, evidence_of: Path) -> None:
    """Raise :class:`UnreadableError` unless ``file`` has that size and SHA-256.

    It is kept beside ``evidence_of`` then, named for what it is. ``what`` names it in the error.
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
    refuse(file, what, wrong, label, evidence_of)


def refuse(file: Path, what: str, wrong: str, label: str, evidence_of: Path) -> NoReturn:
    """Move a wrong file, from behind a link too, beside ``evidence_of``; :class:`UnreadableError`.

    ``wrong`` says what it has and should have, ``label`` becomes part of its name.
    """
    evidence = _beside(evidence_of, f"wrong-{label}")
    evidence.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(file.resolve(), evidence)
    if file.is_symlink():
        file.unlink()
    raise UnreadableError(
        f"{what}: {wrong}; what came is kept as {evidence}",
        hint="something on the way, or at the source, changed the file: look at what came, "
        "then try again",
    )


def shown(url: str) -> str:
    """A URL without what may be secret: name, password and query."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _fetch(url: str, part: Path, validator: Path) -> None:
    """Bring ``part`` to its end; give up after tries that bring no byte further than before."""
    furthest, failures = _size(part), 0
    while True:
        try:
            _go_on(url, part, validator)
        except _TransientError as error:
            came = _size(part)
            failures = 0 if came > furthest else failures + 1
            furthest = max(furthest, came)
            if failures == len(_WAITS):
                raise UnreadableError(
                    f"{shown(url)}: {error}",
                    hint=f"run it again later: {size_text(came)} have come and are kept",
                ) from error
            time.sleep(max(_WAITS[failures], min(error.wait, _LONGEST_WAIT)))
        else:
            return


def _go_on(url: str, part: Path, validator: Path) -> None:
    """One request for what is missing."""
    from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]

    start = _size(part)
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if validator.exists():
            headers["If-Range"] = validator.read_text()
    with ExitStack() as stack:
        response = _respond(stack, url, headers)
        if response.status_code == 200:
            start = 0
            _keep_validator(response.headers, validator)
        total = _total(response, start, part)
        file = stack.enter_context(part.open("r+b" if start else "wb"))
        file.seek(start)
        bar = tqdm(  # type: ignore[no-untyped-call]
            total=total, initial=start, unit="B", unit_scale=True, desc=part.stem, disable=None
        )
        stack.enter_context(bar)
        for piece in _pieces(response):
            file.write(piece)
            bar.update(len(piece))
        file.flush()
        os.fsync(file.fileno())
        if total is not None and file.tell() < total:
            raise _TransientError(f"ended after {file.tell()} of {total} bytes")


def _respond(stack: ExitStack, url: str, headers: dict[str, str]) -> Any:
    """The answer to a request, closed by ``stack``, when it is one to go on with."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        response: Any = stack.enter_context(_request(url, headers))
    except OfflineModeIsEnabled as error:
        raise UnreadableError(
            f"{shown(url)}: not in the cache, and HF_HUB_OFFLINE forbids to download it",
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
            f"{shown(url)}: the server answered with status {status}",
            hint="check the address; open it in a browser to see what is there",
        )
    return response


def _request(url: str, headers: dict[str, str]) -> AbstractContextManager[Any]:
    """huggingface_hub speaks through httpx since its version 1, and through requests before."""
    from huggingface_hub.utils import get_session  # type: ignore[attr-defined]

    session: Any = get_session()
    if callable(session.stream):
        return session.stream("GET", url, headers=headers, timeout=_TIMEOUT)  # type: ignore[no-any-return]
    return session.get(url, headers=headers, timeout=_TIMEOUT, stream=True)  # type: ignore[no-any-return]


def _pieces(response: Any) -> Iterator[bytes]:
    """The body as it arrives."""
    try:
        if hasattr(response, "iter_bytes"):
            yield from response.iter_bytes()
        else:
            yield from response.iter_content(_PIECE)
    except Exception as error:  # of httpx or of requests; writing is not done in here
        raise _TransientError(f"the connection broke: {type(error).__name__}") from error


def _total(response: Any, start: int, part: Path) -> int | None:
    """The size of the whole file, where the server tells it.

    A range that is not the one asked for says that ``part`` is of something else: begin anew.
    """
    if response.status_code == 200:
        length = response.headers.get("Content-Length", "")
        return int(length) if length.isdecimal() else None
    span, _, total = response.headers.get("Content-Range", "").partition("/")
    if response.status_code == 416 or not span.startswith(f"bytes {start}-"):
        part.unlink(missing_ok=True)
        raise _TransientError("the server has no such range as was asked for")
    return int(total) if total.isdecimal() else None


def _keep_validator(headers: Any, validator: Path) -> None:
    """What ``If-Range`` takes: an ETag that is not weak, or a date."""
    tag = headers.get("ETag", "W/")
    value = headers.get("Last-Modified") if tag.startswith("W/") else tag
    if value is None:
        validator.unlink(missing_ok=True)
    else:
        validator.write_text(value)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(f"{path.name}.{suffix}")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
