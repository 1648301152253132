"""How far two sets of activations are apart, and how far apart they may be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf, nan

from torch import Tensor

from .activations import A_LOGIT, Activations, kind
from .findings import ActivationResult

MULTIPLE = 10  # of the noise of the reference is the tolerance

Noise = Mapping[str, float]  # by activation, in units of its scale


def relative(reference: Tensor, other: Tensor, least: float = 0.0) -> float:
    """The largest difference in units of the reference's largest magnitude, or of ``least``.

    Infinite for another shape or for what is not finite on one side only.
    """
    return _in_units(reference, _furthest(reference, other), least)


def _furthest(reference: Tensor, other: Tensor) -> float:
    """The largest difference; not a number where both are infinite, infinite for other shapes."""
    return _largest(reference - other) if reference.shape == other.shape else inf


def _in_units(reference: Tensor, furthest: float, least: float) -> float:
    if furthest == 0:
        return 0.0
    scale = max(_largest(reference), least)
    found = furthest / scale if scale else inf
    return found if found == found else inf


def _largest(tensor: Tensor) -> float:
    return float(tensor.abs().amax()) if tensor.numel() else 0.0


def _least_unit(name: str) -> float:
    """An object score is a single logit, which may be 0: it is judged in units of 1 at least."""
    return 1.0 if kind(name) == A_LOGIT else 0.0


def noise_of(
    reference: Activations, variants: Iterable[Activations], floor: float
) -> dict[str, float]:
    """The noise of each activation: the furthest that a variant of the reference is from it.

    Rounding is carried on, so that no activation is taken to be quieter than those before it, nor than
    ``floor``, the last place of its arithmetic.
    """
    runs, noise, loudest = list(variants), {}, floor
    for name, activation in reference.items():
        found = (relative(activation, run[name], _least_unit(name)) for run in runs if name in run)
        noise[name] = loudest = max([loudest, *found])
    return noise


def compare(
    reference: Activations, other: Activations, noise: Noise | None, multiple: float = MULTIPLE
) -> tuple[ActivationResult, ...]:
    """Every activation that both have, in the order of the reference. Without noise, 0 is asked for.

    A activation of which no noise is known is as noisy as the noisiest.
    """
    loudest = max(noise.values(), default=0.0) if noise else 0.0
    allowed = {name: (noise or {}).get(name, loudest) for name in reference}
    return tuple(
        result_of(name, activation, other[name], allowed[name], multiple * allowed[name])
        for name, activation in reference.items()
        if name in other
    )


def result_of(
    name: str, reference: Tensor, other: Tensor, noise: float, tolerance: float
) -> ActivationResult:
    """How far one activation is apart."""
    furthest = _furthest(reference, other)
    masks = reference.shape == other.shape and kind(name) == "masks"
    iou, differing = _overlap(reference > 0, other > 0) if masks else (None, None)
    return ActivationResult(
        name=name,
        max_abs=furthest,
        relative=_in_units(reference, furthest, _least_unit(name)),
        cosine=1.0 if furthest == 0 else _cosine(reference, other),
        noise=noise,
        tolerance=tolerance,
        iou=iou,
        differing=differing,
    )


def first_mismatch(findings: Iterable[ActivationResult]) -> str | None:
    """The first activation out of tolerance."""
    return next((found.name for found in findings if not found.within), None)


def _cosine(reference: Tensor, other: Tensor) -> float:
    """Of the angle between the two; not a number where one has no direction or another shape."""
    if reference.shape != other.shape:
        return nan
    one, two = reference.double().flatten(), other.double().flatten()
    lengths = float(one.norm() * two.norm())
    return float(one @ two) / lengths if lengths else nan


def _overlap(one: Tensor, other: Tensor) -> tuple[float, float]:
    """IoU (1 for two empty masks) and share of differing pixels."""
    union = int((one | other).sum())
    iou = int((one & other).sum()) / union if union else 1.0
    return iou, float((one != other).double().mean()) if one.numel() else 0.0
