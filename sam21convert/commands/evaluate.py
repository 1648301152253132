"""``sam21convert evaluate``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

import click

from ..errors import UsageError
from ..evaluation.names import (
    BACKENDS,
    EXPECTATIONS,
    PROTOCOLS,
    Protocol,
)
from ..progress import ProgressBar
from ..report import Report
from .names import Choice, dtype_choice
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
@click.option(
    "--expect",
    type=Choice(EXPECTATIONS),
    help="Say how far J&F is from the published figure; exit code 1 if it is too low.",
)
@click.option("--report", metavar="DIR", help="Write a page here; a stopped run goes on.")
@config_option
@click.option("--image-size", type=int, metavar="N", help="Side of the model's input in pixels.")
@device_option("of the model; auto means a GPU if torch finds one")
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of videos at a time, each in a process and on a GPU of its own. [default: 1]",
)
@click.option(
    "--ray",
    metavar="ADDRESS",
    help="Evaluate on a Ray cluster: auto, HOST:PORT, or local for one that is started here.",
)
@click.option(
    "--dtype",
    type=dtype_choice(),
    help="The type to compute in, by autocast. [default: float32]",
)
@click.option(
    "--backend",
    type=Choice(BACKENDS),
    help="What runs a CHECKPOINT without a backend before it. [default: truth]",
)
@overwrite_option
@json_option
@answering
def evaluate(
    paths: tuple[str, ...],
    scored: str | None,
    protocol: Protocol | None,
    videos: str | None,
    report: str | None,
    overwrite: bool,
    progress: ProgressBar,
    **given: Any,
) -> Report:
    """Score how well a checkpoint tracks the objects of DATA: J, F and J&F in percent.

    DATA is the folder that the archive of DAVIS 2017, SA-V, MOSE, LVOS or YouTube-VOS unpacks to.
    Objects are tracked from their first true mask, as for SAM 2's published figures. With --score,
    masks that any program has written are scored, which needs neither frames nor torch. A second
    CHECKPOINT is compared with the first, object by object. As for parity, sam2:, transformers: or
    onnx: before a CHECKPOINT has it run by that package.

    \b
    Examples:
      sam21convert evaluate model.pt DATA
      sam21convert evaluate model.pt DATA --masks OUT --protocol sav
      sam21convert evaluate model.pt my_finetune.pt DATA --jobs 4 --report evidence
      sam21convert evaluate sam2:model.pt model.safetensors DATA
      sam21convert evaluate --score masks DATA
    """
    from ..evaluation import api
    from ..evaluation.datasets import names_in

    *checkpoints, data = paths
    options: dict[str, Any] = {
        "protocol": protocol,
        "videos": names_in(videos) if videos is not None else [],
        "report": report,
        "overwrite": overwrite,
        "progress": progress,
    }
    tracking = {name: value for name, value in given.items() if value not in (None, "auto")}
    if scored is not None:
        if tracking:
            name = next(iter(tracking)).replace("_", "-")
            raise UsageError(f"--{name}: is for tracking, and --score tracks nothing")
        if overwrite and report is None:
            raise UsageError("--overwrite: is for what is written, and nothing is without --report")
        _refuse_checkpoints(checkpoints, scored, data)
        return api.score(scored, data, **options)
    if len(checkpoints) not in (1, 2):
        raise UsageError(
            f"{data}: expected one or two checkpoints before the data set, found "
            f"{len(checkpoints)}",
            hint=f"sam21convert evaluate --score MASKS {shlex.quote(data)} scores masks alone",
        )
    against = checkpoints[1] if len(checkpoints) == 2 else None
    return api.evaluate(checkpoints[0], data, against=against, **options, **tracking)


def _refuse_checkpoints(checkpoints: Sequence[str], scored: str, data: str) -> None:
    if checkpoints:
        raise UsageError(
            f"{checkpoints[0]}: expected the data set alone with --score, found a checkpoint "
            "before it",
            hint=shlex.join(["sam21convert", "evaluate", "--score", scored, data]),
        )
