"""Follow objects through a video: the official predictor's methods, arguments and results.

.. code-block:: python

    predictor = build_sam2_video_predictor("configs/sam2.1/sam2.1_hiera_t.yaml", checkpoint)
    state = predictor.init_state("video.mp4")
    predictor.add_new_points_or_box(state, frame_idx=0, obj_id=1, points=[[210, 350]], labels=[1])
    for frame_idx, obj_ids, logits in predictor.propagate_in_video(state):
        masks = logits > 0

Follows ``sam2_video_predictor.py``.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any

import torch
from torch import Tensor

from .inference_state import Session
from .tracker import Tracker
from .video_frames import load_frames

Answer = tuple[int, list[Hashable], Tensor]  # frame, object ids, logits: objects x 1 x H x W


class SAM2VideoPredictor(Tracker):
    """The model with what it takes to follow objects that a user points at.

    Every method takes the state that :meth:`init_state` returns. Masks are logits at the size of
    the video; above 0 is object.
    """

    @classmethod
    def from_pretrained(cls, model_id: str, **kwargs: Any) -> SAM2VideoPredictor:
        """A predictor from a Hugging Face id, a folder or a file.

        ``kwargs`` are those of :func:`~sam21convert.model.build_sam2_video_predictor`.
        """
        from . import build_sam2_video_predictor_hf

        return build_sam2_video_predictor_hf(model_id, **kwargs)

    @torch.inference_mode()
    def init_state(
        self,
        video_path: Any,
        offload_video_to_cpu: bool = False,
        offload_state_to_cpu: bool = False,
        async_loading_frames: bool = False,
    ) -> Session:
        """Open a video: a folder of ``<number>.jpg``, a video file, or frames in memory.

        What else ``video_path`` may be, and what is raised when it cannot be read:
        :func:`~sam21convert.model.video_frames.load_frames`. Offloading keeps frames, or masks and
        memories, in the main memory instead of the model's device.
        """
        frames = load_frames(
            video_path,
            self.image_size,
            self.device,
            offload_to_cpu=offload_video_to_cpu,
            async_loading=async_loading_frames,
        )
        storage = torch.device("cpu") if offload_state_to_cpu else self.device
        state = Session(frames, self.device, storage)
        self.frame_features(state, 0)
        return state

    @torch.inference_mode()
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
        """Point at an object on a frame, or correct what was found there.

        ``points`` (N x 2) and ``box`` (x0, y0, x1, y1) are in pixels of the video or, without
        ``normalize_coords``, in shares of its sides; ``labels`` (N) are 1 on the object, 0 off it.
        Without ``clear_old_points`` they add to those given before. Raises ValueError for points
        without labels, for neither points nor box, and for a box that comes after points.
        """
        given = self._as_points(inference_state, points, labels, box, normalize_coords)
        if box is not None and not clear_old_points:
            raise ValueError("box: must come before any point; leave clear_old_points at True")
        inference_state.check_frame(frame_idx)
        found = inference_state.object(obj_id)
        old = None if clear_old_points else found.points.get(frame_idx)
        if old is not None:
            given = torch.cat((old[0], given[0]), dim=1), torch.cat((old[1], given[1]), dim=1)
        found.points[frame_idx] = given
        found.masks.pop(frame_idx, None)
        masks = self.respond(inference_state, frame_idx, obj_id)
        return frame_idx, inference_state.obj_ids, masks

    def add_new_points(self, *args: Any, **kwargs: Any) -> Answer:
        """The former name of :meth:`add_new_points_or_box`."""
        return self.add_new_points_or_box(*args, **kwargs)

    @torch.inference_mode()
    def add_new_mask(
        self, inference_state: Session, frame_idx: int, obj_id: Hashable, mask: Any
    ) -> Answer:
        """Give the mask of an object on a frame: H x W, of any size, true on the object."""
        inference_state.check_frame(frame_idx)
        given = torch.as_tensor(mask)
        if given.ndim != 2:
            raise ValueError(f"mask: expected height x width, found {given.ndim} dimensions")
        if not isinstance(mask, Tensor):
            given = given.bool()
        resized = given[None, None].float().to(inference_state.device)  # 1, 1, H, W
        side = self.image_size
        if given.shape != (side, side):
            resized = torch.nn.functional.interpolate(
                resized, size=(side, side), mode="bilinear", antialias=True
            )  # 1, 1, S, S
            resized = (resized >= 0.5).float()
        found = inference_state.object(obj_id)
        found.masks[frame_idx] = resized
        found.points.pop(frame_idx, None)
        masks = self.respond(inference_state, frame_idx, obj_id)
        return frame_idx, inference_state.obj_ids, masks

    @torch.inference_mode()
    def propagate_in_video_preflight(self, inference_state: Session) -> None:
        """Turn the prompts given so far into memories; :meth:`propagate_in_video` calls it.

        Raises RuntimeError when there is no object, or one without a prompt.
        """
        if not inference_state.objects:
            raise RuntimeError("no object to follow: add points, a box or a mask first")
        for obj_id, found in inference_state.objects.items():
            for prompted in (False, True):
                pending = found.pending.of(prompted=prompted)
                for frame, outcome in pending.items():
                    self.remember_prompt(inference_state, frame, obj_id, outcome)
                    found.settled.of(prompted=prompted)[frame] = outcome
                    if self.clear_non_cond_mem_around_input:
                        found.forget_memories(self.frames_around(frame))
                pending.clear()
            if not found.settled.prompted:
                raise RuntimeError(
                    f"no prompt for object {obj_id!r}: add points, a box or a mask first"
                )
            found.forget_memories(found.settled.prompted)

    @torch.inference_mode()
    def propagate_in_video(
        self,
        inference_state: Session,
        start_frame_idx: int | None = None,
        max_frame_num_to_track: int | None = None,
        reverse: bool = False,
    ) -> Iterator[Answer]:
        """Follow all objects, frame by frame, and yield their masks.

        From the earliest prompted frame unless ``start_frame_idx`` is given, over that frame and
        up to ``max_frame_num_to_track`` others, to the end or, with ``reverse``, the beginning of
        the video. From frame 0 there is nothing to follow in reverse. Raises RuntimeError as
        :meth:`propagate_in_video_preflight`.
        """
        self.propagate_in_video_preflight(inference_state)
        objects = inference_state.objects
        for frame in self._order(inference_state, start_frame_idx, max_frame_num_to_track, reverse):
            masks = []
            for obj_id, found in objects.items():
                outcome = found.settled.prompted.get(frame)
                if outcome is None:
                    outcome = self.track(inference_state, frame, obj_id, reverse=reverse)
                    found.settled.tracked[frame] = outcome
                elif self.clear_non_cond_mem_around_input:
                    found.forget_memories(self.frames_around(frame))
                found.reversed_on[frame] = reverse
                masks.append(outcome.low_res.to(inference_state.device, non_blocking=True))
            logits = self.at_video_size(inference_state, torch.cat(masks))  # objects, 1, H, W
            yield frame, inference_state.obj_ids, logits

    @torch.inference_mode()
    def clear_all_prompts_in_frame(
        self,
        inference_state: Session,
        frame_idx: int,
        obj_id: Hashable,
        need_output: bool = True,
    ) -> Answer | None:
        """Take back the prompts for an object on a frame; what was found there stays a memory."""
        inference_state.object(obj_id).forget_prompts(frame_idx)
        return self._answer(inference_state, frame_idx) if need_output else None

    @torch.inference_mode()
    def remove_object(
        self,
        inference_state: Session,
        obj_id: Hashable,
        strict: bool = False,
        need_output: bool = True,
    ) -> tuple[list[Hashable], list[tuple[int, Tensor]]]:
        """Forget an object; returns the ids left and new masks of the frames it had prompts on.

        With ``strict``, raises RuntimeError when there is no such object.
        """
        removed = inference_state.objects.pop(obj_id, None)
        if removed is None and strict:
            raise RuntimeError(f"no object {obj_id!r}; there are {inference_state.obj_ids}")
        frames = {*removed.points, *removed.masks} if removed and inference_state.objects else set()
        updated = [(f, self._answer(inference_state, f)[2]) for f in sorted(frames) if need_output]
        return inference_state.obj_ids, updated

    @torch.inference_mode()
    def reset_state(self, inference_state: Session) -> None:
        """Forget all objects and prompts; the video stays open."""
        inference_state.objects.clear()

    def _answer(self, state: Session, frame: int) -> Answer:
        pending = any(frame in found.pending.prompted for found in state.objects.values())
        return frame, state.obj_ids, self.masks_on(state, frame, prompted=pending)

    def _as_points(
        self, state: Session, points: Any, labels: Any, box: Any, in_pixels: bool
    ) -> tuple[Tensor, Tensor]:
        """Points and box as ``1 x N x 2`` in pixels of the model's input, and their labels."""
        if (points is None) != (labels is None):
            raise ValueError("points and labels: expected both or neither, found one")
        if points is None and box is None:
            raise ValueError("expected points, a box or both, found neither")
        coordinates = torch.as_tensor([] if points is None else points, dtype=torch.float32)
        kinds = torch.as_tensor([] if labels is None else labels, dtype=torch.int32)
        coordinates, kinds = coordinates.reshape(1, -1, 2), kinds.reshape(1, -1)  # 1, N, 2; 1, N
        if coordinates.shape[1] != kinds.shape[1]:
            raise ValueError(
                f"labels: expected one for each of {coordinates.shape[1]} points, "
                f"found {kinds.shape[1]}"
            )
        if box is not None:
            corners = torch.as_tensor(box, dtype=torch.float32).reshape(1, 2, 2)
            coordinates = torch.cat((corners.to(coordinates.device), coordinates), dim=1)
            kinds = torch.cat((kinds.new_tensor([[2, 3]]), kinds), dim=1)  # 1, N
        if in_pixels:
            size = coordinates.new_tensor([state.video_width, state.video_height])
            coordinates = coordinates / size
        coordinates = coordinates * self.image_size
        return coordinates.to(state.device), kinds.to(state.device)

    def _order(self, state: Session, start: int | None, limit: int | None, reverse: bool) -> range:
        """The frames to visit, in order."""
        if start is None:
            start = min(min(found.settled.prompted) for found in state.objects.values())
        state.check_frame(start)
        limit = state.num_frames if limit is None else limit
        if reverse:
            return range(start, max(start - limit, 0) - 1, -1) if start > 0 else range(0)
        return range(start, min(start + limit, state.num_frames - 1) + 1)
