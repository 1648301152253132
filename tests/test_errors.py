"""Errors: one tree, and what is missing is a FileNotFoundError as well."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

import sam21convert
from sam21convert.errors import MissingFileError, UnreadableError

CALLS: dict[str, Callable[[Path], object]] = {
    "inspect": lambda path: sam21convert.inspect(path / "gone.pt"),
    "validate": lambda path: sam21convert.validate(path / "gone.safetensors"),
    "convert": lambda path: sam21convert.convert(path / "gone.pt", path / "out.pt"),
    "diff": lambda path: sam21convert.diff(path / "gone.pt", path / "too.pt"),
    "load_model": lambda path: sam21convert.load_model(path / "gone.pt"),
    "predict_image": lambda path: sam21convert.predict_image(
        path / "gone.jpg", path / "gone.pt", path / "out.png", [sam21convert.Point(1, 1)]
    ),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_missing_file_is_a_file_not_found_error(tmp_path: Path, call: str) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        CALLS[call](tmp_path)
    assert isinstance(caught.value, MissingFileError)
    assert isinstance(caught.value, UnreadableError)
    assert caught.value.exit_code == 3
    assert caught.value.errno == errno.ENOENT
    assert "gone" in str(caught.value)


def test_a_name_that_nothing_has_is_a_file_not_found_error() -> None:
    with pytest.raises(FileNotFoundError, match="no published checkpoint") as caught:
        sam21convert.inspect("no-such-model")
    assert isinstance(caught.value, MissingFileError)
    assert caught.value.exit_code == 3  # as for a path


def test_what_is_there_and_cannot_be_read_is_not(tmp_path: Path) -> None:
    (tmp_path / "empty.pt").touch()
    with pytest.raises(UnreadableError) as caught:
        sam21convert.inspect(tmp_path / "empty.pt")
    assert not isinstance(caught.value, FileNotFoundError)
