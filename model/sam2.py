"""The whole model: the steps of segmenting an image and of following an object in a video.

.. code-block:: python

    features = model.encode_image(pixels)
    masks = model.predict_masks(features, points=points, labels=labels)

For a video, three steps are repeated: a frame is conditioned on memories, it is segmented, and it
becomes a memory itself. The choice of memories, and everything else that lasts longer than a frame,
is left to :class:`~sam21convert.model.video_predictor.SAM2VideoPredictor`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import ModelConfig
from .image_encoder import ImageEncoder
from .layers import MLP, Activations
from .mask_decoder import MaskDecoder, MaskPrediction, Stability
from .memory_attention import MemoryAttention, MemoryAttentionLayer, RotaryAttention
from .memory_encoder import MemoryEncoder
from .position_encoding import sine_ages, sine_grid
from .prompt_encoder import PADDING, PromptEncoder
from .shapes import count_prompts, expect_shape

NO_OBJECT = -1024.0  # the logit everywhere in the mask of an object that is not in the picture
_GIVEN_SCALE, _GIVEN_BIAS = 20.0, -10.0  # a given mask's 0 and 1 as logits


class ImageFeatures(NamedTuple):
    """Features of ``B`` images, independent of any prompt; ``C`` is the config's ``hidden_dim``.

    Attributes:
        embedding: ``B x C x H x W``, at a sixteenth of the resolution of the pixels.
        high_res: Finer features, ``B x C/8 x 4H x 4W`` and ``B x C/4 x 2H x 2W``.
    """

    embedding: Tensor
    high_res: tuple[Tensor, Tensor]


class Segmentation(NamedTuple):
    """One object in each of ``B`` frames of ``S x S`` pixels.

    Attributes:
        low_res: Logits of the mask, ``B x 1 x S/4 x S/4``, float32.
        high_res: The same at the size of the input, ``B x 1 x S x S``.
        pointer: Object pointer, ``B x C``, to which later frames attend.
        object_score: ``B x 1``, a logit: above 0 the object is in the picture.
        candidates: What the mask was picked from, at the size of the input, ``B x M x S x S``.
        iou: ``B x M``, the IoU that the model expects each candidate to have with the true mask.
    """

    low_res: Tensor
    high_res: Tensor
    pointer: Tensor
    object_score: Tensor
    candidates: Tensor
    iou: Tensor


class SAM2(nn.Module):
    """SAM 2 or SAM 2.1, with the tensor names, order and shapes of the official checkpoints.

    Follows ``modeling/sam2_base.py`` and, for images, ``sam2_image_predictor.py``.

    Args:
        config: The architecture. Weights are to be loaded; most are zero or random at first.

    Attributes:
        recompute: Whether :meth:`recompute_activations` was called.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, memory_width = config.hidden_dim, config.memory_encoder.out_dim
        self.config = config
        self.recompute = False
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

    @property
    def image_size(self) -> int:
        """Side of the input, in pixels."""
        return self.config.image_size

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.no_mem_embed.device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights."""
        return self.no_mem_embed.dtype

    def regularise(self, dropout: float = 0.1, drop_path: float = 0.1) -> None:
        """Set what is left out at random in training; at first it is nothing.

        The defaults are those of the official fine-tuning.

        Args:
            dropout: Share of the values in memory attention: of attention itself, of what it gives,
                and of the feed-forward network.
            drop_path: Share of the images for which the last block of the trunk is left out;
                earlier ones are left out less often, the first one never.
        """
        blocks = self.image_encoder.trunk.blocks
        for block, rate in zip(
            blocks, torch.linspace(0, drop_path, len(blocks)).tolist(), strict=True
        ):
            block.drop_path = rate
        for part in self.memory_attention.modules():
            if isinstance(part, (MemoryAttentionLayer, RotaryAttention)):
                part.dropout = dropout

    def recompute_activations(self, *, on: bool = True) -> None:
        """Let training take less memory and more time: keep less for the gradients.

        What the blocks of the trunk, the layers of memory attention and the other steps of a frame
        compute is computed once more when gradients need it. The gradients are the same.

        Args:
            on: Whether to; at first it is off.
        """
        self.recompute = on
        self.image_encoder.trunk.recompute = self.memory_attention.recompute = on

    def encode_frame(self, pixels: Tensor, activations: Activations = None) -> ImageFeatures:
        """Compute the features of frames that depend neither on prompts nor on memories.

        Args:
            pixels: ``B x 3 x S x S`` with ``S`` the config's ``image_size``: RGB from 0 to 1, minus
                the ImageNet mean, divided by the ImageNet deviation.
            activations: Receives ``trunk.stage0`` to ``3`` and ``neck.level0`` to ``2``, finest
                first.

        Returns:
            The features, to which :meth:`without_memory` or :meth:`attend_to_memory` is applied
            before a prompt is answered.

        Raises:
            ValueError: If ``pixels`` has another shape.
        """
        expect_shape("pixels", pixels, None, 3, self.image_size, self.image_size)
        fine, middle, coarse = self.image_encoder(pixels.to(self.dtype), activations)
        decoder = self.sam_mask_decoder
        # These two convolutions belong to the decoder, but do not depend on prompts either.
        return ImageFeatures(coarse, (decoder.conv_s0(fine), decoder.conv_s1(middle)))

    def without_memory(self, frame: ImageFeatures) -> ImageFeatures:
        """Mark a frame as one without memories, by adding a learned embedding to every place.

        Args:
            frame: Features from :meth:`encode_frame`.

        Returns:
            Features that prompts can be answered from.
        """
        return frame._replace(embedding=frame.embedding + self.no_mem_embed.reshape(1, -1, 1, 1))

    def encode_image(self, pixels: Tensor, activations: Activations = None) -> ImageFeatures:
        """Compute the features of images that are not part of a video.

        Args:
            pixels: As for :meth:`encode_frame`.
            activations: As for :meth:`encode_frame`.

        Returns:
            Features for :meth:`predict_masks`.

        Raises:
            ValueError: If ``pixels`` has another shape than ``B x 3 x S x S``.
        """
        return self.without_memory(self.encode_frame(pixels, activations))

    def predict_masks(
        self,
        features: ImageFeatures,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        boxes: Tensor | None = None,
        mask_input: Tensor | None = None,
        multimask_output: bool = True,
        activations: Activations = None,
    ) -> MaskPrediction:
        """Predict masks for ``B`` prompts, each of which may have points, a box and a mask.

        Args:
            features: Features of ``B`` images, or of one image for all prompts.
            points: Points (x, y) in pixels of the input, ``B x N x 2``.
            labels: Their labels, ``B x N``: 1 on the object, 0 off it, 2 and 3 the first and the
                last corner of a box, -1 for a padding point.
            boxes: x0, y0, x1, y1 in pixels of the input, ``B x 4``.
            mask_input: Logits, ``B x 1 x 4H x 4W``, such as those of an earlier prediction, or one
                mask for all prompts.
            multimask_output: Whether to return three candidate masks per prompt instead of one.
                That one may be the best of the candidates; see the config's
                ``dynamic_multimask_via_stability``.
            activations: Receives ``prompt.sparse`` and ``prompt.dense``, and for all four masks
                ``decoder.tokens``, ``decoder.logits``, ``decoder.iou`` and
                ``decoder.object_score``.

        Returns:
            The masks, whose logits are not clamped.

        Raises:
            ValueError: If a shape is wrong or numbers of prompts differ.
        """
        grid, (image, high_res) = self.config.embedding_size, features
        self._check_features(features)
        batch = count_prompts(image.shape[0], grid, points, labels, boxes, mask_input)
        sparse, dense = self.sam_prompt_encoder(batch, points, labels, boxes, mask_input)
        if image.shape[0] != batch:
            image = image.repeat_interleave(batch, dim=0)  # B, C, H, W
        position = self.sam_prompt_encoder.dense_position()  # 1, C, H, W
        masks: MaskPrediction = self.sam_mask_decoder(image, position, sparse, dense, high_res)
        if activations is not None:
            activations.update({"prompt.sparse": sparse, "prompt.dense": dense})
            for name in ("tokens", "logits", "iou", "object_score"):
                activations[f"decoder.{name}"] = getattr(masks, name)
        return self.sam_mask_decoder.select(masks, multimask=multimask_output)

    def attend_to_memory(
        self,
        frame: ImageFeatures,
        spatial: Sequence[tuple[int, Tensor]],
        pointers: Sequence[tuple[int, Tensor]],
        longest: int,
        activations: Activations = None,
    ) -> ImageFeatures:
        """Condition the features of a frame on memories.

        Args:
            frame: Features from :meth:`encode_frame`.
            spatial: Rows of ``maskmem_tpos_enc`` and spatial memories, each ``B x K x H x W`` in
                any type. At least one.
            pointers: Distances in frames and object pointers, each ``B x C``.
            longest: The distance in frames that is encoded as 1.
            activations: Receives ``memory_attention.memory``, ``memory_attention.position`` and
                ``memory_attention.output``.

        Returns:
            Features that prompts can be answered from.
        """
        embedding = frame.embedding
        b, c, h, w = embedding.shape
        width = self.config.memory_encoder.out_dim
        place = sine_grid(width, h, w, self.device).to(self.dtype)
        place = place.flatten(2).permute(2, 0, 1).expand(-1, b, -1)  # H*W, B, K
        # Tokens come first here, as in the official code: gradients are summed in that order.
        memory = [features.to(place).flatten(2).permute(2, 0, 1) for _, features in spatial]
        position = [place + self.maskmem_tpos_enc[row] for row, _ in spatial]
        tokens = len(pointers) * (c // width)
        if pointers:
            # A pointer is wider than a token of a memory, so it is cut into several tokens.
            together = torch.stack([pointer for _, pointer in pointers])  # P, B, C
            cut = together.reshape(len(pointers), b, -1, width).transpose(1, 2)  # P, C/K, B, K
            memory.append(cut.flatten(0, 1).to(place))  # P*C/K, B, K
            ages = self._ages([distance for distance, _ in pointers], longest)  # P, K
            ages = ages[:, None].expand(-1, b, -1)  # P, B, K
            position.append(ages.repeat_interleave(c // width, dim=0))  # P*C/K, B, K
        memories, places = (torch.cat(each).transpose(0, 1) for each in (memory, position))
        conditioned = self.memory_attention(embedding, memories, places, tokens)
        if activations is not None:
            activations["memory_attention.memory"] = memories
            activations["memory_attention.position"] = places
            activations["memory_attention.output"] = conditioned
        return frame._replace(embedding=conditioned)

    def _ages(self, distances: Sequence[int], longest: int) -> Tensor:
        """Position encoding of object pointers by their distance, ``P x K``; zeros in SAM 2.0."""
        if self.config.generation == "2.0":
            return self.maskmem_tpos_enc.new_zeros(len(distances), self.maskmem_tpos_enc.shape[-1])
        # In a video of one frame, ``longest`` is 0 and the frame's only memory is its own.
        ages = torch.tensor(distances, device=self.device) / max(longest, 1)
        encoded: Tensor = self.obj_ptr_tpos_proj(
            sine_ages(ages, self.config.hidden_dim).to(self.dtype)
        )
        return encoded  # P, K

    def predict_single_mask(
        self,
        features: ImageFeatures,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        mask_input: Tensor | None = None,
        multimask_output: bool = False,
        activations: Activations = None,
    ) -> Segmentation:
        """Predict one mask of one object in each of ``B`` frames, and its object pointer.

        Follows ``_forward_sam_heads`` of ``modeling/sam2_base.py``.

        Args:
            features: Features of ``B`` frames, after memories or their absence were added.
            points: As for :meth:`predict_masks`.
            labels: As for :meth:`predict_masks`.
            mask_input: As for :meth:`predict_masks`.
            multimask_output: Whether to take the best of three candidates, by expected IoU.
            activations: Receives those of :meth:`predict_masks` and ``pointer``.

        Returns:
            The mask, which is -1024 everywhere on a frame without the object.

        Raises:
            ValueError: If a shape is wrong or numbers of prompts differ.
        """
        if points is None:
            # In a video the decoder always gets a point. Without one it is a padding point, and
            # the prompt encoder adds another; the official code has both as well.
            batch = features.embedding.shape[0]
            points = torch.zeros(batch, 1, 2, device=self.device)
            labels = torch.full((batch, 1), PADDING, device=self.device)
        masks = self.predict_masks(
            features, points, labels, None, mask_input, multimask_output, activations
        )
        row = torch.arange(len(masks.iou), device=masks.iou.device)
        best = masks.iou.argmax(dim=-1)  # B
        present = masks.object_score > 0  # B, 1
        low_res = torch.where(present[..., None, None], masks.logits, NO_OBJECT).float()
        # All candidates are resized before one is picked, as in the official code: a channel that
        # is resized by itself is rounded differently.
        candidates = self.resize_masks(low_res, self.image_size)
        pointer = self._pointer(self.obj_ptr_proj(masks.tokens[row, best]), present)
        if activations is not None:
            activations["pointer"] = pointer
        return Segmentation(
            low_res[row, best][:, None],  # B, 1, S/4, S/4
            candidates[row, best][:, None],  # B, 1, S, S
            pointer,
            masks.object_score,
            candidates,
            masks.iou,
        )

    def use_mask_as_output(
        self, frame: ImageFeatures, masks: Tensor, activations: Activations = None
    ) -> Segmentation:
        """Turn given masks into what :meth:`predict_single_mask` returns.

        The decoder is used for the object pointer only. Whether the object is in the picture is
        told by the mask. Follows ``_use_mask_as_output`` of ``modeling/sam2_base.py``.

        Args:
            frame: Features from :meth:`encode_frame`, without memories.
            masks: ``B x 1 x S x S``, 0 or 1.
            activations: As for :meth:`predict_single_mask`.

        Returns:
            The given masks as logits, -10 and 10, with the object pointer and score.

        Raises:
            ValueError: If ``masks`` has another shape.
        """
        expect_shape("masks", masks, None, 1, self.image_size, self.image_size)
        high_res = given_logits(masks)
        quarter = self.image_size // 4
        low_res = F.interpolate(high_res, size=(quarter, quarter), mode="bilinear", antialias=True)
        prompt = self.mask_downsample(masks.to(self.dtype))  # B, 1, S/4, S/4
        pointer = self.predict_single_mask(
            frame, mask_input=prompt, activations=activations
        ).pointer
        present = (masks > 0).flatten(1).any(dim=1, keepdim=True)  # B, 1
        # The pointer has this done to it twice in the official code too: by the decoder's verdict
        # on whether the object is there, and now by the mask.
        pointer = self._pointer(pointer, present)
        if activations is not None:
            activations["pointer"] = pointer
        score = _GIVEN_SCALE * present.to(pointer.dtype) + _GIVEN_BIAS
        return Segmentation(low_res, high_res, pointer, score, high_res, torch.ones_like(score))

    def encode_memory(
        self,
        frame: ImageFeatures,
        masks: Tensor,
        object_score: Tensor,
        *,
        binarize: bool = False,
        activations: Activations = None,
    ) -> Tensor:
        """Make a spatial memory of a frame.

        Follows ``_encode_new_memory`` of ``modeling/sam2_base.py``.

        Args:
            frame: Features from :meth:`encode_frame`, without memories.
            masks: Logits of the masks, ``B x 1 x S x S``.
            object_score: ``B x 1``, a logit. SAM 2.1 marks frames where it is not above 0.
            binarize: Whether only the sign of the logits counts.
            activations: Receives ``memory_encoder.output``, before that mark is added.

        Returns:
            ``B x K x H x W``.

        Raises:
            ValueError: If ``masks`` has another shape.
        """
        expect_shape("masks", masks, None, 1, self.image_size, self.image_size)
        share = (masks > 0).to(masks.dtype) if binarize else torch.sigmoid(masks)
        config = self.config
        scaled = share * config.sigmoid_scale_for_mem_enc + config.sigmoid_bias_for_mem_enc
        memory: Tensor = self.memory_encoder(frame.embedding, scaled.to(self.dtype))
        if activations is not None:
            activations["memory_encoder.output"] = memory
        if config.generation == "2.1":
            absent = (object_score <= 0).to(memory.dtype)[..., None, None]  # B, 1, 1, 1
            mark = self.no_obj_embed_spatial[..., None, None]  # 1, K, 1, 1
            memory = (memory + absent * mark.expand_as(memory)).to(memory.dtype)
        return memory

    def _pointer(self, pointer: Tensor, present: Tensor) -> Tensor:
        """``B x C`` pointers, replaced by a learned one where ``present`` (``B x 1``) is false."""
        share = present.to(pointer.dtype)
        return share * pointer + (1 - share) * self.no_obj_ptr

    @staticmethod
    def resize_masks(logits: Tensor, *size: int) -> Tensor:
        """Resize masks bilinearly.

        Args:
            logits: ``B x M x H x W``.
            *size: The new height and width in pixels, or one number for both.

        Returns:
            The logits at the new size.
        """
        return F.interpolate(logits, size=(size[0], size[-1]), mode="bilinear")

    def _check_features(self, features: ImageFeatures) -> None:
        c, grid = self.config.hidden_dim, self.config.embedding_size
        fine, middle = features.high_res
        expect_shape("features.embedding", features.embedding, None, c, grid, grid)
        images = features.embedding.shape[0]
        expect_shape("features.high_res[0]", fine, images, c // 8, 4 * grid, 4 * grid)
        expect_shape("features.high_res[1]", middle, images, c // 4, 2 * grid, 2 * grid)


def given_logits(masks: Tensor) -> Tensor:
    """The logits that stand for given masks.

    Args:
        masks: 0 and 1, of any shape.

    Returns:
        -10 and 10, float32.
    """
    return masks.float() * _GIVEN_SCALE + _GIVEN_BIAS
