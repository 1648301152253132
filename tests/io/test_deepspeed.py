"""DeepSpeed's ZeRO: the weights in float32 are put together as its own zero_to_fp32 does it."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import sam21convert
from sam21convert.errors import RefusedError, UnreadableError
from sam21convert.io.data.copy import Files, payload, read_bytes
from sam21convert.io.open import open_source
from sam21convert.io.tensor import Striped, Tensor, TensorRef

from ..support.checkpoints import official_pt, state_dict
from .test_torch_zip import bytes_of

Tensors = Mapping[str, torch.Tensor]
BUFFER = "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"


@dataclass(frozen=True)
class Run:
    """What a run leaves, in the layout of DeepSpeed 0.19."""

    stage: int
    ranks: int = 2
    groups: int = 1
    frozen: tuple[str, ...] = ()
    shared: tuple[tuple[str, str], ...] = ()
    vectors: int = 1  # of a rank, in stage 3
    padding: int = 0  # behind each parameter, up to stage 2
    front: str = "bf16_"

    def save(self, folder: Path, tensors: Tensors, step: str = "global_step2") -> Path:
        """Write the folder of a run; returns that of the step."""
        home = folder / step
        home.mkdir(parents=True)
        (folder / "latest").write_text(step)
        aliases = [alias for alias, _ in self.shared]
        names = [n for n in tensors if n != BUFFER and n not in (*self.frozen, *aliases)]
        grouped = [names[i :: self.groups] for i in range(self.groups)]
        if self.stage < 3:
            models, optim = [f"{home}/mp_rank_00_model_states.pt"], self._vectors(tensors, grouped)
        else:
            models = [f"{home}/zero_pp_rank_{r}_mp_rank_00_model_states.pt" for r in self._all]
            optim = self._parts(tensors, grouped)
        for rank, path in enumerate(models):
            torch.save(self._model(tensors, grouped, rank), path)
        for rank in self._all:
            state: dict[str, Any] = {"zero_stage": self.stage, **optim[rank]}
            state["partition_count"] = self.ranks if self.stage == 3 else [self.ranks] * self.groups
            name = f"{self.front}zero_pp_rank_{rank}_mp_rank_00_optim_states.pt"
            torch.save({"optimizer_state_dict": state, "ds_version": "0.19.8"}, home / name)
        return home

    @property
    def _all(self) -> range:
        return range(self.ranks)

    def _model(self, tensors: Tensors, grouped: list[list[str]], rank: int) -> dict[str, Any]:
        half = {n: t if n == BUFFER else t.bfloat16() for n, t in tensors.items()}
        fragments = {n: half[n] for n in self.frozen}
        if self.stage == 3:
            fragments = {n: self._part(half[n], rank) for n in self.frozen}
            half = {n: t if n == BUFFER else t.new_empty(0) for n, t in half.items()}
        return {
            "module": OrderedDict(half),
            "buffer_names": [BUFFER],
            "param_shapes": [OrderedDict((n, tensors[n].shape) for n in g) for g in grouped],
            "frozen_param_shapes": OrderedDict((n, tensors[n].shape) for n in self.frozen) or None,
            "frozen_param_fragments": OrderedDict(fragments) or None,
            "shared_params": dict(self.shared),
            "dp_world_size": self.ranks,
            "ds_version": "0.19.8",
        }

    def _part(self, tensor: torch.Tensor, rank: int) -> torch.Tensor:
        length = math.ceil(tensor.numel() / self.ranks)
        padded = torch.cat([tensor.flatten(), tensor.new_zeros(length * self.ranks)])
        return padded[rank * length : (rank + 1) * length].clone()

    def _vectors(self, tensors: Tensors, grouped: list[list[str]]) -> list[dict[str, Any]]:
        found: list[list[torch.Tensor]] = [[] for _ in self._all]
        for names in grouped:
            behind = torch.zeros(self.padding)
            flat = torch.cat([t for n in names for t in (tensors[n].flatten(), behind)])
            flat = torch.cat([flat, torch.zeros(-len(flat) % (2 * self.ranks))])
            for rank, part in enumerate(flat.chunk(self.ranks)):
                found[rank].append(part.clone())
        more = {}
        if self.padding:
            more["param_alignment_paddings"] = [[self.padding] * len(names) for names in grouped]
        return [{"single_partition_of_fp32_groups": one, **more} for one in found]

    def _parts(self, tensors: Tensors, grouped: list[list[str]]) -> list[dict[str, Any]]:
        names = [n for group in grouped for n in group]
        size = math.ceil(len(names) / self.vectors)
        chunks = [names[start : start + size] for start in range(0, len(names), size)]
        return [
            {
                "fp32_flat_groups": [
                    torch.cat([self._part(tensors[n], rank) for n in chunk]) for chunk in chunks
                ]
            }
            for rank in self._all
        ]


def values(source: Path) -> dict[str, bytes]:
    """The bytes of each tensor of ``module``."""
    with Files() as files:
        return {
            name: b"".join(map(bytes, payload(files, Tensor(ref.spec, (ref,)))))
            for name, ref in open_source(source).root["module"].items()
        }


def odd() -> dict[str, torch.Tensor]:
    """Tensors whose sizes no number of ranks divides, so that stripes end within rows."""
    shapes = [(3, 5), (7,), (1,), (), (2, 3, 5), (11, 2), (64, 3)]
    tensors = {f"p{i}": torch.randn(shape) for i, shape in enumerate(shapes)}
    return {**tensors, "alias": tensors["p4"], BUFFER: torch.randn(2, 4)}


RUNS = [
    Run(1, ranks=1),
    Run(2, ranks=2),
    Run(2, ranks=3, groups=2, front=""),
    Run(2, ranks=4, padding=3),
    Run(2, ranks=2, frozen=("p1", "p5"), shared=(("alias", "p4"),)),
    Run(3, ranks=1),
    Run(3, ranks=2, front=""),
    Run(3, ranks=5, groups=2),
    Run(3, ranks=3, vectors=4),
    Run(3, ranks=3, frozen=("p0", "p3"), shared=(("alias", "p4"),)),
]


@pytest.mark.parametrize("run", RUNS, ids=str)
def test_the_trained_weights_are_put_together_from_their_stripes(run: Run, tmp_path: Path) -> None:
    tensors = odd()
    step = run.save(tmp_path / "run", tensors)
    wanted = {
        name: bytes_of(tensor.bfloat16() if name in run.frozen else tensor)
        for name, tensor in tensors.items()
    }
    assert values(tmp_path / "run") == values(step) == wanted
    for file in step.iterdir():
        assert values(file) == wanted


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS, ids=str)
def test_deepspeed_itself_finds_the_same(run: Run, tmp_path: Path) -> None:
    zero_to_fp32 = pytest.importorskip("deepspeed.utils.zero_to_fp32")
    run.save(tmp_path / "run", odd())
    found = zero_to_fp32.get_fp32_state_dict_from_zero_checkpoint(str(tmp_path / "run"))
    found = {name: bytes_of(tensor.reshape(tensor.shape)) for name, tensor in found.items()}
    assert values(tmp_path / "run") == found


def test_rows_of_a_striped_tensor_are_found(tmp_path: Path) -> None:
    tensors = {"p": torch.arange(35.0).reshape(7, 5), BUFFER: torch.ones(1)}
    Run(2, ranks=3).save(tmp_path / "run", tensors)
    ref = open_source(tmp_path / "run").root["module"]["p"]
    assert isinstance(ref, Striped)
    with Files() as files:
        for start in range(7):
            for count in range(8 - start):
                part = ref.rows(start, count)
                read = b"".join(map(bytes, payload(files, Tensor(part.spec, (part,)))))
                assert read == bytes_of(tensors["p"][start : start + count])
        assert read_bytes(files, ref) == bytes_of(tensors["p"])  # as for a sum, in memory
    assert type(ref.rows(0, 1)) is TensorRef
    assert ref.permuted((0, 1)) is ref
    with pytest.raises(IndexError):
        ref.rows(6, 2)
    with pytest.raises(RefusedError, match="transposed"):
        ref.permuted((1, 0))


@pytest.mark.parametrize("stage", [2, 3])
def test_a_run_is_converted_as_trained(stage: int, tmp_path: Path) -> None:
    trained = state_dict()
    plain = official_pt(tmp_path / "plain.pt", trained)
    step = Run(stage).save(tmp_path / "run", trained)
    report = sam21convert.convert(tmp_path / "run", tmp_path / "out.pt")
    assert any("358 trained tensors" in note and "2 processes" in note for note in report.notes)
    assert sam21convert.diff(tmp_path / "out.pt", plain).exit_code == 0
    rounded = official_pt(
        tmp_path / "half.pt", {n: t.bfloat16().float() for n, t in trained.items()}
    )
    assert sam21convert.diff(tmp_path / "out.pt", rounded).exit_code == 1
    if stage == 3:
        sam21convert.convert(step, tmp_path / "hf", to="hf-video")  # whose rows are split
        assert sam21convert.diff(tmp_path / "hf", plain).exit_code == 0
    found = sam21convert.inspect(next(step.glob("*_model_states.pt")))
    assert (found.container, found.path, found.dtypes) == ("DeepSpeed", step, {"F32": 359})
    assert found.exit_code == 0


def test_the_file_of_the_weights_as_run_says_that_the_trained_ones_are_lost(tmp_path: Path) -> None:
    step = Run(2).save(tmp_path / "run", odd())
    for path in step.glob("*_optim_states.pt"):
        path.unlink()
    for given in (step / "mp_rank_00_model_states.pt", step, tmp_path / "run"):
        source = open_source(given)
        assert "weights in BF16" in source.notes[0]
        assert "*_optim_states.pt" in source.notes[0]
        assert source.root["module"]["p0"].spec.dtype == "BF16"


def test_a_file_without_any_weights_is_refused(tmp_path: Path) -> None:
    step = Run(3).save(tmp_path / "run", odd())
    for path in step.glob("*_optim_states.pt"):
        path.rename(tmp_path / path.name)
    with pytest.raises(RefusedError, match="left no weights") as caught:
        open_source(step / "zero_pp_rank_0_mp_rank_00_model_states.pt")
    assert "*_optim_states.pt of the same folder: copy those beside" in str(caught.value.hint)
    for path in tmp_path.glob("*_optim_states.pt"):
        path.rename(step / path.name)
    assert open_source(step / "zero_pp_rank_0_mp_rank_00_model_states.pt").root["module"]


@pytest.mark.parametrize("stage", [2, 3])
def test_files_that_are_missing_or_too_many_are_named(stage: int, tmp_path: Path) -> None:
    step = Run(stage, ranks=3).save(tmp_path / "run", odd())
    name = "bf16_zero_pp_rank_{}_mp_rank_00_optim_states.pt"
    (step / name.format(1)).rename(step / name.format(7))
    with pytest.raises(UnreadableError, match=r"rank_1_mp_rank_00_optim_states.pt is missing"):
        open_source(tmp_path / "run")
    (step / name.format(7)).rename(step / name.format(1))
    open_source(tmp_path / "run")
    (step / name.format(3)).write_bytes((step / name.format(2)).read_bytes())
    with pytest.raises(RefusedError, match="rank_3_mp_rank_00_optim_states.pt does not belong"):
        open_source(tmp_path / "run")
    (step / name.format(3)).rename(step / name.format(2).removeprefix("bf16_"))
    with pytest.raises(RefusedError, match="are both of rank 2"):
        open_source(tmp_path / "run")
    (step / name.format(2).removeprefix("bf16_")).unlink()
    for path in step.glob("*rank_00_model_states.pt"):
        path.unlink()
    with pytest.raises(UnreadableError, match="mp_rank_00_model_states.pt is missing"):
        open_source(tmp_path / "run")


def test_frozen_parts_need_the_files_of_all_ranks(tmp_path: Path) -> None:
    step = Run(3, ranks=3, frozen=("p0",)).save(tmp_path / "run", odd())
    (step / "zero_pp_rank_1_mp_rank_00_model_states.pt").unlink()
    with pytest.raises(UnreadableError, match=r"3 processes, with \*_model_states.pt of 2"):
        open_source(tmp_path / "run")


def test_latest_decides_between_steps(tmp_path: Path) -> None:
    old, new = odd(), odd()
    Run(2).save(tmp_path, old, "global_step5")
    Run(2).save(tmp_path, new, "global_step10")
    source = open_source(tmp_path)
    assert source.notes[0].startswith("global_step10 is read, which latest names; also there: ")
    assert values(tmp_path)["p0"] == bytes_of(new["p0"])
    (tmp_path / "latest").write_text("global_step5")
    assert values(tmp_path)["p0"] == bytes_of(old["p0"])
    (tmp_path / "latest").write_text("../global_step5")
    with pytest.raises(UnreadableError, match="no folder beside it"):
        open_source(tmp_path)
    (tmp_path / "latest").write_text("global_step6")
    with pytest.raises(UnreadableError, match="global_step6, which is not there"):
        open_source(tmp_path)
    (tmp_path / "latest").unlink()
    with pytest.raises(RefusedError, match="global_step5, global_step10") as caught:
        open_source(tmp_path)
    assert open_source(Path(str(caught.value.hint).removeprefix("give one of them, as in ")))


def test_other_ways_to_divide_a_model_are_refused(tmp_path: Path) -> None:
    step = Run(2).save(tmp_path / "run", odd())
    name = "bf16_zero_pp_rank_0_mp_rank_01_optim_states.pt"
    for other in (name, "expp_rank_0_mp_rank_00_optim_states.pt", "mp_rank_01_model_states.pt"):
        (step / other).write_bytes(b"")
        with pytest.raises(RefusedError, match=f"{other} is of a model that is divided"):
            open_source(tmp_path / "run")
        (step / other).unlink()
    (step / "zero").mkdir()
    with pytest.raises(RefusedError, match="universal checkpoint"):
        open_source(tmp_path / "run")


@pytest.mark.parametrize("stage", [2, 3])
def test_names_and_weights_must_agree(stage: int, tmp_path: Path) -> None:
    tensors = odd()
    step = Run(stage).save(tmp_path / "run", tensors)
    model = step / f"{'zero_pp_rank_0_' * (stage == 3)}mp_rank_00_model_states.pt"
    root = torch.load(model, weights_only=False)
    for shape in ((3, 5, 9), (3, 50000), (0,)):
        root["param_shapes"][0]["p0"] = torch.Size(shape)
        torch.save(root, model)
        with pytest.raises(UnreadableError):
            open_source(tmp_path / "run")
    root["param_shapes"][0]["p0"] = torch.Size((3, 5))
    torch.save(root, model)
    assert values(tmp_path / "run")["p0"] == bytes_of(tensors["p0"])
    for wrong in (None, {"p0": torch.Size((3, 5))}, [{"p0": [3, 5]}], [{3: torch.Size((3,))}]):
        torch.save({**root, "param_shapes": wrong}, model)
        with pytest.raises(UnreadableError):
            open_source(tmp_path / "run")


def test_what_the_optimizer_holds_must_be_vectors(tmp_path: Path) -> None:
    step = Run(2).save(tmp_path / "run", odd())
    path = step / "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt"
    root = torch.load(path, weights_only=False)
    whole = root["optimizer_state_dict"]["single_partition_of_fp32_groups"]
    for wrong in (
        [],
        None,
        [whole[0].reshape(2, -1)],
        [whole[0][::2]],
        [whole[0].double()],
        [*whole, whole[0]],
        [Ellipsis],
    ):
        root["optimizer_state_dict"]["single_partition_of_fp32_groups"] = wrong
        torch.save(root, path)
        with pytest.raises(UnreadableError):
            open_source(tmp_path / "run")
    for count in (0, "2", [], [None], 10**9):
        root["optimizer_state_dict"]["partition_count"] = count
        torch.save(root, path)
        with pytest.raises(UnreadableError, match="partition_count"):
            open_source(tmp_path / "run")
