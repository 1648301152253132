"""``sam21convert serve``."""

from __future__ import annotations

import click

from ..progress import ProgressBar
from ..report import Report
from . import completion
from .ending import say
from .shared import answering, config_option, device_option
from .translate import as_options


@click.command(short_help="Open a page to look at one checkpoint or two.")
@click.argument(
    "checkpoints",
    nargs=-1,
    required=True,
    metavar="CHECKPOINT [CHECKPOINT]",
    shell_complete=completion.sources,
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=7860,
    show_default=True,
    metavar="N",
    help="The port; 0 takes a free one.",
)
@click.option("--no-browser", is_flag=True, help="Print the address alone; open no browser.")
@config_option
@click.option("--image-size", type=int, metavar="N", help="Side of the model's input in pixels.")
@device_option("of the models; auto means a GPU if torch finds one")
@answering
def serve(
    checkpoints: tuple[str, ...],
    port: int,
    no_browser: bool,
    config: str | None,
    image_size: int | None,
    device: str,
    progress: ProgressBar,
) -> Report:
    """Open a page on which CHECKPOINT segments pictures and follows objects through videos.

    Click an object, or drag a box around it; correct it, follow it, download its masks. With a
    second CHECKPOINT both answer the same clicks side by side, and the page draws where they
    differ. It shows the command that repeats what was clicked. The page can be reached from this
    machine alone; what is opened in it stays here, and is forgotten when the page is closed. The
    first line printed is its address; Ctrl-C ends it.

    \b
    Examples:
      sam21convert serve tiny.pt
      sam21convert serve sam2.1_hiera_tiny my_finetune.pt --port 0 --no-browser
    """
    from ..packages import require

    require("web", "serve")
    from ..web.serving import serve as run

    context = click.get_current_context()

    def spell(text: str) -> str:
        with context.scope(cleanup=False):  # pages are answered by other threads
            return as_options(text)

    def announce(address: str) -> None:
        progress.close()
        say(address)

    progress.start("loading", 0)
    run(
        checkpoints,
        port=port,
        config=config,
        image_size=image_size,
        device=device,
        browser=not no_browser,
        spell=spell,
        progress=progress,
        announce=announce,
    )
