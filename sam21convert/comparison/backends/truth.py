"""The ground truth as one side of a comparison."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import cached_property
from pathlib import Path

from torch import Tensor
from torch.nn import Parameter

from ..._version import __version__
from ...config.hydra import VIDEO_BUILDERS
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
from .base import LoadOptions, image_prompts, play

# Pixels; holes of up to this area are filled by the official builder's predictors.
HOLES: int = VIDEO_BUILDERS["fill_hole_area"]
_OPTIONS = TrackingOptions(binarize_mask_from_pts_for_mem_enc=True)  # as set by that builder


class Truth:
    """A checkpoint loaded onto the ground truth; implements :class:`~.base.Backend`.

    Args:
        source: The checkpoint, for messages.
        model: The model with its weights.
        images_only: Whether the checkpoint lacks the weights for videos.
        for_exports: Whether features and expected IoU are recorded as exports give them:
            ``features.level0`` to ``2`` and ``iou``.
    """

    name, version = "truth", __version__

    def __init__(
        self,
        source: Path,
        model: SAM2VideoPredictor,
        *,
        images_only: bool,
        for_exports: bool = False,
    ) -> None:
        self.source = source
        self.for_exports = for_exports
        self.model = model
        self.abilities = frozenset({"encode", "images"} | (set() if images_only else {"videos"}))
        self.notes: tuple[str, ...] = ()
        self.features: ImageFeatures | None = None
        self._frames = EncodedFrames(model)
        named = *model.named_parameters(), *model.named_buffers()
        self._tensors = {name: tensor.detach() for name, tensor in named}

    @classmethod
    def load(cls, source: Path, given: LoadOptions) -> Truth:
        """Load a checkpoint in float32.

        Args:
            source: The checkpoint.
            given: Arguments of :func:`~sam21convert.load_model`, which raises the same errors.

        Returns:
            The backend. It cannot follow objects in videos if the checkpoint is an image model.
        """
        model, loading = given.onto(lambda config: SAM2VideoPredictor(config, _OPTIONS), source)
        return cls(source, model, images_only=loading.dialect == "hf-image")

    @property
    def config(self) -> ModelConfig:
        """The config that the model was built from."""
        return self.model.config

    def twin(self, model: SAM2VideoPredictor | None = None) -> Truth:
        """Make another backend of the same checkpoint, with image features of its own.

        Args:
            model: A variant of the model; the two share the model if None.

        Returns:
            The backend.
        """
        images_only = "videos" not in self.abilities
        return Truth(
            self.source,
            model or self.model,
            images_only=images_only,
            for_exports=self.for_exports,
        )

    @cached_property
    def in_float64(self) -> Truth:
        """A backend that computes in double precision, with a copy of the model."""
        return self.twin(in_double(self.model))

    def picture_pixels(self, picture: Picture) -> Tensor:
        """Prepare a picture as the image predictor does.

        Args:
            picture: The picture.

        Returns:
            ``1 x 3 x S x S``.
        """
        return pixels_of(picture.pixels, self.config.image_size)

    def clip_pixels(self, clip: Clip) -> Tensor:
        """Prepare the frames of a video as the video predictor does.

        Args:
            clip: The video.

        Returns:
            ``T x 3 x S x S``.
        """
        frames = load_frames(clip.frames, self.config.image_size, "cpu").images
        assert isinstance(frames, Tensor)
        return frames

    def encode(self, pixels: Tensor) -> Activations:
        """Encode an image; :meth:`segment` is about it from now on.

        Args:
            pixels: ``1 x 3 x S x S``.

        Returns:
            Activations of the image encoder.
        """
        activations = Recorder()
        self.features = found = self.model.encode_image(pixels.to(self.model.device), activations)
        if self.for_exports:
            for level, features in enumerate((*found.high_res, found.embedding)):
                activations.add(f"features.level{level}", features)
        return activations

    def segment(self, picture: Picture, scenario: ImageScenario) -> Activations:
        """Answer one prompt about the image that was encoded last.

        Args:
            picture: The image, for the prompts that are drawn on it.
            scenario: The prompt and whether to return three masks.

        Returns:
            Activations; ``masks`` are the logits of the masks, ``1 x M x S/4 x S/4``.
        """
        assert self.features is not None
        device = self.model.device
        given = {
            name: None if value is None else value.to(device)
            for name, value in image_prompts(picture, scenario.prompt).items()
        }
        activations = Recorder()
        masks = self.model.predict_masks(
            self.features, **given, multimask_output=scenario.multimask, activations=activations
        )
        if self.for_exports:
            activations.add("iou", masks.iou)
        activations.add("masks", masks.logits)
        return activations

    def track(
        self, clip: Clip, scenario: VideoScenario, agreed: Activations | None = None
    ) -> Activations:
        """Follow objects through a video.

        Args:
            clip: The video.
            scenario: The prompts and the order of frames.
            agreed: Activations of the run that this one will be compared with; see
                :meth:`~sam21convert.comparison.activations.Recorder.remember`.

        Returns:
            Activations; ``frame3.masks`` are logits of all objects, ``objects x 1 x H x W``.
        """
        device = self.model.device
        state = Session(Frames(clip.tensor, clip.height, clip.width), device, device)
        self.model.fill_hole_area = HOLES if scenario.fill_holes else 0
        recorder = Recorder(agreed)
        with recording(self.model, clip.tensor, recorder, self._frames):
            play(self.model, state, clip, scenario, recorder)
        return recorder

    def tensor(self, name: str) -> Tensor:
        """Get one of the model's own tensors, which may be written to.

        Args:
            name: Its canonical name.

        Returns:
            The tensor, which shares memory with the model.

        Raises:
            KeyError: If the model has no such tensor.
        """
        return self._tensors[name]


def in_double(model: SAM2VideoPredictor) -> SAM2VideoPredictor:
    """Copy a model in double precision.

    Args:
        model: The model.

    Returns:
        A copy with float64 weights that also encodes the places of points in float64.
    """
    doubles = {id(held): _double(held) for held in (*model.parameters(), *model.buffers())}
    exact = deepcopy(model, doubles)
    position = exact.sam_prompt_encoder.pe_layer
    # The model encodes places in float32 whatever the type of its weights, so this is replaced.
    encode = position.forward
    position.forward = lambda places: encode(places.double())  # type: ignore[method-assign]
    return exact


def _double(held: Tensor) -> Tensor:
    exact = held.detach().double() if held.is_floating_point() else held.detach().clone()
    return Parameter(exact, requires_grad=False) if isinstance(held, Parameter) else exact


class EncodedFrames:
    """Features of the frames of one video, shared by all scenarios that play it.

    Implements :class:`~sam21convert.model.observer.FeatureCache`. Features are forgotten when a
    scenario plays another video, or when a weight that they depend on has changed.

    Args:
        model: The model that encodes the frames.
    """

    def __init__(self, model: SAM2VideoPredictor) -> None:
        named = model.named_parameters()
        self._weights = [weight for name, weight in named if influence.encodes(name)]
        self._checksums: list[int] = []
        self._video: Tensor | None = None
        self._frames: dict[int, tuple[ImageFeatures, Activations]] = {}
        self._recorder = Recorder()

    def begin(self, video: Tensor, recorder: Recorder) -> None:
        """Prepare for a scenario.

        Args:
            video: The frames that it plays, ``T x 3 x S x S``, or the first of them.
            recorder: Where the activations of the scenario go.
        """
        # Weights are compared by value, so that it does not matter who wrote to them, and how.
        checksums = [_checksum(weight) for weight in self._weights]
        same = self._video is not None and self._video.data_ptr() == video.data_ptr()
        if not same or checksums != self._checksums:
            self._frames.clear()
        self._video, self._checksums, self._recorder = video, checksums, recorder

    def features(
        self, state: Session, frame: int, encode: Callable[[], ImageFeatures]
    ) -> ImageFeatures:
        """Features of a frame; activations of the first frame of a scenario are recorded as well.

        Args:
            state: Not used: all scenarios since :meth:`begin` play the same video.
            frame: Number of the frame, counted from 0.
            encode: Encodes the frame and has its activations recorded.

        Returns:
            The features, which are encoded only where they or the activations are not known.
        """
        recorder = self._recorder
        first = not any(kind(name).startswith(OF_A_FRAME) for name in recorder)
        if frame in self._frames:
            features, activations = self._frames[frame]
            if activations or not first:
                recorder.update(activations)
                return features
        features = encode()
        # Of later frames the recorder keeps no activations, so there are none to cache.
        self._frames[frame] = features, dict(recorder) if first else {}
        return features


def _checksum(weight: Tensor) -> int:
    return zlib.crc32(weight.detach().contiguous().cpu().numpy().data)


class _Observer:
    """Passes what the model computes to a recorder."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def activation(self, place: str, name: str, tensor: Tensor) -> None:
        with self._recorder.within(place):
            self._recorder.add(name, tensor)

    def memory(self, place: str, memory: Tensor) -> Tensor:
        with self._recorder.within(place):
            return self._recorder.remember(memory)


@contextmanager
def recording(
    model: SAM2VideoPredictor, video: Tensor, recorder: Recorder, frames: EncodedFrames
) -> Iterator[None]:
    """Record what a model computes while it follows objects, and reuse frames already encoded.

    Args:
        model: The model, which must have neither an observer nor a feature cache.
        video: The frames of the video, ``T x 3 x S x S``.
        recorder: Receives the activations, and decides what is stored as a memory.
        frames: Frames that the model has encoded before.

    Yields:
        Nothing; the model is observed while the context lasts.
    """
    frames.begin(video, recorder)
    model.observer, model.feature_cache = _Observer(recorder), frames
    try:
        yield
    finally:
        model.observer = model.feature_cache = None
