"""Progress that is written down, to be compared with what was announced."""

from __future__ import annotations

from sam21convert.report import Progress


class Recorded(Progress):
    """The total that was announced last, and what was done since."""

    def __init__(self) -> None:
        self.label, self.total, self.done = "", 0, 0
        self.doing: list[str] = []

    def start(self, label: str, total: int) -> None:
        self.label, self.total, self.done = label, total, 0

    def advance(self, count: int, doing: str = "") -> None:
        self.done += count
        self.doing += [doing] if doing else []
