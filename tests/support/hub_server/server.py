"""The Hub on the wire: two ports of this machine, a log of requests, and faults."""

from __future__ import annotations

import io
import os
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import SO_LINGER, SOL_SOCKET
from tempfile import TemporaryDirectory
from types import TracebackType
from urllib.parse import parse_qsl, unquote, urlsplit

from ..certificates import without_certificates
from .faults import Cut, Effect, Fault, Flip, LostAnswer, NoRange, Slow, Status
from .messages import Answer, Request
from .policy import WRITER, User
from .repo import Repo
from .routes import answer
from .store import Store

PIECE = 1 << 16


class Hub:
    """Serves while it is entered.

    ``requests`` holds what was asked for, in the order of arrival. The client reads its
    environment when it is imported: what talks to this runs in a process of its own, with
    :meth:`environment`.
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.closing = threading.Event()
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Hub:
        with ExitStack() as stack:
            folder = stack.enter_context(TemporaryDirectory(ignore_cleanup_errors=True))
            endpoint, storage = (self._listen(stack) for _ in range(2))
            self.store = Store(Path(folder), endpoint, storage)
            stack.callback(self.closing.set)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def _listen(self, stack: ExitStack) -> str:
        handler = type("Handler", (_Handler,), {"hub": self})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        stack.callback(thread.join)
        stack.callback(server.server_close)
        stack.callback(server.shutdown)
        return f"http://127.0.0.1:{server.server_port}"

    def create(
        self,
        name: str,
        files: Mapping[str, bytes] | None = None,
        *,
        private: bool = False,
        gated: bool = False,
    ) -> Repo:
        """A repository that is there already, with these files besides ``.gitattributes``."""
        return self.store.create(name, files, private=private, gated=gated)

    def repo(self, name: str) -> Repo:
        """A repository by its name."""
        return self.store.repos[name]

    def inject(self, *faults: Fault) -> None:
        """Adds faults; each request meets the first that matches and is not used up."""
        with self._lock:
            self._faults += faults

    def heal(self) -> None:
        """Takes all faults away."""
        with self._lock:
            self._faults.clear()

    def asked(self, method: str, path: str = "*") -> list[Request]:
        """The requests so far with this method and a path that matches this shell pattern."""
        return [
            request
            for request in list(self.requests)
            if request.method == method and fnmatchcase(request.path, path)
        ]

    def arrived(self, request: Request) -> Effect | None:
        """Logs a request, and tells the fault that it meets."""
        with self._lock:
            for fault in self._faults:
                if fault.strikes(request.method, request.path):
                    request.effect = fault.effect
                    break
            self.requests.append(request)
        return request.effect

    def environment(self, home: Path, user: User | None = WRITER, **more: str) -> dict[str, str]:
        """The environment of a process of this user to which this is the Hub; None: nobody."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        return {
            **without_certificates(kept, home),
            "HF_ENDPOINT": self.store.endpoint,
            "HF_HOME": str(home),
            **({"HF_TOKEN": user.token} if user else {}),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "127.0.0.1",
            **more,
        }


class _HungUpError(Exception):
    """The connection must end here, or the client has ended it."""

    def __init__(self, reset: bool = False) -> None:
        self.reset = reset


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Handle a request of any method; ``routes`` decides what to do."""
        url = urlsplit(self.path)
        self._left = int(self.headers["Content-Length"] or 0)
        self._cut: Cut | None = None
        request = Request(
            method=self.command,
            path=unquote(url.path),
            raw=url.path,
            parts=tuple(unquote(part) for part in url.path.strip("/").split("/")),
            query=dict(parse_qsl(url.query, keep_blank_values=True)),
            headers={name.lower(): value for name, value in self.headers.items()},
            body=self._body(),
        )
        try:
            self._carry_out(request, self.hub.arrived(request))
        except _HungUpError as end:
            self._hang_up(end.reset)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

    def _carry_out(self, request: Request, effect: Effect | None) -> None:
        if isinstance(effect, Slow):
            self.hub.closing.wait(effect.seconds)
        if isinstance(effect, Cut):
            self._cut = effect
        if isinstance(effect, NoRange):
            request.headers = {**request.headers, "range": ""}
        if isinstance(effect, Status):
            made = Answer(effect.status, effect.body.encode(), effect.headers)
        else:
            made = answer(self.hub.store, request)
        for _ in request.body:
            pass  # unread bytes would be taken for the next request
        if isinstance(effect, LostAnswer):
            raise _HungUpError
        self._send(made, request)

    def _body(self) -> Iterator[bytes]:
        """The body of the request, piece by piece, up to an injected cut."""
        if not self._left:
            return
        cut, self._cut = self._cut, None
        until_cut = cut.after if cut else self._left + 1
        while self._left:
            if until_cut == 0:
                raise _HungUpError(cut is not None and cut.reset)
            piece = self.rfile.read(min(PIECE, self._left, until_cut))
            if not piece:
                raise _HungUpError
            self._left -= len(piece)
            until_cut -= len(piece)
            yield piece

    def _send(self, made: Answer, request: Request) -> None:
        effect, left = request.effect, made.end - made.start
        if self._cut and self._cut.after == 0:
            raise _HungUpError(self._cut.reset)
        self.send_response(made.status)
        self.send_header("Content-Length", str(left))
        for header, value in made.headers.items():
            self.send_header(header, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        with (
            io.BytesIO(made.body) if isinstance(made.body, bytes) else made.body.open("rb") as file
        ):
            file.seek(made.start)
            until_cut = self._cut.after if self._cut else left + 1
            while left:
                if self._cut and until_cut == 0:
                    raise _HungUpError(self._cut.reset)
                position = file.tell()
                piece = file.read(min(PIECE, left, until_cut))
                if isinstance(effect, Flip) and 0 <= effect.at - position < len(piece):
                    piece = _flipped(piece, effect.at - position)
                request.sent += len(piece)
                self.wfile.write(piece)
                left -= len(piece)
                until_cut -= len(piece)

    def _hang_up(self, reset: bool) -> None:
        self.close_connection = True
        if reset:
            # With a linger time of 0, closing sends a reset instead of a regular end.
            self.connection.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
            self.rfile.close()
            self.connection.close()

    def log_message(self, *_: object) -> None:
        """Write nothing to stderr."""


def _flipped(piece: bytes, at: int) -> bytes:
    return piece[:at] + bytes([piece[at] ^ 0xFF]) + piece[at + 1 :]
