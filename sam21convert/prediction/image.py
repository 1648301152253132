"""Use a checkpoint on a picture: masks of what is pointed at, drawn and saved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..config.registry import shipped_like
from ..errors import UsageError
from ..io.output.atomic import new_file, refuse_existing
from ..report import Report, table
from .draw import Mask, Pixels, black_and_white, drawing, sheet
from .load import Loading, load_onto, pick_device, with_image_size
from .media import read_mask, read_picture
from .prompts import Prompt, Prompted, check_inside, grouped

if TYPE_CHECKING:
    import torch

    from ..model.config import ModelConfig
    from ..model.sam2 import SAM2

    Model = TypeVar("Model", bound=torch.nn.Module)

_CERTAIN = (
    10.0  # the logit that the model gives a mask it is handed, see ``SAM2.use_mask_as_output``
)


@dataclass(frozen=True)
class Prediction(Report):
    """What predictions of pictures and of videos have in common; ``size`` may be unknown."""

    source: Path
    width: int
    height: int
    size: str | None
    model: Loading

    def to_dict(self) -> dict[str, Any]:
        """The fields, with the model as a dict."""
        return {**super().to_dict(), "model": self.model.to_dict()}

    def rows(self) -> list[tuple[str, str]]:
        """What was read, as rows of a table."""
        model = self.model
        name = f"SAM {model.generation} {self.size or 'of another size'}"
        return [
            ("checkpoint", f"{model.path}: {name}, {model.image_size} pixels, on {model.device}"),
            *(("note", note) for note in model.notes),
            ("source", f"{self.source}: {self.width} x {self.height} pixels"),
        ]


@dataclass(frozen=True)
class FoundMask(Report):
    """A mask of a picture: its file, expected IoU, area in pixels and share of the picture."""

    obj_id: str
    path: Path
    iou: float
    area: int
    share: float

    def __str__(self) -> str:
        return (
            f"object {self.obj_id}, expected IoU {self.iou:.2f}, "
            f"{self.area:,} pixels ({self.share:.1%} of the picture)"
        )


@dataclass(frozen=True)
class ImagePrediction(Prediction):
    """The answer of :func:`predict_image`. ``masks`` are of one object, or one of each."""

    drawing: Path
    masks: tuple[FoundMask, ...]

    def to_dict(self) -> dict[str, Any]:
        """The fields, each mask as a dict."""
        return {**super().to_dict(), "masks": [mask.to_dict() for mask in self.masks]}

    def __str__(self) -> str:
        masks = [(str(mask.path), str(mask)) for mask in self.masks]
        return table([*self.rows(), *masks, (str(self.drawing), "drawn over the picture")])


def predict_image(
    image: str | Path,
    checkpoint: str | Path,
    out: str | Path,
    prompts: Sequence[Prompt] = (),
    *,
    mask: str | Path | None = None,
    multimask: bool | None = None,
    config: str | Path | ModelConfig | None = None,
    image_size: int | None = None,
    device: str = "auto",
    overwrite: bool = False,
) -> ImagePrediction:
    """Segment objects of a picture by points and boxes, in pixels of the picture.

    ``out``, a PNG, receives the picture with masks and prompts drawn; masks (0 and 255) are written
    beside it, ``out.mask.png`` for one. ``mask`` is a picture of the same size, black but for the
    object: a guess to start from, given to the model as logits of -10 and 10 at a quarter of its
    resolution. ``multimask`` asks for three candidates of one object; unless given, a single point
    does. ``device`` is "auto", "cpu" or "cuda"; ``config`` and ``image_size`` are those of
    :func:`~sam21convert.load_model`, which also says what is raised for a checkpoint; an image
    model, without a memory, is taken here.

    A picture is turned upright as its EXIF data says. Raises :class:`UnreadableError` for what is
    not a picture, and :class:`UsageError` for prompts that do not fit it or an existing output.
    """
    from ..model.sam2 import SAM2

    image, out = Path(image), Path(out)
    objects = _objects(prompts, mask)
    candidates = _wants_candidates(objects, mask, multimask)
    paths = _mask_paths(out, objects, candidates=candidates)
    _refuse_outputs([out, *paths], [image, checkpoint, mask], overwrite=overwrite)
    pixels = read_picture(image)
    height, width = pixels.shape[:2]
    check_inside(prompts, width, height)
    guess = None if mask is None else read_mask(Path(mask), width, height)
    model, loading = load_for_use(SAM2, checkpoint, config, image_size, device, images_only=True)
    found = _segmented(model, pixels, objects, guess, candidates=candidates)
    masks = {path: black_and_white(mask) for path, (_, mask, _) in zip(paths, found, strict=True)}
    _write({out: _drawn(pixels, objects, found), **masks}, overwrite)
    return ImagePrediction(
        source=image,
        width=width,
        height=height,
        size=size_of(loading),
        model=loading,
        drawing=out,
        masks=tuple(
            FoundMask(obj_id, path, iou, int(mask.sum()), float(mask.mean()))
            for path, (obj_id, mask, iou) in zip(paths, found, strict=True)
        ),
    )


def load_for_use(
    make: Callable[[ModelConfig], Model],
    checkpoint: str | Path,
    config: str | Path | ModelConfig | None,
    image_size: int | None,
    device: str,
    *,
    images_only: bool = False,
) -> tuple[Model, Loading]:
    """What ``make`` builds, loaded in float32, on a device, "auto" for the best there is.

    Raises :class:`UsageError` for a device that is not there, else as
    :func:`~sam21convert.load_model`; with ``images_only`` an image model is taken too.
    """
    import torch

    return load_onto(
        make,
        checkpoint,
        config,
        change=with_image_size(image_size),
        device=pick_device(device),
        dtype=torch.float32,
        images_only=images_only,
    )


def size_of(loading: Loading) -> str | None:
    """The published size (tiny, ...) of a model; None for another."""
    shipped = shipped_like(loading.config)
    return None if shipped is None else shipped.size


def _objects(prompts: Sequence[Prompt], mask: str | Path | None) -> dict[str, Prompted]:
    """What is said of each object."""
    later = [prompt for prompt in prompts if prompt.frame_idx != 0]
    if later:
        raise UsageError(f"{later[0]}: is for frame {later[0].frame_idx}; a picture has one, 0")
    objects = {obj_id: frames[0] for obj_id, frames in grouped(prompts).items()}
    if mask is not None and not objects:
        return {"1": Prompted()}
    if mask is not None and len(objects) > 1:
        raise UsageError(f"{mask}: a mask goes with one object; the prompts name {len(objects)}")
    if not objects:
        raise no_prompt()
    return objects


def no_prompt() -> UsageError:
    """The error when nothing is pointed at."""
    return UsageError(
        "no prompt: nothing says what to segment",
        hint="point at it, as in `point=210,350`, or put a box around it: `box=10,20,300,400`",
    )


def _wants_candidates(
    objects: dict[str, Prompted], mask: str | Path | None, multimask: bool | None
) -> bool:
    """Whether three candidates are shown: a single point may mean a part or the whole."""
    if multimask and len(objects) > 1:
        raise UsageError(
            f"three candidates of each of {len(objects)} objects do not go into one drawing",
            hint="segment one object at a time, or leave `multimask` out",
        )
    if multimask is not None:
        return multimask
    first = next(iter(objects.values()))
    clicks = len(first.points)
    return len(objects) == 1 and clicks == 1 and first.box is None and mask is None


def _mask_paths(out: Path, objects: dict[str, Prompted], *, candidates: bool) -> list[Path]:
    """Where masks go: the only one, three candidates, or one of each object."""
    names = ["0", "1", "2"] if candidates else [f"-{obj_id}" for obj_id in objects]
    return [out.with_suffix(f".mask{name if len(names) > 1 else ''}.png") for name in names]


def _segmented(
    model: SAM2,
    pixels: Pixels,
    objects: dict[str, Prompted],
    guess: Mask | None,
    *,
    candidates: bool,
) -> list[tuple[str, Mask, float]]:
    """Object, mask and expected IoU of each mask."""
    from ..model.image_predictor import SAM2ImagePredictor

    predictor = SAM2ImagePredictor(model)
    predictor.set_image(pixels)
    mask_input = None if guess is None else _as_logits(guess, model.image_size // 4)
    found = []
    for obj_id, prompted in objects.items():
        masks, ious, _ = predictor.predict(
            prompted.coordinates, prompted.labels, prompted.corners, mask_input, candidates
        )
        for mask, iou in zip(masks, ious, strict=True):
            found.append((obj_id, mask > 0, float(iou)))
    return found


def _as_logits(mask: Mask, side: int) -> NDArray[np.float32]:
    """A mask as the model's mask prompt: ``1 x side x side``."""
    import torch

    share = torch.from_numpy(mask)[None, None].float()  # 1, 1, H, W
    small = torch.nn.functional.interpolate(
        share, size=(side, side), mode="bilinear", antialias=True
    )  # 1, 1, side, side
    logits: NDArray[np.float32] = (2 * _CERTAIN * small[0] - _CERTAIN).numpy()
    return logits


