"""The answer of a push: what is, or would be, on the Hub."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...checkpoint.safety.report import Safety, SourceReport
from ...report import Part, Toned, size_text, table
from .replace import FileChange
from .repository import Repository
from .snippets import loading
from .space import TONES, PageSpace


@dataclass(frozen=True)
class Publication(SourceReport, schema="push/1"):
    """The answer of :func:`~sam21convert.push`, and what it announces before the upload.

    Attributes:
        repo_id: The repository, ``namespace/name``.
        revision: The branch or pull request that is written.
        url: The page that shows it.
        repository: The local folder that is uploaded.
        changes: Name of each local file to what the upload does: ``"new"``, ``"changed"`` or
            ``"same"``; ``"upload"`` if the repository could not be asked.
        foreign: Other files of the repository, which stay as they are.
        creates: Whether the repository does not exist yet.
        uploaded: False for a dry run, if nothing had to change, and in the announcement.
        dry_run: Whether writing was turned off.
        asked: False for a dry run in which the Hub gave no answer about the repository.
        commit: The commit of the repository that has all files; None if there is none.
        output: The folder to which a dry run has written the files, if one was given; those of the
            page are in ``space`` there.
        page: The Space with the page, if one was asked for.
        app: The Space with the server, if one was asked for; its files are in ``app`` there.
        notes: What else the user has to know.

    Example:
        >>> plan = sam21convert.push("model.pt", "org/new-sam2", license="apache-2.0", dry_run=True)
        >>> plan.changes["model.safetensors"]
        'new'
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
    asked: bool
    commit: str | None
    output: Path | None
    page: PageSpace | None
    app: PageSpace | None
    notes: tuple[str, ...]

    @property
    def holds_all(self) -> bool:
        """Whether the repository has all files already."""
        return {*self.changes.values()} == {"same"}

    @property
    def is_there(self) -> bool:
        """Whether the Hub has all files already."""
        return self.holds_all and all(space.holds_all for space in self._spaces())

    def _spaces(self) -> list[PageSpace]:
        return [space for space in (self.page, self.app) if space is not None]

    def to_dict(self) -> dict[str, Any]:
        """Give the fields as plain data.

        Returns:
            Field name to value, the repository as a dict without its folder, which was temporary.
        """
        composed = self.repository.to_dict()
        del composed["folder"]
        spaces = {
            name: None if space is None else space.to_dict()
            for name, space in (("page", self.page), ("app", self.app))
        }
        return {**super().to_dict(), "repository": composed, **spaces}

    @property
    def safety(self) -> Safety:
        """What loading the source with torch or pickle would import and call."""
        return self.repository.safety

    def shown(self) -> list[Part]:
        """What people see.

        Returns:
            A table of what is, or would be, on the Hub.
        """
        if self.uploaded or any(space.uploaded for space in self._spaces()):
            done = "uploaded; every size and hash on the Hub equals that of the local file"
        elif self.is_there:
            done = "nothing to upload: the Hub has all files already"
        elif self.dry_run:
            done = "a dry run: nothing was uploaded"
        else:
            done = "to be uploaded"
        files = self.repository.files
        rows = [
            ("read", str(self.repository.source)),
            ("repository", self.repo_id + (", to be created" if self.creates else "")),
            ("revision", self.revision),
            *(
                (Toned(change, TONES[change]), f"{name}, {size_text(files[name].size)}")
                for name, change in self.changes.items()
            ),
            *(("kept", name) for name in self.foreign),
            *(("note", note) for note in (*self.notes, *self.repository.notes)),
            *(row for space in self._spaces() for row in space.rows()),
            *([] if self.output is None else [("wrote", str(self.output))]),
            ("checked", self.repository.verdict),
            ("done", Toned(done, "good") if self.uploaded else done),
            *([] if self.commit is None else [("commit", self.commit)]),
            ("url", self.url),
            *(("load it", line) for line in self._loading()),
        ]
        return [table(rows)]

    def _loading(self) -> Sequence[str]:
        """How the model is loaded from the Hub, if it is there."""
        if self.commit is None:
            return ()
        revision = None if self.revision == "main" else self.commit
        return loading(self.repo_id, self.repository.dialect, revision)
