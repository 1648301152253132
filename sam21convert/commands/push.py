"""``sam21convert push``."""

from __future__ import annotations

from typing import Any

import click

from ..progress import ProgressBar
from ..report import BLANK, Report
from . import completion
from .names import Choice, dialect_choice
from .screen import show
from .shared import answering, config_option, device_option, is_quiet, json_option
from .translate import as_options


@click.command(short_help="Publish a checkpoint on the Hugging Face Hub.")
@click.argument("source", metavar="SRC", shell_complete=completion.sources)
@click.argument("repo_id")
@click.option(
    "--to",
    type=dialect_choice(["hf-video", "hf-image", "official"]),
    help="The dialect. Default: hf-video, or hf-image for an image model.",
)
@config_option
@click.option("--with-official", is_flag=True, help="Add a .pt and a YAML for the official code.")
@click.option(
    "--with-onnx",
    is_flag=True,
    help="Add graphs for ONNX runtimes and browsers, as convert --to onnx writes them.",
)
@click.option(
    "--page-space",
    metavar="REPO",
    help="Publish a page that runs these graphs in browsers as the static Space REPO.",
)
@click.option(
    "--page-cdn", is_flag=True, help="Let that page load onnxruntime-web from a public CDN."
)
@click.option(
    "--app-space",
    metavar="REPO",
    help="Publish the page of serve, with this model, as the Space REPO, which has a server.",
)
@click.option(
    "--create-pr", is_flag=True, help="Open a pull request, or continue an open one of yours."
)
@click.option("--revision", metavar="REV", help="A branch, or refs/pr/N. Default: main.")
@click.option("--private", is_flag=True, help="If the repository is created, make it private.")
@click.option("--message", metavar="TEXT", help="Title of the commit and of the pull request.")
@click.option("--license", metavar="ID", help="For the card, for example apache-2.0.")
@click.option(
    "--base-model", metavar="ID", help="For the card: the model that this one was trained from."
)
@click.option(
    "--dataset",
    "datasets",
    multiple=True,
    metavar="ID",
    help="For the card: a dataset it was trained on. May be given several times.",
)
@click.option(
    "--example",
    type=click.Path(),
    metavar="PHOTO",
    help="For the card: a photo to show masks in, published as photo.jpg, at most 1024 pixels a "
    "side and without metadata. Needs --point or --box.",
)
@click.option(
    "--point",
    "points",
    multiple=True,
    metavar="[OBJECT:]X,Y[,LABEL]",
    help="A point in PHOTO, as for predict image.",
)
@click.option(
    "--box",
    "boxes",
    multiple=True,
    metavar="[OBJECT:]X0,Y0,X1,Y1",
    help="A box in PHOTO, as for predict image.",
)
@click.option(
    "--parity",
    "scenarios",
    type=Choice(["quick", "full", "none"]),
    default="quick",
    show_default=True,
    help="How thoroughly to compare the published model with SRC. none runs no model, so that the "
    "card has no picture either; it does not need torch.",
)
@click.option(
    "--evaluate",
    metavar="DATA",
    help="Track the objects of this data set with SRC and with what is published: no pixel of "
    "their masks may differ. The card says so, with J&F.",
)
@device_option("to compare them on")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Do everything except writing to the Hub; works without a token or a network too.",
)
@click.option(
    "--output",
    type=click.Path(),
    metavar="FOLDER",
    help="With --dry-run: write what would be uploaded to this new folder.",
)
@json_option
@answering
def push(
    source: str,
    repo_id: str,
    message: str | None,
    points: tuple[str, ...],
    boxes: tuple[str, ...],
    progress: ProgressBar,
    **options: Any,
) -> Report:
    """Publish SRC as the repository REPO_ID of the Hugging Face Hub.

    Converts SRC, checks that the result loads and computes what SRC does, and writes a model card
    with the evidence. Then lists the changes on standard error, uploads new and changed files, and
    verifies them on the Hub. A model that fails a check is not published. In an existing README.md
    only the section of sam21convert is written. --config is needed for a model of custom size or
    another image size.

    The token is that of huggingface_hub: run hf auth login, or set HF_TOKEN.

    \b
    Examples:
      sam21convert push my_finetune.pt me/my-sam2 --license apache-2.0 --with-official
      sam21convert push my_finetune.pt me/my-sam2 --example cells.png --point 210,350
      sam21convert push my_finetune.pt me/my-sam2 --with-onnx --page-space me/my-page
      sam21convert push my_finetune.pt me/my-sam2 --app-space me/my-app
      sam21convert push my_finetune.pt someone/sam2 --create-pr --dry-run --output look
    """
    from ..workflows.publish.needs import check_packages

    check_packages(
        options["to"],
        options["scenarios"],
        with_onnx=options["with_onnx"],
        tracks=options["evaluate"] is not None,
        serves=options["app_space"] is not None,
    )
    from ..prediction.allocation import keep_freed_memory
    from ..prediction.prompts import parse_prompts
    from ..workflows.publish.push import MESSAGE
    from ..workflows.publish.push import push as publish

    def announce(plan: Report) -> None:
        progress.close()
        if not is_quiet():
            show([*plan.shown(), BLANK], as_options, err=True)

    if options["evaluate"] is None:
        keep_freed_memory()
    progress.start("asking the Hub", 0)
    return publish(
        source,
        repo_id,
        message=message or MESSAGE,
        prompts=parse_prompts(points, boxes),
        **options,
        progress=progress,
        announce=announce,
    )
