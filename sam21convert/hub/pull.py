"""Download a checkpoint, and list those that the authors publish."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config.transformers_folder import PROCESSORS
from ..errors import UsageError
from ..io.data.checksums import sha256
from ..io.open import open_source
from ..io.output.atomic import new_file, new_folder, refuse_existing
from ..io.source import CONFIG, INDEX
from ..report import Report
from .published import PUBLISHED
from .resolve import cache_path, hub_cache_path, resolve, verify


@dataclass(frozen=True)
class Pulled(Report):
    """The result of :func:`pull`.

    Attributes:
        source: the source as it was given.
        path: the downloaded file or folder.
        published: the name of the published checkpoint whose hash the file was checked against and
            has; None for any other source.
        bytes: the total size of the files.
        sha256: file name to SHA-256 in hexadecimal, for each file.

    Example:
        >>> pulled = sam21convert.pull("hf://org/my-sam2", "copy")
        >>> pulled.bytes > 0
        True
    """

    source: str
    path: Path
    published: str | None
    bytes: int
    sha256: dict[str, str]

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class Listed(Report):
    """A published checkpoint, and where it is on this machine.

    Attributes:
        name: the name under which it can be pulled, as in ``sam2.1_hiera_tiny``.
        config: the full name of its shipped config.
        generation: ``"2.0"`` or ``"2.1"``.
        size: ``tiny``, ``small``, ``base_plus`` or ``large``.
        bytes: the size of the file.
        sha256: the SHA-256 of the file, in hexadecimal.
        url: where the authors publish it.
        repo: the repository of the Hub that holds the same file.
        cached: its path in the cache of this package, None when it is not there.
        cached_by_hub: its path in the cache of ``huggingface_hub``, which ``hf://`` uses; None when
            it is not there.
    """

    name: str
    config: str
    generation: str
    size: str
    bytes: int
    sha256: str
    url: str
    repo: str
    cached: Path | None
    cached_by_hub: Path | None

    def __str__(self) -> str:
        cached = "yes" if self.cached else "by the Hub" if self.cached_by_hub else "no"
        return (
            f"{self.name:<22}  {self.generation}  {self.size:<9}  {self.bytes:>9}  {self.sha256}  "
            f"{cached}"
        )


@dataclass(frozen=True)
class Listing(Report):
    """The result of :func:`published_checkpoints`.

    Attributes:
        checkpoints: the checkpoints: SAM 2.1 before SAM 2.0, each from small to large.

    Example:
        >>> listing = sam21convert.published_checkpoints()
        >>> [one.name for one in listing.checkpoints if one.size == "large"]
        ['sam2.1_hiera_large', 'sam2_hiera_large']
    """

    checkpoints: tuple[Listed, ...]

    def to_dict(self) -> dict[str, Any]:
        """Convert the list to plain values for JSON.

        Returns:
            A dict with the single key ``checkpoints``: a list with one dict for each checkpoint.
        """
        return {"checkpoints": [listed.to_dict() for listed in self.checkpoints]}

    def __str__(self) -> str:
        head = f"{'name':<22}  SAM  {'size':<9}  {'bytes':>9}  {'SHA-256':<64}  cached"
        return "\n".join([head, *map(str, self.checkpoints)])


def published_checkpoints() -> Listing:
    """List the checkpoints that the authors of SAM 2 publish, without asking the network.

    Returns:
        The checkpoints, and where those that are on this machine are.

    Example:
        >>> sam21convert.published_checkpoints().checkpoints[0].name
        'sam2.1_hiera_tiny'
    """
    return Listing(
        tuple(
            Listed(
                name=published.name,
                config=published.config,
                generation=published.generation,
                size=published.size,
                bytes=published.bytes,
                sha256=published.sha256,
                url=published.url,
                repo=published.repo,
                cached=path if (path := cache_path(published)).exists() else None,
                cached_by_hub=hub_cache_path(published),
            )
            for published in PUBLISHED
        )
    )


def pull(source: str, destination: str | Path | None = None, *, overwrite: bool = False) -> Pulled:
    """Download a checkpoint to the cache, verify it, and copy it to a path if one is given.

    A published checkpoint is checked against its known hash, and a file of the Hub against the hash
    that the Hub states, also when it was in the cache already.

    Args:
        source: the name of a published checkpoint, ``hf://org/repo[@revision][/file]`` or
            ``https://...``, as for :func:`~sam21convert.hub.resolve.locate`.
        destination: where to copy it: a file, or a folder for a transformers repository. Without
            one, it stays in the cache only.
        overwrite: whether an existing ``destination`` is replaced.

    Returns:
        Where the checkpoint is now, with the hashes of its files.

    Raises:
        UsageError: when ``source`` is a path or none of the forms, when ``destination`` exists
            without ``overwrite``, or when one is a file and the other a folder.
        RefusedError: when the repository holds no checkpoint.
        UnreadableError: when the checkpoint cannot be downloaded or has the wrong hash.

    Example:
        >>> sam21convert.pull("hf://org/my-sam2", "copy").path
        PosixPath('copy')
    """
    if destination is not None:
        refuse_existing(Path(destination), overwrite=overwrite)
    located = resolve(source)
    path = located.path
    if path == Path(source):
        raise UsageError(
            f"{source}: is a path, so there is nothing to download",
            hint="pull takes a name that sam21convert list shows, hf://org/repo or https://...",
        )
    verify(located)
    files = _files(path) if path.is_dir() else [path]
    if destination is not None:
        path = _copy(path, files, Path(destination), overwrite=overwrite)
        files = [path / file.name for file in files] if path.is_dir() else [path]
    return Pulled(
        source=source,
        path=path,
        published=located.published.name if located.published else None,
        bytes=sum(file.stat().st_size for file in files),
        sha256={file.name: sha256(file) for file in files},
    )


def _files(folder: Path) -> list[Path]:
    """The files of a transformers folder; the cache may hold other files of the repository too."""
    side_files = [folder / name for name in (CONFIG, INDEX, *PROCESSORS)]
    return sorted({*(file for file in side_files if file.exists()), *open_source(folder).files})


def _copy(path: Path, files: Sequence[Path], destination: Path, *, overwrite: bool) -> Path:
    if destination.exists() and destination.is_dir() != path.is_dir():
        found, needed = ("a folder", "a file") if path.is_file() else ("a file", "a folder")
        raise UsageError(
            f"{destination}: is {found}, but the target must be {needed}",
            hint="give a path that does not exist yet",
        )
    if path.is_file():
        with new_file(destination, overwrite=overwrite) as temporary:
            shutil.copyfile(path, temporary)
    else:
        with new_folder(destination, overwrite=overwrite) as temporary:
            for file in files:
                shutil.copyfile(file, temporary / file.name)
    return destination
