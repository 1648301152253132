"""The graphs of videos: from prompts and memories to masks, pointers and new memories.

See :mod:`.graphs`, whose image encoder gives their features.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..model.mask_decoder import MaskPrediction
from ..model.memory_attention import MemoryAttentionLayer, RotaryAttention
from ..model.position_encoding import rotary_grid, sine_ages, sine_grid
from ..model.sam2 import SAM2
from .decoder import Decode, decode, decode_as_the_model
from .graphs import BATCH, EMBEDDINGS, Axes, Graph

_OWN_POSITION = 0.1  # as in MemoryAttention


class FrameDecoder(Graph):
    """Prompts for one object on each of ``B`` frames to all four masks and object pointers."""

    file = "frame_decoder"
    inputs = (
        Axes("input_points", {0: BATCH, 1: "points"}),
        Axes("input_labels", {0: BATCH, 1: "points"}),
        Axes("input_masks", {0: BATCH}),
        Axes("has_input_masks", {0: BATCH}),
        *EMBEDDINGS,
    )
    outputs = (
        Axes("iou_scores", {0: BATCH}),
        Axes("pred_masks", {0: BATCH}),
        Axes("object_score_logits", {0: BATCH}),
        Axes("object_pointers", {0: BATCH}),
    )
    traced, tried = (2, 3), ((1, 1), (1, 4), (3, 2))  # frames, points

    def forward(
        self,
        input_points: Tensor,
        input_labels: Tensor,
        input_masks: Tensor,
        has_input_masks: Tensor,
        finest: Tensor,
        finer: Tensor,
        embedding: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Predict the single mask and the three candidates.

        Args:
            input_points: Points (x, y) in pixels of the input, ``B x N x 2``. A box is two of them.
                The padding point that the model adds to them, with the label -1, is given as well,
                for without any prompt for an image there is none.
            input_labels: ``B x N``, int64.
            input_masks: Logits, ``B x 1 x S/4 x S/4``.
            has_input_masks: 1 where ``input_masks`` counts, 0 where it does not; ``B``.
            finest: ``image_embeddings.0``.
            finer: ``image_embeddings.1``.
            embedding: Features with memories, or with ``no_mem_embed``, ``B x C x S/16 x S/16``.

        Returns:
            For all four masks, the single one first: expected IoU, ``B x 4``; logits, ``B x 4 x S/4
            x S/4``; a logit of whether the object is there, ``B x 1``; and object pointers, ``B x 4
            x C``, ``no_obj_ptr`` where it is not.
        """
        return self._predict(
            decode,
            input_points,
            input_labels,
            input_masks,
            has_input_masks,
            finest,
            finer,
            embedding,
        )

    def _expected(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return self._predict(decode_as_the_model, *inputs)

    def _predict(
        self,
        decode: Decode,
        input_points: Tensor,
        input_labels: Tensor,
        input_masks: Tensor,
        has_input_masks: Tensor,
        finest: Tensor,
        finer: Tensor,
        embedding: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        prompts = self.sam_prompt_encoder
        given = has_input_masks[:, None, None, None] > 0  # B, 1, 1, 1
        dense = torch.where(
            given, prompts.embed_masks(input_masks, 1), prompts.embed_masks(None, 1)
        )  # B, C, H, W
        sparse = prompts.embed_points(input_points, input_labels)[:, :-1]  # B, T, C
        found = decode(
            self.sam_mask_decoder,
            (embedding + dense)[:, None],
            prompts.dense_position(),
            sparse[:, None],
            (finest, finer),
        )
        masks = MaskPrediction(*(part[:, 0] for part in found))
        present = masks.object_score[..., None] > 0  # B, 1, 1
        pointers = torch.where(present, self.obj_ptr_proj(masks.tokens), self.no_obj_ptr)
        return masks.iou, masks.logits, masks.object_score, pointers

    def _inputs(self, *sizes: int) -> tuple[Tensor, ...]:
        (frames, points), side = sizes, self.config.image_size
        return (
            torch.rand(frames, points, 2) * side,
            torch.randint(-1, 4, (frames, points)),
            torch.randn(frames, 1, side // 4, side // 4),
            torch.arange(frames, dtype=torch.float32) % 2,
            *self.embeddings(frames),
        )


class MemoryAttention(Graph):
    """Features of a frame and memories to features that prompts are answered from.

    Args:
        model: The model.
    """

    file = "memory_attention"
    inputs = (
        Axes("frame_embedding", {0: BATCH}),
        Axes("memories", {0: BATCH, 1: "memories"}),
        Axes("memory_rows", {0: "memories"}),
        Axes("object_pointers", {0: BATCH, 1: "pointers"}),
        Axes("pointer_ages", {0: "pointers"}),
    )
    outputs = (Axes("conditioned_embedding", {0: BATCH}),)
    # Frames, memories, pointers: from the fewest to the most that there can be.
    traced, tried = (2, 3, 5), ((1, 1, 0), (1, 1, 1), (2, 2, 3), (1, 7, 16))

    rotary_cos: Tensor
    rotary_sin: Tensor

    def __init__(self, model: SAM2) -> None:
        super().__init__(model)
        c, grid = self.config.hidden_dim, self.config.embedding_size
        # Complex numbers do not exist in ONNX.
        base = self.memory_attention.rope_theta
        turns = torch.view_as_real(rotary_grid(c, grid, grid, base, "cpu"))  # H*W, C/2, 2
        self.register_buffer("rotary_cos", turns[..., 0].contiguous())  # H*W, C/2
        self.register_buffer("rotary_sin", turns[..., 1].contiguous())

    def forward(
        self,
        frame_embedding: Tensor,
        memories: Tensor,
        memory_rows: Tensor,
        object_pointers: Tensor,
        pointer_ages: Tensor,
    ) -> Tensor:
        """Condition one object's frame on ``M`` spatial memories and ``N`` object pointers.

        Args:
            frame_embedding: ``B x C x H x W``, of :class:`VisionEncoder`.
            memories: ``B x M x K x H x W``, of :class:`MemoryEncoder`, at least one.
            memory_rows: The row of ``maskmem_tpos_enc`` of each memory, ``M``, int64: 0 for the
                frame just before, and the last row for every prompted frame.
            object_pointers: ``B x N x C``, of :class:`FrameDecoder`, or none.
            pointer_ages: How many frames back each pointer lies, divided by the largest number of
                frames; ``N``.

        Returns:
            ``B x C x H x W``.
        """
        b, (c, h, w) = frame_embedding.shape[0], frame_embedding.shape[1:]
        memory, position = self._memory(memories, memory_rows, object_pointers, pointer_ages)
        x = (frame_embedding + _OWN_POSITION * sine_grid(c, h, w, "cpu")).flatten(2).transpose(1, 2)
        own = self.rotary_cos, self.rotary_sin
        count = memories.shape[1]
        keys = tuple(t[None].expand(count, -1, -1).reshape(-1, c // 2) for t in own)
        for layer in self.memory_attention.layers:
            assert isinstance(layer, MemoryAttentionLayer)
            x = _attend(layer, x, memory + position, memory, own, keys)
        conditioned: Tensor = self.memory_attention.norm(x)
        return conditioned.transpose(1, 2).reshape(b, c, h, w)

    def _expected(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        frame, memories, *others = inputs
        memory, position = self._memory(memories, *others)
        pointers = memory.shape[1] - memories.shape[1] * frame.shape[2] * frame.shape[3]
        return (self.memory_attention(frame, memory, position, pointers),)

    def _memory(
        self,
        memories: Tensor,
        memory_rows: Tensor,
        object_pointers: Tensor,
        pointer_ages: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """The tokens of memories, then those of pointers, and their positions.

        Both have the shape ``B x M*H*W + N*C/K x K``, the second with ``B`` = 1.
        """
        b, (h, w) = memories.shape[0], memories.shape[3:]
        width = self.config.memory_encoder.out_dim
        per = self.config.hidden_dim // width  # a pointer is wider than a token of a memory
        place = sine_grid(width, h, w, "cpu").flatten(2).transpose(1, 2)  # 1, H*W, K
        rows = self.maskmem_tpos_enc[memory_rows].reshape(-1, 1, width) + place  # M, H*W, K
        spatial = memories.flatten(3).transpose(2, 3).reshape(b, -1, width)  # B, M*H*W, K
        pointers = object_pointers.reshape(b, -1, width)  # B, N*C/K, K
        ages = self._ages(pointer_ages)[:, None].expand(-1, per, -1).reshape(-1, width)
        memory = torch.cat((spatial, pointers), dim=1)
        return memory, torch.cat((rows.reshape(-1, width), ages))[None]

    def _ages(self, ages: Tensor) -> Tensor:
        """``N x K``; zeros in SAM 2.0, which does not tell pointers by their age."""
        width = self.config.memory_encoder.out_dim
        if self.config.generation == "2.0":
            return ages[:, None].expand(-1, width) * 0.0
        encoded: Tensor = self.obj_ptr_tpos_proj(sine_ages(ages, self.config.hidden_dim))
        return encoded

    def _inputs(self, *sizes: int) -> tuple[Tensor, ...]:
        frames, memories, pointers = sizes
        config, grid = self.config, self.config.embedding_size
        c, width = config.hidden_dim, config.memory_encoder.out_dim
        return (
            torch.randn(frames, c, grid, grid),
            torch.randn(frames, memories, width, grid, grid),
            torch.randint(0, config.num_maskmem, (memories,)),
            torch.randn(frames, pointers, c),
            torch.rand(pointers),
        )


class MemoryEncoder(Graph):
    """A frame and the mask found on it to a memory."""

    file = "memory_encoder"
    inputs = (
        Axes("frame_embedding", {0: BATCH}),
        Axes("masks", {0: BATCH, 2: "height", 3: "width"}),
        Axes("object_score_logits", {0: BATCH}),
    )
    outputs = (Axes("memory", {0: BATCH}),)
    # Frames, height and width of the masks in quarters of the input's side.
    traced, tried = (2, 1, 2), ((1, 4, 4), (1, 1, 1), (3, 2, 1))

    def forward(
        self, frame_embedding: Tensor, masks: Tensor, object_score_logits: Tensor
    ) -> Tensor:
        """Make memories.

        Args:
            frame_embedding: ``B x C x H x W``, of :class:`VisionEncoder`.
            masks: Logits of any size, ``B x 1 x h x w``. For a mask of 0 and 1, -100 and 100.
            object_score_logits: ``B x 1``.

        Returns:
            ``B x K x H x W``. The official code stores it in bfloat16.
        """
        config = self.config
        side = config.image_size
        masks = F.interpolate(masks, size=(side, side), mode="bilinear")
        share = torch.sigmoid(masks)
        scaled = share * config.sigmoid_scale_for_mem_enc + config.sigmoid_bias_for_mem_enc
        memory: Tensor = self.memory_encoder(frame_embedding, scaled)
        if config.generation == "2.1":
            absent = (object_score_logits <= 0).float()[..., None, None]  # B, 1, 1, 1
            memory = memory + absent * self.no_obj_embed_spatial[..., None, None]
        return memory

    def _inputs(self, *sizes: int) -> tuple[Tensor, ...]:
        frames, *quarters = sizes
        grid, quarter = self.config.embedding_size, self.config.image_size // 4
        height, width = (count * quarter for count in quarters)
        features = torch.randn(frames, self.config.hidden_dim, grid, grid)
        return features, torch.randn(frames, 1, height, width), torch.randn(frames, 1)


Turns = tuple[Tensor, ...]  # cosines and sines, N x C/2 each


def _attend(
    layer: MemoryAttentionLayer, x: Tensor, keys: Tensor, memory: Tensor, own: Turns, places: Turns
) -> Tensor:
    """Apply a layer of memory attention, as its own ``forward`` does, in real numbers."""
    normed = layer.norm1(x)
    x = x + _rotary(layer.self_attn, normed, normed, normed, own, own)
    x = x + _rotary(layer.cross_attn_image, layer.norm2(x), keys, memory, own, places)
    refined: Tensor = layer.linear2(F.relu(layer.linear1(layer.norm3(x))))
    return x + refined


def _rotary(
    attention: RotaryAttention, q: Tensor, k: Tensor, v: Tensor, own: Turns, places: Turns
) -> Tensor:
    """Attend with queries and keys turned; keys beyond ``places`` are pointers and stay.

    Values are mixed before they are projected, for those of memories are four times narrower then.
    """
    q = _turned(_halved(attention.q_proj, q), own)
    k = _halved(attention.k_proj, k)
    placed = places[0].shape[0]
    k = torch.cat((_turned(k[:, :placed], places), k[:, placed:]), dim=1)
    mixed = F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])  # one head
    y: Tensor = attention.out_proj(attention.v_proj(mixed[:, 0]))  # B, N, C
    return y


def _halved(layer: nn.Linear, x: Tensor) -> Tensor:
    """Project to even channels, then odd ones, so that no pair need be taken apart and joined.

    Queries and keys are in one order then, and only their products count.
    """
    weight, bias = (torch.cat((t[0::2], t[1::2])) for t in (layer.weight, layer.bias))
    return F.linear(x, weight, bias)


def _turned(x: Tensor, turns: Turns) -> Tensor:
    """Rotate pairs of channels of ``B x N x C``, which are half of all channels apart."""
    cos, sin = turns
    even, odd = x.chunk(2, dim=-1)
    return torch.cat((even * cos - odd * sin, even * sin + odd * cos), dim=-1)


VIDEO_GRAPHS = (FrameDecoder, MemoryAttention, MemoryEncoder)
