"""Show what a server wrote without what must stay secret: tokens, passwords and signed addresses.

A server may repeat in an error what it was sent, such as the token of the user. Error messages end
up in logs and bug reports.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ..report import one_line

if TYPE_CHECKING:
    import logging

_HIDDEN = "***"
_LONGEST = 4000  # characters: the Hub lists all its licenses when it does not know one

_RULES = (
    # User and password in an address. Some write a password that holds "/" as it is: what
    # follows a host and a colon would be a port, which is a number.
    (r"(?<=://)[^\s/?#\"'<>]*@(?=[\w\[])", f"{_HIDDEN}@"),
    (r"(?<=://)[^\s/?#:@\[\"'<>]*:(?!\d+(?:[/?#\s]|$))[^\s\"'<>]*@", f"{_HIDDEN}@"),
    (r"(?<![\w.@:-])(?!mailto:)[^\s/@:\"'<>]+:[^\s/@\"'<>]+@(?=[\w\[])", f"{_HIDDEN}@"),
    # The query of an address, where signatures are, and its fragment.
    (r"(\b[A-Za-z][A-Za-z0-9+.-]*://[^\s?#\"'<>]*)[?#][^\s\"'<>]*", rf"\1?{_HIDDEN}"),
    (r"\?[\w.%~$-]+=[^\s\"'<>]*", f"?{_HIDDEN}"),
    # Headers.
    (
        r"(?i)\b(authorization[\"']?\s*[:=]\s*[\"']?)"
        r"(?:(?:bearer|basic|token|digest)\s+)?[^\s\"',;]+",
        rf"\1{_HIDDEN}",
    ),
    (
        r"(?i)\b(bearer)(?:\s|[:=+]|%20)+(?!(?:tokens?|auth\w*|is|was|or|and|not)\b(?![.+/=-]))"
        r"[^\s\"',;<>]+",
        rf"\1 {_HIDDEN}",
    ),
    (r"(?i)\b(basic)\s+(?=\S*(?-i:[A-Z0-9=]))[^\s\"',;<>]+", rf"\1 {_HIDDEN}"),
    # Tokens of the Hub; what is excepted are names of its packages, functions and arguments.
    (
        r"(?<![A-Za-z0-9])(hf_)(?!(?:hub|raise)_|(?:transfer|xet|token)\b)[\w.-]{4,}",
        rf"\1{_HIDDEN}",
    ),
    (r"(api_org_)[\w-]+", rf"\1{_HIDDEN}"),
    (r"\beyJ[\w-]{8,}(?:\.[\w-]+)*", _HIDDEN),  # the start of every JSON web token
    # Parameters and fields with telling names, as in token=..., "secret": "..." or XML.
    (
        r"(?i)((?:signature|credential|token|passw(?:or)?d|secret|api[_-]?key|accesskey|policy"
        r"|key-pair-id|\bsig)[\w-]*(?:[\"']?\s*=\s*[\"']?|[\"']\s*:\s*[\"']|>))[^\s\"'&,;<>]+",
        rf"\1{_HIDDEN}",
    ),
)


def redact(text: str, *secrets: str) -> str:
    """Prepare a text of a server for a message: on one line, without secrets.

    Args:
        text: What the server wrote.
        *secrets: What must not be shown, in addition to the tokens that are configured on this
            machine.

    Returns:
        The text with ``***`` in place of tokens, passwords and the queries of addresses, and cut
        if it is very long.
    """
    shown = " ".join(text.split())
    for secret in {*_configured_tokens(), *secrets} - {""}:
        for form in (secret, quote(secret, safe="")):
            spelled = r"\s*".join(map(re.escape, "".join(form.split())))
            shown = re.sub(spelled, _HIDDEN, shown, flags=re.IGNORECASE)
    if len(shown) > _LONGEST:
        shown = shown[:_LONGEST].rpartition(" ")[0] + " ..."  # half a token is not recognised
    for pattern, replacement in _rules():
        shown = pattern.sub(replacement, shown)
    return one_line(shown)


@cache
def _rules() -> list[tuple[re.Pattern[str], str]]:
    return [(re.compile(pattern), shown) for pattern, shown in _RULES]


def _configured_tokens() -> Iterator[str]:
    """The tokens that ``huggingface_hub`` finds; its ``get_token`` would use the network."""
    from huggingface_hub import constants

    yield os.environ.get("HF_TOKEN", "").strip()
    yield os.environ.get("HUGGING_FACE_HUB_TOKEN", "").strip()
    try:
        yield Path(constants.HF_TOKEN_PATH).read_text(errors="replace").strip()
    except OSError:
        return


@contextmanager
def redacted_logs() -> Iterator[None]:
    """Inside the block, redact what ``huggingface_hub`` logs.

    It logs the signed address of a file when its upload or download has to be repeated.

    Yields:
        Nothing.
    """
    from huggingface_hub.utils import logging as client  # adds a handler when first imported

    hide = partial(_hide)  # its own, as the end of a block within this one takes its filter away
    handlers = client.get_logger().handlers[:]
    for handler in handlers:
        handler.addFilter(hide)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(hide)


@contextmanager
def redacted_warnings() -> Iterator[None]:
    """Inside the block, redact what ``huggingface_hub`` warns of: it passes on words of the Hub.

    Not for blocks that run in several threads at a time, as all have the same way to warn.

    Yields:
        Nothing.
    """
    show = warnings.showwarning

    def show_redacted(message: Any, category: Any, filename: str, *rest: Any, **more: Any) -> None:
        text = redact(str(message)) if "huggingface_hub" in Path(filename).parts else message
        show(text, category, filename, *rest, **more)

    warnings.showwarning = show_redacted
    try:
        yield
    finally:
        warnings.showwarning = show


def _hide(record: logging.LogRecord) -> bool:
    """Redacts every record of a handler; filters of a logger do not see those of loggers below."""
    record.msg, record.args = redact(record.getMessage()), None
    return True
