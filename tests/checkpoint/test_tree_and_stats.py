"""What is in a checkpoint: its tensors by module, and what their values are."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import save_file

import sam21convert
from sam21convert import inspect
from sam21convert.checkpoint.open import open_checkpoint
from sam21convert.checkpoint.order import in_model_order
from sam21convert.checkpoint.stats import Statistics
from sam21convert.checkpoint.tree import Module, tree_of
from sam21convert.commands.main import main
from sam21convert.config.registry import shipped_tensors
from sam21convert.io.tensor import DTYPES, TORCH_NAMES, TensorSpec

from ..support.checkpoints import DEBUG, random_bits, sparse
from ..support.hub_server import Hub

Saved = Callable[..., Path]
F64 = float(np.finfo(np.float64).eps)


@pytest.fixture(scope="module")
def model(checkpoints: Callable[[str], Path]) -> Path:
    return checkpoints(DEBUG)


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    def saved(tensors: Mapping[str, torch.Tensor], name: str = "own.safetensors") -> Path:
        path = tmp_path / name
        if path.suffix == ".safetensors":
            save_file(dict(tensors), path)
        else:
            torch.save(dict(tensors), path)
        return path

    return saved


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)])


def specs(*names: str) -> dict[str, TensorSpec]:
    return {name: TensorSpec("F32", (2, 3)) for name in names}


def lines_of(tree: Module) -> list[str]:
    return "\n".join(map(str, tree.shown())).splitlines()


def shown(*names: str) -> list[str]:
    """The first word of each line, with its indentation."""
    rows = lines_of(tree_of(specs(*names)))
    return [line[: len(line) - len(line.lstrip()) + len(line.split()[0])] for line in rows]


def flat(module: Module, above: str = "") -> Iterator[tuple[str, TensorSpec]]:
    """All tensors of a tree, each copy of a module by itself."""
    for leaf in module.leaves:
        yield above + leaf.name, TensorSpec(leaf.dtype, leaf.shape)
    for inner in module.modules:
        for name in unfolded(inner.name):
            yield from flat(inner, f"{above}{name}.")


def unfolded(name: str) -> list[str]:
    head, _, rest = name.partition("{")
    numbers, _, tail = rest.partition("}")
    if not rest:
        return [name]
    ends = [run.split("-") for run in numbers.split(",")]
    return [
        f"{head}{number}{last}"
        for run in ends
        for number in range(int(run[0]), int(run[-1]) + 1)
        for last in unfolded(tail)
    ]


class TestTree:
    def test_blocks_that_are_alike_stand_once(self) -> None:
        names = [f"trunk.blocks.{n}.{end}.weight" for n in range(12) for end in ("qkv", "proj")]
        assert shown("trunk.norm.weight", *names) == [
            "trunk",
            "  norm",
            "  blocks.{0-11}",
            "    qkv",
            "    proj",
        ]

    def test_a_block_that_is_not_like_the_others_stands_alone(self) -> None:
        names = [f"a.{n}.w.x" for n in range(7)] + [f"a.{n}.v.x" for n in range(7)]
        assert shown(*names, "a.3.more") == [
            "a.{0-2,4-6}",
            "  w",
            "  v",
            "a.3",
            "  more",
            "  w",
            "  v",
        ]
        other = {**specs("a.0.x", "a.2.x"), "a.1.x": TensorSpec("F16", (2, 3))}
        assert [one.name for one in tree_of(other).modules] == ["a.{0,2}", "a.1"]

    def test_a_line_has_size_types_and_shapes(self) -> None:
        found = {**specs("a.b.weight", "a.c.weight"), "a.b.bias": TensorSpec("BF16", (3,))}
        assert lines_of(tree_of(found)) == [
            "a    54 bytes  F32, BF16  3 tensors",
            "  b  30 bytes  F32, BF16  weight [2, 3], bias [3]",
            "  c  24 bytes  F32        weight [2, 3]",
        ]

    @pytest.mark.parametrize("name", ["sam2.1/sam2.1_hiera_t", "sam2.1/sam2.1_hiera_l", DEBUG])
    def test_it_has_every_tensor_of_a_model_and_fits_a_hundred_lines(self, name: str) -> None:
        inventory = shipped_tensors(name)
        tree = tree_of(inventory)
        assert dict(flat(tree)) == dict(inventory)
        assert tree.tensors == len(inventory)
        assert tree.parameters == sum(spec.numel for spec in inventory.values())
        for one in (tree, *tree.modules):
            inside = sum(part.bytes for part in one.modules)
            own = sum(TensorSpec(leaf.dtype, leaf.shape).nbytes for leaf in one.leaves)
            assert one.bytes == one.copies * (own + inside)
        lines = lines_of(tree)
        assert 50 < len(lines) <= 101
        assert lines[-1].endswith("deeper lines with --json)")

    def test_it_is_the_same_in_every_container_and_follows_the_dialect(
        self, model: Path, tmp_path: Path
    ) -> None:
        sam21convert.convert(model, tmp_path / "b.safetensors")
        sam21convert.convert(model, tmp_path / "hf")
        one, other, folder = (
            inspect(path, tree=True).tree
            for path in (model, tmp_path / "b.safetensors", tmp_path / "hf")
        )
        assert one is not None
        assert one == other
        assert folder is not None
        assert folder.modules[0].name == "vision_encoder"
        assert one.modules[0].name == "image_encoder"

    def test_json_has_the_same_tree_of_one_file_and_of_several(
        self, model: Path, saved: Saved
    ) -> None:
        foreign = saved({"net.0.w": torch.ones(2), "net.1.w": torch.ones(2)})
        answer = json.loads(run("inspect", model, "--tree", "--json").stdout)
        lines = run("inspect", model, foreign, "--tree", "--json").stdout.splitlines()
        both = [json.loads(line)["tree"] for line in lines]
        assert both[0] == answer["tree"]
        assert "stats" not in answer
        (only,) = both[1]["modules"]
        assert (only["name"], only["copies"], only["leaves"]) == (
            "net.{0,1}",
            2,
            [{"name": "w", "dtype": "F32", "shape": [2]}],
        )

    def test_it_needs_the_header_alone(self, tmp_path: Path) -> None:
        whole = sparse(tmp_path / "a.safetensors", shipped_tensors(DEBUG))
        program = (
            "import sys, sam21convert; "
            f"sam21convert.inspect({str(whole)!r}, tree=True); "
            "sys.exit(bool({'numpy', 'torch'} & sys.modules.keys()))"
        )
        subprocess.run([sys.executable, "-c", program], check=True)

    @pytest.mark.parametrize(
        "name",
        ["a." * 9000 + "b", "", ".", "..", "a..b", "1" * 9000 + ".b", "a.01", "a.²", "{.}", "a/b"],
    )
    def test_any_name_has_its_place(self, saved: Saved, name: str) -> None:
        names = [name, f"{name}.x", "plain.weight"]
        assert sorted(n for n, _ in flat(tree_of(specs(*names)))) == sorted(names)
        path = saved({one: torch.ones(1) for one in names}, "own.pt")
        found = inspect(path, tree=True, stats=True)
        assert found.stats is not None
        assert {one.name for one in found.stats.tensors} == {*names}
        json.loads(found.to_json())

    def test_text_has_names_that_move_no_cursor(self, saved: Saved) -> None:
        path = saved({"a\nb.\x1b[2Jc.w": torch.ones(2), "a\nb.d.w": torch.ones(2)}, "a.pt")
        for option in ("--tree", "--stats"):
            text = run("inspect", path, option).stdout
            assert r"\nb" in text
            assert "\x1b" not in text


def stats_of(path: Path) -> Statistics:
    found = inspect(path, stats=True).stats
    assert found is not None
    return found


def kinds(found: Statistics) -> dict[str, str]:
    return {one.name: one.kind for one in found.unusual}


class TestStats:
    @pytest.mark.parametrize("end", [".safetensors", ".pt"])
    @pytest.mark.parametrize(
        "dtype",
        ["F32", "F64", "F16", "BF16", "F8_E4M3", "F8_E5M2", "I8", "U8", "I32", "I64", "BOOL"],
    )
    @pytest.mark.usefixtures("small_pieces")
    def test_they_are_those_of_numpy(self, saved: Saved, dtype: str, end: str) -> None:
        values = torch.from_numpy(np.random.default_rng(0).normal(3, 40, (60, 70))).round()
        tensor = values.to(getattr(torch, TORCH_NAMES[dtype]))
        (one,) = stats_of(saved({"a": tensor}, f"own{end}")).tensors
        expected = tensor.to(torch.float64).numpy()
        assert (one.dtype, one.shape) == (dtype, (60, 70))
        assert (one.min, one.max) == (expected.min(), expected.max())
        assert one.zeros == np.count_nonzero(expected == 0)
        # Rounding grows with the number of elements at most, and with how large they are.
        rounding = expected.size * F64 * max(1.0, float(np.abs(expected).max()))
        assert one.mean == pytest.approx(expected.mean(), abs=rounding)
        assert one.std == pytest.approx(expected.std(), abs=rounding)
        assert one.std != pytest.approx(expected.std(ddof=1), abs=rounding)

    def test_whole_numbers_keep_every_digit(self, saved: Saved) -> None:
        large = 2**62 + 1
        (one,) = stats_of(saved({"a": torch.tensor([large, -large])})).tensors
        assert (one.min, one.max) == (-large, large)

    def test_what_is_not_finite_is_counted_and_left_out(self, saved: Saved) -> None:
        values = [math.nan, math.inf, -math.inf, 0.0, -0.0, 3.0]
        (one,) = stats_of(saved({"a": torch.tensor(values)})).tensors
        assert (one.nan, one.inf, one.zeros, one.mean, one.max) == (1, 2, 2, 1.0, 3.0)

    @pytest.mark.parametrize(
        "tensor",
        [torch.full((3,), math.nan), torch.ones(0), torch.ones(2, dtype=torch.complex64)],
        ids=["nan", "empty", "complex"],
    )
    def test_numbers_that_do_not_exist_are_none(self, saved: Saved, tensor: torch.Tensor) -> None:
        path = saved({"a": tensor})
        (one,) = stats_of(path).tensors
        assert (one.mean, one.std, one.min, one.max, one.furthest) == (None,) * 5
        assert json.loads(run("inspect", path, "--stats", "--json").stdout)["stats"]["tensors"]

    def test_any_bits_of_any_type_are_read_and_give_valid_json(self, tmp_path: Path) -> None:
        types = {dtype: TensorSpec(dtype, (3, 700)) for dtype in DTYPES}
        path = random_bits(tmp_path / "a.safetensors", types)
        found = stats_of(path)
        unmeasured = {one.dtype for one in found.tensors if one.mean is None}
        assert unmeasured - {"F64"} == {"C64"}  # the sum of the largest is beyond float64
        text = run("inspect", path, "--stats", "--json").stdout
        json.loads(text, parse_constant=pytest.fail)
        assert {"F32", "BF16", "F8_E5M2"} <= {*kinds(found)}

    def test_a_view_that_claims_more_than_its_file_is_not_read(self, saved: Saved) -> None:
        huge = torch.zeros(1).expand(1 << 40)
        (one,) = stats_of(saved({"a": huge}, "own.pt")).tensors
        assert one.mean is None

    def test_a_view_is_read_as_it_is(self, saved: Saved) -> None:
        grid = torch.arange(12.0).reshape(3, 4)
        found = stats_of(saved({"a": grid[:, 1], "b": grid.T}, "own.pt"))
        assert [one.mean for one in found.tensors] == [5.0, 5.5]

    def test_the_unusual_is_named_and_nothing_else(self, saved: Saved) -> None:
        usual = torch.from_numpy(np.random.default_rng(1).normal(size=4000)).float()
        far, bad, endless = usual.clone(), usual.clone(), usual.clone()
        far[7], bad[7], endless[:2] = 99.0, math.nan, math.inf
        path = saved(
            {"a": usual, "b": torch.zeros(9), "c": torch.ones(1), "d": far, "e": bad, "f": endless}
        )
        found = stats_of(path)
        assert kinds(found) == {"e": "NaN", "f": "infinite", "b": "constant", "d": "far outlier"}
        text = run("inspect", path, "--stats").stdout
        assert "NaN: e: 1 of 4,000 elements" in text
        assert "constant: 1 of 6 tensors: b" in text
        assert "far outlier: d: 9.90e+01 is" in text
        assert "unusual: none of 1 tensors" in run("inspect", saved({"a": usual}), "--stats").stdout

    def test_they_are_in_the_order_of_the_model_in_every_dialect(
        self, model: Path, tmp_path: Path
    ) -> None:
        sam21convert.convert(model, tmp_path / "hf")
        one, other = (open_checkpoint(path) for path in (model, tmp_path / "hf"))
        official, theirs = in_model_order(one), in_model_order(other)
        assert sorted(official) == sorted(shipped_tensors(DEBUG))
        assert official != sorted(official)
        assert official[0].startswith("image_encoder.trunk.")
        assert official[-1] == "memory_attention.norm.bias"
        assert theirs[0].startswith("vision_encoder.backbone.")
        assert theirs[-1] == "memory_attention.layer_norm.bias"
        blocks = [int(name.split(".")[3]) for name in official if ".blocks." in name]
        assert blocks == sorted(blocks)
        assert max(blocks) > 0

    def test_memory_is_bounded_and_torch_not_imported(self, tmp_path: Path) -> None:
        """With a tensor of 64 MB."""
        path = sparse(tmp_path / "a.safetensors", {"a": TensorSpec("F32", (16, 1 << 20))})
        program = (
            "import sys, tracemalloc, numpy, sam21convert; sam21convert.inspect; "
            "tracemalloc.start(); "
            f"found = sam21convert.inspect({str(path)!r}, stats=True).stats; "
            "print(found.tensors[0].zeros, tracemalloc.get_traced_memory()[1], "
            "'torch' in sys.modules)"
        )
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        zeros, peak, imported = done.stdout.split()
        assert (int(zeros), imported) == (16 << 20, "False")
        assert int(peak) < 8e6

    def test_of_a_repository_all_of_it_is_read(
        self, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with Hub() as hub:
            hub.create("org/model", {"model.pt": model.read_bytes()})
            done = subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "sam21convert",
                    "inspect",
                    "hf://org/model",
                    "--stats",
                    "--json",
                ],
                env=hub.environment(tmp_path / "home"),
                capture_output=True,
                text=True,
            )
        local = json.loads(run("inspect", model, "--stats", "--json").stdout)
        assert json.loads(done.stdout)["stats"] == local["stats"]


class TestNotebook:
    def test_the_tree_opens_with_clicks_and_the_table_scrolls(self, model: Path) -> None:
        plain = inspect(model)._repr_html_()
        found = inspect(model, tree=True, stats=True)
        shown = found._repr_html_()
        assert found.tree is not None
        assert shown.startswith(plain)
        tree, _, stats = shown.removeprefix(plain).partition("overflow: auto")
        assert tree.count("<details") == tree.count("</details>") > 20
        assert tree.count("<details open") == sum(bool(one.modules) for one in found.tree.modules)
        assert stats.count("<tr>") == 1 + len(shipped_tensors(DEBUG))

    def test_names_are_escaped(self, saved: Saved) -> None:
        path = saved({"<b>.<i>.w": torch.ones(2), "<b>.<u>.w": torch.ones(2)})
        shown = inspect(path, tree=True, stats=True)._repr_html_()
        assert "&lt;b&gt;" in shown
        assert "<b>" not in shown
        assert "<i>" not in shown
