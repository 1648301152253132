"""Checkpoints that other libraries saved are found safe, and not for want of looking.

The files are in ``tests/fixtures/libraries``, with the scripts that made them.
"""

from __future__ import annotations

import json
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from click.testing import CliRunner

from sam21convert import RefusedError, inspect
from sam21convert.__main__ import main
from sam21convert.checkpoint.safety.report import assess

FIXTURES = Path(__file__).parents[1] / "fixtures" / "libraries"
FOLDER = ".folder.tar.xz"


@dataclass(frozen=True)
class Saved:
    """What a library saved.

    Attributes:
        wrappers: The keys and prefixes around the state dict.
        weights: The file with the weights, in a folder that is no checkpoint as a whole.
        chosen: Which of several state dicts to take; None if there is one.
        dialect: Whose names the tensors have.
        own: Classes of the user in it, which have to be allowed.
    """

    wrappers: tuple[str, ...] = ("model",)
    weights: str = ""
    chosen: str | None = None
    dialect: str = "official"
    own: tuple[str, ...] = ()


SAVED = {
    "accelerate": Saved(()),
    "accelerate_bin": Saved((), "pytorch_model.bin"),
    "composer.pt": Saved(("state", "model", "model.")),
    "configs.pt": Saved(),
    "deepspeed": Saved(("module",), "global_step1/mp_rank_00_model_states.pt"),
    "distributed": Saved(),
    "fastai.pth": Saved(),
    "fvcore.pth": Saved(),
    "hydra.pt": Saved(),
    "ignite.pt": Saved(("ema_model",), chosen="ema"),
    "lightning.ckpt": Saved(("state_dict", "model."), chosen="state_dict"),
    "mmengine.pth": Saved(("ema_state_dict", "module.model."), chosen="ema"),
    "numpy1.pt": Saved(),
    "numpy2.pt": Saved(),
    "official_trainer.pt": Saved(),
    "python": Saved(()),
    "pytorch_lightning.ckpt": Saved(("state_dict", "model.")),
    "skorch": Saved(("model.",), "params.pt"),
    "structured.pt": Saved(own=("__main__.Config", "__main__.Precision")),
    "timm.pth.tar": Saved(("state_dict_ema",), chosen="ema"),
    "torchtune": Saved((), "epoch_0/model-00001-of-00001.bin"),
    "transformers": Saved((), dialect="hf-video"),
    "transformers_bin": Saved((), "pytorch_model.bin", dialect="hf-video"),
}
ADAPTERS = ("peft", "peft_bin")
WRAPPER = b"cmy_project.model\nWrapper\n)\x81"  # makes an object of a class that nobody knows


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The files and folders by name, unpacked when first asked for."""
    home = tmp_path_factory.mktemp("libraries")

    @cache
    def unpacked(name: str) -> Path:
        if (packed := FIXTURES / f"{name}.xz").exists():
            (home / name).write_bytes(lzma.decompress(packed.read_bytes()))
        else:
            with tarfile.open(FIXTURES / f"{name}{FOLDER}") as archive:
                archive.extractall(home / name, filter="data")
        return home / name

    return unpacked


def test_each_fixture_is_tested_and_has_its_versions() -> None:
    stored = {path.name for path in FIXTURES.glob("*.xz")}
    names = {name.removesuffix(FOLDER).removesuffix(".xz") for name in stored}
    assert names == {*SAVED, *ADAPTERS}
    versions = json.loads((FIXTURES / "versions.json").read_text())
    assert versions.keys() == stored
    used = {package for packages in versions.values() for package in packages}
    assert len(used - {"python"}) > 20


@pytest.mark.parametrize("name", [*SAVED, *ADAPTERS])
def test_all_that_a_library_saved_is_harmless(name: str, saved: Callable[[str], Path]) -> None:
    """A folder has more pickles than the one with the weights."""
    safety = assess(saved(name), SAVED[name].own if name in SAVED else ())
    assert [str(found) for found in safety.names if found.rating != "harmless"] == []
    assert (safety.rating, safety.doubts, safety.unscanned) == ("harmless", (), ())


@pytest.mark.parametrize("name", SAVED)
def test_the_answer_of_inspect_is_yes(name: str, saved: Callable[[str], Path]) -> None:
    expected = SAVED[name]
    path = saved(name) / expected.weights
    found = inspect(path, weights=expected.chosen, allow=expected.own)
    assert (found.exit_code, found.problems) == (0, ())
    assert (found.wrappers, found.dialect) == (expected.wrappers, expected.dialect)
    assert found.config == "debug/sam2.1_debug"
    options = [f"--weights={expected.chosen}"] if expected.chosen else []
    options += [f"--allow={own}" for own in expected.own]
    assert CliRunner().invoke(main, ["inspect", str(path), *options]).exit_code == 0


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_is_refused_as_one_and_not_as_unsafe(
    name: str, saved: Callable[[str], Path]
) -> None:
    with pytest.raises(RefusedError, match="is a PEFT adapter, not a model: [^;]*$"):
        inspect(saved(name))


def test_classes_of_the_user_have_to_be_allowed(saved: Callable[[str], Path]) -> None:
    found = inspect(saved("structured.pt"))
    assert found.exit_code == 1
    assert "__main__.Precision" in {name.name for name in found.safety.unknown_calls}


@pytest.mark.parametrize("name", [name for name in SAVED if (FIXTURES / f"{name}.xz").exists()])
def test_the_same_file_with_one_unknown_class_is_not_clean(
    name: str, saved: Callable[[str], Path], tmp_path: Path
) -> None:
    expected = SAVED[name]
    path = with_wrapper(saved(name), tmp_path / name)
    found = inspect(path, weights=expected.chosen, allow=expected.own)
    assert found.exit_code == 1
    assert [name.name for name in found.safety.unknown_calls] == ["my_project.model.Wrapper"]
    assert (found.wrappers, found.dialect) == (expected.wrappers, expected.dialect)


def with_wrapper(source: Path, target: Path) -> Path:
    """A copy of a file of ``torch.save`` whose pickle first makes one more object, and drops it."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.namelist():
            data = old.read(entry)
            if entry.endswith("/data.pkl"):
                data = data[:2] + WRAPPER + b"0" + data[2:]
            new.writestr(entry, data)
    return target


@pytest.mark.parametrize("name", [name for name in SAVED if not (FIXTURES / f"{name}.xz").exists()])
def test_the_same_folder_with_one_unknown_class_is_not_clean(
    name: str, saved: Callable[[str], Path]
) -> None:
    extra = saved(name) / "extra.bin"
    extra.write_bytes(b"\x80\2" + WRAPPER + b".")
    safety = assess(saved(name))
    extra.unlink()
    assert not safety.passes()
    assert [str(name) for name in safety.unknown_calls] == [
        "my_project.model.Wrapper would be called (byte 2 of extra.bin): my_project.model.Wrapper()"
    ]
