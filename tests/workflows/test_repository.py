"""A composed repository loads, its card is true, and its programs run."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import Sam2Model, Sam2VideoModel

import sam21convert
from sam21convert.checkpoint.open import open_checkpoint
from sam21convert.comparison.report import scenario_row
from sam21convert.config.hydra_writer import to_hydra
from sam21convert.config.load import load_config
from sam21convert.config.plain_yaml import load_yaml
from sam21convert.errors import MismatchError, RefusedError, Sam21ConvertError, UsageError
from sam21convert.hub.spelling import parse
from sam21convert.prediction.draw import scene
from sam21convert.workflows.publish import repository
from sam21convert.workflows.publish.manifest import MANIFEST, FileFact, read_manifest
from sam21convert.workflows.publish.readme import BEGIN, END
from sam21convert.workflows.publish.repository import Repository, compose
from sam21convert.workflows.publish.snippets import loading

from ..support.checkpoints import DEBUG, DEBUG_20, official_pt, state_dict

REPO = "me/my-sam2"
WEIGHT = "sam_mask_decoder.iou_prediction_head.layers.0.weight"
# Dialect, whether the official files are added, source, names of the programs in the card.
IMAGE, VIDEO, SAM2, OWN = "Sam2Model ", "Sam2VideoModel ", "build_sam2(", "sam21convert.model "
FORMS = {
    "both": ("hf-video", True, DEBUG, (IMAGE, VIDEO, SAM2, OWN)),
    "both of SAM 2": ("hf-video", True, DEBUG_20, (IMAGE, VIDEO, SAM2, OWN)),
    "images": ("hf-image", False, DEBUG, (IMAGE, OWN)),
    "official": ("official", False, DEBUG, (SAM2, OWN)),
}


@pytest.fixture(scope="module")
def composed(
    checkpoints: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Repository]:
    home = tmp_path_factory.mktemp("composed")
    return {
        name: compose(
            checkpoints(config),
            home / name.replace(" ", "-"),
            REPO,
            to=to,
            with_official=official,
            license="apache-2.0",
            base_model="facebook/sam2.1-hiera-tiny",
            datasets=["some/data"],
        )
        for name, (to, official, config, _) in FORMS.items()
    }


@pytest.fixture(params=FORMS)
def made(request: pytest.FixtureRequest, composed: dict[str, Repository]) -> Repository:
    return composed[request.param]


@pytest.fixture
def at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A working folder with the inputs of a card's programs; restores Hydra afterwards."""
    picture = Image.fromarray(scene(480))
    picture.save(tmp_path / "picture.jpg")
    (tmp_path / "frames").mkdir()
    for number in range(3):
        picture.rotate(number).save(tmp_path / "frames" / f"{number}.jpg")
    monkeypatch.chdir(tmp_path)
    yield
    GlobalHydra.instance().clear()
    initialize_config_module("sam2", version_base="1.2")


def card(made: Repository) -> str:
    return (made.folder / "README.md").read_text()


def programs(made: Repository) -> list[str]:
    return re.findall(r"```python\n(.*?)```", card(made), re.DOTALL)


