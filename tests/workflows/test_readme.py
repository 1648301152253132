"""A README keeps every byte outside the generated section."""

from __future__ import annotations

from typing import Any

import pytest
from huggingface_hub import ModelCard

from sam21convert.errors import RefusedError, UnreadableError
from sam21convert.workflows.publish.readme import BEGIN, END, markers, merged

from ..support.nasty import NASTY

OURS: dict[str, Any] = {"library_name": "transformers", "tags": ["sam2"], "license": "mit"}
THEIRS = {
    "no metadata": b"# Mine\n\ntext",
    "metadata": b"---\nlicense: apache-2.0\nextra: [1, 2]  # mine\n---\n# Mine\n",
    "windows": b"---\r\nlicense: apache-2.0\r\n---\r\n# Mine\r\n\r\ntext\r\n",
    "all there": b"---\nlicense: mit\ntags: []\nlibrary_name: null\n---\n\n\n\n  # Mine  \n\n\n",
    "no line end": b"---\nlicense: mit\n---",
    "a comment": b"---\n# nothing yet\n---\ntext\n",
    "nested": b"---\nmodel-index: []\nlicense: x\nlicense_name: |\n  many\n  lines\n---\n",
    "odd text": "Grüße, 東京 \t \u2028 <!-- a comment --> ---\n---\nlicense: no\n---\n".encode(),
    "section in the middle": f"before\n{BEGIN}\nold\n{END} after\n\n".encode(),
    "empty": b"",
}


def metadata(text: bytes) -> dict[str, Any]:
    found = ModelCard(text.decode()).data
    return {name: value for name, value in vars(found).items() if value is not None}


def outside(text: bytes) -> bytes:
    """All but our section."""
    before, begin, rest = text.partition(BEGIN.encode())
    return before + rest.partition(END.encode())[2] if begin else text


@pytest.mark.parametrize("there", THEIRS.values(), ids=THEIRS)
class TestKept:
    def test_every_byte_outside_our_section_is_kept_in_order(self, there: bytes) -> None:
        left = iter(outside(merged(there, "title", "ours\n", OURS)[0]))
        assert all(byte in left for byte in outside(there))  # a subsequence

    def test_nothing_is_added_but_metadata_markers_and_line_ends(self, there: bytes) -> None:
        lines = outside(merged(there, "title", "ours\n", OURS)[0]).splitlines()
        for line in outside(there).splitlines():
            lines.remove(line)
        names = (b"library_name: ", b"tags:", b"- sam2", b"license: mit")
        assert all(line in (b"", b"---") or line.startswith(names) for line in lines)

    def test_again_changes_nothing(self, there: bytes) -> None:
        once, _ = merged(there, "title", "ours\n", OURS)
        assert merged(once, "title", "ours\n", OURS)[0] == once

    def test_another_section_takes_the_place_of_the_first(self, there: bytes) -> None:
        once, _ = merged(there, "title", "ours\n", OURS)
        twice, _ = merged(once, "title", "other\n", OURS)
        assert twice == once.replace(b"ours", b"other")

    def test_metadata_is_added_and_never_changed(self, there: bytes) -> None:
        result = metadata(merged(there, "title", "ours\n", OURS)[0])
        before = metadata(there)
        assert {name: result[name] for name in before} == before
        assert set(result) <= {*before, *OURS}

    def test_line_ends_are_those_of_the_file(self, there: bytes) -> None:
        result, _ = merged(there, "title", "ours\n", OURS)
        windows = b"\r\n" in there
        assert result.count(b"\r\n") == (result.count(b"\n") if windows else 0)


def test_a_new_readme_has_a_heading_and_valid_metadata() -> None:
    text, notes = merged(None, "title", "ours\n", OURS)
    assert text.decode().endswith(f"---\n\n# title\n\n{BEGIN}\n\nours\n\n{END}\n")
    assert metadata(text) == OURS
    assert notes == ()


@pytest.mark.parametrize("value", NASTY, ids=range(len(NASTY)))
@pytest.mark.parametrize("there", [None, b"---\nlicense: mit\n---\n# Mine\n"], ids=["new", "old"])
def test_a_value_of_the_metadata_is_nothing_else(value: str, there: bytes | None) -> None:
    given = {"base_model": value, "datasets": [value, "b"], "license": "mit"}
    if markers(value) or "\x85" in value:  # the latter is a space to YAML
        with pytest.raises(RefusedError, match="its metadata would hold|cannot be (written|added)"):
            merged(there, "title", "ours\n", given)
        return
    text, _ = merged(there, "title", "ours\n", given)
    assert metadata(text) == given
    head = b"\n# title\n" if there is None else b"# Mine\n"
    assert text.endswith(b"\n---\n" + head + f"\n{BEGIN}\n\nours\n\n{END}\n".encode())
    assert merged(text, "title", "ours\n", given)[0] == text


def test_the_title_is_a_heading_whatever_it_is() -> None:
    for title in NASTY:
        text = merged(None, title, "ours\n", OURS)[0].decode()
        assert text.count("\n") == merged(None, "title", "ours\n", OURS)[0].decode().count("\n")
        assert markers(text) == [BEGIN, END]


def test_what_was_kept_against_the_request_is_told() -> None:
    _, notes = merged(THEIRS["metadata"], "title", "ours\n", OURS)
    assert notes == ("README.md says license: apache-2.0, which is kept; mit was not written",)


@pytest.mark.parametrize(
    ("there", "error", "says"),
    [
        (b"\xff", UnreadableError, "not UTF-8"),
        (b"---\na: [\n---\n", UnreadableError, "not valid YAML"),
        (b"---\n- a\n---\n", UnreadableError, "not a mapping"),
        (b"---\n{license: x}\n---\n", RefusedError, "cannot be added"),
        (b"---\nmodel-index: [1]\n---\n", RefusedError, "not the metadata of a model card"),
        (BEGIN.encode(), RefusedError, "found 1 in all"),
        (f"{END}{BEGIN}".encode(), RefusedError, "or another order"),
        (f"{BEGIN}{END}{BEGIN}{END}".encode(), RefusedError, "found 4 in all"),
    ],
)
def test_what_cannot_be_edited_safely_is_refused(
    there: bytes, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        merged(there, "title", "ours\n", OURS)
