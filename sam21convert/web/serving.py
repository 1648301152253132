"""Serve the page until somebody ends it."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import uvicorn

from ..errors import RefusedError, UsageError
from ..report import SILENT, Progress
from .app import App, create_app
from .guard import LOOPBACK
from .limits import Limits
from .sides import open_sides

if TYPE_CHECKING:
    from ..model.config import ModelConfig

_ENDED = {signal.SIGINT: 0, signal.SIGTERM: 128 + signal.SIGTERM}


def _say(address: str) -> None:
    print(address, flush=True)


def serve(
    checkpoints: Sequence[str],
    *,
    port: int = 0,
    host: str = LOOPBACK[0],
    names: Iterable[str] | None = (),
    framed_by: str = "'none'",
    config: str | Path | ModelConfig | None = None,
    image_size: int | None = None,
    device: str = "auto",
    browser: bool = False,
    limits: Limits | None = None,
    spell: Callable[[str], str] = str,
    progress: Progress = SILENT,
    announce: Callable[[str], None] = _say,
) -> NoReturn:
    """Serve the page until Ctrl-C, which ends the process with exit code 0.

    Args:
        checkpoints: One, or two to look at side by side.
        port: The port; 0 for a free one.
        host: The address to listen at. Only this machine can reach the default.
        names: Names under which the page may be asked for, besides those of this machine; None for
            any, for a page that everybody may reach.
        framed_by: Sites that may show the page within theirs, as Content-Security-Policy has them.
        config: As for :func:`~sam21convert.predict_image`.
        image_size: As for :func:`~sam21convert.predict_image`.
        device: As for :func:`~sam21convert.predict_image`.
        browser: Whether to open the page in a browser.
        limits: What pages may ask; None for the usual.
        spell: As for :class:`~.app.App`.
        progress: Told what is loaded.
        announce: Told the address, when the page can be opened.

    Raises:
        UsageError: If the port is not free.
        Sam21ConvertError: As :func:`~.sides.open_sides` does.
    """
    listening = _listen(host, port)
    try:
        sides = open_sides(
            checkpoints, config=config, image_size=image_size, device=device, progress=progress
        )
    except BaseException:
        listening.close()
        raise
    application, app = create_app(sides, limits, spell=spell, hosts=names, framed_by=framed_by)
    address = f"http://{LOOPBACK[0]}:{listening.getsockname()[1]}/"
    settings = uvicorn.Config(
        application, log_config=None, access_log=False, lifespan="off", server_header=False
    )
    server = _Server(settings, app, lambda: _opened(address, announce, browser=browser))
    server.run([listening])
    end(app, 0)


def end(app: App, code: int) -> NoReturn:
    """Forget all pages, and end the process at once, also while a model computes.

    Args:
        app: What answers the pages.
        code: The exit code.
    """
    app.sessions.discard_files()
    sys.stdout.flush()
    os._exit(code)


class _Server(uvicorn.Server):
    """A server that ends at once."""

    def __init__(self, config: uvicorn.Config, app: App, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._app, self._ready = app, ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        end(self._app, _ENDED[signal.Signals(sig)])


def _listen(host: str, port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        if isinstance(error, PermissionError):
            raise RefusedError(f"port {port}: {error.strerror}", hint="--port 0") from error
        raise UsageError(
            f"port {port}: {error.strerror}", hint="--port 0 takes a free one"
        ) from error
    return listening


def _opened(address: str, announce: Callable[[str], None], *, browser: bool) -> None:
    announce(address)
    if browser and _has_screen():
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()


def _has_screen() -> bool:
    """Whether a browser has somewhere to open; else one for terminals would take this terminal."""
    return sys.platform == "darwin" or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
