"""transformers as a model that learns, as far as it lets gradients through."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from operator import attrgetter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...model.inference_state import Session
from ...model.sam2 import NO_OBJECT
from ...model.video_frames import Frames
from ...prediction.backends.transformers_load import quiet
from ...prediction.backends.transformers_video import TransformersPredictor
from ...training.follow import Step
from ...training.losses import Losses, LossSettings, losses
from ...training.points import Points
from ..backends.base import CannotRun
from .inputs import Example
from .step import NoGradients, Weight
from .truth import training

_BOX = 2  # label of the first corner of a box
_DECODER = "sam_mask_decoder", "mask_decoder"  # in the ground truth and here


class TransformersTrainee:
    """``Sam2Model`` for images, and ``Sam2VideoModel`` for videos, which lets nothing through.

    ``Sam2Model`` gives masks at a quarter of the resolution. The official training removes the mask
    of an object that is not there and compares at full resolution; both are done here. So are its
    losses.

    Args:
        backend: The side, a :class:`~..backends.transformers.Transformers`.
    """

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self.model = backend.image

    @property
    def weights(self) -> Mapping[str, Weight]:
        """Parameters of ``Sam2Model``, and rows of those that hold several weights."""
        parameters = dict(self.model.named_parameters())
        return {
            name: Weight(parameters[key], rows)
            for name, (key, rows) in self._backend.places.items()
            if key in parameters
        }

    def part(self, path: str) -> nn.Module:
        """A submodule of the mask decoder.

        Args:
            path: Its dotted path in the ground truth.

        Returns:
            The module.
        """
        found: nn.Module = attrgetter(path.replace(*_DECODER, 1))(self.model)
        return found

    def losses(self, example: Example, settings: LossSettings) -> Losses:
        """Run ``Sam2Model`` as the official training runs its model on an image.

        Args:
            example: The image and the prompts.
            settings: Weights of the losses.

        Returns:
            The losses.

        Raises:
            NoGradients: For a clip, if ``Sam2VideoModel`` lets no gradient through.
            CannotRun: For a clip, if it does.
        """
        with quiet():
            if len(example.batch.frames) > 1:
                self._follow(example)
            with training(self.model):
                steps = [*self._steps(example)]
        return losses([steps], example.batch.masks, settings)

    def _steps(self, example: Example) -> Iterator[Step]:
        """The answer to the prompts, and one to each correction."""
        start, batch = example.prompts.start, example.batch
        points = start.points[0]
        images: dict[str, Any] = {"pixel_values": batch.frames[0, batch.clip]}  # O, 3, S, S
        mask = None
        for point in (None, *example.prompts.points.get(0, ())):
            points = points if point is None else points.and_then(point)
            count = points.labels.shape[1]
            found = self.model(
                **images,
                **_prompt(points),
                input_masks=mask,
                multimask_output=self._backend.config.wants_candidates(count, first=True),
            )
            images = {"image_embeddings": found.image_embeddings}  # encoded once
            score = found.object_score_logits[:, 0]  # O, 1
            there = (score > 0)[..., None, None]
            logits = torch.where(there, found.pred_masks[:, 0], NO_OBJECT).float()  # O, M, S/4, S/4
            iou = found.iou_scores[:, 0]  # O, M
            yield Step(F.interpolate(logits, batch.masks.shape[-2:], mode="bilinear"), iou, score)
            row = torch.arange(len(iou), device=iou.device)
            mask = logits[row, iou.argmax(dim=-1)][:, None]  # O, 1, S/4, S/4

    def _follow(self, example: Example) -> None:
        """Run ``Sam2VideoModel`` on the first frame, and see what becomes of the gradients."""
        model, device = self._backend.video, self._backend.video.device
        frames, size = example.batch.frames[:, 0], example.batch.frames.shape[-1]
        predictor = TransformersPredictor(model, self._backend.processor)
        session = predictor.init_state(Session(Frames(frames, size, size), device, device))
        masks = [example.batch.masks[0, 0].cpu().numpy()]
        predictor.processor.add_inputs_to_inference_session(session, 0, 1, input_masks=masks)
        found: Tensor = model(session, frame_idx=0).object_score_logits
        name = type(model).__name__
        if found.is_inference():
            raise NoGradients(f"{name}.forward runs under torch.inference_mode")
        if not found.requires_grad:
            raise NoGradients(f"{name}.forward runs under torch.no_grad")
        raise CannotRun(f"{name} returns no candidates and no expected IoU to compute the loss of")


def _prompt(points: Points) -> dict[str, Tensor]:
    """Points or a box as arguments of ``Sam2Model``, which has one image for each object."""
    if bool((points.labels == _BOX).any()):
        return {"input_boxes": points.points.flatten(1)[:, None]}  # O, 1, 4
    return {"input_points": points.points[:, None], "input_labels": points.labels[:, None]}
