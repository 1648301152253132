"""Turns points, boxes and masks into embeddings for the mask decoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import LayerNorm2d
from .position_encoding import PositionEmbeddingRandom

_MASK_CHANNELS = 16
_LABELS = 4  # 0 negative point, 1 positive point, 2 and 3 the corners of a box
PADDING = -1  # the label of a padding point


class PromptEncoder(nn.Module):
    """Makes sparse embeddings of points and boxes, and dense embeddings of masks.

    Follows ``modeling/sam/prompt_encoder.py``. Boxes are treated as ``sam2_image_predictor.py``
    treats them: as two points with labels of their own.

    Args:
        width: Channels ``C`` of every embedding.
        image_size: Side of the model's input, in pixels.
        grid: Side of the image embedding, in tokens.
    """

    def __init__(self, width: int, image_size: int, grid: int) -> None:
        super().__init__()
        self.image_size = image_size
        self.grid = grid
        self.pe_layer = PositionEmbeddingRandom(width)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, width) for _ in range(_LABELS))
        self.not_a_point_embed = nn.Embedding(1, width)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, _MASK_CHANNELS // 4, kernel_size=2, stride=2),
            LayerNorm2d(_MASK_CHANNELS // 4),
            nn.GELU(),
            nn.Conv2d(_MASK_CHANNELS // 4, _MASK_CHANNELS, kernel_size=2, stride=2),
            LayerNorm2d(_MASK_CHANNELS),
            nn.GELU(),
            nn.Conv2d(_MASK_CHANNELS, width, kernel_size=1),
        )
        self.no_mask_embed = nn.Embedding(1, width)

    def forward(
        self,
        batch: int,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Embed the prompts.

        Args:
            batch: Number of prompts ``B``.
            points: Points (x, y) in pixels of the model's input, ``B x N x 2``.
            labels: Their labels, ``B x N``: 1 on the object, 0 off it, 2 and 3 the first and the
                last corner of a box, -1 for a padding point.
            boxes: x0, y0, x1, y1 in pixels of the model's input, ``B x 4``.
            masks: Logits, ``B x 1 x 4*grid x 4*grid``, or one mask for all prompts.

        Returns:
            Sparse embeddings, ``B x T x C``, and dense ones, ``B x C x grid x grid``, or 1 for all
            prompts. ``T`` counts two tokens of a box, one of each point and a padding token after
            them; without points and boxes it is 0.
        """
        if boxes is not None:
            corners = boxes.reshape(-1, 2, 2)  # B, 2, 2
            kinds = torch.tensor([[2, 3]], device=boxes.device).expand(batch, -1)  # B, 2
            points = corners if points is None else torch.cat((corners, points), dim=1)
            labels = kinds if labels is None else torch.cat((kinds, labels), dim=1)
        if points is None or labels is None:
            sparse = self.not_a_point_embed.weight.new_empty(batch, 0, self.width)
        else:
            sparse = self.embed_points(points, labels)
        return sparse, self.embed_masks(masks, batch)

    @property
    def width(self) -> int:
        """Channels of every embedding."""
        return self.not_a_point_embed.embedding_dim

    def embed_points(self, points: Tensor, labels: Tensor) -> Tensor:
        """Embed points, and add a padding token.

        Args:
            points: ``B x N x 2``, in pixels.
            labels: ``B x N``.

        Returns:
            ``B x N+1 x C``; the last token is padding.
        """
        # Coordinates count from the corner of a pixel; half a pixel leads to its centre.
        centres = F.pad(points.float() + 0.5, (0, 0, 0, 1))  # B, N+1, 2
        labels = F.pad(labels.int(), (0, 1), value=PADDING)[..., None]  # B, N+1, 1
        encoded = self.pe_layer(centres / self.image_size)  # B, N+1, C
        encoded = torch.where(labels == PADDING, self.not_a_point_embed.weight, encoded)
        for label, embedding in enumerate(self.point_embeddings.parameters()):
            encoded = torch.where(labels == label, encoded + embedding, encoded)
        return encoded  # B, N+1, C

    def embed_masks(self, masks: Tensor | None, batch: int) -> Tensor:
        """Embed masks, or their absence.

        Args:
            masks: Logits, ``B x 1 x 4*grid x 4*grid``, or None.
            batch: Number of prompts.

        Returns:
            ``B x C x grid x grid``; without masks ``batch`` copies of a learned embedding.
        """
        if masks is None:
            no_mask = self.no_mask_embed.weight.reshape(1, -1, 1, 1)  # 1, C, 1, 1
            return no_mask.expand(batch, -1, self.grid, self.grid)  # B, C, grid, grid
        dense: Tensor = self.mask_downscaling(masks.to(self.no_mask_embed.weight.dtype))
        return dense  # B, C, grid, grid

    def dense_position(self) -> Tensor:
        """Encode every place of the image embedding.

        Returns:
            ``1 x C x grid x grid``.
        """
        return self.pe_layer.grid(self.grid)
