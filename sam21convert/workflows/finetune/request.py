"""What a fine-tune was asked to do, written beside its results, so that it goes on as the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..._version import __version__
from ...errors import UnreadableError, UsageError
from ...io.text import read_json
from ...report import short_json
from .data import Kind
from .names import Train

REQUEST = "request.json"
_FORMAT = "sam21convert/finetune-request/1"


@dataclass(frozen=True)
class Request:
    """What the weights at the end depend on.

    Attributes:
        base: SHA-256 of each file of the checkpoint to begin from.
        data: The data, as a path.
        kind: Whether pictures or clips are drawn.
        pictures: Number of pictures and frames.
        objects: Number of objects.
        train: What is trained.
        frames: Number of frames of a clip; 1 for pictures.
        steps: Number of steps.
        rate: The rate at the beginning.
        image_size: Side of the model's input in pixels.
        seed: Of all that is drawn.
        processes: Number of processes; each step takes a clip from each.
        precision: ``no`` to compute in the type of the weights, or a type as accelerate names it.
    """

    base: tuple[str, ...]
    data: str
    kind: Kind
    pictures: int
    objects: int
    train: Train
    frames: int
    steps: int
    rate: float
    image_size: int
    seed: int
    processes: int
    precision: str

    def write(self, folder: Path) -> None:
        """Write it.

        Args:
            folder: The folder of the results.

        Raises:
            OSError: If it cannot be written.
        """
        text = json.dumps(self._content(), indent=1) + "\n"
        (folder / REQUEST).write_text(text, encoding="utf-8")

    def refuse_other(self, folder: Path) -> None:
        """Check that what a folder holds was asked for in the same way.

        Args:
            folder: The folder of the results.

        Raises:
            UsageError: If it was not.
            UnreadableError: If the file there is damaged.
        """
        path = folder / REQUEST
        before, now = read_json(path), self._content()
        if before.get("format") != _FORMAT:
            raise UnreadableError(
                f"{path}: expected what a fine-tune was asked, found another file"
            )
        for name, value in now.items():
            if (past := before.get(name)) != value:
                raise UsageError(
                    f"{path}: is of another fine-tune: {name} was {short_json(past)}, and is now "
                    f"{short_json(value)}",
                    hint="ask for the same, or give another folder",
                )

    def _content(self) -> Mapping[str, Any]:
        content = {"format": _FORMAT, "version": __version__, **asdict(self)}
        found: dict[str, Any] = json.loads(json.dumps(content))  # as it will be read
        return found
