"""Programs in processes of their own that need not import again what all of them import.

The processes are forks of one that has imported torch, and the client of the Hub with what it
needs. The client itself and the package are imported anew in each, because they read the
environment then.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

_ANEW = ("huggingface_hub", "sam21convert")
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        "huggingface_hub.file_download",
        "huggingface_hub.hf_api",
        "sam21convert.commands.main",
        "torch",
    ]
)


def child(program: str, arguments: Sequence[str], env: dict[str, str]) -> Any:
    """Run a program that prints JSON and nothing on standard error; warnings are errors in it.

    Args:
        program: Its text.
        arguments: What it finds in ``sys.argv`` from 1 on.
        env: Its environment.

    Returns:
        What it prints.
    """
    with TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = _FORKS.Process(target=_run, args=(program, list(arguments), env, out, err))
        process.start()
        process.join()
        assert (process.exitcode, err.read_text()) == (0, "")
        return json.loads(out.read_text())


def _run(program: str, arguments: list[str], env: dict[str, str], out: Path, err: Path) -> None:
    for number, path in enumerate((out, err), 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(env)
    for name in [name for name in sys.modules if name.partition(".")[0] in _ANEW]:
        del sys.modules[name]
    warnings.simplefilter("error")
    sys.argv = ["-c", *arguments]
    exec(compile(program, "<program>", "exec"), {"__name__": "__main__"})
