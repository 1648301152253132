from __future__ import annotations

import json
import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sam21convert import convert
from sam21convert.checkpoint.open import open_checkpoint
from sam21convert.errors import MismatchError, RefusedError, UnreadableError, UsageError
from sam21convert.io.data.checksums import same_bytes, sha256

from ..support.checkpoints import DEBUG, DEBUG_20, official_pt, random_bits, state_dict
from ..support.progress import Recorded

pytestmark = pytest.mark.usefixtures("small_pieces")

POINT_PE = "prompt_encoder.shared_embedding.positional_embedding"
IMAGE_PE = "shared_image_embedding.positional_embedding"


@pytest.fixture
def pt(tmp_path: Path) -> Path:
    return official_pt(tmp_path / "model.pt")


@pytest.fixture
def folder(tmp_path: Path, pt: Path) -> Path:
    convert(pt, tmp_path / "hf")
    return tmp_path / "hf"


def assert_same(one: Path, other: Path) -> None:
    left, right = open_checkpoint(one).tensors, open_checkpoint(other).tensors
    assert list(left) == list(right)
    assert all(same_bytes(ref, right[name]) for name, ref in left.items())


class TestRoundTrips:
    @pytest.mark.parametrize("config", [DEBUG, DEBUG_20])
    @pytest.mark.parametrize("through", ["hf", "other.safetensors", "other.pt", "other.pth"])
    def test_there_and_back_every_bit_is_kept(
        self, tmp_path: Path, config: str, through: str
    ) -> None:
        canonical = open_checkpoint(
            official_pt(tmp_path / "names.pt", state_dict(config))
        ).inventory
        bits = random_bits(tmp_path / "bits.safetensors", canonical)
        convert(bits, tmp_path / "source.pt")
        convert(tmp_path / "source.pt", tmp_path / through)
        convert(tmp_path / through, tmp_path / "back.pt")
        assert_same(tmp_path / "source.pt", tmp_path / "back.pt")
        assert sha256(tmp_path / "source.pt") == sha256(tmp_path / "back.pt")

    def test_a_written_file_is_in_the_official_order(self, tmp_path: Path) -> None:
        tensors = state_dict()
        shuffled = dict(sorted(tensors.items()))
        convert(official_pt(tmp_path / "shuffled.pt", shuffled), tmp_path / "ordered.pt")
        assert list(torch.load(tmp_path / "ordered.pt")["model"]) == list(tensors)

    def test_an_image_model_becomes_whole_with_a_base(self, tmp_path: Path, pt: Path) -> None:
        image, back = tmp_path / "image", tmp_path / "back.pt"
        convert(pt, image, to="hf-image")
        convert(image, back, base=pt)
        assert_same(pt, back)

    def test_without_a_base_it_is_refused_with_the_number_missing(
        self, tmp_path: Path, pt: Path
    ) -> None:
        convert(pt, tmp_path / "image", to="hf-image")
        with pytest.raises(RefusedError, match=r"108 tensors of the memory are missing") as caught:
            convert(tmp_path / "image", tmp_path / "back.pt")
        assert "`base=CHECKPOINT`" in str(caught.value.hint)
        (tmp_path / "image" / "config.json").unlink()
        with pytest.raises(RefusedError, match=r"108 \(SAM 2.1\) or 105 \(SAM 2\) tensors"):
            convert(tmp_path / "image", tmp_path / "back.pt")

    def test_a_base_of_another_generation_or_kind_is_refused(
        self, tmp_path: Path, pt: Path
    ) -> None:
        convert(pt, tmp_path / "image", to="hf-image")
        older = official_pt(tmp_path / "older.pt", state_dict(DEBUG_20))
        with pytest.raises(MismatchError, match="is a SAM 2.0, but"):
            convert(tmp_path / "image", tmp_path / "back.pt", base=older)
        with pytest.raises(
            RefusedError, match="lacks 108 of the missing tensors too, such as maskmem_tpos_enc"
        ):
            convert(tmp_path / "image", tmp_path / "back.pt", base=tmp_path / "image")

    def test_the_base_tells_the_generation_where_the_image_model_does_not(
        self, tmp_path: Path
    ) -> None:
        older = official_pt(tmp_path / "older.pt", state_dict(DEBUG_20))
        convert(older, tmp_path / "image", to="hf-image")
        (tmp_path / "image" / "config.json").unlink()
        done = convert(tmp_path / "image", tmp_path / "back.pt", base=older)
        assert (done.generation, done.config) == ("2.0", DEBUG_20)
        assert_same(older, tmp_path / "back.pt")


