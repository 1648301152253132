"""The whole model, and the two steps of segmenting an image.

.. code-block:: python

    features = model.encode_image(pixels)
    masks = model.predict_masks(features, points=points, labels=labels)
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .config import ModelConfig
from .decoder import MaskDecoder, MaskPrediction, Stability
from .image_encoder import ImageEncoder
from .layers import MLP, Taps
from .memory import MemoryAttention, MemoryEncoder
from .prompt import PromptEncoder


class ImageFeatures(NamedTuple):
    """What the model knows of B images before any prompt; C is ``hidden_dim``."""

    embedding: Tensor  # B x C x H x W, a sixteenth as fine as the pixels
    high_res: tuple[Tensor, Tensor]  # B x C/8 x 4H x 4W and B x C/4 x 2H x 2W


class SAM2(nn.Module):
    """SAM 2 or SAM 2.1 with the tensors of the official checkpoints, by name, order and shape.

    Images can be segmented; the memory of a video cannot run yet. Follows
    ``modeling/sam2_base.py`` and, in what it does with an image, ``sam2_image_predictor.py``.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, memory_width = config.hidden_dim, config.memory_encoder.out_dim
        self.config = config
        self.maskmem_tpos_enc = nn.Parameter(torch.zeros(config.num_maskmem, 1, 1, memory_width))
        self.no_mem_embed = nn.Parameter(torch.zeros(1, 1, width))
        self.no_mem_pos_enc = nn.Parameter(torch.zeros(1, 1, width))
        self.no_obj_ptr = nn.Parameter(torch.zeros(1, width))
        if config.generation == "2.1":
            self.no_obj_embed_spatial = nn.Parameter(torch.zeros(1, memory_width))

        self.image_encoder = ImageEncoder(config.trunk, width, config.fpn_top_down_levels)
        self.mask_downsample = nn.Conv2d(1, 1, kernel_size=4, stride=4)
        self.memory_attention = MemoryAttention(width, memory_width, config.memory_attention)
        self.memory_encoder = MemoryEncoder(width, config.memory_encoder)
        self.sam_prompt_encoder = PromptEncoder(width, config.image_size, config.embedding_size)
        self.sam_mask_decoder = MaskDecoder(
            width,
            Stability(
                config.dynamic_multimask_via_stability,
                config.dynamic_multimask_stability_delta,
                config.dynamic_multimask_stability_thresh,
            ),
        )
        self.obj_ptr_proj = MLP(width, width, width, 3)
        if config.generation == "2.1":
            self.obj_ptr_tpos_proj = nn.Linear(width, memory_width)

    def encode_image(self, pixels: Tensor, taps: Taps = None) -> ImageFeatures:
        """Everything about images that does not depend on a prompt.

        ``pixels`` is ``B x 3 x S x S`` with S the config's ``image_size``: RGB, scaled to 0..1,
        less the ImageNet mean, over the ImageNet deviation. ``taps``, when given, receives
        ``trunk.stage0`` to ``3`` and ``neck.level0`` to ``2``, finest first.

        Raises ValueError when ``pixels`` has another shape.
        """
        side = self.config.image_size
        _expect("pixels", pixels, None, 3, side, side)
        pixels = pixels.to(self.no_mem_embed.dtype)
        fine, middle, coarse = self.image_encoder(pixels, taps)
        # An image has no past: every place of it gets the embedding that says so.
        return ImageFeatures(
            embedding=coarse + self.no_mem_embed.reshape(1, -1, 1, 1),  # B, C, H, W
            high_res=(self.sam_mask_decoder.conv_s0(fine), self.sam_mask_decoder.conv_s1(middle)),
        )

    def predict_masks(
        self,
        features: ImageFeatures,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        boxes: Tensor | None = None,
        mask_input: Tensor | None = None,
        multimask_output: bool = True,
        taps: Taps = None,
    ) -> MaskPrediction:
        """Masks for B prompts, each of which may have points, a box and a mask.

        ``points`` is ``B x N x 2``, (x, y) in input pixels, with ``labels`` ``B x N``: 1 on the
        object, 0 off it, -1 no point. ``boxes`` is ``B x 4``, (x0, y0, x1, y1) in input pixels.
        ``mask_input`` holds logits, ``B x 1 x 4H x 4W``, such as an earlier prediction's.
        ``features`` are those of B images or of one for all prompts.

        Three candidate masks per prompt with ``multimask_output``, else one; that one may be the
        best of the candidates, see the config's ``dynamic_multimask_via_stability``. Logits are not
        clamped. ``taps``, when given, receives ``prompt.sparse`` and ``prompt.dense``, and of all
        four masks ``decoder.tokens``, ``.logits``, ``.iou`` and ``.object_score``.

        Raises ValueError when a shape is wrong or numbers of prompts differ.
        """
        batch = self._check_prompts(features, points, labels, boxes, mask_input)
        sparse, dense = self.sam_prompt_encoder(batch, points, labels, boxes, mask_input)
        image = features.embedding
        if image.shape[0] != batch:
            image = image.repeat_interleave(batch, dim=0)  # B, C, H, W
        position = self.sam_prompt_encoder.dense_position()  # 1, C, H, W
        masks: MaskPrediction = self.sam_mask_decoder(
            image, position, sparse, dense, features.high_res
        )
        if taps is not None:
            taps.update({"prompt.sparse": sparse, "prompt.dense": dense})
            for name in ("tokens", "logits", "iou", "object_score"):
                taps[f"decoder.{name}"] = getattr(masks, name)
        return self.sam_mask_decoder.select(masks, multimask=multimask_output)

    def _check_prompts(
        self,
        features: ImageFeatures,
        points: Tensor | None,
        labels: Tensor | None,
        boxes: Tensor | None,
        mask_input: Tensor | None,
    ) -> int:
        """Check all shapes of :meth:`predict_masks` and return the number of prompts."""
        c, grid = self.config.hidden_dim, self.config.embedding_size
        fine, middle = features.high_res
        _expect("features.embedding", features.embedding, None, c, grid, grid)
        images = features.embedding.shape[0]
        _expect("features.high_res[0]", fine, images, c // 8, 4 * grid, 4 * grid)
        _expect("features.high_res[1]", middle, images, c // 4, 2 * grid, 2 * grid)
        if (points is None) != (labels is None):
            raise ValueError("points and labels: expected both or neither, found one")
        given = [prompt for prompt in (points, boxes, mask_input) if prompt is not None]
        batch = given[0].shape[0] if given and given[0].ndim else images
        if points is not None and labels is not None:
            _expect("points", points, batch, None, 2)
            _expect("labels", labels, batch, points.shape[1])
        if boxes is not None:
            _expect("boxes", boxes, batch, 4)
        if mask_input is not None:
            _expect("mask_input", mask_input, batch, 1, 4 * grid, 4 * grid)
        if images not in (1, batch):
            raise ValueError(f"features: expected those of 1 or {batch} images, found {images}")
        return batch


def _expect(name: str, tensor: Tensor, *shape: int | None) -> None:
    """Raise ValueError unless the shape fits; None stands for any size."""
    if tensor.ndim == len(shape) and all(
        want in (None, have) for want, have in zip(shape, tensor.shape, strict=True)
    ):
        return
    expected = " x ".join("any" if size is None else str(size) for size in shape)
    found = " x ".join(map(str, tensor.shape)) or "a scalar"
    raise ValueError(f"{name}: expected shape {expected}, found {found}")
