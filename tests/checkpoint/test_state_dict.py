"""What a state dict is wrapped in, built by the library that does it."""

from __future__ import annotations

import argparse
import copy
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

import sam21convert
from sam21convert import convert, inspect, validate
from sam21convert.checkpoint import open as checkpoint_module
from sam21convert.config.registry import SHIPPED, Shipped, shipped_tensors
from sam21convert.dialects import DIALECTS, HF_IMAGE, MLX, OFFICIAL, TIMM
from sam21convert.dialects.keymap import compile_keymap, covers
from sam21convert.dialects.rules import Dialect
from sam21convert.errors import MismatchError, RefusedError
from sam21convert.io.open import Source
from sam21convert.io.pickle import machine
from sam21convert.io.tensor import TensorRef, TensorSpec

from ..commands.test_commands import run
from ..support.checkpoints import DEBUG_20, official_pt, state_dict
from ..support.paths import DOCS

State = Mapping[str, Any]


def prefixed(prefix: str) -> Callable[[State], State]:
    return lambda state: {f"{prefix}{name}": value for name, value in state.items()}


def within(mark: str) -> Callable[[State], State]:
    """Each block of the trunk is wrapped."""
    return lambda state: {
        re.sub(r"(?<![a-z_.])((?:.*\.)?blocks\.\d+\.)", rf"\1{mark}", name): value
        for name, value in state.items()
    }


def under(
    key: str, inner: Callable[[State], State] = dict, beside: State | None = None
) -> Callable[[State], State]:
    return lambda state: {key: inner(state), **(beside or {})}


ONE = TensorRef(TensorSpec("F32", (1,)), Path("x"), 0)
TRAINER = {"optimizer": {"state": {0: {"exp_avg": ONE}}}, "epoch": 3, "loss": {}, "steps": {}}
LIGHTNING = {"pytorch-lightning_version": "2.6", "callbacks": {}, "optimizer_states": []}
# As docs/formats.md lists them: how each is made of a state dict, and what is taken off.
WRAPPERS: dict[str, list[tuple[Callable[[State], State], tuple[str, ...]]]] = {
    "none": [(dict, ())],
    "official trainer": [(under("model", beside=TRAINER), ("model",))],
    "DDP": [(prefixed("module."), ("module.",))],
    "torch.compile": [
        (prefixed("_orig_mod."), ("_orig_mod.",)),
        (prefixed("module._orig_mod."), ("module._orig_mod.",)),
        (prefixed("_orig_mod.module."), ("_orig_mod.module.",)),
        (within("_orig_mod."), ("_orig_mod.",)),
    ],
    "FSDP, checkpointing": [
        (within("_fsdp_wrapped_module."), ("_fsdp_wrapped_module.",)),
        (
            lambda s: prefixed("module.")(within("_checkpoint_wrapped_module.")(s)),
            ("module.", "_checkpoint_wrapped_module."),
        ),
    ],
    "EMA": [
        (lambda s: {**prefixed("module.")(s), "n_averaged": ONE}, ("module.",)),
        *((under(key), (key,)) for key in ("ema", "model_ema", "state_dict_ema")),
    ],
    "Lightning": [
        (under("state_dict", prefixed(prefix), LIGHTNING), ("state_dict", prefix))
        for prefix in ("model.", "sam2.", "model.sam2.")
    ],
    "other keys": [
        (under(key), (key,))
        for key in ("model_state_dict", "model_state", "net", "module", "state_dict", "weights")
    ],
    "larger model": [
        (lambda s, p=prefix: {**prefixed(p)(s), "text.weight": ONE}, (prefix,))  # type: ignore[misc]
        for prefix in ("grounding_encoder.sam2_model.", "visual_model.")
    ],
}
ALL = [wrapper for wrappers in WRAPPERS.values() for wrapper in wrappers]


