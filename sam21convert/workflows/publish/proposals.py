"""What a card could state and does not: proposed with where it is known from, never written.

Only the user knows what the model was trained from, and under which license it may be published.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import hf_hub_download
from huggingface_hub.repocard import REGEX_YAML_BLOCK

from ...checkpoint.open import Checkpoint
from ...errors import Sam21ConvertError
from ...hub.errors import translate_errors
from ...hub.published import PUBLISHED
from ...hub.spelling import parse, published_named, spelt
from ...io.nearby import expanded
from ...io.source import CONFIG
from ...io.text import read_json, read_up_to
from ...io.yaml_text import parse_yaml
from .readme import NAME

_MAX_BYTES = 1 << 20  # of a README
_LICENSE = "apache-2.0"  # of all that the authors of SAM 2 publish
_REPO = re.compile(r"[\w-][\w.-]{0,95}/[\w-][\w.-]{0,95}", re.ASCII)
_ID = re.compile(r"[a-z0-9][a-z0-9.-]{0,59}")
_SPECIFICATION = "modelspec.license"  # of the metadata that trainers write into safetensors


class _Known(NamedTuple):
    """A value, and where it is known from."""

    value: str
    why: str


def proposals(
    stated: Mapping[str, Any], given: str, checkpoint: Checkpoint, repo_id: str
) -> Iterator[str]:
    """Say what a card does not state, and what could be stated.

    Args:
        stated: The metadata of the card.
        given: The source, as the user wrote it.
        checkpoint: The same, opened.
        repo_id: The repository of the card, which is not made from itself.

    Yields:
        A note for each field, with the argument that states it.
    """
    there = None if os.path.lexists(expanded(Path(given))) else spelt(given)
    card = _card(there, checkpoint.source.path)
    bases = (_of_source(there), _base_in(card, checkpoint), _of_size(checkpoint))
    base = next((one for one in bases if one is not None and one.value != repo_id), None)
    if base is not None and not stated.get("base_model"):
        yield f"the card names no base model; {base.why}: `base_model={base.value}` states it"
    if not stated.get("license"):
        named = stated.get("base_model") or (base.value if base else None)
        found = _license_in(card, checkpoint) or _license_of(named)
        if found is not None:
            yield f"the card names no license; {found.why}: `license={found.value}` states it"


def _card(there: str | None, path: Path) -> Mapping[str, Any]:
    """The metadata of the README beside the source; nothing if there is none, or it is odd."""
    with suppress(Sam21ConvertError, OSError):
        readme = path / NAME
        if there is not None and there.startswith("hf://"):
            reference = parse(there)
            with translate_errors(f"{reference.repo}/{NAME}"):
                file = hf_hub_download(reference.repo, NAME, revision=reference.revision)
            readme = Path(file)
        text = read_up_to(readme, _MAX_BYTES, "a README").decode(errors="replace")
        block = REGEX_YAML_BLOCK.search(text)
        found = None if block is None else parse_yaml(readme, block[2])
        return found if isinstance(found, dict) else {}
    return {}


def _of_source(there: str | None) -> _Known | None:
    """The source itself, if it is on the Hub."""
    if there is None:
        return None
    published = published_named(there)
    repo = parse(there).repo if published is None else published.repo
    return _Known(repo, f"the source is {repo}")


def _base_in(card: Mapping[str, Any], checkpoint: Checkpoint) -> _Known | None:
    """What the files of the source say."""
    path = checkpoint.source.path
    config: Mapping[str, Any] = {}
    with suppress(Sam21ConvertError):
        config = read_json(path / CONFIG) if (path / CONFIG).is_file() else {}
    stated = card.get("base_model")
    first = stated[0] if isinstance(stated, list) and stated else stated
    for value, where in ((first, NAME), (config.get("_name_or_path"), CONFIG)):
        if isinstance(value, str) and _REPO.fullmatch(value):
            return _Known(value, f"the source's {where} names {value}")
    return None


def _of_size(checkpoint: Checkpoint) -> _Known | None:
    """The published model of the same size, from which nearly all others are trained."""
    name = None if checkpoint.shipped is None else checkpoint.shipped.name
    published = next((one for one in PUBLISHED if one.config == name), None)
    if published is None:
        return None
    return _Known(published.repo, f"if it was trained from {published.repo}, which has its size")


def _license_in(card: Mapping[str, Any], checkpoint: Checkpoint) -> _Known | None:
    metadata = checkpoint.source.metadata
    for value, where in (
        (card.get("license"), "README"),
        (metadata.get(_SPECIFICATION), "metadata"),
    ):
        if isinstance(value, str) and _ID.fullmatch(value.lower()):
            return _Known(value.lower(), f"the source's {where} says {value.lower()}")
    return None


def _license_of(base: object) -> _Known | None:
    """The license of a published model that the model was trained from."""
    if base not in {one.repo for one in PUBLISHED}:
        return None
    return _Known(_LICENSE, f"{base} is under {_LICENSE}")
