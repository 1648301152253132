"""What counts as ours in a repository: the manifest, and before there was one, the exact card."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from sam21convert.errors import RefusedError
from sam21convert.workflows.publish.earlier_cards import listed
from sam21convert.workflows.publish.manifest import (
    MANIFEST,
    FileFact,
    read_manifest,
    write_manifest,
)
from sam21convert.workflows.publish.readme import BEGIN, END

from ..support.nasty import NASTY

TRUE, FORGED = "1" * 64, "f" * 64
HEAD, RULE = "| file |  | bytes | sha256 |", "| --- | --- | --- | --- |"
READ = f"| `x` | read | 1 | `{FORGED}` |"
ROW = f"| [`config.json`](config.json) | written | 2 | `{FORGED}` |"
WRITTEN = {
    name: FileFact(name, 2, TRUE) for name in ("config.json", "sam2.1_hiera_b+.yaml", "example.png")
}
OLD_PATTERN = re.compile(
    r"^\| \[`([^`]+)`\]\S+ \| written \| \d+ \| `([0-9a-f]{64})` \|\r?$", re.MULTILINE
)


def card(name: str, read: tuple[str, ...] = (), mine: str = "# Mine\n") -> str:
    """A README as earlier versions wrote it, names as they are."""
    rows = [f"| `{file}` | read | 3 | `{TRUE}` |" for file in (read or (name,))]
    rows += [
        f"| [`{f.name}`]({f.name}) | written | {f.size} | `{f.sha256}` |" for f in WRITTEN.values()
    ]
    table = "\n".join([HEAD, RULE, *rows])
    return (
        f"---\nlicense: mit\n---\n{mine}\n{BEGIN}\n\nSAM 2.1 tiny\n\n## Provenance\n\n"
        f"|  |  |\n| --- | --- |\n| converted from | `{name}`, dialect `official`, torch zip |\n\n"
        f"{table}\n\n## Parity\n\ntruth 0.1.0 with `{name}` and transformers\n\n"
        f"```\nsam21convert parity 'truth:{name}' x\n```\n\n{END}\n"
    )


def forgeries() -> Iterator[str]:
    """Names that hold lines of a card, in every order of up to four."""
    pieces = (
        "\n",
        "a`",
        f"\n{READ}",
        f"\n{ROW}",
        f"\n\n{HEAD}\n{RULE}",
        "\n\n## Parity\n\n",
        END,
        BEGIN,
    )
    for count in (1, 2, 3, 4):
        for chosen in product(pieces, repeat=count):
            yield "".join(chosen)
            yield f"a` | read | 1 | `{FORGED}` |{''.join(chosen)}\n| `b"


class TestManifest:
    def test_it_is_read_as_it_was_written(self, tmp_path: Path) -> None:
        itself = write_manifest(tmp_path, WRITTEN.values())
        assert itself == FileFact.of(tmp_path / MANIFEST)
        assert read_manifest(tmp_path / MANIFEST, "me/model") == WRITTEN

    @pytest.mark.parametrize(
        "change",
        [
            {"format": 0},
            {"format": "1"},
            {"format": True},
            {"format": 1.0},
            {"tool": None},
            {"files": []},
            {"more": 1},
            {"files": {"a": None}},
            {"files": {"a": {"size": 1}}},
            {"files": {"a": {"size": -1, "sha256": TRUE}}},
            {"files": {"a": {"size": "1", "sha256": TRUE}}},
            {"files": {"a": {"size": 1, "sha256": TRUE[1:]}}},
            {"files": {"a": {"size": 1, "sha256": f"{TRUE}\n"}}},
            {"files": {"a": {"size": 1, "sha256": TRUE.replace("1", "A")}}},
            {"files": {"a": {"size": 1, "sha256": [TRUE]}}},
            {"files": {"a": {"size": 1, "sha256": TRUE, "name": "b"}}},
        ],
        ids=str,
    )
    def test_anything_else_is_none(self, tmp_path: Path, change: dict[str, Any]) -> None:
        write_manifest(tmp_path, WRITTEN.values())
        path = tmp_path / MANIFEST
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
        assert read_manifest(path, "me/model") is None

    @pytest.mark.parametrize(
        "text",
        ["", "{}", "[]", "{", "\xff", '{"format": 1, "format": 1}', "[" * 10_000, "1" * 9_999],
    )
    def test_any_other_file_is_none(self, tmp_path: Path, text: str) -> None:
        (tmp_path / MANIFEST).write_text(text, encoding="latin-1")
        assert read_manifest(tmp_path / MANIFEST, "me/model") is None

    def test_that_of_a_later_version_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / MANIFEST).write_text('{"format": 2, "files": {}, "what": "ever"}')
        with pytest.raises(RefusedError, match="later version") as caught:
            read_manifest(tmp_path / MANIFEST, "me/model")
        assert "update" in str(caught.value.hint)


class TestEarlierCard:
    @pytest.mark.parametrize(
        "name", ["model.pt", "my model (2).pt", "a|b.pt", "東京.pt", "{x}*_.pt"]
    )
    @pytest.mark.parametrize("newline", ["\n", "\r\n"])
    def test_its_files_are_ours(self, name: str, newline: str) -> None:
        for read in ((), (name, f"2{name}")):
            text = card(name, read).replace("\n", newline)
            assert listed(text.encode()) == WRITTEN

    @pytest.mark.parametrize("name", NASTY, ids=range(len(NASTY)))
    def test_a_name_adds_nothing(self, name: str) -> None:
        found = listed(card(name).encode(errors="replace"))
        assert found in ({}, WRITTEN)

    def test_no_name_adds_anything(self) -> None:
        believed = 0
        for name in forgeries():
            for text in (card(name), card("a.pt", (name,)), card("a.pt", ("b.pt", name, "c.pt"))):
                assert listed(text.encode()) in ({}, WRITTEN)
                believed += ("config.json", FORGED) in OLD_PATTERN.findall(text)
        assert believed  # by the pattern that earlier versions used

    @pytest.mark.parametrize("before", ["", "## Parity\n", f"{HEAD}\n{RULE}\n{READ}\n{ROW}\n\n"])
    def test_what_the_user_wrote_beside_it_is_not_asked(self, before: str) -> None:
        assert listed(card("a.pt", mine=before).encode()) == WRITTEN

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            (END, ""),
            (BEGIN, ""),
            (END, f"{END}\n{BEGIN}\n{END}"),
            (HEAD, HEAD.replace("bytes", "size")),
            (RULE, RULE.replace("---", ":-:")),
            ("## Parity", "## Results"),
            ("\n\n## Parity", "\nwords\n\n## Parity"),
            ("\n\n## Parity", f"\n\n{ROW}\n\n## Parity"),
            (f"`a.pt` | read | 3 | `{TRUE}`", f"`a.pt` | read | 3 | `{TRUE[1:]}`"),
            ("](config.json)", "](other.json)"),
            ("`example.png`](example.png)", "`config.json`](config.json)"),
            ("`example.png`](example.png)", f"`{MANIFEST}`]({MANIFEST})"),
            (f"| `a.pt` | read | 3 | `{TRUE}` |\n", ""),
        ],
        ids=range(13),
    )
    def test_one_that_is_not_as_it_was_written_counts_for_nothing(self, old: str, new: str) -> None:
        text = card("a.pt")
        assert old in text
        assert listed(text.replace(old, new).encode()) == {}
