"""What a user may write for a published checkpoint, or for a place on the Hub.

All of it is brought to one spelling: the published name, or ``hf://org/repo[@revision][/file]``.
Nothing is looked up, here or on the Hub.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote

from ..config import registry
from ..errors import UsageError
from .published import PUBLISHED, Published
from .redaction import redact

WEB = ("https://", "http://")
_REFERENCE = re.compile(
    r"hf://(?P<repo>[^/@]+/[^/@]+)"
    r"(?:@(?P<revision>refs/[^/]+/[^/]+|[^/]+))?"
    r"(?:/(?P<file>.+))?/?"
)
_REPOSITORY = re.compile(
    r"(?P<repo>[a-z\d][\w.-]*/[a-z\d_][\w.-]*)(?:@[^@\s]+)?(?P<file>/.*)?", re.ASCII | re.IGNORECASE
)
_HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co")
_PLACES = {"tree", "blob", "resolve", "raw", "blame", "commits", "commit", "edit"}
_NO_MODELS = {"datasets", "spaces", "docs", "blog", "collections", "papers", "api", "buckets"}
_MAIN = "main"  # what the Hub calls the revision of an address that names none
FILES = {".bin", ".ckpt", ".json", ".pkl", ".pt", ".pth", ".safetensors", ".yaml", ".yml"}


class Reference(NamedTuple):
    """A parsed ``hf://`` reference.

    Attributes:
        head: its text before the name of the file.
        repo: the repository, as ``org/name``.
        revision: a branch, tag, ``refs/pr/N`` or commit; None is the main branch.
        file: the path of a file or folder in the repository, None for the whole repository.
    """

    head: str
    repo: str
    revision: str | None
    file: str | None


def spelt(text: str) -> str | None:
    """Bring what names something published, or something on the Hub, to one spelling.

    Args:
        text: what was written, if no path has this name.

    Returns:
        The name or address of a published checkpoint, or ``hf://org/repo[@revision][/file]``; None
        for anything else, such as a path.

    Raises:
        UsageError: when it is an address of the Hub, but not of a repository, folder or file.
    """
    if text.startswith("hf://"):
        return text
    page = _of_page(text)
    if page is not None:
        return page
    found = _REPOSITORY.fullmatch(text)
    if found is not None and found["repo"] in {one.repo for one in PUBLISHED}:
        return f"hf://{text}"
    published = published_named(text)
    if published is not None:
        return f"hf://{published.repo}" if text.startswith("facebook/") else published.name
    return f"hf://{text}" if found is not None and _may_be_repository(found) else None


def published_named(text: str) -> Published | None:
    """Find a published checkpoint by any of its names.

    Args:
        text: its name, another spelling of it, the name of its config, or its address.

    Returns:
        The checkpoint, or None when there is none of this name.
    """
    shipped = None if text.endswith(".yaml") else registry.find(text)
    config = None if shipped is None else shipped.name
    return next((one for one in PUBLISHED if text == one.url or config == one.config), None)


def parse(text: str) -> Reference:
    """Parse an ``hf://`` reference.

    Args:
        text: ``hf://org/repo[@revision][/file]``; the ``/`` of a revision may be written as %2F.

    Returns:
        Its parts.

    Raises:
        UsageError: when it is not of this form, or holds a character that no name has.
    """
    match = _REFERENCE.fullmatch(text)
    if match is None:
        raise UsageError(
            f"{text}: not of the form hf://org/repo[@revision][/file]",
            hint="for example hf://facebook/sam2.1-hiera-tiny",
        )
    revision = match["revision"]
    head = text[: match.end("revision" if revision else "repo")]
    revision = unquote(revision) if revision else None
    if not f"{match['repo']}{revision}{match['file']}".isprintable():
        raise UsageError(
            f"{text}: holds a character that no name on the Hub has",
            hint="for example hf://facebook/sam2.1-hiera-tiny",
        )
    return Reference(head, match["repo"], revision, match["file"])


def _may_be_repository(found: re.Match[str]) -> bool:
    """Whether ``org/repo`` is no path: there is no folder ``org``, and it has no file's ending."""
    path = Path(found["repo"])
    return not found["file"] and path.suffix not in FILES and not path.parent.exists()


def _of_page(text: str) -> str | None:
    """The reference for an address of a repository, as a browser shows it or copies a link."""
    scheme, colon, rest = text.strip().partition("://")
    address = rest if colon and f"{scheme}://" in WEB else text
    host, slash, path = address.partition("/")
    mirror = os.environ.get("HF_ENDPOINT", "").partition("://")[2].rstrip("/")
    known = host.lower() in _HOSTS or (bool(colon) and host == mirror)
    parts = [one for one in re.split("[?#]", path)[0].split("/") if one] if known and slash else []
    if len(parts) < 2 or parts[0] in _NO_MODELS:
        return None
    repo, place, inside = "/".join(parts[:2]), parts[2] if parts[2:] else None, parts[3:]
    if place is None:
        return f"hf://{repo}"
    if place not in _PLACES or not inside:
        raise UsageError(
            f"{redact(text)}: not the address of a file or folder of a repository",
            hint=f"hf://{repo} is the repository",
        )
    if inside[0] == "refs" and inside[2:]:
        inside = [quote("/".join(inside[:3]), safe=""), *inside[3:]]
    revision = "" if inside[0] == _MAIN else f"@{inside[0]}"
    return "/".join([f"hf://{repo}{revision}", *map(unquote, inside[1:])])
