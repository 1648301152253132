"""Many videos on a Ray cluster, of which actors and nodes are killed.

Ray takes ten seconds to start, and runs here only where it is installed (``[ray]``).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sam21convert.errors import RefusedError
from sam21convert.evaluation import cluster
from sam21convert.report import Progress

from ..support.many_videos import BROKEN, LENGTHS
from .test_many import Given, Stop, given, videos_in  # noqa: F401 - a fixture

pytest.importorskip("ray", reason="needs the extra [ray]")
import ray
from ray.cluster_utils import Cluster

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")
MEMORY = 80 << 20  # bytes for objects that actors share; none is larger than a row
SLIGHT: dict[str, Any] = {"object_store_memory": MEMORY, "include_dashboard": False}


@pytest.fixture
def _little(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cluster of one core, as small as it can be."""
    init = ray.init

    def small(address: str, **options: Any) -> Any:
        return init(address, num_cpus=1, object_store_memory=MEMORY, **options)

    monkeypatch.setattr(ray, "init", small)
    yield
    assert not ray.is_initialized()


class Killing(Progress):
    """Acts when so many videos are done."""

    def __init__(self, acts: dict[int, Any]) -> None:
        self.acts = acts

    def tell(self, text: str) -> None:
        done = int(text.partition("/")[0])
        if act := self.acts.pop(done, None):
            act()


@pytest.mark.usefixtures("_little")
def test_a_cluster_that_is_started_here(given: Given, tmp_path: Path) -> None:  # noqa: F811
    before = signal.getsignal(signal.SIGTERM)
    kept, report = tmp_path / "masks", tmp_path / "report"
    found = given.evaluate(ray="local", masks=kept, report=report)
    given.same(found, kept)
    # The longest come first, but for the broken one, which is known to be broken at its end.
    assert sorted(videos_in(report)) == sorted(LENGTHS)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("address", "said"),
    [("127.0.0.1:1", "Connection refused"), ("here", "expected auto, local or HOST:PORT")],
)
def test_no_cluster_at_an_address(
    address: str,
    said: str,
    given: Given,  # noqa: F811
    tmp_path: Path,
) -> None:
    with pytest.raises(RefusedError, match=f"{address}: cannot connect to a Ray .*{said}"):
        given.evaluate(ray=address, report=tmp_path / "report")
    assert [*tmp_path.iterdir()] == []


def test_a_signal_while_ray_starts_is_for_who_has_asked_for_it(
    given: Given,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def init(*_: Any, **__: Any) -> None:  # as Ray's own handler ends it
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise SystemExit(signal.SIGTERM)

    def stopped(*_: Any) -> None:
        raise Stop

    monkeypatch.setattr(ray, "init", init)
    before = signal.signal(signal.SIGTERM, stopped)
    try:
        with pytest.raises(Stop):
            given.evaluate(ray="local", masks=tmp_path / "masks")
        assert signal.getsignal(signal.SIGTERM) is stopped
    finally:
        signal.signal(signal.SIGTERM, before)
    assert [*tmp_path.iterdir()] == []


def children(pid: int) -> list[int]:
    return [*map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def cmdline(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


@pytest.mark.slow
def test_a_killed_actor_and_a_killed_node(given: Given, tmp_path: Path) -> None:  # noqa: F811
    """Every video is evaluated once; the run ends, and goes on where it was."""
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **SLIGHT})
    try:
        other = nodes.add_node(num_cpus=1, object_store_memory=MEMORY)
        nodes.wait_for_nodes()
        asked: list[str] = []
        submit = cluster._Actor.submit

        def watched(self: Any, video: Any) -> None:
            asked.append(video.name)
            submit(self, video)

        def kill_actor() -> None:
            raylet = nodes.head_node.all_processes["raylet"][0].process.pid
            (pid,) = (one for one in children(raylet) if b"_Evaluator" in cmdline(one))
            os.kill(pid, signal.SIGKILL)

        def kill_node() -> None:
            nodes.remove_node(other, allow_graceful=False)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cluster._Actor, "submit", watched)
            kept, report = tmp_path / "masks", tmp_path / "report"
            acts = {1: kill_actor, 2: kill_node}
            found = given.evaluate(
                ray=nodes.address, masks=kept, report=report, progress=Killing(acts)
            )
        given.same(found, kept)
        assert not acts
        assert sorted(videos_in(report)) == sorted(LENGTHS)  # each once
        assert {*asked} == {*LENGTHS}
        assert len(asked) > len(LENGTHS)  # some were put back
        # Once more: only the broken video is tried.
        asked.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cluster._Actor, "submit", watched)
            again = given.evaluate(ray=nodes.address, masks=kept, report=report)
        assert asked == [BROKEN]
        assert replace(again, masks=None) == replace(given.expected, masks=None)
    finally:
        ray.shutdown()
        nodes.shutdown()