def ran(program: str, folder: Path) -> dict[str, Any]:
    """The variables of a program of the card, with the folder in place of the repository."""
    local = re.sub(r"snapshot_download\(.*?\)", repr(str(folder)), program)
    local = re.sub(r'hf_hub_download\("[^"]+", "(.+?)"\)', rf'"{folder}/\1"', local)
    local = local.replace(f'"{REPO}"', repr(str(folder)))
    assert REPO not in local
    found: dict[str, Any] = {}
    exec(compile(local, "card", "exec"), found)
    return found


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def damaging(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make conversions to a transformers folder write a wrong tensor of the right shape."""

    def err(source: Path, destination: Path, **options: Any) -> object:
        done = sam21convert.convert(source, destination, **options)
        if (weights := destination / "model.safetensors").is_file():
            tensors = load_file(weights)
            tensors["mask_decoder.iou_token.weight"] += 1
            save_file(tensors, weights, {"format": "pt"})
        return done

    monkeypatch.setattr(repository, "convert", err)


class TestPrograms:
    def test_the_card_has_those_of_its_forms(self, composed: dict[str, Repository]) -> None:
        for name, (*_, marks) in FORMS.items():
            found = programs(composed[name])
            imports = [re.sub(r"Sam2\w*Processor|,", " ", program) for program in found]
            assert len(found) == len(marks)
            assert all(mark.strip() in text for mark, text in zip(marks, imports, strict=True))

    @pytest.mark.usefixtures("at_work")
    def test_each_runs_and_they_agree(self, made: Repository) -> None:
        masks = {}
        for program in programs(made):
            found = ran(program, made.folder)
            if "video" in found:
                assert sorted(found["video"]) == [0, 1, 2]
                assert {tuple(mask.shape) for mask in found["video"].values()} == {(1, 1, 480, 480)}
            else:
                masks[program] = np.asarray(found["masks"]).reshape(3, 480, 480) > 0
                assert np.asarray(found["scores"]).shape[-1] == 3
        first, *others = masks.values()
        assert others
        assert 0 < first.mean() < 1
        for other in others:  # transformers rounds what it resizes
            assert (first == other).mean() > 0.98

    def test_two_lines_load_it(self, made: Repository) -> None:
        lines = "\n".join(loading(REPO, made.dialect, None)).replace("hf://", "")
        loaded = ran(lines, made.folder)["model"].state_dict()
        [token] = (name for name in loaded if name.endswith("mask_decoder.iou_token.weight"))
        source = torch.load(made.source)["model"]["sam_mask_decoder.iou_token.weight"]
        assert torch.equal(loaded[token], source)

    def test_and_another_revision(self) -> None:
        for dialect in ("hf-video", "hf-image"):
            assert loading(REPO, dialect, "abc")[1].endswith(f'("{REPO}", revision="abc")')
        [source] = re.findall('"(.+)"', loading(REPO, "official", "abc")[1])
        assert parse(source)[1:] == (REPO, "abc", None)

    @pytest.mark.usefixtures("at_work")
    def test_one_that_misses_a_file_does_not_run(
        self, composed: dict[str, Repository], tmp_path: Path
    ) -> None:
        folder = shutil.copytree(composed["images"].folder, tmp_path / "copy")
        (folder / "model.safetensors").unlink()
        with pytest.raises(OSError, match="model.safetensors"):
            ran(programs(composed["images"])[0], folder)


class TestCard:
    def test_metadata(self, composed: dict[str, Repository]) -> None:
        for name, made in composed.items():
            data = ModelCard.load(made.folder / "README.md").data
            assert data.to_dict() == {
                "library_name": "sam2" if name == "official" else "transformers",
                "pipeline_tag": "mask-generation",
                "license": "apache-2.0",
                "base_model": "facebook/sam2.1-hiera-tiny",
                "datasets": ["some/data"],
                "tags": ["segment-anything", "sam2" if name.endswith("SAM 2") else "sam2.1"],
            }

    def test_links_lead_to_files_of_the_folder(self, made: Repository) -> None:
        links = re.findall(r"\]\((.+?)\)", card(made))
        assert len(links) > 1
        assert set(links) <= set(made.files)

    def test_sizes_and_hashes_are_those_of_the_files(self, made: Repository) -> None:
        rows = re.findall(
            r"^\| \[?`(.+?)`\S* \| (\w+) \| (\d+) \| `(\w{64})` \|$", card(made), re.M
        )
        for name, role, size, sha256 in rows:
            path = made.source if role == "read" else made.folder / name
            assert (path.name, path.stat().st_size, digest(path)) == (name, int(size), sha256)
        read, *written = rows
        assert read[1] == "read"
        assert {name for name, *_ in written} == set(made.files) - {"README.md"}

    def test_the_manifest_lists_all_files_but_itself_and_the_card(self, made: Repository) -> None:
        names = set(made.files) - {MANIFEST, "README.md"}
        expected = {name: FileFact.of(made.folder / name) for name in names}
        assert {MANIFEST, "README.md"} < set(made.files)
        assert read_manifest(made.folder / MANIFEST, REPO) == expected

    def test_the_parity_tables_are_those_of_the_run(self, made: Repository) -> None:
        rows = [line for line in card(made).splitlines() if line.startswith("| ")]
        expected = [f"| {' | '.join(scenario_row(s))} |" for r in made.parity for s in r.scenarios]
        assert len(expected) >= 10
        assert [row for row in rows if row in expected] == expected
        assert card(made).count("in parity.") == len(made.parity)

    def test_it_names_no_path_of_this_machine(self, made: Repository) -> None:
        text = card(made)
        assert str(made.folder) not in text
        assert str(made.folder.parent) not in text
        assert str(made.source.parent) not in text

    def test_the_picture_is_one(self, made: Repository) -> None:
        with Image.open(made.folder / "example.png") as picture:
            assert picture.width > 2 * picture.height
        assert sum("a drawn scene" in note for note in made.notes) == 1

    def test_what_was_not_given_or_done_is_not_claimed(
        self, checkpoints: Callable[[str], Path], tmp_path: Path
    ) -> None:
        made = compose(checkpoints(DEBUG), tmp_path / "new", REPO, scenarios="none")
        data = ModelCard.load(made.folder / "README.md").data
        assert set(data.to_dict()) == {"library_name", "pipeline_tag", "tags"}
        assert "Nothing was compared" in card(made)
        assert "not compared" in str(made)


class TestFolder:
    def test_transformers_loads_it_strictly(self, composed: dict[str, Repository]) -> None:
        for name, kind in (("both", Sam2VideoModel), ("images", Sam2Model)):
            folder = composed[name].folder
            model, info = kind.from_pretrained(folder, output_loading_info=True)
            assert not any(info[part] for part in ("missing_keys", "mismatched_keys"))
            written = load_file(folder / "model.safetensors")
            held = model.state_dict()
            assert all(torch.equal(held[key], tensor) for key, tensor in written.items())

    def test_the_official_file_has_every_bit_of_the_source(
        self, composed: dict[str, Repository]
    ) -> None:
        made = composed["both"]
        theirs, mine = (
            torch.load(path)["model"] for path in (made.source, made.folder / "sam2.1_debug.pt")
        )
        assert list(theirs) == list(mine)
        assert all(torch.equal(theirs[name], mine[name]) for name in theirs)

    def test_the_report_lists_what_is_there(self, made: Repository) -> None:
        assert {p.name: digest(p) for p in made.folder.iterdir()} == {
            name: file.sha256 for name, file in made.files.items()
        }
        assert set(made.to_dict()["files"]) == set(made.files)

    def test_the_same_again_gives_the_same_bytes(
        self, composed: dict[str, Repository], tmp_path: Path
    ) -> None:
        first = composed["images"]
        again = compose(
            first.source,
            tmp_path / "again",
            REPO,
            to="hf-image",
            readme=(first.folder / "README.md").read_bytes(),
        )
        assert again.files == first.files

    def test_an_existing_readme_is_kept(
        self, composed: dict[str, Repository], tmp_path: Path
    ) -> None:
        source = shutil.copytree(composed["images"].folder, tmp_path / "source")
        theirs = b"---\nlicense: mit\n---\n# My own\n\nwords\n"
        (source / "README.md").write_bytes(theirs)
        made = compose(source, tmp_path / "new", REPO, scenarios="none", license="apache-2.0")
        text = card(made)
        assert made.dialect == "hf-image"  # as the source is
        assert "license: mit\n---\n# My own\n\nwords\n\n" + BEGIN in text
        assert text.endswith(f"{END}\n")
        assert made.notes[0].startswith("README.md says license: mit, which is kept")
        assert (source / "README.md").read_bytes() == theirs


@pytest.fixture
def unheard_of(tmp_path: Path) -> tuple[Path, Path]:
    """An official file of a custom size, and its config."""
    debug = load_config(DEBUG)
    one_more = replace(debug.trunk, stages=(*debug.trunk.stages[:3], debug.trunk.stages[3] + 1))
    config = replace(debug, image_size=64, trunk=one_more)
    path = tmp_path / "own.yaml"
    path.write_text(to_hydra(config))
    return sam21convert.sample(tmp_path / "own.pt", str(path)).path, path


class TestConfig:
    def test_another_size_is_published_with_its_config(
        self, unheard_of: tuple[Path, Path], tmp_path: Path
    ) -> None:
        source, config = unheard_of
        made = compose(source, tmp_path / "new", REPO, config=config, with_official=True)
        assert len(made.parity) == 2
        assert load_yaml(made.folder / "sam2.1.yaml") == load_config(str(config))
        assert open_checkpoint(made.folder).model_config == load_config(str(config))
        assert "| image size | 64 pixels |" in card(made)
        assert "--config own.yaml" in card(made)
        assert str(tmp_path) not in card(made)

    def test_without_it_that_is_refused(
        self, unheard_of: tuple[Path, Path], tmp_path: Path
    ) -> None:
        source, config = unheard_of
        config.rename(config.with_name("another.yaml"))  # so that it is not that of the source
        with pytest.raises(Sam21ConvertError, match="config"):
            compose(source, tmp_path / "new", REPO)
        assert not (tmp_path / "new").exists()

    @pytest.mark.parametrize("to", ["hf-video", "official"])
    def test_another_image_size(
        self, checkpoints: Callable[[str], Path], tmp_path: Path, to: str
    ) -> None:
        config = replace(load_config(DEBUG), image_size=64)
        made = compose(checkpoints(DEBUG), tmp_path / "new", REPO, to=to, config=config)
        assert "| image size | 64 pixels |" in card(made)
        assert made.parity[0].right.image_size == 64

    def test_one_that_does_not_fit_is_refused(
        self, checkpoints: Callable[[str], Path], tmp_path: Path
    ) -> None:
        with pytest.raises(MismatchError):
            compose(checkpoints(DEBUG), tmp_path / "new", REPO, config="sam2.1/sam2.1_hiera_t")
        assert not (tmp_path / "new").exists()


class TestRefusals:
    def test_values_that_are_no_numbers(self, tmp_path: Path) -> None:
        tensors = state_dict()
        tensors[WEIGHT][0, 0] = float("nan")
        source = official_pt(tmp_path / "model.pt", tensors)
        with pytest.raises(MismatchError, match="NaN") as caught:
            compose(source, tmp_path / "new", REPO, scenarios="none")
        assert caught.value.message.startswith(f"{source} ")  # not a file that is gone
        assert not (tmp_path / "new").exists()

    def test_a_model_that_computes_something_else(
        self,
        checkpoints: Callable[[str], Path],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        damaging(monkeypatch)
        with pytest.raises(MismatchError, match="does not compute what"):
            compose(checkpoints(DEBUG), tmp_path / "new", REPO)
        assert not (tmp_path / "new").exists()

    def test_only_the_comparison_sees_that(
        self,
        checkpoints: Callable[[str], Path],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        damaging(monkeypatch)
        compose(checkpoints(DEBUG), tmp_path / "new", REPO, scenarios="none")

    def test_settings_that_no_official_yaml_states(
        self, composed: dict[str, Repository], tmp_path: Path
    ) -> None:
        source = shutil.copytree(composed["both"].folder, tmp_path / "source")
        text = (source / "config.json").read_text()
        changed = re.sub(r'("dynamic_multimask_stability_thresh": )[\d.]+', r"\g<1>0.5", text)
        assert changed != text
        (source / "config.json").write_text(changed)
        with pytest.raises(RefusedError, match="multimask stability"):
            compose(source, tmp_path / "new", REPO, to="official", scenarios="none")
        assert not (tmp_path / "new").exists()

    def test_an_image_model_has_no_official_form(
        self, composed: dict[str, Repository], tmp_path: Path
    ) -> None:
        with pytest.raises(RefusedError, match="tensors of the memory"):
            compose(composed["images"].folder, tmp_path / "new", REPO, to="official")
        assert not (tmp_path / "new").exists()

    def test_a_folder_that_exists_is_left_alone(
        self, checkpoints: Callable[[str], Path], tmp_path: Path
    ) -> None:
        (tmp_path / "mine").touch()
        with pytest.raises(UsageError, match="exists"):
            compose(checkpoints(DEBUG), tmp_path, REPO)
        assert (tmp_path / "mine").exists()

    def test_a_dialect_that_there_is_not(
        self, checkpoints: Callable[[str], Path], tmp_path: Path
    ) -> None:
        with pytest.raises(UsageError, match="no dialect is called 'onnx'"):
            compose(checkpoints(DEBUG), tmp_path / "new", REPO, to="onnx")
