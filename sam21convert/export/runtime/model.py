"""An export as a model: the steps of segmenting images and of following objects, on arrays.

The counterpart of :class:`~sam21convert.model.sam2.SAM2`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...errors import MissingFileError, UsageError
from ...io.folder import export_in
from ...io.nearby import not_a_folder
from ...io.onnx import CONFIG_OF_ALL, FOLDER, FP32, REST, VARIANTS, Variant
from ...model.config import ModelConfig
from .layouts import (
    FRAME_DECODER,
    FRAME_EMBEDDING,
    IMAGES,
    MEMORY_ATTENTION,
    MEMORY_ENCODER,
    PROMPT_DECODER,
    VIDEOS,
    VISION_ENCODER,
)
from .masks import Decoded
from .prompts import Labels
from .resize import Floats
from .sessions import PROVIDERS, Graph
from .settings import WHICH, read_config, read_tensors

_GIVEN = np.float32(100)  # a logit whose probability is 1, and 0 with the opposite sign


class Features(NamedTuple):
    """Features of ``B`` images; ``C`` is the config's ``hidden_dim``.

    Attributes:
        fine: ``B x C/8 x S/4 x S/4``.
        middle: ``B x C/4 x S/8 x S/8``.
        embedding: What prompts are answered from, ``B x C x S/16 x S/16``: marked as without
            memories, or conditioned on memories.
        frame: The same before that; None without the files for videos.
    """

    fine: Floats
    middle: Floats
    embedding: Floats
    frame: Floats | None = None


class OnnxModel:
    """An export; each of its files is loaded when it is first used.

    Args:
        folder: The folder of the export; its files lie in the folder ``onnx`` there.
        config: The architecture.
        variant: Which files to use.
        threads: Number of threads; None for as many as there are processors.
        providers: Names of onnxruntime's execution providers, the first choice first.

    Attributes:
        folder: The folder.
        config: The architecture.
    """

    def __init__(
        self,
        folder: Path,
        config: ModelConfig,
        variant: Variant,
        threads: int | None,
        providers: Sequence[str],
    ) -> None:
        self.folder = folder
        self.config = config
        self._variant: Variant = variant
        self._threads, self._providers = threads, providers
        self._graphs: dict[str, Graph] = {}

    @property
    def image_size(self) -> int:
        """Side ``S`` of the input, in pixels."""
        return self.config.image_size

    @property
    def has_video(self) -> bool:
        """Whether the export has the files for videos, which some prompts for images need too."""
        return all(self.file_of(name).exists() for name in VIDEOS)

    def require_video(self, what: str) -> None:
        """Check that the export has the files for videos.

        Args:
            what: What needs them.

        Raises:
            UsageError: If it has not.
        """
        if not self.has_video:
            raise UsageError(
                f"{self.folder}: {what} needs {FRAME_DECODER}.onnx, {MEMORY_ATTENTION}.onnx and "
                f"{MEMORY_ENCODER}.onnx, which this export does not have",
                hint="sam21convert convert CHECKPOINT FOLDER --to onnx --with-video writes them",
            )

    def encode(self, pixels: Floats) -> Features:
        """Compute the features of images.

        Args:
            pixels: ``B x 3 x S x S``, normalised.

        Returns:
            The features, marked as without memories.
        """
        found = self._graph(VISION_ENCODER)(pixels)
        return Features(*found)

    def candidates(
        self, features: Features, points: Floats, labels: Labels, boxes: Floats
    ) -> Decoded:
        """Predict three masks for each of ``B`` prompts.

        Args:
            features: Of one image.
            points: Points (x, y) in pixels of the input, ``B x N x 2``.
            labels: ``B x N``.
            boxes: In pixels of the input, ``B x 4`` or ``0 x 4``.

        Returns:
            The three candidates, without pointers.
        """
        levels = features.fine, features.middle, features.embedding
        iou, logits, score = self._graph(PROMPT_DECODER)(
            points[None], labels[None], boxes[None], *levels
        )
        none = np.zeros((len(labels), 3, 0), np.float32)
        return Decoded(iou[0], logits[0], score[0], none)

    def decode(
        self, features: Features, points: Floats, labels: Labels, mask: Floats | None
    ) -> Decoded:
        """Predict all four masks for each of ``B`` prompts; needs the files for videos.

        Args:
            features: Of ``B`` images, or of one image for all prompts.
            points: Points (x, y) in pixels of the input, ``B x N x 2``. A box is two of them.
            labels: ``B x N``: 1 on the object, 0 off it, 2 and 3 the corners of a box, -1 for the
                padding point that follows all others. Without any prompt there is none.
            mask: Logits, ``B x 1 x S/4 x S/4``, or one mask for all prompts, or None.

        Returns:
            The masks, the single one first.
        """
        batch, quarter = len(labels), self.image_size // 4
        given = np.full(batch, mask is not None, np.float32)
        if mask is None:
            mask = np.zeros((1, 1, quarter, quarter), np.float32)
        shared = mask, features.fine, features.middle, features.embedding
        logits, *levels = (_each(batch, one) for one in shared)
        return Decoded(*self._graph(FRAME_DECODER)(points, labels, logits, given, *levels))

    def attend(
        self,
        frame: Floats,
        spatial: Sequence[tuple[int, Floats]],
        pointers: Sequence[tuple[int, Floats]],
        longest: int,
    ) -> Floats:
        """Condition the features of a frame on memories.

        Args:
            frame: ``1 x C x H x W``, of :meth:`encode`.
            spatial: Rows of ``maskmem_tpos_enc`` and memories, each ``1 x K x H x W``; at least
                one.
            pointers: Distances in frames and object pointers, each ``1 x C``.
            longest: The distance in frames that is encoded as 1.

        Returns:
            ``1 x C x H x W``.
        """
        tokens = [pointer for _, pointer in pointers]
        none = np.zeros((1, 0, frame.shape[1]), np.float32)
        distances = np.array([distance for distance, _ in pointers], np.float32)
        (found,) = self._graph(MEMORY_ATTENTION)(
            frame,
            np.stack([memory for _, memory in spatial], axis=1),
            np.array([row for row, _ in spatial], np.int64),
            np.stack(tokens, axis=1) if tokens else none,
            # In a video of one frame, ``longest`` is 0 and the frame's only memory is its own.
            distances / np.float32(max(longest, 1)),
        )
        return found

    def remember(
        self, frame: Floats, masks: Floats, object_score: Floats, *, binarize: bool = False
    ) -> Floats:
        """Make a spatial memory of a frame.

        Args:
            frame: ``1 x C x H x W``, of :meth:`encode`.
            masks: Logits of any size, ``1 x 1 x h x w``.
            object_score: ``1 x 1``, a logit.
            binarize: Whether only the sign of the logits counts; the size is that of the input
                then.

        Returns:
            ``1 x K x H x W``.
        """
        if binarize:
            masks = np.where(masks > 0, _GIVEN, -_GIVEN)
        (memory,) = self._graph(MEMORY_ENCODER)(frame, masks, object_score)
        return memory

    def downsample(self, masks: Floats) -> Floats:
        """Turn given masks into logits for :meth:`decode`, by the convolution ``mask_downsample``.

        Args:
            masks: ``B x 1 x S x S``, 0 or 1.

        Returns:
            ``B x 1 x S/4 x S/4``.
        """
        weight, bias = (self._tensors[f"mask_downsample.{one}"] for one in ("weight", "bias"))
        quarter = self.image_size // 4
        blocks = masks.reshape(-1, 1, quarter, 4, quarter, 4)
        total: Floats = np.einsum("bchiwj,ij->bchw", blocks, weight[0, 0], dtype=np.float32) + bias
        return total

    @property
    def no_object_pointer(self) -> Floats:
        """The pointer of an object that is not there, ``1 x C``."""
        return self._tensors["no_obj_ptr"]

    @cached_property
    def _tensors(self) -> dict[str, Floats]:
        shapes = {
            "mask_downsample.weight": (1, 1, 4, 4),
            "mask_downsample.bias": (1,),
            "no_obj_ptr": (1, self.config.hidden_dim),
        }
        return read_tensors(self.folder / FOLDER / REST, shapes)

    def file_of(self, name: str) -> Path:
        """Tell the file of a graph. Those for videos exist in full precision only.

        Args:
            name: One of :mod:`~.layouts`.

        Returns:
            Its path.
        """
        suffix = VARIANTS[FP32 if name in VIDEOS else self._variant]
        return self.folder / FOLDER / f"{name}{suffix}.onnx"

    def _graph(self, name: str) -> Graph:
        """A graph, loaded when it is first asked for."""
        if name not in self._graphs:
            layout = {**IMAGES, **VIDEOS}[name]
            if name == VISION_ENCODER and self.has_video:
                layout = layout._replace(outputs=(*layout.outputs, FRAME_EMBEDDING))
            self._graphs[name] = Graph(self.file_of(name), layout, self._threads, self._providers)
        return self._graphs[name]


def load(
    folder: str | os.PathLike[str],
    *,
    variant: Variant = "fp32",
    threads: int | None = None,
    providers: Sequence[str] | None = None,
) -> OnnxModel:
    """Open an export. Its graphs are loaded when they are first used.

    Args:
        folder: The folder that the export was written to, or one that holds it alone.
        variant: Which files to use: ``"fp32"``, ``"fp16"`` or ``"q8"``. Those for videos are always
            in full precision.
        threads: Number of threads; None for as many as there are processors.
        providers: Names of onnxruntime's execution providers, the first choice first; None for the
            processor.

    Returns:
        The model.

    Raises:
        MissingFileError: If there is no such export, or it has no such variant.
        UnreadableError: If it is a file, or its config cannot be read.
        RefusedError: If its config is none that a model can have.
        UsageError: If there is no such variant, or ``threads`` is not above 0.
    """
    if variant not in VARIANTS:
        raise UsageError(f"variant: expected {', '.join(VARIANTS)}, found {variant!r}")
    if threads is not None and threads < 1:
        raise UsageError(f"threads: expected at least 1, found {threads}")
    path = Path(folder)
    if path.exists() and not path.is_dir():  # else a file below it would be named
        raise not_a_folder(path, WHICH)
    if path.is_dir() and not (path / FOLDER).is_dir():
        path = export_in(path) or path  # the only one below
    config = read_config(path / FOLDER / CONFIG_OF_ALL)
    model = OnnxModel(path, config, variant, threads, providers or PROVIDERS)
    for name in IMAGES:
        _check_variant(path / FOLDER, name, variant)
    return model


def _check_variant(folder: Path, name: str, variant: Variant) -> None:
    """Check that a file exists; if not, name the variants that do."""
    wanted = folder / f"{name}{VARIANTS[variant]}.onnx"
    if not wanted.exists():
        there = [one for one, end in VARIANTS.items() if (folder / f"{name}{end}.onnx").exists()]
        choice = " or ".join(f"`variant={one}`" for one in there)
        hint = f"did you mean {choice}?" if there else "export the model again"
        raise MissingFileError(f"{wanted}: no such file", hint=hint)


def _each(batch: int, x: Floats) -> Floats:
    """One row for each of ``batch`` prompts."""
    return x if len(x) == batch else np.broadcast_to(x, (batch, *x.shape[1:]))
