"""Pull: download a checkpoint, check it, and copy it to a path."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..checkpoint.safety.report import Safety, SourceReport, assess
from ..config.transformers_folder import PROCESSORS
from ..errors import UsageError
from ..hub.resolve import resolve, verify
from ..io.data.checksums import sha256
from ..io.nearby import expanded
from ..io.open import open_source
from ..io.output.atomic import new_file, new_folder, refuse_existing
from ..io.source import CONFIG, INDEX
from ..report import SILENT, Progress


@dataclass(frozen=True)
class Pulled(SourceReport, schema="pull/1"):
    """The result of :func:`pull`.

    Attributes:
        source: the source as it was given.
        path: the downloaded file or folder.
        published: the name of the published checkpoint whose hash the file was checked against and
            has; None for any other source.
        bytes: the total size of the files.
        sha256: path in the folder, or file name, to SHA-256 in hexadecimal, for each file.
        safety: what loading it with torch or pickle would import and call.

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
    safety: Safety

    def __str__(self) -> str:
        return str(self.path)


def pull(
    source: str,
    destination: str | Path | None = None,
    *,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> Pulled:
    """Download a checkpoint to the cache, verify it, and copy it to a path if one is given.

    A published checkpoint is checked against its known hash, and a file of the Hub against the hash
    that the Hub states, also when it was in the cache already.

    Args:
        source: the name of a published checkpoint, ``hf://org/repo[@revision][/file]`` or
            ``https://...``, as for :func:`~sam21convert.hub.resolve.locate`.
        destination: where to copy it: a file, or a folder for a transformers repository. Without
            one, it stays in the cache only.
        overwrite: whether an existing ``destination`` is replaced.
        progress: is told what is done with what has arrived.

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
    out = None if destination is None else expanded(Path(destination))
    if out is not None:
        refuse_existing(out, overwrite=overwrite)
    located = resolve(source)
    path = located.path
    if path == expanded(Path(source)):
        raise UsageError(
            f"{source}: is a path, so there is nothing to download",
            hint="pull takes a name that sam21convert list shows, hf://org/repo or https://...",
        )
    progress.start("checking", 0)
    verify(located)
    names = _files(path) if path.is_dir() else []
    if out is not None:
        progress.start("copying", 0)
        path = _copy(path, names, out, overwrite=overwrite)
    files = {name: path / name for name in names} or {path.name: path}
    return Pulled(
        source=source,
        path=path,
        published=located.published.name if located.published else None,
        bytes=sum(file.stat().st_size for file in files.values()),
        sha256={name: sha256(file) for name, file in files.items()},
        safety=assess(path),
    )


def _files(folder: Path) -> list[str]:
    """The paths in a folder of what belongs to it; the cache may hold more of the repository."""
    side_files = [folder / name for name in (CONFIG, INDEX, *PROCESSORS)]
    files = {*(file for file in side_files if file.exists()), *open_source(folder).files}
    return sorted(file.relative_to(folder).as_posix() for file in files)


def _copy(path: Path, names: Sequence[str], destination: Path, *, overwrite: bool) -> Path:
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
            for name in names:
                (temporary / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path / name, temporary / name)
    return destination
