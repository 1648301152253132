"""The parts of the model that become ONNX graphs: what goes in, what comes out, by name.

Each graph holds the modules of :class:`~sam21convert.model.sam2.SAM2` under their own names, so
that the tensors in an exported file have canonical names. Sizes are taken from shapes, never from
``len``: the exporter would take the size of its example for a constant.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..model.image_encoder import ImageEncoder
from ..model.layers import MLP
from ..model.mask_decoder import MaskDecoder
from ..model.memory_attention import MemoryAttention
from ..model.memory_encoder import MemoryEncoder
from ..model.prompt_encoder import PromptEncoder
from ..model.sam2 import SAM2
from .decoder import Decode, decode, decode_as_the_model

_CORNERS = 2, 4  # labels of the first and last corner of a box, and what follows


class Axes(NamedTuple):
    """An input or an output of a graph, with names for the axes that may have any size.

    Attributes:
        name: Its name in the file.
        axes: The names, by axis.
    """

    name: str
    axes: dict[int, str]


class Graph(nn.Module):
    """A part of the model with fixed inputs and outputs.

    Args:
        model: The model, in evaluation mode and float32.

    Attributes:
        file: Name of the file, without its ending.
        inputs: What goes in, in order.
        outputs: What comes out, in order.
        traced: Sizes of the free axes to trace with. They all differ and are larger than 1: the
            exporter takes an axis of 1, and equal sizes, for something that never changes.
        tried: Other sizes that the file is then run with.
        config: The config of the model.
        weights: Names of the tensors of the model.
    """

    file: str
    inputs: tuple[Axes, ...]
    outputs: tuple[Axes, ...]
    traced: tuple[int, ...]
    tried: tuple[tuple[int, ...], ...]

    image_encoder: ImageEncoder
    memory_attention: MemoryAttention
    memory_encoder: MemoryEncoder
    sam_prompt_encoder: PromptEncoder
    sam_mask_decoder: MaskDecoder
    obj_ptr_proj: MLP
    obj_ptr_tpos_proj: nn.Linear
    maskmem_tpos_enc: Tensor
    no_mem_embed: Tensor
    no_obj_ptr: Tensor
    no_obj_embed_spatial: Tensor

    def __init__(self, model: SAM2) -> None:
        super().__init__()
        self.config = model.config
        self.weights = {*model.state_dict()}
        for name, module in model.named_children():
            self.add_module(name, module)
        for name, tensor in model.named_parameters(recurse=False):
            self.register_parameter(name, tensor)

    def example(self) -> tuple[Tensor, ...]:
        """Make inputs to trace the graph with.

        Returns:
            One tensor for each input.
        """
        return self._inputs(*self.traced)

    def trials(self) -> Iterator[tuple[Tensor, ...]]:
        """Make inputs of other sizes than the example's.

        An export that succeeds can still be a file that takes one size only, or refuses its own
        example.

        Yields:
            One tensor for each input.
        """
        for sizes in self.tried:
            yield self._inputs(*sizes)

    def _inputs(self, *sizes: int) -> tuple[Tensor, ...]:
        """Random inputs of the given sizes."""
        raise NotImplementedError

    def expected(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Compute by the model's own code what a file of the graph must give.

        Args:
            *inputs: One tensor for each input.

        Returns:
            One tensor for each output.
        """
        found = self._expected(*inputs)
        return found if isinstance(found, tuple) else (found,)

    def _expected(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """What :meth:`expected` gives, where ``forward`` does not compute as the model does."""
        found: Tensor | tuple[Tensor, ...] = self(*inputs)
        return found

    def features(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Encode images.

        Args:
            pixels: ``B x 3 x S x S``, normalised.

        Returns:
            ``B x C/8 x S/4 x S/4``, ``B x C/4 x S/8 x S/8``, and ``B x C x S/16 x S/16`` with
            ``no_mem_embed`` and without.
        """
        fine, middle, coarse = self.image_encoder(pixels)
        decoder = self.sam_mask_decoder
        marked = coarse + self.no_mem_embed.reshape(1, -1, 1, 1)
        return decoder.conv_s0(fine), decoder.conv_s1(middle), marked, coarse

    def images(self, count: int) -> tuple[Tensor]:
        """Make images to trace with.

        Args:
            count: Number of images ``B``.

        Returns:
            ``B x 3 x S x S``.
        """
        side = self.config.image_size
        return (torch.randn(count, 3, side, side),)

    def embeddings(self, images: int) -> tuple[Tensor, Tensor, Tensor]:
        """Make features of images to trace with.

        Args:
            images: Number of images ``B``.

        Returns:
            As of :class:`VisionEncoder`.
        """
        c, grid = self.config.hidden_dim, self.config.embedding_size
        return (
            torch.randn(images, c // 8, 4 * grid, 4 * grid),
            torch.randn(images, c // 4, 2 * grid, 2 * grid),
            torch.randn(images, c, grid, grid),
        )


BATCH, _OBJECTS = "batch_size", "objects"
# Features of images, finest first: what one graph gives and the others take.
EMBEDDINGS = tuple(Axes(f"image_embeddings.{level}", {0: BATCH}) for level in range(3))


class VisionEncoder(Graph):
    """Images to features. The layout is that of transformers.js.

    Args:
        model: The model.
        picture: The image that a file is run with, ``1 x 3 x S x S``. It is that of the example,
            which needs no second encoding then.
        frames: Whether the features of frames, which have no memory added, are an output as well.
    """

    file = "vision_encoder"
    inputs = (Axes("pixel_values", {0: BATCH}),)
    traced, tried = (2,), ((1,),)

    def __init__(self, model: SAM2, picture: Tensor, *, frames: bool = False) -> None:
        super().__init__(model)
        self.picture, self.frames = picture, frames
        self.outputs = (*EMBEDDINGS, *([Axes("frame_embedding", {0: BATCH})] if frames else []))

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        """Encode images.

        Args:
            pixel_values: ``B x 3 x S x S``, normalised.

        Returns:
            ``B x C/8 x S/4 x S/4``, ``B x C/4 x S/8 x S/8`` and ``B x C x S/16 x S/16``, the last
            once more without ``no_mem_embed`` if the graph is for frames.
        """
        found = self.features(pixel_values)
        return found if self.frames else found[:3]

    def trials(self) -> Iterator[tuple[Tensor, ...]]:
        """Give the picture.

        Yields:
            One image.
        """
        yield (self.picture,)

    def _inputs(self, *sizes: int) -> tuple[Tensor, ...]:
        return self.images(*sizes)


class PromptDecoder(Graph):
    """Points and boxes to three candidate masks. The layout is that of transformers.js.

    The number of objects is that of the labels. Boxes are pairs of points with labels of their own;
    either may be absent, with a size of 0.
    """

    file = "prompt_encoder_mask_decoder"
    inputs = (
        Axes("input_points", {0: BATCH, 1: "point_objects", 2: "points"}),
        Axes("input_labels", {0: BATCH, 1: _OBJECTS, 2: "points"}),
        Axes("input_boxes", {0: BATCH, 1: "boxes"}),
        *EMBEDDINGS,
    )
    outputs = (
        Axes("iou_scores", {0: BATCH, 1: _OBJECTS}),
        Axes("pred_masks", {0: BATCH, 1: _OBJECTS}),
        Axes("object_score_logits", {0: BATCH, 1: _OBJECTS}),
    )
    # Images, objects, points of each, boxes.
    traced = 2, 3, 4, 3
    tried = (1, 1, 1, 0), (1, 1, 0, 1), (1, 3, 2, 0), (2, 3, 2, 0), (1, 4, 0, 4), (2, 2, 2, 2)

    def forward(
        self,
        input_points: Tensor,
        input_labels: Tensor,
        input_boxes: Tensor,
        finest: Tensor,
        finer: Tensor,
        embedding: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Predict three masks for each of ``P`` objects in each of ``B`` images.

        Args:
            input_points: Points (x, y) in pixels of the input, ``B x P' x N x 2``, with ``P'`` that
                of the labels, or 1 if there are none.
            input_labels: ``B x P x N``, int64.
            input_boxes: x0, y0, x1, y1 in pixels of the input, ``B x P x 4`` or ``B x 0 x 4``.
            finest: ``image_embeddings.0``.
            finer: ``image_embeddings.1``.
            embedding: ``image_embeddings.2``.

        Returns:
            Expected IoU, ``B x P x 3``; logits, ``B x P x 3 x S/4 x S/4``; and a logit of whether
            the object is there, ``B x P x 1``.
        """
        return self._predict(
            decode, input_points, input_labels, input_boxes, finest, finer, embedding
        )

    def _expected(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return self._predict(decode_as_the_model, *inputs)

    def _predict(
        self,
        decode: Decode,
        input_points: Tensor,
        input_labels: Tensor,
        input_boxes: Tensor,
        finest: Tensor,
        finer: Tensor,
        embedding: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        images, objects = input_labels.shape[0], input_labels.shape[1]
        rows = images * objects
        corners = input_boxes.shape[1] * 2 // objects
        points = input_points.reshape(rows, -1, 2)
        boxes = input_boxes.reshape(rows, corners, 2)
        kinds = torch.arange(*_CORNERS)[None].expand(rows, 2)[:, :corners]
        prompts = self.sam_prompt_encoder
        sparse = prompts.embed_points(
            torch.cat((points, boxes), dim=1),
            torch.cat((input_labels.reshape(rows, -1), kinds), dim=1),
        )  # B*P, T, C
        masks = decode(
            self.sam_mask_decoder,
            (embedding + prompts.embed_masks(None, 1))[:, None],
            prompts.dense_position(),
            sparse.reshape(images, objects, -1, prompts.width),
            (finest, finer),
        )
        return masks.iou[:, :, 1:], masks.logits[:, :, 1:], masks.object_score

    def _inputs(self, *sizes: int) -> tuple[Tensor, ...]:
        images, objects, points, boxes = sizes
        side, with_points = self.config.image_size, objects if points else 1
        return (
            torch.rand(images, with_points, points, 2) * side,
            torch.randint(0, 2, (images, objects, points)),
            torch.rand(images, boxes, 4) * side,
            *self.embeddings(images),
        )
