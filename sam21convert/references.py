"""What a user may write for a checkpoint, turned into a path.

::

    model.pt  my-model/                a path that exists; it wins over all others
    sam2.1_hiera_tiny                  a published checkpoint
    hf://org/repo[@revision][/file]    a repository of the Hub, or a file in one
    https://host/model.pt              a file of the web

The Hub's files go to the cache of ``huggingface_hub``, all others to
``$XDG_CACHE_HOME/sam21convert`` (``~/.cache/sam21convert``), and stay there until they are deleted.
"""

from __future__ import annotations

import os
import re
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from .downloading import check, download
from .errors import UsageError
from .hub import fetch_file, fetch_repository
from .published import PUBLISHED, Published
from .remote_files import at_hub

_HUB = re.compile(
    r"hf://(?P<repo>[^/@]+/[^/@]+)"
    r"(?:@(?P<revision>refs/[^/]+/[^/]+|[^/]+))?"
    r"(?:/(?P<file>.+))?/?"
)
_WEB = ("https://", "http://")
_FILES = {".bin", ".ckpt", ".json", ".pt", ".pth", ".safetensors"}


class Located(NamedTuple):
    """Where a checkpoint lies, and which of the published ones it should be, if any."""

    path: Path
    published: Published | None


def locate(source: str | Path) -> Path:
    """The local file or folder that ``source`` stands for, downloaded if it is not there yet.

    Raises :class:`UsageError` for what is none of the forms, :class:`UnreadableError` for what
    cannot be had or is not what was published, else as :func:`~sam21convert.hub.fetch` does.
    """
    return resolve(source).path


def resolve(source: str | Path) -> Located:
    """As :func:`locate`. A published file is checked when it arrives, not each time it is used."""
    path, text = Path(source), str(source)
    if path.exists():
        return Located(path, None)
    for published in PUBLISHED:
        if text in (published.name, published.url):
            download(published.url, cached_at(published), published.bytes, published.sha256)
            return Located(cached_at(published), published)
    if text.startswith("hf://"):
        return _of_hub(text)
    if text.startswith(_WEB):
        return Located(_of_web(text), None)
    if path.is_absolute() or path.suffix in _FILES:
        return Located(path, None)  # whoever opens it says that it is not there
    raise UsageError(
        f"{text}: no such file or folder, and no published checkpoint",
        hint="give a path, a name that sam21convert list shows, hf://org/repo[@revision][/file] "
        "or https://...",
    )


def verify(located: Located) -> None:
    """Check a published file anew; one that is wrong is moved out of its cache.

    Raises :class:`UnreadableError`.
    """
    path, published = located
    if published is not None:
        check(path, str(path), published.bytes, published.sha256, cached_at(published))


def cached_at(published: Published) -> Path:
    """Where a published checkpoint lies in the cache, if it does."""
    return _cache() / published.file


def glance(source: str | Path) -> Path:
    """As :func:`locate`, for headers only: a repository of the Hub is read where it is.

    With ``HF_HUB_OFFLINE`` set, what was downloaded before will do.
    """
    text = str(source)
    if not text.startswith("hf://") or Path(source).exists() or _offline():
        return locate(source)
    return at_hub(*_parts(text))


def _offline() -> bool:
    from huggingface_hub.constants import HF_HUB_OFFLINE

    return HF_HUB_OFFLINE


class _Parts(NamedTuple):
    """Of a reference to the Hub; ``head`` is all that is written before the file."""

    head: str
    repo: str
    revision: str | None
    file: str | None


def _parts(text: str) -> _Parts:
    hit = _HUB.fullmatch(text)
    if hit is None:
        raise UsageError(
            f"{text}: not of the form hf://org/repo[@revision][/file]",
            hint="for example hf://facebook/sam2.1-hiera-tiny",
        )
    revision = hit["revision"]
    head = text[: hit.end("revision" if revision else "repo")]
    return _Parts(head, hit["repo"], unquote(revision) if revision else None, hit["file"])


def _of_hub(text: str) -> Located:
    """What is checked is what the official repositories hold now: older revisions are free."""
    from huggingface_hub import try_to_load_from_cache

    _, repo, revision, file = _parts(text)
    official = {p.repo: p for p in PUBLISHED} if revision is None else {}
    published = official.get(repo)
    if published is None or file not in (None, published.file):
        path = fetch_file(repo, revision, file) if file else fetch_repository(repo, revision)[0]
        return Located(path, None)
    before = try_to_load_from_cache(repo, published.file)
    located = Located(fetch_file(repo, None, published.file), published)
    if before != str(located.path):
        verify(located)
    return located


def _of_web(url: str) -> Path:
    if not re.match(r"https?://[^/?#]", url):
        raise UsageError(f"{url}: no host is named", hint="give an address as a browser shows it")
    name = PurePosixPath(unquote(urlsplit(url).path)).name
    name = name if name.strip(".") else "checkpoint"
    path = _cache() / "web" / sha256(url.encode()).hexdigest()[:16] / name
    download(url, path)
    return path


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(home) if Path(home).is_absolute() else Path.home() / ".cache") / "sam21convert"
