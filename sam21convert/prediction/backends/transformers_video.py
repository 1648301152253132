"""transformers' video model with the methods of the official predictor.

So the same code runs both. The model runs once for every prompt, as the official one does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ...model.inference_state import Session
from ...packages import member

Answer = tuple[int, list[Any], Tensor]  # frame, object ids, logits (objects x 1 x H x W)


class TransformersPredictor:
    """``Sam2VideoModel`` with ``Sam2VideoProcessor``.

    It takes the frames of one of our inference states, read and resized, so that preprocessing
    cannot cause a difference in the model.

    Args:
        model: A ``Sam2VideoModel``.
        processor: A ``Sam2VideoProcessor``.
    """

    def __init__(self, model: Any, processor: Any) -> None:
        self.model = model
        self.processor = processor

    def init_state(self, ours: Session) -> Any:
        """An inference session of transformers with the same frames, all on the model's device.

        Args:
            ours: An inference state of the ground truth.

        Returns:
            A ``Sam2VideoInferenceSession``.
        """
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
        """Add points or a box for an object on a frame.

        Args:
            session: The session.
            frame: Index of the frame.
            obj_id: The object's id.
            points: N x 2 in pixels of the video.
            labels: N labels, 1 on the object and 0 off it.
            clear_old_points: Whether the prompt replaces earlier ones for the object on that frame.
            box: ``(x0, y0, x1, y1)`` in pixels of the video.

        Returns:
            The frame, the ids of all objects, and their logits.
        """
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
        """The former name of :meth:`add_new_points_or_box`.

        Args:
            *args: As there.
            **kwargs: As there.

        Returns:
            As there.
        """
        return self.add_new_points_or_box(*args, **kwargs)

    def add_new_mask(self, session: Any, frame: int, obj_id: int, mask: Any) -> Answer:
        """Add a mask as the prompt for an object on a frame.

        Args:
            session: The session.
            frame: Index of the frame.
            obj_id: The object's id.
            mask: H x W in pixels of the video.

        Returns:
            The frame, the ids of all objects, and their logits.
        """
        self.processor.add_inputs_to_inference_session(session, frame, obj_id, input_masks=mask)
        return self.respond(session, frame)

    def respond(self, session: Any, frame: int) -> Answer:
        """Run the model on a frame with new prompts.

        Args:
            session: The session.
            frame: Index of the frame.

        Returns:
            The frame, the ids of all objects, and their logits.
        """
        return self.answer(session, self.model(session, frame_idx=frame))

    def propagate_in_video(self, session: Any, **options: Any) -> Iterator[Answer]:
        """Track all objects through the video.

        Args:
            session: The session.
            **options: The options of the official method, which transformers has as well.

        Yields:
            For each frame: its index, the ids of all objects, and their logits.
        """
        for output in self.model.propagate_in_video_iterator(session, **options):
            yield self.answer(session, output)

    def answer(self, session: Any, output: Any) -> Answer:
        """An output of the model in the form of the official predictor's answers.

        Args:
            session: The session.
            output: The output of the model for one frame.

        Returns:
            The frame, the ids of all objects, and their logits in the video's resolution.
        """
        size = [session.video_height, session.video_width]
        masks = self.processor.post_process_masks([output.pred_masks], [size], binarize=False)[0]
        return output.frame_idx, output.object_ids, masks
