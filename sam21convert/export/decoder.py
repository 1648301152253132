"""The mask decoder with its products in another order, which runtimes need half the time for.

A prompt has few tokens and many places to attend to. So a projection of all places is taken
together with the tokens instead: ``q . (W x) = (W' q) . x``. Upscaling by 2 x 2 is a product for
each place; its results stay in the order of the places that they come from until the masks are
made. The numbers are those of :class:`~sam21convert.model.mask_decoder.MaskDecoder` but for
rounding, and the tensors its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..model.layers import MLP, Attention, LayerNorm2d
from ..model.mask_decoder import MaskDecoder, MaskPrediction, TwoWayBlock, TwoWayTransformer

Decode: TypeAlias = Callable[
    [MaskDecoder, Tensor, Tensor, Tensor, tuple[Tensor, Tensor]], MaskPrediction
]


def decode_as_the_model(
    decoder: MaskDecoder,
    image: Tensor,
    position: Tensor,
    sparse: Tensor,
    high_res: tuple[Tensor, Tensor],
) -> MaskPrediction:
    """Predict masks by the decoder's own code.

    Args:
        decoder: The decoder.
        image: As for :func:`decode`.
        position: As for :func:`decode`.
        sparse: As for :func:`decode`.
        high_res: As for :func:`decode`.

    Returns:
        As of :func:`decode`.
    """
    shape = sparse.shape[:2]
    repeated = (level[:, None].expand(-1, shape[1], -1, -1, -1) for level in high_res)
    finest, finer = (level.flatten(0, 1) for level in repeated)
    found = decoder(
        image.expand(-1, shape[1], -1, -1, -1).flatten(0, 1),
        position,
        sparse.flatten(0, 1),
        torch.zeros(()),
        (finest, finer),
    )
    return MaskPrediction(*(part.reshape(*shape, *part.shape[1:]) for part in found))


def decode(
    decoder: MaskDecoder,
    image: Tensor,
    position: Tensor,
    sparse: Tensor,
    high_res: tuple[Tensor, Tensor],
) -> MaskPrediction:
    """Predict all four masks for each of ``P`` objects in each of ``B`` images.

    Args:
        decoder: The decoder.
        image: The image embedding with that of mask prompts added, ``B x 1 x C x H x W``, or
            ``B x P x C x H x W``.
        position: Its position encoding, ``1 x C x H x W``.
        sparse: Embeddings of points and boxes, ``B x P x T x C``.
        high_res: Finer features, ``B x C/8 x 4H x 4W`` and ``B x C/4 x 2H x 2W``.

    Returns:
        The prediction with ``M`` = 4, with two axes ``B x P`` in place of the first.
    """
    batch, objects = sparse.shape[:2]
    height, width = image.shape[-2:]
    learned = torch.cat(
        (decoder.obj_score_token.weight, decoder.iou_token.weight, decoder.mask_tokens.weight)
    )  # 2+M, C
    tokens = torch.cat((learned.expand(batch, objects, -1, -1), sparse), dim=2)  # B, P, 2+M+T, C
    places = image.flatten(3).transpose(2, 3)  # B, 1 or P, H*W, C
    positions = position.flatten(2).transpose(1, 2)  # 1, H*W, C
    tokens, places = _transform(decoder.transformer, tokens, places, positions)

    to_half, norm, activation, to_full, _ = decoder.output_upscaling
    finest, finer = high_res
    x = _doubled(to_half, places) + _by_place(finer, height, width, 1)
    x = activation(_normed(norm, x))  # B, P, H*W*4, C/4
    x = activation(_doubled(to_full, x) + _by_place(finest, height, width, 2))  # ..., C/8
    mlps = decoder.output_hypernetworks_mlps
    masks = tokens[:, :, 2 : 2 + len(mlps)]  # B, P, M, C
    logits = _all_at_once(mlps, masks) @ x.transpose(2, 3)  # B, P, M, H*W*16
    # Rows and columns of a place's 4 x 4 logits are halved twice, and so stand apart.
    parts = logits.reshape(batch, objects, -1, height, width, 2, 2, 2, 2)
    return MaskPrediction(
        logits=parts.permute(0, 1, 2, 3, 5, 7, 4, 6, 8).reshape(
            batch, objects, -1, 4 * height, 4 * width
        ),
        iou=torch.sigmoid(decoder.iou_prediction_head(tokens[:, :, 1])),
        object_score=decoder.pred_obj_score_head(tokens[:, :, 0]),
        tokens=masks,
    )


def _transform(
    transformer: TwoWayTransformer, tokens: Tensor, image: Tensor, position: Tensor
) -> tuple[Tensor, Tensor]:
    """What the transformer does, for ``B x P x T x C`` and ``B x 1 or P x N x C``."""
    entered = tokens
    for block in transformer.layers:
        assert isinstance(block, TwoWayBlock)
        placed = tokens if block.first else tokens + entered
        attended = block.self_attn(*(one.flatten(0, 1) for one in (placed, placed, tokens)))
        attended = attended.reshape(tokens.shape)
        tokens = block.norm1(attended if block.first else tokens + attended)
        placed_image = image + position
        attended = _to_places(
            block.cross_attn_token_to_image, tokens + entered, placed_image, image
        )
        tokens = block.norm2(tokens + attended)
        tokens = block.norm3(tokens + block.mlp(tokens))
        attended = _to_tokens(
            block.cross_attn_image_to_token, placed_image, tokens + entered, tokens
        )
        image = block.norm4(image + attended)  # B, P, N, C
    attended = _to_places(
        transformer.final_attn_token_to_image, tokens + entered, image + position, image
    )
    return transformer.norm_final_attn(tokens + attended), image


def _to_places(attention: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Let few tokens attend to many places."""
    q = _heads(attention, attention.q_proj(q))  # B, P, heads, T, D
    # The bias of the keys moves all places alike, and so nothing.
    asked = q * q.shape[-1] ** -0.5 @ _by_head(attention, attention.k_proj.weight)
    shape = asked.shape  # B, P, heads, T, C
    shares = torch.softmax(asked.flatten(2, 3) @ k.transpose(2, 3), dim=-1)  # B, P, heads*T, N
    mixed = (shares @ v).reshape(shape) @ _turned(_by_head(attention, attention.v_proj.weight))
    together = mixed.transpose(2, 3).flatten(3) + attention.v_proj.bias  # B, P, T, heads*D
    y: Tensor = attention.out_proj(together)
    return y


