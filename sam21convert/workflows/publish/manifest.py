"""The list of the files that this package wrote into a repository: who may replace what.

It is a file of its own, ``sam21convert.json``, and not a part of the README. People edit a README
by hand, also the section that is ours, and must not lose the right to update their model by that.
And the README shows names that come from untrusted files, while here stand none but those of the
files that were written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..._version import __version__
from ...errors import RefusedError, UnreadableError
from ...io.data.checksums import sha256
from ...io.text import read_json

MANIFEST = "sam21convert.json"
LARGEST = 1 << 16  # bytes, as of any JSON that read_json reads
_FORMAT = 1
_HASH = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class FileFact:
    """What is stated about a file.

    Attributes:
        name: Its path in the repository or folder, with ``/`` between the parts.
        size: In bytes.
        sha256: Of its content, in hexadecimal.
    """

    name: str
    size: int
    sha256: str

    @classmethod
    def of(cls, path: Path, home: Path | None = None) -> FileFact:
        """State the facts of a file.

        Args:
            path: The file.
            home: The folder of which ``name`` is a path; None for that of the file.

        Returns:
            Its name, size and hash.
        """
        name = path.relative_to(home or path.parent).as_posix()
        return cls(name, path.stat().st_size, sha256(path))


def write_manifest(folder: Path, files: Iterable[FileFact]) -> FileFact:
    """List files in the manifest of the folder that becomes a repository.

    Args:
        folder: The folder.
        files: All its files but the README, which is nobody's alone, and those that an earlier run
            wrote into the repository and this one does not.

    Returns:
        The facts of the manifest itself.
    """
    listed = {file.name: {"size": file.size, "sha256": file.sha256} for file in files}
    content = {"format": _FORMAT, "tool": f"sam21convert {__version__}", "files": listed}
    path = folder / MANIFEST
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8", newline="\n")
    return FileFact.of(path)


def read_manifest(path: Path, repo_id: str) -> Mapping[str, FileFact] | None:
    """Read a manifest.

    Args:
        path: A file by the name of a manifest, from anyone.
        repo_id: The repository that holds it, for messages.

    Returns:
        The files that it lists, by name; None if it is not a manifest of this package.

    Raises:
        RefusedError: If a later version of this package wrote it.
    """
    try:
        content = read_json(path)
    except (RefusedError, UnreadableError):
        return None
    if _is_count(content.get("format")) and content["format"] > _FORMAT and "files" in content:
        raise RefusedError(
            f"{repo_id}: a later version of sam21convert wrote {MANIFEST}",
            hint="update sam21convert; or propose the change with `create_pr=True`",
        )
    files = content.get("files")
    if (
        content.keys() != {"format", "tool", "files"}
        or not _is_count(content["format"])
        or content["format"] != _FORMAT
        or not isinstance(content["tool"], str)
        or not isinstance(files, dict)
        or not all(map(_is_listed, files.values()))
    ):
        return None
    return {name: FileFact(name, **stated) for name, stated in files.items()}


def _is_listed(stated: Any) -> bool:
    return (
        isinstance(stated, dict)
        and stated.keys() == {"size", "sha256"}
        and _is_count(stated["size"])
        and isinstance(stated["sha256"], str)
        and _HASH.fullmatch(stated["sha256"]) is not None
    )


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0  # bool is an int as well