class TestWhatPeopleHave:
    """Forms of the same state dict that are read."""

    @pytest.mark.parametrize(
        "content",
        [
            lambda sd: sd,
            lambda sd: OrderedDict(sd),
            lambda sd: {"state_dict": sd, "epoch": 3},
            lambda sd: {"model": {f"module.{k}": v for k, v in sd.items()}},
            lambda sd: {"model": {f"_orig_mod.{k}": v for k, v in sd.items()}},
            lambda sd: {"model": {f"module._orig_mod.{k}": v for k, v in sd.items()}},
            lambda sd: {
                k.replace("encoder.trunk", "encoder._orig_mod.trunk"): v for k, v in sd.items()
            },
            lambda sd: {"n_averaged": torch.tensor(3)} | {f"module.{k}": v for k, v in sd.items()},
            lambda sd: (
                {f"visual_model.{k}": v for k, v in sd.items()} | {"text.weight": torch.ones(2)}
            ),
            lambda sd: {"model": sd, "optimizer": {"state": {0: {"exp_avg": torch.ones(9)}}}},
            lambda sd: {"model": {k: torch.nn.Parameter(v) for k, v in sd.items()}},
        ],
    )
    def test_wrappers_are_taken_off(self, tmp_path: Path, pt: Path, content: Any) -> None:
        torch.save(content(state_dict()), tmp_path / "wrapped.pt")
        convert(tmp_path / "wrapped.pt", tmp_path / "plain.pt")
        assert_same(pt, tmp_path / "plain.pt")

    def test_two_models_in_one_file_are_not_chosen_between(self, tmp_path: Path) -> None:
        torch.save({"model": state_dict(), "ema": state_dict(seed=1)}, tmp_path / "two.pt")
        with pytest.raises(RefusedError, match="holds 2 SAM 2 state dicts: model .*, ema"):
            convert(tmp_path / "two.pt", tmp_path / "out.pt")

    def test_storage_is_shared_strided_or_legacy_and_the_bytes_are_right(
        self, tmp_path: Path, pt: Path
    ) -> None:
        tensors = state_dict()
        big = torch.zeros(3, *tensors["image_encoder.neck.convs.0.conv.weight"].shape)
        big[1] = tensors["image_encoder.neck.convs.0.conv.weight"]
        tensors["image_encoder.neck.convs.0.conv.weight"] = big[1]
        turned = tensors["obj_ptr_tpos_proj.weight"].t().contiguous().t()
        assert not turned.is_contiguous()
        tensors["obj_ptr_tpos_proj.weight"] = turned
        for legacy in (False, True):
            source = tmp_path / f"odd{legacy}.pt"
            torch.save({"model": tensors}, source, _use_new_zipfile_serialization=not legacy)
            convert(source, tmp_path / f"plain{legacy}.pt")
            assert_same(pt, tmp_path / f"plain{legacy}.pt")
            convert(source, tmp_path / f"hf{legacy}")
            convert(tmp_path / f"hf{legacy}", tmp_path / f"back{legacy}.pt")
            assert_same(pt, tmp_path / f"back{legacy}.pt")

    @pytest.mark.parametrize("absent", [POINT_PE, IMAGE_PE])
    def test_a_folder_with_one_positional_copy_is_completed(
        self, tmp_path: Path, folder: Path, pt: Path, absent: str
    ) -> None:
        tensors = load_file(folder / "model.safetensors")
        del tensors[absent]
        save_file(tensors, folder / "model.safetensors")
        done = convert(folder, tmp_path / "repaired")
        assert any(absent in note for note in done.notes)
        assert absent in load_file(tmp_path / "repaired" / "model.safetensors")
        convert(folder, tmp_path / "back.pt")
        assert_same(pt, tmp_path / "back.pt")

    def test_copies_that_differ_are_an_error(self, tmp_path: Path, folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        tensors[IMAGE_PE] = tensors[IMAGE_PE] + 1
        save_file(tensors, folder / "model.safetensors")
        with pytest.raises(MismatchError, match="should be equal and differ"):
            convert(folder, tmp_path / "back.pt")
        assert not (tmp_path / "back.pt").exists()

    def test_shards_are_one_checkpoint(self, tmp_path: Path, folder: Path, pt: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        halves = sorted(tensors)[::2], sorted(tensors)[1::2]
        weight_map: dict[str, str] = {}
        for number, names in enumerate(halves):
            shard = f"model-0000{number + 1}-of-00002.safetensors"
            save_file({name: tensors[name] for name in names}, folder / shard)
            weight_map |= dict.fromkeys(names, shard)
        index = folder / "model.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": weight_map}))
        convert(folder, tmp_path / "back.pt")
        assert_same(pt, tmp_path / "back.pt")


