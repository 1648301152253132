"""Where a package is known to let no gradients through.

As with other known differences, what is known excuses nothing by itself: it counts only where the
same was seen in this run.
"""

from __future__ import annotations

from dataclasses import dataclass

from packaging.specifiers import SpecifierSet


@dataclass(frozen=True)
class KnownCut:
    """A forward that is cut off from autograd.

    Attributes:
        name: A short name.
        backend: The backend whose package it is.
        scenarios: Names of the scenarios that show it.
        versions: Versions of the package, as a specifier of PEP 440.
        seen: What a run finds.
        summary: What the package does, and what the official code does.
        hint: What a user of the package can do.
    """

    name: str
    backend: str
    scenarios: tuple[str, ...]
    versions: str
    seen: str
    summary: str
    hint: str


KNOWN_CUTS = (
    KnownCut(
        "video-inference-mode",
        "transformers",
        ("train-video-point", "train-video-mask"),
        ">=4.56",
        "Sam2VideoModel.forward runs under torch.inference_mode",
        "Sam2VideoModel.forward runs under torch.inference_mode, so nothing can be trained through "
        "it; the official training code follows objects through a clip with gradients.",
        "train with the official code or with this package, and convert the result; Sam2Model, for "
        "images, can be trained",
    ),
)


def known(backend: str, version: str, scenario: str, seen: str) -> str | None:
    """What is known of a package that lets no gradients through.

    Args:
        backend: Name of the backend.
        version: Installed version of its package.
        scenario: Name of the scenario.
        seen: What was found in this run.

    Returns:
        The summary; None when this is not known of that version, scenario and finding.
    """
    for cut in KNOWN_CUTS:
        if (
            (cut.backend, cut.seen) == (backend, seen)
            and scenario in cut.scenarios
            and SpecifierSet(cut.versions).contains(version, prereleases=True)
        ):
            return cut.summary
    return None
