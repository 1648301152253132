"""Workers that are actors on a Ray cluster, one for each device.

Ray tries nothing again: an actor that is lost, with its node or alone, is replaced by another one,
as :mod:`~.driver` does for all workers. Nodes read checkpoints, data and, if they are kept, masks
by the same paths.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import RefusedError, Sam21ConvertError
from ..report import SILENT, one_line
from .datasets import Video
from .driver import Answer, Done, Heard, Lost, Ready, Refused, Worker
from .rows import Failure
from .task import Task, working_on

LOCAL = "local"  # Ray's word for a cluster that is started here and ends with this process
_LISTENS = 10.0  # seconds in which a cluster takes a connection
_SHOWN = 200  # characters of what Ray says of a lost actor


class Cluster:
    """A crew of actors.

    Args:
        task: The task.
        jobs: How many work at a time; None for one on each GPU of the cluster, or on each node if
            it has none.
    """

    def __init__(self, task: Task, jobs: int | None) -> None:
        import ray

        self._ray, self._task = ray, task
        there = ray.cluster_resources()
        gpus, cores = int(there.get("GPU", 0)), int(there.get("CPU", 1))
        nodes = sum(bool(node["Alive"]) for node in ray.nodes())
        self.size = jobs or gpus or nodes
        on_gpus = gpus > 0 and task.device != "cpu"
        # Cores are those of one node, so that an actor finds room on each.
        self._threads = max(1, cores // max(self.size, nodes))
        self._needs = {"num_gpus": 1, "num_cpus": 1} if on_gpus else {"num_cpus": self._threads}
        self._hired: list[_Actor] = []

    def hire(self) -> Worker:
        """Ask for an actor.

        Returns:
            The actor, which loads its checkpoints once there is room for it.
        """
        remote = self._ray.remote(
            max_restarts=0, max_task_retries=0, scheduling_strategy="SPREAD", **self._needs
        )(_Evaluator)
        self._hired.append(_Actor(remote.remote(self._task, self._threads), self._ray))
        return self._hired[-1]

    def wait(self, workers: Collection[Worker], seconds: float, heard: Heard) -> None:
        """Pass on what actors have answered, and which are gone.

        Args:
            workers: The actors.
            seconds: How long to wait at most.
            heard: As for :meth:`~.driver.Crew.wait`.
        """
        asked = {
            one.asked: one for one in workers if isinstance(one, _Actor) and one.asked is not None
        }
        if not asked:
            return
        done, _ = self._ray.wait([*asked], num_returns=1, timeout=seconds)
        for one in done:
            heard(asked[one], asked[one].answer())

    def end(self) -> None:
        """Kill all actors."""
        for one in self._hired:
            one.end()


class _Actor:
    """A worker that is an actor."""

    def __init__(self, handle: Any, ray: Any) -> None:
        self._handle, self._ray = handle, ray
        self.asked: Any = handle.load.remote()

    def submit(self, video: Video) -> None:
        self.asked = self._handle.evaluate.remote(video)

    def end(self) -> None:
        self._ray.kill(self._handle)

    def answer(self) -> Answer:
        """What it has answered to the last call; that it is lost if it is gone."""
        asked, self.asked = self.asked, None
        try:
            answer: Answer = self._ray.get(asked)
        except self._ray.exceptions.RayTaskError as error:
            raise error.as_instanceof_cause() from error
        except self._ray.exceptions.RayError as error:
            return Lost(f"was lost: {_said(error)}")
        return answer


class _Evaluator:
    """What runs in an actor."""

    def __init__(self, task: Task, threads: int) -> None:
        self._task, self._threads = task, threads

    def load(self) -> Answer:
        import torch

        torch.set_num_threads(self._threads)  # Ray allows one only
        try:
            self._work = working_on(self._task)
        except (Sam21ConvertError, OSError) as error:
            return Refused(Failure.of(error, "worker").error())
        return Ready()

    def evaluate(self, video: Video) -> Answer:
        try:
            return Done(self._work(video, SILENT))
        except OSError as error:
            return Refused(error)


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Connect to a Ray cluster.

    Args:
        address: ``auto`` for the one that runs on this machine, ``HOST:PORT``, or :data:`LOCAL` for
            one that is started here.

    Yields:
        Nothing. The connection ends after the block.

    Raises:
        RefusedError: If there is no cluster at this address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Or Ray warns that this will be its default.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == LOCAL:
        options["include_dashboard"] = False
    # Ray sets a handler of its own, with which a command would not end as it should.
    here = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    try:
        _refuse_absent(address)
        try:
            ray.init(address, **options)
        except SystemExit:  # by Ray's handler
            ray.shutdown()
            signal.signal(signal.SIGTERM, before)
            signal.raise_signal(signal.SIGTERM)
    except Exception as error:  # what Ray raises depends on how far it comes
        raise RefusedError(
            f"{address}: cannot connect to a Ray cluster: {_said(error)}",
            hint="ray start --head starts one; the address local is one that ends with this run",
        ) from error
    finally:
        if here:
            signal.signal(signal.SIGTERM, before)
    try:
        yield
    finally:
        ray.shutdown()


def _said(error: Exception) -> str:
    """The first line of what Ray says, which is followed by stacks of its processes."""
    return one_line(str(error).strip().split("\n")[0])[:_SHOWN]


def _refuse_absent(address: str) -> None:
    """Raise :class:`OSError` if nobody listens at an address, for which Ray waits for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), _LISTENS).close()
    elif address not in (LOCAL, "auto"):
        raise OSError("expected auto, local or HOST:PORT")
