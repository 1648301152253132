"""Segment objects of a picture: masks for points and boxes, as arrays and as files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..checkpoint.safety.report import Safety, SourceReport
from ..errors import UsageError
from ..export.runtime.resize import resize
from ..io.nearby import expanded
from ..io.onnx import Variant
from ..io.output.atomic import new_file, refuse_existing
from ..report import Part, Report, counted, table
from .draw import Mask, Pixels, as_html, black_and_white, drawing, sheet
from .media import read_mask, read_picture
from .predictors import Loaded, LoadedExport, Opened, Request, open_images, size_of
from .prompts import HOW_TO_PROMPT, Prompt, Prompted, check_inside, grouped
from .runtimes import Runtime, pick_runtime, require_runtime

if TYPE_CHECKING:
    from ..model.config import ModelConfig

# The logit for "certainly object"; ``SAM2.use_mask_as_output`` uses the same for a given mask.
_CERTAIN = 10.0


@dataclass(frozen=True)
class Prediction(SourceReport):
    """What predictions for pictures and for videos have in common.

    Attributes:
        source: The picture or video.
        width: Of the picture or of each frame, in pixels.
        height: Of the picture or of each frame, in pixels.
        size: The published size of the model (``"tiny"``, ...); None for a model of another size.
        model: How the checkpoint was loaded, or the export.
    """

    source: Path
    width: int
    height: int
    size: str | None
    model: Loaded

    def to_dict(self) -> dict[str, Any]:
        """Give the fields as plain data.

        Returns:
            Field name to value, the model as a dict, and ``safety``, the rating of its file.
        """
        return {**super().to_dict(), "model": self.model.to_dict()}

    @property
    def safety(self) -> Safety:
        """What loading the checkpoint with torch or pickle would import and call."""
        return self.model.safety

    def rows(self) -> list[tuple[str, str]]:
        """Describe the checkpoint and the source.

        Returns:
            Rows of a table: label and text.
        """
        model = self.model
        name = f"SAM {model.generation} {self.size or 'of another size'}"
        where = f"on {model.device}"
        if isinstance(model, LoadedExport):
            where = f"{model.variant}, by {model.runtime} {where}"
        return [
            ("checkpoint", f"{model.path}: {name}, {model.image_size} pixels, {where}"),
            *(("note", note) for note in model.notes),
            ("source", f"{self.source}: {self.width} x {self.height} pixels"),
        ]


@dataclass(frozen=True)
class FoundMask(Report):
    """A mask that was found in a picture.

    Attributes:
        obj_id: The name of its object.
        path: The PNG that holds it, 0 and 255, or the JSON that holds all; None when nothing was
            written.
        iou: The IoU that the model expects of it.
        area: Its number of pixels.
        share: Its area as a share of the picture, from 0 to 1.
        bbox: The box around it as COCO's files have it: left side, upper side, width and height in
            pixels, from its first to its last pixel. Zeros if the mask is empty.
        stability: How little it depends on the threshold of its logits, from 0 to 1; None unless
            everything was segmented.
    """

    obj_id: str
    path: Path | None
    iou: float
    area: int
    share: float
    bbox: tuple[float, float, float, float]
    stability: float | None = None

    def __str__(self) -> str:
        stability = "" if self.stability is None else f"stability {self.stability:.2f}, "
        x, y, width, height = self.bbox
        return (
            f"object {self.obj_id}, expected IoU {self.iou:.2f}, {stability}"
            f"{counted(self.area, 'pixel')} ({self.share:.1%} of the picture), "
            f"{width:g} x {height:g} at {x:g},{y:g}"
        )


@dataclass(frozen=True)
class ImagePrediction(Prediction, schema="predict-image/1"):
    """The answer of :func:`predict_image`.

    ``masks`` are numpy arrays and ``overlay`` is a picture, whether anything was written or not. A
    notebook shows the picture.

    Attributes:
        drawing: The PNG with masks and prompts drawn; None when nothing was written.
        details: What is known about each mask: one per object, in the order of their first prompts,
            or three candidates for one object.
        arrays: The masks as numpy bools, ``H x W`` each, in the order of ``details``. If everything
            was segmented, each is unpacked when it is looked at.
        draw: Makes :attr:`overlay`.

    Example:
        >>> box = sam21convert.Box(20, 20, 70, 70)
        >>> found = sam21convert.predict_image("picture.jpg", "model.pt", "drawn.png", [box])
        >>> found.drawing
        PosixPath('drawn.png')
        >>> found.masks.shape, found.overlay.size
        ((1, 96, 96), (96, 96))
    """

    drawing: Path | None
    details: tuple[FoundMask, ...]
    # Equality of arrays is no bool, so they take no part in that of reports.
    arrays: Sequence[Mask] = field(repr=False, compare=False)
    draw: Callable[[], Image.Image] = field(repr=False, compare=False)

    @cached_property
    def masks(self) -> Mask:
        """All masks, ``N x H x W`` bools.

        Of everything in a large picture that may be gigabytes; ``arrays`` has them one by one.
        """
        return np.array([*self.arrays], bool).reshape(-1, self.height, self.width)

    @cached_property
    def overlay(self) -> Image.Image:
        """The picture with masks and prompts drawn; several candidates side by side."""
        return self.draw()

    def _repr_html_(self) -> str:
        return as_html(self.overlay) + super()._repr_html_()

    def to_dict(self) -> dict[str, Any]:
        """Give the fields as plain data.

        Returns:
            Field name to value, without ``arrays`` and ``draw``; ``masks`` has the details of each
            as a dict.
        """
        found = super().to_dict()
        for name in ("arrays", "details", "draw"):
            del found[name]
        return {**found, "masks": [mask.to_dict() for mask in self.details]}

    def shown(self) -> list[Part]:
        """What people see.

        Returns:
            A table of the files.
        """
        rows = [*self.rows(), *((str(mask.path or "mask"), str(mask)) for mask in self.details)]
        if self.drawing is not None:
            rows.append((str(self.drawing), "drawn over the picture"))
        return [table(rows)]


def predict_image(
    image: str | Path,
    checkpoint: str | Path,
    out: str | Path | None = None,
    prompts: Sequence[Prompt] = (),
    *,
    mask: str | Path | None = None,
    multimask: bool | None = None,
    config: str | Path | ModelConfig | None = None,
    image_size: int | None = None,
    device: str = "auto",
    runtime: Runtime | None = None,
    variant: Variant | None = None,
    overwrite: bool = False,
) -> ImagePrediction:
    """Segment objects of a picture by points and boxes.

    Coordinates are pixels of the picture, which is turned upright as its EXIF data says.

    Args:
        image: The picture: JPEG, PNG, WebP, BMP or TIFF, with 8 bits per channel, and 67,108,864
            pixels (8192 x 8192) at most.
        checkpoint: Any checkpoint that :func:`~sam21convert.load_model` takes; an image model,
            which has no memory; or the folder that :func:`~sam21convert.export_onnx` wrote.
        out: A PNG for the picture with masks and prompts drawn. Masks (0 and 255) are written
            beside it: ``out.mask.png`` for one, ``out.mask0.png`` and so on for candidates,
            ``out.mask-dog.png`` and so on for several objects. None writes nothing.
        prompts: Points and boxes; those with the same ``obj_id`` describe one object.
        mask: A picture of the same size that is black except on the object. The model starts from
            it: it receives logits of -10 and 10 at a quarter of its resolution.
        multimask: Whether to return three candidates for one object. None means three for a single
            point and one mask otherwise.
        config: As for :func:`~sam21convert.load_model`.
        image_size: As for :func:`~sam21convert.load_model`.
        device: ``"auto"`` for a GPU if there is one, or a device as torch names it.
        runtime: ``"torch"``, or ``"onnx"`` for an export, which needs no torch. None means what
            ``checkpoint`` is made for. An export has its own config and image size, and runs on the
            processor.
        variant: Which graphs of an export to run: ``"fp32"``, the default, ``"fp16"`` or ``"q8"``.
        overwrite: Whether existing files at ``out`` and beside it may be replaced.

    Returns:
        The masks and what is known about them.

    Raises:
        UsageError: If the prompts do not fit the picture, an output exists, ``device`` is not
            available, or the export has no graph for what is asked.
        UnreadableError: If ``image`` or ``mask`` is missing or damaged.
        RefusedError: If ``image`` or ``mask`` is in another format or too large, or ``image`` has
            more than 8 bits per channel.
        Sam21ConvertError: For a checkpoint, as :func:`~sam21convert.load_model` does; for an
            export, as :func:`~sam21convert.export.runtime.load` does.

    Example:
        >>> point = sam21convert.Point(48, 48)
        >>> found = sam21convert.predict_image("picture.jpg", "model.pt", prompts=[point])
        >>> found.masks.shape
        (3, 96, 96)
    """
    chosen = pick_runtime(checkpoint, runtime)
    require_runtime(chosen, "predict_image")
    request = Request(checkpoint, chosen, config, image_size, device, variant).refuse_impossible()
    image, drawn = expanded(Path(image)), None if out is None else expanded(Path(out))
    mask = None if mask is None else expanded(Path(mask))
    objects = objects_of(prompts, mask)
    candidates = _wants_candidates(objects, mask, multimask)
    paths: list[Path] = []
    if drawn is not None:
        paths = _mask_paths(drawn, objects, candidates=candidates)
        refuse_outputs([drawn, *paths], [image, checkpoint, mask], overwrite=overwrite)
    pixels = read_picture(image)
    height, width = pixels.shape[:2]
    check_inside(prompts, width, height)
    guess = None if mask is None else read_mask(mask, width, height)
    opened = open_images(request)
    found = _segmented(opened, pixels, objects, guess, candidates=candidates)
    arrays = tuple(mask for _, mask, _ in found)
    draw = partial(_drawn, pixels, objects, found)
    if drawn is not None:
        saved = {path: black_and_white(mask) for path, mask in zip(paths, arrays, strict=True)}
        _write({drawn: draw(), **saved}, overwrite)
    return ImagePrediction(
        source=image,
        width=width,
        height=height,
        size=size_of(opened.loaded),
        model=opened.loaded,
        drawing=drawn,
        details=tuple(
            FoundMask(obj_id, path, iou, int(mask.sum()), float(mask.mean()), box_around(mask))
            for path, (obj_id, mask, iou) in zip_longest(paths, found)
        ),
        arrays=arrays,
        draw=draw,
    )


def objects_of(prompts: Sequence[Prompt], mask: str | Path | None) -> dict[str, Prompted]:
    """Group the prompts of a picture by object.

    Args:
        prompts: Points and boxes.
        mask: The mask to start from, if there is one.

    Returns:
        The prompts of each object, by its name.

    Raises:
        UsageError: If there is none, a prompt is for a frame of a video, or the mask is for several
            objects.
    """
    later = [prompt for prompt in prompts if prompt.frame_idx != 0]
    if later:
        raise UsageError(
            f"{later[0]}: is for frame {later[0].frame_idx}; a picture has only frame 0"
        )
    if again := [prompt for prompt in prompts if prompt.round != 1]:
        raise UsageError(f"{again[0]}: is of round {again[0].round}; a picture has only round 1")
    objects = {obj_id: frames[0] for obj_id, frames in grouped(prompts).items()}
    if mask is not None and not objects:
        return {"1": Prompted()}
    if mask is not None and len(objects) > 1:
        raise UsageError(f"{mask}: a mask goes with one object; the prompts name {len(objects)}")
    if not objects:
        raise no_prompt()
    return objects


def no_prompt() -> UsageError:
    """Make the error for a call without any prompt.

    Returns:
        The error, to be raised.
    """
    return UsageError("no prompt: expected a point, a box or a mask", hint=HOW_TO_PROMPT)


def _wants_candidates(
    objects: dict[str, Prompted], mask: str | Path | None, multimask: bool | None
) -> bool:
    """Whether to return three candidates: a single point may mean a part or the whole."""
    if multimask and len(objects) > 1:
        raise UsageError(
            f"`multimask=True`: expected one object to draw candidates of, found {len(objects)}",
            hint="segment one object at a time, or leave `multimask` out",
        )
    if multimask is not None:
        return multimask
    first = next(iter(objects.values()))
    clicks = len(first.points)
    return len(objects) == 1 and clicks == 1 and first.box is None and mask is None


def _mask_paths(out: Path, objects: dict[str, Prompted], *, candidates: bool) -> list[Path]:
    """The files of the masks: a single one, one per candidate, or one per object."""
    if not out.name:
        raise UsageError(f"{out}: expected the name of a picture to write")
    names = ["0", "1", "2"] if candidates else [f"-{obj_id}" for obj_id in objects]
    return [out.with_suffix(f".mask{name if len(names) > 1 else ''}.png") for name in names]


def _segmented(
    opened: Opened,
    pixels: Pixels,
    objects: dict[str, Prompted],
    guess: Mask | None,
    *,
    candidates: bool,
) -> list[tuple[str, Mask, float]]:
    """Object, mask and expected IoU of each mask."""
    opened.require_single(candidates=candidates, from_mask=guess is not None)
    predictor = opened.predictor
    predictor.set_image(pixels)
    mask_input = None if guess is None else _as_logits(guess, opened.loaded.image_size // 4)
    return [
        (obj_id, mask, iou)
        for obj_id, prompted in objects.items()
        for mask, iou in answers(opened, prompted, mask_input, candidates=candidates)
    ]


def answers(
    opened: Opened,
    prompted: Prompted,
    mask_input: NDArray[np.float32] | None = None,
    *,
    candidates: bool,
) -> Iterator[tuple[Mask, float]]:
    """Segment an object of the picture that was set.

    Args:
        opened: The model; its predictor has a picture.
        prompted: Points and a box.
        mask_input: Logits to start from, ``1 x side x side``.
        candidates: Whether there are three masks instead of one.

    Yields:
        Each mask, ``H x W``, and the IoU that the model expects of it.
    """
    masks, ious, _ = opened.predictor.predict(
        prompted.coordinates,
        prompted.labels,
        prompted.corners,
        mask_input,
        candidates,
        return_logits=True,  # masks of 0 and 1 would be made from them, in float32 as well
    )
    for mask, iou in zip(masks, ious, strict=True):
        yield opened.positive(mask), float(iou)


def box_around(mask: Mask) -> tuple[float, float, float, float]:
    """Find the box around a mask, as the generator of masks gives it.

    Args:
        mask: ``H x W``.

    Returns:
        Left side, upper side, width and height in pixels, from its first to its last pixel; zeros
        if it is empty.
    """
    (x0, x1), (y0, y1) = (
        (edges[0], edges[-1]) if (edges := np.flatnonzero(mask.any(axis))).size else (0, 0)
        for axis in (0, 1)
    )
    return float(x0), float(y0), float(x1 - x0), float(y1 - y0)


def _as_logits(mask: Mask, side: int) -> NDArray[np.float32]:
    """A mask as the model's mask prompt: ``1 x side x side``."""
    share = mask[None].astype(np.float32)  # 1, H, W
    small = resize(share, side, side, antialias=True)  # 1, side, side
    logits: NDArray[np.float32] = 2 * _CERTAIN * small - _CERTAIN
    return logits


