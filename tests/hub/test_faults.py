"""Each fault that the test Hub can inject has the intended effect on the real client."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..support.hub_server import ALWAYS, Cut, Effect, Fault, Flip, Hub, LostAnswer, Slow, Status
from ..support.hub_server.client import DOWNLOAD, MIB, PROPOSE, UPLOAD, Client, safetensors

CONTENT = "/storage/*/model.safetensors"
BUSY = Status(429, {"Retry-After": "1"})


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as server:
        yield server


@pytest.fixture
def client(hub: Hub, tmp_path: Path) -> Client:
    hub.create("org/m")
    return Client(hub, tmp_path)


@pytest.mark.parametrize(
    ("method", "path", "times", "hit"),
    [
        ("PUT", "/storage/*", 1, [True, False, False]),
        ("PUT", "/storage/*/abc", 2, [True, True, False]),
        ("PUT", "*", ALWAYS, [True, True, True]),
        ("PUT", "*", 0, [False, False, False]),
        ("GET", "/storage/*", ALWAYS, [False, False, False]),
        ("PUT", "/storage", ALWAYS, [False, False, False]),
    ],
)
def test_a_fault_hits_matching_requests_a_given_number_of_times(
    method: str, path: str, times: int, hit: list[bool]
) -> None:
    fault = Fault(method, path, Cut(), times)
    assert [fault.strikes("PUT", "/storage/org/m/abc") for _ in range(3)] == hit


class TestUpload:
    @pytest.mark.parametrize(
        "effect", [Cut(MIB), Cut(MIB, reset=True), Cut(), Status(503), BUSY], ids=repr
    )
    def test_a_faulty_put_is_sent_again(self, hub: Hub, client: Client, effect: Effect) -> None:
        hub.inject(Fault("PUT", "/storage/*", effect))
        client(UPLOAD)
        assert client.uploaded()
        first, second = hub.asked("PUT")
        assert (first.effect, second.effect) == (effect, None)
        assert (second.at - first.at >= 2) == (effect == BUSY)  # without Retry-After it is 1 s

    def test_an_interrupted_upload_leaves_nothing_in_the_store(
        self, hub: Hub, client: Client
    ) -> None:
        before = set(hub.store.folder.rglob("*"))
        hub.inject(Fault("PUT", "/storage/*", Cut(MIB)), Fault("PUT", "/storage/*", Status(403)))
        assert client(UPLOAD) == ["RuntimeError", None]
        assert set(hub.store.folder.rglob("*")) == before

    def test_server_errors_are_retried(self, hub: Hub, client: Client) -> None:
        hub.inject(*(Fault("POST", "*/preupload/*", Status(status)) for status in (500, 503)))
        client(UPLOAD)
        assert client.uploaded()
        assert len(hub.asked("POST", "*/preupload/*")) == 3

    def test_a_refusal_is_final(self, hub: Hub, client: Client) -> None:
        statuses = [401, 403, 404]
        hub.inject(*(Fault("POST", "*/preupload/*", Status(status)) for status in statuses))
        code = "answers = []\n" + f"{UPLOAD}\nanswers.append(answer)\n" * 3 + "answer = answers"
        assert client(code) == [["HfHubHTTPError", status] for status in statuses]
        assert not hub.asked("PUT")


class TestCommit:
    @pytest.mark.parametrize("status", [409, 412, 503])
    def test_an_error_is_raised_at_once_and_a_second_run_completes(
        self, hub: Hub, client: Client, status: int
    ) -> None:
        hub.inject(Fault("POST", "*/commit/*", Status(status)))
        repo = hub.repo("org/m")
        answers = client(f"{UPLOAD}\nfirst = answer\n{UPLOAD}\nanswer = [first, answer]")
        assert answers == [["HfHubHTTPError", status], repo.head().id]
        assert client.uploaded()
        assert [len(hub.asked("PUT")), len(hub.asked("POST", "*/commit/*"))] == [1, 2]
        assert len(repo.history()) == 2

    def test_a_lost_answer_leaves_a_commit_that_the_next_run_finds(
        self, hub: Hub, client: Client
    ) -> None:
        hub.inject(Fault("POST", "*/commit/*", LostAnswer()))
        assert client(UPLOAD) == ["RemoteProtocolError", None]
        assert client.uploaded()
        assert client(UPLOAD) == hub.repo("org/m").head().id
        assert len(hub.asked("POST", "*/commit/*")) == 1

    def test_a_lost_answer_and_a_second_try_make_two_pull_requests(
        self, hub: Hub, client: Client
    ) -> None:
        hub.inject(Fault("POST", "*/commit/*", LostAnswer()))
        assert client(f"answer = attempt(exec, {PROPOSE!r}, globals())")[0] == "RemoteProtocolError"
        assert client(PROPOSE).endswith("/discussions/2")
        assert client.uploaded("refs/pr/1")
        assert client.uploaded("refs/pr/2")

    def test_a_connection_that_breaks_within_the_request_leaves_no_commit(
        self, hub: Hub, client: Client
    ) -> None:
        hub.inject(Fault("POST", "*/commit/*", Cut(10)))
        assert client(UPLOAD)[1] is None
        assert len(hub.repo("org/m").history()) == 1


class TestDownload:
    DATA = safetensors(12 * MIB)

    @pytest.fixture(autouse=True)
    def _there(self, client: Client) -> None:
        client.hub.repo("org/m").write({"model.safetensors": self.DATA})

    def test_a_cut_download_is_resumed(self, hub: Hub, client: Client) -> None:
        hub.inject(Fault("GET", CONTENT, Cut(11 * MIB)))
        assert Path(client(DOWNLOAD)).read_bytes() == self.DATA
        ranges = [request.headers.get("range") for request in hub.asked("GET", CONTENT)]
        assert ranges == [None, f"bytes={10 * MIB}-"]

    def test_a_reset_ends_it_and_a_second_run_completes(self, hub: Hub, client: Client) -> None:
        hub.inject(Fault("GET", CONTENT, Cut(11 * MIB, reset=True)))
        assert client(DOWNLOAD) == ["ReadError", None]
        assert Path(client(DOWNLOAD)).read_bytes() == self.DATA

    def test_the_client_does_not_detect_a_wrong_byte(self, hub: Hub, client: Client) -> None:
        hub.inject(Fault("GET", CONTENT, Flip(at=5_000_000)))
        path = Path(client(DOWNLOAD))
        found = path.read_bytes()
        assert len(found) == len(self.DATA)
        assert [n for n in range(4_999_990, 5_000_010) if found[n] != self.DATA[n]] == [5_000_000]
        assert found[5_000_001:] == self.DATA[5_000_001:]
        assert client(DOWNLOAD) == str(path)
        client(DOWNLOAD.replace("'org/m',", "'org/m', force_download=True, filename="))
        assert path.read_bytes() == self.DATA

    def test_a_wrong_byte_keeps_its_position_in_range_requests(self, hub: Hub) -> None:
        hub.inject(Fault("GET", "/org/m/resolve/main/text", Flip(at=5), times=2))
        hub.repo("org/m").write({"text": b"0123456789"})
        flipped = bytes([ord("5") ^ 0xFF])
        assert get(hub, "/org/m/resolve/main/text", Range="bytes=4-6") == b"4" + flipped + b"6"
        assert get(hub, "/org/m/resolve/main/text", Range="bytes=6-8") == b"678"

    @pytest.mark.parametrize(("method", "path"), [("HEAD", "/org/m/resolve/*"), ("GET", CONTENT)])
    def test_a_slow_request_is_retried(
        self, hub: Hub, client: Client, method: str, path: str
    ) -> None:
        hub.inject(Fault(method, path, Slow(3)))
        found = client(DOWNLOAD, HF_HUB_ETAG_TIMEOUT="1", HF_HUB_DOWNLOAD_TIMEOUT="1")
        assert Path(found).read_bytes() == self.DATA
        assert len(hub.asked(method, path)) == 2

    @pytest.mark.parametrize(
        ("status", "code", "outcome"),
        [
            (401, "GatedRepo", ["GatedRepoError", 401]),
            (403, "", ["LocalEntryNotFoundError", None]),
            (404, "EntryNotFound", ["RemoteEntryNotFoundError", 404]),
        ],
    )
    def test_a_refusal_is_raised(
        self, hub: Hub, client: Client, status: int, code: str, outcome: Any
    ) -> None:
        hub.inject(Fault("HEAD", "*", Status(status, {"X-Error-Code": code}), ALWAYS))
        assert client(DOWNLOAD) == outcome
        hub.heal()
        assert Path(client(DOWNLOAD)).read_bytes() == self.DATA

    def test_a_storage_error_ends_a_download_and_a_busy_storage_is_retried(
        self, hub: Hub, client: Client
    ) -> None:
        hub.inject(Fault("GET", CONTENT, Status(503)), Fault("GET", CONTENT, BUSY))
        assert client(DOWNLOAD) == ["HfHubHTTPError", 503]
        assert Path(client(DOWNLOAD)).read_bytes() == self.DATA
        _, busy, well = hub.asked("GET", CONTENT)
        assert well.at - busy.at >= 2


def get(hub: Hub, path: str, wait: float = 5, **headers: str) -> bytes:
    connection = http.client.HTTPConnection(
        hub.store.endpoint.removeprefix("http://"), timeout=wait
    )
    try:
        connection.request("GET", path, headers=headers)
        return connection.getresponse().read()
    finally:
        connection.close()


def test_requests_are_logged_on_arrival_and_no_thread_outlives_the_server() -> None:
    before = set(threading.enumerate())
    with Hub() as hub:
        hub.inject(Fault("GET", "*", Slow(60)))
        with pytest.raises(TimeoutError):
            get(hub, "/api/whoami-v2", wait=0.5)
        assert [str(request) for request in hub.requests] == ["GET /api/whoami-v2"]
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
        assert not thread.is_alive()
