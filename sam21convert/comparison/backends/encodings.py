"""What the trunk of an image encoder gave for pictures, so that no picture goes through it twice.

Nearly all of a comparison's time is spent in trunks, and the scenarios share their pictures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn

from ...io.data.copy import crc32
from ...prediction.backends.replaced import replaced

_KEPT = 4  # pictures: the outputs for one take 50 to 70 MB at 1024 pixels


class _Part(NamedTuple):
    """A trunk or a neck.

    Attributes:
        identity: Its class and settings.
        weights: Its parameters, whose values may change.
    """

    identity: str
    weights: tuple[Tensor, ...]


class Encodings:
    """Remembers the outputs of a trunk and of its neck for the first pictures that it is given.

    The trunk of an image model and that of a video model share what is remembered if they are of
    the same class, with equal settings and weights. Weights are compared by value, so that it does
    not matter who wrote to them, and how: with other weights than those of the first call, the
    trunk computes again. All of this holds for the neck as well. The settings of a trunk or neck,
    and which parameters it has, are read when it is first asked.

    Attributes:
        computed: How many pictures went through the trunk.
    """

    def __init__(self) -> None:
        self.computed = 0
        self._weights: dict[str, tuple[int, ...]] = {}
        self._parts: dict[nn.Module, _Part] = {}
        self._found: dict[tuple[str, str], Any] = {}
        self._levels: dict[tuple[str, str], Any] = {}

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
        part = self._part(trunk)
        usual, key = self._usual_weights("trunk", part), (part.identity, digest(pixels))
        if usual and key in self._found:
            return self._found[key]
        found = encode(pixels, **given)
        self.computed += 1
        if usual and len(self._found) < _KEPT:
            self._found[key] = found
        return found

    def levels(self, neck: nn.Module, build: Callable[[Any], Any], stages: Sequence[Tensor]) -> Any:
        """The outputs of a neck, computed only where they are not remembered.

        Args:
            neck: The neck.
            build: Its own ``forward``.
            stages: The outputs of the trunk.

        Returns:
            What ``build`` returns; nobody may write to it.
        """
        pictures = (seen for (_, seen), found in self._found.items() if _holds(found, stages))
        part = self._part(neck)
        key = part.identity, next(pictures, "")
        usual = self._usual_weights("neck", part) and key[1] != ""
        if usual and key in self._levels:
            return self._levels[key]
        built = build(stages)
        if usual and not self._levels:  # of the first picture, which nearly all scenarios show
            self._levels[key] = built
        return built

    def _part(self, module: nn.Module) -> _Part:
        """What it takes to recognise a module, put together once: it takes as long as a layer."""
        if module not in self._parts:
            self._parts[module] = _Part(_identity(module), tuple(module.parameters()))
        return self._parts[module]

    def _usual_weights(self, kind: str, part: _Part) -> bool:
        """Whether a trunk or neck has the weights that its kind had when it was first asked."""
        weights = tuple(map(_checksum, part.weights))
        return self._weights.setdefault(kind, weights) == weights

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
        own, usual, picture = self.known(first), self._usual.known(first), digest(pixels)
        if picture == first:
            return own
        there = self._usual.known(picture)
        if own is None or usual is None or there is None:
            return None
        return [then + (one - now) for one, now, then in zip(own, usual, there, strict=True)]


@contextmanager
def remembering(encoder: nn.Module, encodings: Encodings, *, video: bool) -> Iterator[None]:
    """A context in which an image encoder of the ground truth encodes no picture twice.

    Args:
        encoder: The image encoder.
        encodings: What is remembered of it.
        video: Whether the pictures are frames of one video.

    Yields:
        Nothing.
    """
    trunk, neck = encoder.get_submodule("trunk"), encoder.get_submodule("neck")
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

    levels = partial(encodings.levels, neck, neck.forward)
    with replaced(trunk, forward=forward), replaced(neck, forward=levels):
        yield


@contextmanager
def carrying(attention: nn.Module, usual: Iterable[Tensor]) -> Iterator[None]:
    """A context in which a numerical variant attends to the memories of one frame only.

    Each frame begins with memories that are the same on all sides, so rounding errors do not grow
    from frame to frame. The output for each later frame is that of the usual model, with the
    error that the variant made on the first.

    Args:
        attention: The memory attention of the ground truth, which the variant runs.
        usual: Its outputs in the run of the usual model, in the order of computation.

    Yields:
        Nothing.
    """
    attend: Callable[..., Tensor] = attention.forward
    outputs, errors = iter(usual), list[Tensor]()

    def forward(*given: Any) -> Tensor:
        there = next(outputs, None)
        if there is None:
            return attend(*given)
        if errors:
            return (there.to(errors[0].device) + errors[0]).to(given[0].dtype)
        own = attend(*given)
        errors.append(own - there.to(own.device))
        return own

    with replaced(attention, forward=forward):
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


def _holds(found: Any, stages: Sequence[Tensor]) -> bool:
    """Whether what a trunk returned, in this package or in transformers, are these stages."""
    return getattr(found, "intermediate_hidden_states", found)[0] is stages[0]


def _checksum(weight: Tensor) -> int:
    return crc32(weight.detach().contiguous().cpu().numpy().data)
