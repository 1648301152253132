"""One object on one frame of a video: from its prompts and memories to a result.

The counterpart of :class:`~sam21convert.model.tracker.Tracker`.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ...io.data.cast import from_float32, to_float32
from ...model.config import TrackingOptions
from ...model.memory_bank import MemoryBank
from .masks import NO_OBJECT, Decoded, clamped, fill_holes, select
from .model import Features, OnnxModel
from .prompts import PADDING, Prompts
from .resize import Floats, resize
from .state import Session, TrackedObject, TrackResult

_GIVEN_SCALE, _GIVEN_BIAS = np.float32(20), np.float32(-10)  # a given mask's 0 and 1 as logits
_SUPPRESSED = np.float32(-10)  # largest logit of an object where another object covers it


class Observer(Protocol):
    """Receives what is computed on the way, as in :mod:`~sam21convert.model.observer`."""

    def activation(self, place: str, name: str, array: NDArray[Any]) -> None:
        """Called with every activation.

        Args:
            place: Frame and object that it belongs to, such as ``frame3.object1``.
            name: ``memory_attention.output``, ``decoder.logits``, ``decoder.iou``,
                ``decoder.object_score`` (each for all four masks), ``pointer``, or
                ``memory_encoder.output`` where the graph tells it: with SAM 2.1 not for an object
                that is absent.
            array: The activation.
        """

    def mask(self, place: str, mask: Floats) -> Floats:
        """Called with every mask whose signs become a memory, before they do.

        Args:
            place: Frame and object that the mask belongs to.
            mask: Logits, ``1 x 1 x S x S``.

        Returns:
            The mask to make the memory from: normally ``mask``.
        """

    def memory(self, place: str, memory: Floats) -> Floats:
        """Called with every memory before it is stored.

        Args:
            place: Frame and object that the memory belongs to.
            memory: ``1 x K x H x W``, with values of bfloat16.

        Returns:
            The memory to store: normally ``memory``.
        """


class _Segmentation(NamedTuple):
    """One object on one frame, before holes are filled."""

    low_res: Floats  # 1, 1, S/4, S/4
    pointer: Floats  # 1, C
    object_score: Floats  # 1, 1


class Tracker:
    """The steps of tracking.

    Args:
        model: The export, with the files for videos.
        options: Options of tracking.

    Attributes:
        model: The export.
        options: Options of tracking, which may be replaced at any time.
        observer: Is told of every activation and memory. None by default.

    Raises:
        UsageError: If the export does not have the files for videos.
    """

    def __init__(self, model: OnnxModel, options: TrackingOptions) -> None:
        model.require_video("a video")
        self.model = model
        self.options = options
        self.observer: Observer | None = None

    def frame_features(self, state: Session, frame: int) -> Features:
        """Get the features of a frame, without memories; those of the last frame are kept.

        Args:
            state: The video.
            frame: Number of the frame.

        Returns:
            Features as of :meth:`OnnxModel.encode`.
        """
        if state.features is None or state.features[0] != frame:
            state.features = frame, self.model.encode(state.frames.images[frame][None])
        return state.features[1]

    def respond(self, state: Session, frame: int, obj_id: Hashable) -> Floats:
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
        tracked, place = state.object(obj_id), _place(frame, obj_id)
        features = self.frame_features(state, frame)
        first = frame not in tracked.reversed_on
        prompted = first or self.options.add_all_frames_to_correct_as_cond
        if frame in tracked.masks:
            found = self._from_mask(features, tracked.masks[frame], place)
        else:
            points, labels = tracked.points[frame]
            previous = tracked.latest(frame, prompted=prompted)
            if not first:
                back = tracked.reversed_on[frame]
                features = self._conditioned(state, frame, tracked, back, place)
            mask = None if previous is None else clamped(previous.low_res)
            multimask = self.model.config.wants_candidates(labels.shape[1], first=first)
            found = self._segmented(features, Prompts(points, labels, None, mask), multimask, place)
        self._observe(place, "pointer", found.pointer)
        tracked.pending.of(prompted=prompted)[frame] = self._result(found)
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
        tracked, place = state.object(obj_id), _place(frame, obj_id)
        features = self._conditioned(state, frame, tracked, reverse, place)
        multimask = self.model.config.wants_candidates(0, first=False)
        found = self._segmented(features, self._nothing(), multimask, place)
        self._observe(place, "pointer", found.pointer)
        result = self._result(found)
        result.memory = self._memory(state, frame, place, found.low_res, found.object_score)
        return result

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
        # From the stored mask, holes filled, unlike the memory of a tracked frame.
        masks, binarize = result.low_res, self.options.binarize_mask_from_pts_for_mem_enc
        place = _place(frame, obj_id)
        if binarize:  # at full size, where it has to be cut
            masks = resize(masks, self.model.image_size, self.model.image_size)
            if self.observer is not None:
                masks = self.observer.mask(place, masks)
        result.memory = self._memory(
            state, frame, place, masks, result.object_score, binarize=binarize
        )

    def frames_around(self, frame: int) -> range:
        """Tell which frames' memories are obsolete after a new prompt.

        Args:
            frame: Number of the frame with the prompt.

        Returns:
            Frame numbers, possibly outside of the video.
        """
        reach = self.options.memory_temporal_stride_for_eval * self.model.config.num_maskmem
        return range(frame - reach, frame + reach + 1)

    def at_video_size(self, state: Session, logits: Floats) -> Floats:
        """Bring masks to the size of the video.

        Args:
            state: The video.
            logits: Masks of all objects, ``N x 1 x h x w``.

        Returns:
            ``N x 1 x H x W``; with ``non_overlap_masks`` every pixel belongs to one object at most.
        """
        logits = resize(logits, state.video_height, state.video_width)
        if self.options.non_overlap_masks and len(logits) > 1:
            front = logits.argmax(axis=0, keepdims=True)  # 1, 1, H, W
            numbers = np.arange(len(logits))[:, None, None, None]
            logits = np.where(front == numbers, logits, np.minimum(logits, _SUPPRESSED))
        return logits

    def masks_on(self, state: Session, frame: int, *, prompted: bool) -> Floats:
        """Get the current masks of all objects on a frame, at the size of the video.

        Args:
            state: The video.
            frame: Number of the frame.
            prompted: Which pending results count: those of frames that count as prompted, or of
                the others.

        Returns:
            Logits, ``N x 1 x H x W``; -1024 everywhere for an object without a result there.
        """
        height, width = state.video_height, state.video_width
        masks = np.full((len(state.objects), 1, height, width), NO_OBJECT)
        for row, tracked in zip(masks, state.objects.values(), strict=True):
            result = tracked.latest(frame, prompted=prompted)
            if result is not None:
                row[:] = resize(result.low_res[0], height, width)
        return self.at_video_size(state, masks)

    def _segmented(
        self, features: Features, prompts: Prompts, multimask: bool, place: str
    ) -> _Segmentation:
        """Choose one mask of one object, as ``SAM2.predict_single_mask`` does."""
        decoded = self.model.decode(features, *prompts.tokens(), prompts.mask)
        self._observe_decoder(place, decoded)
        chosen = select(decoded, self.model.config, multimask=multimask)
        best = int(chosen.iou[0].argmax())
        present = chosen.object_score[0, 0] > 0
        low_res = chosen.logits[:, best : best + 1]
        return _Segmentation(
            low_res if present else np.full_like(low_res, NO_OBJECT),
            chosen.pointers[:, best],
            chosen.object_score,
        )

    def _from_mask(self, features: Features, mask: Floats, place: str) -> _Segmentation:
        """Turn a given mask, ``1 x 1 x S x S``, into logits; see ``SAM2.use_mask_as_output``."""
        assert features.frame is not None
        quarter = self.model.image_size // 4
        logits = mask * _GIVEN_SCALE + _GIVEN_BIAS
        low_res = resize(logits, quarter, quarter, antialias=True)
        prompts = self._nothing()._replace(mask=self.model.downsample(mask))
        unmarked = features._replace(embedding=features.frame)
        pointer = self._segmented(unmarked, prompts, False, place).pointer
        present = np.float32(mask.any())
        if not present:  # whatever the decoder finds
            pointer = self.model.no_object_pointer
        score = np.full((1, 1), _GIVEN_SCALE * present + _GIVEN_BIAS)
        return _Segmentation(low_res, pointer, score)

    def _nothing(self) -> Prompts:
        """No prompt: in a video the decoder always gets a point, here a padding point."""
        return Prompts(np.zeros((1, 1, 2), np.float32), np.full((1, 1), PADDING, np.int64))

    def _conditioned(
        self, state: Session, frame: int, tracked: TrackedObject, reverse: bool, place: str
    ) -> Features:
        """The features of a frame, conditioned on the memories of an object."""
        config, options = self.model.config, self.options
        bank = MemoryBank(tracked.settled.prompted, tracked.settled.tracked, frame, reverse)
        near, stride = options.max_cond_frames_in_attn, options.memory_temporal_stride_for_eval
        spatial = bank.spatial(config.num_maskmem, stride, near)
        most = config.max_obj_ptrs_in_encoder
        pointers = bank.pointers(most, state.num_frames, near)
        features = self.frame_features(state, frame)
        assert features.frame is not None
        conditioned = self.model.attend(
            features.frame,
            [(row, past.memory) for row, past in spatial if past.memory is not None],
            [(distance, past.pointer) for distance, past in pointers],
            min(state.num_frames, most) - 1,
        )
        self._observe(place, "memory_attention.output", conditioned)
        return features._replace(embedding=conditioned)

    def _result(self, found: _Segmentation) -> TrackResult:
        area = self.options.fill_hole_area
        low_res = fill_holes(found.low_res, area) if area > 0 else found.low_res
        return TrackResult(low_res, found.pointer, found.object_score)

    def _memory(
        self,
        state: Session,
        frame: int,
        place: str,
        masks: Floats,
        object_score: Floats,
        *,
        binarize: bool = False,
    ) -> Floats:
        """A new memory as it is stored: rounded to bfloat16, or as observed."""
        features = self.frame_features(state, frame)
        assert features.frame is not None
        memory = self.model.remember(features.frame, masks, object_score, binarize=binarize)
        if self.model.config.generation == "2.0" or object_score[0, 0] > 0:
            self._observe(place, "memory_encoder.output", memory)
        rounded = to_float32(from_float32(memory.ravel(), "BF16"), "BF16").reshape(memory.shape)
        return rounded if self.observer is None else self.observer.memory(place, rounded)

    def _observe_decoder(self, place: str, decoded: Decoded) -> None:
        self._observe(place, "decoder.logits", decoded.logits)
        self._observe(place, "decoder.iou", decoded.iou)
        self._observe(place, "decoder.object_score", decoded.object_score)

    def _observe(self, place: str, name: str, array: Floats) -> None:
        if self.observer is not None:
            self.observer.activation(place, name, array)


def _place(frame: int, obj_id: Hashable) -> str:
    return f"frame{frame}.object{obj_id}"
