"""How the page writes differences."""

from __future__ import annotations

from ..findings import ActivationResult, short


def ratio(activation: ActivationResult) -> str:
    """A difference in units of the tolerance.

    Args:
        activation: The result of an activation.

    Returns:
        Such as ``0.26``; empty when the difference or the tolerance is 0.
    """
    times = activation.relative / activation.tolerance if activation.tolerance else 0.0
    return f"{times:.2f}" if 0.01 <= times < 100 else short(times) if times else ""


def percent(value: float | None) -> str:
    """A share of pixels as text.

    Args:
        value: The share, from 0 to 1; None for none.

    Returns:
        Such as ``0.12 %``, ``0`` only for exactly 0; empty for None.
    """
    if value is None:
        return ""
    return "0" if value == 0 else f"{max(100 * value, 0.01):.2f} %"
