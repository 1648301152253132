"""How far two sets of taps are apart, and how far apart they may be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf, nan

import torch
from torch import Tensor

from .findings import TapFinding
from .taps import A_LOGIT, Taps, kind

MULTIPLE = 10  # of the noise of the reference is the tolerance

Noise = Mapping[str, float]  # by tap, in units of its scale


def _largest(tensor: Tensor) -> float:
    """The largest magnitude; that of a difference of equal infinities is not a number."""
    return float(tensor.abs().max()) if tensor.numel() else 0.0


def relative(reference: Tensor, other: Tensor, least: float = 0.0) -> float:
    """The largest difference in units of the reference's largest magnitude, or of ``least``.

    Infinite for another shape or for what is not finite on one side only.
    """
    if reference.shape != other.shape:
        return inf
    largest = _largest(reference.double() - other.double())
    scale = max(_largest(reference), least)
    if largest == 0:
        return 0.0
    found = largest / scale if scale else inf
    return found if found == found else inf


def _judged(name: str, reference: Tensor, other: Tensor) -> float:
    """:func:`relative`; an object score is a single logit, which may be 0, so its unit is 1."""
    return relative(reference, other, least=1.0 if kind(name) == A_LOGIT else 0.0)


def noise_of(reference: Taps, variants: Iterable[Taps], floor: float) -> dict[str, float]:
    """The noise of each tap: the furthest that a variant of the reference is from it.

    Rounding is carried on, so that no tap is taken to be quieter than those before it, nor than
    ``floor``, the last place of its arithmetic.
    """
    runs, noise, loudest = list(variants), {}, floor
    for name, tap in reference.items():
        found = (_judged(name, tap, run[name]) for run in runs if name in run)
        noise[name] = loudest = max([loudest, *found])
    return noise


def compare(
    reference: Taps, other: Taps, noise: Noise | None, multiple: float = MULTIPLE
) -> tuple[TapFinding, ...]:
    """Every tap that both have, in the order of the reference. Without noise, 0 is asked for.

    A tap of which no noise is known is as noisy as the noisiest.
    """
    loudest = max(noise.values(), default=0.0) if noise else 0.0
    allowed = {name: (noise or {}).get(name, loudest) for name in reference}
    return tuple(
        finding(name, tap, other[name], allowed[name], multiple * allowed[name])
        for name, tap in reference.items()
        if name in other
    )


def finding(
    name: str, reference: Tensor, other: Tensor, noise: float, tolerance: float
) -> TapFinding:
    """How far one tap is apart."""
    same_shape = reference.shape == other.shape
    masks = same_shape and kind(name) == "masks"
    iou, differing = _overlap(reference > 0, other > 0) if masks else (None, None)
    return TapFinding(
        name=name,
        max_abs=_largest(reference.double() - other.double()) if same_shape else inf,
        relative=_judged(name, reference, other),
        cosine=_cosine(reference, other) if same_shape else nan,
        noise=noise,
        tolerance=tolerance,
        iou=iou,
        differing=differing,
    )


def first_beyond(findings: Iterable[TapFinding]) -> str | None:
    """The first tap out of tolerance."""
    return next((found.name for found in findings if not found.within), None)


def _cosine(reference: Tensor, other: Tensor) -> float:
    one, two = reference.double().flatten(), other.double().flatten()
    lengths = float(one.norm() * two.norm())
    return float(one @ two) / lengths if lengths else (1.0 if torch.equal(one, two) else 0.0)


def _overlap(one: Tensor, other: Tensor) -> tuple[float, float]:
    """IoU (1 for two empty masks) and share of differing pixels."""
    union = int((one | other).sum())
    iou = int((one & other).sum()) / union if union else 1.0
    return iou, float((one != other).double().mean()) if one.numel() else 0.0
