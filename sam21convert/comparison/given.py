"""What is said of a source beside its path, and loading it so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from ..loading import Loading, load_onto, with_image_size
from ..model.config import ModelConfig

Model = TypeVar("Model", bound=torch.nn.Module)


@dataclass(frozen=True)
class Given:
    """Arguments of :func:`~sam21convert.load_model`."""

    config: str | Path | ModelConfig | None = None
    image_size: int | None = None
    device: str = "cpu"

    def onto(self, make: Callable[[ModelConfig], Model], source: Path) -> tuple[Model, Loading]:
        """Load ``source``, an image model too, onto what ``make`` builds of its config.

        In float32; raises as :func:`~sam21convert.load_model`.
        """
        return load_onto(
            make,
            source,
            self.config,
            change=with_image_size(self.image_size),
            device=self.device,
            dtype=torch.float32,
            images_only=True,
        )
