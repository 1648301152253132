"""The checkpoints that answer, one beside the other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..io.nearby import expanded
from ..packages import require
from ..prediction.predictors import Opened, Request, open_both, size_of
from ..prediction.runtimes import pick_runtime, require_runtime
from ..report import SILENT, Progress

if TYPE_CHECKING:
    from ..model.config import ModelConfig

MOST = 2  # checkpoints side by side


@dataclass(frozen=True)
class Side:
    """A checkpoint that is loaded.

    Attributes:
        name: What the page calls it.
        letter: By which it is told from the other; empty if there is one alone.
        request: How it was loaded.
        images: Segments pictures. Its predictor is copied for each page.
        videos: Follows objects; None for a model that cannot.
        turn: Held while the model computes: it does so for one page at a time.
    """

    name: str
    letter: str
    request: Request
    images: Opened
    videos: Opened | None
    turn: threading.Lock = field(default_factory=threading.Lock)

    @property
    def finds_everything(self) -> bool:
        """Whether it can find the masks of everything in a picture."""
        return self.request.runtime == "torch"

    def for_a_picture(self) -> Opened:
        """Make a predictor for a picture of one page.

        Returns:
            One with the same weights, and without a picture.
        """
        predictor = self.images.predictor
        return replace(self.images, predictor=type(predictor)(predictor.model))

    def facts(self, spell: Callable[[str], str]) -> dict[str, Any]:
        """Say what the page shows of it.

        Args:
            spell: Says notes in the words of whoever started the server.

        Returns:
            What JSON can hold.
        """
        loaded = self.images.loaded
        size = size_of(loaded) or "of another size"
        return {
            "name": self.name,
            "source": str(self.request.source),
            "model": f"SAM {loaded.generation} {size}, {loaded.image_size} pixels, {loaded.device}",
            "notes": [spell(note) for note in loaded.notes],
            "videos": self.videos is not None,
            "everything": self.finds_everything,
        }


def open_sides(
    sources: Sequence[str],
    *,
    config: str | Path | ModelConfig | None = None,
    image_size: int | None = None,
    device: str = "auto",
    progress: Progress = SILENT,
) -> tuple[Side, ...]:
    """Load the checkpoints.

    Args:
        sources: One or two, as :func:`~sam21convert.predict_image` takes them.
        config: As for :func:`~sam21convert.predict_image`, for each of them.
        image_size: As for :func:`~sam21convert.predict_image`, for each of them.
        device: As for :func:`~sam21convert.predict_image`, for each of them.
        progress: Told which is loaded.

    Returns:
        They, in that order.

    Raises:
        UsageError: If there are none or too many, or the device is not there.
        MissingPackageError: If a package is missing.
        Sam21ConvertError: As :func:`~sam21convert.predict_image` does for a checkpoint.
    """
    if not 1 <= len(sources) <= MOST:
        raise UsageError(f"checkpoints: expected one or {MOST}, found {len(sources)}")
    require("web", "serve")
    requests = []
    for source in sources:
        runtime = pick_runtime(source, None)
        require_runtime(runtime, "serve", videos=True)
        request = Request(source, runtime, config, image_size, device, None)
        requests.append(request.refuse_impossible())
    sides = []
    letters = "ab" if len(sources) > 1 else ("",)
    for name, letter, request in zip(_names(sources), letters, requests, strict=True):
        progress.start(f"loading {name}", 0)
        sides.append(Side(name, letter, request, *open_both(request)))
    return tuple(sides)


def _names(sources: Sequence[str]) -> list[str]:
    """The ends of what was given, with as much before them as tells them apart."""
    parts = [_parts(source) for source in sources]
    short = [one[-1] for one in parts]
    if len({*short}) == len(short):
        return short
    longer = ["/".join(one[-2:]) for one in parts]
    if len({*longer}) == len(longer):
        return longer
    return [f"{name} ({number})" for number, name in enumerate(short, 1)]


def _parts(source: str) -> list[str]:
    if "://" not in source:
        source = str(expanded(Path(source)).absolute())
    return source.rstrip("/").split("/")
