"""The card of a fine-tune: what was trained on what, and what came of it; ``push`` adds more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..._version import __version__
from ...io.markdown import code, prose, table
from ...io.output.atomic import new_file
from ..publish.readme import NAME
from .report import Finetuned

_LIMITS = (
    "It was trained to segment what its data show. What else it segments, and how it does on other "
    "pictures than those of the data, was not measured."
)


def write_card(done: Finetuned) -> Path:
    """Write the card into the folder for transformers.

    Args:
        done: What was done.

    Returns:
        Its path.

    Raises:
        OSError: If it cannot be written.
    """
    path = done.transformers / NAME
    with new_file(path, overwrite=True) as temporary:
        temporary.write_text(card(done), encoding="utf-8", errors="backslashreplace")
    return path


def card(done: Finetuned) -> str:
    """Write the text of the card.

    Args:
        done: What was done.

    Returns:
        Markdown with no metadata, which ``push`` adds, as it does its own section.
    """
    clips = f"clips of {done.frames} frames" if done.kind == "video" else "pictures"
    facts = [
        ("Base", code(done.base.name)),
        ("Data", prose(f"{done.data.name}: {done.pictures:,} pictures, {done.objects:,} objects")),
        ("Trained", f"{code(done.train)}, {done.trained:,} values"),
        ("Steps", prose(f"{done.steps:,} ({done.epochs:.1f} epochs), each of {clips}")),
        ("Rate", f"{done.rate:g}, falling to a tenth"),
        ("Image size", f"{done.image_size} pixels"),
        ("Precision", done.precision),
        ("Loss", f"{done.losses[0]:.3f} at first, {done.losses[-1]:.3f} at last"),
        ("Seed", f"{done.seed}"),
    ]
    parts = [
        f"# {prose(f'{done.base.stem}, fine-tuned on {done.data.name}')}",
        f"Fine-tuned with sam21convert {__version__}: with the losses, simulated prompts and "
        "schedule of SAM 2's own training.",
        table(("", ""), facts),
        *_scores(done),
        "## Limits",
        _LIMITS,
    ]
    return "\n\n".join(parts) + "\n"


def _scores(done: Finetuned) -> Iterator[str]:
    found = done.evaluation
    if found is None or found.against is None or found.jf is None or found.against.jf is None:
        return
    yield "## Held-out videos"
    yield table(
        ("", "J&F", "J", "F"),
        [
            (name, *(f"{value:.1f}" for value in (one.jf, one.j, one.f) if value is not None))
            for name, one in (("Base", found), ("This model", found.against))
        ],
    )
    yield prose(
        f"{found.videos:,} videos and {found.objects:,} objects of {found.data.name}, by the rules "
        f"of {found.protocol}, from the first true mask of each object."
    )
