"""Listen to the ground truth in a video, and spare it from encoding the same frames again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from ..model import SAM2VideoPredictor
from ..model.sam2 import ImageFeatures
from ..model.session import Session
from . import reach
from .hooks import replaced
from .taps import OF_A_FRAME, Recorder, Taps, kind


class EncodedFrames:
    """Features of the frames of one video, for all scenarios that begin with the same frames.

    They are forgotten when another video comes, or when a weight that they depend on is written to.
    """

    def __init__(self, model: SAM2VideoPredictor) -> None:
        named = model.named_parameters()
        self._weights = [weight for name, weight in named if reach.encodes(name)]
        self._frames: dict[int, tuple[ImageFeatures, Taps]] = {}
        self._video: Tensor | None = None
        self._written = -1

    def encode(
        self, encode: Callable[..., ImageFeatures], recorder: Recorder, state: Session, frame: int
    ) -> ImageFeatures:
        """Features of a frame, by ``encode`` unless they are known; taps of the first as well."""
        self._forget_others(state.images)
        first = not any(kind(name).startswith(OF_A_FRAME) for name in recorder)
        if frame in self._frames:
            features, taps = self._frames[frame]
            if taps or not first:
                recorder.update(taps)
                return features
        features = encode(state, frame)
        taps = {name: tap for name, tap in recorder.items() if first}
        self._frames[frame] = features, taps
        return features

    def _forget_others(self, video: Tensor) -> None:
        written = sum(weight._version for weight in self._weights)  # torch counts what is written
        same = self._video is not None and self._video.data_ptr() == video.data_ptr()
        if not same or written != self._written:
            self._frames.clear()
            self._video, self._written = video, written


@contextmanager
def listening(
    model: SAM2VideoPredictor, recorder: Recorder, frames: EncodedFrames
) -> Iterator[None]:
    """Let a model hand out its taps, and what it keeps as a memory."""

    def at(step: Callable[..., Any]) -> Callable[..., Any]:
        def run(state: Session, frame: int, obj_id: Any, *args: Any, **given: Any) -> Any:
            with recorder.within(f"frame{frame}.object{obj_id}"):
                return step(state, frame, obj_id, *args, **given)

        return run

    keep, encode = model._kept, model.frame_features
    with replaced(
        model,
        taps=recorder,
        frame_features=lambda state, frame: frames.encode(encode, recorder, state, frame),
        track=at(model.track),
        remember_prompt=at(model.remember_prompt),
        _kept=lambda state, memory: recorder.remember(keep(state, memory)),
    ):
        yield
