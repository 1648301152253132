from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sam21convert import inspect, sample, validate
from sam21convert.config.registry import shipped_config
from sam21convert.conversion.sample import sample_tensors
from sam21convert.errors import UsageError
from sam21convert.io.data.checksums import sha256

from ..support.checkpoints import DEBUG, DEBUG_20

GOLDEN = "ad11f2ac3fe50c76d46fde1d7aa930e738c1b3d4a92fc293c82f76834f42a9b6"
TENSORS = sample_tensors(shipped_config(DEBUG), seed=0)


def test_the_same_seed_gives_the_same_bytes_everywhere(tmp_path: Path) -> None:
    sample(tmp_path / "s.safetensors", DEBUG)
    assert sha256(tmp_path / "s.safetensors") == GOLDEN
    sample(tmp_path / "t.safetensors", DEBUG, seed=1)
    assert sha256(tmp_path / "t.safetensors") != GOLDEN


@pytest.mark.parametrize("name", ["s.pt", "s.pth", "s.safetensors", "folder"])
def test_the_form_of_the_name_picks_the_container(tmp_path: Path, name: str) -> None:
    done = sample(tmp_path / name, DEBUG_20)
    assert (done.tensors, done.config) == (356 if name != "folder" else 354, DEBUG_20)
    found = validate(tmp_path / name)
    assert found.ok
    assert not found.warnings
    assert inspect(tmp_path / name).config == DEBUG_20
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_an_existing_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s.pt").touch()
    with pytest.raises(UsageError, match="exists"):
        sample(tmp_path / "s.pt", DEBUG)
    sample(tmp_path / "s.pt", DEBUG, overwrite=True)


@pytest.mark.parametrize("name", TENSORS)
def test_every_tensor_varies(name: str) -> None:
    values = TENSORS[name]
    assert values.dtype == np.float32
    assert np.isfinite(values).all()
    assert values.size == 1 or np.ptp(values) > 0.05 / np.sqrt(values.size)


def test_no_two_tensors_are_alike() -> None:
    seen = {values.tobytes() for values in TENSORS.values()}
    assert len(seen) == len(TENSORS)


def test_generations_share_what_they_have_in_common() -> None:
    older = sample_tensors(shipped_config(DEBUG_20), seed=0)
    assert all(np.array_equal(values, TENSORS[name]) for name, values in older.items())
