"""How far rounding alone moves the losses and the gradients of the ground truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

from torch import Tensor

from ...model.sam2 import SAM2
from ...model.video_predictor import SAM2VideoPredictor
from ...prediction.arithmetic import Arithmetic
from ..backends.truth import Truth, in_double
from ..influence import INVARIANT, UNDETECTABLE
from ..metrics import relative
from ..noise import affordable, other_threads, plain_attention
from .truth import TruthTrainee

Variant = tuple[str, TruthTrainee, Callable[[], AbstractContextManager[None]]]
_GRADIENT, _BIAS, _WEIGHT = ".grad", ".bias.grad", ".weight.grad"


def variants(truth: Truth, arithmetic: Arithmetic) -> Iterator[Variant]:
    """Ways to compute the same, backward included, as in :mod:`~..noise`.

    Args:
        truth: The ground truth.
        arithmetic: Where to compute, and in which type.

    Yields:
        A name, who learns, and what makes the context of it. A large model on a CPU is not tried
        in double precision, which takes minutes, but with another number of threads.
    """
    yield "another attention kernel", TruthTrainee(truth.model), plain_attention
    cpu = arithmetic.device == "cpu"
    exact = arithmetic.dtype == "float32" and not arithmetic.device.startswith("mps")
    if exact and (not cpu or affordable(truth)):
        yield "float64", TruthTrainee(_in_double(truth.model)), nullcontext
    elif cpu:
        yield "another number of threads", TruthTrainee(truth.model), other_threads


def _in_double(model: SAM2VideoPredictor) -> SAM2:
    exact = in_double(model)
    for parameter in exact.parameters():
        parameter.requires_grad_()
    return exact


def noise_of(
    reference: Mapping[str, Tensor], runs: Sequence[Mapping[str, Tensor]], floor: float
) -> dict[str, float]:
    """The noise of each loss and gradient: the largest difference of a variant.

    Rounding errors carry over in the backward pass, so the noise of a gradient is never smaller
    than that of the gradients before it. The gradients of :func:`least_units` are nothing but
    rounding; they carry nothing over.

    Args:
        reference: Losses and gradients of the ground truth, in the order of computation.
        runs: Those of the variants.
        floor: The smallest noise.

    Returns:
        The noise by name, relative to the scale.
    """
    least, noise, largest = least_units(reference), {}, floor
    for name, tensor in reference.items():
        apart = [relative(tensor, run[name], least.get(name, 0.0)) for run in runs if name in run]
        own = max([floor, *apart])
        if name not in least:
            largest = own = max(largest, own)
        noise[name] = max(own, largest)
    return noise


def jumps_of(
    reference: Mapping[str, Tensor], one: Mapping[str, Tensor], other: Mapping[str, Tensor]
) -> dict[str, float]:
    """How far gradients jump where rounding decides on which side of a corner an input lies.

    Args:
        reference: Losses and gradients of the ground truth, which give the scale.
        one: The same with all corners moved to one side.
        other: The same with all of them moved to the other side.

    Returns:
        The differences of the two from the reference by name, added up and relative to the scale.
    """
    least = least_units(reference)
    return {
        name: sum(relative(tensor, run[name], least.get(name, 0.0)) for run in (one, other))
        for name, tensor in reference.items()
        if name in one and name in other
    }


def least_units(values: Mapping[str, Tensor]) -> dict[str, float]:
    """The scales of gradients that are zero but for rounding: those of the weights beside them.

    A bias of keys adds the same to all scores of a query, so no loss depends on it.

    Args:
        values: Losses and gradients.

    Returns:
        By name of such a gradient, the largest magnitude of its weight's gradient.
    """
    found = {}
    for name in (f"{bias}{_GRADIENT}" for bias, why in UNDETECTABLE.items() if why == INVARIANT):
        weight = values.get(name.removesuffix(_BIAS) + _WEIGHT)
        if name in values and weight is not None:
            found[name] = float(weight.abs().amax())
    return found
