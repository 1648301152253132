"""Turn what a user writes for a checkpoint into a path.

::

    model.pt  my-model/                a path; if it exists it takes precedence over the rest
    sam2.1_hiera_tiny                  a published checkpoint
    hf://org/repo[@revision]           a repository of the Hub: the folder that libraries load, or
                                       else the only checkpoint, with the config beside it
    hf://org/repo[@revision]/folder    the same for a folder in it
    hf://org/repo[@revision]/file      this file of the repository alone
    org/repo[@revision]                the same as hf://org/repo, if there is no folder org
    https://huggingface.co/org/repo... the page of a repository, folder or file: as hf://
    https://host/model.pt              a file on the web

Files of the Hub go to the cache of ``huggingface_hub``, all others to
``$XDG_CACHE_HOME/sam21convert`` (``~/.cache/sam21convert``). They stay there until you delete them.
"""

from __future__ import annotations

import shlex
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from ..errors import (
    MissingFileError,
    RefusedError,
    Sam21ConvertError,
    UsageError,
    did_you_mean,
    nearest,
    unreadable,
)
from ..io.nearby import expanded, missing, nearby, there
from .download import cache, check, download
from .fetch import check_cached, fetch_named, fetch_repository
from .published import PUBLISHED, Published
from .redaction import redact
from .remote import open_remote
from .spelling import FILES, WEB, Reference, parse, published_named, spelt

_LONGEST = 100  # bytes of a name in the cache, to which longer endings are added


class Located(NamedTuple):
    """Where a checkpoint is, and what its source tells about it.

    Attributes:
        path: the file or folder; on the Hub (:class:`~.remote.HubPath`) if it is not downloaded.
        published: the published checkpoint that it must equal, if it was given as one.
        config: the YAML beside it in its repository, if there is exactly one.
        repo: its repository, if it is in the cache of ``huggingface_hub``.
        notes: what a user should know about how it was chosen in its repository, a sentence each.
    """

    path: Path
    published: Published | None = None
    config: Path | None = None
    repo: str | None = None
    notes: tuple[str, ...] = ()


def locate(source: str | Path) -> Path:
    """Give the local path of a checkpoint, downloading it if it is not there yet.

    Args:
        source: any form that the description of this module lists.

    Returns:
        The local file or folder.

    Raises:
        MissingFileError: when ``source`` is neither a path nor any other of the forms.
        UsageError: when a repository has several checkpoints, or an address is not well formed.
        RefusedError: when a repository has no checkpoint, and for ``-`` (standard input).
        UnreadableError: when the checkpoint cannot be downloaded or has the wrong hash, and when
            the system cannot look up the path.
    """
    return resolve(source).path


def resolve(source: str | Path, *, header_only: bool = False) -> Located:
    """Find a checkpoint, downloading it if it is not there yet.

    A published checkpoint is checked against its hash when it arrives, not each time it is used.

    Args:
        source: any form that the description of this module lists.
        header_only: whether only headers will be read. A repository of the Hub is then not
            downloaded, and the path is a :class:`~.remote.HubPath`; with ``HF_HUB_OFFLINE`` set, an
            earlier download is used instead.

    Returns:
        The path of the checkpoint, as from :func:`locate`, and what its source tells about it.

    Raises:
        MissingFileError: when ``source`` is neither a path nor any other of the forms.
        UsageError: when a repository has several checkpoints, or an address is not well formed.
        RefusedError: when a repository has no checkpoint, and for ``-`` (standard input).
        UnreadableError: when the checkpoint cannot be downloaded or has the wrong hash, and when
            the system cannot look up the path.
    """
    path, text = expanded(Path(source)), str(source)
    if _is_there(path, text):
        return Located(path)
    taken = spelt(text)
    if taken is not None:
        found = _published_or_on_hub(taken, header_only=header_only)
        plain = text == taken or (found.published is not None and text == found.published.url)
        note = f"{redact(text)} is taken for {taken}"
        return found if plain else found._replace(notes=(note, *found.notes))
    if text.startswith(WEB):
        return Located(_download_from_web(text))
    if path.is_absolute() or path.suffix in FILES:
        raise _missing(path)
    if text == "-":
        raise RefusedError(
            "-: a checkpoint cannot be read from standard input, because it is not read in order",
            hint="save it to a file, and give the path of the file",
        )
    near = [*map(str, nearby(path))] or nearest(text, [one.name for one in PUBLISHED])
    otherwise = (
        "give a path, a name that sam21convert list shows, hf://org/repo[@revision][/file] "
        "or https://..."
    )
    raise MissingFileError(
        f"{text}: no such file or folder, and no published checkpoint of this name",
        hint=did_you_mean(near, otherwise),
    )


