"""The files of an export: what goes into each graph and what comes out, as the driver uses them."""

from __future__ import annotations

from .sessions import Layout

_LEVELS = tuple(f"image_embeddings.{level}" for level in range(3))

VISION_ENCODER = "vision_encoder"
PROMPT_DECODER = "prompt_encoder_mask_decoder"
FRAME_DECODER = "frame_decoder"
MEMORY_ATTENTION = "memory_attention"
MEMORY_ENCODER = "memory_encoder"

FRAME_EMBEDDING = "frame_embedding"  # the output of the vision encoder of exports with videos

IMAGES = {
    VISION_ENCODER: Layout(("pixel_values",), _LEVELS),
    PROMPT_DECODER: Layout(
        ("input_points", "input_labels", "input_boxes", *_LEVELS),
        ("iou_scores", "pred_masks", "object_score_logits"),
    ),
}
VIDEOS = {
    FRAME_DECODER: Layout(
        ("input_points", "input_labels", "input_masks", "has_input_masks", *_LEVELS),
        ("iou_scores", "pred_masks", "object_score_logits", "object_pointers"),
    ),
    MEMORY_ATTENTION: Layout(
        (FRAME_EMBEDDING, "memories", "memory_rows", "object_pointers", "pointer_ages"),
        ("conditioned_embedding",),
    ),
    MEMORY_ENCODER: Layout((FRAME_EMBEDDING, "masks", "object_score_logits"), ("memory",)),
}
