"""The faults that can be injected, as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from sys import maxsize

ALWAYS = maxsize


@dataclass(frozen=True)
class Status:
    """Answer with this status without doing what was asked; ``body`` is sent as it is."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: str = '{"error": "injected"}'


@dataclass(frozen=True)
class Cut:
    """Hang up after ``after`` bytes of the request's body, or of the answer if it has none.

    ``reset`` ends the connection with a TCP reset instead of closing it.
    """

    after: int = 0
    reset: bool = False


@dataclass(frozen=True)
class LostAnswer:
    """Do what was asked, then hang up without an answer."""


@dataclass(frozen=True)
class Flip:
    """Invert the byte at this position of a file as it is sent."""

    at: int


@dataclass(frozen=True)
class Slow:
    """Wait before answering; the wait ends early when the server stops."""

    seconds: float


@dataclass(frozen=True)
class NoRange:
    """Ignore the Range header, as a server without support for ranges does."""


Effect = Status | Cut | LostAnswer | Flip | Slow | NoRange


@dataclass
class Fault:
    """``effect`` for the next ``times`` requests whose method and path match.

    ``path`` is a shell pattern for the whole unquoted path, in which ``*`` also matches slashes.
    The content of LFS files goes through ``/storage/ORG/NAME/SHA256/PATH``, and PUT goes to the
    same without the last part; ``/ORG/NAME/resolve/...`` only points there.
    """

    method: str
    path: str
    effect: Effect
    times: int = 1

    def strikes(self, method: str, path: str) -> bool:
        """Whether the fault applies to this request; if so, it is counted."""
        if self.times == 0 or method != self.method or not fnmatchcase(path, self.path):
            return False
        self.times -= 1
        return True
