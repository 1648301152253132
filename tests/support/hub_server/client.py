"""The real client, run in separate processes."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .policy import WRITER, User
from .server import Hub

MIB = 1 << 20
PRELUDE = """
import json, sys
from huggingface_hub import HfApi, ModelCard, hf_hub_download, snapshot_download

api = HfApi()
globals().update(json.loads(sys.argv[1]))

def attempt(call, *arguments, **named):
    try:
        return call(*arguments, **named)
    except Exception as error:
        response = getattr(error, "response", None)
        return [type(error).__name__, None if response is None else response.status_code]
"""
UPLOAD = "answer = attempt(lambda: api.upload_folder(repo_id='org/m', folder_path=folder).oid)"
PROPOSE = "answer = api.upload_folder(repo_id='org/m', folder_path=folder, create_pr=True).pr_url"
DOWNLOAD = "answer = attempt(hf_hub_download, 'org/m', 'model.safetensors')"


@dataclass
class Client:
    """Runs code in a new process and returns what it assigns to ``answer``.

    In that code ``attempt`` turns an error into its name and status. ``folder`` contains
    ``upload``, with a card, a text file in a subfolder, and 3 MB for LFS.
    """

    hub: Hub
    folder: Path

    def __post_init__(self) -> None:
        upload = self.folder / "upload"
        (upload / "sub").mkdir(parents=True)
        (upload / "README.md").write_text("---\nlicense: mit\n---\nA card.\n")
        (upload / "sub/config.json").write_text("{}")
        (upload / "model.safetensors").write_bytes(safetensors(3 * MIB))

    def __call__(
        self, code: str, user: User | None = WRITER, home: str = "home", **environment: str
    ) -> Any:
        given = json.dumps({"folder": str(self.folder / "upload")})
        done = subprocess.run(
            [sys.executable, "-c", f"{PRELUDE}\n{code}\nprint(json.dumps(answer))", given],
            env=self.hub.environment(self.folder / home, user, **environment),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def uploaded(self, revision: str = "main") -> bool:
        """Whether a revision of ``org/m`` holds the folder, to the last byte."""
        folder = self.folder / "upload"
        local = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }
        remote = self.hub.repo("org/m").files(revision)
        remote.pop(".gitattributes")
        return local == {path: blob.read() for path, blob in remote.items()}


def safetensors(size: int) -> bytes:
    """A safetensors file with one tensor of ``size`` bytes, in which no part repeats."""
    header = {"a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}
    text = json.dumps(header).encode()
    data = np.arange(size // 4 + 1, dtype="<u4").tobytes()[:size]
    return len(text).to_bytes(8, "little") + text + data
