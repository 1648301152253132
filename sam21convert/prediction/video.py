"""Follow objects through a video: masks on every frame, drawn and saved."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..errors import UsageError
from ..export.runtime import OnnxVideoPredictor
from ..export.runtime.pictures import store_frames as store_squares
from ..io.nearby import expanded, missing
from ..io.onnx import Variant
from ..io.output.atomic import new_folder, refuse_existing
from ..io.output.folders import refuse_file_name
from ..report import SILENT, Part, Progress, Report, counted, table
from .draw import Mask, Pixels, as_html, black_and_white, drawing, sheet
from .image import Prediction, no_prompt
from .media import frame_rate, frames_of, naming_faults, new_video
from .predictors import Opened, Request, open_videos, size_of
from .prompts import Prompt, Prompted, check_inside, in_rounds
from .runtimes import Runtime, pick_runtime, require_runtime

if TYPE_CHECKING:
    from ..export.runtime.state import Session as OnnxSession
    from ..model.config import ModelConfig
    from ..model.inference_state import Session as TorchSession

    Session = TorchSession | OnnxSession

Objects = Mapping[str, Mapping[int, Prompted]]

_OURS = FRAMES, MASKS, OVERVIEW, VIDEO = "frames", "masks", "overview.png", "video.mp4"
_IN_OVERVIEW = 8
_OVERVIEW_WIDTH = 360


@dataclass(frozen=True)
class FollowedObject(Report):
    """An object that was followed through a video.

    Attributes:
        obj_id: Its name.
        masks: The folder of its masks.
        prompted_on: The frames with prompts for it, counted from 0.
        areas: The area of its mask on every frame, in pixels.
    """

    obj_id: str
    masks: Path
    prompted_on: tuple[int, ...]
    areas: tuple[int, ...]

    @property
    def seen_on(self) -> int:
        """Number of frames on which the mask is not empty."""
        return sum(area > 0 for area in self.areas)

    def to_dict(self) -> dict[str, Any]:
        """Give the fields as plain data.

        Returns:
            Field name to value, and ``seen_on``.
        """
        return {**super().to_dict(), "seen_on": self.seen_on}


@dataclass(frozen=True)
class VideoPrediction(Prediction, schema="predict-video/1"):
    """The answer of :func:`predict_video`.

    Attributes:
        folder: The output folder.
        frames: Number of frames.
        overview: A picture of a few frames.
        video: The drawn video; None if the source is a folder.
        objects: The followed objects, in the order of their first prompts.

    Example:
        >>> box = sam21convert.Box(14, 30, 48, 62, frame_idx=1)
        >>> found = sam21convert.predict_video("frames", "model.pt", "followed", [box])
        >>> found.overview
        PosixPath('followed/overview.png')
    """

    folder: Path
    frames: int
    overview: Path
    video: Path | None
    objects: tuple[FollowedObject, ...]

    def _repr_html_(self) -> str:
        facts = super()._repr_html_()
        if not self.overview.exists():  # it may have been moved since
            return facts
        with Image.open(self.overview) as picture:
            return as_html(picture) + facts

    def to_dict(self) -> dict[str, Any]:
        """Give the fields as plain data.

        Returns:
            Field name to value, each object as a dict.
        """
        return {**super().to_dict(), "objects": [found.to_dict() for found in self.objects]}

    def shown(self) -> list[Part]:
        """What people see.

        Returns:
            A table of the files.
        """
        rows = [*self.rows(), ("frames", f"{self.frames}, drawn in {self.folder / FRAMES}")]
        for found in self.objects:
            share = sum(found.areas) / (max(1, found.seen_on) * self.width * self.height)
            seen = counted(found.seen_on, "frame")
            text = f"seen on {seen}, {share:.1%} of the picture on average there"
            rows.append((f"object {found.obj_id}", f"{text}: {found.masks}"))
        rows.append(("overview", str(self.overview)))
        if self.video is not None:
            rows.append(("video", str(self.video)))
        return [table(rows)]


def predict_video(
    video: str | Path,
    checkpoint: str | Path,
    out: str | Path,
    prompts: Sequence[Prompt],
    *,
    config: str | Path | ModelConfig | None = None,
    image_size: int | None = None,
    device: str = "auto",
    runtime: Runtime | None = None,
    variant: Variant | None = None,
    offload: bool = False,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> VideoPrediction:
    """Follow objects through a video, from points and boxes on any of its frames.

    Objects are followed from the first frame with a prompt to the end, then from there back to the
    beginning, with the settings of the official builder of video predictors. After each further
    round of prompts, which correct what was found, they are followed again.

    Args:
        video: A folder of ``<number>.jpg`` or ``.png``, or a video file: MP4, MOV, Matroska, WebM,
            AVI, MPEG, Ogg, FLV or WMV.
        checkpoint: Any checkpoint that :func:`~sam21convert.load_model` takes; or the folder that
            :func:`~sam21convert.export_onnx` wrote with ``with_video``.
        out: The output folder: ``frames/00000.jpg`` and so on with everything drawn,
            ``masks/<object>/00000.png`` and so on (0 and 255), ``overview.png`` with a few frames
            and, when ``video`` is a file, ``video.mp4``.
        prompts: Points and boxes, in pixels of the video; those with the same ``obj_id`` describe
            one object, and those of one ``round`` are given before the objects are followed.
        config: As for :func:`~sam21convert.load_model`.
        image_size: As for :func:`~sam21convert.load_model`.
        device: ``"auto"`` for a GPU if there is one, or a device as torch names it.
        runtime: As for :func:`~sam21convert.predict_image`.
        variant: As for :func:`~sam21convert.predict_image`.
        offload: For long videos: whether frames are kept in a file beside ``out`` instead of in
            memory, and results in the main memory instead of on the device. Masks are the same.
        overwrite: Whether an earlier prediction in ``out`` may be replaced.
        progress: Receives the number of frames, once followed and once drawn.

    Returns:
        The objects, their areas, and where the files are.

    Raises:
        UnreadableError: If ``video`` cannot be read.
        RefusedError: If ``video`` is in another format, has frames of more than 8192 x 4352 pixels,
            or does not fit into memory, where each frame takes 13 MB at 1024 pixels, 5 MB with an
            export, and 1 MB offloaded.
        UsageError: If the prompts do not fit the video, the device is not there or something is in
            the way of the output.
        Sam21ConvertError: For a checkpoint, as :func:`~sam21convert.load_model` does; for an
            export, as :func:`~sam21convert.export.runtime.load` does.

    Example:
        >>> point = sam21convert.Point(30, 46, obj_id="disc")
        >>> found = sam21convert.predict_video("frames", "model.pt", "followed", [point])
        >>> found.frames
        3
    """
    chosen = pick_runtime(checkpoint, runtime)
    require_runtime(chosen, "predict_video", videos=True)
    request = Request(checkpoint, chosen, config, image_size, device, variant).refuse_impossible()
    source, folder = expanded(Path(video)), expanded(Path(out))
    if not source.exists():
        raise missing(source)
    rounds = in_rounds(prompts)
    if not rounds:
        raise no_prompt()
    objects = _of_all(rounds)
    _refuse_occupied(folder, [source, Path(checkpoint)], overwrite=overwrite)
    progress.start("loading", 0)
    opened = open_videos(request)
    progress.start("reading", 0)
    with naming_faults():
        state = _begin(opened, source, folder.parent if offload else None)
    _check(state, objects)
    progress.start("following", state.num_frames * len(rounds))
    for earlier in rounds[:-1]:
        _point(opened, state, earlier)
        for _ in followed(opened, state):
            progress.advance(1)
    _point(opened, state, rounds[-1])
    with new_folder(folder, overwrite=overwrite, without=_OURS) as home:
        areas = _save(opened, state, home / MASKS, progress)
        _draw(source, state, objects, home, progress)
    return VideoPrediction(
        source=source,
        width=state.video_width,
        height=state.video_height,
        size=size_of(opened.loaded),
        model=opened.loaded,
        folder=folder,
        frames=state.num_frames,
        overview=folder / OVERVIEW,
        video=folder / VIDEO if source.is_file() else None,
        objects=tuple(
            FollowedObject(obj_id, folder / MASKS / obj_id, tuple(frames), tuple(areas[obj_id]))
            for obj_id, frames in objects.items()
        ),
    )


def _begin(opened: Opened, source: Path, storage: Path | None) -> Session:
    """Open a video, whose frames are kept in a file in ``storage`` unless that is None."""
    predictor = opened.predictor
    begun: Session
    if storage is None:
        begun = predictor.init_state(str(source))
    elif isinstance(predictor, OnnxVideoPredictor):
        begun = predictor.init_state(store_squares(source, predictor.model.image_size, storage))
    else:
        from ..model.video_frames import store_frames

        frames = store_frames(source, predictor.image_size, predictor.device, storage)
        begun = predictor.init_state(frames, offload_state_to_cpu=True)
    return begun


def _of_all(rounds: Sequence[Objects]) -> dict[str, dict[int, Prompted]]:
    """The prompts of all rounds, by object and frame."""
    found: dict[str, dict[int, Prompted]] = {}
    for objects in rounds:
        for obj_id, frames in objects.items():
            known = found.setdefault(obj_id, {})
            known.update(frames)
            found[obj_id] = dict(sorted(known.items()))
    return found


def _check(state: Session, objects: Objects) -> None:
    for frames in objects.values():
        for frame, prompted in frames.items():
            check_on_frame(state, frame, prompted)


def check_on_frame(state: Session, frame: int, prompted: Prompted) -> None:
    """Check that a video has what prompts are for.

    Args:
        state: The video.
        frame: The frame of the prompts.
        prompted: The prompts.

    Raises:
        UsageError: If there is no such frame, or a prompt is not inside it.
    """
    if not 0 <= frame < state.num_frames:
        raise UsageError(
            f"{prompted.all[0]}: is for frame {frame}; the video has {state.num_frames} frames, "
            "counted from 0"
        )
    check_inside(prompted.all, state.video_width, state.video_height)


def _point(opened: Opened, state: Session, objects: Objects) -> None:
    """Give the predictor the prompts of a round."""
    for obj_id, frames in objects.items():
        for frame, prompted in frames.items():
            point_at(opened, state, obj_id, frame, prompted)


def point_at(opened: Opened, state: Session, obj_id: str, frame: int, prompted: Prompted) -> Mask:
    """Point at an object on a frame.

    Args:
        opened: The model.
        state: The video.
        obj_id: The object.
        frame: The frame.
        prompted: All prompts for the object there.

    Returns:
        Its mask on the frame, ``H x W``.
    """
    _, obj_ids, logits = opened.predictor.add_new_points_or_box(
        state,
        frame,
        obj_id,
        points=prompted.coordinates,
        labels=prompted.labels,
        box=prompted.corners,
    )
    return opened.positive(logits[obj_ids.index(obj_id), 0])


def followed(opened: Opened, state: Session) -> Iterator[tuple[int, dict[str, Mask]]]:
    """Follow all objects from the first frame with a prompt to the end, then back to the beginning.

    Args:
        opened: The model.
        state: The video.

    Yields:
        Each frame once, with the mask of each object, ``H x W``.
    """
    first = min(min(found.points) for found in state.objects.values())
    for reverse in (False, True):
        for frame, obj_ids, logits in opened.predictor.propagate_in_video(
            state, first, reverse=reverse
        ):
            if reverse and frame == first:
                continue
            masks = opened.positive(logits[:, 0])
            yield frame, {str(one): mask for one, mask in zip(obj_ids, masks, strict=True)}


def _save(opened: Opened, state: Session, folder: Path, progress: Progress) -> dict[str, list[int]]:
    """Follow all objects and save their masks; returns their areas on each frame, in pixels."""
    areas = {str(obj_id): [0] * state.num_frames for obj_id in state.obj_ids}
    for obj_id in areas:
        (folder / obj_id).mkdir(parents=True)
    for frame, masks in followed(opened, state):
        for obj_id, mask in masks.items():
            black_and_white(mask).save(folder / obj_id / f"{frame:05}.png")
            areas[obj_id][frame] = int(mask.sum())
        progress.advance(1)
    return areas


def _draw(source: Path, state: Session, objects: Objects, home: Path, progress: Progress) -> None:
    """Draw the saved masks over the frames: those of a whole video would not fit into memory."""
    (home / FRAMES).mkdir()
    width, height, count = state.video_width, state.video_height, state.num_frames
    shown = set(np.linspace(0, count - 1, min(count, _IN_OVERVIEW)).round().astype(int).tolist())
    small = (_OVERVIEW_WIDTH, max(1, round(_OVERVIEW_WIDTH * height / width)))
    panels = []
    progress.start("drawing", count)
    with _film(source, home, width, height) as append:
        for frame, pixels in enumerate(frames_of(source)):
            masks = {obj_id: _mask(home / MASKS / obj_id / f"{frame:05}.png") for obj_id in objects}
            here = {obj_id: of[frame] for obj_id, of in objects.items() if frame in of}
            picture = drawing(pixels, masks, here)
            # outlines are thin: colours at full resolution
            picture.save(home / FRAMES / f"{frame:05}.jpg", quality=92, subsampling=0)
            append(np.asarray(picture))
            if frame in shown:
                panels.append((f"frame {frame}", picture.resize(small)))
            progress.advance(1)
    titles, pictures = zip(*panels, strict=True)
    sheet(titles, pictures, columns=4).save(home / OVERVIEW)


def _mask(path: Path) -> Mask:
    with Image.open(path) as picture:
        return np.asarray(picture) > 0


def _film(
    source: Path, home: Path, width: int, height: int
) -> AbstractContextManager[Callable[[Pixels], None]]:
    """A function that appends a frame to the drawn video; it does nothing for a folder source."""
    if source.is_dir():
        return nullcontext(lambda _: None)
    return new_video(home / VIDEO, frame_rate(source), width, height)


def _refuse_occupied(folder: Path, inputs: Sequence[Path], *, overwrite: bool) -> None:
    """Raise :class:`UsageError` unless ``folder`` is free or holds an earlier prediction only."""
    refuse_file_name(folder)
    refuse_existing(folder, overwrite=overwrite)
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UsageError(f"{folder}: is a file; the output of a video is a folder")
    foreign = {path.name for path in folder.iterdir()} - {*_OURS}
    if foreign:
        raise UsageError(
            f"{folder}: holds {min(foreign)}, which is not part of a prediction",
            hint="name a new folder",
        )
    for path in inputs:
        if folder.resolve() in path.resolve().parents:
            raise UsageError(f"{folder}: holds the input {path}; an input is never overwritten")
