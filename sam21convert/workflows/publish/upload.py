"""The state of a repository of the Hub, and commits to it, through ``huggingface_hub`` alone.

Its client does not repeat a commit whose answer was lost, because the commit may have succeeded.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import starmap
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias, cast

from huggingface_hub import CommitOperationAdd, HfApi, errors
from huggingface_hub.hf_api import RepoFile

from ...errors import MismatchError, UnreadableError
from ...hub.errors import Failure, translate_errors
from ...hub.retry import TRIES, retry, wait
from ...io.data.checksums import git_hash, sha256
from ...report import Progress, size_text

Kind: TypeAlias = Literal["model", "space"]
Sdk: TypeAlias = Literal["static", "docker"]  # of a Space


@dataclass(frozen=True)
class RemoteState:
    """The state of a revision of a repository.

    Attributes:
        revision: A branch or ``refs/pr/N``.
        head: The id of its newest commit.
        files: The files of that commit, by path.
        kind: Of the repository.
    """

    revision: str
    head: str
    files: Mapping[str, RepoFile]
    kind: Kind = "model"

    def holds(self, name: str, path: Path) -> bool:
        """Tell whether the revision has a file of this name and content.

        Args:
            name: Its path in the repository.
            path: A local file.

        Returns:
            True if size and hash are equal.
        """
        file = self.files.get(name)
        if file is None or file.size != path.stat().st_size:
            return False
        if file.lfs is not None:
            return sha256(path) == file.lfs.sha256
        return git_hash(path) == file.blob_id


def fetch_state(
    api: HfApi, repo_id: str, revision: str, kind: Kind = "model"
) -> RemoteState | None:
    """Ask the Hub for the state of a revision.

    Args:
        api: The client.
        repo_id: The repository, ``namespace/name``.
        revision: A branch or ``refs/pr/N``.
        kind: Of the repository.

    Returns:
        The state; None if there is no such repository, or the token cannot see it.

    Raises:
        RefusedError: If access to the repository is restricted.
        UnreadableError: If the Hub cannot be reached.
    """
    with translate_errors(repo_id):
        try:
            head = retry(lambda: api.repo_info(repo_id, revision=revision, repo_type=kind).sha)
            assert head is not None
            tree = api.list_repo_tree(repo_id, recursive=True, revision=head, repo_type=kind)
            files = {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}
        except errors.GatedRepoError:
            raise
        except errors.RepositoryNotFoundError:
            return None
    return RemoteState(revision, head, files, kind)


def create(
    api: HfApi, repo_id: str, sdk: Sdk | None = None, *, private: bool = False
) -> RemoteState:
    """Create a repository.

    Args:
        api: The client.
        repo_id: The repository, ``namespace/name``.
        sdk: Which kind of Space; None for a model.
        private: Whether others may not see it.

    Returns:
        What it holds.

    Raises:
        RefusedError: If the user may not.
        UnreadableError: If the Hub cannot be reached, or does not show it.
    """
    kind: Kind = "model" if sdk is None else "space"
    with translate_errors(repo_id):
        retry(
            lambda: api.create_repo(
                repo_id, repo_type=kind, space_sdk=sdk, private=private or None, exist_ok=True
            )
        )
    state = fetch_state(api, repo_id, "main", kind)
    if state is None:
        raise UnreadableError(f"{repo_id}: was created but is not visible yet", hint="run again")
    return state


def verify(
    api: HfApi, repo_id: str, revision: str, files: Mapping[str, Path], kind: Kind = "model"
) -> RemoteState:
    """Compare the files on the Hub with local ones, by sizes and hashes.

    Args:
        api: The client.
        repo_id: The repository, ``namespace/name``.
        revision: A branch or ``refs/pr/N``.
        files: The local files by their paths in the repository.
        kind: Of the repository.

    Returns:
        What the Hub has.

    Raises:
        MismatchError: If it has other files.
    """
    state = fetch_state(api, repo_id, revision, kind)
    wrong = [name for name, path in files.items() if state is None or not state.holds(name, path)]
    if wrong or state is None:
        raise MismatchError(
            f"{repo_id}: differs from the uploaded files: {', '.join(wrong)}",
            hint="someone may have pushed at the same time; run again",
        )
    return state


def own_proposal(api: HfApi, repo_id: str, title: str) -> str | None:
    """Find the user's newest open pull request with a title.

    Args:
        api: The client.
        repo_id: The repository, ``namespace/name``.
        title: The exact title.

    Returns:
        Its ref, ``refs/pr/N``; None if there is none.

    Raises:
        UnreadableError: If the Hub cannot be reached.
        RefusedError: If the token is missing or not valid.
    """
    with translate_errors(repo_id):
        me = retry(api.whoami)["name"]
        found = retry(
            lambda: list(
                api.get_repo_discussions(
                    repo_id, author=me, discussion_type="pull_request", discussion_status="open"
                )
            )
        )
    mine = [one.num for one in found if one.title == title and one.author == me]
    return f"refs/pr/{max(mine)}" if mine else None


class _Sending:
    """Tells how many bytes of files were sent.

    Xet reads files by itself and tells nothing, so then only what is uploaded is said.
    """

    def __init__(self, paths: Collection[Path], progress: Progress) -> None:
        self._total = sum(path.stat().st_size for path in paths)
        self._label = f"uploading {size_text(self._total)}"
        self._progress = progress
        self._began = False
        self._lock = threading.Lock()
        progress.start(self._label, 0)

    def sent(self, count: int) -> None:
        """Tell of bytes that are sent, or, by a number below zero, that are sent again."""
        with self._lock:
            if not self._began:
                self._began = True
                self._progress.start(self._label, self._total)
        self._progress.advance(count)


class _File(io.BufferedReader):
    """A file that is sent; if it is sent again, it goes back."""

    def __init__(self, path: Path, sending: _Sending) -> None:
        super().__init__(io.FileIO(path))
        self._told, self._sending = 0, sending

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        position = self.tell()
        self._sending.sent(position - self._told)
        self._told = position
        return data


class _Addition(CommitOperationAdd):
    """A file of a commit that tells of the bytes that are sent."""

    def __init__(self, name: str, path: Path, sending: _Sending) -> None:
        super().__init__(name, path)
        self._path, self._sending = path, sending

    @contextmanager
    def as_file(self, with_tqdm: bool = False) -> Iterator[BinaryIO]:
        """Open the file; with ``with_tqdm``, as the client asks for it where it sends it."""
        if not with_tqdm:
            with super().as_file() as file:
                yield file
            return
        with _File(self._path, self._sending) as file:
            yield cast("BinaryIO", file)


def commit(
    api: HfApi,
    repo_id: str,
    paths: Mapping[str, Path],
    base: RemoteState,
    message: str,
    *,
    propose: bool,
    progress: Progress,
) -> str:
    """Add or replace files in one commit.

    If no answer arrives, the repository is asked whether it has the files, and only if it has not,
    the commit is sent again. A pull request that the Hub may still be opening is not sent again:
    that could open a second one.

    Args:
        api: The client.
        repo_id: The repository, ``namespace/name``.
        paths: The local files by their paths in the repository.
        base: The state to commit on. The Hub rejects the commit if the revision has moved since.
        message: The title of the commit and of a pull request.
        propose: Whether to open a new pull request.
        progress: Receives the bytes that are sent.

    Returns:
        The revision that has the commit: that of ``base``, or ``refs/pr/N``.

    Raises:
        RefusedError: If the Hub rejects the commit.
        UnreadableError: If the Hub cannot be reached.
    """
    sending = _Sending(paths.values(), progress)
    unsure = False  # whether a commit may have succeeded although its answer was lost
    left = TRIES
    while True:
        left -= 1
        try:
            made = api.create_commit(
                repo_id,
                [_Addition(name, path, sending) for name, path in paths.items()],
                commit_message=message,
                revision=base.revision,
                parent_commit=base.head,
                create_pr=propose,
                repo_type=base.kind,
            )
        except Exception as error:
            failure = Failure.of(error)
            unsure = unsure or (failure.of_commit and failure.transient)
            if unsure:
                revision = own_proposal(api, repo_id, message) if propose else base.revision
                state = None if revision is None else fetch_state(api, repo_id, revision, base.kind)
                if state is not None and all(starmap(state.holds, paths.items())):
                    return state.revision
            temporary = failure.transient and not failure.repeated
            if not left or not temporary or (propose and failure.of_commit and failure.pending):
                with translate_errors(repo_id):
                    raise
            wait(left)
        else:
            return made.pr_revision or base.revision
