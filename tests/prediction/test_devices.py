"""Which device is used, on machines with other GPUs than this one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

import sam21convert
from sam21convert.comparison.noise import plain_attention
from sam21convert.errors import UsageError
from sam21convert.model import SAM2ImagePredictor, build_sam2, build_sam2_video_predictor
from sam21convert.prediction.devices import pick_device, place_model
from sam21convert.prediction.draw import scene

from ..commands.test_commands import run
from ..support.checkpoints import DEBUG
from ..support.elsewhere import ELSEWHERE, elsewhere

Machine = Callable[..., None]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Makes torch find ``count`` devices of a kind, as if this were another machine."""

    def has(kind: str | None, count: int) -> None:
        found = None if kind is None else torch.device(kind)
        accelerator = SimpleNamespace(
            is_available=lambda: count > 0,
            current_accelerator=lambda: found,
            device_count=lambda: count,
        )
        monkeypatch.setattr(torch, "accelerator", accelerator)

    return has


@pytest.mark.parametrize(
    ("kind", "count", "to_predict", "to_compare"),
    [
        (None, 0, "cpu", "cpu"),
        ("cuda", 0, "cpu", "cpu"),  # torch is built for CUDA, and there is no GPU
        ("cuda", 2, "cuda", "cuda"),
        ("mps", 1, "mps", "cpu"),
    ],
)
def test_auto_is_a_gpu_if_there_is_one_and_never_mps_for_a_comparison(
    kind: str | None, count: int, to_predict: str, to_compare: str, machine: Machine
) -> None:
    machine(kind, count)
    assert pick_device("auto") == to_predict
    assert pick_device("auto", to_compare=True) == to_compare


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:0", "cuda:1", torch.device("cuda", 1)])
def test_a_device_that_is_there_is_taken(device: str | torch.device, machine: Machine) -> None:
    machine("cuda", 2)
    assert pick_device(device) == pick_device(device, to_compare=True) == str(device)


@pytest.mark.parametrize("device", ["cuda:2", "mps", "meta", "gpu", "", "cuda:x"])
def test_one_that_is_not_there_is_refused_by_naming_those_that_are(
    device: str, machine: Machine
) -> None:
    machine("cuda", 2)
    with pytest.raises(UsageError) as refused:
        pick_device(device)
    said = f"device {device}: torch {torch.__version__} finds only cuda:0 and cuda:1 and cpu here"
    assert refused.value.message == said


@pytest.mark.parametrize(
    ("device", "hint"),
    [
        ("cud", "did you mean cuda?"),
        ("cpuu", "did you mean cpu?"),
        ("atuo", "did you mean auto?"),
        *((word, "takes the best of what is there") for word in ("gpu", "mps", "x", "cuda:7")),
    ],
)
def test_what_is_spelt_alike_is_named_if_it_is_there(
    device: str, hint: str, machine: Machine
) -> None:
    machine("cuda", 2)
    with pytest.raises(UsageError) as refused:
        pick_device(device)
    assert hint in str(refused.value.hint)


def test_a_model_may_be_built_without_values() -> None:
    assert place_model("meta") == "meta"
    assert place_model("cpu") == "cpu"


class TestDefaults:
    @pytest.mark.skipif(torch.accelerator.is_available(), reason="this machine has a GPU")
    def test_builders_take_what_is_there(self, checkpoints: Callable[[str], Path]) -> None:
        path = str(checkpoints(DEBUG))
        for model in (
            build_sam2(DEBUG),
            build_sam2_video_predictor(DEBUG, path),
            SAM2ImagePredictor.from_pretrained(path),
        ):
            assert model.device == torch.device("cpu")

    def test_the_gpu_where_there_is_one(
        self, machine: Machine, checkpoints: Callable[[str], Path]
    ) -> None:
        """This machine's torch cannot use it: its own error shows that it was asked for."""
        machine("mps", 1)
        for build in (
            lambda: build_sam2(DEBUG),
            lambda: SAM2ImagePredictor.from_pretrained(str(checkpoints(DEBUG))),
            lambda: sam21convert.load_model(checkpoints(DEBUG), DEBUG, device="auto"),
        ):
            with pytest.raises((RuntimeError, NotImplementedError), match="mps|MPS"):
                build()


def test_masks_of_another_device_are_drawn(
    tmp_path: Path, checkpoints: Callable[[str], Path]
) -> None:
    """On a GPU that has no float64, with the attention that the CPU does not choose by itself."""
    source, frames = checkpoints(DEBUG), tmp_path / "frames"
    frames.mkdir()
    for number in range(2):
        Image.fromarray(scene(90)).save(frames / f"{number}.jpg")
    point = sam21convert.Point(30, 50)

    def drawn(folder: Path) -> dict[str, bytes]:
        found = sam21convert.predict_image(frames / "0.jpg", source, prompts=[point])
        folder.mkdir()
        sam21convert.predict_image(frames / "0.jpg", source, folder / "image.png", [point])
        sam21convert.predict_video(frames, source, folder / "video", [point])
        assert len(found.arrays) == 3
        return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.??g")}

    with plain_attention():
        expected = drawn(tmp_path / "here")
        with elsewhere(doubles=False):
            assert drawn(tmp_path / ELSEWHERE) == expected
    assert len(expected) > 7


@pytest.mark.parametrize(
    "words",
    [
        "parity m.pt m.pt",
        "convert m.pt o.safetensors --parity",
        "batch m.pt --out o --parity",
        "push m.pt me/mine",
        "demo o",
        "predict image gone.png --checkpoint m.pt --point 1,1 -o o",
        "predict video gone.mp4 --checkpoint m.pt --point 1,1 -o o",
    ],
)
def test_every_command_that_computes_has_the_option_and_asks_first(
    words: str,
    tmp_path: Path,
    checkpoints: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("m.pt").symlink_to(checkpoints(DEBUG))
    done = run(*words.split(), "--device", "cuda:99", "--json")
    answer = json.loads(done.stdout)
    assert (done.exit_code, answer["exit_code"]) == (2, 2)
    assert answer["error"].startswith("device cuda:99: torch ")
    assert answer["hint"].startswith("--device auto takes the best")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.pt"]