def refuse_outputs(
    outputs: Sequence[Path], inputs: Sequence[str | Path | None], *, overwrite: bool
) -> None:
    """Check that outputs can be written.

    Args:
        outputs: The files to write, the drawing first.
        inputs: What is read, which is never overwritten.
        overwrite: Whether existing files may be replaced.

    Raises:
        UsageError: If they cannot.
    """
    if outputs[0].suffix.lower() != ".png":
        raise UsageError(f"{outputs[0]}: expected a name in .png", hint="the drawing is a PNG")
    for path in outputs:
        refuse_existing(path, overwrite=overwrite)
        if path.is_dir():
            raise UsageError(f"{path}: is a folder; the output is a file")
        for given in inputs:
            if given is not None and path.exists() and Path(given).resolve() == path.resolve():
                raise UsageError(f"{path}: is an input, which is never overwritten")


def _drawn(
    pixels: Pixels, objects: dict[str, Prompted], found: Sequence[tuple[str, Mask, float]]
) -> Image.Image:
    """All objects in one drawing, or a panel for each candidate."""
    if len(objects) == len(found):
        return drawing(pixels, {obj_id: mask for obj_id, mask, _ in found}, objects)
    titles = [f"mask {number}, expected IoU {iou:.2f}" for number, (_, _, iou) in enumerate(found)]
    panels = (drawing(pixels, {obj_id: mask}, objects) for obj_id, mask, _ in found)
    return sheet(titles, panels, columns=len(titles))


def _write(pictures: dict[Path, Image.Image], overwrite: bool) -> None:
    """Save all pictures, or none."""
    with ExitStack() as stack:
        for path, picture in pictures.items():
            picture.save(stack.enter_context(new_file(path, overwrite=overwrite)), format="PNG")
