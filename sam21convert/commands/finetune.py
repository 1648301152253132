"""``sam21convert finetune``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from ..progress import ProgressBar
from ..report import SILENT, Report
from ..workflows.finetune.names import TRAIN
from . import completion
from .names import Choice
from .shared import answering, config_option, device_option, json_option


@click.command(short_help="Train a checkpoint on your masks; prove and write the result.")
@click.argument("base", shell_complete=completion.sources)
@click.argument("data", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--train",
    type=Choice(TRAIN),
    default="decoder",
    show_default=True,
    help="What to train; encoder-lora is the decoder with a LoRA on the image encoder.",
)
@click.option("--images", is_flag=True, help="Train on single frames of videos.")
@click.option("--video", is_flag=True, help="Train on clips; refuse data that are no videos.")
@click.option(
    "--frames",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    metavar="N",
    help="Number of frames of a clip.",
)
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of steps; each takes one clip or picture.",
)
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    metavar="N",
    help="How often to draw every video or picture. Default: 40.",
)
@click.option(
    "--lr",
    type=float,
    metavar="RATE",
    help="The rate at the beginning. Default: 5e-6 to train all, 1e-4 to train parts.",
)
@click.option("--image-size", type=int, metavar="N", help="Side of the model's input in pixels.")
@click.option(
    "--eval",
    "evaluate",
    type=click.Path(path_type=Path),
    metavar="VIDEOS",
    help="Score on these held-out videos before, after and in between, as evaluate does.",
)
@config_option
@device_option("to train on; auto means a GPU if torch finds one")
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Of all that is drawn.",
)
@click.option("--resume", is_flag=True, help="Go on with what OUT holds, if it exists.")
@json_option
@answering
def finetune(base: str, data: Path, out: Path, progress: ProgressBar, **options: Any) -> Report:
    """Train BASE on the masks of DATA, and write what came of it to the new folder OUT.

    DATA is a data set of videos as for evaluate; a folder with images and masks, a PNG of ids for
    each picture; or the JSON of COCO, or its folder. Losses, simulated prompts, augmentation and
    schedule are those of SAM 2's own training. OUT gets the weights as safetensors and as a folder
    for transformers with a card, the trainer's checkpoint, logs for TensorBoard, and a report: what
    changed, whether both forms compute the same, and with --eval whether it is better.

    Ctrl-C finishes the step and saves; --resume goes on as if nothing had happened. For several
    GPUs: accelerate launch -m sam21convert finetune ...

    \b
    Examples:
      sam21convert finetune model.pt DATA OUT
      sam21convert finetune model.pt DATA OUT --eval HELD_OUT --train all --epochs 20
      sam21convert finetune model.pt coco.json OUT --train encoder-lora --image-size 512
      sam21convert finetune model.pt DATA OUT --resume
    """
    from ..workflows.finetune.api import finetune as train_on

    if int(os.environ.get("RANK", "0")):  # of several processes the first speaks
        sys.stdout = None
        return train_on(base, data, out, **options, progress=SILENT)
    return train_on(base, data, out, **options, progress=progress)
