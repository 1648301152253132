"""``sam21convert evaluate``."""

from __future__ import annotations

import shlex

import click

from ..errors import UsageError
from ..evaluation.names import PROTOCOLS, Protocol
from ..progress import ProgressBar
from ..report import Report
from .names import Choice
from .shared import answering, config_option, device_option, json_option, overwrite_option


@click.command(short_help="Score how well a checkpoint tracks objects: J&F.")
@click.argument("paths", nargs=-1, required=True, metavar="[CHECKPOINT [CHECKPOINT]] DATA")
@click.option("--score", "scored", metavar="MASKS", help="Score these masks; no CHECKPOINT then.")
@click.option(
    "--protocol",
    type=Choice(PROTOCOLS),
    help="Whose rules say which frames and objects count. [default: those of the data set]",
)
@click.option("--masks", metavar="OUT", help="Keep the masks in this folder.")
@click.option("--videos", metavar="LIST", help="Names of videos, or a file with one a line.")
@config_option
@click.option("--image-size", type=int, metavar="N", help="Side of the model's input in pixels.")
@device_option("of the model; auto means a GPU if torch finds one")
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    default=1,
    show_default=True,
    help="Number of videos at a time, each in a process and on a GPU of its own.",
)
@click.option("--report", metavar="DIR", help="Keep what is done here, and go on there if stopped.")
@overwrite_option
@json_option
@answering
def evaluate(
    paths: tuple[str, ...],
    scored: str | None,
    protocol: Protocol | None,
    masks: str | None,
    videos: str | None,
    config: str | None,
    image_size: int | None,
    device: str,
    jobs: int,
    report: str | None,
    overwrite: bool,
    progress: ProgressBar,
) -> Report:
    """Score how well a checkpoint tracks the objects of DATA: J, F and J&F in percent.

    DATA is the folder that the archive of DAVIS 2017, SA-V, MOSE, LVOS or YouTube-VOS unpacks to.
    Objects are tracked from their first true mask, as for SAM 2's published figures. With --score,
    masks that any program has written are scored, which needs neither frames nor torch. A second
    CHECKPOINT is compared with the first, object by object.

    \b
    Examples:
      sam21convert evaluate model.pt DATA
      sam21convert evaluate model.pt DATA --masks OUT --protocol sav
      sam21convert evaluate model.pt my_finetune.pt DATA
      sam21convert evaluate model.pt DATA --jobs 4 --report REPORT
      sam21convert evaluate --score masks DATA
    """
    from ..evaluation import api
    from ..evaluation.datasets import names_in

    names = names_in(videos) if videos is not None else []
    *checkpoints, data = paths
    if scored is not None:
        given = {
            "--masks": masks is not None,
            "--config": config is not None,
            "--image-size": image_size is not None,
            "--device": device != "auto",
            "--jobs": jobs != 1,
            "--report": report is not None,
            "--overwrite": overwrite,
        }
        if unused := [name for name, is_given in given.items() if is_given]:
            raise UsageError(f"{unused[0]}: is for tracking, and --score tracks nothing")
        if checkpoints:
            raise UsageError(
                f"{checkpoints[0]}: expected the data set alone with --score, found a checkpoint "
                "before it",
                hint=shlex.join(["sam21convert", "evaluate", "--score", scored, data]),
            )
        return api.score(scored, data, protocol=protocol, videos=names, progress=progress)
    if len(checkpoints) not in (1, 2):
        raise UsageError(
            f"{data}: expected one or two checkpoints before the data set, found "
            f"{len(checkpoints)}",
            hint=f"sam21convert evaluate --score MASKS {shlex.quote(data)} scores masks alone",
        )
    return api.evaluate(
        checkpoints[0],
        data,
        protocol=protocol,
        masks=masks,
        videos=names,
        config=config,
        image_size=image_size,
        device=device,
        against=checkpoints[1] if len(checkpoints) == 2 else None,
        jobs=jobs,
        report=report,
        overwrite=overwrite,
        progress=progress,
    )