def _refuse_outputs(
    outputs: Sequence[Path], inputs: Sequence[str | Path | None], *, overwrite: bool
) -> None:
    if outputs[0].suffix.lower() != ".png":
        raise UsageError(f"{outputs[0]}: what is written is a PNG", hint="end the name in .png")
    for path in outputs:
        refuse_existing(path, overwrite=overwrite)
        if path.is_dir():
            raise UsageError(f"{path}: is a folder; what is to be written is a file")
        for given in inputs:
            if given is not None and path.exists() and Path(given).resolve() == path.resolve():
                raise UsageError(f"{path}: is an input, which is never changed")


def _drawn(
    pixels: Pixels, objects: dict[str, Prompted], found: Sequence[tuple[str, Mask, float]]
) -> Image.Image:
    """All objects in one drawing, or a panel for each candidate."""
    if len(objects) == len(found):
        return drawing(pixels, {obj_id: mask for obj_id, mask, _ in found}, objects)
    panels = [
        (f"mask {number}, expected IoU {iou:.2f}", drawing(pixels, {obj_id: mask}, objects))
        for number, (obj_id, mask, iou) in enumerate(found)
    ]
    return sheet(panels, columns=len(panels))


def _write(pictures: dict[Path, Image.Image], overwrite: bool) -> None:
    """Save all pictures, or none."""
    with ExitStack() as stack:
        for path, picture in pictures.items():
            picture.save(stack.enter_context(new_file(path, overwrite=overwrite)), format="PNG")
