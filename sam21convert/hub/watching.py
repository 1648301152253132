"""Whoever waits for a download sees how far it is."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ..progress import watcher


class Download:
    """A download as the innermost :class:`~sam21convert.ProgressBar` shows it, if there is one.

    What it showed before is shown again when the ``with`` block ends.

    Args:
        name: The name of the file.
        total: Its size, if that is known.
        start: How much of it is there already.
    """

    def __init__(self, name: str, total: int | None, start: int = 0) -> None:
        self._bar = watcher()
        if self._bar is not None:
            self._before = self._bar.begin(f"downloading {name}", total or 0)
            self._bar.advance(start)

    def __enter__(self) -> Download:
        return self

    def __exit__(self, *_: object) -> None:
        bar, self._bar = self._bar, None  # tqdm closes once more when it is destroyed
        if bar is not None:
            bar.resume(self._before)

    def arrived(self, count: int) -> None:
        """Tell of bytes that have arrived.

        Args:
            count: Their number.
        """
        if self._bar is not None:
            self._bar.advance(count)


def watched(download: Callable[..., Any]) -> dict[str, Any]:
    """Let ``huggingface_hub`` tell how far a download is, in place of drawing its own bars.

    Args:
        download: Its function.

    Returns:
        Arguments for it; none if nobody watches, or an earlier version does not take them.
    """
    if watcher() is None or "tqdm_class" not in inspect.signature(download).parameters:
        return {}
    from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]

    class Bar(tqdm):
        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **{**named, "disable": True})  # type: ignore[no-untyped-call]
            self._told = Download(named["desc"], named.get("total"), named.get("initial") or 0)

        def update(self, n: float | None = 1) -> None:
            self._told.arrived(int(n or 0))

        def close(self) -> None:
            self._told.__exit__()

    return {"tqdm_class": Bar}
