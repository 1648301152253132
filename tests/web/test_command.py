"""``sam21convert serve``: the address first, the end at once, and one message for what is wrong."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import pytest

from ..commands.test_commands import run

WORDS = (sys.executable, "-m", "sam21convert", "serve")


@contextmanager
def serving(home: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The command, and the port that it prints."""
    environment = os.environ | {"TMPDIR": str(home / "tmp")}
    (home / "tmp").mkdir()
    line = [*WORDS, *words, "--no-browser"]
    pipe = subprocess.PIPE
    with subprocess.Popen(line, env=environment, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline()
            assert address.startswith("http://127.0.0.1:"), process.communicate()
            yield process, int(address.rstrip("/\n").rpartition(":")[2])
        finally:
            process.kill()


def ask(port: int, path: str, body: Any) -> Any:
    with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("POST", path, body)
        return json.loads(connection.getresponse().read().splitlines()[-1])


def test_the_address_a_page_and_the_end_while_it_computes(work: Path, tmp_path: Path) -> None:
    with serving(tmp_path, str(work / "first.pt"), "--port", "0") as (process, port):
        with pytest.raises(OSError, match="refused"):
            socket.create_connection((own_address(), port), timeout=5).close()
        home = f"/api/{ask(port, '/api/begin', '')['session']}"
        ask(port, f"{home}/upload?name=house.png", (work / "house.png").read_bytes())
        assert ask(port, f"{home}/open", '{"names": ["house.png"]}')["result"]["kind"] == "picture"
        assert len(os.listdir(tmp_path / "tmp")) == 1
        arguments = (port, f"{home}/everything", '{"points_per_side": 64}')
        threading.Thread(target=quietly, args=arguments, daemon=True).start()
        time.sleep(0.2)
        before = time.monotonic()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
        assert time.monotonic() - before < 5
        assert (process.returncode, out, err) == (0, "", "")
    assert os.listdir(tmp_path / "tmp") == []


def own_address() -> str:
    """An address of this machine that is not loopback; any other of loopback if it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(("192.0.2.1", 9))  # sends nothing
            found = str(asking.getsockname()[0])
        except OSError:
            found = "127.0.0.2"
    return found if not found.startswith("127.0.0.1") else "127.0.0.2"


def quietly(*arguments: Any) -> None:
    with suppress(OSError, HTTPException, IndexError):  # the server ends
        ask(*arguments)


def test_sigterm_ends_it_with_its_own_code(work: Path, tmp_path: Path) -> None:
    with serving(tmp_path, str(work / "first.pt"), "--port", "0") as (process, _):
        process.terminate()
        assert process.wait(20) == 143


def test_messages_speak_of_options(work: Path, tmp_path: Path) -> None:
    with serving(tmp_path, str(work / "first.pt"), "--port", "0") as (_, port):
        (side,) = ask(port, "/api/begin", "")["sides"]
        assert any("--config FILE" in note for note in side["notes"])


def test_a_port_that_is_taken(work: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = run("serve", work / "first.pt", "--port", port, "--no-browser")
    assert found.exit_code == 2
    assert f"error: port {port}: Address already in use" in found.stderr
    assert "hint: --port 0 takes a free one" in found.stderr


@pytest.mark.parametrize(
    ("name", "content", "said", "code"),
    [
        ("missing.pt", None, "missing.pt: No such file", 3),
        ("broken.pt", b"PK\3\4 and no more", "broken.pt: ", 3),
        ("notes.pt", b"some words", "notes.pt: ", 3),
    ],
)
def test_a_checkpoint_that_does_not_load(
    work: Path, tmp_path: Path, name: str, content: bytes | None, said: str, code: int
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    found = run("serve", work / "first.pt", tmp_path / name, "--port", "0", "--no-browser")
    assert (found.exit_code, found.stdout) == (code, "")
    assert said in found.stderr
    assert "Traceback" not in found.stderr


def test_three_checkpoints(work: Path) -> None:
    found = run("serve", *[work / "first.pt"] * 3, "--port", "0", "--no-browser")
    assert found.exit_code == 2
    assert "checkpoints: expected one or 2, found 3" in found.stderr
