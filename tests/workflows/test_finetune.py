"""``finetune``: what it writes and says of it, what stays as it was, and what it refuses."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import fields
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft.tuners.lora import LoraLayer

import sam21convert
from sam21convert import packages
from sam21convert.checkpoint.diff.api import diff
from sam21convert.config.registry import shipped_config
from sam21convert.errors import MismatchError, RefusedError, UsageError
from sam21convert.model.sam2 import SAM2
from sam21convert.training import step
from sam21convert.training.follow import follow
from sam21convert.training.losses import losses
from sam21convert.workflows.finetune import lora
from sam21convert.workflows.finetune.names import TRAIN
from sam21convert.workflows.finetune.outputs import REPORT
from sam21convert.workflows.finetune.parts import choose
from sam21convert.workflows.finetune.report import Finetuned
from sam21convert.workflows.finetune.saved import CHECKPOINT, CHECKPOINTS, LORA

from ..commands.test_commands import run
from ..support import moving_shapes as made
from ..support.answers import conforms
from ..support.checkpoints import DEBUG, DEBUG_20, official_pt
from ..support.many_videos import seeing
from ..support.official import randomise
from ..support.paths import DOCS, ROOT

Trained = dict[str, Any]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return official_pt(tmp_path_factory.mktemp("base") / "base.pt", seeing(DEBUG))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.pictures(tmp_path_factory.mktemp("data") / "pictures")


def example() -> tuple[str, list[list[str]]]:
    """The program and the commands of the worked example in the documents."""
    text = (DOCS / "finetune.md").read_text().partition("## An example")[2]
    program = re.search(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    commands = re.search(r"^```\n(python make.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert program is not None
    assert commands is not None
    return program[1], [shlex.split(line) for line in commands[1].splitlines()]


def quick(words: list[str]) -> list[str]:
    """The arguments of a command, with less to do."""
    less = {"--steps": "3", "--image-size": "64"}
    pairs = zip(["", *words], words, strict=False)
    return [less.get(before, word) for before, word in pairs][1:]


@pytest.fixture(scope="module")
def home(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the example begins with."""
    home = tmp_path_factory.mktemp("example")
    (home / "sam2.1_hiera_tiny.pt").symlink_to(base)
    (home / "make.py").write_text(example()[0])
    subprocess.run([sys.executable, "make.py"], cwd=home, check=True)
    return home


