"""Comparisons on a device other than the CPU, without one: no tensor of any side is misplaced."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import sam21convert
from sam21convert.comparison.backends.base import LoadOptions
from sam21convert.comparison.backends.sam2 import Official
from sam21convert.comparison.backends.timm import Timm
from sam21convert.comparison.backends.transformers import Transformers
from sam21convert.comparison.backends.truth import Truth
from sam21convert.comparison.noise import plain_attention

from ..support.backends import asked, the_picture
from ..support.checkpoints import DEBUG
from ..support.elsewhere import ELSEWHERE, WrongDeviceError, elsewhere

SCENARIOS = ("mask", "video-box")


@pytest.fixture(autouse=True)
def _same_kernels() -> Iterator[None]:
    """The fused attention of the CPU is not chosen for another device."""
    with plain_attention():
        yield


@pytest.fixture(scope="module")
def sources(checkpoints: Callable[[str], Path], tmp_path_factory: Any) -> dict[str, Path]:
    """The same weights for each package."""
    home, source = tmp_path_factory.mktemp("elsewhere"), checkpoints(DEBUG)
    sam21convert.convert(source, home / "hf")
    sam21convert.convert(source, home / "trunk", to="timm")
    return {"truth": source, "sam2": source, "transformers": home / "hf", "timm": home / "trunk"}


def answers(kind: type[Any], source: Path, device: str) -> dict[str, torch.Tensor]:
    backend = kind.load(source, LoadOptions(device=device))
    if kind is Timm:
        return dict(backend.encode(the_picture(backend.config.image_size).tensor))
    return {
        f"{name} {activation}": tensor
        for name in SCENARIOS
        for activation, tensor in asked(backend, name).items()
    }


@pytest.mark.parametrize("kind", [Truth, Official, Transformers, Timm])
def test_what_each_side_computes(kind: type[Any], sources: dict[str, Path]) -> None:
    source = sources[kind.name]
    expected = answers(kind, source, "cpu")
    with elsewhere() as device:
        found = answers(kind, source, device)
    assert list(found) == list(expected)
    assert {tensor.device.type for tensor in found.values()} <= {ELSEWHERE, "cpu"}
    assert all(torch.equal(found[name].cpu(), tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("kind", [Truth, Official, Transformers, Timm])
def test_a_misplaced_tensor_of_a_side_is_noticed(kind: type[Any], sources: dict[str, Path]) -> None:
    with elsewhere() as device:
        backend = kind.load(sources[kind.name], LoadOptions(device=device))
        model = backend.image if kind is Transformers else backend.model
        owner = next(each for each in model.modules() if "pos_embed" in each._parameters)
        owner._parameters["pos_embed"] = owner.pos_embed.cpu()
        with pytest.raises(WrongDeviceError):
            backend.encode(the_picture(backend.config.image_size).tensor)


def test_a_comparison_with_its_controls_and_its_page(
    sources: dict[str, Path], tmp_path: Path
) -> None:
    """The device is the one that is taken by itself."""
    sides = f"truth:{sources['truth']}", f"transformers:{sources['transformers']}"
    with elsewhere():
        found = sam21convert.parity(
            *sides, scenarios="image-pixels,box-point,video-point", report=tmp_path / "page"
        )
    assert found.ok
    assert found.device.startswith(ELSEWHERE)
    assert (tmp_path / "page" / "index.html").is_file()


def test_a_fault_is_found_and_named_there(sources: dict[str, Path], tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.pt"
    tensors = sam21convert.load_state_dict(sources["truth"], "official")
    name = "sam_mask_decoder.iou_token.weight"
    tensors[name] = tensors[name] * 1.1
    torch.save({"model": tensors}, wrong)
    with elsewhere() as device:
        found = sam21convert.parity(sources["truth"], wrong, scenarios="point", device=device)
    assert not found.ok
    assert any(name in str(one) for one in found.diagnosis)
