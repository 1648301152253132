"""Transformers as one side of a comparison."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from ...checkpoint.open import open_checkpoint
from ...config import transformers
from ...config.plain_yaml import naming
from ...config.registry import tensors_of
from ...conversion.api import convert
from ...dialects import HF_IMAGE, HF_VIDEO
from ...dialects.keymap import compile_keymap
from ...io.source import CONFIG
from ...io.text import read_json
from ...model.config import ModelConfig
from ...model.inference_state import Session
from ...model.video_frames import Frames
from ...prediction.load import with_image_size
from .. import packages
from ..activations import Activations, Recorder
from ..inputs import Clip, Picture
from ..scenarios import ImageScenario, VideoScenario
from .base import CannotRun, LoadOptions, image_prompts, play, tensor_of
from .transformers_hooks import PACKAGE, recording
from .transformers_load import Loaded, load_folder, quiet, tie
from .transformers_video import TransformersPredictor


class Transformers:
    """A folder loaded by ``from_pretrained``; see :class:`~.backend.Backend`.

    Images are segmented by ``Sam2Model`` and videos by ``Sam2VideoModel``, which share tensors.
    """

    name = PACKAGE

    def __init__(
        self, source: Path, loaded: Loaded, config: ModelConfig, notes: tuple[str, ...] = ()
    ) -> None:
        self.source = source
        self.version = packages.version(PACKAGE)
        self.config = config
        self.notes = notes + loaded.notes
        self.image, self.video, self.processor = loaded[:3]
        videos = {"videos"} if self.video is not None else set()
        self.abilities = frozenset({"encode", "images"} | videos)
        self._embeddings: list[Tensor] = []
        keymap = compile_keymap(HF_VIDEO if videos else HF_IMAGE, tensors_of(config))
        tie((self.image,) if self.video is None else (self.video, self.image), keymap.tied)
        self._places: dict[str, tuple[str, slice]] = {}
        for entry in keymap.entries:
            row = 0
            for name in entry.canonical:
                rows = slice(row, row := row + keymap.canonical[name].shape[0])
                self._places[name] = entry.key, rows

    @classmethod
    def load(cls, source: Path, given: LoadOptions) -> Transformers:
        """Load a transformers folder as it is; anything else is converted into one before.

        A folder's own ``config.json`` decides, never that given. Raises as
        :func:`~sam21convert.convert`, :class:`UnreadableError` for a folder that transformers does
        not load, and :class:`UsageError` without the package.
        """
        if (source / CONFIG).is_file():
            return cls._of_folder(source, source, given)
        image = open_checkpoint(source, given.config).dialect is HF_IMAGE
        with TemporaryDirectory() as home:
            folder = Path(home) / "converted"
            convert(source, folder, to=HF_IMAGE.name if image else None, config=given.config)
            note = "converted to a transformers folder, which was loaded"
            return cls._of_folder(source, folder, given, note)

    @classmethod
    def _of_folder(
        cls, source: Path, folder: Path, given: LoadOptions, *notes: str
    ) -> Transformers:
        content = read_json(folder / CONFIG)
        with naming(folder / CONFIG):
            kind = transformers.model_type(content)
        found = open_checkpoint(folder).model_config
        assert found is not None  # a folder with config.json has one
        config = with_image_size(given.image_size)(found)
        resized = given.image_size is not None
        loaded = load_folder(folder, kind, config, given.device, resized=resized)
        return cls(source, loaded, config, notes)

    def picture_pixels(self, picture: Picture) -> Tensor:
        """What the folder's image processor makes of it."""
        with quiet():
            made = self.processor.image_processor(images=picture.pixels, return_tensors="pt")
        pixels: Tensor = made["pixel_values"]
        return pixels

    def clip_pixels(self, clip: Clip) -> Tensor:
        """What the folder's video processor makes of the frames."""
        if self.video is None:
            raise CannotRun("a folder of an image model has no video processor")
        with quiet():
            made = self.processor.video_processor(videos=[list(clip.frames)], return_tensors="pt")
        pixels: Tensor = made["pixel_values_videos"][0]
        return pixels

    def encode(self, pixels: Tensor) -> Activations:
        """Encode an image."""
        recorder = Recorder()
        with quiet(), recording(self.image, recorder, video=False):
            self._embeddings = self.image.get_image_embeddings(pixels.to(self.image.device))
        return recorder

    def segment(self, picture: Picture, scenario: ImageScenario) -> Activations:
        """Answer one prompt about it."""
        prompts = image_prompts(picture, scenario.prompt)
        mask = prompts.pop("mask_input")
        points, labels, boxes = (  # of one prompt of one image
            None if given is None else given[None].to(self.image.device)
            for given in prompts.values()
        )
        recorder = Recorder()
        with quiet(), torch.no_grad(), recording(self.image, recorder, video=False):
            found = self.image(
                image_embeddings=self._embeddings,
                input_points=points,
                input_labels=labels,
                input_boxes=boxes,
                input_masks=None if mask is None else mask.to(self.image.device),
                multimask_output=scenario.multimask,
            )
        recorder.add("masks", found.pred_masks[:, 0])
        return recorder

    def track(
        self, clip: Clip, scenario: VideoScenario, agreed: Activations | None = None
    ) -> Activations:
        """Follow objects through a video. Holes are never filled: it has no such option."""
        if self.video is None:
            raise CannotRun("a folder of an image model has no memory")
        recorder, device = Recorder(agreed), self.video.device
        predictor = TransformersPredictor(self.video, self.processor)
        frames = Session(Frames(clip.tensor, clip.height, clip.width), device, device)
        with quiet(), recording(self.video, recorder, video=True):
            play(predictor, predictor.init_state(frames), clip, scenario, recorder)
        return recorder

    def tensor(self, name: str) -> Tensor:
        """The tensor, or the rows of one, that holds an official tensor."""
        key, rows = self._places[name]
        model = self.image if self.video is None else self.video
        return tensor_of(model, key)[rows]
