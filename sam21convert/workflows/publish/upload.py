"""What stands in a repository of the Hub, and commits to it, through ``huggingface_hub`` alone.

Its client does not repeat a commit, of which an answer that was lost may mean success.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, RepoFile, errors

from ...hub.errors import Failure, translate_errors
from ...hub.retry import TRIES, retry, wait
from ...io.data.checksums import git_hash, sha256


@dataclass(frozen=True)
class RemoteState:
    """A revision as it stands: the commit and its files."""

    revision: str
    head: str
    files: Mapping[str, RepoFile]

    def holds(self, path: Path) -> bool:
        """Whether a file of this name and content is there."""
        there = self.files.get(path.name)
        if there is None or there.size != path.stat().st_size:
            return False
        if there.lfs is not None:
            return sha256(path) == there.lfs.sha256
        return git_hash(path) == there.blob_id


def fetch_state(api: HfApi, repo_id: str, revision: str) -> RemoteState | None:
    """What a revision of a repository holds; None when there is no such repository."""
    with translate_errors(repo_id):
        try:
            head = retry(lambda: api.model_info(repo_id, revision=revision).sha)
            assert head is not None
            tree = api.list_repo_tree(repo_id, recursive=True, revision=head)
            files = {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}
        except errors.GatedRepoError:
            raise
        except errors.RepositoryNotFoundError:
            return None
    return RemoteState(revision, head, files)


def own_proposal(api: HfApi, repo_id: str, title: str) -> str | None:
    """The ref of the newest open pull request of the user with this title."""
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


def commit(
    api: HfApi,
    repo_id: str,
    paths: Sequence[Path],
    there: RemoteState,
    message: str,
    *,
    propose: bool,
) -> str:
    """Add or replace files, in one commit on top of what stands there; the revision that has it.

    With ``propose`` that is a new pull request. After an answer that did not come the repository is
    asked whether it has them; only if not, the commit is sent again. Not so a proposal that the Hub
    may still be about to open: the next would be a second one.
    """
    unsure = False  # whether a commit may have arrived
    for left in reversed(range(TRIES)):
        try:
            made = api.create_commit(
                repo_id,
                [CommitOperationAdd(path.name, path) for path in paths],
                commit_message=message,
                revision=there.revision,
                parent_commit=there.head,
                create_pr=propose,
            )
        except Exception as error:
            failure = Failure.of(error)
            unsure = unsure or (failure.of_commit and failure.transient)
            if unsure:
                revision = own_proposal(api, repo_id, message) if propose else there.revision
                standing = None if revision is None else fetch_state(api, repo_id, revision)
                if standing is not None and all(map(standing.holds, paths)):
                    return standing.revision
            passing = failure.transient and not failure.repeated
            if not left or not passing or (propose and failure.of_commit and failure.pending):
                with translate_errors(repo_id):
                    raise
            wait(left)
        else:
            return made.pr_revision or there.revision
    raise AssertionError
