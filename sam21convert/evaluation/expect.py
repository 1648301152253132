"""How far an evaluation is from the published figure, if it can be compared with one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ..hub.published import PUBLISHED, Published
from ..report import counted
from .figures import BENCHMARKS, DTYPE, FIGURES, IMAGE_SIZE, ROUNDED, Benchmark, Expected
from .report import Evaluation


def expected(found: Evaluation, listed_in: Path | None) -> Expected:
    """Compare an evaluation with the published figure.

    Args:
        found: The evaluation of a checkpoint.
        listed_in: The list of the videos that the data set has; None if it has none.

    Returns:
        How far it is from the published figure, if it can be compared with one.
    """
    model = published_of(found)
    benchmark, why = _benchmark(found, listed_in)
    figure = None
    if model is not None and benchmark is not None:
        figure = FIGURES[model.name].get(benchmark.name)
    reasons = [] if benchmark is None else [benchmark.why]
    unscored = "nothing was scored" if found.jf is None else ""
    reasons = [why, *reasons, unscored, _unlike(found, model)]
    whole = not why and found.jf is not None and figure is not None
    off = None if benchmark is None else benchmark.off
    return Expected(
        benchmark=None if benchmark is None else benchmark.name,
        model=None if model is None else model.name,
        published_file=model is not None and _same_file(found, model),
        figure=figure,
        apart=found.jf - figure if whole and found.jf is not None and figure is not None else None,
        spread=None if off is None else off + 2 * ROUNDED,
        why=next(filter(None, reasons), None),
        notes=tuple(_notes(found, model, benchmark)),
    )


def with_expected(found: Evaluation, listed_in: Path | None) -> Evaluation:
    """The evaluation, and of the second checkpoint too, with how far it is from what is published.

    Args:
        found: The evaluation.
        listed_in: As for :func:`expected`.

    Returns:
        The same with :attr:`~.report.Evaluation.expected`.
    """
    against = found.against
    return replace(
        found,
        expected=expected(found, listed_in),
        against=None if against is None else with_expected(against, listed_in),
    )


def published_of(found: Evaluation) -> Published | None:
    """The published checkpoint with the architecture and generation of the one that has tracked.

    Args:
        found: The evaluation.

    Returns:
        The published checkpoint; None if the architecture is not published, or is not known.
    """
    return next((one for one in PUBLISHED if one.config == found.model), None)


def _benchmark(found: Evaluation, listed_in: Path | None) -> tuple[Benchmark | None, str]:
    """What the data are taken for, and why they are not the whole of it; empty if they are."""
    alike = [one for one in BENCHMARKS if one.layout == found.layout]
    if not alike:
        return None, f"the README of SAM 2 has none of data of layout {found.layout}"
    named = [one for one in alike if listed_in is not None and one.listed == listed_in.name]
    sized = [one for one in alike if one.videos == found.videos]
    one = [*named, *sized, *alike][0]
    if found.videos != one.videos or (
        found.jf is not None and one.objects not in (None, found.objects)
    ):
        objects = f" and {counted(one.objects, 'object')}" if one.objects else ""
        here = f" and {counted(found.objects, 'object')}" if found.objects else ""
        return one, (
            f"{one.name} has {counted(one.videos, 'video')}{objects}, and here are "
            f"{counted(found.videos, 'video')}{here}"
        )
    return one, ""


def _unlike(found: Evaluation, model: Published | None) -> str:
    """Why the model or the rules are not those of the published figure."""
    if model is None:
        return "this architecture is not a published one"
    usual = next((one.protocol for one in BENCHMARKS if one.layout == found.layout), None)
    if usual != found.protocol:
        return f"the rules of {found.protocol} are not those of the published figure"
    if found.image_size != IMAGE_SIZE:
        return f"at {found.image_size} pixels, and the published figure is at {IMAGE_SIZE}"
    return ""


def _same_file(found: Evaluation, model: Published) -> bool:
    known = {model.sha256, *(twin.sha256 for twin in model.twins)}
    return bool(known.intersection(found.sha256.values()))


def _notes(
    found: Evaluation, model: Published | None, benchmark: Benchmark | None
) -> Iterator[str]:
    if model is not None and not _same_file(found, model):
        yield (
            f"the checkpoint has the architecture of {model.name} and is another file: a "
            "conversion of it tracks the same, and a fine-tune is compared with what it may have "
            "started from"
        )
    if model is not None and found.dtype != DTYPE:
        yield f"tracked in {found.dtype}; the published figures are of {DTYPE} autocast on a GPU"
    if benchmark is not None and benchmark.heard:
        yield benchmark.heard
