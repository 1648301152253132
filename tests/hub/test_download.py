"""Downloads with the real client from a faulty server end in a complete file or in an error."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from sam21convert.hub.download import redacted

from ..support.file_server import Served, Web, environment
from ..support.forks import child

BODY = os.urandom(300_000)
OTHER = os.urandom(300_000)
RIGHT = sha256(BODY).hexdigest()
CUT = {"cut": 200_000}
LOST = {"status": 503}
# Downloads each [url, path, bytes, hash] with short waits, and prints None or [type, text].
PROGRAM = """
import json, sys
from pathlib import Path
from sam21convert.hub import download
from sam21convert.errors import Sam21ConvertError
download._WAITS = (0.01, 0.01, 0.01)
answers = []
for url, path, nbytes, digest in json.loads(sys.argv[1]):
    try:
        answers.append(download.download(url, Path(path), nbytes, digest))
    except Sam21ConvertError as error:
        answers.append([type(error).__name__, str(error)])
print(json.dumps(answers))
"""


@pytest.fixture
def web() -> Iterator[Web]:
    with Web({}) as server:
        yield server


def get(
    web: Web,
    path: Path,
    name: str = "/m.pt",
    nbytes: int | None = None,
    digest: str | None = None,
    **env: str,
) -> Any:
    """Download one file in a new process; the answer is None or [type, text]."""
    asked = [[f"{web.url}{name}", str(path), nbytes, digest]]
    (answer,) = child(PROGRAM, [json.dumps(asked)], environment(path.parent / "home", **env))
    return answer


def left(path: Path) -> set[str]:
    """The names in the folder of a download, without caches and the lock."""
    return {name for name in os.listdir(path.parent) if name not in ("home", f"{path.name}.lock")}


@pytest.mark.parametrize(
    ("served", "ranges"),
    [
        (Served(BODY), [None]),
        (Served(b""), [None]),
        (Served(BODY, faults=[CUT]), [None, "bytes=200000-"]),
        (Served(BODY, faults=[CUT, {"cut": 50_000}]), [None, "bytes=200000-", "bytes=250000-"]),
        (Served(BODY, faults=[{"cut": 1}] * 9), [None, *(f"bytes={n}-" for n in range(1, 10))]),
        (Served(BODY, ranges=False, faults=[CUT]), [None, "bytes=200000-"]),
        (Served(BODY, faults=[LOST, LOST]), [None] * 3),
        (Served(BODY, faults=[CUT, LOST]), [None, "bytes=200000-", "bytes=200000-"]),
        (Served(BODY, faults=[{"delay": 0.3}]), [None]),
        (Served(BODY, faults=[{"status": 429, "headers": {"Retry-After": "1"}}]), [None] * 2),
    ],
    ids=[
        "well", "empty", "cut", "cut twice", "cut again and again", "range ignored", "503",
        "cut, 503", "slow", "429",
    ],
)  # fmt: skip
def test_a_file_arrives_complete(
    web: Web, tmp_path: Path, served: Served, ranges: list[str | None]
) -> None:
    web.files["/m.pt"] = served
    path = tmp_path / "m.pt"
    assert get(web, path) is None
    assert path.read_bytes() == served.content
    assert web.asked("/m.pt") == ranges
    assert left(path) == {"m.pt"}


def test_an_existing_file_is_not_requested(web: Web, tmp_path: Path) -> None:
    (tmp_path / "m.pt").write_bytes(b"here")
    assert get(web, tmp_path / "m.pt") is None
    assert web.requests == []


def test_retry_after_is_respected(web: Web, tmp_path: Path) -> None:
    web.files["/m.pt"] = Served(
        BODY, faults=[{"status": 503, "headers": {"Retry-After": "1"}}, LOST]
    )
    assert get(web, tmp_path / "m.pt") is None
    first, second = (b - a for a, b in zip(web.times, web.times[1:], strict=False))
    assert second < first >= 1


@pytest.mark.parametrize(("status", "tries"), [(404, 1), (403, 1), (503, 3)])
def test_a_lasting_error_status_is_reported(
    web: Web, tmp_path: Path, status: int, tries: int
) -> None:
    web.files["/m.pt"] = Served(BODY, faults=[{"status": status}] * 9)
    kind, text = get(web, tmp_path / "m.pt")
    assert kind == "UnreadableError"
    assert f"{web.url}/m.pt: the server answered with status {status}\nhint: " in text
    assert len(web.requests) == tries
    assert left(tmp_path / "m.pt") == set()


class TestTheNextRun:
    """After a first run that ended at 200,000 bytes because the server kept failing."""

    def start(self, web: Web, path: Path, etag: str | None, digest: str | None = None) -> None:
        web.files["/m.pt"] = Served(BODY, etag, faults=[CUT, *[LOST] * 3])
        kind, text = get(web, path, digest=digest)
        assert kind == "UnreadableError"
        assert "200.0 kB have arrived and are kept" in text
        assert "m.pt.part" in left(path)
        assert not path.exists()
        web.requests.clear()

    def test_resumes_when_the_file_is_the_same(self, web: Web, tmp_path: Path) -> None:
        path = tmp_path / "m.pt"
        self.start(web, path, '"one"')
        assert get(web, path) is None
        assert web.requests == [("/m.pt", "bytes=200000-", '"one"')]
        assert path.read_bytes() == BODY
        assert left(path) == {"m.pt"}

    def test_starts_over_when_the_file_has_changed(self, web: Web, tmp_path: Path) -> None:
        path = tmp_path / "m.pt"
        self.start(web, path, '"one"')
        web.files["/m.pt"] = Served(OTHER, '"two"')
        assert get(web, path) is None
        assert path.read_bytes() == OTHER

    @pytest.mark.parametrize("etag", [None, 'W/"weak"'])
    def test_starts_over_when_a_change_could_not_be_detected(
        self, web: Web, tmp_path: Path, etag: str | None
    ) -> None:
        path = tmp_path / "m.pt"
        self.start(web, path, etag)
        web.files["/m.pt"] = Served(OTHER, etag)
        assert get(web, path) is None
        assert web.asked("/m.pt") == [None]
        assert path.read_bytes() == OTHER

    def test_resumes_when_the_hash_will_detect_a_change(self, web: Web, tmp_path: Path) -> None:
        path = tmp_path / "m.pt"
        self.start(web, path, None, RIGHT)
        assert get(web, path, digest=RIGHT) is None
        assert web.asked("/m.pt") == ["bytes=200000-"]
        assert path.read_bytes() == BODY

    def test_starts_over_when_the_file_has_become_shorter(self, web: Web, tmp_path: Path) -> None:
        path = tmp_path / "m.pt"
        short = sha256(BODY[:100]).hexdigest()
        self.start(web, path, None, short)
        web.files["/m.pt"] = Served(BODY[:100])
        assert get(web, path, digest=short) is None
        assert web.asked("/m.pt") == ["bytes=200000-", None]
        assert path.read_bytes() == BODY[:100]


@pytest.mark.parametrize(
    ("content", "nbytes", "digest", "says"),
    [
        (OTHER, len(BODY), RIGHT, f"has SHA-256 {sha256(OTHER).hexdigest()}, expected {RIGHT}"),
        (OTHER, None, RIGHT, "expected"),
    ],
    ids=["a hash", "a hash alone"],
)
def test_a_wrong_file_is_kept_under_another_name(
    web: Web, tmp_path: Path, content: bytes, nbytes: int | None, digest: str | None, says: str
) -> None:
    web.files["/m.pt"] = Served(content)
    path = tmp_path / "m.pt"
    kind, text = get(web, path, nbytes=nbytes, digest=digest)
    assert kind == "UnreadableError"
    assert says in text
    (evidence,) = left(path)
    assert evidence.startswith("m.pt.wrong-")
    assert str(tmp_path / evidence) in text
    assert (tmp_path / evidence).read_bytes() == content
    web.files["/m.pt"] = Served(BODY)
    assert get(web, path, digest=RIGHT) is None
    assert path.read_bytes() == BODY


def test_two_at_once_download_once(web: Web, tmp_path: Path) -> None:
    web.files["/m.pt"] = Served(BODY, faults=[{"delay": 2}])
    path = tmp_path / "m.pt"
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda _: get(web, path), range(2))) == [None, None]
    assert web.asked("/m.pt") == [None]
    assert path.read_bytes() == BODY


def test_a_redirect_is_followed(web: Web, tmp_path: Path) -> None:
    web.files |= {"/m.pt": Served(BODY), "/latest": Served(b"", location="/m.pt")}
    assert get(web, tmp_path / "m.pt", "/latest") is None
    assert (tmp_path / "m.pt").read_bytes() == BODY


def test_the_proxy_of_the_environment_is_used(web: Web, tmp_path: Path) -> None:
    web.files["/m.pt"] = Served(BODY)
    asked = [["http://files.invalid/m.pt", str(tmp_path / "m.pt"), None, None]]
    env = environment(tmp_path, http_proxy=web.url)
    assert child(PROGRAM, [json.dumps(asked)], env) == [None]
    assert (tmp_path / "m.pt").read_bytes() == BODY


def test_offline_means_offline(web: Web, tmp_path: Path) -> None:
    web.files["/m.pt"] = Served(BODY)
    kind, text = get(web, tmp_path / "m.pt", HF_HUB_OFFLINE="1")
    assert kind == "UnreadableError"
    assert "HF_HUB_OFFLINE forbids" in text
    assert web.requests == []


def test_an_unreachable_server_is_reported(tmp_path: Path) -> None:
    asked = [["http://127.0.0.1:9/m.pt", str(tmp_path / "m.pt"), None, None]]
    ((kind, text),) = child(PROGRAM, [json.dumps(asked)], environment(tmp_path))
    assert kind == "UnreadableError"
    assert "cannot be reached: ConnectError" in text


def test_an_address_is_printed_without_its_secrets() -> None:
    assert redacted("https://me:word@host:8/m.pt?key=secret#x") == "https://host:8/m.pt"
