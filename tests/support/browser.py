"""A headless Chromium, driven over a pipe by the protocol of its developer tools."""

from __future__ import annotations

import base64
import fcntl
import io
import json
import os
import select
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)
_OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
    "--remote-debugging-pipe",
)
KEYS = {"Enter": 13, "Backspace": 8, "Escape": 27, "Tab": 9, "ArrowLeft": 37, "ArrowUp": 38}
KEYS |= {"ArrowRight": 39, "ArrowDown": 40, "1": 49, "2": 50, "3": 51}
SHIFT = 8


class Browser:
    """A browser with one page."""

    def __init__(self, home: Path, *options: str, patience: int = 60) -> None:
        self._patience = patience  # seconds
        assert CHROMIUM is not None
        theirs, self._out = (_high(fd) for fd in os.pipe())
        self._in, answers = (_high(fd) for fd in os.pipe())
        line = [CHROMIUM, *_OPTIONS, *options, f"--user-data-dir={home}", "about:blank"]
        script = f'exec "$@" 3<&{theirs} 4>&{answers}'
        self._process = subprocess.Popen(
            ["bash", "-c", script, "bash", *line],
            pass_fds=(theirs, answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs)
        os.close(answers)
        self._buffer = b""
        self._count = 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        self.address = ""
        pages = self.call("Target.getTargets")["targetInfos"]
        (target,) = [one["targetId"] for one in pages if one["type"] == "page"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        """End the browser."""
        with suppress(OSError, AssertionError):
            self._session = None
            self.call("Browser.close")
        self._process.wait(20)
        os.close(self._in)
        os.close(self._out)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol and wait for its answer."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._count:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return dict(answer["result"])
            self.events.append(answer)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], self._patience)
            assert ready, "the browser does not answer"
            data = os.read(self._in, 1 << 20)
            assert data, "the browser ended"
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(message))

    def open(self, address: str, width: int = 1280, height: int = 900) -> None:
        """Open a page in a window of that size."""
        self.resize(width, height)
        self.events.clear()
        self.call("Page.navigate", url=address)
        self.address = address
        self.until("document.readyState === 'complete'")

    def resize(self, width: int, height: int) -> None:
        """Give the window another size, in pixels."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    def prefer(self, **features: str) -> None:
        """Set what the user prefers, such as ``color_scheme="dark"``."""
        given = [
            {"name": f"prefers-{name.replace('_', '-')}", "value": value}
            for name, value in features.items()
        ]
        self.call("Emulation.setEmulatedMedia", features=given)

    def value(self, code: str) -> Any:
        """Evaluate an expression, which may be a promise."""
        done = self.call("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def until(self, code: str) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + self._patience
        while not self.value(code):
            assert time.monotonic() < end, f"{code}: {self.value('document.body.innerText')}"
            time.sleep(0.02)

    def centre(self, selector: str, x: float = 0.5, y: float = 0.5) -> tuple[float, float]:
        """Where a part of an element is in the window, scrolled into view."""
        code = (
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect();"
            f"return [r.left + {x} * r.width, r.top + {y} * r.height]; }})()"
        )
        left, top = self.value(code)
        return left, top

    def click(self, selector: str, x: float = 0.5, y: float = 0.5, modifiers: int = 0) -> None:
        """Click with the mouse."""
        self.drag(selector, (x, y), (x, y), modifiers)

    def drag(
        self,
        selector: str,
        start: tuple[float, float],
        end: tuple[float, float],
        modifiers: int = 0,
    ) -> None:
        """Press the mouse at one part of an element, and let it go at another."""
        places = [self.centre(selector, *start), self.centre(selector, *end)]
        for kind, (left, top) in zip(
            ("mousePressed", "mouseMoved", "mouseReleased"), [*places, places[1]], strict=True
        ):
            held = {"button": "left", "buttons": 1, "clickCount": 1, "modifiers": modifiers}
            self.call("Input.dispatchMouseEvent", type=kind, x=left, y=top, **held)

    def tap(self, selector: str, x: float = 0.5, y: float = 0.5) -> None:
        """Touch and let go."""
        left, top = self.centre(selector, x, y)
        self.call("Emulation.setTouchEmulationEnabled", enabled=True)
        for kind, points in (("touchStart", [{"x": left, "y": top}]), ("touchEnd", [])):
            self.call("Input.dispatchTouchEvent", type=kind, touchPoints=points)
        self.call("Emulation.setTouchEmulationEnabled", enabled=False)

    def press(self, *keys: str, modifiers: int = 0) -> None:
        """Press keys, one after the other."""
        for key in keys:
            what = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS[key]}
            text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
            for kind in ("keyDown", "keyUp"):
                more = text if kind == "keyDown" else {}
                held = {"modifiers": modifiers, **what, **more}
                self.call("Input.dispatchKeyEvent", type=kind, **held)

    def give(self, selector: str, *files: Path) -> None:
        """Choose files in an input for files."""
        code = f"document.querySelector({json.dumps(selector)})"
        found = self.call("Runtime.evaluate", expression=code)["result"]["objectId"]
        self.call("DOM.setFileInputFiles", files=[str(file) for file in files], objectId=found)

    def screen(self, path: Path | None = None, *, whole: bool = True) -> NDArray[np.uint8]:
        """What is shown, or all of the page, as ``H x W x 3``."""
        done = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        data = base64.b64decode(done["data"])
        if path is not None:
            path.write_bytes(data)
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))

    def screen_of(self, selector: str) -> NDArray[np.uint8]:
        """What an element shows, ``H x W x 3``."""
        left, top = map(round, self.centre(selector, 0, 0))
        right, bottom = map(round, self.centre(selector, 1, 1))
        return self.screen(whole=False)[max(top, 0) : bottom, left:right]

    def complaints(self) -> list[str]:
        """What went wrong since then, in scripts, the network and the security policy."""
        self.value("0")
        found = [one for one in self.events if one.get("method") == "Runtime.exceptionThrown"]
        logged = [one for one in self.events if one.get("method") == "Log.entryAdded"]
        return [json.dumps(one["params"]) for one in (*found, *logged)]


def _high(fd: int) -> int:
    """The same, where a shell does not need the number."""
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 20)
    os.close(fd)
    return moved


class _Files(SimpleHTTPRequestHandler):
    """Serves a folder without writing a log."""

    headers_of_all: dict[str, str] = {}  # noqa: RUF012

    def log_message(self, *args: Any) -> None:
        """Say nothing."""

    def end_headers(self) -> None:
        """Forbid to keep anything, so that a file that changes is seen."""
        self.send_header("Cache-Control", "no-store")
        for name, value in self.headers_of_all.items():
            self.send_header(name, value)
        super().end_headers()


class _Isolated(_Files):
    headers_of_all = {  # noqa: RUF012
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Embedder-Policy": "require-corp",
    }


@contextmanager
def served(folder: Path, *, isolated: bool = False) -> Iterator[str]:
    """Serve a folder, and give its address; isolated pages may use threads."""
    kind: Callable[..., Any] = partial(_Isolated if isolated else _Files, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()


def saved(folder: Path, name: str) -> Path:
    """The path of a download, when it is there: its name is taken by an empty file before."""
    path, end = folder / name, time.monotonic() + 20
    while not path.exists() or not path.stat().st_size:
        assert time.monotonic() < end, [*folder.iterdir()]
        time.sleep(0.02)
    return path
