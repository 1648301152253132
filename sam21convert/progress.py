"""Progress that people see: on a terminal or in a notebook, and nowhere else.

rich draws it, and is imported when there is something to draw.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .report import Progress, one_line

if TYPE_CHECKING:
    from rich.progress import Progress as Display
    from rich.progress import TaskID

    Picture = Callable[[Display], AbstractContextManager[Callable[[], object]]]

_PATIENCE = 0.5  # seconds that work may take without anything to see
_EVERY = 0.1  # seconds between two pictures
_BAR = 20  # columns, and at most a quarter of the terminal
_REST = 16  # columns of what stands beside the bar and the phase
_SHORTEST = 8  # columns of the name of a step that is cut
_MOST = 99  # per cent, while work goes on


@dataclass
class Phase:
    """A phase of the work.

    Attributes:
        label: What is done.
        total: How much there is to do; 0 where it is not known.
        done: How much of it was done.
        doing: The step that began last, or how far the phase is in words.
        steps: How many began.
        began: When the phase began.
    """

    label: str
    total: int
    done: int = 0
    doing: str = ""
    steps: int = 0
    began: float = field(default_factory=time.monotonic)

    def text(self, room: int) -> str:
        """Name the phase, its step, and which of how many that is.

        Args:
            room: The number of columns. The name of the step is cut, then left out, and then the
                label is cut.

        Returns:
            A text such as ``comparing point (3 of 14)``, which is not longer.
        """
        count = f" ({self.steps} of {self.total})" if self.steps and self.total else ""
        label, doing = self.label, f" {self.doing}" if self.doing else ""
        left = room - len(label) - len(count)
        if len(doing) > left:
            doing = f" ...{doing[4 - left :]}" if left > _SHORTEST else ""
        if len(label) + len(doing) + len(count) > room:
            label = f"{label[: max(room - len(count) - 3, 0)]}..."
        return f"{label}{doing}{count}"[: max(room, 0)]

    def beside(self) -> str:
        """Say how long the phase takes, and how much was done where that is no number of steps.

        Returns:
            The time, after a percentage that is less than 100 as long as it is shown.
        """
        minutes, seconds = divmod(int(time.monotonic() - self.began), 60)
        percent = min(_MOST, 100 * self.done // self.total) if self.total else 0
        share = f"{percent} %  " if self.total and not self.steps else ""
        return f"{share}{minutes}:{seconds:02}"


class ProgressBar(Progress):
    """Shows phases, steps and time of long work, on a terminal or in a notebook.

    It appears after half a second, is gone at the end of the ``with`` block, and shows nothing in a
    pipe or a log. Downloads within the block are shown too. If the terminal is gone, the work goes
    on.

    Args:
        hidden: Whether to show nothing anywhere.

    Example:
        >>> with sam21convert.ProgressBar() as progress:
        ...     done = sam21convert.convert("model.pt", "copy.safetensors", progress=progress)
    """

    def __init__(self, *, hidden: bool = False) -> None:
        self._picture = None if hidden else self._place()
        self._lock = threading.Lock()
        self.thread = threading.get_ident()
        self._phase = Phase("", 0)
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()

    def __enter__(self) -> ProgressBar:
        self.thread = threading.get_ident()
        _open.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        _open.remove(self)
        self.close()

    @property
    def visible(self) -> bool:
        """Whether anybody can see it."""
        return self._picture is not None

    def start(self, label: str, total: int) -> None:
        """Begin a phase in place of the present one.

        Args:
            label: What is done.
            total: How much there is to do: bytes, frames or steps; 0 where it is not known.
        """
        self.begin(label, total)

    def begin(self, label: str, total: int) -> Phase:
        """Begin a phase after which the present one goes on.

        Args:
            label: As for :meth:`start`.
            total: As for :meth:`start`.

        Returns:
            The present one, for :meth:`resume`.
        """
        with self._lock:
            before, self._phase = self._phase, Phase(one_line(label), total)
        if self.visible and self._thread is None:
            import contextvars

            self._ended = threading.Event()
            # rich is imported here: two threads that import at once may get in each other's way.
            drawing = self._draw, *_display()
            context = contextvars.copy_context()  # a notebook finds its cell in it
            self._thread = threading.Thread(target=context.run, args=drawing, daemon=True)
            self._thread.start()
        return before

    def resume(self, phase: Phase) -> None:
        """Go on with a phase.

        Args:
            phase: What :meth:`begin` returned.
        """
        with self._lock:
            self._phase = phase

    def advance(self, count: int, doing: str = "") -> None:
        """Report what was done since the last call.

        Args:
            count: How much of the total; it may be 0.
            doing: The name of the step that begins now.
        """
        with self._lock:
            self._phase.done += count
            if doing:
                self._phase.doing = one_line(doing)
                self._phase.steps += 1

    def tell(self, text: str) -> None:
        """Say how far the phase is.

        Args:
            text: A few words, in place of those told before.
        """
        with self._lock:
            self._phase.doing = one_line(text)

    def close(self) -> None:
        """Take away what is shown; :meth:`start` may show more."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _place(self) -> Picture | None:
        """Where to draw."""
        if sys.stderr is not None and sys.stderr.isatty():
            return None if os.environ.get("TERM") in ("dumb", "unknown") else _on_terminal
        return _in_notebook if "ipykernel" in sys.modules else None

    def _draw(self, display: Display, room: int) -> None:
        if self._ended.wait(_PATIENCE):
            return
        drawn, task = self._phase, self._add(display, room)
        assert self._picture is not None
        with suppress(OSError), self._picture(display) as refresh:
            while not self._ended.wait(_EVERY):
                if self._phase is not drawn:
                    display.remove_task(task)
                    drawn, task = self._phase, self._add(display, room)
                display.update(task, **self._state(room))
                refresh()

    def _add(self, display: Display, room: int) -> TaskID:
        state = self._state(room)
        return display.add_task(state.pop("description"), **state)

    def _state(self, room: int) -> dict[str, Any]:
        """What is drawn of the present phase."""
        with self._lock:
            phase = self._phase
            total = phase.total or None
            most = phase.done if total is None else total * _MOST / 100
            return {
                "description": phase.text(room),
                "total": total,
                "completed": min(phase.done, most),
                "beside": phase.beside(),
            }


def _display() -> tuple[Display, int]:
    """What is drawn, and the number of columns that the phase has in it."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Display

    console = Console(stderr=True)
    bar = min(_BAR, console.width // 4)
    display = Display(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar),
        TextColumn("{task.fields[beside]}"),
        console=console,
        transient=True,
        auto_refresh=False,
        redirect_stdout=False,
    )
    return display, console.width - bar - _REST


_open: list[ProgressBar] = []


def watcher() -> ProgressBar | None:
    """Find out who watches what goes on far below, such as a download.

    Returns:
        The innermost bar whose ``with`` block goes on, if this thread has opened it.
    """
    return _open[-1] if _open and _open[-1].thread == threading.get_ident() else None


@contextmanager
def _on_terminal(display: Display) -> Iterator[Callable[[], object]]:
    with display:
        yield display.refresh


@contextmanager
def _in_notebook(display: Display) -> Iterator[Callable[[], object]]:
    """Without ipywidgets, which rich would need."""
    from IPython.display import display as show

    table = display.make_tasks_table(display.tasks)
    handle: Any = show(table, display_id=True)  # type: ignore[no-untyped-call]
    try:
        yield lambda: handle.update(display.make_tasks_table(display.tasks))
    finally:
        handle.update({"text/plain": ""}, raw=True)
