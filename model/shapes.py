"""Checks of the shapes of tensors that a caller passes in."""

from __future__ import annotations

from torch import Tensor


def expect_shape(name: str, tensor: Tensor, *shape: int | None) -> None:
    """Check the shape of an argument.

    Args:
        name: Name of the argument, for the message.
        tensor: Its value.
        *shape: The expected size of each axis; None allows any size.

    Raises:
        ValueError: If the shape is another.
    """
    if tensor.ndim == len(shape) and all(
        want in (None, have) for want, have in zip(shape, tensor.shape, strict=True)
    ):
        return
    expected = " x ".join("any" if size is None else str(size) for size in shape)
    found = " x ".join(map(str, tensor.shape)) or "a scalar"
    raise ValueError(f"{name}: expected shape {expected}, found {found}")


def count_prompts(
    images: int,
    grid: int,
    points: Tensor | None,
    labels: Tensor | None,
    boxes: Tensor | None,
    mask_input: Tensor | None,
) -> int:
    """Check the prompts of one call and count them.

    Args:
        images: Number of images.
        grid: Side of their embeddings, in tokens.
        points: ``B x N x 2``, or None.
        labels: ``B x N``; None exactly if ``points`` is.
        boxes: ``B x 4``, or None.
        mask_input: ``B x 1 x 4*grid x 4*grid``, or one mask for all prompts, or None.

    Returns:
        The number of prompts ``B``; without any prompt the number of images.

    Raises:
        ValueError: If a shape is wrong or numbers of prompts or images do not fit each other.
    """
    if (points is None) != (labels is None):
        raise ValueError("points and labels: expected both or neither, found one")
    given = [prompt for prompt in (points, boxes, mask_input) if prompt is not None]
    batch = given[0].shape[0] if given and given[0].ndim else images
    if points is not None and labels is not None:
        expect_shape("points", points, batch, None, 2)
        expect_shape("labels", labels, batch, points.shape[1])
    if boxes is not None:
        expect_shape("boxes", boxes, batch, 4)
    if mask_input is not None:
        masks = 1 if mask_input.shape[0] == 1 else batch  # one may go with all other prompts
        expect_shape("mask_input", mask_input, masks, 1, 4 * grid, 4 * grid)
    if images not in (1, batch):
        raise ValueError(f"features: expected those of 1 or {batch} images, found {images}")
    return batch
