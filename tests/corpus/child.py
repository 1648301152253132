"""Run the three commands on every case in one process, and print the outcome.

Jobs are read as JSON from standard input, answers written as JSON to standard output.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import sys
import time
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

from sam21convert.commands.main import main

COMMANDS = ("inspect", "validate", "convert")
PATIENCE = 60  # seconds, for what waits for ever


class Hung(BaseException):
    """A command took too long."""


def _hung(_: int, __: FrameType | None) -> None:
    raise Hung


def _run(*arguments: str) -> tuple[int, str, str]:
    """The exit code (70 for an uncaught exception) and what was printed."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", errors) for errors in _ERRORS)
    signal.alarm(PATIENCE)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(list(arguments))
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        except (Hung, Exception):
            traceback.print_exc()
            code = 70
    signal.alarm(0)
    texts = []
    for stream in (out, err):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode())
    return code, texts[0], texts[1]


_ERRORS = ("strict", "backslashreplace")  # as those of the interpreter


def _all(folder: Path) -> dict[str, tuple[int, int, int]]:
    """The files in a folder, with what changes when one of them is changed."""
    found = {}
    for home, folders, files in os.walk(folder):
        for name in (*folders, *files):
            known = os.lstat(Path(home, name))
            found[str(Path(home, name))] = (known.st_ino, known.st_size, known.st_mtime_ns)
    return found


def _peak() -> int:
    """Peak memory of this process in bytes; that of ``rusage`` would include its parent."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024  # type: ignore[index]


def _carried(path: Path, wanted: str) -> bool:
    """Whether the output has these bytes as ``no_mem_embed``, read without our reader."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    begin, end = json.loads(data[8:start])["no_mem_embed"]["data_offsets"]
    return data[start + begin : start + end].hex() == wanted


def answer(job: dict[str, Any]) -> list[dict[str, Any]]:
    """Run each command on a case, and return the outcomes."""
    home = Path(job["home"])
    answers = []
    for command in COMMANDS:
        os.chdir(home)
        output = home / "converted.safetensors"
        options = ["--config", "config.yaml"] if job["config"] and command != "inspect" else []
        target = [str(output)] if command == "convert" else []
        before, begun = _all(home), time.process_time()
        code, out, err = _run(command, *options, "--", job["argument"], *target)
        seconds = time.process_time() - begun
        carried = None
        if command == "convert" and code == 0:
            carried = job["carries"] is None or _carried(output, job["carries"])
            for made in home.glob("converted*"):  # a YAML may stand beside it
                made.unlink()
        after = _all(home)
        answers.append(
            {
                "command": command,
                "code": code,
                "out": out,
                "err": err,
                "seconds": seconds,
                "peak": _peak(),
                "litter": sorted(name for name in after if after[name] != before.get(name)),
                "lost": sorted(before.keys() - after.keys()),
                "carried": carried,
            }
        )
    return answers


if __name__ == "__main__":
    signal.signal(signal.SIGALRM, _hung)
    jobs = json.load(sys.stdin)
    json.dump([answer(job) for job in jobs], sys.stdout)
