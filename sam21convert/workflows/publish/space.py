"""A page as a Space of the Hub: one that runs the published graphs in a browser, or a server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from ..._version import __version__
from ...errors import RefusedError, UsageError
from ...export.page.folders import read_export
from ...export.page.site import write_page
from ...hub.download import redacted
from ...io.markdown import code
from ...report import Progress, Report, Tone, Toned, size_text
from .manifest import FileFact, write_manifest
from .present import Present
from .readme import NAME, merged, metadata_of
from .replace import FileChange, refuse_foreign
from .repository import Repository
from .upload import Sdk, commit, create, verify

TONES: dict[FileChange, Tone] = {
    "new": "good",
    "changed": "note",
    "same": "dim",
    "upload": "note",
}
_ANOTHER = "name another Space"


@dataclass(frozen=True)
class PageSpace(Report):
    """A Space with a page.

    Attributes:
        repo_id: The Space, ``namespace/name``.
        url: The page of the Hub that shows it.
        files: Its files, by name.
        changes: Name of each file to what the upload does, as of
            :class:`~sam21convert.Publication`.
        foreign: Other files of the Space, which stay as they are.
        creates: Whether the Space does not exist yet.
        uploaded: Whether it was written.
    """

    repo_id: str
    url: str
    files: dict[str, FileFact]
    changes: dict[str, FileChange]
    foreign: tuple[str, ...]
    creates: bool
    uploaded: bool

    @property
    def holds_all(self) -> bool:
        """Whether the Space has all files already."""
        return {*self.changes.values()} == {"same"}

    def to_dict(self) -> dict[str, Any]:
        """Give the fields as plain data.

        Returns:
            Field name to value, files as dicts.
        """
        return {
            **super().to_dict(),
            "files": {name: vars(file) for name, file in self.files.items()},
        }

    def rows(self) -> list[tuple[str, str]]:
        """Describe the Space.

        Returns:
            Rows of a table: label and text.
        """
        return [
            ("space", self.repo_id + (", to be created" if self.creates else "")),
            *(
                (Toned(change, TONES[change]), f"{name}, {size_text(self.files[name].size)}")
                for name, change in self.changes.items()
            ),
            *(("kept", name) for name in self.foreign),
            ("url", self.url),
        ]


@dataclass(frozen=True)
class ComposedPage:
    """The files of a Space, and what the Hub has of it.

    Attributes:
        plan: What an upload does.
        folder: The folder with the files.
        there: What the Hub has.
        kind: Which kind of Space it is.
    """

    plan: PageSpace
    folder: Path
    there: Present
    kind: Sdk

    @property
    def paths(self) -> dict[str, Path]:
        """The files on this machine, by their paths in the Space."""
        return {name: self.folder / name for name in self.plan.files}

    def uploaded(self, api: HfApi, message: str, progress: Progress, *, private: bool) -> PageSpace:
        """Upload what is new or changed, and compare what the Hub then has.

        Args:
            api: The client.
            message: The title of the commit.
            progress: Told of the bytes that are sent.
            private: Whether the Space is private, if it is created.

        Returns:
            What was done.

        Raises:
            RefusedError: If the user may not write, or the Hub rejects the commit.
            UnreadableError: If the Hub cannot be reached.
            MismatchError: If the Hub holds other files than those that were uploaded.
        """
        if self.plan.holds_all:
            return self.plan
        repo_id, files = self.plan.repo_id, self.paths
        base = self.there.state or create(api, repo_id, self.kind, private=private)
        changed = {name: files[name] for name, how in self.plan.changes.items() if how != "same"}
        commit(api, repo_id, changed, base, message, propose=False, progress=progress)
        verify(api, repo_id, base.revision, files, "space")
        return replace(self.plan, uploaded=True)


def check_page(page_space: str | None, *, cdn: bool, with_onnx: bool, create_pr: bool) -> None:
    """Check what can be checked before anything is done.

    Args:
        page_space: The Space, if one is asked for.
        cdn: Whether its runtime is to come from a CDN.
        with_onnx: Whether the repository gets graphs.
        create_pr: Whether the repository is changed by a pull request.

    Raises:
        UsageError: If these exclude each other, or there can be no such Space.
    """
    if page_space is None:
        if cdn:
            raise UsageError("`page_cdn`: is for a page", hint="add `page_space=NAMESPACE/NAME`")
        return
    check_name(page_space, "me/my-page")
    if not with_onnx:
        raise UsageError(
            "`page_space`: a page runs graphs, and the repository gets none",
            hint="add `with_onnx=True`",
        )
    if create_pr:
        raise UsageError(
            "`create_pr` and `page_space` exclude each other: the page of a change that may be "
            "rejected would be public"
        )


def check_name(repo_id: str, example: str) -> None:
    """Check the name of a Space.

    Args:
        repo_id: The name.
        example: One that would do, for the hint.

    Raises:
        UsageError: If there can be no such Space.
    """
    try:
        validate_repo_id(repo_id)
    except ValueError as error:
        raise UsageError(f"{repo_id}: not a valid name of a Space: {error}") from error
    if "/" not in repo_id:
        raise UsageError(f"{repo_id}: expected NAMESPACE/NAME", hint=f"for example {example}")


def compose_page(
    repository: Repository,
    scratch: Path,
    repo_id: str | None,
    api: HfApi,
    there: Present,
    cdn: bool,
    progress: Progress,
) -> ComposedPage | None:
    """Write the files of a Space, and tell what they change.

    Args:
        repository: The model, with graphs.
        scratch: A folder for the page.
        repo_id: The Space, ``namespace/name``; None for no page.
        api: The client.
        there: What the Hub has of it.
        cdn: Whether browsers load the runtime from a public CDN.
        progress: Told what is done.

    Returns:
        The files and what becomes of them; None for no page.

    Raises:
        UsageError: If npm is needed and not installed.
        RefusedError: If there is a Space of another kind, or files of someone else would be
            replaced.
        UnreadableError: If the runtime cannot be downloaded.
    """
    if repo_id is None:
        return None
    folder, name = scratch / "page", repository.repo_id.rpartition("/")[2]
    model = replace(read_export(repository.folder), name=name)
    write_page((model,), folder, name, cdn=cdn, runtime=None, overwrite=False, progress=progress)
    text = (
        f"A page that segments pictures with {code(repository.repo_id)} in the browser; no picture "
        "is uploaded. Its button *Check* tells how far this browser is from PyTorch. Written by "
        f"sam21convert {__version__}.\n"
    )
    return composed(repository, folder, repo_id, api, there, "static", text)


def composed(
    repository: Repository,
    folder: Path,
    repo_id: str,
    api: HfApi,
    there: Present,
    kind: Sdk,
    text: str,
    **stated: Any,
) -> ComposedPage:
    """Add the card to the files of a Space, and tell what they change.

    Args:
        repository: The model.
        folder: The files.
        repo_id: The Space, ``namespace/name``.
        api: The client.
        there: What the Hub has of it.
        kind: Which kind of Space it is.
        text: What the card says.
        **stated: What the Hub reads from the card, besides the kind.

    Returns:
        The files and what becomes of them.

    Raises:
        RefusedError: If there is a Space of another kind, or files of someone else would be
            replaced.
    """
    _write_readme(repository, folder, repo_id, there, kind, text, stated)
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = {fact.name: fact for fact in (FileFact.of(path, folder) for path in paths)}
    readme = files.pop(NAME)
    manifest = write_manifest(folder, files.values())
    files = {NAME: readme, **files, manifest.name: manifest}
    plan = PageSpace(
        repo_id=repo_id,
        url=f"{redacted(api.endpoint)}/spaces/{repo_id}",
        files=files,
        changes=there.changes({one: folder / one for one in files}),
        foreign=there.foreign(files),
        creates=there.state is None and there.silence is None,
        uploaded=False,
    )
    if there.state is not None:
        try:
            refuse_foreign(repo_id, there.state, plan.changes, there.ours)
        except RefusedError as error:
            raise RefusedError(error.message, hint=_ANOTHER) from error
    return ComposedPage(plan, folder, there, kind)


def _write_readme(
    repository: Repository,
    folder: Path,
    repo_id: str,
    there: Present,
    kind: Sdk,
    text: str,
    more: Mapping[str, Any],
) -> None:
    """Write the card of the Space: what the Hub reads from it, and what the page is."""
    title = repo_id.rpartition("/")[2]
    stated = {"title": title, "sdk": kind, "models": [repository.repo_id], **more}
    license_ = metadata_of((repository.folder / NAME).read_bytes()).get("license")
    stated |= {"license": license_} if license_ else {}
    content, _ = merged(there.readme, title, text, stated)
    if (found := metadata_of(content).get("sdk")) != kind:
        raise RefusedError(
            f"{repo_id}: is a Space of the kind {found}, and a page needs a {kind} one",
            hint=_ANOTHER,
        )
    (folder / NAME).write_bytes(content)
