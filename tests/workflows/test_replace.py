"""Only files that are listed as ours, with the hash they have now, are replaced."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.hf_api import RepoFile

from sam21convert.errors import RefusedError
from sam21convert.workflows.publish import replace
from sam21convert.workflows.publish.manifest import MANIFEST, FileFact, write_manifest
from sam21convert.workflows.publish.readme import BEGIN, END
from sam21convert.workflows.publish.upload import RemoteState

from .test_manifest import card

REPO = "me/my-sam2"
CONFIG, WEIGHTS = b"{}", b"weights"
FILES = {"config.json": CONFIG, "model.safetensors": WEIGHTS}
Refuse = Callable[..., None]


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def manifest(folder: Path, files: Mapping[str, bytes]) -> bytes:
    facts = [FileFact(name, len(content), digest(content)) for name, content in files.items()]
    write_manifest(folder, facts)
    return (folder / MANIFEST).read_bytes()


@pytest.fixture
def refuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Refuse:
    """Asks to replace all files of a repository with these contents; weights are in LFS."""

    def run(files: dict[str, bytes]) -> None:
        def fetched(_repo_id: str, name: str, _state: RemoteState) -> Path:
            assert name != "model.safetensors", "its hash is known without a download"
            (tmp_path / "fetched").mkdir(exist_ok=True)
            (tmp_path / "fetched" / name).write_bytes(files[name])
            return tmp_path / "fetched" / name

        monkeypatch.setattr(replace, "fetched", fetched)
        listed = {}
        for name, content in files.items():
            lfs = {"size": len(content), "oid": digest(content), "pointerSize": 1}
            more = {"lfs": lfs} if name == "model.safetensors" else {}
            file: dict[str, Any] = {"path": name, "size": len(content), "oid": "", **more}
            listed[name] = RepoFile(**file)  # type: ignore[no-untyped-call]
        changes: dict[str, replace.FileChange] = dict.fromkeys(files, "changed")
        state = RemoteState("main", "head", listed)
        ours = replace.written_before(REPO, state, files.get("README.md"))
        replace.refuse_foreign(REPO, state, changes, ours)

    return run


def test_what_the_manifest_lists_is_replaced(refuse: Refuse, tmp_path: Path) -> None:
    for readme in ({}, {"README.md": b"# Mine\n"}, {"README.md": card("a.pt").encode()}):
        refuse({**FILES, MANIFEST: manifest(tmp_path, FILES), **readme})


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", [b"[]", b"theirs", b"longer than it was"])
def test_what_has_changed_since_is_not(
    refuse: Refuse, tmp_path: Path, name: str, content: bytes
) -> None:
    with pytest.raises(RefusedError, match=f"did not write: {name}\n"):
        refuse({**FILES, MANIFEST: manifest(tmp_path, FILES), name: content})


@pytest.mark.parametrize("name", FILES)
def test_what_is_not_listed_is_not(refuse: Refuse, tmp_path: Path, name: str) -> None:
    others = {other: content for other, content in FILES.items() if other != name}
    with pytest.raises(RefusedError, match=f"did not write: {name}\n"):
        refuse({**FILES, MANIFEST: manifest(tmp_path, others)})


def test_nothing_is_replaced_where_nothing_is_listed(refuse: Refuse) -> None:
    for readme in ({}, {"README.md": b"# Mine\n"}):
        with pytest.raises(RefusedError, match="config.json, model.safetensors\n") as caught:
            refuse({**FILES, **readme})
    assert "`create_pr=True` proposes" in str(caught.value.hint)


def earlier(files: Mapping[str, bytes], name: str = "a.pt", mine: str = "# Mine\n") -> bytes:
    """The card of an earlier version that lists these files."""
    rows = "\n".join(
        f"| [`{name}`]({name}) | written | {len(content)} | `{digest(content)}` |"
        for name, content in files.items()
    )
    text = card("NAME")
    written = [line for line in text.splitlines() if "| written |" in line]
    text = text.replace("\n".join(written), rows).replace("# Mine\n", mine)
    return text.replace("NAME", name).encode()


def test_what_an_earlier_card_lists_is_replaced(refuse: Refuse) -> None:
    refuse({**FILES, "README.md": earlier(FILES)})


def row(name: str) -> str:
    return f"| [`{name}`]({name}) | written | {len(FILES[name])} | `{digest(FILES[name])}` |"


READ = f"a.pt` | read | 1 | `{'0' * 64}` |"
TABLE = "| file |  | bytes | sha256 |\n| --- | --- | --- | --- |"
WHOLE = f"{TABLE}\n| `{READ}\n{row('config.json')}\n\n## Parity\n\n"
FORGED = {
    "a row in the name of the source": earlier(
        {"model.safetensors": WEIGHTS},
        f"{READ}\n{row('config.json')}\n| `b",  # ends the row
    ),
    "a table in the name of the source": earlier({"model.safetensors": WEIGHTS}, f"a`\n\n{WHOLE}`"),
    "a section in the name of the source": earlier(
        {"model.safetensors": WEIGHTS}, f"a`\n\n{WHOLE}{END}"
    ),
    "a manifest": json.dumps(
        {
            "format": 1,
            "tool": "",
            "files": {n: {"size": len(c), "sha256": digest(c)} for n, c in FILES.items()},
        }
    ).encode(),
    "a manifest in the name of the source": earlier(
        {"model.safetensors": WEIGHTS}, '{"format": 1, "files": {"config.json": {}}}'
    ),
    "a table of the user": earlier({"model.safetensors": WEIGHTS}, mine=WHOLE),
    "a section of the user": earlier(
        {"model.safetensors": WEIGHTS}, mine=f"{BEGIN}\n\n{WHOLE}{END}\n"
    ),
}


@pytest.mark.parametrize("readme", FORGED.values(), ids=FORGED)
def test_a_forged_list_makes_nothing_ours(refuse: Refuse, readme: bytes, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"did not write: config\.json"):
        refuse({**FILES, "README.md": readme})
    honest = manifest(tmp_path, {"model.safetensors": WEIGHTS})
    with pytest.raises(RefusedError, match=r"did not write: config\.json\n"):
        refuse({**FILES, MANIFEST: honest, "README.md": readme})


@pytest.mark.parametrize(
    "content", [b"{}", b'{"format": 1, "tool": "", "files": []}', b" " * 10**5]
)
def test_a_file_of_someone_else_by_the_name_of_the_manifest_is_kept(
    refuse: Refuse, content: bytes
) -> None:
    with pytest.raises(RefusedError, match=f"config.json, model.safetensors, {MANIFEST}\n"):
        refuse({**FILES, MANIFEST: content, "README.md": earlier(FILES)})


def test_a_repository_of_a_later_version_is_left_alone(refuse: Refuse) -> None:
    with pytest.raises(RefusedError, match="a later version of sam21convert wrote"):
        refuse({**FILES, MANIFEST: b'{"format": 2, "files": {}}', "README.md": earlier(FILES)})
