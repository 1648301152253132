"""Commands that are killed in the middle of their work leave the old or the new, and nothing else.

Where in the work each kill fell is seen from outside: in the files that lie there unfinished, and
in what has arrived at the Hub.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import sam21convert
from sam21convert.prediction.media import new_video

from ..support.checkpoints import DEBUG
from ..support.crashing import Tree, tree
from ..support.killing import (
    KILLED,
    Killable,
    Look,
    Moment,
    all_objects,
    committed,
    half_of_an_object,
    killable,
    one_object,
    verifying,
)

REPO = "org/my-sam2"
FRAMES, SIDE = 6, 64
PUBLISH = "sam21convert.workflows.publish.repository"
ATOMIC = "sam21convert.io.output.atomic"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    sam21convert.sample(home / "old.pt", DEBUG)
    sam21convert.sample(home / "new.pt", DEBUG, seed=1)
    frames = np.random.default_rng(0).integers(0, 256, (FRAMES, SIDE, SIDE, 3), np.uint8)
    with new_video(home / "in.mp4", Fraction(10), SIDE, SIDE) as append:
        for frame in frames:
            append(frame)
    return home


@pytest.fixture(scope="module")
def commands(home: Path) -> Iterator[Killable]:
    with killable(home) as commands:
        yield commands


# Where a push is killed; how many of its two objects the Hub then has, and what main holds.
PUSH: dict[str, tuple[Moment | Look, int, str]] = {
    "half of the model is converted": (Moment("sam21convert.io.data.copy:_copy", 100), 0, "old"),
    "it is converted, the official file not begun": (
        Moment(f"{PUBLISH}:_write_official"),
        0,
        "old",
    ),
    "half of an object has arrived": (half_of_an_object, 0, "old"),
    "one of two objects has arrived": (one_object, 1, "old"),
    "both have arrived, the commit has not": (all_objects, 2, "old"),
    "the commit is made and not answered": (committed, 2, "new"),
    "it is answered, what it holds not verified": (verifying, 2, "new"),
}
OFTEN = {
    "half of the model is converted",
    "one of two objects has arrived",
    "both have arrived, the commit has not",
    "the commit is made and not answered",
}


class Pushing:
    """Pushes a new checkpoint over an old one, time and again."""

    def __init__(self, commands: Killable, home: Path) -> None:
        self.commands, self.home = commands, home
        self.repo = commands.hub.create(REPO)
        self.push("old.pt")
        self.old = self.repo.head()
        self.push("new.pt")
        self.new = self.repo.head()
        changed = {*self.new.files.values()} - {*self.old.files.values()}
        self.objects = {blob.sha256 for blob in changed if blob.lfs}

    def push(self, source: str, at: Moment | Look | None = None) -> tuple[int, str]:
        words = ["push", str(self.home / source), REPO, "--to", "hf-image", "--parity", "none"]
        return self.commands.run(*words, "--with-official", "--json", at=at)

    def reset(self) -> None:
        """The old state."""
        self.repo.refs["refs/heads/main"] = self.old.id
        for sha256 in self.objects:
            self.repo.objects.path(sha256).unlink(missing_ok=True)
        self.commands.hub.requests.clear()

    def stored(self) -> int:
        """How many of the new objects the Hub has."""
        return sum(self.repo.objects.path(sha256).exists() for sha256 in self.objects)

    def state(self) -> str:
        """Which files main holds."""
        states = {"old": self.old.files, "new": self.new.files}
        return next((name for name, files in states.items() if files == self.repo.files()), "mixed")


@pytest.fixture(scope="module")
def pushing(commands: Killable, home: Path) -> Pushing:
    return Pushing(commands, home)


@pytest.mark.parametrize(
    "name", [pytest.param(at, marks=[pytest.mark.slow] * (at not in OFTEN)) for at in PUSH]
)
def test_a_push_that_is_killed(pushing: Pushing, name: str) -> None:
    at, stored, state = PUSH[name]
    hub, scratch = pushing.commands.hub, pushing.commands.scratch
    pushing.reset()
    status, _ = pushing.push("new.pt", at)
    assert (status, pushing.stored(), pushing.state()) == (KILLED, stored, state)

    [left] = scratch.iterdir()
    [model] = left.rglob("model.safetensors")
    finished = model.parent.name == "repository"
    assert finished == (name != "half of the model is converted")
    assert (bytes(4096) in model.read_bytes()) != finished  # the room for what is not written yet
    by_the_hub = not isinstance(at, Moment)
    assert (model.parent / "README.md").exists() == by_the_hub
    assert bool(hub.asked("PUT")) == by_the_hub
    assert bool(hub.asked("POST", "*/commit/*")) == (state == "new")

    hub.requests.clear()
    status, out = pushing.push("new.pt")
    assert (status, pushing.stored(), pushing.state()) == (0, 2, "new")
    assert json.loads(out)["uploaded"] == (state == "old")
    assert len(hub.asked("PUT")) == 2 - stored  # what the Hub has already is not sent again
    assert list(scratch.iterdir()) == []


def test_a_mixture_of_old_and_new_is_detected(pushing: Pushing) -> None:
    """Control."""
    pushing.reset()
    pushing.repo.write({"config.json": b"{}"})
    assert pushing.state() == "mixed"


# Where a prediction is killed; how many masks, drawings and films are unfinished then, of 6, 6 and
# 1; and what the output folder holds.
VIDEO = {
    "the third mask is written": (Moment("following", 3), (3, 0, 0), "old"),
    "the third frame is drawn": (Moment("drawing", 3), (6, 3, 0), "old"),
    "all is written, and not on the disk": (Moment(f"{ATOMIC}:sync_tree"), (6, 6, 1), "old"),
    "it is on the disk, and has no name": (Moment(f"{ATOMIC}:exchange"), (6, 6, 1), "old"),
    "it has its name, what it replaces is there": (
        Moment(f"{ATOMIC}:exchange", after=True),
        (6, 6, 1),
        "new",
    ),
}
NEW = {
    **{name: VIDEO[name] for name in [*VIDEO][:3]},
    "it is on the disk, and has no name": (Moment(f"{ATOMIC}:take_name"), (6, 6, 1), "old"),
    "it has its name": (Moment(f"{ATOMIC}:take_name", after=True), (0, 0, 0), "new"),
}
RARE = {"all is written, and not on the disk", "it is on the disk, and has no name"}


class Following:
    """Follows an object through a video, into a new folder or over an earlier prediction."""

    def __init__(self, commands: Killable, home: Path) -> None:
        self.commands, self.home = commands, home
        self.out, self.kept = home / "followed" / "out", home / "kept"
        self.out.parent.mkdir()
        self.run(9)
        shutil.copytree(self.out.parent, self.kept)
        self.old = self.seen()
        self.run(40)
        self.new = self.seen()
        assert self.old != self.new

    def run(self, x: int, at: Moment | None = None) -> int:
        words = ["predict", "video", str(self.home / "in.mp4"), "-o", str(self.out), "--overwrite"]
        words += ["--checkpoint", str(self.home / "old.pt"), "--point", f"thing:{x},{x}"]
        return self.commands.run(*words, at=at)[0]

    def reset(self, *, over: bool) -> None:
        """The old state, or nothing."""
        shutil.rmtree(self.out.parent)
        shutil.copytree(self.kept, self.out.parent) if over else self.out.parent.mkdir()

    def seen(self) -> Tree:
        return tree(self.out.parent, hidden=False)

    def unfinished(self) -> tuple[int, int, int]:
        """The number of masks, drawings and films under a temporary name."""
        home = self.out.with_name(".out.sam21.tmp")
        masks, drawings = home.glob("masks/thing/*.png"), home.glob("frames/*.jpg")
        return len([*masks]), len([*drawings]), len([*home.glob("video.mp4")])


@pytest.fixture(scope="module")
def following(commands: Killable, home: Path) -> Following:
    return Following(commands, home)


@pytest.mark.parametrize(
    ("name", "over"),
    [
        pytest.param(name, over, marks=[pytest.mark.slow] * (name in RARE or over != often))
        for over, moments in ((True, VIDEO), (False, NEW))
        for name in moments
        for often in [name != "it has its name" and name != "the third frame is drawn"]
    ],
)
def test_a_prediction_that_is_killed(following: Following, name: str, over: bool) -> None:
    at, unfinished, state = (VIDEO if over else NEW)[name]
    following.reset(over=over)
    old = following.seen()
    assert following.run(40, at) == KILLED
    assert following.unfinished() == unfinished
    assert following.seen() == (following.new if state == "new" else old)

    assert following.run(40) == 0
    assert following.seen() == following.new
    assert [path.name for path in following.out.parent.iterdir()] == ["out"]


def test_a_kill_that_does_not_fall_is_detected(following: Following) -> None:
    """Control: a moment that never comes."""
    following.reset(over=True)
    assert following.run(40, Moment("following", FRAMES + 1)) == 0
