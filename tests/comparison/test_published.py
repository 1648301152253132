"""The published architectures at their own size: parity of conversions with what made them.

    pytest -m slow tests/comparison/test_published.py

With ``sample`` weights, through the command line's own functions, with real packages.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import sam21convert

from ..support.official import PUBLISHED


def files(home: Path, name: str) -> tuple[Path, Path, Path]:
    """An official ``.pt``, its transformers folder, and safetensors made of that folder."""
    official, folder, back = home / "official.pt", home / "folder", home / "official.safetensors"
    sam21convert.sample(official, name)
    sam21convert.convert(official, folder)
    sam21convert.convert(folder, back)
    return official, folder, back


def show(name: str, image_size: int | None, home: Path, scenarios: str) -> None:
    official, folder, back = files(home, name)
    found = sam21convert.parity(
        official, f"transformers:{folder}", scenarios=scenarios, image_size=image_size
    )
    assert found.ok, str(found)
    assert all(control.detected for control in found.negative_controls)
    found = sam21convert.parity(
        f"sam2:{official}", back, scenarios=scenarios, image_size=image_size
    )
    assert found.ok, str(found)
    assert found.exact


@pytest.mark.parametrize("name", ["sam2.1/sam2.1_hiera_t", "sam2/sam2_hiera_t"])
def test_tiny_at_256_pixels(name: str, tmp_path: Path) -> None:
    show(name, 256, tmp_path, "quick")


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_quick_set_at_1024_pixels(name: str, tmp_path: Path) -> None:
    show(name, None, tmp_path, "quick")


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_all_scenarios_at_256_pixels(name: str, tmp_path: Path) -> None:
    show(name, 256, tmp_path, "full")


@pytest.mark.slow
def test_windows_of_large_that_are_forgotten(tmp_path: Path) -> None:
    """A public loader drops them: all keys match, and the features are 30 % off."""
    from dataclasses import replace

    from sam21convert.config.registry import shipped_config

    official, _, _ = files(tmp_path, "sam2.1/sam2.1_hiera_l")
    right = shipped_config("sam2.1/sam2.1_hiera_l")
    wrong = replace(right, trunk=replace(right.trunk, window_spec=(8, 4, 14, 7)))
    folder = tmp_path / "wrong"
    sam21convert.convert(official, folder, config=wrong)
    found = sam21convert.parity(
        official, f"transformers:{folder}", scenarios="encoder", image_size=256
    )
    assert found.first_mismatch == ("encoder", "trunk.stage2")
    assert any(cause.text.startswith("trunk.window_spec: ") for cause in found.diagnosis)
