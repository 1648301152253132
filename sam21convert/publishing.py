"""Push: compose a repository, show what it changes, upload it, and check what the Hub holds."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from .checkpoint import open_checkpoint
from .errors import MismatchError, RefusedError, UnreadableError, UsageError
from .hf.folder import INDEX, WEIGHTS
from .proving import Progress
from .readme import BEGIN, NAME
from .remote import Standing, commit, explaining, look, own_proposal
from .report import Report, table
from .repository import Repository, Scenarios, compose

Change = Literal["new", "changed", "same"]
MESSAGE = "Upload with sam21convert"


@dataclass(frozen=True)
class Publication(Report):
    """The answer of :func:`push`.

    ``changes`` tells of each file what becomes of it, ``foreign`` are those of the repository that
    stay as they are. ``uploaded`` is false for a dry run and when there was nothing to change.
    """

    repo_id: str
    revision: str
    url: str
    repository: Repository
    changes: dict[str, Change]
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
        elif self.dry_run:
            done = "a dry run: nothing was written"
        else:
            done = "everything is there already; nothing was uploaded"
        rows = [
            ("read", str(self.repository.source)),
            ("repository", self.repo_id + (", to be created" if self.creates else "")),
            ("revision", self.revision),
            *((change, name) for name, change in self.changes.items()),
            *(("kept", name) for name in self.foreign),
            *(("note", note) for note in (*self.notes, *self.repository.notes)),
            ("done", done),
            ("url", self.url),
        ]
        return table(rows)


def push(
    source: str | Path,
    repo_id: str,
    *,
    to: str | None = None,
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
    progress: Progress = lambda label, total: None,
) -> Publication:
    """Publish ``source`` as the repository ``repo_id`` of the Hub.

    What is not described here is as for :func:`~sam21convert.repository.compose`. ``create_pr``
    proposes, and adds to an open proposal of the user with the title ``message`` where there is
    one. ``revision`` is a branch or ``refs/pr/N``. ``private`` is for a repository that is created.
    The token is that of ``huggingface_hub``.

    Raises :class:`UsageError` for what cannot be asked, :class:`RefusedError` when files of someone
    else would be replaced, the user may not write, or the Hub does not take it,
    :class:`UnreadableError` when it cannot be reached, :class:`MismatchError` when the model, or
    what the Hub holds in the end, is not right.
    """
    _check_request(repo_id, revision, create_pr=create_pr)
    api = HfApi(library_name="sam21convert")
    there = look(api, repo_id, revision or "main")
    if there is None and (create_pr or revision is not None):
        raise UnreadableError(
            f"{repo_id}: no such repository that you can see",
            hint="check the spelling; without --create-pr and --revision it is created",
        )
    proposal = own_proposal(api, repo_id, message) if create_pr else None
    if proposal is not None:
        there = look(api, repo_id, proposal)
    readme = _readme(repo_id, there)
    with tempfile.TemporaryDirectory() as scratch:
        repository = compose(
            source,
            Path(scratch) / "repository",
            repo_id,
            to=to,
            with_official=with_official,
            scenarios=scenarios,
            readme=readme,
            license=license,
            base_model=base_model,
            datasets=datasets,
            progress=progress,
        )
        changes = _changes(repository, there)
        proposing = create_pr and proposal is None
        ours = readme is not None and BEGIN.encode() in readme
        if there is not None:
            _refuse_foreign(repo_id, there, changes, allowed=ours or create_pr)
        creates = there is None
        written = [repository.folder / name for name, change in changes.items() if change != "same"]
        target = revision or proposal or ("a new pull request" if proposing else "main")
        if written and not dry_run:
            there = _created(api, repo_id, private=private) if there is None else there
            target = commit(api, repo_id, written, there, message, propose=proposing)
            _verify(api, repo_id, target, repository)
    foreign = [name for name in (there.files if there else ()) if name not in changes]
    return Publication(
        repo_id=repo_id,
        revision=target,
        url=_url(api, repo_id, target),
        repository=repository,
        changes=changes,
        foreign=tuple(name for name in foreign if name != ".gitattributes"),
        creates=creates,
        uploaded=bool(written) and not dry_run,
        dry_run=dry_run,
        notes=("the repository exists: it stays as visible as it is",)
        if private and not creates
        else (),
    )


def _check_request(repo_id: str, revision: str | None, *, create_pr: bool) -> None:
    try:
        validate_repo_id(repo_id)
    except ValueError as error:
        raise UsageError(f"{repo_id}: no name of a repository: {error}") from error
    if "/" not in repo_id:
        raise UsageError(f"{repo_id}: whose?", hint="as in my-name/my-sam2")
    if create_pr and revision is not None:
        raise UsageError("--create-pr and --revision: a proposal has a revision of its own")


def _readme(repo_id: str, there: Standing | None) -> bytes | None:
    """The README of the repository, if it has one."""
    if there is None or NAME not in there.files:
        return None
    with explaining(f"{repo_id}/{NAME}"):
        return Path(hf_hub_download(repo_id, NAME, revision=there.head)).read_bytes()


def _changes(repository: Repository, there: Standing | None) -> dict[str, Change]:
    def change(name: str) -> Change:
        if there is None or name not in there.files:
            return "new"
        return "same" if there.holds(repository.folder / name) else "changed"

    return {name: change(name) for name in repository.files}


def _refuse_foreign(
    repo_id: str, there: Standing, changes: dict[str, Change], *, allowed: bool
) -> None:
    """Refuse to replace what did not come from here, which a card without our section tells."""
    if INDEX in there.files and WEIGHTS in changes:
        raise RefusedError(
            f"{repo_id}: holds {INDEX}, which would contradict the new weights",
            hint="remove it and its parts first, or push to another repository",
        )
    foreign = [name for name, change in changes.items() if change == "changed" and name != NAME]
    if foreign and not allowed:
        raise RefusedError(
            f"{repo_id}: would replace files that sam21convert did not write: {', '.join(foreign)}",
            hint="propose it: --create-pr, or push to another repository",
        )


def _created(api: HfApi, repo_id: str, *, private: bool) -> Standing:
    with explaining(repo_id):
        api.create_repo(repo_id, private=private or None, exist_ok=True)
    there = look(api, repo_id, "main")
    if there is None:
        raise UnreadableError(f"{repo_id}: was created and cannot be seen", hint="run again")
    return there


def _verify(api: HfApi, repo_id: str, revision: str, repository: Repository) -> None:
    """Compare what the Hub holds with what was sent: sizes, hashes, and the header of weights."""
    there = look(api, repo_id, revision)
    paths = [repository.folder / name for name in repository.files]
    wrong = [path.name for path in paths if there is None or not there.holds(path)]
    if wrong or there is None:
        raise MismatchError(
            f"{repo_id}: holds something else than what was sent: {', '.join(wrong)}",
            hint="someone may have pushed at the same time; run again",
        )
    if WEIGHTS not in repository.files:
        return
    with explaining(f"{repo_id}/{WEIGHTS}"):
        header = api.parse_safetensors_file_metadata(repo_id, WEIGHTS, revision=there.head)
    remote = {name: (info.dtype, tuple(info.shape)) for name, info in header.tensors.items()}
    local = open_checkpoint(repository.folder).inventory
    if remote != {name: (spec.dtype, spec.shape) for name, spec in local.items()}:
        raise MismatchError(f"{repo_id}: the header of {WEIGHTS} is not that of the local file")


def _url(api: HfApi, repo_id: str, revision: str) -> str:
    home = f"{api.endpoint}/{repo_id}"
    if revision.startswith("refs/pr/"):
        return f"{home}/discussions/{revision.removeprefix('refs/pr/')}"
    return home if revision in ("main", "a new pull request") else f"{home}/tree/{revision}"
