"""The ground truth as one side of a comparison."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

from torch import Tensor
from torch.nn import Parameter

from ..._version import __version__
from ...config.hydra import VIDEO_BUILDERS
from ...dialects import HF_IMAGE, OF_IMAGES
from ...dialects.keymap import covers
from ...model.config import ModelConfig, TrackingOptions
from ...model.image_predictor import pixels_of
from ...model.inference_state import Session
from ...model.sam2 import ImageFeatures
from ...model.video_frames import Frames, load_frames
from ...model.video_predictor import SAM2VideoPredictor
from ..activations import Activations, Recorder
from ..inputs import Clip, Picture
from ..names import kind
from ..scenarios import ImageScenario, VideoScenario
from .base import LoadOptions, image_prompts, play
from .encodings import CarriedEncodings, Encodings, carrying, remembering

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
        encodings: Where the outputs of the trunk are remembered; None for a place of its own.
    """

    name, version = "truth", __version__

    def __init__(
        self,
        source: Path,
        model: SAM2VideoPredictor,
        *,
        images_only: bool,
        for_exports: bool = False,
        encodings: Encodings | None = None,
    ) -> None:
        self.source = source
        self.for_exports = for_exports
        self.model = model
        self.abilities = frozenset({"encode", "images"} | (set() if images_only else {"videos"}))
        self.notes: tuple[str, ...] = ()
        self.features: ImageFeatures | None = None
        self.encodings = encodings or Encodings()
        named = *model.named_parameters(), *model.named_buffers()
        self._tensors = {
            name: tensor.detach()
            for name, tensor in named
            if not images_only or covers(HF_IMAGE, name)  # a checkpoint of images holds no others
        }

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
        return cls(source, model, images_only=loading.dialect in OF_IMAGES)

    @property
    def config(self) -> ModelConfig:
        """The config that the model was built from."""
        return self.model.config

    def variant(self, model: SAM2VideoPredictor | None = None) -> Truth:
        """Make a backend of the same checkpoint that computes the same by other means.

        It must be asked nothing that this backend was not asked before.

        Args:
            model: A copy of the model in another type; the two share the model if None.

        Returns:
            The backend. Of each video it encodes the first frame only, and it attends to the
            memories of one frame: see :class:`~.encodings.CarriedEncodings` and
            :func:`~.encodings.carrying`.
        """
        return Truth(
            self.source,
            model or self.model,
            images_only="videos" not in self.abilities,
            for_exports=self.for_exports,
            encodings=CarriedEncodings(self.encodings),
        )

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
        activations, encoder = Recorder(), self.model.image_encoder
        with remembering(encoder, self.encodings, video=False):
            found = self.model.encode_image(pixels.to(self.model.device), activations)
        self.features = found
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
        recorder, attention = Recorder(agreed), self.model.memory_attention
        usual = (agreed or {}) if isinstance(self.encodings, CarriedEncodings) else {}
        attended = [usual[name] for name in usual if kind(name) == "memory_attention.output"]
        with (
            recording(self.model, recorder),
            carrying(attention, attended),
            remembering(self.model.image_encoder, self.encodings, video=True),
        ):
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


def in_double(model: SAM2VideoPredictor, *, encoder: bool = True) -> SAM2VideoPredictor:
    """Copy a model in double precision.

    Args:
        model: The model.
        encoder: Whether the image encoder is copied too; if not, the two share it.

    Returns:
        A copy with float64 weights that also encodes the places of points in float64.
    """
    own = {id(model.image_encoder): model.image_encoder} if not encoder else {}
    held = (*model.parameters(), *model.buffers())
    kept = set() if encoder else {id(one) for one in model.image_encoder.parameters()}
    doubles = {id(one): _double(one) for one in held if id(one) not in kept}
    exact = deepcopy(model, {**own, **doubles})
    position = exact.sam_prompt_encoder.pe_layer
    # The model encodes places in float32 whatever the type of its weights, so this is replaced.
    encode = position.forward
    position.forward = lambda places: encode(places.double())  # type: ignore[method-assign]
    return exact


def _double(held: Tensor) -> Tensor:
    exact = held.detach().double() if held.is_floating_point() else held.detach().clone()
    return Parameter(exact, requires_grad=False) if isinstance(held, Parameter) else exact


class _Observer:
    """Passes what the model computes to a recorder."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def activation(self, place: str, name: str, tensor: Tensor) -> None:
        with self._recorder.within(place):
            self._recorder.add(name, tensor)

    def mask(self, place: str, mask: Tensor) -> Tensor:
        with self._recorder.within(place):
            return self._recorder.remember_signs(mask)

    def memory(self, place: str, memory: Tensor) -> Tensor:
        with self._recorder.within(place):
            return self._recorder.remember(memory)


@contextmanager
def recording(model: SAM2VideoPredictor, recorder: Recorder) -> Iterator[None]:
    """Record what a model computes while it follows objects.

    Args:
        model: The model, which must have no observer.
        recorder: Receives the activations, and decides what is stored as a memory.

    Yields:
        Nothing; the model is observed while the context lasts.
    """
    model.observer = _Observer(recorder)
    try:
        yield
    finally:
        model.observer = None