class TestCasts:
    @pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
    def test_every_tensor_is_cast_as_torch_casts(
        self, tmp_path: Path, pt: Path, dtype: Any
    ) -> None:
        done = convert(pt, tmp_path / "cast.safetensors", dtype=dtype)
        kind, expected = getattr(torch, dtype), state_dict()
        for name, tensor in load_file(tmp_path / "cast.safetensors").items():
            assert torch.equal(tensor, expected[name].to(kind))
        assert list(done.dtypes) == [{"float16": "F16", "bfloat16": "BF16"}[dtype]]
        convert(pt, tmp_path / "hf", dtype=dtype)
        config = json.loads((tmp_path / "hf" / "config.json").read_text())
        assert config["torch_dtype"] == dtype


class TestImageSize:
    def test_it_goes_into_every_config(self, tmp_path: Path, pt: Path) -> None:
        done = convert(pt, tmp_path / "hf", image_size=256)
        assert done.image_size == 256
        read = {
            path.name: json.loads(path.read_text()) for path in (tmp_path / "hf").glob("*.json")
        }
        assert read["config.json"]["image_size"] == 256
        assert read["config.json"]["memory_attention_rope_feat_sizes"] == [16, 16]
        assert read["config.json"]["vision_config"]["backbone_feature_sizes"][0] == [64, 64]
        assert read["preprocessor_config.json"]["mask_size"] == {"height": 64, "width": 64}
        assert read["video_preprocessor_config.json"]["size"] == {"height": 256, "width": 256}
        assert read["processor_config.json"]["target_size"] == 256

    def test_a_size_the_model_cannot_have_is_a_usage_error(self, tmp_path: Path, pt: Path) -> None:
        with pytest.raises(UsageError, match="`image_size`: 100 is not a multiple"):
            convert(pt, tmp_path / "hf", image_size=100)

    def test_one_that_was_stated_is_kept(self, tmp_path: Path, pt: Path) -> None:
        convert(pt, tmp_path / "hf", image_size=256)
        assert convert(tmp_path / "hf", tmp_path / "image", to="hf-image").image_size == 256


class TestReport:
    def test_it_lists_where_every_tensor_came_from(self, tmp_path: Path, pt: Path) -> None:
        report = json.loads(convert(pt, tmp_path / "hf", hashes=True).to_json())
        origins = {tensor["name"]: tensor["from"] for tensor in report["tensors"]}
        assert len(origins) == 357
        assert origins["prompt_encoder.point_embed.weight"] == [
            f"sam_prompt_encoder.point_embeddings.{k}.weight" for k in range(4)
        ]
        pe = "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
        assert origins[POINT_PE] == origins[IMAGE_PE] == [pe]
        assert report["sha256"] == {
            str(path): sha256(path) for path in (pt, *(tmp_path / "hf").iterdir())
        }

    def test_a_dry_run_says_the_same_and_writes_nothing(self, tmp_path: Path, pt: Path) -> None:
        before = sorted(os.listdir(tmp_path))
        planned = convert(pt, tmp_path / "hf", dry_run=True)
        assert sorted(os.listdir(tmp_path)) == before
        done = convert(pt, tmp_path / "hf")
        assert planned.tensors == done.tensors
        assert "would write" in str(planned)
        assert "wrote" in str(done)

    def test_what_is_not_known_is_said_to_be_so(self, tmp_path: Path, pt: Path) -> None:
        assert any("no tensor tells them" in note for note in convert(pt, tmp_path / "a").notes)
        assert not convert(pt, tmp_path / "b", config=DEBUG).notes

    def test_progress_reaches_what_was_announced(self, tmp_path: Path, pt: Path) -> None:
        from sam21convert.conversion.options import ConvertOptions
        from sam21convert.conversion.plan import make_plan
        from sam21convert.conversion.write import carry_out

        for verify in (True, False):
            plan = make_plan(pt, tmp_path / f"out{verify}", ConvertOptions())
            told = Recorded()
            carry_out(plan, overwrite=False, verify=verify, progress=told)
            assert told.done == told.total == plan.nbytes * (1 + verify)


