"""Follow objects through a video by an export, with the methods of the official predictor.

.. code-block:: python

    predictor = OnnxVideoPredictor(load("export"))
    state = predictor.init_state("frames")
    predictor.add_new_points_or_box(state, frame_idx=0, obj_id=1, points=[[210, 350]], labels=[1])
    for frame_idx, obj_ids, logits in predictor.propagate_in_video(state):
        masks = logits > 0

The counterpart of :mod:`~sam21convert.model.video_predictor`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any

import numpy as np

from ...model.config import TrackingOptions
from .model import OnnxModel
from .pictures import load_frames
from .prompts import Labels
from .resize import Floats, resize
from .state import Session
from .tracker import Tracker

Answer = tuple[int, list[Hashable], Floats]  # frame, object ids, logits: objects x 1 x H x W

_CORNERS = np.array([[2, 3]], np.int64)  # labels of the first and last corner of a box


class OnnxVideoPredictor(Tracker):
    """Follows objects that a user points at.

    Most methods take the state that :meth:`init_state` returns. Masks are logits at the size of the
    video; above 0 is object. The options are those of
    :class:`~sam21convert.model.config.TrackingOptions`, with the defaults of the official builder.

    Args:
        model: The export, with the files for videos.
        fill_hole_area: Holes of up to this many pixels of the low-resolution mask are filled; 0
            fills none.
        binarize_mask_from_pts_for_mem_enc: Whether prompted masks are remembered as 0 and 1 instead
            of probabilities.
        **options: Further options of tracking.

    Raises:
        UsageError: If the export does not have the files for videos.
        ConfigError: If an option has an impossible value.
    """

    def __init__(
        self,
        model: OnnxModel,
        fill_hole_area: int = 8,
        binarize_mask_from_pts_for_mem_enc: bool = True,
        **options: Any,
    ) -> None:
        given = TrackingOptions(
            fill_hole_area=fill_hole_area,
            binarize_mask_from_pts_for_mem_enc=binarize_mask_from_pts_for_mem_enc,
            **options,
        )
        super().__init__(model, given)

    def init_state(self, video_path: Any) -> Session:
        """Open a video.

        Args:
            video_path: A folder of ``<number>.jpg`` or ``.png``, a video file, frames in memory, or
                :class:`~.pictures.Frames`; see :func:`~.pictures.load_frames`.

        Returns:
            The state of the video, without objects.

        Raises:
            MissingFileError: If there is no such folder or file.
            MissingPackageError: If Pillow, or for a file PyAV, is not installed.
            UnreadableError: If it cannot be read, or a picture has another size than the first.
            RefusedError: If it is too large or in another format.
            ValueError: If frames in memory are not pictures of one size.
        """
        return Session(load_frames(video_path, self.model.image_size))

    def add_new_points_or_box(
        self,
        inference_state: Session,
        frame_idx: int,
        obj_id: Hashable,
        points: Any = None,
        labels: Any = None,
        clear_old_points: bool = True,
        normalize_coords: bool = True,
        box: Any = None,
    ) -> Answer:
        """Point at an object on a frame, or correct its mask there.

        Args:
            inference_state: The state of the video.
            frame_idx: Number of the frame, counted from 0.
            obj_id: Id of the object; a new id adds an object.
            points: Points (x, y), ``N x 2``, in pixels of the video.
            labels: ``N``: 1 for a point on the object, 0 for one off it.
            clear_old_points: Whether the points replace those given before on this frame, instead
                of adding to them.
            normalize_coords: False if points and box are given as fractions of the video's width
                and height, 0 to 1, instead of pixels.
            box: x0, y0, x1, y1, in pixels of the video.

        Returns:
            The frame, the ids of all objects, and the masks of all objects on it.

        Raises:
            IndexError: If the video has no such frame.
            ValueError: If points have no labels, there are neither points nor a box, or a box
                comes after points.
        """
        given = self._as_points(inference_state, points, labels, box, normalize_coords)
        if box is not None and not clear_old_points:
            raise ValueError("box: must come before any point; leave clear_old_points at True")
        inference_state.check_frame(frame_idx)
        tracked = inference_state.object(obj_id)
        old = None if clear_old_points else tracked.points.get(frame_idx)
        if old is not None:
            given = (
                np.concatenate((old[0], given[0]), axis=1),
                np.concatenate((old[1], given[1]), axis=1),
            )
        tracked.points[frame_idx] = given
        tracked.masks.pop(frame_idx, None)
        masks = self.respond(inference_state, frame_idx, obj_id)
        return frame_idx, inference_state.obj_ids, masks

    def add_new_points(self, *args: Any, **kwargs: Any) -> Answer:
        """Call :meth:`add_new_points_or_box`, whose former name this is.

        Args:
            *args: Its positional arguments.
            **kwargs: Its keyword arguments.

        Returns:
            Its result.
        """
        return self.add_new_points_or_box(*args, **kwargs)

    def add_new_mask(
        self, inference_state: Session, frame_idx: int, obj_id: Hashable, mask: Any
    ) -> Answer:
        """Give the mask of an object on a frame.

        Args:
            inference_state: The state of the video.
            frame_idx: Number of the frame, counted from 0.
            obj_id: Id of the object; a new id adds an object.
            mask: ``H x W``, of any size, true or 1 on the object.

        Returns:
            The frame, the ids of all objects, and the masks of all objects on it.

        Raises:
            IndexError: If the video has no such frame.
            ValueError: If ``mask`` does not have two axes.
        """
        inference_state.check_frame(frame_idx)
        given = np.asarray(mask)
        if given.ndim != 2:
            raise ValueError(f"mask: expected height x width, found {given.ndim} dimensions")
        resized = given.astype(bool).astype(np.float32)[None, None]  # 1, 1, H, W
        side = self.model.image_size
        if given.shape != (side, side):
            resized = resize(resized, side, side, antialias=True)  # 1, 1, S, S
            resized = (resized >= np.float32(0.5)).astype(np.float32)
        tracked = inference_state.object(obj_id)
        tracked.masks[frame_idx] = resized
        tracked.points.pop(frame_idx, None)
        masks = self.respond(inference_state, frame_idx, obj_id)
        return frame_idx, inference_state.obj_ids, masks

    def propagate_in_video_preflight(self, inference_state: Session) -> None:
        """Turn the prompts given so far into memories; :meth:`propagate_in_video` calls it.

        Args:
            inference_state: The state of the video.

        Raises:
            RuntimeError: If there is no object, or an object without a prompt.
        """
        if not inference_state.objects:
            raise RuntimeError("no object to follow: add points, a box or a mask first")
        clear = self.options.clear_non_cond_mem_around_input
        for obj_id, tracked in inference_state.objects.items():
            for prompted in (False, True):
                pending = tracked.pending.of(prompted=prompted)
                for frame, result in pending.items():
                    self.remember_prompt(inference_state, frame, obj_id, result)
                    tracked.settled.of(prompted=prompted)[frame] = result
                    if clear:
                        tracked.forget_memories(self.frames_around(frame))
                pending.clear()
            if not tracked.settled.prompted:
                raise RuntimeError(
                    f"no prompt for object {obj_id!r}: add points, a box or a mask first"
                )
            # A frame that was tracked and has got a prompt since counts as prompted only.
            tracked.forget_memories(tracked.settled.prompted)

    def propagate_in_video(
        self,
        inference_state: Session,
        start_frame_idx: int | None = None,
        max_frame_num_to_track: int | None = None,
        reverse: bool = False,
    ) -> Iterator[Answer]:
        """Follow all objects, frame by frame, and yield their masks.

        Args:
            inference_state: The state of the video.
            start_frame_idx: The first frame to visit; the earliest prompted one if None.
            max_frame_num_to_track: Number of frames to visit after it at most; all if None.
            reverse: Whether to go towards the beginning of the video instead of its end. From
                frame 0 no frame is visited then.

        Yields:
            For every frame its number, the ids of all objects, and the masks of all objects.

        Raises:
            IndexError: If the video has no frame ``start_frame_idx``.
            RuntimeError: If there is no object, or an object without a prompt.
        """
        self.propagate_in_video_preflight(inference_state)
        objects = inference_state.objects
        for frame in self._order(inference_state, start_frame_idx, max_frame_num_to_track, reverse):
            masks = []
            for obj_id, tracked in objects.items():
                result = tracked.settled.prompted.get(frame)
                if result is None:
                    result = self.track(inference_state, frame, obj_id, reverse=reverse)
                    tracked.settled.tracked[frame] = result
                elif self.options.clear_non_cond_mem_around_input:
                    tracked.forget_memories(self.frames_around(frame))
                tracked.reversed_on[frame] = reverse
                masks.append(result.low_res)
            logits = self.at_video_size(inference_state, np.concatenate(masks))  # N, 1, H, W
            yield frame, inference_state.obj_ids, logits

    def clear_all_prompts_in_frame(
        self,
        inference_state: Session,
        frame_idx: int,
        obj_id: Hashable,
        need_output: bool = True,
    ) -> Answer | None:
        """Take back the prompts for an object on a frame; the mask found there stays a memory.

        Args:
            inference_state: The state of the video.
            frame_idx: Number of the frame.
            obj_id: Id of the object.
            need_output: Whether to compute the masks again.

        Returns:
            The frame, the ids of all objects, and the masks of all objects on it; None without
            ``need_output``.
        """
        inference_state.object(obj_id).forget_prompts(frame_idx)
        return self._answer(inference_state, frame_idx) if need_output else None

    def remove_object(
        self,
        inference_state: Session,
        obj_id: Hashable,
        strict: bool = False,
        need_output: bool = True,
    ) -> tuple[list[Hashable], list[tuple[int, Floats]]]:
        """Forget an object.

        Args:
            inference_state: The state of the video.
            obj_id: Id of the object.
            strict: Whether it is an error if there is no such object.
            need_output: Whether to compute masks again.

        Returns:
            The ids of the remaining objects and, with ``need_output``, pairs of a frame and the new
            masks on it, for every frame on which the object had prompts.

        Raises:
            RuntimeError: If there is no such object, with ``strict``.
        """
        removed = inference_state.objects.pop(obj_id, None)
        if removed is None and strict:
            raise RuntimeError(f"no object {obj_id!r}; there are {inference_state.obj_ids}")
        frames = {*removed.points, *removed.masks} if removed and inference_state.objects else set()
        updated = [(f, self._answer(inference_state, f)[2]) for f in sorted(frames) if need_output]
        return inference_state.obj_ids, updated

    def reset_state(self, inference_state: Session) -> None:
        """Forget all objects and prompts; the video stays open.

        Args:
            inference_state: The state of the video.
        """
        inference_state.objects.clear()

    def _answer(self, state: Session, frame: int) -> Answer:
        pending = any(frame in one.pending.prompted for one in state.objects.values())
        return frame, state.obj_ids, self.masks_on(state, frame, prompted=pending)

    def _as_points(
        self, state: Session, points: Any, labels: Any, box: Any, in_pixels: bool
    ) -> tuple[Floats, Labels]:
        """Points and box as ``1 x N x 2`` in pixels of the model's input, and their labels."""
        if (points is None) != (labels is None):
            raise ValueError("points and labels: expected both or neither, found one")
        if points is None and box is None:
            raise ValueError("expected points, a box or both, found neither")
        given = [] if points is None else points
        coordinates: Floats = np.asarray(given, np.float32).reshape(1, -1, 2)
        kinds: Labels = np.asarray([] if labels is None else labels, np.int64).reshape(1, -1)
        if coordinates.shape[1] != kinds.shape[1]:
            raise ValueError(
                f"labels: expected one for each of {coordinates.shape[1]} points, "
                f"found {kinds.shape[1]}"
            )
        if box is not None:
            corners = np.asarray(box, np.float32).reshape(1, 2, 2)
            coordinates = np.concatenate((corners, coordinates), axis=1)
            kinds = np.concatenate((_CORNERS, kinds), axis=1)
        size = state.video_width, state.video_height
        scale = np.array(size, np.float32) if in_pixels else np.float32(1)
        inside: Floats = coordinates / scale * np.float32(self.model.image_size)
        return inside, kinds

    def _order(self, state: Session, start: int | None, limit: int | None, reverse: bool) -> range:
        """The frames to visit, in order."""
        if start is None:
            start = min(min(one.settled.prompted) for one in state.objects.values())
        state.check_frame(start)
        limit = state.num_frames if limit is None else limit
        if reverse:
            return range(start, max(start - limit, 0) - 1, -1) if start > 0 else range(0)
        return range(start, min(start + limit, state.num_frames - 1) + 1)
