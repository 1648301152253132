"""The layout of samexporter 0.5, which labelling tools read: two files and no settings.

``NAME.encoder.onnx`` and ``NAME.decoder.onnx``. Tools feed by position, so that the order of inputs
counts. A box is two points with labels 2 and 3; pictures are normalised outside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..io.onnx import Variant
from ..report import Progress
from .decoder import Decode, decode, decode_as_the_model
from .folder import ExportedFile, Written, write_graph
from .graphs import Axes, Graph

if TYPE_CHECKING:
    from ..model.sam2 import SAM2

_CLAMP = 32.0  # largest magnitude of a logit that is given out
_LABELS = "num_labels"


class Encoder(Graph):
    """Images to features."""

    file = "encoder"
    inputs = (Axes("image", {0: "batch_size"}),)
    outputs = tuple(
        Axes(name, {0: "batch_size"})
        for name in ("high_res_feats_0", "high_res_feats_1", "image_embed")
    )
    traced, tried = (2,), ((1,),)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Encode images.

        Args:
            image: ``B x 3 x S x S``, normalised.

        Returns:
            ``B x C/8 x S/4 x S/4``, ``B x C/4 x S/8 x S/8`` and ``B x C x S/16 x S/16``.
        """
        return self.features(image)[:3]

    def _inputs(self, *sizes: int) -> tuple[Tensor, ...]:
        return self.images(*sizes)


class Decoder(Graph):
    """Points, and masks to start from, to three candidates for each of ``P`` objects."""

    file = "decoder"
    inputs = (
        Axes("image_embed", {}),
        Axes("high_res_feats_0", {}),
        Axes("high_res_feats_1", {}),
        Axes("point_coords", {0: _LABELS, 1: "num_points"}),
        Axes("point_labels", {0: _LABELS, 1: "num_points"}),
        Axes("mask_input", {0: _LABELS}),
        Axes("has_mask_input", {0: "num_flags"}),
    )
    outputs = (Axes("masks", {0: _LABELS}), Axes("iou_predictions", {0: _LABELS}))
    # Objects, points of each, flags.
    traced, tried = (3, 4, 3), ((1, 1, 1), (1, 2, 1), (2, 3, 1), (2, 3, 2))

    def forward(
        self,
        image_embed: Tensor,
        high_res_feats_0: Tensor,
        high_res_feats_1: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Predict masks.

        Args:
            image_embed: Of one image, ``1 x C x S/16 x S/16``.
            high_res_feats_0: ``1 x C/8 x S/4 x S/4``.
            high_res_feats_1: ``1 x C/4 x S/8 x S/8``.
            point_coords: Points (x, y) in pixels of the input, ``P x N x 2``.
            point_labels: ``P x N``, float.
            mask_input: Logits, ``P x 1 x S/4 x S/4``.
            has_mask_input: 1 where ``mask_input`` counts, else 0; one for each object, or one for
                all.

        Returns:
            Logits from -32 to 32, ``P x 3 x S/4 x S/4``, and expected IoU, ``P x 3``.
        """
        return self._predict(
            decode,
            image_embed,
            high_res_feats_0,
            high_res_feats_1,
            point_coords,
            point_labels,
            mask_input,
            has_mask_input,
        )

    def _expected(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return self._predict(decode_as_the_model, *inputs)

    def _predict(
        self,
        decode: Decode,
        image_embed: Tensor,
        high_res_feats_0: Tensor,
        high_res_feats_1: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
    ) -> tuple[Tensor, Tensor]:
        prompts, objects = self.sam_prompt_encoder, point_coords.shape[0]
        # Two sizes that may differ cannot be broadcast; this takes one flag, or one for each.
        flags = has_mask_input.reshape(-1).repeat(objects)[:objects, None, None, None]
        dense = torch.where(
            flags > 0, prompts.embed_masks(mask_input, 1), prompts.embed_masks(None, 1)
        )
        found = decode(
            self.sam_mask_decoder,
            (image_embed + dense)[None],
            prompts.dense_position(),
            prompts.embed_points(point_coords, point_labels)[None],
            (high_res_feats_0, high_res_feats_1),
        )
        return found.logits[0, :, 1:].clamp(-_CLAMP, _CLAMP), found.iou[0, :, 1:]

    def _inputs(self, *sizes: int) -> tuple[Tensor, ...]:
        (objects, points, flags), side = sizes, self.config.image_size
        finest, finer, embedding = self.embeddings(1)
        return (
            embedding,
            finest,
            finer,
            torch.rand(objects, points, 2) * side,
            torch.randint(-1, 4, (objects, points)).float(),
            torch.randn(objects, 1, side // 4, side // 4),
            torch.arange(1, flags + 1, dtype=torch.float32) % 2,
        )


def write_samexporter(
    model: SAM2,
    folder: Path,
    name: str,
    variants: Sequence[Variant],
    metadata: Mapping[str, str],
    progress: Progress,
) -> Written:
    """Fill a folder, and run every file before it counts as written.

    Args:
        model: The model, in evaluation mode and float32.
        folder: An empty folder.
        name: What the names of the files begin with.
        variants: Keys of ``VARIANTS``.
        metadata: Where the model comes from.
        progress: Told of each graph.

    Returns:
        What was written.

    Raises:
        MismatchError: If a graph in float32 computes something else than the model.
    """
    graphs, found = (Encoder(model), Decoder(model)), list[ExportedFile]()
    progress.start("exporting", 2 * len(graphs))
    for graph in graphs:
        stem = f"{name}.{graph.file}"
        found += write_graph(graph, folder, stem, variants, metadata, progress).files
    return Written(tuple(found), (), ())
