"""From image features and prompts to masks: a small two-way transformer and its heads.

Six learned tokens enter together with those of the prompts: one for whether the object is there,
one for how good each mask is, one for a single mask, and three for candidates when a prompt is
ambiguous. Follows Segment Anything (arXiv 2304.02643, appendix A) and SAM 2 (arXiv 2408.00714,
section 4).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .layers import MLP, Attention, LayerNorm2d

_DEPTH = 2
_HEADS = 8
_MLP_WIDTH = 2048
_DOWNSAMPLE = 2  # cross-attention works at half the width
_CANDIDATES = 3
_IOU_WIDTH = 256


class MaskPrediction(NamedTuple):
    """``M`` masks for each of ``B`` prompts.

    Attributes:
        logits: ``B x M x 4H x 4W``, four times as fine as the image embedding; above 0 is object.
        iou: ``B x M``, the IoU that the model expects each mask to have with the true mask, 0 to 1.
        object_score: ``B x 1``, a logit: above 0 the object is in the picture.
        tokens: ``B x M x C``, from which object pointers are made.
    """

    logits: Tensor
    iou: Tensor
    object_score: Tensor
    tokens: Tensor


class Stability(NamedTuple):
    """When a single mask is stable enough to be kept.

    Attributes:
        enabled: The config's ``dynamic_multimask_via_stability``.
        delta: The config's ``dynamic_multimask_stability_delta``.
        threshold: The config's ``dynamic_multimask_stability_thresh``.
    """

    enabled: bool
    delta: float
    threshold: float


class TwoWayBlock(nn.Module):
    """Tokens attend to each other and to the image, then the image attends to the tokens.

    Positions are added to queries and keys before every attention, never to values. Follows
    ``TwoWayAttentionBlock`` of ``modeling/sam/transformer.py``.

    Args:
        width: Channels ``C`` of tokens and image.
        first: Whether this is the first block; ``skip_first_layer_pe`` in the official code.
    """

    def __init__(self, width: int, *, first: bool) -> None:
        super().__init__()
        inner = width // _DOWNSAMPLE
        self.first = first
        self.self_attn = Attention(width, _HEADS)
        self.norm1 = nn.LayerNorm(width)
        self.cross_attn_token_to_image = Attention(width, _HEADS, inner=inner)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = MLP(width, _MLP_WIDTH, width, 2)
        self.norm3 = nn.LayerNorm(width)
        self.norm4 = nn.LayerNorm(width)
        self.cross_attn_image_to_token = Attention(width, _HEADS, inner=inner)

    def forward(
        self, tokens: Tensor, image: Tensor, token_position: Tensor, image_position: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Apply the block.

        Args:
            tokens: ``B x T x C``.
            image: ``B x H*W x C``.
            token_position: Positions of the tokens, ``B x T x C``.
            image_position: Positions of the image, ``B x H*W x C``.

        Returns:
            Tokens and image, with the same shapes.
        """
        if self.first:
            # The tokens are still equal to their positions, so these are not added; and the
            # official code has no residual connection here.
            tokens = self.self_attn(tokens, tokens, tokens)
        else:
            placed = tokens + token_position
            tokens = tokens + self.self_attn(placed, placed, tokens)
        tokens = self.norm1(tokens)

        placed = tokens + token_position
        tokens = tokens + self.cross_attn_token_to_image(placed, image + image_position, image)
        tokens = self.norm2(tokens)

        tokens = tokens + self.mlp(tokens)
        tokens = self.norm3(tokens)

        placed = tokens + token_position
        # Added once more as in the official code: gradients are summed along the way.
        image = image + self.cross_attn_image_to_token(image + image_position, placed, tokens)
        return tokens, self.norm4(image)


