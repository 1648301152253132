"""A fine-tune that is killed leaves a whole checkpoint, and goes on from it to the same weights."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision  # noqa: F401 - or the tests are skipped

from ..support import moving_shapes as made
from ..support.checkpoints import DEBUG, official_pt
from ..support.killing import KILLED, Killable, Moment, killable
from ..support.many_videos import seeing

STEPS = 4
SMALL = ("--train", "all", "--image-size", "64")
HOME = "sam21convert.workflows.finetune"
ATOMIC = "sam21convert.io.output.atomic"
TRAINED = Moment(f"{HOME}.run:write_outputs")  # what comes after is not trained
# In the middle of what, and after how many steps the last checkpoint then is.
MOMENTS: dict[str, tuple[Moment, int]] = {
    "the third checkpoint is written, and has no name": (Moment(f"{ATOMIC}:exchange", 2), 2),
    "the second checkpoint has its name": (Moment(f"{ATOMIC}:exchange", 1, after=True), 2),
    "the second step is drawn": (Moment(f"{HOME}.loop:SimulatedPrompts", 2), 1),
    "the folder is made": (Moment(f"{HOME}.loop:Batches"), 0),
    **{
        f"step {n} is followed": (Moment("sam21convert.training.step:follow", n), n - 1)
        for n in (1, 2, 3, 4)
    },
    **{
        f"step {n} is followed, nothing changed": (
            Moment("sam21convert.training.step:follow", n, after=True),
            n - 1,
        )
        for n in (1, 4)
    },
    **{f"checkpoint {n} is begun": (Moment(f"{HOME}.loop:save", n), n - 1) for n in (1, 2, 3, 4)},
    **{f"checkpoint {n} is made": (Moment(f"{HOME}.loop:save", n, after=True), n) for n in (1, 4)},
    "the folder has no name": (Moment(f"{ATOMIC}:take_name", 1), 0),
    "the folder has its name": (Moment(f"{ATOMIC}:take_name", 1, after=True), 0),
    "the first checkpoint has no name": (Moment(f"{ATOMIC}:take_name", 2), 0),
    "the first checkpoint has its name": (Moment(f"{ATOMIC}:take_name", 2, after=True), 1),
    "the last checkpoint has no name": (Moment(f"{ATOMIC}:exchange", 3), 3),
    "the last checkpoint is on its way to the disk": (Moment(f"{ATOMIC}:sync_tree", 5), 3),
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("killed")
    official_pt(home / "base.pt", seeing(DEBUG))
    made.pictures(home / "pictures")
    return home


@pytest.fixture(scope="module")
def commands(home: Path) -> Iterator[Killable]:
    with killable(home, "tests.conftest", "tests.support.saving_often") as commands:
        yield commands


def tuned(commands: Killable, home: Path, out: str, at: Moment, *more: str) -> dict[str, Any]:
    """Train until the moment; what is saved then, after all that is left of a run is recovered."""
    words = ["finetune", str(home / "base.pt"), str(home / "pictures"), str(home / out), *more]
    status, _ = commands.run(*words, "--steps", str(STEPS), *SMALL, at=at)
    assert status == KILLED
    path = home / out / "checkpoints" / "checkpoint.pt"
    if not path.exists():
        return {"steps": {"train": 0}}
    found: dict[str, Any] = torch.load(path, weights_only=True)
    return found


def digest(content: dict[str, Any]) -> str:
    """Of the weights and of the optimiser, to the bit."""
    found = hashlib.sha256()
    for name, tensor in content["model"].items():
        found.update(name.encode() + tensor.numpy().tobytes())
    for number, state in content["optimizer"]["state"].items():
        for name, value in state.items():
            found.update(f"{number} {name}".encode() + value.numpy().tobytes())
    return found.hexdigest()


@pytest.fixture(scope="module")
def expected(commands: Killable, home: Path) -> str:
    return digest(tuned(commands, home, "never_killed", TRAINED))


def test_it_goes_on_though_it_is_killed_twice(
    commands: Killable, home: Path, expected: str
) -> None:
    at, steps = MOMENTS["the second checkpoint has its name"]
    assert tuned(commands, home, "twice", at)["steps"]["train"] == steps
    again = Moment(f"{ATOMIC}:exchange", 1)  # the next checkpoint is written, and has no name
    killed = tuned(commands, home, "twice", again, "--resume")
    assert killed["steps"]["train"] == steps
    assert digest(killed) != expected  # control
    assert digest(tuned(commands, home, "twice", TRAINED, "--resume")) == expected
    assert not [path.name for path in (home / "twice").iterdir() if path.name.startswith(".")]


@pytest.mark.slow
@pytest.mark.parametrize("name", MOMENTS)
def test_it_goes_on_to_the_same_weights(
    name: str, commands: Killable, home: Path, expected: str
) -> None:
    at, steps = MOMENTS[name]
    out = f"out{[*MOMENTS].index(name)}"
    killed = tuned(commands, home, out, at)
    assert killed["steps"]["train"] == steps
    assert steps == STEPS or "model" not in killed or digest(killed) != expected  # control
    done = tuned(commands, home, out, TRAINED, "--resume")
    assert done["steps"]["train"] == STEPS
    assert digest(done) == expected
    left = [path.name for path in (home / out).iterdir() if path.name.startswith(".")]
    assert not left


def test_there_are_twenty_moments() -> None:
    assert len(MOMENTS) >= 20
