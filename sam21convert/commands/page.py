"""``sam21convert page``."""

from __future__ import annotations

from pathlib import Path

import click

from ..progress import ProgressBar
from ..report import Report
from .shared import answering, json_option, overwrite_option


@click.command(short_help="Write a web page that runs an exported model in a browser.")
@click.argument("folders", nargs=-1, required=True, metavar="ONNX_FOLDER...")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--title", metavar="TEXT", help="The title of the page, in place of the names.")
@click.option(
    "--cdn", is_flag=True, help="Let browsers load onnxruntime-web from a public CDN; needs no npm."
)
@click.option(
    "--runtime",
    metavar="FOLDER",
    help="Take the files of onnxruntime-web from there, such as "
    "node_modules/onnxruntime-web/dist, in place of npm's.",
)
@overwrite_option
@json_option
@answering
def page(
    folders: tuple[str, ...],
    out: Path,
    title: str | None,
    cdn: bool,
    runtime: str | None,
    overwrite: bool,
    progress: ProgressBar,
) -> Report:
    """Write a web page that runs the model of ONNX_FOLDER in a browser.

    Pictures are segmented there by points and boxes; none is uploaded. OUT is one folder, which
    any server for files can serve. With two folders, two models answer side by side, and the page
    shows where their masks differ. ONNX_FOLDER is what convert --to onnx writes. The runtime,
    onnxruntime-web, is downloaded by npm and lies beside the page.

    \b
    Examples:
      sam21convert page my-onnx site
      sam21convert page tiny-onnx my-onnx site --title "Before and after"
      python -m http.server -d site
    """
    from ..export.page.site import page as write

    return write(
        folders, out, title=title, cdn=cdn, runtime=runtime, overwrite=overwrite, progress=progress
    )
