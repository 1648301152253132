"""Kill conversions line by line: ``python -m tests.support.crashing POINTS FOLDER BREAK NAME...``.

A child process traces the lines of the modules that write, and kills itself before the n-th. What
it leaves is judged, then the same is run again, and judged again. Prints a line of JSON for each
scenario: what was found how often, and what was wrong.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import sam21convert
from sam21convert.conversion import write as writing
from sam21convert.conversion.options import ConvertOptions
from sam21convert.conversion.plan import Plan, make_plan
from sam21convert.conversion.write import carry_out
from sam21convert.errors import UsageError
from sam21convert.io import safetensors, torch_writer
from sam21convert.io.data import copy as copying
from sam21convert.io.output import atomic, staging
from sam21convert.io.output import rename as renaming
from sam21convert.report import SILENT
from sam21convert.workflows.batch import journal
from sam21convert.workflows.batch import run as batch_run

from .checkpoints import DEBUG

# Where names are given and taken, which is where a moment matters; and where bytes are written.
STEPS = {str(module.__file__) for module in (atomic, staging, renaming, journal, shutil)}
TRACED = STEPS | {str(module.__file__) for module in (copying, safetensors, torch_writer, writing)}
Tree = dict[str, bytes]
MODE = 0o640  # of every file that is there before


@dataclass(frozen=True)
class Scenario:
    """Where to write, over what, and whether all of it is one step of the file system."""

    name: str
    options: Mapping[str, Any]
    before: Mapping[str, Any] | None = None  # options of the output that is there; None: nothing
    one_step: bool = True
    within: bool = False  # run in the folder that is written
    without: str = ""  # what the system cannot do


SETTINGS = {"image_size": 256}
SCENARIOS = {
    "pt": Scenario("out.pt", {}),
    "pt over": Scenario("out.pt", {}, {"dtype": "float16"}),
    "pt without renameat2": Scenario("out.pt", {}, without="renameat2"),
    "safetensors": Scenario("out.safetensors", {}),
    "safetensors over": Scenario("out.safetensors", {}, {"dtype": "float16"}),
    "cast": Scenario("out.safetensors", {"dtype": "float16"}, {}),
    "folder": Scenario("out", {}),
    "folder over": Scenario("out", SETTINGS, {"dtype": "float16"}),
    "folder over, no exchange": Scenario(
        "out", SETTINGS, {"dtype": "float16"}, one_step=False, without="exchange"
    ),
    "folder over, from within": Scenario(
        "out", SETTINGS, {"dtype": "float16"}, one_step=False, within=True
    ),
    "shards": Scenario("out", {"shard_size": "5KB"}),
    "yaml": Scenario("out.pt", SETTINGS, one_step=False),
    "yaml over": Scenario(
        "out.pt", SETTINGS, {"image_size": 512, "dtype": "float16"}, one_step=False
    ),
    "yaml over the same": Scenario("out.pt", SETTINGS, {**SETTINGS, "dtype": "float16"}),
}


def reduced(plan: Plan) -> Plan:
    """The same plan for a few small tensors, so that hundreds of runs take seconds."""

    def few(tensors: Mapping[str, Any]) -> dict[str, Any]:
        small = [name for name, tensor in tensors.items() if tensor.spec.nbytes < 4096]
        return {name: tensors[name] for name in small[:5]}

    shards = {name: few(shard) for name, shard in plan.shards.items() if few(shard)}
    return replace(plan, tensors=few(plan.tensors), shards=dict(list(shards.items())[:3]))


def tree(home: Path, *, hidden: bool) -> Tree:
    """Every file below ``home``, with or without what has a hidden name."""
    return {
        str(path.relative_to(home)): path.read_bytes() if path.is_file() else b"a folder"
        for path in sorted(home.rglob("*"))
        if hidden or not any(part.startswith(".") for part in path.relative_to(home).parts)
    }


def in_child(run: Callable[[], object], kill_at: int | None = None) -> tuple[int, list[bool]]:
    """Run in a process of its own: its status, and of each line traced whether it is of STEPS."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        lines = bytearray()
        lock = threading.Lock()

        def line(frame: FrameType, event: str, argument: object) -> Any:
            if event == "line":
                with lock:
                    lines.append(frame.f_code.co_filename in {*STEPS, __file__})
                    if len(lines) == kill_at:
                        os.kill(os.getpid(), signal.SIGKILL)
            return line

        def call(frame: FrameType, event: str, argument: object) -> Any:
            traced = frame.f_code.co_filename in TRACED or frame.f_code.co_name == "mixing"
            return line if traced else None

        code = 1
        try:
            threading.settrace(call)
            sys.settrace(call)
            run()
            code = 0
        finally:
            sys.settrace(None)
            with os.fdopen(write, "wb") as out:
                out.write(lines)
            os._exit(code)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        traced = [bool(byte) for byte in pipe.read()]
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), traced


