"""Measure how far two sets of activations are apart, and how far apart they may be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import inf, isnan, nan, sqrt

import torch
from torch import Tensor

from .activations import Activations
from .findings import ActivationResult
from .names import A_LOGIT, kind

# Tolerance over noise. One or two variants are few samples of the noise, and another
# implementation rounds in more places than they do.
MULTIPLE = 10

Noise = Mapping[str, float]  # by activation, in units of its scale
_PIECE = 2**17  # numbers at a time: half a megabyte, which processors keep near


def relative(reference: Tensor, other: Tensor, least: float = 0.0) -> float:
    """The largest difference, divided by the largest magnitude of the reference.

    Args:
        reference: The tensor that gives the scale.
        other: The tensor to compare with it, in the main memory as well.
        least: The smallest scale to divide by, where the reference may be close to 0.

    Returns:
        0 for equal tensors. Infinity for unequal shapes, where only one side is finite, and for any
        difference from a reference of zeros.
    """
    return _in_units(reference, _furthest(reference, other), least)


def _furthest(reference: Tensor, other: Tensor) -> float:
    """The largest absolute difference: nan where both are infinite, infinite for unequal shapes."""
    if reference.shape != other.shape:
        return inf
    found = [_largest(one - two) for one, two in _pieces(reference, other)]
    return nan if any(isnan(one) for one in found) else max(found, default=0.0)


def _in_units(reference: Tensor, furthest: float, least: float) -> float:
    if furthest == 0:
        return 0.0
    scale = max(_largest(reference), least)
    found = furthest / scale if scale else inf
    return found if found == found else inf  # nan is the largest difference of all


def _largest(tensor: Tensor) -> float:
    least, most = torch.aminmax(tensor) if tensor.numel() else (0.0, 0.0)
    return max(float(most), -float(least))  # both are nan if anything is


def _pieces(one: Tensor, other: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The numbers of two tensors of one shape, some at a time: copies of all would take memory."""
    pieces = (torch.split(tensor.flatten(), _PIECE) for tensor in (one, other))
    return zip(*pieces, strict=True)


def least_unit(name: str) -> float:
    """The smallest scale in which an activation is judged.

    Args:
        name: The name of the activation.

    Returns:
        1 for an object score, which is a single logit that may be 0; 0 for all others.
    """
    return 1.0 if kind(name) == A_LOGIT else 0.0


def compare(
    reference: Activations, other: Activations, noise: Noise | None, multiple: float = MULTIPLE
) -> tuple[ActivationResult, ...]:
    """Compare every activation that both sides have.

    Args:
        reference: Activations of the reference, in the order of computation.
        other: Activations of the other side.
        noise: The noise of each activation. One that is not in it counts as noisy as the noisiest.
            With None the tolerance is 0.
        multiple: Tolerance divided by noise.

    Returns:
        One result for each common activation, in the order of the reference.
    """
    known = known_noise(reference, noise)
    return tuple(
        result_of(name, activation, other[name], known[name], multiple * known[name])
        for name, activation in reference.items()
        if name in other
    )


def known_noise(names: Iterable[str], noise: Noise | None) -> dict[str, float]:
    """The noise of each activation, where not all of them were measured.

    Args:
        names: The activations.
        noise: The measured noise; None where the two sides must be equal.

    Returns:
        The noise of all names. What was not measured counts as noisy as the noisiest.
    """
    largest = max(noise.values(), default=0.0) if noise else 0.0
    return {name: (noise or {}).get(name, largest) for name in names}


def result_of(
    name: str,
    reference: Tensor,
    other: Tensor,
    noise: float,
    tolerance: float,
    least: float | None = None,
) -> ActivationResult:
    """Compare one activation.

    Args:
        name: Its name. For masks, the IoU and the share of differing pixels are computed as well.
        reference: The activation of the reference.
        other: The activation of the other side; its shape may be another.
        noise: Its noise, to be reported.
        tolerance: The largest relative difference that counts as equal.
        least: The smallest scale in which it is judged; None for that of its kind.

    Returns:
        The differences, with noise and tolerance.
    """
    furthest = _furthest(reference, other)
    masks = reference.shape == other.shape and kind(name) == "masks"
    iou, differing = _overlap(reference > 0, other > 0) if masks else (None, None)
    return ActivationResult(
        name=name,
        max_abs=furthest,
        relative=_in_units(reference, furthest, least_unit(name) if least is None else least),
        cosine=1.0 if furthest == 0 else _cosine(reference, other),
        noise=noise,
        tolerance=tolerance,
        iou=iou,
        differing=differing,
    )


def first_mismatch(results: Iterable[ActivationResult]) -> str | None:
    """The first activation out of tolerance.

    Args:
        results: Results in the order of computation.

    Returns:
        Its name; None when all are within tolerance.
    """
    return next((result.name for result in results if not result.within), None)


def _cosine(reference: Tensor, other: Tensor) -> float:
    """Cosine similarity; nan for unequal shapes and where one of the two is all zeros."""
    if reference.shape != other.shape:
        return nan
    product = own = others = 0.0
    for piece, its in _pieces(reference, other):
        first, second = piece.double(), its.double()
        product += float(first @ second)
        own += float(first @ first)
        others += float(second @ second)
    lengths = sqrt(own) * sqrt(others)
    return product / lengths if lengths else nan


def _overlap(reference: Tensor, other: Tensor) -> tuple[float, float]:
    """IoU (1 for two empty masks) and share of differing pixels."""
    union = int((reference | other).sum())
    iou = int((reference & other).sum()) / union if union else 1.0
    return iou, float((reference != other).double().mean()) if reference.numel() else 0.0
