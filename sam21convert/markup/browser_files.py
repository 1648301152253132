"""What pages with scripts share: marking a picture, and drawing masks and how they differ."""

from __future__ import annotations

from pathlib import Path

SHARED = Path(__file__).parent / "browser"


def with_shared(own: Path) -> dict[str, Path]:
    """List the files of a page, with those that all such pages share.

    Args:
        own: The folder of the files that the page has alone. Its modules import the shared ones as
            if they lay beside them.

    Returns:
        Name of each file to its path, in the order of the names.
    """
    return dict(sorted((path.name, path) for path in (*SHARED.iterdir(), *own.iterdir())))
