"""Push: compose a repository, show what it changes, upload it, and check what the Hub holds."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from ...checkpoint.open import open_checkpoint
from ...comparison.sides import Config
from ...errors import MismatchError, RefusedError, UnreadableError, UsageError
from ...hub.errors import translate_errors
from ...hub.retry import bounded, retry
from ...io.data.checksums import sha256
from ...io.source import INDEX, WEIGHTS
from ...report import SILENT, Progress, Report, size_text, table
from .card import listed
from .readme import NAME
from .repository import Repository, Scenarios, compose
from .upload import RemoteState, commit, fetch_state, own_proposal

FileChange = Literal["new", "changed", "same"]
MESSAGE = "Upload with sam21convert"


@dataclass(frozen=True)
class Publication(Report):
    """The answer of :func:`push`, and what it announces before.

    ``changes`` tells of each file what becomes of it, ``foreign`` are those of the repository that
    stay as they are. ``uploaded`` is false for a dry run, when there was nothing to change, and as
    long as it is announced.
    """

    repo_id: str
    revision: str
    url: str
    repository: Repository
    changes: dict[str, FileChange]
    foreign: tuple[str, ...]
    creates: bool
    uploaded: bool
    dry_run: bool
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The fields, the repository as a dict without its folder, which was temporary."""
        composed = self.repository.to_dict()
        del composed["folder"]
        return {**super().to_dict(), "repository": composed}

    def __str__(self) -> str:
        if self.uploaded:
            done = "uploaded; every size and hash on the Hub is that of the local file"
        elif set(self.changes.values()) == {"same"}:
            done = "everything is there already; nothing was uploaded"
        elif self.dry_run:
            done = "a dry run: nothing was written"
        else:
            done = "to be uploaded"
        files = self.repository.files
        rows = [
            ("read", str(self.repository.source)),
            ("repository", self.repo_id + (", to be created" if self.creates else "")),
            ("revision", self.revision),
            *(
                (change, f"{name}, {size_text(files[name].size)}")
                for name, change in self.changes.items()
            ),
            *(("kept", name) for name in self.foreign),
            *(("note", note) for note in (*self.notes, *self.repository.notes)),
            ("done", done),
            ("url", self.url),
        ]
        return table(rows)


@bounded()
def push(
    source: str | Path,
    repo_id: str,
    *,
    to: str | None = None,
    config: Config = None,
    with_official: bool = False,
    create_pr: bool = False,
    revision: str | None = None,
    private: bool = False,
    message: str = MESSAGE,
    license: str | None = None,  # noqa: A002 - the name that the field has
    base_model: str | None = None,
    datasets: Sequence[str] = (),
    scenarios: Scenarios = "quick",
    dry_run: bool = False,
    progress: Progress = SILENT,
    announce: Callable[[Publication], None] = lambda plan: None,
) -> Publication:
    """Publish ``source`` as the repository ``repo_id`` of the Hub.

    What is not described here is as for :func:`~sam21convert.workflows.publish.repository.compose`. ``create_pr``
    proposes, and adds to an open proposal of the user with the title ``message`` where there is
    one. ``revision`` is a branch or ``refs/pr/N``. ``private`` is for a repository that is created.
    The token is that of ``huggingface_hub``. ``announce`` is called with what is going to be
    uploaded, before anything is written to the Hub.

    Files that stand there are replaced where the card beside them lists them as written with it,
    with the same hash; any other is of someone else.

    Raises :class:`UsageError` for what cannot be asked, :class:`RefusedError` when files of someone
    else would be replaced, the user may not write, or the Hub does not take it,
    :class:`UnreadableError` when it cannot be reached, :class:`MismatchError` when the model, or
    what the Hub holds in the end, is not right.
    """
    _check_request(repo_id, revision, create_pr=create_pr)
    api = HfApi(library_name="sam21convert")
    there = fetch_state(api, repo_id, revision or "main")
    if there is None and (create_pr or revision is not None):
        raise UnreadableError(
            f"{repo_id}: no such repository that you can see",
            hint="check the spelling; without `create_pr` and `revision` it is created",
        )
    proposal = own_proposal(api, repo_id, message) if create_pr else None
    if proposal is not None:
        there = fetch_state(api, repo_id, proposal)
    readme = _readme(repo_id, there)
    with _scratch() as scratch:
        repository = compose(
            source,
            scratch / "repository",
            repo_id,
            to=to,
            config=config,
            with_official=with_official,
            scenarios=scenarios,
            readme=readme,
            license=license,
            base_model=base_model,
            datasets=datasets,
            progress=progress,
        )
        changes = _changes(repository, there)
        if there is not None:
            _refuse_contradiction(repo_id, there, changes)
            if not create_pr:
                _refuse_foreign(repo_id, there, changes, readme)
        proposing = create_pr and proposal is None
        target = revision or proposal or ("a new pull request" if proposing else "main")
        kept = [name for name in (there.files if there else ()) if name not in changes]
        notes = ["the repository exists: it stays as visible as it is"] if private and there else []
        plan = Publication(
            repo_id=repo_id,
            revision=target,
            url=_url(api, repo_id, target),
            repository=repository,
            changes=changes,
            foreign=tuple(name for name in kept if name != ".gitattributes"),
            creates=there is None,
            uploaded=False,
            dry_run=dry_run,
            notes=tuple(notes),
        )
        written = [repository.folder / name for name, change in changes.items() if change != "same"]
        if dry_run or not written:
            return plan
        announce(plan)
        there = _created(api, repo_id, private=private) if there is None else there
        target = commit(api, repo_id, written, there, message, propose=proposing)
        _verify(api, repo_id, target, repository)
        return replace(plan, revision=target, url=_url(api, repo_id, target), uploaded=True)


