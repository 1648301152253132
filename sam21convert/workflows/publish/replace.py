"""Which files that are already in a repository of the Hub may be replaced: only our own."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from huggingface_hub import hf_hub_download

from ...errors import RefusedError
from ...hub.errors import translate_errors
from ...hub.retry import retry
from ...io.data.checksums import sha256
from ...io.source import INDEX, WEIGHTS
from .card import listed
from .readme import NAME
from .upload import RemoteState

FileChange = Literal["new", "same", "changed"]


def fetched(repo_id: str, name: str, state: RemoteState) -> Path:
    """Download a file of the repository.

    Args:
        repo_id: The repository.
        name: The file's name in it.
        state: The revision to take it from.

    Returns:
        The file in the client's cache.

    Raises:
        RefusedError: The Hub does not let you read it.
        UnreadableError: The Hub cannot be reached.
    """
    with translate_errors(f"{repo_id}/{name}"):
        return Path(retry(lambda: hf_hub_download(repo_id, name, revision=state.head)))


def refuse_contradiction(repo_id: str, state: RemoteState, changes: dict[str, FileChange]) -> None:
    """Refuse new weights beside the index of a sharded model, which names other files.

    Args:
        repo_id: The repository.
        state: What it holds.
        changes: What becomes of each file that is published.

    Raises:
        RefusedError: The index is there; transformers would load the old shards.
    """
    if INDEX in state.files and WEIGHTS in changes:
        raise RefusedError(
            f"{repo_id}: holds {INDEX}, which would contradict the new weights",
            hint="remove it and its shards first, or push to another repository",
        )


def refuse_foreign(
    repo_id: str, state: RemoteState, changes: dict[str, FileChange], readme: bytes | None
) -> None:
    """Refuse to replace files that the card does not list with the hash they have now.

    The card itself is exempt: it is merged, not replaced.

    Args:
        repo_id: The repository.
        state: What it holds.
        changes: What becomes of each file that is published.
        readme: The card that is there now; None where there is none, and no file is ours.

    Raises:
        RefusedError: It names the files.
    """
    ours = {} if readme is None else listed(readme)

    def foreign(name: str) -> bool:
        if changes[name] != "changed" or name == NAME:
            return False
        if name not in ours:
            return True
        lfs = state.files[name].lfs
        return ours[name] != (sha256(fetched(repo_id, name, state)) if lfs is None else lfs.sha256)

    found = [name for name in changes if foreign(name)]
    if found:
        raise RefusedError(
            f"{repo_id}: would replace files that sam21convert did not write: {', '.join(found)}",
            hint="`create_pr=True` proposes the change instead; or push to another repository",
        )
