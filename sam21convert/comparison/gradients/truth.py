"""The ground truth as a model that learns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import nn

from ...model.sam2 import SAM2
from ...training.follow import follow
from ...training.losses import Losses, LossSettings, losses
from .inputs import Example
from .step import Weight


class TruthTrainee:
    """The model of this package, which :mod:`sam21convert.training` trains.

    Args:
        model: The model; its weights are not changed.
    """

    def __init__(self, model: SAM2) -> None:
        self.model = model

    @property
    def weights(self) -> Mapping[str, Weight]:
        """Its parameters."""
        return {name: Weight(parameter) for name, parameter in self.model.named_parameters()}

    def part(self, path: str) -> nn.Module:
        """A submodule.

        Args:
            path: Its dotted path.

        Returns:
            The module.
        """
        return self.model.get_submodule(path)

    def losses(self, example: Example, settings: LossSettings) -> Losses:
        """Follow the objects, and compare with the true masks.

        Args:
            example: The clip and the prompts.
            settings: Weights of the losses.

        Returns:
            The losses.
        """
        batch = example.batch
        with training(self.model):
            return losses(follow(self.model, batch, example.prompts), batch.masks, settings)


@contextmanager
def training(model: nn.Module) -> Iterator[None]:
    """A context in which a model is in training mode.

    Args:
        model: The model.

    Yields:
        Nothing; the model is in the mode of before when the context ends.
    """
    before = model.training
    model.train()
    try:
        yield
    finally:
        model.train(before)
