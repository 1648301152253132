"""The config beside a file that is named belongs to it, and is read and told."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from transformers import AutoProcessor

from sam21convert import convert, inspect, load_model, validate
from sam21convert.checkpoint.open import open_checkpoint
from sam21convert.config.hydra_writer import to_hydra
from sam21convert.config.load import load_config
from sam21convert.config.plain_yaml import unread_settings
from sam21convert.config.registry import shipped_config, shipped_tensors
from sam21convert.errors import RefusedError, UnreadableError, UsageError

from ..commands.test_commands import run
from ..support.checkpoints import DEBUG, official_yaml, sparse

CONFIG = shipped_config(DEBUG)
AT_256, AT_512 = (replace(CONFIG, image_size=size) for size in (256, 512))
OFFICIAL_YAMLS = (
    *(f"sam2/sam2_hiera_{size}" for size in ("t", "s", "b+", "l")),
    *(f"sam2.1/sam2.1_hiera_{size}" for size in ("t", "s", "b+", "l")),
    "sam2.1_training/sam2.1_hiera_b+_MOSE_finetune",
)


@pytest.fixture
def pt(tmp_path: Path, checkpoints: Callable[[str], Path]) -> Path:
    return Path(shutil.copy(checkpoints(DEBUG), tmp_path / "mine.pt"))


@pytest.fixture
def folder(tmp_path: Path, checkpoints: Callable[[str], Path]) -> Path:
    convert(checkpoints(DEBUG), tmp_path / "hf", image_size=256)
    return tmp_path / "hf"


def size(path: Path) -> int | None:
    return inspect(path).image_size


class TestAYamlOfTheSameName:
    @pytest.mark.parametrize("ending", [".yaml", ".yml"])
    def test_is_read_and_told_by_every_command(self, tmp_path: Path, pt: Path, ending: str) -> None:
        pt.with_suffix(ending).write_text(to_hydra(AT_256))
        told = f"the settings are those of mine{ending} beside it: image size 256"
        assert told in inspect(pt).notes
        assert told in validate(pt).notes
        assert told in convert(pt, tmp_path / "out").notes
        loaded, report = load_model(pt)
        assert (loaded.config.image_size, told in report.notes) == (256, True)
        assert size(tmp_path / "out") == 256
        assert told in run("inspect", pt).output

    def test_gives_way_to_a_config_that_is_given(self, tmp_path: Path, pt: Path) -> None:
        pt.with_suffix(".yaml").write_text(to_hydra(AT_256))
        done = convert(pt, tmp_path / "out", config=AT_512)
        assert (done.image_size, size(tmp_path / "out")) == (512, 512)
        assert not any("beside" in note for note in done.notes)

    def test_must_be_a_config_and_fit(self, pt: Path) -> None:
        beside = pt.with_suffix(".yaml")
        beside.write_text("a: [")
        with pytest.raises(UnreadableError, match=r"mine\.yaml: not valid YAML") as raised:
            inspect(pt)
        assert raised.value.hint == f"`config={DEBUG}` is read instead"
        assert validate(pt, DEBUG).ok
        beside.write_text(to_hydra(shipped_config("sam2.1/sam2.1_hiera_t")))
        assert validate(pt).problems

    def test_is_never_replaced_by_the_output(self, tmp_path: Path, pt: Path) -> None:
        beside = pt.with_suffix(".yaml")
        beside.write_text(to_hydra(AT_256))
        with pytest.raises(UsageError, match=r"mine\.yaml: is the config of the input"):
            convert(pt, tmp_path / "mine.safetensors", image_size=512, overwrite=True)
        assert load_config(beside) == AT_256

    def test_that_says_otherwise_keeps_an_output_out(self, tmp_path: Path, pt: Path) -> None:
        (tmp_path / "out.yaml").write_text(to_hydra(AT_256))
        with pytest.raises(UsageError, match=r"out\.yaml: exists"):
            convert(pt, tmp_path / "out.pt")
        convert(pt, tmp_path / "out.pt", overwrite=True)
        assert open_checkpoint(tmp_path / "out.pt").model_config == CONFIG


class TestAConfigJson:
    @pytest.mark.parametrize("shards", [None, "4MB"])
    def test_is_that_of_the_weights_of_its_folder(
        self, tmp_path: Path, pt: Path, shards: str | None
    ) -> None:
        convert(pt, tmp_path / "hf", image_size=256, shard_size=shards)
        name = "model.safetensors.index.json" if shards else "model.safetensors"
        file = tmp_path / "hf" / name
        assert size(file) == 256
        assert "config.json beside it: image size 256" in validate(file).notes[0]
        copy = shutil.copy(file, tmp_path / name)  # negative control: no config.json there
        for shard in (tmp_path / "hf").glob("model-*"):
            shutil.copy(shard, tmp_path)
        assert size(Path(copy)) is None

    def test_is_not_that_of_another_checkpoint_there(self, folder: Path, pt: Path) -> None:
        other = Path(shutil.copy(pt, folder / "other.pt"))
        assert size(other) is None
        assert inspect(other).notes == (
            "config.json beside it was not read, as other checkpoints are there: "
            f"`config={folder / 'config.json'}`",
        )
        convert(other, folder / "256", config=folder / "config.json")
        assert size(folder / "256") == 256
        (folder / "model.safetensors").unlink()
        assert size(other) == 256

    def test_of_a_folder_is_that_of_the_only_weights_below_it(
        self, folder: Path, tmp_path: Path
    ) -> None:
        (folder / "step_5").mkdir()
        (folder / "model.safetensors").rename(folder / "step_5" / "model.safetensors")
        assert size(folder) == 256
        assert f"the settings are those of {folder / 'config.json'}: image size 256" in (
            convert(folder, tmp_path / "out").notes
        )
        assert size(folder / "step_5") is None  # negative control: it is not in that folder

    def test_of_an_image_model_leaves_the_generation_to_the_tensors(
        self, tmp_path: Path, pt: Path
    ) -> None:
        convert(pt, tmp_path / "image", to="hf-image", image_size=256)
        (tmp_path / "image" / "model.safetensors").unlink()
        content = json.loads((tmp_path / "image" / "config.json").read_text())
        (tmp_path / "image" / "config.json").write_text(
            json.dumps({name: v for name, v in content.items() if not name.startswith("enable_")})
        )
        found = open_checkpoint(shutil.copy(pt, tmp_path / "image" / "whole.pt"))
        assert (found.generation, found.config) == ("2.1", AT_256)

    def test_keeps_out_a_file_that_it_would_be_read_with(self, folder: Path, pt: Path) -> None:
        (folder / "model.safetensors").unlink()
        with pytest.raises(UsageError, match=r"config\.json beside it would be read with it"):
            convert(pt, folder / "model.safetensors", to="hf-video")

    def test_of_something_else_is_not_read(self, tmp_path: Path, pt: Path) -> None:
        (tmp_path / "config.json").write_text('{"model_type": "bert", "image_size": 7}')
        assert size(pt) is None
        assert validate(pt).ok

    def test_of_timm_tells_a_trunk_of_its_own(self, tmp_path: Path) -> None:
        name = "sam2.1/sam2.1_hiera_t"
        own = replace(shipped_config(name).trunk, window_spec=(8, 4, 16, 7))
        config = replace(shipped_config(name), trunk=own)
        source = sparse(tmp_path / "in.safetensors", shipped_tensors(name))
        convert(source, tmp_path / "trunk", to="timm", config=config)
        for path in (tmp_path / "trunk", tmp_path / "trunk" / "model.safetensors"):
            assert open_checkpoint(path).model_config == config
        convert(tmp_path / "trunk", tmp_path / "out", to="hf-video", base=source)
        assert open_checkpoint(tmp_path / "out").model_config == config
        content = json.loads((tmp_path / "trunk" / "config.json").read_text())
        content["model_args"]["patch_stride"] = [2, 2]
        (tmp_path / "trunk" / "config.json").write_text(json.dumps(content))
        with pytest.raises(RefusedError, match=r"config\.json: model_args\.patch_stride"):
            inspect(tmp_path / "trunk")


def test_two_that_contradict_each_other_are_refused_with_both_values(
    folder: Path, tmp_path: Path
) -> None:
    file = folder / "model.safetensors"
    file.with_suffix(".yaml").write_text(to_hydra(AT_512))
    with pytest.raises(RefusedError) as raised:
        inspect(file)
    assert "image_size is 256 in config.json and 512 in model.yaml" in raised.value.message
    for name, expected in (("config.json", 256), ("model.yaml", 512)):
        assert f"`config={folder / name}`" in str(raised.value.hint)
        convert(file, tmp_path / str(expected), config=folder / name)
        assert size(tmp_path / str(expected)) == expected
    file.with_suffix(".yaml").write_text(to_hydra(AT_256))
    assert size(file) == 256


class TestAYamlOfAnotherName:
    def test_is_named_if_it_fits_and_says_something_else(self, tmp_path: Path, pt: Path) -> None:
        at_512 = tmp_path / "train.yaml"
        at_512.write_text(to_hydra(AT_512))
        (tmp_path / "usual.yaml").write_text(to_hydra(CONFIG))
        (tmp_path / "other_size.yaml").write_text(to_hydra(shipped_config("sam2.1/sam2.1_hiera_t")))
        (tmp_path / "data.yaml").write_text("train: images")
        assert inspect(pt).notes == (
            f"train.yaml beside it was not read, as it has another name: `config={at_512}`",
        )
        assert (size(pt), validate(pt, at_512).config) == (None, str(at_512))

    def test_of_another_checkpoint_is_not_named(self, tmp_path: Path, pt: Path) -> None:
        (tmp_path / "theirs.yaml").write_text(to_hydra(AT_512))
        shutil.copy(pt, tmp_path / "theirs.pt")
        assert inspect(pt).notes == ()


class TestSettingsThatSam2DoesNotHave:
    def test_are_told(self, tmp_path: Path, pt: Path) -> None:
        content = yaml.safe_load(to_hydra(AT_256))
        content["model"] |= {"samurai_mode": True, "kf_score_weight": 0.25}
        content["model"]["image_encoder"]["trunk"]["adapter_dim"] = 32
        content["model"]["memory_attention"]["layer"]["cross_attention"]["window"] = 4
        own = tmp_path / "samurai.yaml"
        own.write_text(yaml.safe_dump(content))
        note = (
            "settings in samurai.yaml that SAM 2 does not have, and that are not read: "
            "kf_score_weight, samurai_mode, memory_attention.layer.cross_attention.window, "
            "image_encoder.trunk.adapter_dim"
        )
        assert note in validate(pt, own).notes
        assert note in convert(pt, tmp_path / "out", config=own).notes
        shutil.copy(own, tmp_path / "mine.yaml")
        assert note.replace("samurai.yaml", "mine.yaml") in inspect(pt).notes

    @pytest.mark.parametrize("name", OFFICIAL_YAMLS)
    def test_no_official_file_has_any(self, name: str) -> None:
        assert unread_settings(official_yaml(name)) == ()


class TestHowPicturesArePrepared:
    """The processors that are written are those of SAM 2: others are told."""

    @pytest.mark.parametrize(
        ("field", "value", "told"),
        [
            ("image_mean", [0.5, 0.5, 0.5], "image_mean is [0.5, 0.5, 0.5]"),
            ("do_normalize", False, "do_normalize is False"),
            ("size", {"height": 512, "width": 512}, "size is [512, 512]"),
        ],
    )
    def test_by_a_processor_of_transformers(
        self, tmp_path: Path, folder: Path, field: str, value: object, told: str
    ) -> None:
        assert validate(folder).notes == ()
        processor = AutoProcessor.from_pretrained(folder)
        setattr(processor.image_processor, field, value)
        processor.save_pretrained(folder)
        note = (
            f"not carried over: {told} in {{}}, another way to prepare pictures than that of SAM 2"
        )
        assert validate(folder).notes == (note.format("processor_config.json"),)
        old = folder / "preprocessor_config.json"
        content = json.loads(old.read_text())
        old.write_text(json.dumps({**content, field: value}))
        assert note.format(old.name) in convert(folder, tmp_path / "out.pt").notes

    def test_as_saved_by_transformers_it_is_that_of_sam2(self, folder: Path) -> None:
        AutoProcessor.from_pretrained(folder).save_pretrained(folder)
        assert validate(folder).notes == ()


class TestAFolderWithOneCheckpoint:
    def test_has_the_config_of_that_checkpoint(self, pt: Path) -> None:
        pt.with_suffix(".yaml").write_text(to_hydra(AT_256))
        (pt.parent / "another.yaml").write_text(to_hydra(AT_512))
        assert size(pt.parent) == 256

    def test_or_its_only_yaml_as_on_the_hub(self, pt: Path) -> None:
        only = pt.parent / "train.yaml"
        only.write_text(to_hydra(AT_256))
        note = "the settings are those of train.yaml, the only YAML there: image size 256"
        assert note in inspect(pt.parent).notes
        only.write_text("lr: 0.1")  # of something else
        assert size(pt.parent) is None
