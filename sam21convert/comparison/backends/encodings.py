"""What the trunk of an image encoder gave for pictures, so that no picture goes through it twice.

Nearly all of a comparison's time is spent in trunks, and the scenarios share their pictures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from ...io.data.copy import crc32
from ...prediction.backends.replaced import replaced

_KEPT = 4  # pictures: the outputs for one take 50 to 70 MB at 1024 pixels


class Encodings:
    """Remembers the outputs of a trunk for the first pictures that it is given.

    The trunk of an image model and that of a video model share what is remembered if they are of
    the same class, with equal settings and weights. Weights are compared by value, so that it does
    not matter who wrote to them, and how: with other weights than those of the first call, the
    trunk computes again.

    Attributes:
        computed: How many pictures went through the trunk.
    """

    def __init__(self) -> None:
        self.computed = 0
        self._weights: tuple[int, ...] | None = None
        self._found: dict[tuple[str, str], Any] = {}

    def of(self, trunk: nn.Module, encode: Callable[..., Any], pixels: Tensor, **given: Any) -> Any:
        """The outputs of the trunk for a picture, computed only where they are not remembered.

        Args:
            trunk: The trunk.
            encode: Its own ``forward``.
            pixels: 1 x 3 x S x S.
            **given: Further arguments of ``encode``.

        Returns:
            What ``encode`` returns; nobody may write to it.
        """
        weights = tuple(_checksum(one) for one in trunk.parameters())
        if self._weights is None:
            self._weights = weights
        key = _identity(trunk), digest(pixels)
        usual = weights == self._weights
        if usual and key in self._found:
            return self._found[key]
        found = encode(pixels, **given)
        self.computed += 1
        if usual and len(self._found) < _KEPT:
            self._found[key] = found
        return found

    def known(self, picture: str) -> Any | None:
        """What is remembered for a picture.

        Args:
            picture: Its :func:`digest`.

        Returns:
            The outputs of the trunk; None when they are not remembered.
        """
        return next((found for (_, seen), found in self._found.items() if seen == picture), None)


class CarriedEncodings(Encodings):
    """Encodings by a numerical variant of a model, which does not encode every frame of a video.

    Rounding errors are as large on one frame as on the next. So the variant encodes the first frame
    of a video. The outputs for a later one are those of the usual model, with the same error.

    Args:
        usual: Encodings by the model itself, which runs everything first.
    """

    def __init__(self, usual: Encodings) -> None:
        super().__init__()
        self._usual = usual

    def carried(self, first: str, pixels: Tensor) -> list[Tensor] | None:
        """The outputs for a frame with the error that the variant made on another.

        Args:
            first: The :func:`digest` of the frame that the variant encoded.
            pixels: 1 x 3 x S x S.

        Returns:
            The output of each stage in the type of the variant; None when something that this takes
            is not remembered.
        """
        own, usual = self.known(first), self._usual.known(first)
        there = self._usual.known(digest(pixels))
        if own is None or usual is None or there is None:
            return None
        return [then + (one - now) for one, now, then in zip(own, usual, there, strict=True)]


@contextmanager
def remembering(trunk: nn.Module, encodings: Encodings, *, video: bool) -> Iterator[None]:
    """A context in which a trunk of the ground truth encodes no picture twice.

    Args:
        trunk: The trunk.
        encodings: What is remembered of it.
        video: Whether the pictures are frames of one video.

    Yields:
        Nothing.
    """
    encode: Callable[[Tensor], list[Tensor]] = trunk.forward
    first: list[str] = []

    def forward(pixels: Tensor) -> Sequence[Tensor]:
        if first and isinstance(encodings, CarriedEncodings):
            carried = encodings.carried(first[0], pixels)
            if carried is not None:
                return carried
        found: Sequence[Tensor] = encodings.of(trunk, encode, pixels)
        if video and not first:
            first.append(digest(pixels))
        return found

    with replaced(trunk, forward=forward):
        yield


def digest(pixels: Tensor) -> str:
    """What tells one picture from another, in whichever type it is.

    Args:
        pixels: 1 x 3 x S x S, or any other shape.

    Returns:
        SHA-256 of its shape and its values in float32.
    """
    plain = pixels.detach().float().cpu().contiguous().numpy()
    found = hashlib.sha256(repr(plain.shape).encode())
    found.update(plain.data)
    return found.hexdigest()


def _identity(trunk: nn.Module) -> str:
    """Class and settings: what a trunk computes, but for its weights."""
    return f"{type(trunk)} {getattr(trunk, 'config', '')} {trunk}"


def _checksum(weight: Tensor) -> int:
    return crc32(weight.detach().contiguous().cpu().numpy().data)
