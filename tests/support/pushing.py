"""Run commands against a local Hub in one process, which imports torch and the client once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from .answers import conforms
from .hub_server import Hub, User
from .hub_server.policy import SIGNATURE, WRITER

COMMANDS = """
import json, os, resource, sys, traceback
import huggingface_hub.utils.logging  # logs to the true standard error from now on
from click.testing import CliRunner
from sam21convert.hub import retry
from sam21convert.commands.main import main

for line in sys.stdin:
    words, token, retry.TIMEOUT, largest = json.loads(line)
    os.environ["HF_TOKEN"] = token
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))
    done = CliRunner().invoke(main, words)
    if not isinstance(done.exception, SystemExit | None):
        traceback.print_exception(done.exception)
    print(json.dumps([done.exit_code, done.stdout, done.stderr]), flush=True)
"""


@dataclass
class Commands:
    """A process that runs commands of sam21convert, one after the other.

    Attributes:
        process: The process, which reads commands from its standard input.
        hub: The Hub that it talks to.
        scratch: Its folder for temporary files.
        source: The checkpoint that it publishes.
        log: The file that gets what libraries write to standard error.
        timeout: How long it waits for an answer of the Hub, in seconds.
        largest: The largest file that its disk can hold, in bytes; -1 for no limit.
        announced: What the last command wrote to standard error.
    """

    process: subprocess.Popen[str]
    hub: Hub
    scratch: Path
    source: Path
    log: Path
    timeout: int = 60
    largest: int = -1
    announced: str = ""

    def run(self, *words: str, user: User | None = WRITER) -> dict[str, Any]:
        """Run a command and return its JSON answer or error.

        Checks that no scratch file is left, and that nothing secret is printed or logged.
        """
        token = user.token if user else ""
        asked = [[*words, "--json"], token, self.timeout, self.largest]
        _stream(self.process.stdin).write(json.dumps(asked) + "\n")
        _stream(self.process.stdin).flush()
        told = _stream(self.process.stdout).readline()
        log = self.log.read_text()
        assert told, log
        code, out, err = json.loads(told)
        self.announced = err
        assert out, err
        answer = conforms(out)
        assert code == answer["exit_code"]
        assert not token or token not in out + err + log
        assert SIGNATURE not in out + err + log
        assert not list(self.scratch.iterdir())
        return answer

    def push(
        self, name: str, *options: str, to: str = "hf-image", user: User | None = WRITER
    ) -> dict[str, Any]:
        """Publish ``source`` without a comparison."""
        words = ["push", str(self.source), name, "--to", to, "--parity", "none", *options]
        return self.run(*words, user=user)


def _stream(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


@contextmanager
def running(source: Path, home: Path) -> Iterator[Commands]:
    """Start the process and a new Hub, with all files in ``home``; both end with the block."""
    scratch = home / "scratch"
    scratch.mkdir()
    log = home / "log"
    inductor = str(home / "inductor")
    with (
        Hub() as hub,
        log.open("w") as errors,
        subprocess.Popen(
            [sys.executable, "-c", COMMANDS],
            env=hub.environment(home, TMPDIR=str(scratch), TORCHINDUCTOR_CACHE_DIR=inductor),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        yield Commands(process, hub, scratch, source, log)