def _check_request(repo_id: str, revision: str | None, *, create_pr: bool) -> None:
    try:
        validate_repo_id(repo_id)
    except ValueError as error:
        raise UsageError(f"{repo_id}: no name of a repository: {error}") from error
    if "/" not in repo_id:
        raise UsageError(f"{repo_id}: whose?", hint="as in my-name/my-sam2")
    if create_pr and revision is not None:
        raise UsageError("`create_pr` and `revision`: a proposal has a revision of its own")


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder for a while, of which it is said when it is on a disk that is full."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            yield Path(folder)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            raise RefusedError(
                f"{tempfile.gettempdir()}: {error.strerror}",
                hint="what is published is written there first: name another folder by TMPDIR",
            ) from error


def _readme(repo_id: str, there: RemoteState | None) -> bytes | None:
    """The README of the repository, if it has one."""
    if there is None or NAME not in there.files:
        return None
    return _fetched(repo_id, NAME, there).read_bytes()


def _fetched(repo_id: str, name: str, there: RemoteState) -> Path:
    with translate_errors(f"{repo_id}/{name}"):
        return Path(retry(lambda: hf_hub_download(repo_id, name, revision=there.head)))


def _changes(repository: Repository, there: RemoteState | None) -> dict[str, FileChange]:
    def change(name: str) -> FileChange:
        if there is None or name not in there.files:
            return "new"
        return "same" if there.holds(repository.folder / name) else "changed"

    return {name: change(name) for name in repository.files}


def _refuse_contradiction(repo_id: str, there: RemoteState, changes: dict[str, FileChange]) -> None:
    if INDEX in there.files and WEIGHTS in changes:
        raise RefusedError(
            f"{repo_id}: holds {INDEX}, which would contradict the new weights",
            hint="remove it and its parts first, or push to another repository",
        )


def _refuse_foreign(
    repo_id: str, there: RemoteState, changes: dict[str, FileChange], readme: bytes | None
) -> None:
    """Refuse to replace what is not as the card says that it was written. A card is merged."""
    ours = {} if readme is None else listed(readme)

    def foreign(name: str) -> bool:
        if changes[name] != "changed" or name == NAME:
            return False
        if name not in ours:
            return True
        lfs = there.files[name].lfs
        return ours[name] != (sha256(_fetched(repo_id, name, there)) if lfs is None else lfs.sha256)

    found = [name for name in changes if foreign(name)]
    if found:
        raise RefusedError(
            f"{repo_id}: would replace files that sam21convert did not write: {', '.join(found)}",
            hint="propose it: `create_pr=True`, or push to another repository",
        )


def _created(api: HfApi, repo_id: str, *, private: bool) -> RemoteState:
    with translate_errors(repo_id):
        retry(lambda: api.create_repo(repo_id, private=private or None, exist_ok=True))
    there = fetch_state(api, repo_id, "main")
    if there is None:
        raise UnreadableError(f"{repo_id}: was created and cannot be seen", hint="run again")
    return there


def _verify(api: HfApi, repo_id: str, revision: str, repository: Repository) -> None:
    """Compare what the Hub holds with what was sent: sizes, hashes, and the header of weights."""
    there = fetch_state(api, repo_id, revision)
    paths = [repository.folder / name for name in repository.files]
    wrong = [path.name for path in paths if there is None or not there.holds(path)]
    if wrong or there is None:
        raise MismatchError(
            f"{repo_id}: holds something else than what was sent: {', '.join(wrong)}",
            hint="someone may have pushed at the same time; run again",
        )
    if WEIGHTS not in repository.files:
        return
    with translate_errors(f"{repo_id}/{WEIGHTS}"):
        head = there.head
        header = retry(lambda: api.parse_safetensors_file_metadata(repo_id, WEIGHTS, revision=head))
    remote = {name: (info.dtype, tuple(info.shape)) for name, info in header.tensors.items()}
    local = open_checkpoint(repository.folder).inventory
    if remote != {name: (spec.dtype, spec.shape) for name, spec in local.items()}:
        raise MismatchError(f"{repo_id}: the header of {WEIGHTS} is not that of the local file")


def _url(api: HfApi, repo_id: str, revision: str) -> str:
    home = f"{api.endpoint}/{repo_id}"
    if revision.startswith("refs/pr/"):
        return f"{home}/discussions/{revision.removeprefix('refs/pr/')}"
    return home if revision in ("main", "a new pull request") else f"{home}/tree/{revision}"
