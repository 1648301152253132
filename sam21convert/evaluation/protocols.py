"""The rules of each benchmark: which frames and objects count, and what becomes of their J and F.

All rules take J and F of an object in a frame (see :mod:`~.measure`), and means over frames and
over objects. They part where a video does not show all objects all the time:

- ``davis``: DAVIS 2017, semi-supervised. The objects are those up to the largest id in the first
  mask; all frames count but the first and the last.
- ``sav``: SA-V, and vos-benchmark. All annotated frames but the first and the last; an object
  counts from the first of them on which the truth or the prediction shows it.
- ``lvos``: LVOS. Every fifth frame from an object's first to its last, as a file tells them,
  without these two; the total is the mean of seen and unseen categories.
- ``mosev2``: MOSE v2. All frames but the first and the last, by the objects of a file; J counts one
  pixel more, and small objects have boundaries that must match more closely.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from ..errors import RefusedError
from .datasets import Video
from .lvos_unseen import UNSEEN
from .masks import Masks, ids_in
from .measure import Pair, diagonal_share
from .names import Protocol

_Measured = TypeVar("_Measured")

_EVERY = 5  # frames of LVOS are five apart
_VOID = 255  # in masks of DAVIS
_AREA_SHARE = 0.1  # of the side of a square as large as the object: MOSE v2


@dataclass(frozen=True)
class ObjectScore:
    """J and F of one object, in percent.

    Attributes:
        video: The name of its video.
        object: Its id, or the name of its folder.
        j: The mean of J over the frames.
        f: The mean of F over the frames.
        frames: Number of frames that count.
        names: The names of these frames.
        j_of: J on each, from 0 to 1.
        f_of: F on each, from 0 to 1.
        more: What else the protocol measures, by name, in percent.
    """

    video: str
    object: str
    j: float
    f: float
    frames: int
    names: tuple[str, ...] = field(repr=False)
    j_of: tuple[float, ...] = field(repr=False)
    f_of: tuple[float, ...] = field(repr=False)
    more: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def jf(self) -> float:
        """The mean of J and F."""
        return (self.j + self.f) / 2

    def to_dict(self) -> dict[str, Any]:
        """Give the score as plain data.

        Returns:
            Field name to value, with ``jf`` and what is in ``more``, without the single frames.
        """
        names = ("video", "object", "j", "f", "jf", "frames")
        return {**{name: getattr(self, name) for name in names}, **self.more}


def score_video(
    protocol: Protocol, video: Video, truth: Masks, predicted: Masks
) -> list[ObjectScore]:
    """Score the masks of one video.

    Args:
        protocol: The rules.
        video: What is known of the video.
        truth: Its true masks.
        predicted: The masks to score.

    Returns:
        The score of each object that counts.

    Raises:
        UnreadableError: If a mask is missing, damaged or of another size than the true one.
        RefusedError: If the rules do not allow for what the masks hold.
    """
    check_video(protocol, video, truth)
    return [*_RULES[protocol](video, truth, predicted)]


def check_video(protocol: Protocol, video: Video, truth: Masks) -> None:
    """Check that the rules allow for a video, as far as its first true mask and names tell.

    Args:
        protocol: The rules.
        video: What is known of the video.
        truth: Its true masks.

    Raises:
        UnreadableError: If a file that the rules need does not tell of the video.
        RefusedError: If the rules do not allow for it.
    """
    if protocol == "lvos":
        _frames_of_objects(video, truth)
    elif not video.objects_apart:
        _inner(truth, truth.names())
        if protocol == "davis":
            _in_first(video, truth)
    elif protocol == "sav":
        for name in video.object_names(truth.folder):
            of_one = truth.of_object(name)
            _inner(of_one, of_one.names())
    else:
        raise RefusedError(
            f"{video.truth}: has a folder for each object, and the rules of {protocol} are for "
            "masks that hold all objects",
            hint="--protocol sav scores them",
        )


def total(protocol: Protocol, scores: Sequence[ObjectScore]) -> tuple[float, float, float]:
    """The result of a data set, as each benchmark computes it.

    Args:
        protocol: The rules.
        scores: The scores of all objects, at least one.

    Returns:
        J, F and J&F in percent.
    """
    if protocol == "lvos":
        groups = [
            [one for one in scores if (one.video in UNSEEN) == unseen] for unseen in (False, True)
        ]
        means = [_means(group, 1) for group in groups if group]
        j, f = (sum(found) / len(means) for found in zip(*means, strict=True))
        jf = sum(j + f for j, f in means) / (2 * len(means))
        return j * 100, f * 100, jf * 100
    # SA-V takes means of percentages, DAVIS and MOSE of shares: the last bits are not the same.
    scale = 100 if protocol == "sav" else 1
    j, f = _means(scores, scale)
    more = 100 // scale
    return j * more, f * more, (j + f) / 2 * more


def _means(scores: Sequence[ObjectScore], scale: int) -> tuple[float, float]:
    j, f = (
        float(np.mean([float(np.mean(values)) * scale for values in side]))
        for side in ([one.j_of for one in scores], [one.f_of for one in scores])
    )
    return j, f


def _scored(
    video: Video,
    name: str,
    frames: Sequence[str],
    j: Sequence[float],
    f: Sequence[float],
    more: Mapping[str, float | None] | None = None,
) -> ObjectScore:
    """The score of an object from its frames."""
    return ObjectScore(
        video=video.name,
        object=name,
        j=float(np.mean(j)) * 100,
        f=float(np.mean(f)) * 100,
        frames=len(frames),
        names=tuple(frames),
        j_of=tuple(j),
        f_of=tuple(f),
        more=more or {},
    )


def _inner(truth: Masks, names: Sequence[str]) -> Sequence[str]:
    """The frames without the first and the last."""
    if len(names) < 3:
        raise RefusedError(
            f"{truth.folder}: expected masks of 3 frames or more, as the first and the last do not "
            f"count, found {len(names)}",
            hint="--videos NAMES takes other videos",
        )
    return names[1:-1]


def _in_first(video: Video, truth: Masks) -> range:
    """The ids of objects that DAVIS scores: up to the largest of the first mask."""
    shown = ids_in(truth.read(truth.names()[0]))
    objects = range(1, max((one for one in shown if one != _VOID), default=0) + 1)
    if objects:
        return objects
    if shown:
        raise RefusedError(
            f"{video.truth}: the first mask shows nothing but {_VOID}, which is no object in DAVIS",
            hint=f"where it is one, write the masks with 1 in place of {_VOID}",
        )
    raise RefusedError(
        f"{video.truth}: the first mask shows no object, and DAVIS scores those that it shows",
        hint="--protocol sav, for masks that are there, scores objects that appear later",
    )


def _davis(video: Video, truth: Masks, predicted: Masks) -> Iterator[ObjectScore]:
    names = truth.names()
    scored = _inner(truth, names)
    objects = _in_first(video, truth)
    values: dict[int, list[tuple[float, float]]] = {number: [] for number in objects}
    for name in scored:
        true = truth.read(name)
        given = predicted.read(name, true.shape)
        if (largest := max(ids_in(given), default=0)) > objects[-1]:
            raise RefusedError(
                f"{predicted.folder / name}.png: object {largest} is not in the first mask of "
                f"{video.name}, whose largest id is {objects[-1]}; DAVIS scores no such masks",
                hint="--protocol sav does not count it",
            )
        for number in objects:
            counted = Pair(given == number, true == number).counts()
            values[number].append((counted.j, counted.f))
    for number, counts in values.items():
        j, f = zip(*counts, strict=True)
        yield _scored(video, str(number), scored, j, f)


def _sav(video: Video, truth: Masks, predicted: Masks) -> Iterator[ObjectScore]:
    if not video.objects_apart:
        yield from _appearing(video, truth, predicted)
        return
    for name in video.object_names(truth.folder):
        one = truth.of_object(name), predicted.of_object(name)
        found = [*_appearing(video, *one)]
        if not found:
            raise RefusedError(
                f"{one[0].folder}: the object is on none of the frames that count; SA-V's rules "
                "do not score it",
                hint="--videos NAMES takes other videos",
            )
        yield from (replace(score, object=name) for score in found)


def _appearing(video: Video, truth: Masks, predicted: Masks) -> Iterator[ObjectScore]:
    """Scores from the first frame on which the truth or the prediction shows an object."""
    scored = _inner(truth, truth.names())
    # Sets, filled from sets, as their order is that in which vos-benchmark adds objects up.
    in_truth: set[int] = set()
    in_masks: set[int] = set()
    values: dict[int, list[tuple[str, float, float]]] = {}
    for name in scored:
        true = truth.read(name)
        given = predicted.read(name, true.shape)
        in_truth.update({*ids_in(true)})
        in_masks.update({*ids_in(given)})
        for number in in_truth | in_masks:
            counted = Pair(given == number, true == number).counts()
            values.setdefault(number, []).append((name, counted.j, counted.f))
    for number in in_truth:
        names, j, f = zip(*values[number], strict=True)
        yield _scored(video, str(number), names, j, f)


def _lvos(video: Video, truth: Masks, predicted: Masks) -> Iterator[ObjectScore]:
    scored = _frames_of_objects(video, truth)
    counted = _by_object(truth, predicted, scored, Pair.counts)
    for name, frames in scored.items():
        j, f = [one.j for one in counted[name]], [one.f for one in counted[name]]
        both = (np.array(j) + np.array(f)) / 2
        spread = math.sqrt(round(float(np.sum((both.mean() - both) ** 2)) / len(both), 4))
        yield _scored(video, name, frames, j, f, {"v": spread * 100})


def _frames_of_objects(video: Video, truth: Masks) -> dict[str, list[str]]:
    """The frames on which each object of LVOS counts, by its id."""
    scored: dict[str, list[str]] = {}
    masks = len(truth.names())
    for name, span in video.spans().items():
        between = range(span.start, span.end, _EVERY)
        if not 3 <= span.frames <= min(len(between) + 1, masks):
            raise RefusedError(
                f"{video.stated_in}: object {name} of video {video.name} has {span.frames} frames; "
                f"expected 3 or more, and not more than every fifth from {span.start} to "
                f"{span.end}, or than the {masks} masks in {video.truth}",
                hint="--protocol sav needs no such file",
            )
        scored[name] = [f"{number:08d}" for number in between[1 : span.frames - 1]]
    return scored


def _mosev2(video: Video, truth: Masks, predicted: Masks) -> Iterator[ObjectScore]:
    names = truth.names()
    for name in names:
        if not name.isdecimal():
            raise RefusedError(
                f"{truth.folder / name}.png: expected the number of a frame as name, as in MOSE"
            )
    names.sort(key=int)
    scored = _inner(truth, names)
    objects = video.objects() or [str(number) for number in ids_in(truth.read(names[0]))]
    counted = _by_object(truth, predicted, dict.fromkeys(objects, scored), _closely)
    for name in objects:
        j, f, classic, absent = zip(*counted[name], strict=True)
        more = {"classic_f": float(np.mean(classic)) * 100, **_gone_and_back(j, f, absent)}
        yield _scored(video, name, scored, j, f, more)


def _closely(pair: Pair) -> tuple[float, float, float, bool]:
    """J and F of MOSE v2, F as others define it, and whether the object is absent."""
    usual = diagonal_share(pair.shape)
    near = math.ceil(_AREA_SHARE * math.sqrt(pair.area)) if pair.area else math.ceil(usual)
    small = near < usual
    f = pair.counts(near if small else usual).f
    j = (pair.intersection + 1) / (pair.union + 1)
    return j, f, pair.counts().f if small else f, not pair.area


def _by_object(
    truth: Masks,
    predicted: Masks,
    scored: Mapping[str, Sequence[str]],
    measure: Callable[[Pair], _Measured],
) -> dict[str, list[_Measured]]:
    """Measure each object on its frames; each file is read once."""
    found: dict[str, list[_Measured]] = {name: [] for name in scored}
    for frame in sorted({frame for frames in scored.values() for frame in frames}, key=int):
        true = truth.read(frame)
        given = predicted.read(frame, true.shape)
        for name, frames in scored.items():
            if frame in frames:
                found[name].append(measure(Pair(given == int(name), true == int(name))))
    return found


def _gone_and_back(
    j: Sequence[float], f: Sequence[float], absent: Sequence[bool]
) -> dict[str, float | None]:
    """J&F of the stretches in which an object has gone, and of those after it came back."""
    stretches: list[tuple[bool, int, int]] = []
    start = 0
    for at in range(1, len(absent) + 1):
        if at == len(absent) or absent[at] != absent[start]:
            stretches.append((absent[start], start, at))
            start = at
    # The first stretch is neither: nothing came before it.
    found: dict[str, float | None] = {}
    for label, gone in (("disappear_jf", True), ("reappear_jf", False)):
        parts = [
            (float(np.mean(j[a:b])), float(np.mean(f[a:b])))
            for which, a, b in stretches
            if which == gone and a > 0
        ]
        means = [float(np.mean(side)) for side in zip(*parts, strict=True)]
        found[label] = sum(means) / 2 * 100 if means else None
    return found


_Rules = Callable[[Video, Masks, Masks], Iterable[ObjectScore]]
_RULES: Mapping[Protocol, _Rules] = {
    "davis": _davis,
    "sav": _sav,
    "lvos": _lvos,
    "mosev2": _mosev2,
}
