"""The ground truth as one side of a comparison."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

from torch import Tensor

from ..._version import __version__
from ...model.config import ModelConfig, TrackingOptions
from ...model.image_predictor import pixels_of
from ...model.inference_state import Session
from ...model.sam2 import ImageFeatures
from ...model.video_frames import Frames, load_frames
from ...model.video_predictor import SAM2VideoPredictor
from .. import influence
from ..activations import OF_A_FRAME, Activations, Recorder, kind
from ..inputs import Clip, Picture
from ..scenarios import ImageScenario, VideoScenario
from .base import LoadOptions, image_prompts, play, tensor_of
from .hooks import replaced

HOLES = 8  # the area that the official builder of video predictors fills
_OPTIONS = TrackingOptions(binarize_mask_from_pts_for_mem_enc=True)  # as that builder has it


class Truth:
    """A checkpoint loaded onto the ground truth; see :class:`~.backend.Backend`."""

    name, version = "truth", __version__

    def __init__(self, source: Path, model: SAM2VideoPredictor, *, images_only: bool) -> None:
        self.source = source
        self.model = model
        self.abilities = frozenset({"encode", "images"} | (set() if images_only else {"videos"}))
        self.notes: tuple[str, ...] = ()
        self.features: ImageFeatures | None = None
        self._frames = EncodedFrames(model)

    @classmethod
    def load(cls, source: Path, given: LoadOptions) -> Truth:
        """Load ``source``, as :func:`~sam21convert.load_model` does, in float32."""
        model, loading = given.onto(lambda config: SAM2VideoPredictor(config, _OPTIONS), source)
        return cls(source, model, images_only=loading.dialect == "hf-image")

    @property
    def config(self) -> ModelConfig:
        """What the model was built for."""
        return self.model.config

    def twin(self, model: SAM2VideoPredictor | None = None) -> Truth:
        """Another that shares the model, or has a variant of it, and is shown images of its own."""
        images_only = "videos" not in self.abilities
        return Truth(self.source, model or self.model, images_only=images_only)

    def in_float64(self) -> Truth:
        """The same in double precision."""
        return self.twin(in_double(self.model))

    def picture_pixels(self, picture: Picture) -> Tensor:
        """As the image predictor has it."""
        return pixels_of(picture.pixels, self.config.image_size)

    def clip_pixels(self, clip: Clip) -> Tensor:
        """As the video predictor has it."""
        frames = load_frames(clip.frames, self.config.image_size, "cpu").images
        assert isinstance(frames, Tensor)
        return frames

    def encode(self, pixels: Tensor) -> Activations:
        """Encode an image."""
        activations = Recorder()
        self.features = self.model.encode_image(pixels.to(self.model.device), activations)
        return activations

    def segment(self, picture: Picture, scenario: ImageScenario) -> Activations:
        """Answer one prompt about it."""
        assert self.features is not None
        device = self.model.device
        given = {
            name: None if value is None else value.to(device)
            for name, value in image_prompts(picture, scenario.prompt).items()
        }
        activations = Recorder()
        found = self.model.predict_masks(
            self.features, **given, multimask_output=scenario.multimask, activations=activations
        )
        activations.add("masks", found.logits)
        return activations

    def track(
        self, clip: Clip, scenario: VideoScenario, agreed: Activations | None = None
    ) -> Activations:
        """Follow objects through a video."""
        device = self.model.device
        state = Session(Frames(clip.tensor, clip.height, clip.width), device, device)
        self.model.fill_hole_area = HOLES if scenario.fill_holes else 0
        recorder = Recorder(agreed)
        with recording(self.model, recorder, self._frames):
            play(self.model, state, clip, scenario, recorder)
        return recorder

    def tensor(self, name: str) -> Tensor:
        """One of the model's tensors."""
        return tensor_of(self.model, name)


def in_double(model: SAM2VideoPredictor) -> SAM2VideoPredictor:
    """A copy in double precision, places of points too, which are float32 whatever the weights."""
    exact = deepcopy(model).double()
    position = exact.sam_prompt_encoder.pe_layer
    encode = position.forward
    position.forward = lambda places: encode(places.double())  # type: ignore[method-assign]
    return exact


class EncodedFrames:
    """Features of the frames of one video, for all scenarios that begin with the same frames.

    They are forgotten when another video comes, or when a weight that they depend on is written to.
    """

    def __init__(self, model: SAM2VideoPredictor) -> None:
        named = model.named_parameters()
        self._weights = [weight for name, weight in named if influence.encodes(name)]
        self._frames: dict[int, tuple[ImageFeatures, Activations]] = {}
        self._video: Tensor | None = None
        self._written = -1

    def encode(
        self, encode: Callable[..., ImageFeatures], recorder: Recorder, state: Session, frame: int
    ) -> ImageFeatures:
        """Features of a frame, by ``encode`` unless they are known; activations of the first as well."""
        self._forget_others(state.images)
        first = not any(kind(name).startswith(OF_A_FRAME) for name in recorder)
        if frame in self._frames:
            features, activations = self._frames[frame]
            if activations or not first:
                recorder.update(activations)
                return features
        features = encode(state, frame)
        activations = {name: activation for name, activation in recorder.items() if first}
        self._frames[frame] = features, activations
        return features

    def _forget_others(self, video: Tensor) -> None:
        written = sum(weight._version for weight in self._weights)  # torch counts what is written
        same = self._video is not None and self._video.data_ptr() == video.data_ptr()
        if not same or written != self._written:
            self._frames.clear()
            self._video, self._written = video, written


@contextmanager
def recording(
    model: SAM2VideoPredictor, recorder: Recorder, frames: EncodedFrames
) -> Iterator[None]:
    """Let a model hand out its activations, and what it keeps as a memory."""

    def at(step: Callable[..., Any]) -> Callable[..., Any]:
        def run(state: Session, frame: int, obj_id: Any, *args: Any, **given: Any) -> Any:
            with recorder.within(f"frame{frame}.object{obj_id}"):
                return step(state, frame, obj_id, *args, **given)

        return run

    keep, encode = model._kept, model.frame_features
    with replaced(
        model,
        activations=recorder,
        frame_features=lambda state, frame: frames.encode(encode, recorder, state, frame),
        track=at(model.track),
        remember_prompt=at(model.remember_prompt),
        _kept=lambda state, memory: recorder.remember(keep(state, memory)),
    ):
        yield
