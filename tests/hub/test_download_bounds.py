"""No server can fill the disk, keep a download waiting, or have something else kept."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from ..support.file_server import Served, Web, environment
from ..support.forks import child
from .test_download import left

BODY = os.urandom(300_000)
CUT, LOST = {"cut": 200_000}, {"status": 503}
# Downloads [url, path, bytes, hash] with the given limits, and prints None or [type, text].
PROGRAM = """
import json, shutil, sys
from pathlib import Path
from sam21convert.hub import download
from sam21convert.errors import Sam21ConvertError
(url, path, nbytes, digest), limits, free = json.loads(sys.argv[1])
download._WAITS = (0.01, 0.01, 0.01)
for name, value in limits.items():
    assert hasattr(download, name)
    setattr(download, name, value)
if free is not None:
    usage = shutil.disk_usage("/")
    shutil.disk_usage = lambda _: usage._replace(free=free)
try:
    print(json.dumps(download.download(url, Path(path), nbytes, digest)))
except Sam21ConvertError as error:
    print(json.dumps([type(error).__name__, str(error)]))
"""


@pytest.fixture
def web() -> Iterator[Web]:
    with Web({}) as server:
        yield server


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "m.pt"


def get(
    web: Web,
    path: Path,
    nbytes: int | None = None,
    digest: str | None = None,
    free: int | None = None,
    **limits: Any,
) -> Any:
    asked = [[f"{web.url}/m.pt", str(path), nbytes, digest], limits, free]
    return child(PROGRAM, [json.dumps(asked)], environment(path.parent / "home"))


def refused(web: Web, path: Path, says: str, **given: Any) -> None:
    """It is refused with one line that names the address, and nothing of it is left."""
    kind, text = get(web, path, **given)
    assert kind == "UnreadableError"
    message, hint = text.split("\n")
    assert message.startswith(f"{web.url}/m.pt: ")
    assert says in message
    assert hint.startswith("hint: ")
    assert left(path) == set()


class TestSize:
    def test_a_stated_size_that_no_checkpoint_has_is_refused_before_the_first_byte(
        self, web: Web, path: Path
    ) -> None:
        web.files["/m.pt"] = Served(BODY, headers={"Content-Length": "16000000001"}, endless=True)
        says = "states a size of 16,000,000,001 bytes, more than the 16,000,000,000 allowed"
        refused(web, path, says)
        assert len(web.requests) == 1

    def test_a_size_that_is_allowed_is_not_refused(self, web: Web, path: Path) -> None:
        web.files["/m.pt"] = Served(BODY)
        assert get(web, path, MAX_FILE=len(BODY)) is None
        assert path.read_bytes() == BODY

    def test_a_body_without_a_size_ends_at_the_limit(self, web: Web, path: Path) -> None:
        web.files["/m.pt"] = Served(BODY, headers={"Content-Length": None}, endless=True)
        refused(web, path, "sends more than 5,000,000 bytes", MAX_FILE=5_000_000)
        assert len(web.requests) == 1

    def test_a_body_without_a_size_is_read_to_its_end(self, web: Web, path: Path) -> None:
        web.files["/m.pt"] = Served(BODY, headers={"Content-Length": None})
        assert get(web, path) is None
        assert path.read_bytes() == BODY

    def test_a_body_without_a_size_leaves_space_on_the_disk(self, web: Web, path: Path) -> None:
        web.files["/m.pt"] = Served(BODY, headers={"Content-Length": None}, endless=True)
        says = "sends more than 2,000,000 bytes"
        refused(web, path, says, free=12_000_000, _RESERVE=10_000_000)

    @pytest.mark.parametrize("length", ["300000", None])
    def test_a_full_disk_is_told_before_the_first_byte(
        self, web: Web, path: Path, length: str | None
    ) -> None:
        web.files["/m.pt"] = Served(BODY, headers={"Content-Length": length})
        says = f"are needed, and the disk of {path.parent} has only 200.0 kB left"
        refused(web, path, says, free=200_000)

    @pytest.mark.parametrize("length", ["299999", "300001", "15000000000"])
    def test_another_size_than_expected_is_refused_before_the_first_byte(
        self, web: Web, path: Path, length: str
    ) -> None:
        web.files["/m.pt"] = Served(BODY, headers={"Content-Length": length}, endless=True)
        says = f"states a size of {int(length):,} bytes, expected 300,000"
        refused(web, path, says, nbytes=len(BODY))

    def test_a_body_without_a_size_is_no_larger_than_expected(self, web: Web, path: Path) -> None:
        web.files["/m.pt"] = Served(BODY, headers={"Content-Length": None}, endless=True)
        refused(web, path, "sends more than 300,000 bytes", nbytes=len(BODY))

    def test_a_smaller_one_without_a_size_is_kept_as_evidence(self, web: Web, path: Path) -> None:
        web.files["/m.pt"] = Served(BODY[:-1], headers={"Content-Length": None})
        _, text = get(web, path, nbytes=len(BODY))
        assert "has 299999 bytes, expected 300000; the wrong file is kept as" in text
        assert left(path) == {"m.pt.wrong-299999-bytes"}


class TestHeaders:
    @pytest.mark.parametrize("encoding", ["gzip", "GZIP", "br", "deflate", "identity, gzip", "x"])
    def test_an_encoded_body_is_refused(self, web: Web, path: Path, encoding: str) -> None:
        content = gzip.compress(bytes(10**6))
        web.files["/m.pt"] = Served(content, headers={"Content-Encoding": encoding})
        refused(web, path, "sends the file encoded, which was not asked for")
        assert len(web.requests) == 1

    def test_the_encoding_identity_is_none(self, web: Web, path: Path) -> None:
        web.files["/m.pt"] = Served(BODY, headers={"Content-Encoding": "identity"})
        assert get(web, path) is None

    @pytest.mark.parametrize("length", ["-5", "1e9", "0x10", "9" * 5000, "5, 6", ["300000", "5"]])
    def test_an_absurd_length_is_refused(self, web: Web, path: Path, length: Any) -> None:
        web.files["/m.pt"] = Served(BODY, headers={"Content-Length": length})
        kind, text = get(web, path)
        assert kind == "UnreadableError"
        assert "Content-Length that cannot be understood" in text or "ProtocolError" in text
        assert left(path) == set()

    @pytest.mark.parametrize(
        ("span", "says"),
        [
            (None, "does not state which"),
            ("bytes 200000-299999/*", "cannot be understood"),
            ("bytes 200000-299999/200000", "a range that no file has"),
            ("bytes 200000-199999/300000", "a range that no file has"),
            ("bytes 200000-300000/300000", "a range that no file has"),
            ("bytes -200000-299999/300000", "cannot be understood"),
            (f"bytes 200000-{'9' * 5000}/{'9' * 5000}", "cannot be understood"),
            ("lines 200000-299999/300000", "cannot be understood"),
            (["bytes 200000-299999/300000"] * 2, "cannot be understood"),
            ("bytes 200000-299999/16000000001", "more than the 16,000,000,000 allowed"),
        ],
    )
    def test_an_absurd_range_is_refused_and_what_had_arrived_is_kept(
        self, web: Web, path: Path, span: Any, says: str
    ) -> None:
        digest = sha256(BODY).hexdigest()
        web.files["/m.pt"] = Served(BODY, faults=[CUT, *[LOST] * 3])
        get(web, path, digest=digest)
        web.files["/m.pt"] = Served(BODY, headers={"Content-Range": span})
        kind, text = get(web, path, digest=digest)
        assert kind == "UnreadableError"
        assert says in text
        assert left(path) == {"m.pt.part"}
        assert (path.parent / "m.pt.part").read_bytes() == BODY[:200_000]
        web.files["/m.pt"] = Served(BODY)
        assert get(web, path, digest=digest) is None

    def test_more_bytes_than_the_range_are_refused(self, web: Web, path: Path) -> None:
        digest = sha256(BODY).hexdigest()
        web.files["/m.pt"] = Served(BODY, faults=[CUT, *[LOST] * 3])
        get(web, path, digest=digest)
        web.files["/m.pt"] = Served(BODY, headers={"Content-Length": None}, endless=True)
        refused(web, path, "sends more than 300,000 bytes", digest=digest)

    def test_an_absurd_validator_is_not_kept(self, web: Web, path: Path) -> None:
        web.files["/m.pt"] = Served(BODY, f'"{"x" * 5000}"', faults=[CUT, *[LOST] * 3])
        get(web, path)
        assert left(path) == {"m.pt.part"}

    def test_an_endless_wait_is_not_waited(self, web: Web, path: Path) -> None:
        fault = {"status": 503, "headers": {"Retry-After": "9" * 400}}
        web.files["/m.pt"] = Served(BODY, faults=[fault])
        assert get(web, path, _LONGEST_WAIT=0.1) is None


class TestTime:
    def test_a_server_that_sends_hardly_anything_is_given_up(self, web: Web, path: Path) -> None:
        web.files["/m.pt"] = Served(BODY, faults=[{"delay": 0.5}] * 9)
        kind, text = get(web, path, _WINDOW=0.4, _SLOWEST=10**9, _MOST_POOR=3)
        assert kind == "UnreadableError"
        assert "sends less than 1000000000 bytes per second" in text

    def test_a_slow_server_is_not(self, web: Web, path: Path) -> None:
        web.files["/m.pt"] = Served(BODY, faults=[{"delay": 0.5}])
        assert get(web, path, _WINDOW=0.4) is None

    def test_many_tries_that_bring_little_are_given_up(self, web: Web, path: Path) -> None:
        web.files["/m.pt"] = Served(BODY, faults=[{"cut": 1}] * 99)
        _, text = get(web, path, _MOST_POOR=20)
        assert "20 bytes have arrived and are kept" in text
        assert len(web.requests) == 20
