"""What publishing needs beyond a plain install; it is asked before anything else is imported."""

from __future__ import annotations

from ...packages import require


def check_packages(
    to: str | None, scenarios: str, *, with_onnx: bool, tracks: bool, serves: bool
) -> None:
    """Check that what the comparison runs is installed.

    Args:
        to: The dialect, as for :func:`~sam21convert.push`. All but ``"official"`` are run by
            transformers.
        scenarios: How thoroughly to compare; ``"none"`` runs nothing.
        with_onnx: Whether graphs are made and run.
        tracks: Whether the objects of a data set are tracked.
        serves: Whether a Space gets the page of ``serve``, whose versions are pinned to those here.

    Raises:
        MissingPackageError: If something is missing.
    """
    for extra in ("torch", "onnx") if with_onnx else ():
        require(extra, "`with_onnx`")
    for extra in ("torch", "score") if tracks else ():
        require(extra, "`evaluate`")
    for extra in ("torch", "web") if serves else ():
        require(extra, "`app_space`")
    if scenarios != "none":
        extra = "torch" if to == "official" else "transformers"
        require(extra, "push", "`scenarios=none` publishes without a comparison")
