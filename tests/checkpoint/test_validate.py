"""A checkpoint is checked for names, shapes and values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sam21convert import convert, validate
from sam21convert.errors import UnreadableError

from ..support.checkpoints import DEBUG, DEBUG_20, official_pt, state_dict

NAME = "sam_mask_decoder.conv_s0.weight"


def saved(tmp_path: Path, **changes: Any) -> Path:
    """The debug checkpoint with tensors replaced; ``None`` leaves one out, others are added."""
    tensors = state_dict()
    for key, value in changes.items():
        name = key.replace("__", ".")
        if value is None:
            del tensors[name]
        else:
            tensors[name] = value
    return official_pt(tmp_path / "m.pt", tensors)


def test_a_sound_checkpoint_loads(tmp_path: Path) -> None:
    found = validate(official_pt(tmp_path / "m.pt"))
    assert (found.ok, found.exit_code, found.config) == (True, 0, DEBUG)
    assert (found.problems, found.warnings, found.hint) == ((), (), None)


@pytest.mark.parametrize(
    ("changes", "kind", "names"),
    [
        ({"no_obj_ptr": None}, "missing", ("no_obj_ptr",)),
        ({"head__weight": torch.ones(2)}, "unexpected", ("head.weight",)),
        ({"no_mem_embed": torch.ones(1, 1, 3)}, "mismatched", ("no_mem_embed",)),
        ({"no_mem_embed": torch.ones(1, 1, 128).int()}, "wrong_type", ("no_mem_embed",)),
        ({"no_mem_embed": torch.full((1, 1, 128), torch.nan)}, "nan", ("no_mem_embed",)),
        ({"no_mem_embed": -torch.full((1, 1, 128), torch.inf)}, "inf", ("no_mem_embed",)),
    ],
)
def test_a_fault_is_listed_and_the_answer_is_no(
    tmp_path: Path, changes: dict[str, Any], kind: str, names: tuple[str, ...]
) -> None:
    found = validate(saved(tmp_path, **changes))
    assert getattr(found, kind) == names
    assert (found.ok, found.exit_code) == (False, 1)
    assert names[0] in str(found)


def test_the_json_has_both_names_of_mismatched_tensors(tmp_path: Path) -> None:
    report = validate(saved(tmp_path, no_mem_embed=torch.ones(1, 1, 3))).to_dict()
    assert report["mismatched"] == report["misshapen"] == ["no_mem_embed"]


@pytest.mark.parametrize(("value", "kind"), [(0.0, "zero"), (-0.0, "zero"), (0.5, "constant")])
def test_a_constant_tensor_is_a_warning(tmp_path: Path, value: float, kind: str) -> None:
    found = validate(saved(tmp_path, no_mem_embed=torch.full((1, 1, 128), value)))
    assert getattr(found, kind) == ("no_mem_embed",)
    assert found.ok
    assert "no_mem_embed" in found.warnings[0]


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str
)
def test_a_denormal_number_is_a_warning_or_in_float16_a_note(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    """One in a tensor is enough; the smallest normal number is not one."""
    smallest = torch.finfo(dtype).tiny
    tensor = torch.full((1, 1, 128), smallest, dtype=dtype)
    tensor[0, 0, 5] = -1
    assert validate(saved(tmp_path, no_mem_embed=tensor)).denormal == ()
    tensor[0, 0, 7] = -smallest / 2
    found = validate(saved(tmp_path, no_mem_embed=tensor))
    assert (found.ok, found.denormal, found.constant) == (True, ("no_mem_embed",), ())
    lines = found.notes if dtype == torch.float16 else found.warnings
    assert any("with denormal numbers" in line for line in lines)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_nan_and_infinity_are_found_in_every_type(tmp_path: Path, dtype: torch.dtype) -> None:
    tensor = torch.ones(1, 1, 128).to(dtype)
    tensor[0, 0, 5], tensor[0, 0, 6] = torch.nan, torch.inf
    found = validate(saved(tmp_path, no_mem_embed=tensor))
    assert (found.nan, found.inf) == (("no_mem_embed",), ("no_mem_embed",))


def test_one_bad_number_in_a_large_tensor_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sam21convert.io.data.copy.CHUNK", 1 << 12)  # read in many pieces
    tensors = state_dict()
    largest = max(tensors, key=lambda name: tensors[name].numel())
    tensors[largest].view(-1)[-1] = torch.nan
    assert validate(official_pt(tmp_path / "m.pt", tensors)).nan == (largest,)


def test_a_tensor_larger_than_its_file_is_not_read(tmp_path: Path) -> None:
    found = validate(saved(tmp_path, no_mem_embed=torch.ones(1).expand(1 << 20, 1 << 20)))
    assert found.mismatched == ("no_mem_embed",)


class TestGenerations:
    three = "no_obj_embed_spatial, obj_ptr_tpos_proj.weight and obj_ptr_tpos_proj.bias"

    def test_a_newer_file_against_the_older_config(self, tmp_path: Path) -> None:
        found = validate(official_pt(tmp_path / "m.pt"), DEBUG_20)
        assert set(found.unexpected) == set(self.three.replace(" and", ",").split(", "))
        assert found.hint is not None
        assert "a SAM 2.1 checkpoint: it has " + self.three in found.hint
        assert found.hint.endswith(f"use `config={DEBUG}`")
        assert "\n" not in found.hint

    def test_an_older_file_against_the_newer_config(self, tmp_path: Path) -> None:
        found = validate(official_pt(tmp_path / "m.pt", state_dict(DEBUG_20)), DEBUG)
        assert set(found.missing) == set(self.three.replace(" and", ",").split(", "))
        assert found.hint is not None
        assert "a SAM 2.0 checkpoint: it lacks " + self.three in found.hint
        call = f"`convert({tmp_path / 'm.pt'}, OUT, config={DEBUG_20}, generation=2.1)`"
        assert found.hint.endswith(f"use `config={DEBUG_20}`; {call} makes it a SAM 2.1")

    def test_each_fits_its_own_config(self, tmp_path: Path) -> None:
        assert validate(official_pt(tmp_path / "m.pt"), DEBUG).ok
        assert validate(official_pt(tmp_path / "n.pt", state_dict(DEBUG_20)), DEBUG_20).ok


class TestFolders:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        convert(official_pt(tmp_path / "m.pt"), tmp_path / "hf")
        return tmp_path / "hf"

    def change(self, folder: Path, name: str, tensor: torch.Tensor | None) -> None:
        tensors = load_file(folder / "model.safetensors")
        del tensors[name]
        if tensor is not None:
            tensors[name] = tensor
        save_file(tensors, folder / "model.safetensors")

    def test_a_folder_is_checked_against_its_config(self, folder: Path) -> None:
        found = validate(folder)
        assert (found.ok, found.config, found.dialect) == (True, "config.json", "hf-video")

    def test_a_missing_tied_copy_is_a_warning(self, folder: Path) -> None:
        self.change(folder, "prompt_encoder.shared_embedding.positional_embedding", None)
        found = validate(folder)
        assert found.ok
        assert "transformers 5 puts random numbers" in found.warnings[0]

    def test_tied_copies_that_differ_are_a_fault(self, folder: Path) -> None:
        name = "shared_image_embedding.positional_embedding"
        self.change(folder, name, torch.ones(2, 64))
        found = validate(folder)
        assert not found.ok
        assert any("should be equal and differ" in problem for problem in found.problems)

    def test_official_names_in_a_folder_are_a_fault(self, tmp_path: Path, folder: Path) -> None:
        convert(tmp_path / "m.pt", tmp_path / "official.safetensors")
        (tmp_path / "official.safetensors").replace(folder / "model.safetensors")
        found = validate(folder)
        assert not found.ok
        assert "official names, which transformers does not load" in found.problems[0]
        assert found.hint is not None
        assert f"`convert({folder}, OUT)` writes a new folder" in found.hint
        convert(folder, tmp_path / "repaired")
        assert validate(tmp_path / "repaired").ok

    def test_an_image_model_under_a_video_config_has_missing_tensors(
        self, tmp_path: Path, folder: Path
    ) -> None:
        convert(folder, tmp_path / "image", to="hf-image")
        (tmp_path / "image" / "model.safetensors").replace(folder / "model.safetensors")
        assert len(validate(folder).missing) == 108


def test_a_wrong_checksum_is_an_error(tmp_path: Path) -> None:
    path = official_pt(tmp_path / "m.pt")
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(UnreadableError, match="corrupt"):
        validate(path)


def test_a_model_of_no_published_size_needs_a_config(tmp_path: Path) -> None:
    tensors = {k: v for k, v in state_dict().items() if ".blocks.6." not in k}
    found = validate(official_pt(tmp_path / "m.pt", tensors))
    assert not found.ok
    assert "needs a config" in found.problems[0]
