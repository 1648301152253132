"""Repositories: contents in files, commits, branches, pull requests."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from itertools import count
from pathlib import Path

from .messages import RefusalError
from .policy import LFS_SUFFIXES, attributes, covered, goes_to_lfs

ATTRIBUTES = ".gitattributes"


@dataclass(frozen=True)
class Blob:
    """A file of a commit; ``oid`` is git's hash of the content, or of the pointer to it in LFS."""

    path: Path
    size: int
    sha256: str
    oid: str
    lfs: bool

    def read(self) -> bytes:
        """The content."""
        return self.path.read_bytes()


@dataclass(frozen=True)
class Commit:
    """The files after it, and what came before."""

    id: str
    parent: str | None
    title: str
    message: str
    author: str
    date: str
    files: Mapping[str, Blob]


@dataclass
class Discussion:
    """A discussion, or the pull request ``refs/pr/{num}``; ``status``: draft, open or closed."""

    num: int
    title: str
    description: str
    author: str
    is_pull_request: bool
    status: str
    created: str


def now() -> str:
    """The time, as the Hub writes it."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")


class Objects:
    """Contents in a folder, each in a file named by its sha256."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._numbers = count()

    def path(self, sha256: str) -> Path:
        return self._folder / sha256

    def receive(self, chunks: Iterable[bytes], sha256: str | None = None) -> str:
        """Stores what comes, piece by piece, and tells its hash; refuses any other than given."""
        incoming = self._folder / f"incoming-{next(self._numbers)}"
        digest = hashlib.sha256()
        try:
            with incoming.open("wb") as file:
                for chunk in chunks:
                    digest.update(chunk)
                    file.write(chunk)
            found = digest.hexdigest()
            if sha256 not in (None, found):
                raise RefusalError(400, f"the content has sha256 {found}, not {sha256}")
            incoming.rename(self.path(found))
        finally:
            incoming.unlink(missing_ok=True)
        return found

    def blob(self, sha256: str, lfs: bool) -> Blob:
        """A content that is here, as a file of a commit."""
        path = self.path(sha256)
        if not path.is_file():
            raise RefusalError(400, f"no LFS object {sha256}: upload it before the commit")
        size = path.stat().st_size
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"
        content = pointer.encode() if lfs else path.read_bytes()
        oid = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        return Blob(path, size, sha256, oid, lfs)


@dataclass
class Repo:
    """A model, or a Space with a ``prefix``. Refs are full names, ``refs/heads/main``, with the
    hash of a commit. ``starter`` is what the first commit holds besides ``.gitattributes``.
    """

    name: str
    objects: Objects
    private: bool = False
    gated: bool = False
    prefix: str = ""
    starter: Mapping[str, bytes] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    discussions: list[Discussion] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def __post_init__(self) -> None:
        text = attributes(f"*.{suffix}" for suffix in LFS_SUFFIXES)
        files = {
            name: self.objects.blob(self.objects.receive([content]), lfs=False)
            for name, content in {ATTRIBUTES: text.encode(), **self.starter}.items()
        }
        first = self._add(None, "initial commit", "", "system", files)
        self.refs["refs/heads/main"] = first.id

    @property
    def key(self) -> str:
        """Its name in addresses, and among all repositories."""
        return f"{self.prefix}{self.name}"

    def ref(self, revision: str) -> str:
        """The full name of a branch, a tag or a pull request."""
        for name in (revision, f"refs/heads/{revision}", f"refs/tags/{revision}"):
            if name in self.refs:
                return name
        raise RefusalError(404, f"no revision {revision} in {self.name}", "RevisionNotFound")

    def head(self, revision: str = "main") -> Commit:
        """The commit that a ref points to, or that has this hash."""
        return self.commits.get(revision) or self.commits[self.refs[self.ref(revision)]]

    def files(self, revision: str = "main") -> dict[str, Blob]:
        """What a revision holds, ``.gitattributes`` included."""
        return dict(self.head(revision).files)

    def history(self, revision: str = "main") -> list[Commit]:
        """Commits, the last first."""
        commits = [self.head(revision)]
        while (parent := commits[-1].parent) is not None:
            commits.append(self.commits[parent])
        return commits

    def sends_to_lfs(self, revision: str, path: str, size: int, sample: bytes) -> bool:
        """Whether a new file of this revision goes to LFS."""
        text = self.head(revision).files[ATTRIBUTES].read().decode()
        return goes_to_lfs(path, size, sample, text)

    def write(self, files: Mapping[str, bytes], revision: str = "main") -> Commit:
        """Puts files there as by another person; a new branch starts from the first commit."""
        self.refs.setdefault(f"refs/heads/{revision}", next(iter(self.commits)))
        changes = {
            path: self.objects.blob(
                self.objects.receive([data]),
                self.sends_to_lfs(revision, path, len(data), data[:512]),
            )
            for path, data in files.items()
        }
        return self.commit(revision, changes, "written on the Hub")

    def commit(
        self,
        revision: str,
        changes: Mapping[str, Blob],
        title: str,
        message: str = "",
        author: str = "system",
        parent: str | None = None,
    ) -> Commit:
        """Adds files to a ref; ``parent`` must be its head if given, else 412."""
        with self.lock:
            ref = self.ref(revision)
            if parent not in (None, self.refs[ref]):
                raise RefusalError(412, f"{ref} has moved: its head is {self.refs[ref]}")
            files = {**self.commits[self.refs[ref]].files, **changes}
            files[ATTRIBUTES] = self._covering(files)
            commit = self._add(self.refs[ref], title, message, author, files)
            self.refs[ref] = commit.id
            return commit

    def open_discussion(
        self,
        title: str,
        description: str,
        author: str,
        status: str = "open",
        base: str | None = None,
    ) -> Discussion:
        """Numbers a new one; with a ``base`` it is a pull request that starts there."""
        with self.lock:
            num = len(self.discussions) + 1
            if base is not None:
                self.refs[f"refs/pr/{num}"] = self.head(base).id
            opened = Discussion(num, title, description, author, base is not None, status, now())
            self.discussions.append(opened)
            return opened

    def discussion(self, num: str) -> Discussion:
        """The one with this number."""
        if num.isdigit() and 0 < int(num) <= len(self.discussions):
            return self.discussions[int(num) - 1]
        raise RefusalError(404, f"no discussion {num} in {self.name}")

    def _covering(self, files: Mapping[str, Blob]) -> Blob:
        """.gitattributes with a line for each LFS file that none covers yet."""
        blob = files[ATTRIBUTES]
        text = blob.read().decode()
        missing = [path for path, each in files.items() if each.lfs and not covered(path, text)]
        if not missing:
            return blob
        content = (text + attributes(missing)).encode()
        return self.objects.blob(self.objects.receive([content]), lfs=False)

    def _add(
        self, parent: str | None, title: str, message: str, author: str, files: Mapping[str, Blob]
    ) -> Commit:
        told = [self.name, str(len(self.commits)), title, *files, *(b.oid for b in files.values())]
        identity = hashlib.sha1("\n".join(told).encode()).hexdigest()
        commit = Commit(
            identity, parent, title, message, author, now(), dict(sorted(files.items()))
        )
        self.commits[identity] = commit
        return commit
