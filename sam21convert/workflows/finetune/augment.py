"""Change pictures and their masks at random, as the official fine-tuning does.

Flipped, turned and sheared, resized to a square, brightened and coloured: all frames of a clip in
the same way, and then each frame a little in its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...model.image_predictor import pixels_of
from ...packages import module
from .footage import Mask

change = module("torchvision.transforms.v2.functional")
_HOW = module("torchvision.transforms").InterpolationMode
_FLIP, _GREY = 0.5, 0.05  # how often
_DEGREES, _SHEAR = 25.0, 20.0  # at most, to either side
_TOGETHER = (0.1, 0.03, 0.03)  # of all frames: brightness, contrast and saturation, by so much
_ALONE = (0.1, 0.05, 0.05)  # the same of each frame
_OUTSIDE = [123.0, 116.0, 103.0]  # the colour of what a turned picture does not cover: the mean


class Tint(NamedTuple):
    """A change of colours.

    Attributes:
        order: In which order brightness, contrast and saturation are changed.
        factors: By which factors.
    """

    order: tuple[int, ...]
    factors: tuple[float, ...]

    @classmethod
    def drawn(cls, rng: np.random.Generator, by: Sequence[float]) -> Tint:
        """Draw a change of colours.

        Args:
            rng: The generator.
            by: How far each factor may be from 1.

        Returns:
            The change.
        """
        order = tuple(int(one) for one in rng.permutation(len(by)))
        return cls(order, tuple(float(rng.uniform(1 - most, 1 + most)) for most in by))

    def __call__(self, picture: Image.Image) -> Image.Image:
        """Change a picture.

        Args:
            picture: In RGB.

        Returns:
            Another picture.
        """
        adjust = change.adjust_brightness, change.adjust_contrast, change.adjust_saturation
        for which in self.order:
            picture = adjust[which](picture, self.factors[which])
        return picture


@dataclass(frozen=True)
class Changes:
    """What is done to a clip.

    Attributes:
        flip: Whether left and right change places.
        degrees: By how much it is turned.
        shear: By how many degrees it is sheared.
        tint: The change of colours of all frames.
        grey: Whether colours are taken away.
        tints: The changes of colours of each frame.
    """

    flip: bool
    degrees: float
    shear: float
    tint: Tint
    grey: bool
    tints: tuple[Tint, ...]

    @classmethod
    def drawn(cls, rng: np.random.Generator, frames: int) -> Changes:
        """Draw what is done.

        Args:
            rng: The generator.
            frames: Number of frames.

        Returns:
            The changes.
        """
        return cls(
            flip=bool(rng.random() < _FLIP),
            degrees=float(rng.uniform(-_DEGREES, _DEGREES)),
            shear=float(rng.uniform(-_SHEAR, _SHEAR)),
            tint=Tint.drawn(rng, _TOGETHER),
            grey=bool(rng.random() < _GREY),
            tints=tuple(Tint.drawn(rng, _ALONE) for _ in range(frames)),
        )

    def apply(
        self,
        pictures: Sequence[Image.Image],
        masks: Sequence[Mapping[str, Mask]],
        objects: Sequence[str],
        side: int,
    ) -> tuple[Tensor, Tensor]:
        """Change a clip.

        Args:
            pictures: Its frames, in RGB.
            masks: The masks that each frame shows, by the name of the object.
            objects: The names of the objects to follow; one without a mask is not in the frame.
            side: ``S``, of the model's input in pixels.

        Returns:
            The frames, ``T x 3 x S x S``, normalised; and the masks, ``T x O x S x S``, bool. A
            clip whose first frame would lose an object is neither turned nor sheared.
        """
        stacks = [
            _stacked(one, objects, picture) for one, picture in zip(masks, pictures, strict=True)
        ]
        turned = [self._placed(stack, side, turn=True) for stack in stacks]
        turn = bool(turned[0].flatten(1).any(1).all())
        placed = turned if turn else [self._placed(one, side, turn=False) for one in stacks]
        frames = [
            self._coloured(picture, tint, side, turn=turn)
            for picture, tint in zip(pictures, self.tints, strict=True)
        ]
        return torch.stack(frames), torch.stack(placed)

    def _placed(self, masks: Tensor, side: int, *, turn: bool) -> Tensor:
        masks = self._moved(masks, _HOW.NEAREST, [0.0], turn=turn)
        shrunk: Tensor = change.resize(masks.float(), [side, side])
        return shrunk > 0.5

    def _coloured(self, picture: Image.Image, tint: Tint, side: int, *, turn: bool) -> Tensor:
        picture = self._moved(picture, _HOW.BILINEAR, _OUTSIDE, turn=turn)
        picture = self.tint(change.resize(picture, [side, side]))
        if self.grey:
            picture = change.rgb_to_grayscale(picture, num_output_channels=3)
        return pixels_of(tint(picture), side)[0]

    def _moved(self, what: Any, how: Any, fill: list[float], *, turn: bool) -> Any:
        if self.flip:
            what = change.horizontal_flip(what)
        if not turn:
            return what
        return change.affine(
            what,
            angle=self.degrees,
            translate=[0, 0],
            scale=1.0,
            shear=[self.shear, 0.0],
            interpolation=how,
            fill=fill,
        )


def _stacked(masks: Mapping[str, Mask], objects: Sequence[str], picture: Image.Image) -> Tensor:
    """The masks of the objects, ``O x H x W``."""
    empty = np.zeros((picture.height, picture.width), bool)
    stack = np.stack([masks.get(name, empty) for name in objects])
    return torch.from_numpy(stack.astype(np.uint8))
