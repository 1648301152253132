from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sam21convert import convert
from sam21convert.errors import MismatchError, UsageError
from sam21convert.workflows.demo import demonstrate

from ..support.answers import conforms
from ..support.checkpoints import DEBUG
from ..support.progress import Recorded


def test_every_step_is_taken_and_told(tmp_path: Path) -> None:
    told = Recorded()
    demo = demonstrate(tmp_path / "demo", DEBUG, progress=told)
    assert told.done == told.total == len(demo.steps) == 7
    assert "every bit equal" in demo.steps[5].result
    assert "largest difference 0.0" in demo.steps[6].result
    assert "Both conversions kept every bit" in str(demo)
    assert conforms(demo.to_json())["steps"][0]["name"] == "sample"
    with Image.open(demo.picture) as picture:
        assert picture.width > 3 * picture.height / 1.5


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(UsageError, match="exists"):
        demonstrate(tmp_path, DEBUG)


def test_a_difference_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def err(source: Path, destination: Path, **options: Any) -> object:
        to_file = destination.suffix == ".pt"
        return convert(source, destination, dtype="bfloat16" if to_file else None, **options)

    monkeypatch.setattr("sam21convert.workflows.demo.convert", err)
    with pytest.raises(MismatchError, match="differs from"):
        demonstrate(tmp_path / "demo", DEBUG)


def test_so_would_other_masks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def err(source: Path, destination: Path, **options: Any) -> object:
        to_folder = destination.suffix == ""
        return convert(source, destination, dtype="bfloat16" if to_folder else None, **options)

    monkeypatch.setattr("sam21convert.workflows.demo.convert", err)
    monkeypatch.setattr("sam21convert.workflows.demo.same_bytes", lambda *_: True)
    with pytest.raises(MismatchError, match="masks from the two files differ"):
        demonstrate(tmp_path / "demo", DEBUG)
