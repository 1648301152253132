"""One object on one frame of a video: from its prompts and memories to an outcome.

Between the maths of :class:`~sam21convert.model.SAM2`, which knows no video, and the predictor,
which talks to the user. Follows the private methods of ``sam2_video_predictor.py`` and
``track_step`` of ``modeling/sam2_base.py``.
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
from .sam2 import NO_OBJECT, SAM2, ImageFeatures, Segmentation

_CLAMP = 32.0  # no logit further from 0 is fed back to the decoder
_SUPPRESSED = -10.0  # the highest logit where another object is in front


class Tracker(SAM2):
    """The model with the options of tracking, which may be changed at any time.

    Their names and meanings are those of :class:`~sam21convert.model.config.TrackingOptions`. While
    ``activations`` is a dictionary, it receives what the model computes on the way, as
    ``frame3.neck.level2`` or ``frame3.object1.memory_attention.output``.
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
        self.activations: Activations = None

    def frame_features(self, state: Session, frame: int) -> ImageFeatures:
        """The features of a frame, before any memory; those of the last one asked for are kept."""
        if state.features is None or state.features[0] != frame:
            pixels = state.images[frame].to(state.device).float()[None]  # 1, 3, S, S
            with self._recording(f"frame{frame}") as activations:
                state.features = frame, self.encode_frame(pixels, activations)
        return state.features[1]

    def respond(self, state: Session, frame: int, obj_id: Hashable) -> Tensor:
        """Segment an object on a frame by its prompts there and return :meth:`masks_on` it.

        On a frame that was followed before, memories count as well, and so does the mask found
        there if the prompts are points. The outcome is pending.
        """
        found = state.object(obj_id)
        features = self.frame_features(state, frame)
        first = frame not in found.reversed_on
        prompted = first or self.add_all_frames_to_correct_as_cond
        with self._recording(f"frame{frame}.object{obj_id}") as activations:
            if frame in found.masks:
                result = self.use_mask_as_output(features, found.masks[frame], activations)
            else:
                points, labels = found.points[frame]
                previous = found.latest(frame, prompted=prompted)
                if first:
                    features = self.without_memory(features)
                else:
                    features = self._recall(
                        state, frame, found, found.reversed_on[frame], activations
                    )
                result = self.predict_single_mask(
                    features,
                    points,
                    labels,
                    None if previous is None else self._fed_back(state, previous),
                    self._wants_candidates(labels.shape[1], first=first),
                    activations,
                )
        found.pending.of(prompted=prompted)[frame] = self._result(state, result)
        return self.masks_on(state, frame, prompted=prompted)

    def track(self, state: Session, frame: int, obj_id: Hashable, *, reverse: bool) -> TrackResult:
        """Segment an object on a frame without prompts, by its memories, and remember it."""
        found = state.object(obj_id)
        with self._recording(f"frame{frame}.object{obj_id}") as activations:
            features = self._recall(state, frame, found, reverse, activations)
            candidates = self._wants_candidates(0, first=False)
            result = self.predict_single_mask(
                features, multimask_output=candidates, activations=activations
            )
            memory = self.encode_memory(
                self.frame_features(state, frame),
                result.high_res,
                result.object_score,
                activations=activations,
            )
        return self._result(state, result, memory)

    def remember_prompt(
        self, state: Session, frame: int, obj_id: Hashable, seen: TrackResult
    ) -> None:
        """Make a memory of the pending outcome of a prompt, as the user has seen it."""
        if seen.memory is not None:
            return
        with self._recording(f"frame{frame}.object{obj_id}") as activations:
            memory = self.encode_memory(
                self.frame_features(state, frame),
                self.resize_masks(seen.low_res.to(state.device), self.image_size),
                seen.object_score,
                binarize=self.binarize_mask_from_pts_for_mem_enc,
                activations=activations,
            )
        seen.memory = self._kept(state, memory)

    def frames_around(self, frame: int) -> range:
        """Frames whose memories a new prompt on ``frame`` makes obsolete."""
        reach = self.memory_temporal_stride_for_eval * self.config.num_maskmem
        return range(frame - reach, frame + reach + 1)

    def at_video_size(self, state: Session, logits: Tensor) -> Tensor:
        """Logits of all objects, ``N x 1 x h x w``, as ``N x 1 x H x W`` on the model's device."""
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
        """Logits of all objects on a frame at the size of the video: ``N x 1 x H x W``.

        Of pending outcomes only those of one kind count, as officially; an object without any
        outcome there is nowhere.
        """
        size = (state.video_height, state.video_width)
        masks = torch.full((len(state.objects), 1, *size), NO_OBJECT, device=state.storage_device)
        for row, found in zip(masks, state.objects.values(), strict=True):
            outcome = found.latest(frame, prompted=prompted)
            if outcome is not None:
                low_res = outcome.low_res
                same = low_res.shape[-2:] == size
                row.copy_((low_res if same else self.resize_masks(low_res, *size))[0])
        return self.at_video_size(state, masks)

    def _recall(
        self,
        state: Session,
        frame: int,
        found: TrackedObject,
        reverse: bool,
        activations: Activations,
    ) -> ImageFeatures:
        """The features of a frame in the light of an object's memories."""
        bank = MemoryBank(found.settled.prompted, found.settled.tracked, frame, reverse)
        near = self.max_cond_frames_in_attn
        stride = self.memory_temporal_stride_for_eval
        spatial = bank.spatial(self.config.num_maskmem, stride, near)
        most = self.config.max_obj_ptrs_in_encoder
        pointers = bank.pointers(most, state.num_frames, near)
        memories = [(row, seen.memory) for row, seen in spatial if seen.memory is not None]
        return self.attend_to_memory(
            self.frame_features(state, frame),
            [(row, memory.to(state.device, non_blocking=True)) for row, memory in memories],
            [(distance, seen.pointer) for distance, seen in pointers],
            min(state.num_frames, most) - 1,
            activations,
        )

    def _wants_candidates(self, points: int, *, first: bool) -> bool:
        """Whether three masks are considered for that many points."""
        config = self.config
        return (
            config.multimask_output_in_sam
            and (first or config.multimask_output_for_tracking)
            and config.multimask_min_pt_num <= points <= config.multimask_max_pt_num
        )

    def _fed_back(self, state: Session, previous: TrackResult) -> Tensor:
        return previous.low_res.to(state.device, non_blocking=True).clamp(-_CLAMP, _CLAMP)

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
            None if memory is None else self._kept(state, memory),
        )

    @staticmethod
    def _kept(state: Session, memory: Tensor) -> Tensor:
        """Memories are kept in half the bytes, whatever the model's type."""
        return memory.to(torch.bfloat16).to(state.storage_device, non_blocking=True)

    @contextmanager
    def _recording(self, prefix: str) -> Iterator[Activations]:
        """Yield a dictionary to fill, which then goes to ``activations`` under the prefix; or None."""
        found: Activations = None if self.activations is None else {}
        yield found
        if self.activations is not None and found is not None:
            self.activations.update((f"{prefix}.{name}", tensor) for name, tensor in found.items())
