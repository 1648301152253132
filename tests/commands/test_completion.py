"""What a shell offers for a line that is begun, by the protocol of click's scripts."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.shell_completion import get_completion_class

from sam21convert.commands.main import main
from sam21convert.hub.published import PUBLISHED


def offered(monkeypatch: pytest.MonkeyPatch, line: str) -> list[str]:
    """What is offered for the last word; files that the shell itself finds are ``FILES``."""
    words = line.split(" ")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    bash = get_completion_class("bash")
    assert bash is not None
    answer = bash(main, {}, "sam21convert", "_SAM21CONVERT_COMPLETE").complete()
    found = [one.split(",") for one in answer.splitlines()]
    return ["FILES" if kind == "file" else name for kind, name in found]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("con", ["convert"]),
        ("convert a.pt --to hf-", ["hf-video", "hf-image"]),
        ("convert a.pt --dtype bf", ["bfloat16"]),
        ("validate a.pt --config sam2.1/sam2.1_hiera_t", ["FILES", "sam2.1/sam2.1_hiera_t"]),
        ("inspect ", ["FILES"]),
        ("inspect one.pt sam2.1_hiera_t", ["FILES", "sam2.1_hiera_tiny"]),
        ("diff a.pt sam2_hiera_t", ["FILES", "sam2_hiera_tiny"]),
        ("predict image a.png --checkpoint sam2_hiera_l", ["FILES", "sam2_hiera_large"]),
        ("parity tr", ["FILES", "truth:", "transformers:"]),
        ("parity a.pt transformers:fo", ["transformers:folder/"]),
        ("parity a.pt transformers:./folder/", ["transformers:./folder/model.pt"]),
        ("parity a.pt sam2:sam2.1_hiera_t", ["sam2:sam2.1_hiera_tiny"]),
        ("parity a.pt hf:", ["FILES"]),
        ("pull sam2.1_hiera_s", ["sam2.1_hiera_small"]),
    ],
)
def test_what_is_known_is_offered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, expected: list[str]
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "model.pt").touch()
    monkeypatch.chdir(tmp_path)
    assert offered(monkeypatch, f"sam21convert {line}") == expected


def test_every_published_name_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [known.name for known in PUBLISHED]
    assert offered(monkeypatch, "sam21convert selftest ") == names