@pytest.mark.parametrize("shipped", SHIPPED, ids=lambda shipped: shipped.name)
@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_every_dialect_of_every_model_is_known_in_every_wrapper(
    dialect: Dialect, shipped: Shipped, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = compile_keymap(dialect, shipped_tensors(shipped.name)).key
    state = {name: TensorRef(spec, Path("x"), 0) for name, spec in key.items()}
    metadata = dict(dialect.metadata) if dialect is MLX else {}
    tells = dialect not in (HF_IMAGE, TIMM)  # whether its tensors tell the generation
    alike = dialect if dialect.name in ("official", "hf-video", "hf-image", "mlx", "timm") else None
    for wrap, wrappers in ALL:
        source = Source(Path("x"), "torch zip", (), wrap(state), metadata)

        def opened(*_: Any, source: Source = source, **__: Any) -> Source:
            return source

        monkeypatch.setattr(checkpoint_module, "open_source", opened)
        found = checkpoint_module.open_checkpoint(Path(__file__))
        assert found.dialect is (alike or OFFICIAL)
        assert found.wrappers == wrappers
        assert found.generation == (shipped.generation if tells else None)
        assert found.shipped is not None
        assert found.shipped.size == shipped.size
        assert dict(found.tensors) == state


def test_the_documents_list_them() -> None:
    text = (DOCS / "formats.md").read_text()
    table = text.partition("## Wrappers")[2].partition("\n## ")[0]
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ")]
    for other in ("a whole module", "lists"):  # not of names: see tests/io
        rows.remove(other)
    assert rows[1:] == [*WRAPPERS, "several"]


def same_as_state_dict(path: Path, seed: int = 0) -> None:
    found, expected = torch.load(path)["model"], state_dict(seed=seed)
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> nn.Module:
    model, _ = sam21convert.load_model(official_pt(tmp_path_factory.mktemp("whole") / "whole.pt"))
    return model


@pytest.fixture
def model(loaded: nn.Module) -> nn.Module:
    return copy.deepcopy(loaded)


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


class Larger(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.visual_model, self.text = model, nn.Linear(2, 2)


def compiled_within(model: Any) -> nn.Module:
    model.image_encoder = torch.compile(model.image_encoder)
    return model  # type: ignore[no-any-return]


def compiled(model: Any) -> Any:
    return torch.compile(model)


BUILT: dict[str, Callable[[nn.Module], nn.Module]] = {
    "nothing": lambda model: model,
    "DDP": DistributedDataParallel,
    "compiled": compiled,
    "compiled DDP": lambda model: compiled(DistributedDataParallel(model)),
    "DDP of compiled": lambda model: DistributedDataParallel(compiled(model)),
    "compiled part": compiled_within,
    "compiled part in DDP": lambda model: DistributedDataParallel(compiled_within(model)),
    "EMA": AveragedModel,
    "EMA of DDP": lambda model: AveragedModel(DistributedDataParallel(model)),
    "larger": Larger,
}


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", BUILT)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # within torch.compile
@pytest.mark.usefixtures("process_group")
def test_what_pytorch_makes_is_read(
    tmp_path: Path, model: nn.Module, name: str, legacy: bool
) -> None:
    state = BUILT[name](model).state_dict()
    torch.save({"model": state}, tmp_path / "wrapped.pt", _use_new_zipfile_serialization=not legacy)
    convert(tmp_path / "wrapped.pt", tmp_path / "plain.pt")
    same_as_state_dict(tmp_path / "plain.pt")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_what_lightning_makes_is_read(
    tmp_path: Path, model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = ("pytorch-lightning", "lightning-utilities", "torchmetrics", "fsspec")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps"]
    subprocess.run([*pip, "--target", str(tmp_path / "site"), *packages], check=True)
    monkeypatch.syspath_prepend(tmp_path / "site")
    lightning: Any = __import__("pytorch_lightning")

    class Training(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.sam2, self.head = model, nn.Linear(2, 2)
            self.save_hyperparameters({"path": tmp_path, "args": argparse.Namespace(a=1)})

        def training_step(self, batch: torch.Tensor, _: int) -> torch.Tensor:
            return self.head(batch).sum()  # type: ignore[no-any-return]

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.head.parameters())

    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(max_steps=1, accelerator="cpu", **quiet)
    with torch.enable_grad():
        trainer.fit(Training(), torch.utils.data.DataLoader(torch.ones(2, 2)))  # type: ignore[arg-type]
    trainer.save_checkpoint(tmp_path / "training.ckpt")
    found = inspect(tmp_path / "training.ckpt")
    assert found.wrappers == ("state_dict", "sam2.")
    assert {"optimizer_states", "head.weight"} <= set(found.extras)
    convert(tmp_path / "training.ckpt", tmp_path / "plain.pt")
    same_as_state_dict(tmp_path / "plain.pt")


def trained(path: Path, keep: Callable[[str], bool] = bool) -> Path:
    """A checkpoint in the layout of the official trainer, of the tensors that it kept."""
    state = {name: value for name, value in state_dict().items() if keep(name)}
    layer = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    with torch.enable_grad():
        layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    content = {
        "model": state,
        "optimizer": optimizer.state_dict(),
        "epoch": 40,
        "loss": {"all": {}},
        "steps": {"train": 1000, "val": 0},
        "time_elapsed": 3.5,
        "best_meter_values": {"iou": np.float64(0.9)},
        "scaler": {"scale": 65536.0},
    }
    torch.save(content, path)
    return path


class TestTrainer:
    """The official trainer's checkpoint, and what ``skip_saving_parameters`` leaves out of it."""

    def test_the_weights_come_out_and_the_rest_is_listed(self, tmp_path: Path) -> None:
        source = trained(tmp_path / "checkpoint.pt")
        assert set(inspect(source).extras) == {
            *("optimizer", "epoch", "loss", "steps", "time_elapsed", "best_meter_values", "scaler")
        }
        convert(source, tmp_path / "plain.pt")
        same_as_state_dict(tmp_path / "plain.pt")

    def test_no_limit_of_the_readers_is_near(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of the largest model: weights, their average, AdamW with a group for each layer."""
        one = torch.ones(1)  # all tensors share it, to have a small file: their number counts
        model = {
            name: one.expand(spec.shape)
            for name, spec in shipped_tensors("sam2.1/sam2.1_hiera_l").items()
        }
        moments = ({"step": one[0], "exp_avg": t, "exp_avg_sq": t} for t in model.values())
        groups = [
            {"lr": 1e-4, "betas": (0.9, 0.999), "eps": 1e-8, "params": [i]} for i in range(99)
        ]
        optimizer = {"state": dict(enumerate(moments)), "param_groups": groups}
        path = tmp_path / "checkpoint.pt"
        torch.save({"model": model, "ema": {"module": model}, "optimizer": optimizer}, path)
        monkeypatch.setattr(machine, "MAX_OPCODES", 400_000)
        found = inspect(path, weights="model")
        assert found.config == "sam2.1/sam2.1_hiera_l"
        assert found.safety.complete
        monkeypatch.setattr(machine, "MAX_OPCODES", 33_333)
        with pytest.raises(RefusedError, match="more than 33,333 opcodes"):
            inspect(path, weights="model")

    @pytest.mark.parametrize(
        ("keep", "left_out"),
        [
            (lambda n: not n.startswith("image_encoder."), {"image_encoder"}),
            (lambda n: not n.startswith("image_encoder.trunk."), {"image_encoder"}),
            (lambda n: "memory" not in n, {"memory_attention", "memory_encoder"}),
            (lambda n: n.startswith("sam_mask_decoder."), None),
        ],
    )
    def test_a_base_fills_what_was_not_saved(
        self, tmp_path: Path, keep: Callable[[str], bool], left_out: set[str] | None
    ) -> None:
        source = trained(tmp_path / "checkpoint.pt", keep)
        base = official_pt(tmp_path / "base.pt", state_dict(seed=1))
        for form in ("whole.pt", "folder"):
            with pytest.raises(MismatchError) as caught:
                convert(source, tmp_path / form)
            assert "base=CHECKPOINT)`" in str(caught.value.hint)
            assert not (tmp_path / form).exists()
        done = convert(source, tmp_path / "whole.pt", base=base)
        found = torch.load(tmp_path / "whole.pt")["model"]
        own, other = state_dict(), state_dict(seed=1)
        assert list(found) == list(own)
        assert all(torch.equal(found[n], (own if keep(n) else other)[n]) for n in own)
        [note] = [note for note in done.notes if str(base) in note]
        count = sum(not keep(name) for name in own)
        assert note.startswith(f"{count} tensors were taken from {base}: ")
        assert left_out is None or all(f"{group} (" in note for group in left_out)
        origins = {tensor["name"]: tensor["from"] for tensor in done.tensors}
        assert all(origins[n] == [n if keep(n) else f"{base}: {n}"] for n in own)

    def test_a_base_of_another_kind_is_refused(self, tmp_path: Path) -> None:
        source = trained(tmp_path / "checkpoint.pt", lambda n: "encoder.trunk" not in n)
        older = official_pt(tmp_path / "older.pt", state_dict(DEBUG_20))
        with pytest.raises(MismatchError, match="is a SAM 2.0, but .* is a SAM 2.1"):
            convert(source, tmp_path / "whole.pt", base=older)
        tensors = shipped_tensors("sam2.1/sam2.1_hiera_t")
        larger = {n: torch.zeros(1).expand(spec.shape) for n, spec in tensors.items()}
        with pytest.raises(MismatchError, match="is not part of a model like"):
            convert(source, tmp_path / "whole.pt", base=official_pt(tmp_path / "l.pt", larger))
        for name in ("source.pt", "base.pt"):
            trained(tmp_path / name, lambda n: "memory" not in n)
        with pytest.raises(
            RefusedError, match=r"base\.pt: lacks \d+ of the missing tensors too, such as mem"
        ):
            convert(tmp_path / "source.pt", tmp_path / "whole.pt", base=tmp_path / "base.pt")
        assert not (tmp_path / "whole.pt").exists()


def test_a_larger_model_without_a_memory_is_completed(tmp_path: Path) -> None:
    """EVF-SAM2 saves no memory modules."""
    state = {f"visual_model.{n}": t for n, t in state_dict().items() if "mem" not in n}
    save_file({**state, "mm_extractor.weight": torch.ones(2)}, tmp_path / "evf.safetensors")
    found = inspect(tmp_path / "evf.safetensors")
    assert (found.wrappers, found.extras) == (("visual_model.",), ("mm_extractor.weight",))
    base = official_pt(tmp_path / "base.pt")
    convert(tmp_path / "evf.safetensors", tmp_path / "whole.pt", base=base)
    same_as_state_dict(tmp_path / "whole.pt")


def test_what_the_target_has_no_place_for_need_not_be_there(tmp_path: Path) -> None:
    state = state_dict()
    image = {name: t for name, t in state.items() if covers(HF_IMAGE, name)}
    convert(official_pt(tmp_path / "image.pt", image), tmp_path / "image", to="hf-image")
    convert(official_pt(tmp_path / "whole.pt", state), tmp_path / "whole", to="hf-image")
    one, other = (tmp_path / name / "model.safetensors" for name in ("image", "whole"))
    assert one.read_bytes() == other.read_bytes()
    for to in ("hf-video", "mlx"):
        with pytest.raises(MismatchError, match="missing") as caught:
            convert(tmp_path / "image.pt", tmp_path / "out.safetensors", to=to)
        assert "base=CHECKPOINT)`" in str(caught.value.hint)


class TestSeveral:
    """State dicts in one file: none is picked in silence."""

    @pytest.fixture(
        params=[
            ("model", "ema"),
            ("model", "model_ema"),
            ("state_dict", "state_dict_ema"),
            ("net", "ema_state_dict"),
        ],
        ids="-".join,
    )
    def both(self, request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str, str]:
        plain, averaged = request.param
        content = {plain: state_dict(), averaged: state_dict(seed=1)}
        torch.save(content, tmp_path / "both.pt")
        return tmp_path / "both.pt", plain, averaged

    def test_they_are_listed_with_what_to_write(self, both: tuple[Path, str, str]) -> None:
        path, plain, averaged = both
        for command in (inspect, validate):
            with pytest.raises(RefusedError, match="holds 2 SAM 2 state dicts") as caught:
                command(path)
            for key in (plain, averaged):
                assert f"weights={key})`" in str(caught.value.hint)
                assert command(path, weights=key).exit_code == 0

    @pytest.mark.parametrize(("index", "kind"), [(1, "model"), (2, "ema")])
    def test_one_is_chosen_by_its_key_or_kind(
        self, tmp_path: Path, both: tuple[Any, ...], index: int, kind: str
    ) -> None:
        for number, choice in enumerate((both[index], kind)):
            target = tmp_path / f"{number}.pt"
            assert run("convert", both[0], target, "--weights", choice).exit_code == 0
            same_as_state_dict(target, seed=index - 1)

    def test_a_part_of_one_counts(self, tmp_path: Path) -> None:
        decoder = {n: t for n, t in state_dict().items() if n.startswith("sam_mask_decoder.")}
        torch.save({"model": state_dict(), "ema": decoder}, tmp_path / "both.pt")
        with pytest.raises(RefusedError, match="holds 2"):
            inspect(tmp_path / "both.pt")

    @pytest.mark.parametrize("choice", [{"prefix": "b"}, {"prefix": "b."}])
    def test_one_of_two_in_a_larger_model_is_chosen_by_prefix(
        self, tmp_path: Path, choice: dict[str, str]
    ) -> None:
        two = {**prefixed("a.")(state_dict()), **prefixed("b.")(state_dict(seed=1))}
        save_file(two, tmp_path / "two.safetensors")
        with pytest.raises(RefusedError) as caught:
            convert(tmp_path / "two.safetensors", tmp_path / "one.pt")
        assert re.findall(r"prefix=(.*?)\)`", str(caught.value.hint)) == ["a.", "b."]
        convert(tmp_path / "two.safetensors", tmp_path / "one.pt", **choice)  # type: ignore[arg-type]
        same_as_state_dict(tmp_path / "one.pt", seed=1)

    @pytest.mark.parametrize(
        ("choice", "seed"), [({"prefix": ""}, 0), ({"prefix": "ema"}, 1), ({"weights": "ema"}, 1)]
    )
    def test_one_within_the_prefix_of_the_other(
        self, tmp_path: Path, choice: dict[str, str], seed: int
    ) -> None:
        save_file({**state_dict(), **prefixed("ema.")(state_dict(seed=1))}, tmp_path / "two.st")
        convert(tmp_path / "two.st", tmp_path / "one.pt", **choice)  # type: ignore[arg-type]
        same_as_state_dict(tmp_path / "one.pt", seed=seed)

    def test_the_top_level_has_a_name(self, tmp_path: Path) -> None:
        torch.save({**state_dict(), "ema": state_dict(seed=1)}, tmp_path / "both.pt")
        with pytest.raises(RefusedError) as caught:
            inspect(tmp_path / "both.pt")
        assert re.findall(r"weights=(.*?)\)`", str(caught.value.hint)) == [".", "ema"]
        convert(tmp_path / "both.pt", tmp_path / "one.pt", weights=".")
        same_as_state_dict(tmp_path / "one.pt")

    @pytest.mark.parametrize(
        "choice", [{"weights": "ema"}, {"weights": "optimizer"}, {"prefix": "module."}]
    )
    def test_what_is_not_there_is_refused(self, tmp_path: Path, choice: dict[str, str]) -> None:
        option = " ".join(f"`{name}={value}`" for name, value in choice.items())
        with pytest.raises(RefusedError, match=f"no state dict for {option}; there is model "):
            inspect(trained(tmp_path / "m.pt"), **choice)  # type: ignore[arg-type]

    @pytest.mark.parametrize("command", ["convert", "validate"])
    def test_parity_does_not_choose(self, tmp_path: Path, command: str) -> None:
        pt = official_pt(tmp_path / "m.pt")
        after = ("x.pt", "--parity") if command == "convert" else ("--parity", pt)
        result = run(command, pt, *after, "--weights", "model")
        assert result.exit_code == 2
        assert f"sam21convert convert {pt} OUT.pt --weights model writes those" in result.stderr
