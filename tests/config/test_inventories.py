"""The lists of tensors beside the configs equal those of the model and of the official code."""

from __future__ import annotations

import difflib
from dataclasses import replace
from typing import Any

import pytest
import torch

from sam21convert.config import registry
from sam21convert.config.registry import (
    SHIPPED,
    Shipped,
    format_line,
    shipped_config,
    shipped_tensors,
)
from sam21convert.io.tensor import TensorSpec
from sam21convert.model import SAM2

from ..support import official

NAMES = {torch.float32: "F32"}


def lines(shipped: Shipped) -> list[str]:
    file = shipped.folder / f"{shipped.name.rpartition('/')[2]}.tensors.txt"
    return file.read_text().splitlines()


def listed(model: Any) -> list[str]:
    return [
        format_line(name, TensorSpec(NAMES[tensor.dtype], tuple(tensor.shape)))
        for name, tensor in model.state_dict().items()
    ]


@pytest.mark.parametrize("shipped", SHIPPED, ids=lambda s: s.name)
class TestEveryConfig:
    def test_the_list_is_that_of_the_model(self, shipped: Shipped) -> None:
        with torch.device("meta"):
            assert listed(SAM2(shipped_config(shipped.name))) == lines(shipped)

    def test_the_list_is_that_of_the_official_code(self, shipped: Shipped) -> None:
        with official.on_meta():
            theirs = official.build_official(shipped_config(shipped.name))
        assert listed(theirs) == lines(shipped)

    def test_the_list_is_read_back(self, shipped: Shipped) -> None:
        tensors = shipped_tensors(shipped.name)
        assert [format_line(*item) for item in tensors.items()] == lines(shipped)


@pytest.mark.parametrize("size", ["tiny", "small", "base_plus", "large", "debug"])
def test_generations_differ_in_three_lines(size: str) -> None:
    new, old = (s for s in SHIPPED if s.size == size)
    changed = [
        line[2:].partition(" ")[0]
        for line in difflib.ndiff(lines(old), lines(new))
        if line[0] in "+-"
    ]
    assert changed == ["no_obj_embed_spatial", "obj_ptr_tpos_proj.weight", "obj_ptr_tpos_proj.bias"]


def test_a_config_of_another_shape_is_built() -> None:
    config = replace(shipped_config("debug/sam2.1_debug"), num_maskmem=5)
    assert registry.shipped_like(config) is None
    tensors = registry.tensors_of(config)
    assert tensors["maskmem_tpos_enc"].shape == (5, 1, 1, 64)
    assert len(tensors) == len(shipped_tensors("debug/sam2.1_debug"))
