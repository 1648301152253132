"""The published architectures at their own size: conversions are in parity with their sources.

    pytest -m slow tests/comparison/test_published.py

With random weights from ``sample``, through the public functions, with the real packages.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import sam21convert

from ..support.official import PUBLISHED


def files(home: Path, name: str) -> tuple[Path, Path, Path]:
    """An official ``.pt``, the folder converted from it, and safetensors converted from that."""
    official, folder, back = home / "official.pt", home / "folder", home / "official.safetensors"
    sam21convert.sample(official, name)
    sam21convert.convert(official, folder)
    sam21convert.convert(folder, back)
    return official, folder, back


def assert_parity(name: str, image_size: int | None, home: Path, scenarios: str) -> None:
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
def test_tiny_at_128_pixels(name: str, tmp_path: Path) -> None:
    assert_parity(name, 128, tmp_path, "quick")


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_quick_set_at_1024_pixels(name: str, tmp_path: Path) -> None:
    assert_parity(name, None, tmp_path, "quick")


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_all_scenarios_at_256_pixels(name: str, tmp_path: Path) -> None:
    assert_parity(name, 256, tmp_path, "full")


@pytest.mark.slow
def test_missing_window_sizes_of_large(tmp_path: Path) -> None:
    """A public loader drops them: all keys match, and the features are wrong by 30 %."""
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
    assert any(one.text.startswith("trunk.window_spec: ") for one in found.diagnosis)