def _published_or_on_hub(taken: str, *, header_only: bool) -> Located:
    """Find what :func:`~.spelling.spelt` names."""
    published = published_named(taken)
    if published is not None:
        download(published.url, cache_path(published), published.bytes, published.sha256)
        return Located(cache_path(published), published)
    reference = parse(taken)
    if header_only and not _is_offline():
        remote, config = open_remote(*reference)
        return Located(remote, config=config)
    return _download_from_hub(reference)


def _missing(path: Path) -> Sam21ConvertError:
    """The error for a path that is certainly meant for a file, and is not there."""
    published = published_named(path.stem) if path.suffix == ".pt" else None
    if published is None:
        return missing(path)
    to = shlex.quote(str(path))
    return missing(path, f"sam21convert pull {published.name} {to} downloads it")


def _is_there(path: Path, text: str) -> bool:
    """Whether there is a file or folder of this name, which may be an address."""
    address = text.startswith(("hf://", *WEB))
    if "\0" in text and not address:
        raise MissingFileError(f"{path}: no such file: a name cannot hold a zero byte")
    try:
        return there(path)
    except OSError as error:
        if address:  # those with a signature are too long for a name
            return False
        raise unreadable(path, error) from error


def verify(located: Located) -> None:
    """Check the hashes of a checkpoint again; a file with the wrong hash is moved out of its cache.

    Files for which no hash is known are not checked.

    Args:
        located: the checkpoint, on this machine.

    Raises:
        UnreadableError: when a file has the wrong size or hash.
    """
    path, published, repo = located.path, located.published, located.repo
    if published is not None:
        check(path, str(path), published.bytes, published.sha256, cache_path(published))
    elif repo is not None:
        for file in [path] if path.is_file() else sorted(path.iterdir()):
            if file.is_symlink():  # without links the cache does not record the hash
                check_cached(file, repo, file.name)


def cache_path(published: Published) -> Path:
    """Give the path of a published checkpoint in the cache of this package.

    Args:
        published: the published checkpoint.

    Returns:
        The path, whether or not the file is there.
    """
    return cache() / published.file


def hub_cache_path(published: Published) -> Path | None:
    """Find a published checkpoint in the cache of ``huggingface_hub``.

    Args:
        published: the published checkpoint.

    Returns:
        Its path in the newest ``main`` revision that the cache knows, None when it is not there.
    """
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(published.repo, published.file)
    return Path(found) if isinstance(found, str) else None


def _is_offline() -> bool:
    from huggingface_hub.constants import HF_HUB_OFFLINE

    return HF_HUB_OFFLINE


def _download_from_hub(reference: Reference) -> Located:
    """Download from the Hub; only current files of official repositories have a known hash."""
    head, repo, revision, file = reference
    if file:
        path, config, notes = fetch_named(head, repo, revision, file)
    else:
        path, config, notes = fetch_repository(head, repo, revision)
    official = {} if revision else {(p.repo, p.file): p for p in PUBLISHED}
    published = official.get((repo, path.name))
    located = Located(path, published, config, repo, notes)
    if published is not None and path.resolve().name != published.sha256:
        verify(located)  # a blob of that name was already checked against the hash when it arrived
    return located


def _download_from_web(url: str) -> Path:
    name = _file_name(path_of(url))
    from hashlib import sha256

    path = cache() / "web" / sha256(url.encode()).hexdigest()[:16] / name
    download(url, path)
    return path


def path_of(url: str) -> str:
    """Check an address of the web, and give the path in it.

    Args:
        url: ``https://host/path``.

    Returns:
        The path, with the characters that are written as ``%XX``.

    Raises:
        UsageError: when it is not a valid address.
    """
    wrong = None
    try:
        parts = urlsplit(url)
        path = unquote(parts.path)
        if not parts.hostname:
            wrong = "the address has no host"
        elif parts.port == 0 or " " in parts.netloc:
            wrong = "the address has no valid host and port"
        elif not url.isprintable() or "\0" in path:  # urlsplit leaves out what breaks lines
            wrong = "holds a character that no address has"
    except ValueError as error:
        wrong = f"not a valid address: {error}"
    if wrong is not None:
        raise UsageError(f"{redact(url)}: {wrong}", hint="give an address as a browser shows it")
    return path


def _file_name(path: str) -> str:
    """A name that every file system takes, from the path of an address."""
    name = "".join(c if c.isprintable() else "_" for c in PurePosixPath(path).name)
    while len(name.encode()) > _LONGEST:
        name = name[1:]  # its end says what kind of file it is
    return name if name.strip(".") else "checkpoint"
