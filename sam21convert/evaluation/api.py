"""The public functions :func:`evaluate` and :func:`score`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from ..config.load import load_config
from ..errors import RefusedError, Sam21ConvertError, UsageError
from ..io.nearby import expanded, not_a_folder
from ..io.output.atomic import new_folder, refuse_existing
from ..io.output.folders import refuse_file_name
from ..io.tensor import DType
from ..model.config import ModelConfig
from ..packages import require
from ..report import SILENT, Progress
from .datasets import Dataset, Layout, Video, open_dataset
from .expect import with_expected
from .folder import PICTURES, drop_others, write_page
from .journal import Journal, Unwritten, refuse_foreign
from .masks import Masks
from .names import Backend, Expectation, Protocol
from .protocols import check_video
from .report import Evaluation
from .rows import Failure, Row
from .run import carry_out, in_place
from .summary import summed_up
from .task import Task, working_on

_Config = str | Path | ModelConfig | None
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
    report: str | Path | None = None,
    overwrite: bool = False,
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
        report: A folder for a page with tables, charts and pictures, ``index.html``, and for the
            report in JSON; None writes none.
        overwrite: Whether ``report`` may be a folder that is not empty.
        progress: Told of each video.

    Returns:
        The score of each object, and the total.

    Raises:
        UsageError: If there is no video of a name, or ``report`` exists or lies among the data or
            the masks.
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
    chosen, rules = dataset.chosen(videos), protocol or _RULES_OF[dataset.layout]
    home = None if report is None else expanded(Path(report))
    if home is not None:
        _refuse_report_at(home, folder, chosen)
        refuse_existing(home, overwrite=overwrite)
    with _staged(home, overwrite=overwrite) as staging:
        pictures = None if staging is None else staging / PICTURES
        task = Task(dataset.layout, rules, masks=folder, pictures=pictures)
        progress.start("scoring", len(chosen))
        rows = []
        work = working_on(task)
        for video in chosen:
            progress.advance(0, video.name)
            rows.append(work(video, SILENT))
            progress.advance(1)
        notes = [*_notes(dataset, protocol)]
        found = summed_up(dataset.root, task, rows, masks=folder, notes=notes)
        if staging is not None:
            write_page(found, staging)
            drop_others(found, staging)
    return found


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
    dtype: DType = "float32",
    backend: Backend = "truth",
    against: str | Path | None = None,
    against_config: str | Path | ModelConfig | None = None,
    expect: Expectation | None = None,
    jobs: int | None = None,
    ray: str | None = None,
    report: str | Path | None = None,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> Evaluation:
    """Track the objects of a data set with a checkpoint, and score the masks.

    Objects are tracked as the script does by which SAM 2's published figures were made
    (``tools/vos_inference.py``): from the first true mask of each, without post-processing.

    Args:
        checkpoint: Any checkpoint that :func:`~sam21convert.load_model` takes, or ``backend:`` and
            a checkpoint, to have it run by another package.
        data: As for :func:`score`; its frames must be there.
        protocol: As for :func:`score`.
        masks: A folder for the masks; None keeps none. It is needed where the true masks are not
            public, as of MOSE and YouTube-VOS: they are then tracked, and not scored.
        videos: As for :func:`score`.
        config: As for :func:`~sam21convert.load_model`.
        image_size: As for :func:`~sam21convert.load_model`.
        device: ``"auto"`` for a GPU if there is one, or a device as torch names it.
        dtype: The type to compute in: ``"float32"``, or ``"bfloat16"`` and ``"float16"`` by
            autocast.
        backend: What runs checkpoints that name no backend: ``"truth"`` for this package's model,
            ``"sam2"`` for the official predictor, ``"transformers"`` for its ``Sam2VideoModel``, or
            ``"onnx"`` for an export with the graphs for videos.
        against: A second checkpoint, which tracks the same objects. The report compares the two
            object by object; ``masks`` then gets the folders ``first`` and ``second``.
        against_config: The config of ``against``; None for ``config``.
        expect: ``"published"`` to say how far J&F is from the published figure, if the two can be
            compared; None not to.
        jobs: How many videos at a time: with more than one, each is evaluated by another process,
            which loads the model itself. They take the GPUs in turn, and share the cores. None for
            one video at a time, in this process, or with ``ray`` for one on each device.
        ray: A Ray cluster whose actors evaluate the videos: ``"HOST:PORT"``, ``"auto"`` for the one
            that runs on this machine, or ``"local"`` for one that is started here and ends with
            the evaluation. All nodes read the files by the same paths.
        report: A folder for a page with tables, charts and pictures, ``index.html``, for the report
            in JSON, and for a line about each video as soon as it is done, ``videos.jsonl``. An
            evaluation that was stopped goes on there if it is asked for once more: what is done is
            not done again, but for videos that failed.
        overwrite: Whether ``masks`` and ``report`` may be folders that are not empty. A journal
            there is then begun anew.
        progress: Told of frames, and of videos, speed and time left.

    Returns:
        The score of each object, and the total, or None if nothing can be scored here.

    Raises:
        UsageError: If there is no video of a name, the device is not there, a backend cannot do
            what is asked, ``masks`` exists or lies among the data, or ``report`` is of another
            evaluation.
        UnreadableError: If a file is missing, damaged or of the wrong size.
        RefusedError: As :func:`score` does.
        Sam21ConvertError: For a checkpoint, as :func:`~sam21convert.load_model` does.

    Example:
        >>> found = sam21convert.evaluate("model.pt", "DATA")
        >>> 0 <= found.jf <= 100
        True
    """
    require("torch", "evaluate")
    if ray is not None:
        require("ray", "`ray`")
    if jobs is not None and jobs < 1:
        raise UsageError(f"`jobs`: expected a number from 1, found {jobs}")
    dataset = open_dataset(data)
    chosen = dataset.chosen(videos)
    rules = protocol or _RULES_OF[dataset.layout]
    kept, home = (None if one is None else expanded(Path(one)) for one in (masks, report))
    _refuse_places(kept, home, chosen, overwrite=overwrite)
    withheld = _not_public(dataset, chosen)
    if withheld is not None and kept is None:
        raise RefusedError(withheld, hint="--masks OUT writes masks that the server scores")
    rows = {} if withheld is not None else _unscorable(rules, chosen)
    notes = [*_notes(dataset, protocol)] if withheld is None else [f"not scored: {withheld}"]
    if len(rows) == len(chosen) and (failure := rows[chosen[0].name].failure) is not None:
        raise failure.error()
    task = Task(
        dataset.layout,
        rules,
        masks=kept,
        pictures=None if home is None else home / PICTURES,
        scored=withheld is None,
        image_size=image_size,
        device=device,
        dtype=dtype,
    ).by(_sources(checkpoint, config, against, against_config), backend, progress)
    with in_place(dataset, task, home, overwrite=overwrite) as (placed, journal):
        done = _carried_out(placed, chosen, rows, journal, jobs, ray, progress)
        found = summed_up(dataset.root, task, done, masks=kept, notes=notes)
        if expect is not None:
            found = with_expected(found, dataset.listed_in)
        if home is not None:
            write_page(found, home)
        return found


def _staged(folder: Path | None, *, overwrite: bool) -> AbstractContextManager[Path | None]:
    """A folder under its temporary name until all is done; None for none."""
    return nullcontext() if folder is None else new_folder(folder, overwrite=overwrite)


def _carried_out(
    task: Task,
    videos: Sequence[Video],
    rows: Mapping[str, Row],
    journal: Journal | Unwritten,
    jobs: int | None,
    ray: str | None,
    progress: Progress,
) -> list[Row]:
    """The rows of all videos: those that are there, those of the journal, and new ones."""
    found = {**journal.rows, **rows}
    left = [video for video in videos if video.name not in found]

    def record(row: Row) -> None:
        found[row.video] = row
        journal.record(row)

    carry_out(task, left, jobs=jobs, ray=ray, record=record, progress=progress)
    return [found[video.name] for video in videos]


def _sources(
    checkpoint: str | Path, config: _Config, against: str | Path | None, other: _Config
) -> list[tuple[str | Path, ModelConfig | None]]:
    """The checkpoints, each with its config."""
    pairs = [(checkpoint, config)]
    if against is not None:
        pairs.append((against, config if other is None else other))
    return [
        (one, given if given is None or isinstance(given, ModelConfig) else load_config(given))
        for one, given in pairs
    ]


def _refuse_places(
    masks: Path | None, report: Path | None, videos: Sequence[Video], *, overwrite: bool
) -> None:
    """Refuse to write where something is, or among the data."""
    goes_on = False
    if report is not None:
        _refuse_report_at(report, masks, videos)
        goes_on = refuse_foreign(report, overwrite=overwrite)
    if masks is not None:
        _refuse_data(masks, videos, "masks")
        refuse_file_name(masks)
        if report is None or masks.exists() or masks.parent.resolve() != report.resolve():
            refuse_existing(masks, overwrite=overwrite or goes_on)


def _unscorable(rules: Protocol, videos: Sequence[Video]) -> dict[str, Row]:
    """Rows of videos that the rules do not allow for: better known before they are tracked."""
    rows = {}
    for video in videos:
        try:
            check_video(rules, video, Masks(video.truth))
        except (Sam21ConvertError, OSError) as error:
            rows[video.name] = Row(video.name, failure=Failure.of(error, video.name))
    return rows


def _refuse_data(kept: Path, videos: Sequence[Video], what: str) -> None:
    """Refuse to write among the frames and masks of the data set, or over it."""
    place = kept.resolve()
    folders = {folder.parent for video in videos for folder in (video.truth, video.frames)}
    for folder in sorted(folders):
        given = folder.resolve()
        if place.is_relative_to(given) or given.is_relative_to(place):
            raise UsageError(
                f"{kept}: {what} would be written among the data set in {folder}, which is "
                "never changed",
                hint="give a folder of their own",
            )


def _refuse_report_at(report: Path, masks: Path | None, videos: Sequence[Video]) -> None:
    """Refuse to write a report among the data, or among masks, where all else is a video."""
    _refuse_data(report, videos, "the report")
    if masks is not None and report.resolve().is_relative_to(masks.resolve()):
        raise UsageError(
            f"{report}: the report would be written among the masks in {masks}",
            hint="give a folder of its own",
        )
    refuse_file_name(report)


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


def _notes(dataset: Dataset, protocol: Protocol | None) -> Iterator[str]:
    usual = _RULES_OF[dataset.layout]
    if dataset.layout == "youtube":
        yield "YouTube-VOS is scored by its server, with unseen categories apart; this total is not"
    if protocol not in (None, usual):
        yield f"data of layout {dataset.layout} is usually scored by the rules of {usual}"