class TestRefusals:
    @pytest.mark.parametrize(
        ("destination", "to", "complaint"),
        [
            ("out.bin", None, "no file of this kind"),
            ("out.pt", "hf-video", "hf-video is written to a folder or to a .safetensors file"),
            ("out", "official", "official is written to a .pt file or to a .safetensors file"),
            ("out", "klingon", "no dialect is called 'klingon'"),
            ("no/out.pt", None, "does not exist"),
            ("model.pt", None, "is the input"),
        ],
    )
    def test_a_request_that_makes_no_sense(
        self, tmp_path: Path, pt: Path, destination: str, to: str | None, complaint: str
    ) -> None:
        before = pt.read_bytes()
        with pytest.raises(UsageError, match=complaint):
            convert(pt, tmp_path / destination, to=to, overwrite=True)
        assert pt.read_bytes() == before

    def test_the_input_under_another_name_is_still_the_input(
        self, tmp_path: Path, pt: Path, folder: Path
    ) -> None:
        (tmp_path / "link.pt").symlink_to(pt)
        (tmp_path / "hard.pt").hardlink_to(pt)
        for name in ("link.pt", "hard.pt"):
            with pytest.raises(UsageError, match="is the input"):
                convert(pt, tmp_path / name, overwrite=True)
        with pytest.raises(UsageError, match="is the input"):
            convert(folder, folder, overwrite=True)

    def test_the_base_is_an_input_too(self, tmp_path: Path, pt: Path) -> None:
        convert(pt, tmp_path / "image", to="hf-image")
        before = pt.read_bytes()
        with pytest.raises(UsageError, match="is the input"):
            convert(tmp_path / "image", pt, base=pt, overwrite=True)
        assert pt.read_bytes() == before

    def test_an_existing_output_needs_leave(self, tmp_path: Path, pt: Path, folder: Path) -> None:
        (tmp_path / "out.pt").write_text("mine")
        for destination in (tmp_path / "out.pt", folder):
            with pytest.raises(UsageError, match="exists"):
                convert(pt, destination)
            convert(pt, destination, overwrite=True)
        assert_same(pt, tmp_path / "out.pt")

    def test_a_file_in_the_place_of_a_folder(self, tmp_path: Path, pt: Path, folder: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(UsageError, match="is a file, but the output is a folder"):
            convert(pt, tmp_path / "file", overwrite=True)
        folder.rename(tmp_path / "dir.pt")
        with pytest.raises(UsageError, match="is a folder, but the output is a file"):
            convert(pt, tmp_path / "dir.pt", overwrite=True)

    def test_a_checkpoint_that_does_not_fit_leaves_no_output(self, tmp_path: Path) -> None:
        tensors = state_dict()
        del tensors["no_obj_ptr"]
        with pytest.raises(MismatchError, match="missing .* no_obj_ptr"):
            convert(official_pt(tmp_path / "less.pt", tensors), tmp_path / "out.pt")
        assert os.listdir(tmp_path) == ["less.pt"]

    def test_a_corrupt_archive_entry_is_found_and_leaves_no_output(
        self, tmp_path: Path, pt: Path
    ) -> None:
        ref = open_checkpoint(pt).tensors["memory_attention.norm.weight"]
        with pt.open("r+b") as file:
            file.seek(ref.offset)
            byte = file.read(1)[0]
            file.seek(ref.offset)
            file.write(bytes([byte ^ 1]))
        for name in ("out.pt", "out.safetensors", "out"):
            for dtype in (None, "float16"):
                with pytest.raises(UnreadableError, match="is corrupt: its CRC-32"):
                    convert(pt, tmp_path / name, dtype=dtype)
        assert os.listdir(tmp_path) == ["model.pt"]
        convert(pt, tmp_path / "out.pt", verify=False)

    def test_mixed_types_in_one_output_tensor_are_named(self, tmp_path: Path) -> None:
        tensors = state_dict()
        name = "sam_prompt_encoder.point_embeddings.2.weight"
        tensors[name] = tensors[name].half()
        source = official_pt(tmp_path / "mixed.pt", tensors)
        with pytest.raises(MismatchError, match="parts .* are of different types"):
            convert(source, tmp_path / "hf")
        convert(source, tmp_path / "hf", dtype="float32")
        convert(source, tmp_path / "kept.pt")
        assert torch.load(tmp_path / "kept.pt")["model"][name].dtype == torch.float16

    @pytest.mark.skipif(
        not hasattr(os, "copy_file_range"), reason="this system has no copy_file_range"
    )
    def test_a_damaged_output_is_not_kept(
        self, tmp_path: Path, pt: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Control of the reading back: a writer that errs in one byte is caught."""
        from sam21convert.io.data import copy as copying

        copy = copying._kernel_copy

        def err(source: int, out: int, count: int, start: int, offset: int) -> int:
            done = copy(source, out, count, start, offset)
            byte = os.pread(source, 1, start)[0]
            os.pwrite(out, bytes([byte ^ 1]), offset)
            return done

        monkeypatch.setattr(copying, "_kernel_copy", err)
        for name, file in (("out.safetensors", ""), ("out", "/model.safetensors")):
            says = rf"^{tmp_path / name}{file}: .*, read back, is not what was written"
            with pytest.raises(MismatchError, match=says):
                convert(pt, tmp_path / name)
        assert os.listdir(tmp_path) == ["model.pt"]
