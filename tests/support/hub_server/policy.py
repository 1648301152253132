"""Rules of the Hub: who a user is, which files go to LFS, what a card must have."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

LARGE = 10 << 20  # bytes; from here on a file goes to LFS whatever its name
LFS_SUFFIXES = ("bin", "ckpt", "gz", "h5", "npy", "npz", "pkl", "pt", "pth", "safetensors", "zip")
SIGNATURE = "signaturesecret"  # who has a link to the storage with it may use it
LICENSES = {"apache-2.0", "bsd-3-clause", "cc-by-4.0", "mit", "openrail", "other", "unknown"}


@dataclass(frozen=True)
class User:
    """A user with a token; ``orgs`` are namespaces in addition to the user's own."""

    name: str
    token: str
    orgs: tuple[str, ...] = ()
    writes: bool = True

    @property
    def namespaces(self) -> tuple[str, ...]:
        return (self.name, *self.orgs)


WRITER = User("writer", "hf_writersecrettoken", ("org",))
READER = User("reader", "hf_readersecrettoken", ("org",), writes=False)
STRANGER = User("stranger", "hf_strangersecrettoken")  # may write, but not to org


def attributes(patterns: Iterable[str]) -> str:
    """Lines of .gitattributes that send these patterns to LFS."""
    return "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in patterns)


def covered(path: str, gitattributes: str) -> bool:
    """Whether .gitattributes sends this path to LFS."""
    lines = [line.split() for line in gitattributes.splitlines()]
    patterns = [line[0] for line in lines if "filter=lfs" in line]
    name = path.rpartition("/")[2]
    return any(fnmatchcase(path if "/" in each else name, each) for each in patterns)


def goes_to_lfs(path: str, size: int, sample: bytes, gitattributes: str) -> bool:
    """Whether a file goes to LFS: by name, by size, or because its first bytes are not text."""
    return size > 0 and (covered(path, gitattributes) or size >= LARGE or b"\0" in sample)


def card_problems(content: str) -> tuple[list[str], list[str]]:
    """Errors and warnings about the metadata of a card: a small part of the real rules."""
    found = re.match(r"---\r?\n(.*?)^---\s*$", content, re.DOTALL | re.MULTILINE)
    if found is None:
        return [], ["empty or missing yaml metadata in repo card"]
    errors = []
    for line in found[1].splitlines():
        key, colon, value = line.partition(":")
        if not colon and not line.startswith(("-", " ", "#")) and line.strip():
            errors.append(f"not YAML: {line!r}")
        if key == "license" and value.strip() not in LICENSES:
            errors.append(f'"license" must be one of {sorted(LICENSES)}')
    return errors, []