class TwoWayTransformer(nn.Module):
    """The two-way blocks, after which the tokens attend to the image once more.

    Follows ``modeling/sam/transformer.py``.

    Args:
        width: Channels ``C`` of tokens and image.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TwoWayBlock(width, first=i == 0) for i in range(_DEPTH))
        self.final_attn_token_to_image = Attention(width, _HEADS, inner=width // _DOWNSAMPLE)
        self.norm_final_attn = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, image: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """Let tokens and image attend to each other.

        Args:
            tokens: ``B x T x C``.
            image: ``B x C x H x W``.
            position: Positions of the image, like ``image``.

        Returns:
            Tokens and image, with the same shapes.
        """
        shape = image.shape
        token_position = tokens  # as they enter, in all blocks
        image = image.flatten(2).transpose(1, 2)  # B, H*W, C
        position = position.flatten(2).transpose(1, 2)  # B, H*W, C
        for layer in self.layers:
            tokens, image = layer(tokens, image, token_position, position)
        attended = self.final_attn_token_to_image(tokens + token_position, image + position, image)
        tokens = self.norm_final_attn(tokens + attended)
        return tokens, image.transpose(1, 2).reshape(shape)  # B, T, C and B, C, H, W


class MaskDecoder(nn.Module):
    """Predicts masks, their quality, and whether the object is in the picture at all.

    Follows ``modeling/sam/mask_decoder.py``.

    Args:
        width: Channels ``C`` of the image embedding and of every token.
        stability: When a single mask is kept.
    """

    def __init__(self, width: int, stability: Stability) -> None:
        super().__init__()
        masks = 1 + _CANDIDATES
        self.stability = stability
        self.transformer = TwoWayTransformer(width)
        self.iou_token = nn.Embedding(1, width)
        self.mask_tokens = nn.Embedding(masks, width)
        self.obj_score_token = nn.Embedding(1, width)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(width, width // 4, kernel_size=2, stride=2),
            LayerNorm2d(width // 4),
            nn.GELU(),
            nn.ConvTranspose2d(width // 4, width // 8, kernel_size=2, stride=2),
            nn.GELU(),
        )
        self.conv_s0 = nn.Conv2d(width, width // 8, kernel_size=1)
        self.conv_s1 = nn.Conv2d(width, width // 4, kernel_size=1)
        self.output_hypernetworks_mlps = nn.ModuleList(
            MLP(width, width, width // 8, 3) for _ in range(masks)
        )
        self.iou_prediction_head = MLP(width, _IOU_WIDTH, masks, 3)
        self.pred_obj_score_head = MLP(width, width, 1, 3)

    def forward(
        self,
        image: Tensor,
        position: Tensor,
        sparse: Tensor,
        dense: Tensor,
        high_res: tuple[Tensor, Tensor],
    ) -> MaskPrediction:
        """Predict all four masks, the single one first; :meth:`select` picks from them.

        Args:
            image: The image embedding, repeated for each prompt, ``B x C x H x W``.
            position: Its position encoding, ``1 x C x H x W``.
            sparse: Embeddings of points and boxes, ``B x T x C``.
            dense: Embedding of the mask prompt, ``B x C x H x W``.
            high_res: Finer features, ``B x C/8 x 4H x 4W`` and ``B x C/4 x 2H x 2W``, or
                ``B`` = 1 for all prompts.

        Returns:
            The prediction with ``M`` = 4.
        """
        batch = sparse.shape[0]
        learned = torch.cat(
            (self.obj_score_token.weight, self.iou_token.weight, self.mask_tokens.weight)
        )  # 2+M, C
        tokens = torch.cat((learned.expand(batch, -1, -1), sparse), dim=1)  # B, 2+M+T, C
        position = position.repeat_interleave(batch, dim=0)  # B, C, H, W
        tokens, image = self.transformer(tokens, image + dense, position)

        masks = tokens[:, 2 : 2 + len(self.output_hypernetworks_mlps)]  # B, M, C
        weights = torch.stack(
            [mlp(masks[:, i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)], dim=1
        )  # B, M, C/8
        features = self.upscale(image, high_res)  # B, C/8, 4H, 4W
        logits = weights @ features.flatten(2)  # B, M, 4H*4W
        return MaskPrediction(
            logits=logits.reshape(batch, -1, *features.shape[2:]),  # B, M, 4H, 4W
            iou=torch.sigmoid(self.iou_prediction_head(tokens[:, 1])),
            object_score=self.pred_obj_score_head(tokens[:, 0]),
            tokens=masks,
        )

    def upscale(self, image: Tensor, high_res: tuple[Tensor, Tensor]) -> Tensor:
        """Upscale the image embedding four times, adding the finer features.

        Args:
            image: ``B x C x H x W``.
            high_res: As for :meth:`forward`.

        Returns:
            ``B x C/8 x 4H x 4W``.
        """
        to_half, norm, activation, to_full, _ = self.output_upscaling
        finest, finer = high_res
        x = activation(norm(to_half(image) + finer))  # B, C/4, 2H, 2W
        full: Tensor = activation(to_full(x) + finest)
        return full  # B, C/8, 4H, 4W

    def select(self, masks: MaskPrediction, *, multimask: bool) -> MaskPrediction:
        """Pick the three candidates, or the single mask.

        In evaluation mode an unstable single mask is replaced by the candidate with the highest
        ``iou``. Its token is not replaced, so the object pointer comes from the token of the single
        mask, as in the official code.

        Args:
            masks: All four masks, as :meth:`forward` returns them.
            multimask: Whether to pick the candidates.

        Returns:
            The prediction with ``M`` = 3 or 1.
        """
        wanted = slice(1, None) if multimask else slice(0, 1)
        logits, iou, tokens = masks.logits[:, wanted], masks.iou[:, wanted], masks.tokens[:, wanted]
        if not multimask and self.stability.enabled and not self.training:
            row = torch.arange(len(iou), device=iou.device)
            best = 1 + masks.iou[:, 1:].argmax(dim=1)  # B
            keep = self.is_stable(logits)  # B, 1
            logits = torch.where(keep[..., None, None], logits, masks.logits[row, best][:, None])
            iou = torch.where(keep, iou, masks.iou[row, best][:, None])
        return MaskPrediction(logits, iou, masks.object_score, tokens)

    def is_stable(self, logits: Tensor) -> Tensor:
        """Tell whether masks hardly change with the threshold of their logits.

        The masks at thresholds ``delta`` and ``-delta``, one of which contains the other, must have
        an IoU of at least the stability threshold. An empty mask is stable.

        Args:
            logits: ``B x M x H x W``.

        Returns:
            ``B x M``, bool.
        """
        logits = logits.flatten(2)  # B, M, H*W
        smaller = (logits > self.stability.delta).sum(dim=-1).float()
        larger = (logits > -self.stability.delta).sum(dim=-1).float()
        return torch.where(larger > 0, smaller / larger, 1.0) >= self.stability.threshold
