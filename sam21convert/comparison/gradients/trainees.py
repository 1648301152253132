"""Which sides can be trained, and how each package is asked for a step of training."""

from __future__ import annotations

from collections.abc import Iterable

from ...errors import UsageError
from ...packages import official_training
from ..backends.base import Backend
from ..backends.truth import Truth
from .step import Trainee
from .truth import TruthTrainee

CAN_TRAIN = ("truth", "sam2", "transformers")


def refuse(backends: Iterable[str]) -> None:
    """Refuse backends that cannot be trained.

    Args:
        backends: Their names.

    Raises:
        UsageError: When one has no step of training to compare, or its training code is not there.
    """
    for backend in backends:
        if backend not in CAN_TRAIN:
            raise UsageError(
                f"{backend}: has no training step of SAM 2, so there are no gradients to compare",
                hint=f"gradients of {', '.join(CAN_TRAIN)} can be compared",
            )
        if backend == "sam2":
            official_training()


def trainee_of(backend: Backend) -> Trainee:
    """Make a loaded side ready to be trained.

    Args:
        backend: The side, whose weights are shared.

    Returns:
        The same model as one that learns.

    Raises:
        UsageError: When the training code of its package is not there; see :func:`refuse`.
    """
    if backend.name == "sam2":
        from .official import OfficialTrainee

        return OfficialTrainee(backend)
    if backend.name == "transformers":
        from .transformers import TransformersTrainee

        return TransformersTrainee(backend)
    assert isinstance(backend, Truth)
    return TruthTrainee(backend.model)
