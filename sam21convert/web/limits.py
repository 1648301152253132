"""What a page may ask of the server: bytes, pixels, frames, and how many pages there may be."""

from __future__ import annotations

from dataclasses import dataclass

JSON_BYTES = 2**18  # of a question, which holds points and boxes
POINTS = 200  # for an object on a frame


@dataclass(frozen=True)
class Limits:
    """Bounds of what is kept for the pages that are open.

    Attributes:
        upload_bytes: Of the files that a page has at a time.
        pixels: Of a picture, or of a frame.
        frames: Of a video.
        sessions: Pages that are open at a time.
        idle_seconds: After which a page that says nothing is taken for closed.
    """

    upload_bytes: int = 2**29
    pixels: int = 25_000_000
    frames: int = 500
    sessions: int = 8
    idle_seconds: float = 900
