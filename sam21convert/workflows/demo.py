"""A demonstration: every step on a sample checkpoint, each with a check."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checkpoint.inspect import inspect
from ..checkpoint.open import open_checkpoint
from ..checkpoint.validate import validate
from ..conversion.api import convert
from ..conversion.sample import DEFAULT_CONFIG, sample
from ..errors import MismatchError, UsageError
from ..io.data.checksums import same_bytes
from ..io.nearby import expanded
from ..io.output.folders import refuse_file_name
from ..packages import require
from ..prediction.devices import pick_device
from ..prediction.load import load_model
from ..prediction.prompts import Box, Point, Prompted
from ..report import BLANK, SILENT, Line, Part, Progress, Report, Table, Toned, size_text

if TYPE_CHECKING:
    from ..model.sam2 import SAM2
    from ..prediction.draw import Pixels

_POINT = (0.35, 0.62)  # as shares of the side of the scene: on the wall of the house
_BOX = (0.22, 0.42, 0.48, 0.74)


@dataclass(frozen=True)
class Step:
    """One step of the demonstration.

    Attributes:
        name: What was done.
        result: The result in words.
        seconds: How long it took.
    """

    name: str
    result: str
    seconds: float


@dataclass(frozen=True)
class Demonstration(Report, schema="demo/1"):
    """The answer of :func:`demonstrate`.

    Attributes:
        folder: The folder of all files.
        steps: The steps in their order.
        picture: The masks, drawn.
    """

    folder: Path
    steps: tuple[Step, ...]
    picture: Path

    def to_dict(self) -> dict[str, Any]:
        """Give the fields as plain data.

        Returns:
            Field name to value, each step as a dict.
        """
        return {**super().to_dict(), "steps": [vars(step) for step in self.steps]}

    def shown(self) -> list[Part]:
        """What people see.

        Returns:
            A row for each step, and what they show.
        """
        rows = [(step.name, f"{step.seconds:.1f} s", step.result) for step in self.steps]
        masks = f" {self.picture} shows the masks, which are meaningless: the weights are random."
        kept = Toned("Both conversions kept every bit.", "good")
        return [Table(tuple(rows), right=(1,)), BLANK, Line((kept, masks), hang=0)]


@dataclass(frozen=True)
class _Demo:
    """The files of a demonstration and its steps; each step returns its result in words."""

    home: Path
    config: str
    device: str

    @property
    def original(self) -> Path:
        return self.home / "sample.pt"

    @property
    def converted(self) -> Path:
        return self.home / "transformers"

    @property
    def back(self) -> Path:
        return self.home / "back.pt"

    @property
    def picture(self) -> Path:
        return self.home / "masks.png"

    def sample(self) -> str:
        done = sample(self.original, self.config)
        return f"{self.original}: {done.tensors} random tensors, {size_text(done.bytes)}"

    def inspect(self) -> str:
        found = inspect(self.original)
        return f"SAM {found.generation} {found.size}, {found.parameters:,} parameters"

    def convert(self) -> str:
        done = convert(self.original, self.converted, config=self.config)
        return f"{self.converted}: {len(done.tensors)} tensors, {len(done.files) - 1} JSON files"

    def validate(self) -> str:
        found = validate(self.converted)
        if not found.ok:
            raise MismatchError(str(found))
        return f"{self.converted} loads strictly, every value is finite"

    def convert_back(self) -> str:
        return f"{self.back}: {len(convert(self.converted, self.back).tensors)} tensors"

    def compare(self) -> str:
        ours, theirs = (open_checkpoint(path).tensors for path in (self.original, self.back))
        if list(ours) != list(theirs):
            raise MismatchError(f"{self.back}: names or their order differ from {self.original}")
        for name, ref in ours.items():
            if not same_bytes(ref, theirs[name]):
                raise MismatchError(f"{self.back}: {name} differs from {self.original}")
        return f"{len(ours)} tensors in the same order, every bit equal"

    def run(self) -> str:
        from PIL import Image

        from ..prediction.draw import drawing, scene, strip

        first, loaded = load_model(self.original, self.config, device=self.device)
        second, _ = load_model(self.converted, device=self.device)
        pixels = scene(loaded.config.image_size)
        prompts = _prompts(len(pixels))
        mine, theirs = (_logits(model, pixels, prompts.values()) for model in (first, second))
        difference = max(float(abs(a - b).max()) for a, b in zip(mine, theirs, strict=True))
        if difference != 0:
            raise MismatchError(f"masks from the two files differ by up to {difference}")
        panels = [("image", Image.fromarray(pixels))]
        for logits, (title, prompted) in zip(mine, prompts.items(), strict=True):
            panels.append((title, drawing(pixels, {"": logits > 0}, {"": prompted})))
        strip(panels).save(self.picture)
        return "both files give the same masks, largest difference 0.0"


_STEPS = ("sample", "inspect", "convert", "validate", "convert_back", "compare", "run")


def demonstrate(
    folder: str | Path,
    config: str = DEFAULT_CONFIG,
    *,
    device: str = "auto",
    progress: Progress = SILENT,
) -> Demonstration:
    """Draw a sample checkpoint, inspect it, convert it there and back, compare, and run both files.

    Args:
        folder: The folder for all files: a new one or an empty one.
        config: The model to draw random weights for, as for :func:`~sam21convert.sample`.
        device: The device to run both files on, as for :func:`~sam21convert.parity`.
        progress: Receives the number of finished steps.

    Returns:
        The steps and their results.

    Raises:
        UsageError: If the folder is not empty, or the device is not there.
        MismatchError: If a conversion changed anything.
    """
    require("torch", "demo")
    device = pick_device(device, to_compare=True)
    home = expanded(Path(folder))
    refuse_file_name(home)
    if home.exists() and (not home.is_dir() or any(home.iterdir())):
        raise UsageError(f"{home}: exists", hint="name a new folder: sam21convert demo FOLDER")
    home.mkdir(parents=True, exist_ok=True)
    demo, steps = _Demo(home, config, device), []
    progress.start("demo", len(_STEPS))
    for name in _STEPS:
        start = time.perf_counter()
        progress.advance(0, name.replace("_", " "))
        result = getattr(demo, name)()
        steps.append(Step(name.replace("_", " "), result, round(time.perf_counter() - start, 2)))
        progress.advance(1)
    return Demonstration(home, tuple(steps), demo.picture)


def _prompts(side: int) -> dict[str, Prompted]:
    """The prompts, by the title of the panel that shows their mask."""
    x, y = _POINT
    x0, y0, x1, y1 = _BOX
    point = Point(side * x, side * y)
    box = Box(side * x0, side * y0, side * x1, side * y1)
    return {"mask for a point": Prompted([point]), "mask for a box": Prompted(box=box)}


def _logits(model: SAM2, pixels: Pixels, prompts: Iterable[Prompted]) -> list[Any]:
    """The best mask for each prompt as logits, ``S x S``."""
    from ..model.image_predictor import SAM2ImagePredictor

    predictor = SAM2ImagePredictor(model)
    predictor.set_image(pixels)
    return [
        predictor.predict(
            prompted.coordinates,
            prompted.labels,
            prompted.corners,
            multimask_output=False,
            return_logits=True,
        )[0][0]
        for prompted in prompts
    ]