def _to_tokens(attention: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Let many places attend to few tokens."""
    k = _heads(attention, attention.k_proj(k))  # B, P, heads, T, D
    v = _heads(attention, attention.v_proj(v))
    k = k * k.shape[-1] ** -0.5
    asked = (k @ _by_head(attention, attention.q_proj.weight)).flatten(2, 3)  # B, P, heads*T, C
    bias = k @ attention.q_proj.bias.reshape(attention.heads, -1, 1)  # B, P, heads, T, 1
    logits = q @ asked.transpose(2, 3) + bias.flatten(2)[:, :, None]  # B, P, N, heads*T
    by_head = logits.reshape(*logits.shape[:3], attention.heads, -1)
    shares = torch.softmax(by_head, dim=-1).flatten(3)  # B, P, N, heads*T
    given = v @ _by_head(attention, _turned(attention.out_proj.weight))  # B, P, heads, T, C
    return shares @ given.flatten(2, 3) + attention.out_proj.bias  # B, P, N, C


def _heads(attention: Attention, x: Tensor) -> Tensor:
    """``B x P x T x inner`` to ``B x P x heads x T x inner/heads``."""
    return x.reshape(*x.shape[:3], attention.heads, -1).transpose(2, 3)


def _by_head(attention: Attention, weight: Tensor) -> Tensor:
    """``inner x C`` to ``heads x inner/heads x C``."""
    return weight.reshape(attention.heads, -1, weight.shape[1])


def _turned(weight: Tensor) -> Tensor:
    """Matrices transposed. ``.mT`` becomes an Einsum, which onnxruntime does not compute first."""
    return weight.transpose(-2, -1)


def _doubled(convolution: nn.Module, x: Tensor) -> Tensor:
    """Transposed convolution by 2 x 2: ``B x P x N x C`` to ``B x P x N*4 x c``."""
    assert isinstance(convolution, nn.ConvTranspose2d)
    assert convolution.bias is not None
    weight = convolution.weight.permute(2, 3, 1, 0).flatten(0, 2)  # 4*c, C
    y = F.linear(x.flatten(0, 2), weight, convolution.bias.repeat(4))  # B*P*N, 4*c
    return y.reshape(*x.shape[:2], -1, convolution.out_channels)


def _normed(norm: nn.Module, x: Tensor) -> Tensor:
    assert isinstance(norm, LayerNorm2d)
    return F.layer_norm(x, norm.weight.shape, norm.weight, norm.bias, norm.eps)


def _by_place(level: Tensor, height: int, width: int, halvings: int) -> Tensor:
    """Finer features in the order of the places that they lie in.

    Args:
        level: ``B x c x s*H x s*W``, with ``s`` of 2 or 4.
        height: ``H``.
        width: ``W``.
        halvings: How often the cells of a place are halved: 1 or 2.

    Returns:
        ``B x 1 x H*W*s*s x c``.
    """
    batch, channels = level.shape[:2]
    halves = (2,) * halvings
    cells = level.flatten(2).transpose(1, 2)  # B, s*H*s*W, c
    cells = cells.reshape(batch, height, *halves, width, *halves, channels)
    # Row and column of the place, then in turns those of its halves, then the channels.
    pairs = [axis for i in range(1 + halvings) for axis in (1 + i, 2 + halvings + i)]
    return cells.permute(0, *pairs, cells.ndim - 1).reshape(batch, 1, -1, channels)


def _all_at_once(mlps: Sequence[nn.Module] | nn.ModuleList, x: Tensor) -> Tensor:
    """Apply the first of ``M`` networks to the first of ``B x P x M x C``, and so on."""
    networks = [mlp for mlp in mlps if isinstance(mlp, MLP)]
    x = x[..., None, :]  # B, P, M, 1, C
    for number, layers in enumerate(zip(*(mlp.layers for mlp in networks), strict=True)):
        weight = torch.stack([layer.weight for layer in layers])  # M, out, in
        bias = torch.stack([layer.bias for layer in layers])  # M, out
        x = (networks[0].activation(x) if number else x) @ _turned(weight) + bias[:, None]
    return x[..., 0, :]
