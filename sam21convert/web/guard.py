"""Who may ask: the page itself, at the address that was printed, and nobody else.

A page of another site could send questions to this machine, or let its own name lead here (DNS
rebinding). Browsers tell which name they asked for (Host), and from which site (Origin).
"""

from __future__ import annotations

from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' blob:",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
}
_OWN_PAGE = "this server answers its own page alone"
LOOPBACK = ("127.0.0.1", "localhost")


class Guard:
    """Lets through what the page asks, and says what browsers may load.

    Args:
        app: What answers.
        hosts: Names under which the page may be asked for, besides those of this machine itself;
            None for any, where everybody may ask and a proxy may change the name.
        framed_by: Sites that may show the page within theirs.
    """

    def __init__(
        self, app: ASGIApp, hosts: Iterable[str] | None = (), framed_by: str = "'none'"
    ) -> None:
        self._app = app
        self._hosts = None if hosts is None else {*LOOPBACK, *hosts}
        policy = {**_POLICY, "frame-ancestors": framed_by}
        self._headers = {
            "content-security-policy": "; ".join(map(" ".join, policy.items())),
            "cache-control": "no-store",
            "cross-origin-resource-policy": "same-origin",
            "referrer-policy": "no-referrer",
            "x-content-type-options": "nosniff",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            return
        refusal = self._refusal(Headers(scope=scope), scope["method"])

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        answer = self._app if refusal is None else PlainTextResponse(refusal, 403)
        await answer(scope, receive, with_headers)

    def _refusal(self, headers: Headers, method: str) -> str | None:
        site, mode = headers.get("sec-fetch-site", "none"), headers.get("sec-fetch-mode")
        follows = method == "GET" and mode == "navigate"  # a link, or a page that frames this one
        if site not in ("same-origin", "none") and not follows:
            return _OWN_PAGE
        if self._hosts is None:
            return None
        host = headers.get("host", "")
        if (host.rpartition(":")[0] or host) not in self._hosts:
            return f"this server does not answer for {host[:100]!r}"
        origin = headers.get("origin")
        if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
            return _OWN_PAGE
        return None
