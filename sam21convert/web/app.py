"""What the page asks the server, and what it is answered."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from ..errors import Sam21ConvertError, UsageError
from ..markup.browser_files import with_shared
from ..prediction.prompts import Box, Point, Prompted
from . import downloads
from .clip import Clip
from .guard import LOOPBACK, Guard
from .limits import JSON_BYTES, POINTS, Limits
from .picture import Picture
from .sessions import GoneError, Session, Sessions
from .sides import Side
from .streams import Tell, failure, lines

_STATIC = Path(__file__).parent / "static"
Kind = TypeVar("Kind", Picture, Clip)


class App:
    """The answers to a page.

    Args:
        sides: The checkpoints.
        limits: What pages may ask.
        spell: Says in the words of whoever started the server what messages and notes name.

    Attributes:
        sessions: The pages that are open.
    """

    def __init__(self, sides: Sequence[Side], limits: Limits, spell: Callable[[str], str]) -> None:
        self._sides, self._limits, self._spell = sides, limits, spell
        self._files = with_shared(_STATIC)
        self.sessions = Sessions(sides, limits)

    def routes(self) -> list[Route]:
        """List the addresses.

        Returns:
            Those of the page's files, and those that it asks.
        """
        asked = {
            "clear": self._clear,
            "upload": self._upload,
            "open": self._open,
            "prompt": self._prompt,
            "everything": self._everything,
            "mark": self._mark,
            "follow": self._follow,
            "stop": self._stop,
            "here": self._here,
            "close": self._close,
        }
        page = "/api/{token}"
        return [
            Route("/", self._file),
            Route("/{name}", self._file),
            Route("/api/begin", self._begin, methods=["POST"]),
            *(Route(f"{page}/{name}", call, methods=["POST"]) for name, call in asked.items()),
            Route(f"{page}/frame/{{frame:int}}", self._frame),
            Route(f"{page}/download/{{kind}}/{{side:int}}", self._download),
        ]

    async def _file(self, request: Request) -> Response:
        """A file of the page."""
        path = self._files.get(request.path_params.get("name", "index.html"))
        return Response(status_code=404) if path is None else FileResponse(path)

    async def _begin(self, request: Request) -> Response:
        """Open a page: its name, and what it shows of the checkpoints."""
        token = await run_in_threadpool(self.sessions.begin)
        limits = {"bytes": self._limits.upload_bytes, "frames": self._limits.frames}
        sides = [side.facts(self._spell) for side in self._sides]
        local = request.url.hostname in LOOPBACK
        return JSONResponse({"session": token, "sides": sides, "limits": limits, "local": local})

    async def _clear(self, request: Request) -> Response:
        """Forget what was opened, before other files are sent."""

        def work(session: Session) -> dict[str, Any]:
            session.clear()
            return {}

        return await self._answer(request, work)

    async def _upload(self, request: Request) -> Response:
        """A file, as the body."""
        session = self._session(request)
        announced = request.headers.get("content-length", "")
        size = int(announced) if announced.isdecimal() else None
        await session.uploads.receive(request.query_params.get("name", ""), size, request.stream())
        return JSONResponse({})

    async def _open(self, request: Request) -> Response:
        """Open the files that were sent."""
        asked = await _json(request)
        names = asked.get("names")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise UsageError("names: expected a list of the files that were sent")
        folder = str(asked.get("folder", "frames"))
        return self._stream(request, lambda session, tell: session.open(names, folder, tell))

    async def _prompt(self, request: Request) -> Response:
        """Segment an object of a picture."""
        prompted = _prompted(await _json(request))
        return await self._answer(request, lambda one: _media(one, Picture).prompt(prompted))

    async def _everything(self, request: Request) -> Response:
        """Find everything in a picture."""
        points = _whole(await _json(request), "points_per_side")

        def work(session: Session, tell: Tell) -> dict[str, Any]:
            session.stop.clear()
            return _media(session, Picture).everything(points, tell, _stops(session))

        return self._stream(request, work)

    async def _mark(self, request: Request) -> Response:
        """Point at an object of a video."""
        asked = await _json(request)
        frame, obj_id = _whole(asked, "frame"), str(asked.get("object", ""))

        def work(session: Session) -> dict[str, Any]:
            clip = _media(session, Clip)
            given = _prompted(asked, frame, obj_id, len(clip.rounds))
            return clip.mark(obj_id, frame, given)

        return await self._answer(request, work)

    async def _follow(self, request: Request) -> Response:
        """Follow the objects of a video."""

        def work(session: Session, tell: Tell) -> dict[str, Any]:
            session.stop.clear()
            return _media(session, Clip).follow(tell, _stops(session))

        return self._stream(request, work)

    async def _stop(self, request: Request) -> Response:
        """Stop what goes on."""
        self._session(request).stop.set()
        return JSONResponse({})

    async def _here(self, request: Request) -> Response:
        """The page is still open."""
        self._session(request)
        await run_in_threadpool(self.sessions.end_idle)
        return JSONResponse({})

    async def _close(self, request: Request) -> Response:
        """The page was closed."""
        await run_in_threadpool(self.sessions.end, request.path_params["token"])
        return JSONResponse({})

    async def _frame(self, request: Request) -> Response:
        """A frame of a video as the page shows it; or the picture, if browsers cannot read it."""
        media, number = self._session(request).media, request.path_params["frame"]
        if isinstance(media, Picture):
            return Response(await run_in_threadpool(media.jpeg), media_type="image/jpeg")
        if not isinstance(media, Clip):
            raise UsageError("nothing is open")
        return FileResponse(media.shown(number))

    async def _download(self, request: Request) -> Response:
        """What was found, as a file."""
        session = self._session(request)
        kind, side = request.path_params["kind"], request.path_params["side"]
        if kind not in downloads.KINDS or side >= len(self._sides) or session.media is None:
            raise UsageError("nothing to download: expected masks, coco or video")
        suffix, media = downloads.KINDS[kind], session.media
        path = session.new_file(suffix)

        def write() -> None:
            with session.turn:
                downloads.write(kind, media, side, path)

        await run_in_threadpool(write)
        several = f"-{self._sides[side].name}" if len(self._sides) > 1 else ""
        name = f"{Path(media.name).stem}-{kind}{several}{suffix}".replace("/", "-")
        return FileResponse(path, filename=name, background=BackgroundTask(path.unlink))

    def _names(self, session: Session) -> Callable[[str], str]:
        return lambda text: self._spell(session.without_folder(text))

    def _session(self, request: Request) -> Session:
        return self.sessions.get(request.path_params["token"])

    async def _answer(
        self, request: Request, work: Callable[[Session], dict[str, Any]]
    ) -> Response:
        session = self._session(request)

        def run() -> dict[str, Any]:
            with session.turn:
                return work(session)

        try:
            return JSONResponse(await run_in_threadpool(run))
        except Exception as error:
            answer, status = failure(error, self._names(session))
            return JSONResponse(answer, status)

    def _stream(
        self, request: Request, work: Callable[[Session, Tell], dict[str, Any]]
    ) -> Response:
        session = self._session(request)

        def run(tell: Tell) -> dict[str, Any]:
            with session.turn:
                return work(session, tell)

        return StreamingResponse(
            lines(run, self._names(session)), media_type="application/x-ndjson"
        )


def create_app(
    sides: Sequence[Side],
    limits: Limits | None = None,
    *,
    spell: Callable[[str], str] = str,
    hosts: Iterable[str] | None = (),
    framed_by: str = "'none'",
) -> tuple[Starlette, App]:
    """Make the server of a page.

    Args:
        sides: The checkpoints.
        limits: What pages may ask; None for the usual.
        spell: As for :class:`App`.
        hosts: As for :class:`~.guard.Guard`.
        framed_by: As for :class:`~.guard.Guard`.

    Returns:
        An ASGI application, and what answers in it.
    """
    app = App(sides, limits or Limits(), spell)
    guard = Middleware(Guard, hosts=hosts, framed_by=framed_by)
    handlers = {
        GoneError: _gone,
        Sam21ConvertError: _failed,
        ClientDisconnect: _failed,  # nobody reads the answer
        Exception: _failed,
    }
    return Starlette(routes=app.routes(), middleware=[guard], exception_handlers=handlers), app


async def _gone(_: Request, __: Exception) -> Response:
    said = (
        "the server does not know this page any longer: it was started anew, or the page was idle"
    )
    return JSONResponse({"error": said, "hint": "reload the page"}, 410)


async def _failed(_: Request, error: Exception) -> Response:
    answer, status = failure(error)
    return JSONResponse(answer, status)


def _stops(session: Session) -> Callable[[], bool]:
    return session.stop.is_set


def _media(session: Session, kind: type[Kind]) -> Kind:
    if not isinstance(session.media, kind):
        raise UsageError(f"no {kind.__name__.lower()} is open")
    return session.media


async def _json(request: Request) -> dict[str, Any]:
    """The question of a page."""
    data = b""
    async for chunk in request.stream():
        data += chunk
        if len(data) > JSON_BYTES:
            raise UsageError(f"the question is too long: at most {JSON_BYTES:,} bytes")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UsageError("the question is not an object of JSON")
    return found


def _whole(asked: dict[str, Any], name: str) -> int:
    found = asked.get(name)
    if not isinstance(found, int) or isinstance(found, bool):
        raise UsageError(f"{name}: expected a whole number, found {found!r}")
    return found


def _prompted(asked: dict[str, Any], frame: int = 0, obj_id: str = "1", turn: int = 1) -> Prompted:
    """The points and the box of a question, in pixels."""
    points = [_numbers(point, 3) for point in _listed(asked.get("points", []))]
    box = asked.get("box")
    if any(label not in (0, 1) for *_, label in points):
        raise UsageError("points: expected x, y and 1 on the object or 0 off it")
    given = Prompted([Point(x, y, int(label), frame, obj_id, turn) for x, y, label in points])
    if box is not None:
        x0, y0, x1, y1 = _numbers(box, 4)
        if not (x0 < x1 and y0 < y1):
            raise UsageError("box: expected x0 < x1 and y0 < y1")
        given.box = Box(x0, y0, x1, y1, frame, obj_id, turn)
    return given


def _listed(found: Any) -> list[Any]:
    if not isinstance(found, list) or len(found) > POINTS:
        raise UsageError(f"points: expected a list of {POINTS} at most")
    return found


def _numbers(found: Any, count: int) -> list[float]:
    right = isinstance(found, list) and len(found) == count
    if not right or not all(isinstance(one, (int, float)) and math.isfinite(one) for one in found):
        raise UsageError(f"points and boxes: expected {count} numbers, found {str(found)[:100]}")
    return [float(one) for one in found]
