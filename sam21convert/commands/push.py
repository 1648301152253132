"""``sam21convert push``."""

from __future__ import annotations

from typing import Any

import click

from ..report import Report
from .shared import ProgressBar, answering, config_option, json_option


@click.command()
@click.argument("source", metavar="SRC")
@click.argument("repo_id")
@click.option(
    "--to",
    type=click.Choice(["hf-video", "hf-image", "official"]),
    help="The dialect. Default: hf-video, or hf-image of an image model.",
)
@config_option
@click.option("--with-official", is_flag=True, help="Add the .pt and YAML of the official code.")
@click.option("--create-pr", is_flag=True, help="Propose, or add to an open proposal of yours.")
@click.option("--revision", metavar="REV", help="A branch, or refs/pr/N. Default: main.")
@click.option("--private", is_flag=True, help="Create the repository as a private one.")
@click.option("--message", metavar="TEXT", help="Title of the commit and of the proposal.")
@click.option("--license", metavar="ID", help="For the card, as in apache-2.0.")
@click.option("--base-model", metavar="ID", help="For the card: what this was trained from.")
@click.option(
    "--dataset", "datasets", multiple=True, metavar="ID", help="For the card; repeatable."
)
@click.option(
    "--parity",
    "scenarios",
    type=click.Choice(["quick", "full", "none"]),
    default="quick",
    show_default=True,
    help="How thoroughly to compare what is published with SRC.",
)
@click.option("--dry-run", is_flag=True, help="Do all but writing to the Hub.")
@json_option
@answering
def push(source: str, repo_id: str, message: str | None, **options: Any) -> Report:
    """Publish SRC as the repository REPO_ID of the Hugging Face Hub.

    Converts it, checks that it loads and computes what SRC does, writes a card with the evidence,
    says on standard error what it is going to write where, uploads what is not there yet and
    compares what the Hub then holds. Whatever fails a check is not published. Of a README.md that
    is there only our own section is written. The config is that of SRC, where it is of no
    published size or has another image size.

    The token is that of huggingface_hub: hf auth login, or HF_TOKEN.

    \b
    Examples:
      sam21convert push my_finetune.pt me/my-sam2 --license apache-2.0 --with-official
      sam21convert push my_finetune.pt someone/sam2 --create-pr --dry-run
    """
    from ..workflows.publish.push import MESSAGE
    from ..workflows.publish.push import push as publish

    with ProgressBar() as progress:

        def announce(plan: Report) -> None:
            progress.close()
            click.echo(f"{plan}\n", err=True)

        return publish(
            source,
            repo_id,
            message=message or MESSAGE,
            **options,
            progress=progress,
            announce=announce,
        )
