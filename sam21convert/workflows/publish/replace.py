"""Which files that are already in a repository of the Hub may be replaced: only our own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from huggingface_hub import hf_hub_download

from ...errors import RefusedError
from ...hub.errors import translate_errors
from ...hub.retry import retry
from ...io.data.checksums import sha256
from ...io.source import INDEX, WEIGHTS
from . import earlier_cards
from .manifest import LARGEST, MANIFEST, FileFact, read_manifest
from .readme import NAME
from .upload import RemoteState

FileChange = Literal["new", "same", "changed", "upload"]


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
        return Path(
            retry(lambda: hf_hub_download(repo_id, name, revision=state.head, repo_type=state.kind))
        )


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
    repo_id: str,
    state: RemoteState,
    changes: dict[str, FileChange],
    ours: Mapping[str, FileFact],
) -> None:
    """Refuse to replace files that are not listed as ours with the hash they have now.

    The README is exempt: it is merged, not replaced.

    Args:
        repo_id: The repository.
        state: What it holds.
        changes: What becomes of each file that is published.
        ours: What this package wrote, from :func:`written_before`.

    Raises:
        RefusedError: It names the files.
    """

    def foreign(name: str) -> bool:
        if changes[name] != "changed" or name == NAME:
            return False
        stated, there = ours.get(name), state.files[name]
        if stated is None or stated.size != there.size:
            return True
        lfs = there.lfs
        found = sha256(fetched(repo_id, name, state)) if lfs is None else lfs.sha256
        return stated.sha256 != found

    found = [name for name in changes if foreign(name)]
    if found:
        raise RefusedError(
            f"{repo_id}: would replace files that sam21convert did not write: {', '.join(found)}",
            hint="`create_pr=True` proposes the change instead; or push to another repository",
        )


def written_before(
    repo_id: str, state: RemoteState, readme: bytes | None
) -> Mapping[str, FileFact]:
    """Find the files of the repository that this package wrote, as it stated then.

    Where there is a manifest, it alone decides. Earlier versions wrote none, so that the files they
    wrote are known by the README.

    Args:
        repo_id: The repository.
        state: What it holds.
        readme: The README that is there now, if there is one.

    Returns:
        Files by name. Whether they still have that content is not known.

    Raises:
        RefusedError: A later version of this package wrote the manifest.
    """
    there = state.files.get(MANIFEST)
    if there is None:
        return {} if readme is None else earlier_cards.listed(readme)
    if there.size > LARGEST:
        return {}
    path = fetched(repo_id, MANIFEST, state)
    listed = read_manifest(path, repo_id)
    return {} if listed is None else {**listed, MANIFEST: FileFact.of(path)}
