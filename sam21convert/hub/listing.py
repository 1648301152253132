"""List the checkpoints that the authors publish."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..report import Part, Report, Table, Tone, Toned, heading
from .published import PUBLISHED
from .resolve import cache_path, hub_cache_path

_HEAD = ("name", "SAM", "size", "bytes", "SHA-256", "cached")


@dataclass(frozen=True)
class Listed(Report):
    """A published checkpoint, and where it is on this machine.

    Attributes:
        name: the name under which it can be pulled, as in ``sam2.1_hiera_tiny``.
        config: the full name of its shipped config.
        generation: ``"2.0"`` or ``"2.1"``.
        size: ``tiny``, ``small``, ``base_plus`` or ``large``.
        bytes: the size of the file.
        sha256: the SHA-256 of the file, in hexadecimal.
        url: where the authors publish it.
        repo: the repository of the Hub that holds the same file.
        cached: its path in the cache of this package, None when it is not there.
        cached_by_hub: its path in the cache of ``huggingface_hub``, which ``hf://`` uses; None when
            it is not there.
    """

    name: str
    config: str
    generation: str
    size: str
    bytes: int
    sha256: str
    url: str
    repo: str
    cached: Path | None
    cached_by_hub: Path | None

    def row(self) -> tuple[str, ...]:
        """Give the cells of its line.

        Returns:
            Name, generation, size, bytes, the beginning of the hash, and where it is cached.
        """
        cached = "yes" if self.cached else "by the Hub" if self.cached_by_hub else "no"
        tone: Tone = "dim" if cached == "no" else "good"
        told = (self.name, self.generation, self.size, f"{self.bytes}", self.sha256[:12])
        return (*told, Toned(cached, tone))


@dataclass(frozen=True)
class Listing(Report, schema="list/1"):
    """The result of :func:`published_checkpoints`.

    Attributes:
        checkpoints: the checkpoints: SAM 2.1 before SAM 2.0, each from small to large.

    Example:
        >>> listing = sam21convert.published_checkpoints()
        >>> [one.name for one in listing.checkpoints if one.size == "large"]
        ['sam2.1_hiera_large', 'sam2_hiera_large']
    """

    checkpoints: tuple[Listed, ...]

    def to_dict(self) -> dict[str, Any]:
        """Convert the list to plain values for JSON.

        Returns:
            A dict with the single key ``checkpoints``: a list with one dict for each checkpoint.
        """
        return {"checkpoints": [listed.to_dict() for listed in self.checkpoints]}

    def shown(self) -> list[Part]:
        """What people see.

        Returns:
            A row for each checkpoint.
        """
        return [Table((heading(_HEAD), *(one.row() for one in self.checkpoints)), right=(3,))]


def published_checkpoints() -> Listing:
    """List the checkpoints that the authors of SAM 2 publish, without asking the network.

    Returns:
        The checkpoints, and where those that are on this machine are.

    Example:
        >>> sam21convert.published_checkpoints().checkpoints[0].name
        'sam2.1_hiera_tiny'
    """
    return Listing(
        tuple(
            Listed(
                name=published.name,
                config=published.config,
                generation=published.generation,
                size=published.size,
                bytes=published.bytes,
                sha256=published.sha256,
                url=published.url,
                repo=published.repo,
                cached=path if (path := cache_path(published)).exists() else None,
                cached_by_hub=hub_cache_path(published),
            )
            for published in PUBLISHED
        )
    )
