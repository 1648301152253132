"""Workers that are processes on this machine, each with its own copy of the model.

They are started afresh, not forked, so that a GPU can be used in each; and they are no pool of
Python's, which waits for ever, or gives up, when one of its processes is killed.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from ..errors import Sam21ConvertError
from ..report import one_line
from .datasets import Video
from .driver import Answer, Done, Heard, Lost, Ready, Refused, Telling, Worker
from .rows import Failure
from .task import Task, working_on

_THREADS = "OMP_NUM_THREADS"  # what torch, OpenMP and MKL look at
# What the new process runs: its modules come from where ours do, and not from the current folder.
_START = "import sys; sys.path[:] = {path!r}; from {module} import serve; serve({fd})"
_SHOWN = 200  # characters of what a lost process said last


class Processes:
    """A crew of processes.

    Args:
        task: The task.
        size: How many work at a time.
        scratch: An empty folder for their temporary files, which outlives them.
    """

    def __init__(self, task: Task, size: int, scratch: Path) -> None:
        self.size = size
        self._scratch = scratch
        self._tasks = [replace(task, device=device) for device in _devices(task.device)]
        self._threads = threads_each(size)
        self._hired: list[_Process] = []

    def hire(self) -> Worker:
        """Start a process, on the next device.

        Returns:
            The process, which loads its checkpoints now.
        """
        number = len(self._hired)
        home = self._scratch / str(number)
        home.mkdir()
        with _unbroken():
            task = self._tasks[number % len(self._tasks)]
            self._hired.append(_Process(task, home, self._threads))
        return self._hired[-1]

    def wait(self, workers: Collection[Worker], seconds: float, heard: Heard) -> None:
        """Pass on what processes have sent, and which are gone.

        Args:
            workers: The processes.
            seconds: How long to wait at most.
            heard: As for :meth:`~.driver.Crew.wait`.
        """
        by_end = {one.ours: one for one in workers if isinstance(one, _Process)}
        for end in wait([*by_end], seconds):
            assert isinstance(end, Connection)
            heard(by_end[end], by_end[end].answer())

    def end(self) -> None:
        """Kill all processes, and wait until they are gone."""
        with _unbroken():
            for one in self._hired:
                one.end()


@contextmanager
def _unbroken() -> Iterator[None]:
    """Let signals wait: one that came while a process is started would leave it to itself."""
    came: list[int] = []
    before: dict[signal.Signals, Any] = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                before[number] = signal.signal(number, lambda one, _: came.append(one))
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def threads_each(size: int) -> int:
    """How many threads each of several processes computes on.

    Args:
        size: Number of processes.

    Returns:
        What the user has set, or a share of the cores.
    """
    given = os.environ.get(_THREADS, "")
    if given.isdecimal() and int(given):
        return int(given)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (cores or 1) // size)


def _devices(device: str) -> list[str]:
    """The devices that processes take in turn: all GPUs of a kind, or the one that is named."""
    import torch

    from ..prediction.devices import pick_device

    picked = torch.device(pick_device(device))
    count = torch.accelerator.device_count() if picked.type not in ("cpu", "mps") else 1
    if picked.index is not None or count < 2:
        return [str(picked)]
    return [f"{picked.type}:{index}" for index in range(count)]


class _Process:
    """A worker that is a process."""

    def __init__(self, task: Task, home: Path, threads: int) -> None:
        self._said = home / "stderr"
        ours, theirs = socket.socketpair()
        with theirs, self._said.open("wb") as said:
            start = _START.format(
                path=[str(Path(one).absolute()) for one in sys.path],
                module=__name__,
                fd=theirs.fileno(),
            )
            self.process = subprocess.Popen(  # noqa: S603 - this very Python
                [sys.executable, "-c", start],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                pass_fds=[theirs.fileno()],
                env={**os.environ, "TMPDIR": str(home), _THREADS: str(threads)},
            )
        self.ours = Connection(ours.detach())
        self._send(task)

    def submit(self, video: Video) -> None:
        self._send(video)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.ours.close()

    def answer(self) -> Answer:
        """What it has sent; that it is lost if it is gone."""
        try:
            answer: Answer = self.ours.recv()
        except (EOFError, OSError):
            return self._lost()
        return answer

    def _send(self, what: Task | Video) -> None:
        with suppress(OSError):  # it is gone, as its next answer will say
            self.ours.send(what)

    def _lost(self) -> Lost:
        self.process.kill()  # if it has closed its end, it does nothing more
        code = self.process.wait()
        if code == -signal.SIGKILL:
            return Lost(
                "was killed by SIGKILL",
                "the system does that where memory is short: try fewer `jobs`",
            )
        if code < 0:
            return Lost(f"was killed by {signal.Signals(-code).name}")
        lines = self._said.read_text(errors="replace").split("\n")
        last = one_line(next((line for line in reversed(lines) if line.strip()), ""))[:_SHOWN]
        return Lost(f"ended with code {code}" + (f": {last}" if last else ""))


def serve(fd: int) -> None:
    """Be a worker: what a new process runs.

    Args:
        fd: The end of a pair of sockets, at whose other end is who asks.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who asks, who ends this process
    # Who asks is gone when it closes its end, so that none of these outlives it.
    with suppress(EOFError, BrokenPipeError, ConnectionResetError), Connection(fd) as asking:
        try:
            work = working_on(asking.recv())
            asking.send(Ready())
            while True:
                asking.send(Done(work(asking.recv(), Telling(asking.send))))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise
        except Exception as error:
            known = isinstance(error, OSError) and not isinstance(error, Sam21ConvertError)
            asking.send(Refused(error if known else Failure.of(error, "worker").error()))
