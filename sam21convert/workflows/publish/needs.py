"""What publishing needs beyond a plain install; it is asked before anything else is imported."""

from __future__ import annotations

from ...packages import require


def check_packages(to: str | None, scenarios: str) -> None:
    """Check that what the comparison runs is installed.

    Args:
        to: The dialect, as for :func:`~sam21convert.push`. All but ``"official"`` are run by
            transformers.
        scenarios: How thoroughly to compare; ``"none"`` runs nothing.

    Raises:
        MissingPackageError: If something is missing.
    """
    if scenarios != "none":
        extra = "torch" if to == "official" else "transformers"
        require(extra, "push", "`scenarios=none` publishes without a comparison")
