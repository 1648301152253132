from __future__ import annotations

from pathlib import Path

import pytest

from sam21convert.io.folding import fold
from sam21convert.io.tensor import TensorRef, TensorSpec


def test_a_run_of_numbers_and_endings_is_folded() -> None:
    names = [f"b.{i}.norm{n}.{t}" for i in range(12) for n in (1, 2) for t in ("weight", "bias")]
    assert fold(names) == ["b.{0-11}.norm{1,2}.{bias,weight}"]


def test_only_a_full_product_is_folded() -> None:
    assert fold(["a.0.x", "a.0.y", "a.1.x"]) == ["a.0.{x,y}", "a.1.x"]


def test_names_without_a_common_form_are_not_folded() -> None:
    names = ["no_mem_embed", "a.weight", "b.weight", "conv1.bias", "convs.1.bias"]
    assert fold(names) == names


def test_folded_names_stand_for_exactly_the_list() -> None:
    names = [f"x.{i}.w" for i in (0, 1, 2, 5)] + ["x.7.b"]
    assert fold(names) == ["x.{0-2,5}.w", "x.7.b"]


def test_a_spec_knows_its_size() -> None:
    spec = TensorSpec("BF16", (3, 4))
    assert (spec.numel, spec.nbytes, str(spec)) == (12, 24, "BF16 [3, 4]")


@pytest.mark.parametrize(("stride", "offset"), [(None, 100 + 2 * 5 * 4), ((1, 4), 100 + 2 * 4)])
def test_rows_of_a_tensor_follow_its_stride(stride: tuple[int, ...] | None, offset: int) -> None:
    ref = TensorRef(TensorSpec("F32", (4, 5)), Path("f"), 100, stride)
    part = ref.rows(2, 1)
    assert (part.offset, part.spec.shape, part.stride) == (offset, (1, 5), stride)
    with pytest.raises(IndexError):
        ref.rows(3, 2)
