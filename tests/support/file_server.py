"""A web server on this machine that goes wrong as it is told to, for child processes."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .certificates import without_certificates


@dataclass
class Served:
    """A file, and what goes wrong with the requests for it, one after the other.

    ``cut`` closes after so many bytes of the body, ``status`` answers with it and nothing else,
    ``delay`` waits so many seconds in the midst of the body; ``ranges`` False ignores ``Range``.
    ``headers`` replace those of an answer with a body, None leaves one out and a list sends it
    several times; ``endless`` repeats the content until the client has enough.
    """

    content: bytes
    etag: str | None = None
    ranges: bool = True
    faults: list[dict[str, Any]] = field(default_factory=list)
    location: str | None = None
    headers: dict[str, str | list[str] | None] = field(default_factory=dict)
    endless: bool = False


@dataclass
class Web:
    """Serves ``files`` by path while it is entered.

    ``requests`` are path, ``Range`` and ``If-Range`` of each request, ``times`` when it came.
    """

    files: dict[str, Served]
    requests: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    def __enter__(self) -> Web:
        handler = type("Handler", (_Handler,), {"web": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def asked(self, path: str) -> list[str | None]:
        """The ranges asked for of a file."""
        return [span for name, span, _ in self.requests if name == path]


class _Handler(BaseHTTPRequestHandler):
    web: Web
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Write nothing to stderr."""

    def do_GET(self) -> None:
        self.close_connection = True
        path, span, validator = (
            urlsplit(self.path).path,
            self.headers["Range"],
            self.headers["If-Range"],
        )
        self.web.requests.append((path, span, validator))
        self.web.times.append(time.monotonic())
        served = self.web.files.get(path)
        fault = served.faults.pop(0) if served and served.faults else {}
        if served is None or "status" in fault or served.location is not None:
            self.send_response(fault.get("status", 404 if served is None else 302))
            self.send_header("Content-Length", "0")
            if served is not None and served.location is not None:
                self.send_header("Location", served.location)
            for name, value in fault.get("headers", {}).items():
                self.send_header(name, value)
            self.end_headers()
            return
        start = int(span.removeprefix("bytes=").rstrip("-")) if span and served.ranges else 0
        if validator not in (None, served.etag):
            start = 0
        self._body(served, start, fault)

    def _body(self, served: Served, start: int, fault: dict[str, Any]) -> None:
        total = len(served.content)
        if start >= total > 0:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{total}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        headers: dict[str, str | list[str] | None] = {
            "Content-Range": f"bytes {start}-{total - 1}/{total}" if start else None,
            "Content-Length": str(total - start),
            "ETag": served.etag,
            **served.headers,
        }
        for name, value in headers.items():
            for each in [value] if isinstance(value, str) else value or []:
                self.send_header(name, each)
        self.end_headers()
        body = served.content[start:]
        with suppress(BrokenPipeError, ConnectionResetError):
            half = fault.get("cut", len(body) // 2)
            self.wfile.write(body[:half])
            time.sleep(fault.get("delay", 0))
            if "cut" not in fault:
                self.wfile.write(body[half:])
            while served.endless:
                self.wfile.write(body)


def environment(home: Path, **more: str) -> dict[str, str]:
    """Of a process that shall find both caches in ``home``, and no proxy."""
    proxies = {"http_proxy", "https_proxy", "all_proxy"}
    kept = {name: value for name, value in os.environ.items() if name.lower() not in proxies}
    return {
        **without_certificates(kept, home),
        "HF_HOME": str(home / "hf"),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "HF_HUB_DISABLE_XET": "1",
        "XDG_CACHE_HOME": str(home),
        **more,
    }
