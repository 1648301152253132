"""One object on one frame of a video: from its prompts and memories to a result.

This is the layer between :class:`~sam21convert.model.SAM2`, which computes but knows no video, and
the predictor, whose methods users call. Follows the private methods of ``sam2_video_predictor.py``
and ``track_step`` of ``modeling/sam2_base.py``.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from .config import ModelConfig, TrackingOptions
from .connected_components import fill_holes
from .inference_state import Session, TrackedObject, TrackResult
from .layers import Activations
from .memory_bank import MemoryBank
from .observer import Observer
from .sam2 import NO_OBJECT, SAM2, ImageFeatures, Segmentation

_CLAMP = 32.0  # largest magnitude of a logit that is given back to the decoder
_SUPPRESSED = -10.0  # largest logit of an object where another object covers it


class Tracker(SAM2):
    """The model with the steps of tracking.

    The fields of :class:`~sam21convert.model.config.TrackingOptions` become attributes of the same
    names, which may be changed at any time.

    Args:
        config: The architecture.
        options: Options of tracking; the official defaults if None.

    Attributes:
        observer: Is told of every activation and memory. None by default.
    """

    def __init__(self, config: ModelConfig, options: TrackingOptions | None = None) -> None:
        super().__init__(config)
        options = options or TrackingOptions()
        self.fill_hole_area = options.fill_hole_area
        self.non_overlap_masks = options.non_overlap_masks
        self.clear_non_cond_mem_around_input = options.clear_non_cond_mem_around_input
        self.add_all_frames_to_correct_as_cond = options.add_all_frames_to_correct_as_cond
        self.binarize_mask_from_pts_for_mem_enc = options.binarize_mask_from_pts_for_mem_enc
        self.memory_temporal_stride_for_eval = options.memory_temporal_stride_for_eval
        self.max_cond_frames_in_attn = options.max_cond_frames_in_attn
        self.observer: Observer | None = None

    def frame_features(self, state: Session, frame: int) -> ImageFeatures:
        """Get the features of a frame, without memories; those of the last frame are kept.

        Args:
            state: The video.
            frame: Number of the frame.

        Returns:
            Features as of :meth:`encode_frame`.
        """
        if state.features is None or state.features[0] != frame:
            pixels = state.images[frame].to(state.device).float()[None]  # 1, 3, S, S
            with self._observed(f"frame{frame}") as activations:
                state.features = frame, self.encode_frame(pixels, activations)
        return state.features[1]

    def respond(self, state: Session, frame: int, obj_id: Hashable) -> Tensor:
        """Segment an object on a frame by its prompts there; the result is pending.

        On a frame that was tracked before, the features are conditioned on memories. If the prompts
        are points, the decoder also gets the mask that they correct.

        Args:
            state: The video; the object has points or a mask on the frame.
            frame: Number of the frame.
            obj_id: The object.

        Returns:
            Logits of all objects on the frame, as of :meth:`masks_on`.
        """
        tracked = state.object(obj_id)
        features = self.frame_features(state, frame)
        first = frame not in tracked.reversed_on
        prompted = first or self.add_all_frames_to_correct_as_cond
        with self._observed(_place(frame, obj_id)) as activations:
            if frame in tracked.masks:
                result = self.use_mask_as_output(features, tracked.masks[frame], activations)
            else:
                points, labels = tracked.points[frame]
                previous = tracked.latest(frame, prompted=prompted)
                if first:
                    features = self.without_memory(features)
                else:
                    features = self._conditioned(
                        state, frame, tracked, tracked.reversed_on[frame], activations
                    )
                result = self.predict_single_mask(
                    features,
                    points,
                    labels,
                    self.previous_mask(state, previous),
                    self.config.wants_candidates(labels.shape[1], first=first),
                    activations,
                )
        tracked.pending.of(prompted=prompted)[frame] = self._result(state, result)
        return self.masks_on(state, frame, prompted=prompted)

    def track(self, state: Session, frame: int, obj_id: Hashable, *, reverse: bool) -> TrackResult:
        """Segment an object on a frame without prompts by its memories, and make a new memory.

        Args:
            state: The video.
            frame: Number of the frame.
            obj_id: The object, which has at least one memory.
            reverse: Whether tracking runs from the end of the video to its beginning.

        Returns:
            The result with its memory, which is not yet part of ``state``.
        """
        tracked = state.object(obj_id)
        with self._observed(_place(frame, obj_id)) as activations:
            features = self._conditioned(state, frame, tracked, reverse, activations)
            candidates = self.config.wants_candidates(0, first=False)
            result = self.predict_single_mask(
                features, multimask_output=candidates, activations=activations
            )
            memory = self.encode_memory(
                self.frame_features(state, frame),
                result.high_res,
                result.object_score,
                activations=activations,
            )
        memory = self._storable(state, frame, obj_id, memory)
        return self._result(state, result, memory)

    def remember_prompt(
        self, state: Session, frame: int, obj_id: Hashable, result: TrackResult
    ) -> None:
        """Make the memory of a prompted frame, unless it has one.

        Args:
            state: The video.
            frame: Number of the frame.
            obj_id: The object.
            result: The pending result of the prompt, which receives the memory.
        """
        if result.memory is not None:
            return
        place, binarize = _place(frame, obj_id), self.binarize_mask_from_pts_for_mem_enc
        # From the stored mask, holes filled, unlike the memory of a tracked frame.
        mask = self.resize_masks(result.low_res.to(state.device), self.image_size)
        if binarize and self.observer is not None:
            mask = self.observer.mask(place, mask)
        with self._observed(place) as activations:
            memory = self.encode_memory(
                self.frame_features(state, frame),
                mask,
                result.object_score,
                binarize=binarize,
                activations=activations,
            )
        result.memory = self._storable(state, frame, obj_id, memory)

    def previous_mask(self, state: Session, previous: TrackResult | None) -> Tensor | None:
        """Get the mask that the decoder receives together with points that correct it.

        Args:
            state: The video.
            previous: The result to be corrected, or None.

        Returns:
            Its logits within -32 and 32, ``1 x 1 x S/4 x S/4``, or None without a result.
        """
        if previous is None:
            return None
        return previous.low_res.to(state.device, non_blocking=True).clamp(-_CLAMP, _CLAMP)

    def frames_around(self, frame: int) -> range:
        """Tell which frames' memories are obsolete after a new prompt.

        Args:
            frame: Number of the frame with the prompt.

        Returns:
            Frame numbers, possibly outside of the video.
        """
        reach = self.memory_temporal_stride_for_eval * self.config.num_maskmem
        return range(frame - reach, frame + reach + 1)

    def at_video_size(self, state: Session, logits: Tensor) -> Tensor:
        """Bring masks to the size of the video.

        Args:
            state: The video.
            logits: Masks of all objects, ``N x 1 x h x w``.

        Returns:
            ``N x 1 x H x W`` on the model's device; with ``non_overlap_masks`` every pixel belongs
            to one object at most.
        """
        logits = logits.to(state.device, non_blocking=True)
        size = (state.video_height, state.video_width)
        if logits.shape[-2:] != size:
            logits = self.resize_masks(logits, *size)
        if self.non_overlap_masks and len(logits) > 1:
            front = logits.argmax(dim=0, keepdim=True)  # 1, 1, H, W
            numbers = torch.arange(len(logits), device=logits.device)[:, None, None, None]
            logits = torch.where(front == numbers, logits, logits.clamp(max=_SUPPRESSED))
        return logits

    def masks_on(self, state: Session, frame: int, *, prompted: bool) -> Tensor:
        """Get the current masks of all objects on a frame, at the size of the video.

        Args:
            state: The video.
            frame: Number of the frame.
            prompted: Which pending results count: those of frames that count as prompted, or of
                the others. The official code looks at one of the two only.

        Returns:
            Logits, ``N x 1 x H x W``; -1024 everywhere for an object without a result there.
        """
        size = (state.video_height, state.video_width)
        masks = torch.full((len(state.objects), 1, *size), NO_OBJECT, device=state.storage_device)
        for row, tracked in zip(masks, state.objects.values(), strict=True):
            result = tracked.latest(frame, prompted=prompted)
            if result is not None:
                low_res = result.low_res
                same = low_res.shape[-2:] == size
                row.copy_((low_res if same else self.resize_masks(low_res, *size))[0])
        return self.at_video_size(state, masks)

    def _conditioned(
        self,
        state: Session,
        frame: int,
        tracked: TrackedObject,
        reverse: bool,
        activations: Activations,
    ) -> ImageFeatures:
        """The features of a frame, conditioned on the memories of an object."""
        bank = MemoryBank(tracked.settled.prompted, tracked.settled.tracked, frame, reverse)
        near = self.max_cond_frames_in_attn
        stride = self.memory_temporal_stride_for_eval
        spatial = bank.spatial(self.config.num_maskmem, stride, near)
        most = self.config.max_obj_ptrs_in_encoder
        pointers = bank.pointers(most, state.num_frames, near)
        memories = [(row, past.memory) for row, past in spatial if past.memory is not None]
        return self.attend_to_memory(
            self.frame_features(state, frame),
            [(row, memory.to(state.device, non_blocking=True)) for row, memory in memories],
            [(distance, past.pointer) for distance, past in pointers],
            min(state.num_frames, most) - 1,
            activations,
        )

    def _result(
        self, state: Session, result: Segmentation, memory: Tensor | None = None
    ) -> TrackResult:
        low_res = result.low_res
        if self.fill_hole_area > 0:
            low_res = fill_holes(low_res, self.fill_hole_area)
        return TrackResult(
            low_res.to(state.storage_device, non_blocking=True),
            result.pointer,
            result.object_score,
            memory,
        )

    def _storable(self, state: Session, frame: int, obj_id: Hashable, memory: Tensor) -> Tensor:
        """A memory as it is stored: in bfloat16, whatever the model's type, or as observed."""
        memory = memory.to(torch.bfloat16).to(state.storage_device, non_blocking=True)
        if self.observer is None:
            return memory
        return self.observer.memory(_place(frame, obj_id), memory)

    @contextmanager
    def _observed(self, place: str) -> Iterator[Activations]:
        """Yield a dictionary of activations that the observer is told of; None without one."""
        activations: Activations = None if self.observer is None else {}
        yield activations
        if self.observer is not None and activations is not None:
            for name, tensor in activations.items():
                self.observer.activation(place, name, tensor)


def _place(frame: int, obj_id: Hashable) -> str:
    return f"frame{frame}.object{obj_id}"