@pytest.fixture
def here(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(home)
    return home


@pytest.fixture(scope="module")
def trained(home: Path) -> Trained:
    """The answer of the example."""
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(home)
        made_by, command, *_ = example()[1]
        assert made_by == ["python", "make.py"]
        result = run(*quick(command), "--json")
    assert result.exit_code == 0, result.output
    return conforms(result.stdout)


@pytest.fixture(scope="module")
def clips(home: Path) -> Path:
    return home / "clips"


def test_the_answer_says_what_was_done(trained: Trained, here: Path) -> None:
    assert (trained["base"], trained["out"]) == ("sam2.1_hiera_tiny.pt", "tuned")
    assert (trained["layout"], trained["kind"]) == ("mose", "video")
    assert (trained["pictures"], trained["objects"]) == (48, 8)
    assert (trained["steps"], trained["epochs"], trained["frames"]) == (3, 3 / 8, 4)
    assert trained["rate"] == 1e-4
    assert len(trained["losses"]) == 3
    assert [*trained["held_out"]] == ["0", "1", "2"]
    assert trained["parity"]["ok"]
    scored = trained["evaluation"]
    assert trained["held_out"]["0"] == scored["jf"]
    assert scored["paired"]["jf"] == pytest.approx(scored["against"]["jf"] - scored["jf"])
    assert json.loads(Path("tuned", REPORT).read_text()) == trained


def test_the_rest_of_the_example_runs(trained: Trained, here: Path) -> None:
    _, _, evaluate, push = example()[1]
    found = conforms(run(*quick(evaluate), "--json").stdout)
    assert found["against"]["jf"] == trained["evaluation"]["against"]["jf"]
    done = run(*push[1:], "--parity", "none", "--output", "look")
    assert done.exit_code == 0, done.output
    card = Path("look/README.md").read_text()
    assert "| Trained | `decoder`, 1,651,621 values |" in card
    assert "| This model |" in card
    assert "pipeline_tag: mask-generation" in card
    assert "from_pretrained" in card


def test_nothing_but_the_decoder_has_changed(trained: Trained, here: Path) -> None:
    found = diff(trained["base"], trained["weights"])
    changed = {one.name for one in found.tensors if one.outcome != "identical"}
    assert changed
    assert {name.partition(".")[0] for name in changed} == {"sam_mask_decoder"}
    assert not found.only_a
    assert not found.only_b


def test_the_checkpoint_is_that_of_the_official_trainer(trained: Trained, here: Path) -> None:
    content = torch.load(trained["checkpoint"], weights_only=True)
    official = {"model", "optimizer", "epoch", "loss", "steps", "time_elapsed"}
    assert {*content} == official | {"best_meter_values"}
    assert content["steps"] == {"train": 3, "val": 0}
    assert content["epoch"] == 1
    assert content["best_meter_values"] == {"J&F": max(trained["held_out"].values())}
    SAM2(shipped_config(DEBUG)).load_state_dict(content["model"], strict=True)


def test_all_forms_have_the_same_weights(trained: Trained, here: Path) -> None:
    for form in ("weights", "transformers"):
        assert sam21convert.diff(trained["checkpoint"], trained[form]).same


def test_tensorboard_has_the_losses(trained: Trained, here: Path) -> None:
    pytest.importorskip("tensorboard")
    reader: Any = import_module("tensorboard.backend.event_processing.event_accumulator")
    events = reader.EventAccumulator(str(Path(trained["out"]) / "logs"))
    events.Reload()
    assert [one.step for one in events.Scalars("loss/total")] == [1, 2, 3]
    means = [one.value for one in events.Scalars("loss/total")]
    assert means == pytest.approx(trained["losses"])
    assert [one.step for one in events.Scalars("J&F")] == [1, 2]


def told(*, holds: bool, before: float, after: float) -> Finetuned:
    """An answer whose comparisons found this."""
    problems = () if holds else ("point differs",)
    parity = SimpleNamespace(ok=holds, exit_code=int(not holds), problems=problems, command="more")
    second = SimpleNamespace(jf=after, j=after, f=after)
    scored = SimpleNamespace(jf=before, j=before, f=before, against=second, exit_code=0)
    scored.shown = list
    facts: dict[str, Any] = dict.fromkeys(field.name for field in fields(Finetuned))
    facts |= {"parity": parity, "evaluation": scored, "changed": SimpleNamespace(modules=())}
    facts |= {"transformers": Path("t"), "weights": Path("w"), "kind": "images", "notes": ()}
    facts |= {"losses": (1.0,), **dict.fromkeys(("pictures", "objects", "steps", "trained"), 1)}
    return Finetuned(**{**facts, "seconds": 1.0, "epochs": 1.0})


def test_what_does_not_hold_is_a_no() -> None:
    good, bad = told(holds=True, before=1, after=2), told(holds=False, before=1, after=2)
    assert (good.exit_code, bad.exit_code) == (0, 1)
    assert "t computes what w does" in str(good)
    assert "point differs" in str(bad)
    assert "computes what" not in str(bad)


def test_a_lower_score_is_warned_of() -> None:
    assert told(holds=True, before=1, after=2).alerts() == ()
    assert told(holds=True, before=2.5, after=1).alerts() == (
        "J&F on the held-out videos fell by 1.5, from 2.5 to 1.0",
    )


def model() -> SAM2:
    found = SAM2(shipped_config(DEBUG))
    randomise(found, 0)
    return found


@pytest.mark.parametrize("train", TRAIN)
def test_what_is_trained_is_what_is_named(train: Any) -> None:
    target = model()
    count = choose(target, train)
    names = {name for name, one in target.named_parameters() if one.requires_grad}
    adapted = {name for name in names if ".lora_" in name}
    rooms = {name.partition(".")[0] for name in names - adapted}
    everything = {name.partition(".")[0] for name in model().state_dict()}
    expected: dict[str, set[str]] = {
        "decoder": {"sam_mask_decoder"},
        "decoder+prompt": {"sam_mask_decoder", "sam_prompt_encoder"},
        "encoder-lora": {"sam_mask_decoder"},
        "all": everything,
    }
    assert rooms == expected[train]
    assert bool(adapted) == (train == "encoder-lora")
    assert count == sum(one.numel() for one in target.parameters() if one.requires_grad)


def test_a_merged_lora_is_what_peft_merges() -> None:
    plain, target = model(), model()
    lora.add_lora(target)
    fresh = lora.merged(target)
    assert {*fresh} == {*plain.state_dict()}
    assert all(torch.equal(fresh[name], one) for name, one in plain.state_dict().items())

    torch.manual_seed(0)
    for tensor in lora.lora_of(target).values():
        tensor.copy_(torch.randn_like(tensor))
    found = lora.merged(target)
    layers = {name: one for name, one in target.named_modules() if isinstance(one, LoraLayer)}
    changed = {
        name for name, one in plain.state_dict().items() if not torch.equal(found[name], one)
    }
    assert changed == {f"{name}.weight" for name in layers}
    for name, layer in layers.items():
        layer.merge()
        assert torch.equal(found[f"{name}.weight"], layer.get_base_layer().weight)
    plain.load_state_dict(found, strict=True)


def without_outputs(patched: pytest.MonkeyPatch) -> None:
    """What is written at the end is tested with the example."""

    def end(*_: Any) -> None:
        raise UsageError("all steps are done")

    patched.setattr("sam21convert.workflows.finetune.run.write_outputs", end)


def test_a_lora_is_trained_and_merged(
    base: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []

    class Told(sam21convert.Progress):
        def tell(self, text: str) -> None:
            told.append(text)

    without_outputs(monkeypatch)
    asked: Any = {"train": "encoder-lora", "steps": 2, "progress": Told()}
    with pytest.raises(UsageError, match="all steps are done"):
        sam21convert.finetune(base, pictures, tmp_path / "out", **asked)
    assert [text.partition(" ")[0] for text in told] == ["loss"] * 2
    assert told[-1].endswith(", 0:00 left")

    saved = tmp_path / "out" / CHECKPOINTS
    content = torch.load(saved / CHECKPOINT, weights_only=True)["model"]
    before = torch.load(base, weights_only=True)["model"]
    changed = {name for name, one in before.items() if not torch.equal(one, content[name])}
    encoder = {name for name in changed if not name.startswith("sam_mask_decoder")}
    assert encoder
    assert all(name.endswith((".attn.qkv.weight", ".attn.proj.weight")) for name in encoder)

    again = model()
    again.load_state_dict(before)
    lora.add_lora(again)
    lora.load_lora(again, torch.load(saved / LORA, weights_only=True))
    merged = lora.merged(again)
    assert all(torch.equal(merged[name], content[name]) for name in encoder)


def stopping(number: int, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a signal arrive in the middle of a step."""
    real, calls = follow, iter(range(1, 99))

    def ringing(*given: Any) -> Any:
        if next(calls) == at:
            os.kill(os.getpid(), number)
        return real(*given)

    monkeypatch.setattr(step, "follow", ringing)


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_a_signal_saves_the_step_and_says_how_to_go_on(
    number: int,
    code: int,
    said: str,
    base: Path,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stopping(number, 2, monkeypatch)
    result = run("finetune", base, pictures, tmp_path / "out", "--steps", 3)
    assert result.exit_code == code
    assert result.stderr == (
        f"error: {said}\nhint: 2 of 3 steps are saved; the same with --resume goes on\n"
    )


def test_a_stopped_run_goes_on_to_the_same_bits(
    trained: Trained, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [word for word in quick(example()[1][1]) if word not in ("--eval", "held-out")]
    words[words.index("tuned")] = "stopped"
    path = Path("stopped", CHECKPOINTS, CHECKPOINT)
    with monkeypatch.context() as patched:
        stopping(signal.SIGTERM, 2, patched)
        assert run(*words).exit_code == 143
    halfway = torch.load(path, weights_only=True)
    assert halfway["steps"]["train"] == 2

    again = run(*words)
    assert again.exit_code == 2
    assert "holds a fine-tune already" in again.stderr
    other = run(*words, "--seed", 4, "--resume")
    assert other.exit_code == 2
    assert "seed was 0, and is now 4" in other.stderr

    without_outputs(monkeypatch)
    assert run(*words, "--resume").stderr == "error: all steps are done\n"
    found = torch.load(path, weights_only=True)
    expected = torch.load(trained["checkpoint"], weights_only=True)
    assert same(found["model"], expected["model"])
    assert same(found["optimizer"], expected["optimizer"])
    assert not same(found["model"], halfway["model"])  # control


def same(one: Any, other: Any) -> bool:
    """Whether two trees of values are equal to the bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "images and video": ({"images": True, "video": True}, "`images` and `video` exclude"),
    "steps and epochs": ({"steps": 1, "epochs": 1}, "`steps` and `epochs` exclude"),
    "no steps": ({"steps": 0}, "`steps=0`: expected a number above 0"),
    "a rate below nothing": ({"lr": -1.0}, "`lr=-1.0`: expected a number above 0"),
    "no rate": ({"lr": float("nan")}, "`lr=nan`: expected a number above 0"),
    "what nobody trains": ({"train": "head"}, "`train=head`: expected one of decoder"),
    "pictures as clips": ({"video": True}, "holds pictures, and clips are of videos"),
    "a side of no model": ({"image_size": 100}, "image_size"),
    "no such device": ({"device": "cuda:77"}, "device cuda:77"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_makes_no_sense_is_refused(
    name: str, base: Path, pictures: Path, tmp_path: Path
) -> None:
    arguments, said = REFUSED[name]
    with pytest.raises(UsageError) as caught:
        sam21convert.finetune(base, pictures, tmp_path / "out", **arguments)
    assert said in caught.value.message
    assert not (tmp_path / "out").exists()


def test_a_config_of_another_generation_is_refused(
    base: Path, pictures: Path, tmp_path: Path
) -> None:
    with pytest.raises(MismatchError, match="does not fit dialect"):
        sam21convert.finetune(base, pictures, tmp_path / "out", config=DEBUG_20)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_else_is_refused(
    base: Path, pictures: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    for resume in (False, True):
        with pytest.raises(UsageError, match="exists") as refused:
            sam21convert.finetune(base, pictures, tmp_path, resume=resume)
        assert refused.value.hint == "give another name"
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_nothing_is_written_among_the_data(base: Path, pictures: Path) -> None:
    before = sorted(pictures.rglob("*"))
    with pytest.raises(UsageError, match="would be written among the data"):
        sam21convert.finetune(base, pictures, pictures / "out")
    assert sorted(pictures.rglob("*")) == before


def test_the_base_is_not_written_over(
    base: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_outputs(monkeypatch)
    with pytest.raises(UsageError, match="all steps are done"):
        sam21convert.finetune(base, pictures, tmp_path / "out", steps=1)
    inside = tmp_path / "out" / "model.pt"
    inside.write_bytes(base.read_bytes())
    with pytest.raises(UsageError, match="where the results are written"):
        sam21convert.finetune(inside, pictures, tmp_path / "out", steps=1, resume=True)


def test_videos_that_are_trained_on_score_nothing(base: Path, clips: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="video clip0 is among those to train on"):
        sam21convert.finetune(base, clips, tmp_path / "out", frames=2, evaluate=clips)


def test_a_loss_that_is_no_number_ends_it(
    base: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*given: Any) -> Any:
        found = losses(*given)
        return found._replace(total=found.total * float("nan"))

    monkeypatch.setattr(step, "losses", broken)
    with pytest.raises(RefusedError, match="the loss of step 1 is nan"):
        sam21convert.finetune(base, pictures, tmp_path / "out", steps=1)


@pytest.mark.parametrize("name", ["accelerate", "peft", "torchvision"])
def test_a_package_that_is_missing_is_named_with_the_command_that_installs_it(
    name: str, base: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda one: None if one == name else find_spec(one))
    with pytest.raises(UsageError) as caught:
        sam21convert.finetune(base, pictures, tmp_path / "out")
    assert caught.value.message == f"finetune: needs {name}, which is not installed"
    assert "[train]" in str(caught.value.hint)


def untaught(path: Path) -> Path:
    """Weights as a model begins with, which find nothing."""
    torch.manual_seed(0)
    found = SAM2(shipped_config(DEBUG))
    for weight in found.parameters():
        if weight.ndim > 1 and not weight.any():
            torch.nn.init.normal_(weight, std=0.02)
    return official_pt(path, found.state_dict())


@pytest.mark.slow
def test_it_learns(tmp_path: Path) -> None:
    """Within five minutes on two cores J&F rises by 20 points on videos that it has not seen."""
    clips = made.videos(tmp_path / "clips", range(24), objects=1)
    held = made.videos(tmp_path / "held", range(100, 104), objects=1)
    done = sam21convert.finetune(
        untaught(tmp_path / "base.pt"),
        clips,
        tmp_path / "out",
        train="all",
        lr=1e-3,
        frames=3,
        steps=120,
        evaluate=held,
    )
    assert done.evaluation is not None
    assert done.evaluation.paired is not None
    assert done.evaluation.paired.jf is not None
    print(f"J&F {done.held_out}, then {done.evaluation.against}, in {done.seconds} s")
    assert done.evaluation.paired.jf >= 20
    assert done.seconds < 300


def launched(program: str, folder: Path, *words: object) -> str:
    """What two processes print that run a program together."""
    (folder / "program.py").write_text(program)
    launch = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "program.py"]
    done = subprocess.run(
        [sys.executable, *launch, *map(str, words)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_several_processes_train_together(base: Path, tmp_path: Path) -> None:
    """On a CPU: each has a clip of its own, all have the same weights, and one answers."""
    pictures = made.pictures(tmp_path / "pictures")
    program = "import tests.conftest; from sam21convert.__main__ import start; start()"
    words = ["finetune", base, pictures, "out", "--steps", "3", "--device", "cpu", "--json"]
    found = conforms(launched(program, tmp_path, *words))
    assert (found["processes"], found["epochs"]) == (2, 2.0)

    # The second process has a say: alone, the first comes to other weights.
    content = torch.load(tmp_path / found["checkpoint"], weights_only=True)["model"]
    alone = sam21convert.finetune(base, pictures, tmp_path / "alone", steps=3, device="cpu")
    other = torch.load(alone.checkpoint, weights_only=True)["model"]
    assert not same(content, other)


@pytest.mark.slow
def test_several_processes_average_their_gradients(tmp_path: Path) -> None:
    """Where only some have a gradient, that of the others counts as 0."""
    program = """
import tests.conftest
import torch
from sam21convert.workflows.finetune.processes import Together

together = Together("cpu")
every, second, none = (torch.nn.Parameter(torch.zeros(2, 3)) for _ in range(3))
every.grad = torch.full((2, 3), 1.0 + together.rank)
second.grad = torch.full((2, 3), 4.0) if together.rank else None
together.average([every, second, none])
assert torch.equal(every.grad, torch.full((2, 3), 1.5))
assert torch.equal(second.grad, torch.full((2, 3), 2.0))
assert none.grad is None
assert together.mean(together.rank) == 0.5
print("averaged")
"""
    assert launched(program, tmp_path).count("averaged") == 2
