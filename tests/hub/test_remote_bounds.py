"""What is read from a server without a download is bounded, whatever the server sends."""

from __future__ import annotations

import time

import pytest

from sam21convert.errors import UnreachableError
from sam21convert.hub import download, remote
from sam21convert.hub.download import BadAnswerError, Pace, TooSlowError, refuse_encoded
from sam21convert.hub.remote import _Answer, _Content


def served(size: int, monkeypatch: pytest.MonkeyPatch) -> _Content:
    """A file of zeros on a server."""

    def answer(_: str, start: int, stop: int) -> _Answer:
        stop = min(stop, size)
        return _Answer(206, f"bytes {start}-{stop - 1}/{size}", bytes(stop - start))

    monkeypatch.setattr(remote, "_request_range", answer)
    return _Content("hf://a/b/c", "")


def test_all_that_is_kept_of_a_file_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    content = served(1 << 30, monkeypatch)
    content.read(1 << 20, 50 << 20)
    content.read(100 << 20, 150 << 20)
    with pytest.raises(UnreachableError, match=r"^hf://a/b/c: \d+ bytes .* in all, more than"):
        content.read(200 << 20, 250 << 20)
    with pytest.raises(UnreachableError, match="in one request, more than"):
        content.read(200 << 20, 300 << 20)
    assert content.read(1 << 20, 2 << 20) == bytes(1 << 20)  # what was read is still there


def test_a_server_that_sends_hardly_anything_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_WINDOW", 10)
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    pace = Pace()
    for _ in range(20):
        now[0] += 1
        pace.add(1000)
    now[0] += 10
    with pytest.raises(TooSlowError, match="less than 1000 bytes per second"):
        pace.add(9999)


@pytest.mark.parametrize("error", [BadAnswerError("is odd"), TooSlowError("is slow")])
def test_the_file_is_named(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    content = served(1 << 20, monkeypatch)
    tries = []

    def fail(*_: object) -> None:
        tries.append(1)
        raise error

    monkeypatch.setattr(remote, "_request_range", fail)
    with pytest.raises(UnreachableError, match=rf"^hf://a/b/c: {error}\n") as caught:
        content.read(1 << 19, 1 << 20)
    assert caught.value.hint
    assert len(tries) == 1


@pytest.mark.parametrize("value", ["gzip", "x-gzip", "identity, br", "Deflate"])
def test_an_encoded_body_is_refused(value: str) -> None:
    refuse_encoded({})
    refuse_encoded({"Content-Encoding": " Identity "})
    with pytest.raises(BadAnswerError, match="encoded"):
        refuse_encoded({"Content-Encoding": value})
