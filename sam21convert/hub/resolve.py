"""What a user may write for a checkpoint, turned into a path.

::

    model.pt  my-model/                a path that exists; it wins over all others
    sam2.1_hiera_tiny                  a published checkpoint
    hf://org/repo[@revision]           of a repository of the Hub the transformers folder, else
                                       the only checkpoint, with the config beside it
    hf://org/repo[@revision]/file      that file, and nothing beside it
    https://host/model.pt              a file of the web

The Hub's files go to the cache of ``huggingface_hub``, all others to
``$XDG_CACHE_HOME/sam21convert`` (``~/.cache/sam21convert``), and stay there until they are deleted.
"""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from ..errors import MissingSourceError, RefusedError, UsageError
from .download import cache, check, download
from .fetch import check_cached, fetch_file, fetch_repository
from .published import PUBLISHED, Published
from .remote import at_hub

_HUB = re.compile(
    r"hf://(?P<repo>[^/@]+/[^/@]+)"
    r"(?:@(?P<revision>refs/[^/]+/[^/]+|[^/]+))?"
    r"(?:/(?P<file>.+))?/?"
)
_WEB = ("https://", "http://")
_FILES = {".bin", ".ckpt", ".json", ".pt", ".pth", ".safetensors"}


class Located(NamedTuple):
    """Where a checkpoint lies, and what is known of it besides.

    ``published`` is the published checkpoint that it should be, ``config`` the YAML beside it in
    its repository, ``repo`` that repository if it is in the cache of the Hub.
    """

    path: Path
    published: Published | None = None
    config: Path | None = None
    repo: str | None = None


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
        return Located(path)
    for published in PUBLISHED:
        if text in (published.name, published.url):
            download(published.url, cached_at(published), published.bytes, published.sha256)
            return Located(cached_at(published), published)
    if text.startswith("hf://"):
        return _of_hub(text)
    if text.startswith(_WEB):
        return Located(_of_web(text))
    if path.is_absolute() or path.suffix in _FILES:
        return Located(path)  # whoever opens it says that it is not there
    if text == "-":
        raise RefusedError(
            "-: standard input cannot be read: a checkpoint is not read from start to end",
            hint="save it to a file, and give that",
        )
    raise MissingSourceError(
        f"{text}: no such file or folder, and no published checkpoint",
        hint="give a path, a name that sam21convert list shows, hf://org/repo[@revision][/file] "
        "or https://...",
    )


def verify(located: Located) -> None:
    """Check what a hash is known of anew; a file that is wrong is moved out of its cache.

    Raises :class:`UnreadableError`.
    """
    path, published, _, repo = located
    if published is not None:
        check(path, str(path), published.bytes, published.sha256, cached_at(published))
    elif repo is not None:
        for file in [path] if path.is_file() else sorted(path.iterdir()):
            if file.is_symlink():  # else only the Hub could tell the hash
                check_cached(file, repo, file.name)


def cached_at(published: Published) -> Path:
    """Where a published checkpoint lies in the cache, if it does."""
    return cache() / published.file


def in_cache_of_hub(published: Published) -> Path | None:
    """Where it lies in the cache of the Hub, if it does, of the revision that was last ``main``."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(published.repo, published.file)
    return Path(found) if isinstance(found, str) else None


def glance(source: str | Path) -> Located:
    """As :func:`resolve`, for headers only: a repository of the Hub is read where it is.

    With ``HF_HUB_OFFLINE`` set, what was downloaded before will do.
    """
    text = str(source)
    if not text.startswith("hf://") or Path(source).exists() or _offline():
        return resolve(source)
    path, config = at_hub(*_parts(text))
    return Located(path, config=config)


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
    _, repo, revision, file = _parts(text)
    path, config = (
        (fetch_file(repo, revision, file), None) if file else fetch_repository(repo, revision)
    )
    official = {} if revision else {(p.repo, p.file): p for p in PUBLISHED}
    published = official.get((repo, path.name))
    located = Located(path, published, config, repo)
    if published is not None and path.resolve().name != published.sha256:
        verify(located)  # else the Hub states that hash, with which the file was compared
    return located


def _of_web(url: str) -> Path:
    if not re.match(r"https?://[^/?#]", url):
        raise UsageError(f"{url}: no host is named", hint="give an address as a browser shows it")
    name = PurePosixPath(unquote(urlsplit(url).path)).name
    name = name if name.strip(".") else "checkpoint"
    path = cache() / "web" / sha256(url.encode()).hexdigest()[:16] / name
    download(url, path)
    return path
