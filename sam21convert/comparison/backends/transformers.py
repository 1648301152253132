"""transformers as one side of a comparison."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ... import packages
from ...config.registry import tensors_of
from ...conversion.api import convert
from ...dialects import HF_IMAGE, HF_VIDEO
from ...dialects.keymap import compile_keymap
from ...io.output.temporary import temporary_folder
from ...io.source import CONFIG
from ...model.config import ModelConfig
from ...model.inference_state import Session
from ...model.video_frames import Frames
from ...prediction.backends.transformers_load import PACKAGE, Loaded, load_as_described, quiet, tie
from ...prediction.backends.transformers_video import TransformersPredictor
from ..activations import Activations, Recorder
from ..inputs import Clip, Picture
from ..scenarios import ImageScenario, VideoScenario
from .base import CannotRun, LoadOptions, image_prompts, play, tensor_of
from .encodings import Encodings
from .transformers_hooks import recording


class Transformers:
    """A folder loaded by ``from_pretrained``; see :class:`~.base.Backend`.

    ``Sam2Model`` segments images and ``Sam2VideoModel`` tracks through videos; the two share
    tensors.

    Args:
        source: The checkpoint.
        loaded: The models and the processor.
        config: The config of the model.
        notes: Notes of loading, before those of ``loaded``.
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
        self.encodings = Encodings()  # of both models
        self._embeddings: list[Tensor] = []
        keymap = compile_keymap(HF_VIDEO if videos else HF_IMAGE, tensors_of(config))
        tie((self.image,) if self.video is None else (self.video, self.image), keymap.tied)
        # By canonical name, the tensor of transformers and the rows of it: some are concatenated.
        self.places: dict[str, tuple[str, slice]] = {}
        for entry in keymap.entries:
            row = 0
            for name in entry.canonical:
                rows = slice(row, row := row + keymap.canonical[name].shape[0])
                self.places[name] = entry.key, rows

    @classmethod
    def load(cls, source: Path, options: LoadOptions) -> Transformers:
        """Load a transformers folder as it is; anything else is converted to a folder first.

        Args:
            source: The checkpoint.
            options: How to load it. A folder's own ``config.json`` takes precedence over
                ``options.config``.

        Returns:
            The backend, in float32.

        Raises:
            UnreadableError: When the source cannot be read, or transformers does not load the
                folder.
            MismatchError: When the checkpoint does not fit its config.
            UsageError: When transformers is not installed.
        """
        alone = replace(options, config=None, opened=None)
        if (source / CONFIG).exists():
            return cls._of_folder(source, source, options if options.config is None else alone)
        dialect = options.open(source).dialect
        image = dialect is not None and dialect.task == "image"
        with temporary_folder() as home:
            folder = home / "converted"
            convert(source, folder, to=HF_IMAGE.name if image else None, config=options.config)
            note = "the source was converted to a transformers folder, and the folder was loaded"
            return cls._of_folder(source, folder, alone, note)

    @classmethod
    def _of_folder(
        cls, source: Path, folder: Path, options: LoadOptions, *notes: str
    ) -> Transformers:
        opened = options.open(folder)
        loaded, config = load_as_described(folder, opened, options.image_size, options.device)
        return cls(source, loaded, config, notes)

    def picture_pixels(self, picture: Picture) -> Tensor:
        """Preprocess a picture with the folder's image processor.

        Args:
            picture: The picture.

        Returns:
            1 x 3 x S x S.
        """
        with quiet():
            made = self.processor.image_processor(images=picture.pixels, return_tensors="pt")
        pixels: Tensor = made["pixel_values"]
        return pixels

    def clip_pixels(self, clip: Clip) -> Tensor:
        """Preprocess frames with the folder's video processor.

        Args:
            clip: The video.

        Returns:
            T x 3 x S x S.

        Raises:
            CannotRun: For a folder of an image model.
        """
        if self.video is None:
            raise CannotRun("a folder of an image model has no video processor")
        with quiet():
            made = self.processor.video_processor(videos=[list(clip.frames)], return_tensors="pt")
        pixels: Tensor = made["pixel_values_videos"][0]
        return pixels

    def encode(self, pixels: Tensor) -> Activations:
        """Encode an image with ``Sam2Model``.

        Args:
            pixels: 1 x 3 x S x S, preprocessed.

        Returns:
            Activations of the image encoder.
        """
        recorder = Recorder()
        with quiet(), recording(self.image, recorder, self.encodings, video=False):
            self._embeddings = self.image.get_image_embeddings(pixels.to(self.image.device))
        return recorder

    def segment(self, picture: Picture, scenario: ImageScenario) -> Activations:
        """Answer one prompt about the image that was encoded last.

        Args:
            picture: The picture that was encoded.
            scenario: The prompt.

        Returns:
            Activations of the prompt encoder and the mask decoder, and ``masks``.
        """
        prompts = image_prompts(picture, scenario.prompt)
        mask = prompts.pop("mask_input")
        points, labels, boxes = (  # with a further axis: one image, one prompt
            None if value is None else value[None].to(self.image.device)
            for value in prompts.values()
        )
        recorder = Recorder()
        with quiet(), torch.no_grad(), recording(self.image, recorder, self.encodings, video=False):
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
        """Run the steps of a scenario on a video.

        Holes are never filled, because transformers has no such option.

        Args:
            clip: The video.
            scenario: The steps.
            agreed: Activations that these will be compared with.

        Returns:
            Activations, with masks of every answer.

        Raises:
            CannotRun: For a folder of an image model.
        """
        if self.video is None:
            raise CannotRun("a folder of an image model has no memory")
        recorder, device = Recorder(agreed), self.video.device
        predictor = TransformersPredictor(self.video, self.processor)
        frames = Session(Frames(clip.tensor, clip.height, clip.width), device, device)
        with quiet(), recording(self.video, recorder, self.encodings, video=True):
            play(predictor, predictor.init_state(frames), clip, scenario, recorder)
        return recorder

    def tensor(self, name: str) -> Tensor:
        """The tensor that holds a canonical tensor, or the rows of it, to write to.

        Args:
            name: Canonical name.

        Returns:
            A tensor that shares its memory with the model.

        Raises:
            KeyError: When the model has no tensor of that name.
        """
        key, rows = self.places[name]
        model = self.image if self.video is None else self.video
        return tensor_of(model, key)[rows]