def _evenly(numbers: list[int], count: int) -> list[int]:
    count = min(count, len(numbers))
    return [numbers[(2 * place + 1) * len(numbers) // (2 * count)] for place in range(count)]


class Judge:
    """Runs one scenario in ``home`` and says what every kill has left."""

    def __init__(self, scenario: Scenario, home: Path) -> None:
        self.scenario = scenario
        self.home = home / "home"
        self.kept = home / "kept"
        source = home / "source.safetensors"
        self.plan = partial(make_plan, source, self.home / scenario.name)
        self._prepare()

    def _prepare(self) -> None:
        """Make the old state, kept aside, and learn the new one and what lies beside it."""
        self.home.mkdir()
        if self.scenario.before is not None:
            self._write(self.scenario.before, overwrite=False)
            if (self.home / "out").is_dir():
                (self.home / "out" / "logs" / "deep").mkdir(parents=True)
                (self.home / "out" / "logs" / "deep" / "log.txt").write_text("mine")
                (self.home / "out" / "README.md").write_text("mine")
        (self.home / "other.txt").write_text("mine")
        for path in self.home.rglob("*"):
            if path.is_file():
                path.chmod(MODE)
        shutil.copytree(self.home, self.kept)
        self.ready = reduced(self.plan(ConvertOptions(**self.scenario.options, overwrite=True)))
        self.old = tree(self.home, hidden=True)
        self.run_again()
        self.new = tree(self.home, hidden=True)
        assert self.old != self.new

    def _write(self, options: Mapping[str, Any], *, overwrite: bool) -> None:
        plan = reduced(self.plan(ConvertOptions(**options, overwrite=overwrite)))
        carry_out(plan, overwrite=overwrite, verify=True, progress=SILENT)

    def run(self) -> None:
        """What is killed, and what is run next."""
        if self.scenario.within:
            os.chdir(self.home / "out")
        over = self.scenario.before is not None
        carry_out(self.ready, overwrite=over, verify=True, progress=SILENT)

    def run_again(self) -> int:
        """The exit code of a run that nothing kills."""
        try:
            self.run()
        except UsageError as error:
            return error.exit_code
        finally:
            os.chdir(self.home.parent)
        return 0

    def points(self, count: int) -> Iterable[int]:
        """So many moments, evenly over the run, three quarters of them in STEPS or all there are.

        With a number below zero, the last so many in STEPS, which is where names are given.
        """
        self.reset()
        traced = in_child(self.run)[1]
        steps = [number for number, is_step in enumerate(traced, 1) if is_step]
        others = [number for number, is_step in enumerate(traced, 1) if not is_step]
        if count < 0:
            return steps[count:]
        chosen = _evenly(steps, count * 3 // 4)
        return sorted(chosen + _evenly(others, count - len(chosen)))

    def reset(self) -> None:
        """The old state."""
        shutil.rmtree(self.home)
        shutil.copytree(self.kept, self.home)

    def kill(self, point: int) -> str:
        """What stands there after a kill; raises where that is not as it should be."""
        self.reset()
        status, _ = in_child(self.run, kill_at=point)
        assert status == -signal.SIGKILL, status
        seen = tree(self.home, hidden=False)
        left = self._left(seen)
        assert not self._opened(), f"opened to others: {self._opened()}"
        status = self.run_again()
        assert not self._opened(), f"opened to others by the next run: {self._opened()}"
        after = tree(self.home, hidden=True)
        refused = self.scenario.before is None and left != "old"
        assert status == (2 if refused else 0), f"the next run ends with {status}"
        assert after == self.new, f"the next run leaves {sorted(after)}"
        return left

    def _opened(self) -> list[str]:
        """Files that have another mode than what they replace."""
        there = [name for name in self.old if (self.home / name).is_file()]
        return [name for name in there if stat.S_IMODE((self.home / name).stat().st_mode) != MODE]

    def _left(self, seen: Tree) -> str:
        hidden = {(Path(name).name, file) for name, file in tree(self.home, hidden=True).items()}
        begun = any(name.endswith((staging.FILES, staging.FOLDER)) for name, _ in hidden)
        if seen == self.new:
            return "new"
        if seen == self.old:
            return "on its way" if begun else "old"
        weights = [name for name in seen if name.endswith((".pt", ".safetensors"))]
        part = bool(weights) or self.scenario.one_step
        assert not part, f"a part: {sorted(seen)}"
        assert {(Path(name).name, file) for name, file in self.new.items()} <= hidden, "lost"
        return "on its way"


class BatchJudge(Judge):
    """The same for a batch of two: what is recorded as done is done, and a later run ends it."""

    def _prepare(self) -> None:
        shutil.copy(self.plan.args[0], self.plan.args[0].with_name("another.safetensors"))
        batch_run.make_plan = lambda *a, **k: reduced(make_plan(*a, **k))  # type: ignore[attr-defined]
        self.home.mkdir()
        (self.home / "other.txt").write_text("mine")
        shutil.copytree(self.home, self.kept)
        self.run()
        self.new = self._outputs()

    def run(self) -> None:
        sources = [str(self.plan.args[0].with_name(name)) for name in ("*.safetensors",)]
        done = sam21convert.batch(sources, self.home, jobs=1, **self.scenario.options)
        assert done.exit_code == 0, str(done)

    def _outputs(self) -> Tree:
        """All files, but for the record's account of when they were written."""
        files = tree(self.home, hidden=True)
        record = json.loads(files.pop(journal.JOURNAL, b'{"outputs": {}}'))["outputs"]
        return {**files, "states": json.dumps([each["state"] for each in record.values()]).encode()}

    def kill(self, point: int) -> str:
        self.reset()
        status, _ = in_child(self.run, kill_at=point)
        assert status == -signal.SIGKILL, status
        seen = tree(self.home, hidden=False)
        seen.pop(journal.JOURNAL, None)
        assert seen.items() <= self.new.items(), f"a part: {sorted(seen)}"
        outputs = {name.split("/")[0] for name in seen} - {"other.txt"}
        for name in outputs:
            whole = {file for file in self.new if file.startswith(f"{name}/")}
            assert whole <= seen.keys(), f"a part: {sorted(seen)}"
        status = self.run_again()
        assert status == 0, f"the next run ends with {status}"
        after = self._outputs()
        assert after == self.new, f"the next run leaves {sorted(after)}"
        return f"{len(outputs)} of 2"


def lack(what: str) -> None:
    """Take from the system what others do not have."""
    real = renaming._renameat2

    def renameat2(source: Path, target: Path, flags: int) -> None:
        if what == "renameat2" or flags == renaming._EXCHANGE:
            raise OSError(22, "Invalid argument")
        real(source, target, flags)

    renaming._renameat2 = renameat2


def break_it(what: str) -> None:
    """The ways of writing that the promise rules out."""

    def mixing(pending: Path, folder: Path) -> None:
        for file in sorted(pending.iterdir()):
            file.replace(folder / file.name)
        pending.rmdir()

    if what == "permissions":
        vars(atomic)["keep_permissions"] = lambda *_, **__: None
        vars(atomic)["keep_permissions_within"] = lambda *_, **__: None
        vars(staging)["keep_permissions"] = lambda *_, **__: None
    elif what == "in place":
        staging._staging_path = lambda path, suffix, *, inside: path.absolute()
    elif what == "littering":
        vars(atomic)["recover"] = lambda path: None
    else:
        staging.complete = mixing


def report(name: str, count: int, home: Path, broken: str) -> None:
    """Print how many kills left what, and each that left what it must not."""
    scenario = SCENARIOS.get(name, Scenario("", {"suffix": ""}))
    if scenario.without:
        lack(scenario.without)
    judge = (Judge if name in SCENARIOS else BatchJudge)(scenario, home)
    if broken:
        break_it(broken)
    found: Counter[str] = Counter()
    wrong = []
    for point in judge.points(count):
        try:
            found[judge.kill(point)] += 1
        except AssertionError as error:
            wrong.append(f"line {point}: {error}")
    print(json.dumps({"name": name, "found": found, "wrong": wrong}), flush=True)


def main(count: str, folder: str, broken: str, *names: str) -> None:
    """Each scenario in a process of its own, since each changes what all share."""
    os.umask(0o022)
    sam21convert.sample(Path(folder) / "source.safetensors", DEBUG)
    for number, name in enumerate(names):
        home = Path(folder) / str(number)
        home.mkdir()
        shutil.copy(Path(folder) / "source.safetensors", home)
        child = os.fork()
        if child == 0:
            try:
                report(name, int(count), home, broken)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        shutil.rmtree(home)


if __name__ == "__main__":
    main(*sys.argv[1:])
