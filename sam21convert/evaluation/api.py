"""The public functions :func:`evaluate` and :func:`score`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import RefusedError, UsageError
from ..io.data.checksums import sha256
from ..io.nearby import expanded, not_a_folder
from ..io.output.atomic import new_folder, refuse_existing
from ..io.output.folders import refuse_file_name
from ..io.output.temporary import temporary_folder
from ..packages import require
from ..report import SILENT, Progress
from .datasets import Dataset, Layout, Video, open_dataset
from .masks import Masks
from .names import Protocol
from .paired import compare
from .protocols import ObjectScore, check_video, score_video
from .report import Evaluation, summed_up

if TYPE_CHECKING:
    from ..checkpoint.open import Checkpoint
    from ..model.config import ModelConfig
    from ..model.video_predictor import SAM2VideoPredictor

_FIRST, _SECOND = "first", "second"  # folders for the masks of two checkpoints
# The rules that belong to a layout. Those of YouTube-VOS need a list of unseen categories, which
# only its server has; of the others, SA-V's are for objects that appear later.
_RULES_OF: dict[Layout, Protocol] = {
    "davis": "davis",
    "sav": "sav",
    "lvos": "lvos",
    "youtube": "sav",
    "mose": "davis",
}


def score(
    masks: str | Path,
    data: str | Path,
    *,
    protocol: Protocol | None = None,
    videos: Sequence[str] = (),
    progress: Progress = SILENT,
) -> Evaluation:
    """Score masks that any program has written; needs neither frames nor torch.

    Args:
        masks: A folder with a folder for each video, whose masks are arranged and named as the true
            ones are.
        data: The root of the data set: what its own archive unpacks to, of DAVIS 2017, SA-V, LVOS,
            MOSE or YouTube-VOS.
        protocol: The rules: ``"davis"``, ``"sav"``, ``"lvos"`` or ``"mosev2"``; None for those of
            the data set.
        videos: Names of the videos to score; empty for all of the data set, or of its list for
            validation.
        progress: Told of each video.

    Returns:
        The score of each object, and the total.

    Raises:
        UsageError: If there is no video of a name.
        UnreadableError: If a file is missing, damaged or of the wrong size.
        RefusedError: If the data set is arranged in no known way, or the rules do not allow for
            what the masks hold.

    Example:
        >>> sam21convert.score("masks", "DATA", protocol="sav").protocol
        'sav'
    """
    require("score", "score")
    folder, dataset = expanded(Path(masks)), open_dataset(data)
    if not folder.is_dir():
        raise not_a_folder(folder)
    rules = protocol or _RULES_OF[dataset.layout]
    scores = _scored(dataset, rules, folder, dataset.chosen(videos), progress)
    return summed_up(
        dataset.root,
        dataset.layout,
        rules,
        scores,
        videos=len({one.video for one in scores}),
        masks=folder,
        notes=_notes(dataset, protocol),
    )


def evaluate(
    checkpoint: str | Path,
    data: str | Path,
    *,
    protocol: Protocol | None = None,
    masks: str | Path | None = None,
    videos: Sequence[str] = (),
    config: str | Path | ModelConfig | None = None,
    image_size: int | None = None,
    device: str = "auto",
    against: str | Path | None = None,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> Evaluation:
    """Track the objects of a data set with a checkpoint, and score the masks.

    Objects are tracked as the script does by which SAM 2's published figures were made
    (``tools/vos_inference.py``): from the first true mask of each, without post-processing, in
    float32.

    Args:
        checkpoint: Any checkpoint that :func:`~sam21convert.load_model` takes.
        data: As for :func:`score`; its frames must be there.
        protocol: As for :func:`score`.
        masks: A folder for the masks; None keeps none. It is needed where the true masks are not
            public, as of MOSE and YouTube-VOS: they are then tracked, and not scored.
        videos: As for :func:`score`.
        config: As for :func:`~sam21convert.load_model`.
        image_size: As for :func:`~sam21convert.load_model`.
        device: ``"auto"`` for a GPU if there is one, or a device as torch names it.
        against: A second checkpoint, which tracks the same objects. The report compares the two
            object by object; ``masks`` then gets the folders ``first`` and ``second``.
        overwrite: Whether ``masks`` may be a folder that is not empty.
        progress: Told of the frames of each video.

    Returns:
        The score of each object, and the total, or None if nothing can be scored here.

    Raises:
        UsageError: If there is no video of a name, the device is not there, or ``masks`` exists or
            lies among the data.
        UnreadableError: If a file is missing, damaged or of the wrong size.
        RefusedError: As :func:`score` does.
        Sam21ConvertError: For a checkpoint, as :func:`~sam21convert.load_model` does.

    Example:
        >>> found = sam21convert.evaluate("model.pt", "DATA")
        >>> 0 <= found.jf <= 100
        True
    """
    require("torch", "evaluate")
    from ..checkpoint.open import open_checkpoint
    from .track import predictor_of

    dataset = open_dataset(data)
    chosen = dataset.chosen(videos)
    rules = protocol or _RULES_OF[dataset.layout]
    kept = None if masks is None else expanded(Path(masks))
    if kept is not None:
        _refuse_data(kept, chosen)
        refuse_file_name(kept)
        refuse_existing(kept, overwrite=overwrite)
    withheld = _not_public(dataset, chosen)
    if withheld is None:
        for video in chosen:
            check_video(rules, video, Masks(video.truth))
    elif kept is None:
        raise RefusedError(withheld, hint="--masks OUT writes masks that the server scores")
    run = _Run(dataset, chosen, rules, withheld, [*_notes(dataset, protocol)], progress)
    with _home(kept, overwrite=overwrite) as home:

        def tracked(source: str | Path, inner: str = "") -> Evaluation:
            progress.start(f"loading {source}", 0)
            opened = open_checkpoint(source, config)
            predictor = predictor_of(opened, image_size, device)
            found = run.by(predictor, opened, home / inner)
            return found if kept is None else replace(found, masks=kept / inner)

        if against is None:
            return tracked(checkpoint)
        first, second = tracked(checkpoint, _FIRST), tracked(against, _SECOND)
        progress.start("comparing", 0)
        scores = first.per_object, second.per_object
        paired = compare(*scores, chosen, (home / _FIRST, home / _SECOND))
        return replace(first, against=second, paired=paired)


@dataclass(frozen=True)
class _Run:
    """What checkpoints are asked for: videos to track, and rules to score them by.

    ``withheld`` says why nothing can be scored, if so.
    """

    dataset: Dataset
    videos: Sequence[Video]
    rules: Protocol
    withheld: str | None
    notes: Sequence[str]
    progress: Progress

    def by(self, predictor: SAM2VideoPredictor, opened: Checkpoint, home: Path) -> Evaluation:
        """Track all videos with a checkpoint and score the masks, which are left in a folder."""
        from .track import track

        dataset = self.dataset
        for video in self.videos:
            (home / video.name).mkdir(parents=True)
            track(predictor, video, dataset.layout, home / video.name, self.progress)
        scores: Sequence[ObjectScore] = ()
        if self.withheld is None:
            scores = _scored(dataset, self.rules, home, self.videos, self.progress)
        return summed_up(
            dataset.root,
            dataset.layout,
            self.rules,
            scores,
            videos=len(self.videos),
            checkpoint=opened.source.path,
            sha256={str(path): sha256(path) for path in opened.source.files},
            notes=[f"not scored: {self.withheld}"] if self.withheld else self.notes,
        )


def _refuse_data(kept: Path, videos: Sequence[Video]) -> None:
    """Refuse to write masks among the frames and masks of the data set, or over it."""
    place = kept.resolve()
    folders = {folder.parent for video in videos for folder in (video.truth, video.frames)}
    for folder in sorted(folders):
        given = folder.resolve()
        if place.is_relative_to(given) or given.is_relative_to(place):
            raise UsageError(
                f"{kept}: masks would be written among those of the data set in {folder}, which is "
                "never changed",
                hint="give a folder of their own",
            )


def _not_public(dataset: Dataset, videos: Sequence[Video]) -> str | None:
    """Say that the true masks are not public, if this shows in their number."""
    if dataset.layout not in ("mose", "youtube"):
        return None
    for video in videos:
        if (count := len(Masks(video.truth).names())) < 3:
            return (
                f"{video.truth}: has too few true masks to score, {count}; those of validation "
                "videos are not public, and a server scores them"
            )
    return None


@contextmanager
def _home(kept: Path | None, *, overwrite: bool) -> Iterator[Path]:
    """The folder that masks are written to."""
    if kept is None:
        with temporary_folder() as folder:
            yield folder
        return
    with new_folder(kept, overwrite=overwrite) as folder:
        yield folder


def _scored(
    dataset: Dataset,
    rules: Protocol,
    folder: Path,
    videos: Sequence[Video],
    progress: Progress,
) -> list[ObjectScore]:
    progress.start("scoring", len(videos))
    scores: list[ObjectScore] = []
    for video in videos:
        progress.advance(0, video.name)
        scores += score_video(rules, video, Masks(video.truth), Masks(folder / video.name))
        progress.advance(1)
    if not scores:
        raise UsageError(f"{dataset.root}: no object counts in the chosen videos")
    return scores


def _notes(dataset: Dataset, protocol: Protocol | None) -> Iterator[str]:
    usual = _RULES_OF[dataset.layout]
    if dataset.layout == "youtube":
        yield "YouTube-VOS is scored by its server, with unseen categories apart; this total is not"
    if protocol not in (None, usual):
        yield f"data of layout {dataset.layout} is usually scored by the rules of {usual}"
