"""The ground truth as one side of a comparison."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

from torch import Tensor

from .. import __version__
from ..model import SAM2VideoPredictor, TrackingOptions
from ..model.config import ModelConfig
from ..model.frames import Frames, load_frames
from ..model.image_predictor import pixels_of
from ..model.sam2 import ImageFeatures
from ..model.session import Session
from .given import Given
from .inputs import Clip, Picture
from .runner import image_prompts, play, tensor_of
from .scenarios import ImageScenario, VideoScenario
from .taps import Recorder, Taps
from .truth_taps import EncodedFrames, listening

HOLES = 8  # the area that the official builder of video predictors fills
_OPTIONS = TrackingOptions(binarize_mask_from_pts_for_mem_enc=True)  # as that builder has it


class Truth:
    """A checkpoint loaded onto the ground truth; see :class:`~.runner.Runner`."""

    name, version = "truth", __version__

    def __init__(self, source: Path, model: SAM2VideoPredictor, *, images_only: bool) -> None:
        self.source = source
        self.model = model
        self.abilities = frozenset({"encode", "images"} | (set() if images_only else {"videos"}))
        self.notes: tuple[str, ...] = ()
        self.features: ImageFeatures | None = None
        self._frames = EncodedFrames(model)

    @classmethod
    def load(cls, source: Path, given: Given) -> Truth:
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

    def encode(self, pixels: Tensor) -> Taps:
        """Encode an image."""
        taps = Recorder()
        self.features = self.model.encode_image(pixels.to(self.model.device), taps)
        return taps

    def segment(self, picture: Picture, scenario: ImageScenario) -> Taps:
        """Answer one prompt about it."""
        assert self.features is not None
        device = self.model.device
        given = {
            name: None if value is None else value.to(device)
            for name, value in image_prompts(picture, scenario.prompt).items()
        }
        taps = Recorder()
        found = self.model.predict_masks(
            self.features, **given, multimask_output=scenario.multimask, taps=taps
        )
        taps.add("masks", found.logits)
        return taps

    def track(self, clip: Clip, scenario: VideoScenario, agreed: Taps | None = None) -> Taps:
        """Follow objects through a video."""
        device = self.model.device
        state = Session(Frames(clip.tensor, clip.height, clip.width), device, device)
        self.model.fill_hole_area = HOLES if scenario.fill_holes else 0
        recorder = Recorder(agreed)
        with listening(self.model, recorder, self._frames):
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
