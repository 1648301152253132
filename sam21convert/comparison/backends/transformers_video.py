"""Transformers' video model behind the methods of the official predictor.

So that the same lines drive it. The model runs once for every prompt.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ...model.inference_state import Session
from ..packages import member

Answer = tuple[int, list[Any], Tensor]  # frame, object ids, logits: objects x 1 x H x W


class TransformersPredictor:
    """``Sam2VideoModel`` with ``Sam2VideoProcessor``.

    Frames are those of a session of ours, read and resized, so that no difference of pixels is
    blamed on the model.
    """

    def __init__(self, model: Any, processor: Any) -> None:
        self.model = model
        self.processor = processor

    def init_state(self, ours: Session) -> Any:
        """A session of transformers with the same frames, all on the model's device."""
        return member("transformers", "Sam2VideoInferenceSession")(
            video=ours.images,
            video_height=ours.video_height,
            video_width=ours.video_width,
            inference_device=self.model.device,
            inference_state_device=self.model.device,
            video_storage_device=self.model.device,
            dtype=torch.float32,
        )

    def add_new_points_or_box(
        self,
        session: Any,
        frame: int,
        obj_id: int,
        points: Any = None,
        labels: Any = None,
        clear_old_points: bool = True,
        box: Any = None,
    ) -> Answer:
        """Point at an object on a frame, in pixels of the video."""
        self.processor.add_inputs_to_inference_session(
            session,
            frame,
            obj_id,
            input_points=None if points is None else [[[list(map(float, p)) for p in points]]],
            input_labels=None if labels is None else [[list(map(int, labels))]],
            input_boxes=None if box is None else [[list(map(float, box))]],
            clear_old_inputs=clear_old_points,
        )
        return self.respond(session, frame)

    def add_new_points(self, *args: Any, **kwargs: Any) -> Answer:
        """The former name of :meth:`add_new_points_or_box`."""
        return self.add_new_points_or_box(*args, **kwargs)

    def add_new_mask(self, session: Any, frame: int, obj_id: int, mask: Any) -> Answer:
        """Give the mask of an object on a frame."""
        self.processor.add_inputs_to_inference_session(session, frame, obj_id, input_masks=mask)
        return self.respond(session, frame)

    def respond(self, session: Any, frame: int) -> Answer:
        """The masks on a frame with new prompts."""
        return self.answer(session, self.model(session, frame_idx=frame))

    def propagate_in_video(self, session: Any, **options: Any) -> Iterator[Answer]:
        """Follow all objects; ``options`` are the official ones."""
        for output in self.model.propagate_in_video_iterator(session, **options):
            yield self.answer(session, output)

    def answer(self, session: Any, output: Any) -> Answer:
        """An output of the model as the official predictor gives it."""
        size = [session.video_height, session.video_width]
        masks = self.processor.post_process_masks([output.pred_masks], [size], binarize=False)[0]
        return output.frame_idx, output.object_ids, masks
