"""The worst videos: J&F over the frames, and pictures of the worst frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ...markup.elements import Markup, breakable, element
from ...markup.pictures import figure
from ..protocols import ObjectScore
from ..report import Evaluation
from ..worst import FIRST, FRAME, SECOND, TRUTH, over_frames, worst_frame
from .charts import lines

SHOWN = 3  # videos, so that a page stays small


def worst_videos(found: Evaluation) -> list[str]:
    """The videos to look at first.

    Args:
        found: The evaluation.

    Returns:
        The names of those that lost most from the first checkpoint to the second; of those with the
        lowest J&F, if there is one checkpoint or none lost anything.
    """
    first = _by_video(found.per_object)
    rated = {video: _mean(scores) for video, scores in first.items()}
    if found.against is not None:
        second = _by_video(found.against.per_object)
        apart = {video: _mean(second[video]) - jf for video, jf in rated.items() if video in second}
        if min(apart.values(), default=0) < 0:
            rated = apart
    return sorted(rated, key=lambda video: (rated[video], video))[:SHOWN]


def videos(found: Evaluation, pictures: Path) -> Iterator[Markup]:
    """A part of the page for each of the worst videos.

    Args:
        found: The evaluation.
        pictures: The folder with the pictures of each video, in a folder of its name.

    Yields:
        One ``article`` for each video.
    """
    sides = [found.per_object, *([found.against.per_object] if found.against else [])]
    for name in worst_videos(found):
        scores = [[one for one in side if one.video == name] for side in sides]
        frames = [over_frames(side) for side in scores]
        means = ", ".join(f"{_mean(side):.1f}" for side in scores)
        yield element(
            "article",
            element("header", element("h3", breakable(name)), element("p", f"J&F {means}")),
            *_chart(name, scores, frames),
            _panels(name, worst_frame(scores), frames, pictures / name),
        )


def _chart(
    name: str, scores: Sequence[Sequence[ObjectScore]], frames: Sequence[dict[str, float]]
) -> Iterator[Markup]:
    names, worst = [*frames[0]], worst_frame(scores)
    if worst is None:
        return
    at = names.index(worst) / max(1, len(names) - 1)
    said = "; ".join(
        f"{title} checkpoint: from {min(of.values()):.1f} to {max(of.values()):.1f}"
        for title, of in zip(("first", "second"), frames, strict=False)
    )
    yield lines([[*of.values()] for of in frames], f"J&F over the frames of {name}. {said}", at)
    yield element(
        "p",
        f"J&F on frames {names[0]} to {names[-1]}, the mean over the objects that count; ",
        f"marked is the worst, {worst}.",
        cls="key",
    )


def _panels(
    name: str, worst: str | None, frames: Sequence[dict[str, float]], folder: Path
) -> Markup:
    if worst is None or not (folder / FRAME).is_file():
        return Markup("")
    shown = [(FRAME, f"frame {worst}"), (TRUTH, "the true masks")]
    for file, title, of in zip((FIRST, SECOND), ("first", "second"), frames, strict=False):
        who = "predicted" if len(frames) == 1 else title
        shown.append((file, f"{who}: J&F {of[worst]:.1f}"))
    figures = [
        figure((folder / file).read_bytes(), "jpeg", caption, f"{name}, frame {worst}: {caption}")
        for file, caption in shown
        if (folder / file).is_file()
    ]
    return element("div", *figures, cls="panels" if len(figures) == 4 else "panels three")


def _by_video(scores: Sequence[ObjectScore]) -> dict[str, list[ObjectScore]]:
    found: dict[str, list[ObjectScore]] = {}
    for one in scores:
        found.setdefault(one.video, []).append(one)
    return found


def _mean(scores: Sequence[ObjectScore]) -> float:
    return sum(one.jf for one in scores) / len(scores)
