"""A server of the page in this process, and a page that asks it without a browser."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote

import uvicorn

from sam21convert.web.app import App, create_app
from sam21convert.web.limits import Limits
from sam21convert.web.sides import Side

Answer = dict[str, Any]


@dataclass
class Served:
    """A server that runs."""

    port: int
    app: App

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def request(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, bytes, dict[str, str]]:
        """Status, body and headers of an answer."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named)
            answer = connection.getresponse()
            return answer.status, answer.read(), dict(answer.headers)
        finally:
            connection.close()


class Page:
    """What a page does, without a browser."""

    def __init__(self, server: Served) -> None:
        self.server = server
        status, body, _ = server.request("POST", "/api/begin")
        assert status == 200, body
        self.facts: Answer = json.loads(body)
        self.home = f"/api/{self.facts['session']}"

    def raw(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        status, data, _ = self.server.request(method, f"{self.home}/{path}", body)
        return status, data

    def ask(self, what: str, status: int = 200, **given: Any) -> Answer:
        """Ask, and expect a status."""
        found, data = self.raw("POST", what, json.dumps(given))
        assert found == status, data
        return dict(json.loads(data))

    def lines(self, what: str, **given: Any) -> list[Answer]:
        """All that long work tells; the last is how it ended."""
        status, data = self.raw("POST", what, json.dumps(given))
        assert status == 200, data
        return [json.loads(line) for line in data.splitlines()]

    def upload(self, path: Path, name: str | None = None, status: int = 200) -> Answer:
        target = f"upload?name={quote(name or path.name)}"
        found, data = self.raw("POST", target, path.read_bytes())
        assert found == status, data
        return dict(json.loads(data))

    def open(self, *paths: Path) -> Answer:
        """Send files and open them; what they are, or what is wrong with them."""
        self.ask("clear")
        for path in paths:
            self.upload(path)
        end = self.lines("open", names=[path.name for path in paths])[-1]
        return dict(end.get("result", end))


@contextmanager
def serving(
    sides: Sequence[Side], limits: Limits | None = None, hosts: Iterable[str] | None = ()
) -> Iterator[Served]:
    """Serve checkpoints on a free port."""
    application, app = create_app(sides, limits, hosts=hosts)
    config = uvicorn.Config(application, port=0, log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    end = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < end
        assert thread.is_alive()
        time.sleep(0.01)
    (listening,) = server.servers
    port = listening.sockets[0].getsockname()[1]
    try:
        yield Served(port, app)
    finally:
        server.should_exit = server.force_exit = True
        thread.join(30)
        app.sessions.end_all()
