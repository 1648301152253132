"""Settings that no tensor tells are written with a conversion, in the format of the target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from sam21convert import convert, parity, sample, validate
from sam21convert.config.hydra_writer import to_hydra
from sam21convert.config.load import load_config
from sam21convert.config.registry import SHIPPED, shipped_config, shipped_tensors
from sam21convert.conversion.options import ConvertOptions
from sam21convert.conversion.plan import make_plan
from sam21convert.errors import UnreadableError, UsageError

from ..support.checkpoints import DEBUG, DEBUG_20, sparse

PUBLISHED = [shipped.name for shipped in SHIPPED if shipped.size != "debug"]
TINY = "sam2.1/sam2.1_hiera_t"


@pytest.fixture
def pt(checkpoints: Callable[[str], Path]) -> Path:
    return checkpoints(DEBUG)


@pytest.fixture
def folder(tmp_path: Path, pt: Path) -> Path:
    convert(pt, tmp_path / "hf", image_size=256)
    return tmp_path / "hf"


class TestYaml:
    @pytest.mark.parametrize("name", [DEBUG, DEBUG_20])
    @pytest.mark.parametrize("file", ["back.pt", "back.safetensors"])
    def test_an_official_file_gets_one_with_the_same_settings(
        self, tmp_path: Path, checkpoints: Callable[[str], Path], name: str, file: str
    ) -> None:
        convert(checkpoints(name), tmp_path / "hf", image_size=256)
        done = convert(tmp_path / "hf", tmp_path / file)
        assert done.files == (file, "back.yaml")
        assert load_config(tmp_path / "back.yaml") == replace(shipped_config(name), image_size=256)

    def test_every_setting_of_a_users_own_yaml_comes_back(self, tmp_path: Path, pt: Path) -> None:
        own = replace(
            shipped_config(DEBUG), image_size=192, max_obj_ptrs_in_encoder=5, fpn_top_down_levels=()
        )
        convert(pt, tmp_path / "hf", config=own)
        convert(tmp_path / "hf", tmp_path / "back.pt")
        assert load_config(tmp_path / "back.yaml") == own
        assert validate(tmp_path / "back.pt", tmp_path / "back.yaml").ok

    def test_one_with_these_settings_is_left_unchanged(self, tmp_path: Path, pt: Path) -> None:
        settings = tmp_path / "out.yaml"
        settings.write_text("# mine\n" + to_hydra(replace(shipped_config(DEBUG), image_size=256)))
        before = settings.read_bytes()
        assert convert(pt, tmp_path / "out.pt", config=settings).files == ("out.pt",)
        assert settings.read_bytes() == before

    def test_settings_that_it_cannot_hold_are_noted(self, tmp_path: Path, pt: Path) -> None:
        own = replace(shipped_config(DEBUG), dynamic_multimask_stability_thresh=0.5)
        done = convert(pt, tmp_path / "out.pt", config=own)
        assert any("multimask stability switches" in note for note in done.notes)
        assert not any("multimask" in n for n in convert(pt, tmp_path / "b.pt", config=DEBUG).notes)

    def test_a_size_can_be_given_with_a_file(self, tmp_path: Path, pt: Path) -> None:
        assert convert(pt, tmp_path / "out.pt", image_size=256).image_size == 256
        assert load_config(tmp_path / "out.yaml").image_size == 256

    @pytest.mark.parametrize("name", PUBLISHED)
    def test_published_settings_need_no_yaml(self, tmp_path: Path, name: str) -> None:
        source, config = tmp_path / "in.safetensors", shipped_config(name)
        sparse(source, shipped_tensors(name))
        for stated, file in (
            (None, None),
            (config, None),
            (replace(config, image_size=512), tmp_path / "out.yaml"),
        ):
            options = ConvertOptions(config=stated)
            assert make_plan(source, tmp_path / "out.pt", options).yaml == file

    @pytest.mark.parametrize("to", ["hf-video", "hf-image", "mlx", "timm"])
    def test_a_file_of_any_dialect_has_one(self, tmp_path: Path, pt: Path, to: str) -> None:
        done = convert(pt, tmp_path / "out.safetensors", to=to, image_size=256)
        assert done.files == ("out.safetensors", "out.yaml")
        assert load_config(tmp_path / "out.yaml").image_size == 256


class TestBothOrNeither:
    def test_an_existing_yaml_is_not_replaced(self, tmp_path: Path, folder: Path) -> None:
        (tmp_path / "back.yaml").write_text("mine")
        with pytest.raises(UsageError, match=r"back\.yaml: exists"):
            convert(folder, tmp_path / "back.pt")
        assert not (tmp_path / "back.pt").exists()
        convert(folder, tmp_path / "back.pt", overwrite=True)
        assert yaml.safe_load((tmp_path / "back.yaml").read_text())["model"]["image_size"] == 256

    def test_a_conversion_that_fails_leaves_no_yaml(
        self, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(_: Path) -> None:
            raise UnreadableError("no")

        with pytest.raises(UnreadableError, match="no"):
            convert(folder, tmp_path / "back.pt", check=refuse)
        assert [path.name for path in tmp_path.iterdir()] == ["hf"]


class TestWhatWeightsCannotTell:
    def test_validate_notes_it(self, pt: Path) -> None:
        [note] = validate(pt).notes
        assert "image size, windows and heads" in note
        assert note in str(validate(pt))

    def test_a_config_tells_it(self, pt: Path, folder: Path) -> None:
        assert validate(pt, DEBUG).notes == validate(folder).notes == ()


def computes_the_same(home: Path, source: Path, size: int, scenarios: str | Sequence[str]) -> None:
    """Check transformers and the official code, each with the settings beside its weights."""
    convert(source, home / "hf", image_size=size)
    convert(home / "hf", home / "back.pt")
    truth, own = f"truth:{home / 'hf'}", home / "back.yaml"
    for other in (f"transformers:{home / 'hf'}", f"sam2:{home / 'back.pt'}"):
        found = parity(truth, other, scenarios=scenarios, config=own, device="cpu")
        assert found.ok, str(found)
        assert (found.left.image_size, found.right.image_size) == (size, size)


def test_another_size_is_right_in_both_programs(tmp_path: Path, pt: Path) -> None:
    computes_the_same(tmp_path, pt, 256, ["image-pixels", "video-point"])


def test_lost_settings_are_detected(tmp_path: Path, folder: Path) -> None:
    """Negative control for the test above: the same weights with their original image size."""
    convert(folder, tmp_path / "back.pt")
    right = f"sam2:{tmp_path / 'back.pt'}"
    found = parity(f"truth:{folder}", right, scenarios=["point"], config=DEBUG, device="cpu")
    assert not found.ok


@pytest.mark.slow
def test_a_tiny_model_at_512_is_right_in_both_programs(tmp_path: Path) -> None:
    sample(tmp_path / "tiny.pt", TINY)
    computes_the_same(tmp_path, tmp_path / "tiny.pt", 512, "quick")
