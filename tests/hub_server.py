"""A small Hugging Face Hub on this machine, for child processes: reading models, no more.

``huggingface_hub`` reads its environment when it is imported, so what talks to this server runs in
a process of its own, with :meth:`Hub.environment`.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

Files = Mapping[str, bytes]  # path -> content


@dataclass(frozen=True)
class Repo:
    """A model repository: its files by branch or tag; ``gated`` means nobody gets any."""

    revisions: Mapping[str, Files]
    gated: bool = False

    def find(self, revision: str) -> tuple[str, Files] | None:
        """Commit hash and files of a branch, a tag or a commit."""
        for name, files in self.revisions.items():
            if revision in (name, commit := _sha1(name, *files, *files.values())):
                return commit, files
        return None


def _sha1(*parts: str | bytes) -> str:
    digest = hashlib.sha1()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
    return digest.hexdigest()


@dataclass
class Hub:
    """Serves ``repos`` while it is entered; ``requests`` are the methods and paths asked for."""

    repos: Mapping[str, Repo]
    requests: list[str] = field(default_factory=list)
    tokens: set[str | None] = field(default_factory=set)

    def __enter__(self) -> Hub:
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def environment(self, home: Path, **more: str) -> dict[str, str]:
        """The environment of a process that shall take this for the Hub, its cache in ``home``."""
        return {
            **os.environ,
            "HF_ENDPOINT": f"http://127.0.0.1:{self._server.server_port}",
            "HF_HOME": str(home),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "127.0.0.1",
            **more,
        }


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        """Write nothing to stderr."""

    def _answer(self) -> None:
        path = urlsplit(self.path).path
        self.hub.requests.append(f"{self.command} {path}")
        self.hub.tokens.add(self.headers["Authorization"])
        parts = [unquote(part) for part in path.strip("/").split("/")]
        match parts:
            case ["api", "models", org, name]:
                self._info(f"{org}/{name}", "main")
            case ["api", "models", org, name, "revision", revision]:
                self._info(f"{org}/{name}", revision)
            case ["api", "models", org, name, "tree", revision]:
                self._tree(f"{org}/{name}", revision)
            case ["api", "agent-harnesses"]:
                self._send(200, json.dumps({"standardEnvVars": [], "harnesses": {}}).encode())
            case [org, name, "resolve", revision, *rest]:
                self._file(f"{org}/{name}", revision, "/".join(rest))
            case _:
                self._send(404)

    def _find(self, name: str, revision: str) -> tuple[str, Files] | None:
        """Commit and files, or None after an answer that says what is wrong."""
        repo = self.hub.repos.get(name)
        if repo is None:
            self._fail(404, "RepoNotFound")
            return None
        found = repo.find(revision)
        if found is None:
            self._fail(404, "RevisionNotFound")
        return found

    def _info(self, name: str, revision: str) -> None:
        found = self._find(name, revision)
        if found is not None:
            commit, files = found
            siblings = [{"rfilename": path} for path in files]
            content = {"id": name, "sha": commit, "private": False, "siblings": siblings}
            self._send(200, json.dumps(content).encode())

    def _tree(self, name: str, revision: str) -> None:
        found = self._find(name, revision)
        if found is not None:
            tree = [
                {"type": "file", "path": path, "size": len(data), "oid": _sha1(data)}
                for path, data in found[1].items()
            ]
            self._send(200, json.dumps(tree).encode())

    def _file(self, name: str, revision: str, path: str) -> None:
        found = self._find(name, revision)
        if found is None:
            return
        commit, files = found
        if self.hub.repos[name].gated:
            self._fail(403, "GatedRepo")
        elif path not in files:
            self._fail(404, "EntryNotFound", commit)
        else:
            self._send(200, files[path], commit, ETag=f'"{_sha1(files[path])}"')

    def _fail(self, status: int, code: str, commit: str | None = None) -> None:
        self._send(status, b"", commit, **{"X-Error-Code": code})

    def _send(
        self, status: int, body: bytes = b"", commit: str | None = None, **headers: str
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if commit is not None:
            self.send_header("X-Repo-Commit", commit)
        for header, value in headers.items():
            self.send_header(header, value)
        self.end_headers()
        if self.command != "HEAD":
            with suppress(BrokenPipeError):
                self.wfile.write(body)
