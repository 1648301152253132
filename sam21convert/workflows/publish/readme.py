"""Put the generated section into a README.md and leave every other byte as it is.

The section is enclosed by two HTML comments, which the Hub does not show. Metadata is added to the
YAML block at the top if it has no field of that name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml
from huggingface_hub import ModelCard, ModelCardData
from huggingface_hub.repocard import REGEX_YAML_BLOCK

from ...errors import RefusedError, UnreadableError
from ...io.markdown import prose

NAME = "README.md"
BEGIN = "<!-- sam21convert: begin, written anew each time -->"
END = "<!-- sam21convert: end -->"
_MARKERS = re.compile(f"{re.escape(BEGIN)}|{re.escape(END)}")


def merged(
    there: bytes | None, title: str, section: str, metadata: Mapping[str, Any]
) -> tuple[bytes, tuple[str, ...]]:
    """Insert or update the section and the metadata of a README.

    Args:
        there: The present README; None for a new one.
        title: The heading of a new README, as plain text.
        section: The text of the section, in Markdown. Its line ends become those of ``there``.
        metadata: Name of a field to its value.

    Returns:
        The new README, and notes on fields whose present values were kept.

    Raises:
        UnreadableError: If ``there`` is not UTF-8 text or its metadata is not valid YAML.
        RefusedError: If the markers or the metadata cannot be edited safely.
    """
    text = f"# {prose(title)}\n" if there is None else _decoded(there)
    newline = "\r\n" if "\r\n" in text else "\n"
    body = _with_section(text, section.replace("\n", newline), newline)
    result, kept = _with_metadata(body, metadata, newline)
    try:
        ModelCard(result)
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise RefusedError(f"{NAME}: not the metadata of a model card: {reason}") from error
    if markers(result) != [BEGIN, END]:
        raise RefusedError(
            f"{NAME}: its metadata would hold the text {BEGIN} or {END}, by which the section is "
            "found",
            hint="give other values for the metadata",
        )
    notes = (
        f"{NAME} says {name}: {_short(value)}, which is kept; {_short(metadata[name])} was not "
        "written"
        for name, value in kept.items()
    )
    return result.encode(), tuple(notes)


def metadata_of(readme: bytes) -> Mapping[str, Any]:
    """Read the metadata of a README that :func:`merged` has written.

    Args:
        readme: The README.

    Returns:
        Name of a field to its value.
    """
    return _loaded(readme.decode()) or {}


def markers(text: str) -> list[str]:
    """Find the markers of the section.

    Args:
        text: A README.

    Returns:
        Every ``BEGIN`` and ``END``, in their order.
    """
    return _MARKERS.findall(text)


def _decoded(there: bytes) -> str:
    try:
        return there.decode()
    except UnicodeDecodeError as error:
        raise UnreadableError(f"{NAME}: not UTF-8 text: {error.reason}") from error


def _with_section(text: str, section: str, newline: str) -> str:
    """Replace the text between the markers, or append it with both markers."""
    block = f"{BEGIN}{newline}{newline}{section}{newline}{END}"
    found = list(_MARKERS.finditer(text))
    if [marker[0] for marker in found] == [BEGIN, END]:
        return text[: found[0].start()] + block + text[found[1].end() :]
    if found:
        raise RefusedError(
            f"{NAME}: expected one {BEGIN} and one {END} after it, found {len(found)} in all "
            "or another order",
            hint="remove the markers: the section is then added at the end",
        )
    gap = "" if not text or text.endswith(newline * 2) else newline
    gap += "" if not text or text.endswith(newline) else newline
    return f"{text}{gap}{block}{newline}"


def _with_metadata(
    text: str, metadata: Mapping[str, Any], newline: str
) -> tuple[str, dict[str, Any]]:
    """Add missing metadata; also returns the existing values that differ from ``metadata``."""
    block = REGEX_YAML_BLOCK.search(text)
    if block is None:
        added = ModelCardData(**metadata).to_yaml(line_break=newline)
        result = f"---{newline}{added}{newline}---{newline}{newline}{text}"
        if _loaded(result) != metadata:  # YAML would read line breaks of Unicode as spaces
            raise RefusedError(
                f"{NAME}: {', '.join(metadata)} cannot be written as metadata",
                hint="give other values for the metadata",
            )
        return result, {}
    there = _parsed(block[2])
    missing = {name: value for name, value in metadata.items() if name not in there}
    kept = {name: there[name] for name in metadata if name in there}
    differing = {name: value for name, value in kept.items() if value != metadata[name]}
    if not missing:
        return text, differing
    added = ModelCardData(**missing).to_yaml(line_break=newline)
    # At the top of the block: a line added at the end could become part of a multi-line value.
    result = f"{text[: block.start(2)]}{added}{newline}{text[block.start(2) :]}"
    if _loaded(result) != {**there, **missing}:
        raise RefusedError(
            f"{NAME}: {', '.join(missing)} cannot be added to its metadata",
            hint="write the metadata as one 'name: value' per line",
        )
    return result, differing


def _parsed(block: str) -> dict[str, Any]:
    try:
        found = yaml.safe_load(block)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise UnreadableError(f"{NAME}: its metadata is not valid YAML: {reason}") from error
    if found is not None and not isinstance(found, dict):
        raise UnreadableError(f"{NAME}: its metadata is not a mapping of names to values")
    return found or {}


def _loaded(text: str) -> dict[str, Any] | None:
    """The metadata of a README; None if it has none or it cannot be read."""
    block = REGEX_YAML_BLOCK.search(text)
    try:
        return None if block is None else _parsed(block[2])
    except UnreadableError:
        return None


def _short(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
