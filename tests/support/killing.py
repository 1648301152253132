"""Kill commands at moments of their work that are named, and known to fall in the middle of it.

A process imports everything once, and forks for each command. The command kills itself at a step
of its progress or at a call of a function; or the Hub kills it when a request has arrived, and then
hangs up. Unlike ``crashing``, which kills before lines of a few modules, this shows what a command
had done when it died.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import IO, Any, TypeAlias

from .checkpoints import DEBUG
from .hub_server import Hub
from .hub_server.faults import Effect
from .hub_server.messages import Request
from .hub_server.server import _HungUpError
from .paths import ROOT

KILLED = -int(signal.SIGKILL)
LARGE = 1 << 20  # bytes of an object
PROGRAM = "from tests.support.killing import serve; serve({})"


@dataclass(frozen=True)
class Moment:
    """When a command kills itself.

    Attributes:
        what: A stage of the progress bar, or a function as ``module:name``.
        count: How many steps of the stage were done, or which call of the function it is.
        after: Whether the function has returned.
    """

    what: str
    count: int = 1
    after: bool = False


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _arm(moment: Moment) -> None:
    """Change this process, which runs one command only, so that it dies at the moment."""
    module, _, name = moment.what.partition(":")
    if name:
        home = vars(import_module(module))
        home[name] = _counted(home[name], moment)
        return
    from sam21convert.progress import ProgressBar

    begin, advance = ProgressBar.start, ProgressBar.advance
    steps = {"": 0}

    def start(bar: Any, label: str, total: int) -> None:
        steps[label] = 0
        begin(bar, label, total)

    def step(bar: Any, count: int, doing: str = "") -> None:
        advance(bar, count, doing)
        label = [*steps][-1]
        steps[label] += 1
        if (label, steps[label]) == (moment.what, moment.count):
            _die()

    ProgressBar.start = start  # type: ignore[assignment, method-assign]
    ProgressBar.advance = step  # type: ignore[assignment, method-assign]


def _counted(real: Callable[..., Any], moment: Moment) -> Callable[..., Any]:
    """The same function, which dies at one of its calls."""
    calls = count(1)

    def call(*given: Any, **named: Any) -> Any:
        dies = next(calls) == moment.count
        if dies and not moment.after:
            _die()
        result = real(*given, **named)
        if dies:
            _die()
        return result

    return call


def serve(*modules: str) -> None:
    """Run the commands that arrive on standard input, each in a process of its own."""
    for module in modules:
        import_module(module)
    for module in ("workflows.publish.push", "prediction.video", "model.video_predictor"):
        import_module(f"sam21convert.{module}")
    for module in ("av", "huggingface_hub.lfs", "scipy.ndimage", "PIL.PngImagePlugin"):
        import_module(module)
    import torch
    from click.testing import CliRunner

    from sam21convert.commands.main import main
    from sam21convert.config.registry import shipped_config
    from sam21convert.model.sam2 import SAM2

    with torch.device("meta"):  # imports the rest of torch
        SAM2(shipped_config(DEBUG))
    for line in sys.stdin:
        words, moment = json.loads(line)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            if moment is not None:
                _arm(Moment(**moment))
            done = CliRunner().invoke(main, words)
            with os.fdopen(write, "w") as out:
                json.dump([done.exit_code, done.stdout, done.stderr], out)
            os._exit(0)
        os.close(write)
        print(child, flush=True)
        with os.fdopen(read) as pipe:
            said = pipe.read()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(json.dumps([status, *(json.loads(said) if said else (None, "", ""))]), flush=True)


Look: TypeAlias = "Callable[[DeadlyHub, Request], None]"  # at a request that has arrived


class DeadlyHub(Hub):
    """A Hub that may kill the command that talks to it.

    Attributes:
        victim: The process of the command.
        moment: When to kill it; None for never.
        killed: Whether that was done.
    """

    def __init__(self) -> None:
        super().__init__()
        self.victim = 0
        self.moment: Look | None = None
        self.killed = threading.Event()
        self.one_at_a_time = threading.Lock()

    def arrived(self, request: Request) -> Effect | None:
        """Log a request, and let the moment look at it."""
        effect = super().arrived(request)
        if self.moment is not None:
            with self.one_at_a_time:
                self.moment(self, request)
        return effect

    def kill(self) -> None:
        """Kill the command, once."""
        if not self.killed.is_set():
            os.kill(self.victim, signal.SIGKILL)
            self.killed.set()


def half_of_an_object(hub: DeadlyHub, request: Request) -> None:
    """Kill when half of the largest object has arrived, before any other is stored."""
    if request.method == "PUT":
        request.body = _half(hub, int(request.headers["content-length"]), request.body)


def _half(hub: DeadlyHub, whole: int, body: Iterable[bytes]) -> Iterator[bytes]:
    got = 0
    for piece in body:
        got += len(piece)
        if whole < LARGE:
            hub.killed.wait(30)
        elif got * 2 >= whole:
            hub.kill()
        if hub.killed.is_set():
            raise _HungUpError
        yield piece


def one_object(hub: DeadlyHub, request: Request) -> None:
    """Kill when one object is stored and the next arrives."""
    puts = hub.asked("PUT")
    if request.method == "PUT" and request is not puts[0]:
        stored = hub.repo(_name(puts[0])).objects.path(puts[0].parts[3])
        deadline = time.monotonic() + 30
        while not stored.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        hub.kill()
        raise _HungUpError


def all_objects(hub: DeadlyHub, request: Request) -> None:
    """Kill when the client asks for the last time whether an object is stored."""
    verified = [each for each in hub.asked("POST") if each.path.endswith("/lfs/verify")]
    if request in verified and len(verified) == len(hub.asked("PUT")) > 1:
        hub.kill()
        raise _HungUpError


def committed(hub: DeadlyHub, request: Request) -> None:
    """Kill when the commit is made, before its answer is sent."""
    if "/commit/" in request.path:
        repo = hub.repo("/".join(request.parts[2:4]))
        real = type(repo).commit

        def commit(*given: Any, **named: Any) -> Any:
            del repo.commit
            real(repo, *given, **named)
            hub.kill()
            raise _HungUpError

        repo.commit = commit  # type: ignore[method-assign]


def verifying(hub: DeadlyHub, request: Request) -> None:
    """Kill when the client, which has the answer, looks at what the Hub holds."""
    if request.method == "GET" and any("/commit/" in each.path for each in hub.asked("POST")):
        hub.kill()
        raise _HungUpError


def _name(request: Request) -> str:
    return "/".join(request.parts[1:3])


@dataclass
class Killable:
    """Runs commands, which may be killed.

    Attributes:
        process: The process that forks for each.
        hub: The Hub that they talk to.
        scratch: Their folder for temporary files.
    """

    process: subprocess.Popen[str]
    hub: DeadlyHub
    scratch: Path

    def run(self, *words: str, at: Moment | Look | None = None) -> tuple[int, str]:
        """Status and standard output of a command, which is killed at a moment or succeeds."""
        own = vars(at) if isinstance(at, Moment) else None
        _stream(self.process.stdin).write(json.dumps([words, own]) + "\n")
        _stream(self.process.stdin).flush()
        self.hub.victim = int(_stream(self.process.stdout).readline())
        self.hub.killed.clear()
        self.hub.moment = at if callable(at) else None
        status, code, out, err = json.loads(_stream(self.process.stdout).readline())
        self.hub.moment = None
        assert status or code == 0, err
        return status, out


def _stream(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


@contextmanager
def killable(home: Path, *modules: str) -> Iterator[Killable]:
    """Start the process, which imports some modules first, and the Hub; both end with the block."""
    scratch = home / "scratch"
    scratch.mkdir()
    hub = DeadlyHub()
    with hub:
        more = {"PYTHONPATH": str(ROOT), "TMPDIR": str(scratch), "OMP_NUM_THREADS": "1"}
        more["TORCHINDUCTOR_CACHE_DIR"] = str(home / "inductor")
        with subprocess.Popen(
            [sys.executable, "-c", PROGRAM.format(", ".join(map(repr, modules)))],
            env={**hub.environment(home), **more},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            yield Killable(process, hub, scratch)
            _stream(process.stdin).close()
