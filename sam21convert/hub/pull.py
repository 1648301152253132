"""Checkpoints from elsewhere, brought here; and which ones are published."""

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
from .resolve import cached_at, in_cache_of_hub, resolve, verify


@dataclass(frozen=True)
class Pulled(Report):
    """What :func:`pull` brought: a file or a folder, and each file in it by name.

    ``published`` is the name of the published checkpoint whose hash was asked for, and found.
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
    """A published checkpoint; ``cached`` and ``cached_by_hub`` are where it lies, if it does.

    The second is the cache of ``huggingface_hub``, from where ``hf://`` takes it.
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
    """The answer of :func:`published_checkpoints`."""

    checkpoints: tuple[Listed, ...]

    def to_dict(self) -> dict[str, Any]:
        """The checkpoints, each as named values."""
        return {"checkpoints": [listed.to_dict() for listed in self.checkpoints]}

    def __str__(self) -> str:
        head = f"{'name':<22}  SAM  {'size':<9}  {'bytes':>9}  {'SHA-256':<64}  cached"
        return "\n".join([head, *map(str, self.checkpoints)])


def published_checkpoints() -> Listing:
    """The checkpoints that the authors of SAM 2 publish, and which of them are in the cache."""
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
                cached=path if (path := cached_at(published)).exists() else None,
                cached_by_hub=in_cache_of_hub(published),
            )
            for published in PUBLISHED
        )
    )


def pull(source: str, destination: str | Path | None = None, *, overwrite: bool = False) -> Pulled:
    """Download ``source``, as :func:`~sam21convert.hub.resolve.locate` takes it.

    It goes to the cache, and is copied to ``destination`` if one is given: a file, or for a
    transformers repository a folder. A published file is compared with its hash, and one of the Hub
    with the hash stated there, also when it was in the cache.

    Raises :class:`UsageError` for a path and where ``destination`` exists, else as ``locate`` does.
    """
    if destination is not None:
        refuse_existing(Path(destination), overwrite=overwrite)
    located = resolve(source)
    path = located.path
    if path == Path(source):
        raise UsageError(
            f"{source}: is a path",
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
    """What belongs to a transformers folder; a cache may hold more of the repository."""
    beside = [folder / name for name in (CONFIG, INDEX, *PROCESSORS)]
    return sorted({*(file for file in beside if file.exists()), *open_source(folder).files})


def _copy(path: Path, files: Sequence[Path], destination: Path, *, overwrite: bool) -> Path:
    if destination.exists() and destination.is_dir() != path.is_dir():
        there, wanted = ("a folder", "a file") if path.is_file() else ("a file", "a folder")
        raise UsageError(f"{destination}: is {there}; what is to be written is {wanted}")
    if path.is_file():
        with new_file(destination, overwrite=overwrite) as temporary:
            shutil.copyfile(path, temporary)
    else:
        with new_folder(destination, overwrite=overwrite) as temporary:
            for file in files:
                shutil.copyfile(file, temporary / file.name)
    return destination
