"""Two checkpoints are compared tensor by tensor, across dialects and containers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from sam21convert import convert, diff
from sam21convert.checkpoint.diff.modules import MODULES, OTHER, layer_of, module_of
from sam21convert.checkpoint.diff.plot import draw, figure, layers, rows_of, scale_of, title_of
from sam21convert.checkpoint.diff.report import Difference
from sam21convert.commands.main import main
from sam21convert.config.registry import SHIPPED, shipped_config, shipped_tensors, tensors_of
from sam21convert.conversion.target import pick_target
from sam21convert.dialects import BY_NAME, DIALECTS
from sam21convert.errors import (
    MismatchError,
    MissingPackageError,
    RefusedError,
    UnreadableError,
    UsageError,
)
from sam21convert.io.open import open_source

from ..support.checkpoints import DEBUG, DEBUG_20, official_pt, random_bits, sparse, state_dict

NAME = "sam_mask_decoder.mask_tokens.weight"
MEMORY = {"object pointers", "memory_encoder", "memory embeddings", "memory_attention"}
Pair = Callable[[list[float], list[float]], tuple[Path, Path]]


def forms() -> list[tuple[str, str]]:
    """Every dialect, with every suffix of an output that it can be written to."""
    found = []
    named = [dialect for dialect in DIALECTS if not dialect.file]  # the others are for known sizes
    for dialect, suffix in product(named, (".pt", ".safetensors", "")):
        try:
            pick_target(Path(f"x{suffix}"), dialect.name)
        except UsageError:
            continue
        found.append((dialect.name, suffix))
    return found


def differing(found: Difference) -> set[str]:
    return {c.name for c in found.tensors if c.outcome in ("different", "misshapen")}


def strict_json(found: Difference) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    return json.loads(found.to_json(), parse_constant=refuse)


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    return state_dict()


@pytest.fixture
def pt(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    return official_pt(tmp_path / "m.pt", tensors)


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    """Two checkpoints that are equal except for the first elements of one tensor."""

    def make(one: list[float], other: list[float]) -> tuple[Path, Path]:
        paths = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
        for path, values in zip(paths, (one, other), strict=True):
            tensor = torch.zeros(4, 128)
            tensor[0, : len(values)] = torch.tensor(values)
            save_file({**state_dict(), NAME: tensor}, path)
        return paths

    return make


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Difference:
    """Of two checkpoints, in which a tensor of block 0 and one of block 4 differ by 1 %."""
    home, tensors = tmp_path_factory.mktemp("found"), state_dict()
    one = official_pt(home / "a.pt", tensors)
    for block in (0, 4):
        tensors[f"image_encoder.trunk.blocks.{block}.norm1.weight"] *= 0.99
    return diff(one, official_pt(home / "b.pt", tensors))


@pytest.mark.parametrize(("task", "count"), [("video", 5), ("image", 2), ("trunk", 2)])
def test_a_model_is_the_same_in_every_pair_of_dialects_and_containers(
    tmp_path: Path, task: str, count: int
) -> None:
    """With random bits, which include NaN payloads."""
    source = random_bits(tmp_path / "source.safetensors", shipped_tensors(DEBUG))
    paths: list[Path] = []
    for dialect, suffix in forms():
        if BY_NAME[dialect].task == task:
            paths.append(tmp_path / f"{len(paths)}{suffix}")
            convert(source, paths[-1], to=dialect, config=DEBUG)
    assert len(paths) == count
    for one, other in combinations(paths, 2):
        found = diff(one, other)
        assert {c.outcome for c in found.tensors} == {"identical"}
        assert (found.only_a, found.only_b, found.exit_code) == ((), (), 0)
        assert "the same, every bit" in str(found)


def test_one_flipped_bit_in_any_tensor_is_detected(tmp_path: Path) -> None:
    """In round k, a bit is flipped in each tensor whose number has bit k set."""
    source = random_bits(tmp_path / "a.safetensors", shipped_tensors(DEBUG))
    refs, rng = open_source(source).root, np.random.default_rng(0)
    seen = set()
    for bit in range(len(refs).bit_length()):
        other = shutil.copy(source, tmp_path / "b.safetensors")
        flipped = {name for number, name in enumerate(refs) if number >> bit & 1}
        seen |= flipped
        data = np.memmap(other, np.uint8, "r+")
        for name in flipped:
            at = rng.integers(8 * refs[name].spec.nbytes)
            data[refs[name].offset + at // 8] ^= 1 << at % 8
        data.flush()
        found = diff(source, other)
        assert differing(found) == flipped
        assert strict_json(found)["same"] is False
    assert len(seen) == len(refs) - 1  # number 0 has no bit


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
class TestCasts:
    def test_a_cast_is_recognised_in_both_directions_and_across_dialects(
        self, tmp_path: Path, pt: Path, dtype: Any
    ) -> None:
        convert(pt, tmp_path / "half", dtype=dtype)
        for one, other in ((pt, tmp_path / "half"), (tmp_path / "half", pt)):
            found = diff(one, other)
            assert {c.outcome for c in found.tensors} == {"cast"}
            assert found.exit_code == 0
            assert found.tensors[0].relative

    def test_one_changed_last_digit_is_a_difference(
        self, tmp_path: Path, pt: Path, tensors: dict[str, torch.Tensor], dtype: Any
    ) -> None:
        half = {name: tensor.to(getattr(torch, dtype)) for name, tensor in tensors.items()}
        half[NAME].view(torch.int16)[1, 5] += 1
        found = diff(pt, official_pt(tmp_path / "b.pt", half))
        assert differing(found) == {NAME}
        assert found.tensors[0].name == NAME
        assert found.exit_code == 1

    def test_values_beyond_the_type_and_nan_are_cast_as_torch_does(
        self, tmp_path: Path, tensors: dict[str, torch.Tensor], dtype: Any
    ) -> None:
        tensors[NAME][0, :4] = torch.tensor([float("nan"), 1e38, -0.0, 1e-45])
        one = official_pt(tmp_path / "a.pt", tensors)
        half = {name: tensor.to(getattr(torch, dtype)) for name, tensor in tensors.items()}
        found = diff(one, official_pt(tmp_path / "b.pt", half))
        assert {c.outcome for c in found.tensors} == {"cast"}
        strict_json(found)


def test_double_precision_is_compared_after_a_cast(
    tmp_path: Path, pt: Path, tensors: dict[str, torch.Tensor]
) -> None:
    wide = official_pt(tmp_path / "b.pt", {k: v.double() for k, v in tensors.items()})
    assert {c.cast for c in diff(pt, wide).tensors} == {("F64", "F32")}
    tensors[NAME][0, 0] = torch.nextafter(tensors[NAME][0, 0], torch.tensor(9.0))
    assert differing(diff(wide, official_pt(tmp_path / "c.pt", tensors))) == {NAME}


@pytest.mark.parametrize(
    ("tolerance", "outcome"),
    [(None, "different"), (0, "different"), (2**-10 - 2**-30, "different"), (2**-10, "within")],
)
def test_the_tolerance_is_relative_to_the_larger_scale(
    pair: Pair, tolerance: Any, outcome: str
) -> None:
    one, other = pair([4, 1], [4 - 2**-8, 1])
    for found in (diff(one, other, tolerance=tolerance), diff(other, one, tolerance=tolerance)):
        change = found.tensors[0]
        assert (change.name, change.outcome) == (NAME, outcome)
        assert (change.largest, change.mean) == (2**-8, 2**-17)
        assert (change.scale, change.relative, change.relative_mean) == (4, 2**-10, 2**-19)
        assert found.exit_code == (0 if outcome == "within" else 1)


@pytest.mark.parametrize("tolerance", [-1e-9, float("nan"), float("inf")])
def test_an_invalid_tolerance_is_refused(pt: Path, tolerance: float) -> None:
    with pytest.raises(UsageError, match="`tolerance="):
        diff(pt, pt, tolerance=tolerance)


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("one", "other", "outcome", "unmatched"),
    [
        (NAN, NAN, "identical", 0),
        (NAN, -NAN, "within", 0),  # different bits, equal values
        (0.0, -0.0, "within", 0),
        (NAN, 1.0, "different", 1),
        (1.0, INF, "different", 1),
        (INF, -INF, "different", 1),
        (NAN, INF, "different", 1),
        (INF, INF, "identical", 0),
    ],
)
def test_nan_infinity_and_signed_zero(
    pair: Pair, one: float, other: float, outcome: str, unmatched: int
) -> None:
    found = diff(*pair([2, one], [2, other]), tolerance=0)
    [change] = [c for c in found.tensors if c.name == NAME]
    assert (change.outcome, change.unmatched) == (outcome, unmatched)
    assert strict_json(found)["same"] is (outcome != "different")
    assert differing(diff(found.a, found.b)) == (set() if outcome == "identical" else {NAME})


def test_the_largest_change_comes_first_and_modules_show_what_was_trained(
    tmp_path: Path, pt: Path, tensors: dict[str, torch.Tensor]
) -> None:
    trained = [name for name in tensors if name.startswith("sam_mask_decoder.")]
    for step, name in enumerate(trained, 1):
        tensors[name] *= 1 + step / 1000
    convert(official_pt(tmp_path / "b.pt", tensors), tmp_path / "b")
    found = diff(pt, tmp_path / "b")
    assert [c.name for c in found.tensors[: len(trained)]] == trained[::-1]
    assert [m.module for m in found.modules] == list(MODULES)
    assert [m.module for m in found.modules if not m.untouched] == ["sam_mask_decoder"]
    lines = str(found).splitlines()
    assert lines[2] == "changed    sam_mask_decoder (131 of 131 tensors, up to 1.2e-01 of scale)"
    assert lines[3].startswith("untouched  image_encoder.trunk, image_encoder.neck, sam_prompt")
    assert "(121 more with --json)" in str(found)
    assert len(lines) < 30
    assert len(strict_json(found)["tensors"]) == len(tensors)


class TestOneSidedTensors:
    def test_the_tensors_that_sam_2_1_adds(
        self, tmp_path: Path, pt: Path, tensors: dict[str, torch.Tensor]
    ) -> None:
        old = {name: tensors[name] for name in shipped_tensors(DEBUG_20)}
        found = diff(official_pt(tmp_path / "old.pt", old), pt)
        assert {(tensor.name, tensor.why) for tensor in found.only_b} == {
            (name, "SAM 2 has none") for name in set(tensors) - set(old)
        }
        assert len(found.only_b) == 3
        assert (found.only_a, differing(found), found.exit_code) == ((), set(), 1)

    def test_tensors_that_the_dialect_has_no_place_for(self, tmp_path: Path, pt: Path) -> None:
        convert(pt, tmp_path / "image", to="hf-image")
        found = diff(tmp_path / "image", pt)
        assert {tensor.why for tensor in found.only_b} == {"no place in hf-image"}
        assert {tensor.module for tensor in found.only_b} == MEMORY
        assert (found.only_a, differing(found), found.exit_code) == ((), set(), 1)
        assert "what both hold is the same, every bit" in str(found)

    def test_a_renamed_tensor_is_missing_and_unexpected(
        self, tmp_path: Path, pt: Path, tensors: dict[str, torch.Tensor]
    ) -> None:
        tensors["head.weight"] = tensors.pop(NAME)
        found = diff(pt, official_pt(tmp_path / "b.pt", tensors))
        assert [(tensor.name, tensor.why) for tensor in found.only_a] == [(NAME, "missing")]
        extra = [(tensor.name, tensor.module, tensor.why) for tensor in found.only_b]
        assert extra == [("head.weight", OTHER, "not part of the model")]


def test_mismatched_tensors_are_listed_with_their_shapes(
    tmp_path: Path, pt: Path, tensors: dict[str, torch.Tensor]
) -> None:
    tensors[NAME] = torch.zeros(5, 128)
    found = diff(pt, official_pt(tmp_path / "b.pt", tensors))
    assert differing(found) == {NAME}
    assert found.tensors[0].size == "F32 [4, 128] in A, F32 [5, 128] in B"
    shapes = [strict_json(found)["tensors"][0][side]["shape"] for side in ("a", "b")]
    assert shapes == [[4, 128], [5, 128]]


def test_a_mismatched_concatenation_keeps_its_own_name(tmp_path: Path, pt: Path) -> None:
    convert(pt, tmp_path / "hf.safetensors", to="hf-video")
    source = open_source(tmp_path / "hf.safetensors")
    refs = {
        name: torch.zeros(ref.spec.shape)
        if name != "prompt_encoder.point_embed.weight"
        else torch.zeros(3, 128)
        for name, ref in source.root.items()
    }
    save_file(refs, tmp_path / "b.safetensors")
    found = diff(pt, tmp_path / "b.safetensors")
    assert [tensor.name for tensor in found.only_b] == ["prompt_encoder.point_embed.weight"]
    assert {tensor.why for tensor in found.only_a} == {"missing"}
    assert len(found.only_a) == 4


SIZES = [shipped for shipped in SHIPPED if shipped.generation == "2.1"]


@pytest.mark.parametrize(
    ("one", "other"), [*combinations(SIZES, 2)], ids=lambda shipped: str(shipped.size)
)
def test_models_of_different_sizes_are_refused(tmp_path: Path, one: Any, other: Any) -> None:
    paths = []
    for shipped in (one, other):
        (tmp_path / shipped.size).mkdir()
        paths.append(
            sparse(tmp_path / f"{shipped.size}.safetensors", shipped_tensors(shipped.name))
        )
    with pytest.raises(MismatchError, match="models of different sizes") as caught:
        diff(*paths)
    assert f"({one.size})" in str(caught.value)
    assert f"({other.size})" in str(caught.value)


class TestUnpublishedSizes:
    @pytest.fixture
    def unknown(self, tmp_path: Path) -> tuple[Path, Any]:
        config = shipped_config(DEBUG)
        first, second, third, last = config.trunk.stages
        trunk = replace(config.trunk, stages=(first, second, third + 1, last))
        config = replace(config, trunk=trunk)
        path = random_bits(tmp_path / "own.safetensors", tensors_of(config))
        return path, config

    def test_two_are_compared_under_the_names_in_the_files(self, unknown: tuple[Path, Any]) -> None:
        found = diff(unknown[0], unknown[0])
        assert (found.exit_code, found.names) == (0, "official")

    def test_one_is_compared_with_a_checkpoint_that_has_a_config(
        self, tmp_path: Path, unknown: tuple[Path, Any]
    ) -> None:
        convert(unknown[0], tmp_path / "hf", config=unknown[1])
        bare = convert(unknown[0], tmp_path / "b.safetensors", to="hf-video", config=unknown[1])
        (tmp_path / "b.yaml").unlink()  # which would tell the config
        for one, other in product((unknown[0], bare.destination), (tmp_path / "hf",)):
            found = diff(one, other)
            assert found.tensors == diff(other, one).tensors
            assert {c.outcome for c in found.tensors} == {"identical"}
            assert found.exit_code == 0

    def test_two_in_different_dialects_need_a_config(
        self, tmp_path: Path, unknown: tuple[Path, Any]
    ) -> None:
        convert(unknown[0], tmp_path / "hf.safetensors", to="hf-video", config=unknown[1])
        assert diff(unknown[0], tmp_path / "hf.safetensors").exit_code == 0
        (tmp_path / "hf.yaml").unlink()  # which tells the config
        with pytest.raises(RefusedError, match="neither is the size of any published") as caught:
            diff(unknown[0], tmp_path / "hf.safetensors")
        assert "--to hf-video --config FILE first" in str(caught.value.hint)
        found = diff(tmp_path / "hf.safetensors", tmp_path / "hf.safetensors")
        assert (found.exit_code, found.names) == (0, "hf-video")
        assert "no config tells what model this is" in str(found)


def test_a_file_that_is_not_sam2_is_refused(tmp_path: Path, pt: Path) -> None:
    save_file({"a.weight": torch.ones(2)}, tmp_path / "other.safetensors")
    for pair in ((pt, tmp_path / "other.safetensors"), (tmp_path / "other.safetensors", pt)):
        with pytest.raises(RefusedError, match="no tensor has a name that SAM 2 uses"):
            diff(*pair)


def test_a_corrupt_file_is_an_error_and_not_a_difference(tmp_path: Path, pt: Path) -> None:
    other = shutil.copy(pt, tmp_path / "b.pt")
    data = np.memmap(other, np.uint8, "r+")
    data[open_source(pt).root["model"][NAME].offset] ^= 1
    data.flush()
    with pytest.raises(UnreadableError, match="CRC-32"):
        diff(pt, other)


def test_a_strided_tensor_is_compared_element_by_element(
    tmp_path: Path, pt: Path, tensors: dict[str, torch.Tensor]
) -> None:
    strided = {k: v.T.contiguous().T if v.ndim == 2 else v for k, v in tensors.items()}
    other = official_pt(tmp_path / "b.pt", strided)
    assert diff(pt, other).exit_code == 0
    strided[NAME][2, 3] += 1
    assert differing(diff(pt, official_pt(tmp_path / "c.pt", strided))) == {NAME}


def test_a_view_that_claims_more_than_its_file_is_refused(
    tmp_path: Path, pt: Path, tensors: dict[str, torch.Tensor]
) -> None:
    tensors["x"] = torch.zeros(1).expand(1 << 40)
    other = official_pt(tmp_path / "b.pt", tensors)
    with pytest.raises(RefusedError, match="x .* is larger than the file"):
        diff(other, other)


def test_memory_is_bounded_and_neither_torch_nor_matplotlib_imported(tmp_path: Path) -> None:
    """With two files of 156 MB that differ in one byte of every tensor."""
    one = sparse(tmp_path / "sparse.safetensors", shipped_tensors("sam2.1/sam2.1_hiera_t"))
    other = tmp_path / "other.safetensors"
    one.rename(other)
    with other.open("r+b") as file:
        for ref in open_source(other).root.values():
            file.seek(ref.offset)
            file.write(b"\x01")
    one = sparse(tmp_path / "sparse.safetensors", shipped_tensors("sam2.1/sam2.1_hiera_t"))
    program = (
        "import sys, tracemalloc, numpy, sam21convert; tracemalloc.start(); "
        f"found = sam21convert.diff({str(one)!r}, {str(other)!r}); "
        "print(all(c.outcome == 'different' for c in found.tensors), "
        "tracemalloc.get_traced_memory()[1], sys.modules.keys() & {'torch', 'matplotlib'})"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    different, peak, imported = run.stdout.split(maxsplit=2)
    assert (different, imported) == ("True", "set()\n")
    assert int(peak) < 20e6


class TestModules:
    @pytest.mark.parametrize("shipped", SHIPPED, ids=lambda s: s.name)
    def test_every_tensor_belongs_to_a_module(self, shipped: Any) -> None:
        assert {module_of(name) for name in shipped_tensors(shipped.name)} == {*MODULES}

    @pytest.mark.parametrize(
        ("name", "layer"),
        [
            ("image_encoder.trunk.pos_embed", "image_encoder.trunk.pos_embed"),
            ("image_encoder.trunk.blocks.10.mlp.layers.0.bias", "image_encoder.trunk.blocks.10"),
            ("image_encoder.neck.convs.3.conv.weight", "image_encoder.neck.convs.3"),
            (
                "sam_mask_decoder.transformer.layers.1.mlp.layers.0.weight",
                "sam_mask_decoder.transformer.layers.1",
            ),
            (
                "sam_mask_decoder.iou_prediction_head.layers.0.weight",
                "sam_mask_decoder.iou_prediction_head",
            ),
            ("memory_attention.norm.weight", "memory_attention.norm"),
            ("mask_downsample.bias", "mask_downsample"),
            ("no_mem_embed", "no_mem_embed"),
        ],
    )
    def test_the_layer_of_a_tensor(self, name: str, layer: str) -> None:
        assert layer_of(name) == layer


class TestPlot:
    @pytest.fixture(autouse=True)
    def _matplotlib(self) -> None:
        pytest.importorskip("matplotlib")

    @pytest.mark.parametrize(
        ("ending", "start"), [(".png", b"\x89PNG\r\n"), (".svg", b"<?xml"), (".PDF", b"%PDF-")]
    )
    def test_is_the_same_file_each_time_and_shows_the_change(
        self,
        tmp_path: Path,
        found: Difference,
        monkeypatch: pytest.MonkeyPatch,
        ending: str,
        start: bytes,
    ) -> None:
        pictures = []
        for number, shown in enumerate((2, 2, 1)):
            monkeypatch.setenv("SOURCE_DATE_EPOCH", str(10**9 * number))  # matplotlib takes it
            path = tmp_path / f"{number}{ending}"
            draw(replace(found, tensors=found.tensors[:shown]), path, overwrite=False)
            pictures.append(path.read_bytes())
        assert pictures[0].startswith(start)
        assert (pictures[0] == pictures[1]) is True
        assert (pictures[0] == pictures[2]) is False

    def test_has_bars_as_long_as_the_largest_change(self, pair: Pair) -> None:
        found = diff(*pair([4], [3]))
        [axes] = figure(found).axes
        bars = {bar.get_width() for bar in axes.containers for bar in bar}
        assert bars == {0, 0.25}

    def test_has_the_layers_in_the_order_of_the_data_flow(self, pt: Path) -> None:
        found = list(layers(diff(pt, pt)))
        trunk = [name for name in found if name.startswith("image_encoder.trunk")]
        assert found[: len(trunk)] == trunk
        assert trunk[-7:] == [f"image_encoder.trunk.blocks.{number}" for number in range(7)]
        assert found[-1] == "memory_attention.norm"

    def test_says_which_files_and_how_much_changed(self, found: Difference) -> None:
        assert title_of(found).splitlines() == [
            f"A: {found.a.name}",
            f"B: {found.b.name}",
            f"2 of {len(found.tensors)} tensors differ, by up to 1.0e-02 of scale",
        ]
        twins = replace(found, a=Path("one/m.pt"), b=Path("x" * 200, "m.pt"), tensors=())
        one, other, totals = title_of(twins).splitlines()
        assert (one, totals) == ("A: one/m.pt", "0 of 0 tensors differ")
        assert other.startswith("B: …xxx")
        assert other.endswith("x/m.pt")
        assert len(other) < 110

    def test_has_a_heading_for_each_part_and_one_line_for_neighbours_that_are_the_same(
        self, found: Difference
    ) -> None:
        rows = rows_of(found)
        assert [row.label for row in rows if not row.changes] == [*MODULES]
        blocks = [row for row in rows if row.label.startswith("blocks.")]
        assert [(row.label, row.note) for row in blocks] == [
            ("blocks.0", "1.0e-02, 1 of 12 differ"),
            ("blocks.1 ... blocks.3", "the same, every bit"),
            ("blocks.4", "1.0e-02, 1 of 12 differ"),
            ("blocks.5 ... blocks.6", "the same, every bit"),
        ]
        untouched = rows[-1]
        assert (untouched.label, untouched.note) == ("memory_attention", "the same, every bit")

    def test_of_more_layers_than_it_can_show_has_those_that_changed_most(
        self, found: Difference
    ) -> None:
        one = next(change for change in found.tensors if change.outcome == "different")
        many = tuple(
            replace(one, name=f"layer{n}.weight", module="other", relative=n / 1000)
            for n in range(1, 1001)
        )
        rows = rows_of(replace(found, tensors=many))
        assert rows[0].label == "other"
        assert rows[-1].label == "701 more with smaller changes or none"
        assert min(row.largest for row in rows[1:-1]) == 0.702

    @pytest.mark.parametrize(
        ("lengths", "scale"),
        [
            ([], "linear"),
            ([0.0, 0.0], "linear"),
            ([0.3], "linear"),
            ([0.3, 0.4, 0.5, 0.9], "linear"),
            ([1e-7, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9], "linear"),  # one of them is too short
            ([1e-7, 1e-5, 1e-3, 0.1], "log"),
            ([1e-5, 2e-5, 3e-4, 0.0, 0.2], "log"),
        ],
    )
    def test_has_the_axis_that_tells_more_bars_apart(
        self, found: Difference, lengths: list[float], scale: str
    ) -> None:
        assert scale_of(lengths) == scale
        changes = tuple(
            replace(found.tensors[0], name=f"l{n}.x", module="other", relative=length)
            for n, length in enumerate(lengths)
        )
        [axes] = figure(replace(found, tensors=changes)).axes
        assert axes.get_xscale() == scale
        assert f"({'logarithmic' if scale == 'log' else scale} axis)" in axes.get_xlabel()

    def test_shows_names_of_files_and_tensors_as_they_are(
        self, tmp_path: Path, found: Difference
    ) -> None:
        """Neither as formulas of matplotlib, nor with a warning for letters that no font has."""
        one = replace(found.tensors[0], name="$\\frac{x$\n東京.y", module="other")
        odd = replace(found, tensors=(one,), a=Path("$x_1$\u0007東京.pt"))
        [axes] = figure(odd).axes
        assert axes.get_title(loc="left").startswith("A: $x_1$\\x07東京.pt\nB: ")
        draw(odd, tmp_path / "x.svg", overwrite=False)

    @pytest.mark.parametrize("other", [[2, NAN], [2, -0.0], [3]])
    def test_is_drawn_for_changes_that_have_no_bar(
        self, tmp_path: Path, pair: Pair, other: Any
    ) -> None:
        diff(*pair([2, 0.0], other), plot=tmp_path / "x.png")
        assert (tmp_path / "x.png").exists()

    def test_is_overwritten_only_on_request(self, tmp_path: Path, pt: Path) -> None:
        (tmp_path / "x.png").write_text("mine")
        with pytest.raises(UsageError, match="exists"):
            diff(tmp_path / "gone.pt", pt, plot=tmp_path / "x.png")  # before anything is read
        assert (tmp_path / "x.png").read_text() == "mine"
        diff(pt, pt, plot=tmp_path / "x.png", overwrite=True)
        assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")

    def test_never_replaces_an_input(self, tmp_path: Path, pt: Path) -> None:
        source = pt.rename(tmp_path / "odd.png")
        with pytest.raises(UsageError, match="is the input, which is never changed"):
            diff(source, source, plot=source, overwrite=True)

    @pytest.mark.parametrize(
        ("name", "near"),
        [
            ("x.pgn", "x.png"),
            ("x.svgz", "x.svg"),
            ("my x.jpg", "'my x.png'"),
            ("x", "x.png"),
            ("x.pdf.gz", "x.pdf.png"),
        ],
    )
    def test_of_another_kind_is_refused_with_the_nearest_name(
        self, tmp_path: Path, name: str, near: str
    ) -> None:
        with pytest.raises(UsageError, match=r"a plot is a \.png, \.svg or \.pdf") as refused:
            diff(tmp_path / "gone.pt", tmp_path / "gone.pt", plot=Path(name))
        assert refused.value.hint == f"the nearest is {near}"

    def test_needs_matplotlib(
        self, tmp_path: Path, pt: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        with pytest.raises(MissingPackageError, match=r"install .*\[plot\]"):
            diff(pt, pt, plot=tmp_path / "x.png")
        assert not (tmp_path / "x.png").exists()


def test_exit_codes_and_json_of_the_command(
    tmp_path: Path, pt: Path, tensors: dict[str, torch.Tensor]
) -> None:
    pytest.importorskip("matplotlib")
    tensors[NAME] *= 1.001
    other = official_pt(tmp_path / "b.pt", tensors)
    picture = tmp_path / "x.png"
    for code, *arguments in (
        (0, pt, pt, "--plot", picture),
        (0, pt, other, "--tolerance", 0.01),
        (1, pt, other),
        (2, pt, other, "--plot", picture),
        (2, pt, other, "--tolerance", -1),
        (3, pt, tmp_path / "gone.pt"),
    ):
        result = CliRunner().invoke(main, ["diff", *map(str, arguments)])
        assert result.exit_code == code, (arguments, result.output)
    result = CliRunner().invoke(main, ["diff", str(pt), str(other), "--json"])
    assert json.loads(result.stdout)["tensors"][0]["name"] == NAME
    assert result.stderr == ""
