"""Requests and answers of the server, without sockets."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .faults import Effect


@dataclass
class Request:
    """One request, logged on arrival, before it is handled.

    ``path`` is unquoted and without the query, ``raw`` as it came; ``parts`` are its segments, each
    unquoted by itself, so that a quoted slash stays within one. ``effect`` is the injected fault,
    if one matched; ``at`` is the time of arrival in seconds, since whenever; ``sent`` counts the
    bytes of the body of the answer.
    """

    method: str
    path: str
    raw: str
    parts: tuple[str, ...]
    query: Mapping[str, str]
    headers: Mapping[str, str] = field(repr=False)
    body: Iterable[bytes] = field(repr=False)
    effect: Effect | None = None
    at: float = field(default_factory=time.monotonic)
    sent: int = 0

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def token(self) -> str | None:
        """The bearer token, or None."""
        return self.headers.get("authorization", "").removeprefix("Bearer ") or None

    def text(self) -> str:
        """The complete body, which should be small."""
        return b"".join(self.body).decode()

    def json(self) -> Any:
        """The complete body, parsed as JSON."""
        return json.loads(self.text())


@dataclass(frozen=True)
class Answer:
    """A status, headers, and the bytes ``start`` to ``stop`` of ``body`` or of the file there."""

    status: int
    body: bytes | Path = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    start: int = 0
    stop: int | None = None

    @property
    def end(self) -> int:
        """The position after the last byte to send."""
        if self.stop is not None:
            return self.stop
        return len(self.body) if isinstance(self.body, bytes) else self.body.stat().st_size


def as_json(content: Any, status: int = 200, **headers: str) -> Answer:
    """An answer in JSON."""
    kind = {"Content-Type": "application/json"}
    return Answer(status, json.dumps(content).encode(), {**kind, **headers})


class RefusalError(Exception):
    """Ends a request with an error; from ``code`` the client chooses its exception."""

    def __init__(self, status: int, message: str, code: str | None = None, **headers: str) -> None:
        super().__init__(message)
        named = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self.answer = as_json({"error": message}, status, **named, **headers)
