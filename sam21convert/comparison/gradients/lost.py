"""What a training step leaves without a gradient, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class WithoutGradient:
    """A parameter that got no gradient in a training step.

    Attributes:
        parameter: Its canonical name.
        side: ``"left"`` or ``"right"`` where the other side gave it one, or ``"both"``.
        reason: Why, as far as it can be seen; empty for both.
    """

    parameter: str
    side: Literal["left", "right", "both"]
    reason: str = ""
