"""What a repository of the Hub holds before anything is written to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from huggingface_hub import HfApi

from ...errors import UnreadableError
from ...hub.errors import gave_no_answer
from .manifest import FileFact
from .readme import NAME
from .replace import FileChange, fetched, written_before
from .starter import starter_page
from .upload import Kind, RemoteState, fetch_state, own_proposal


@dataclass(frozen=True)
class Present:
    """What the Hub has of a repository.

    Attributes:
        state: The revision to change; None if there is no such repository.
        proposal: The user's open pull request with the title, if one was asked for.
        readme: Its README.md.
        ours: The files that may be replaced: what this package wrote, and the page that the Hub
            puts into a new Space.
        silence: Why the repository could not be asked, in a dry run.
    """

    state: RemoteState | None = None
    proposal: str | None = None
    readme: bytes | None = None
    ours: Mapping[str, FileFact] = field(default_factory=dict)
    silence: str | None = None

    def changes(self, files: Mapping[str, Path]) -> dict[str, FileChange]:
        """Tell what an upload does to each file.

        Args:
            files: The local files by their paths in the repository.

        Returns:
            What becomes of each.
        """
        return {name: self._change(name, path) for name, path in files.items()}

    def _change(self, name: str, path: Path) -> FileChange:
        if self.silence is not None:
            return "upload"
        if self.state is None or name not in self.state.files:
            return "new"
        return "same" if self.state.holds(name, path) else "changed"

    def foreign(self, files: Iterable[str]) -> tuple[str, ...]:
        """Name what stays as it is.

        Args:
            files: The paths of the local files in the repository.

        Returns:
            Paths of the other files there.
        """
        there = self.state.files if self.state else ()
        return tuple(name for name in there if name not in {*files, ".gitattributes"})


def ask(
    api: HfApi,
    repo_id: str,
    revision: str | None = None,
    title: str | None = None,
    kind: Kind = "model",
    *,
    dry_run: bool,
) -> Present:
    """Ask the Hub for what is to be changed. A dry run goes on without an answer.

    Args:
        api: The client.
        repo_id: The repository, ``namespace/name``.
        revision: A branch or ``refs/pr/N``; None means ``main``.
        title: That of the pull request to open or to continue; None for none.
        kind: Of the repository.
        dry_run: Whether nothing will be written.

    Returns:
        What is there.

    Raises:
        UnreadableError: If a repository that must exist does not, or the Hub cannot be reached and
            something is to be written.
        RefusedError: If the Hub lets nobody read it.
    """
    try:
        state, proposal = _present(api, repo_id, revision, title, kind)
        there = Present(state, proposal, _readme(repo_id, state))
        if state is not None and title is None:
            ours = written_before(repo_id, state, there.readme)
            if kind == "space":
                ours = {**ours, **starter_page(api, repo_id, state)}
            there = replace(there, ours=ours)
    except UnreadableError as error:
        if dry_run and gave_no_answer(error):
            return Present(silence=error.message)
        raise
    return there


def _present(
    api: HfApi, repo_id: str, revision: str | None, title: str | None, kind: Kind
) -> tuple[RemoteState | None, str | None]:
    """The state to change, and the user's open pull request with this title, if one is wanted."""
    state = fetch_state(api, repo_id, revision or "main", kind)
    if state is None and (title is not None or revision is not None):
        raise UnreadableError(
            f"{repo_id}: no such repository, or your token cannot see it",
            hint="check the spelling; without `create_pr` and `revision` it is created",
        )
    proposal = None if title is None else own_proposal(api, repo_id, title)
    return (state if proposal is None else fetch_state(api, repo_id, proposal)), proposal


def _readme(repo_id: str, state: RemoteState | None) -> bytes | None:
    """The README of the repository, if it has one."""
    if state is None or NAME not in state.files:
        return None
    return fetched(repo_id, NAME, state).read_bytes()
