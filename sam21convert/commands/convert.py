"""``sam21convert convert``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import click

from ..dialects import BY_NAME
from ..errors import UsageError
from ..export.options import LAYOUTS, ONNX, USUAL, Layout
from ..io.nearby import expanded
from ..io.onnx import Variant
from ..progress import ProgressBar
from ..report import Report
from . import completion
from .names import Choice, dialect_choice, dtype_choice
from .shared import (
    answering,
    config_option,
    device_option,
    drop_option,
    json_option,
    overwrite_option,
    prefix_option,
    refuse_choice,
    weights_option,
)


@click.command(short_help="Convert a checkpoint to another format, bit for bit.")
@click.argument("source", type=click.Path(), shell_complete=completion.sources)
@click.argument("destination", type=click.Path(path_type=Path))
@click.option(
    "--to",
    type=dialect_choice([*BY_NAME, ONNX]),
    help="Dialect to write; hf is either of transformers'. onnx is a program for other runtimes. "
    "Default: official for a file, hf for a folder.",
)
@click.option(
    "--layout",
    type=Choice(LAYOUTS),
    help="With --to onnx: for transformers.js (the default), or for labelling tools.",
)
@click.option(
    "--variants",
    metavar="LIST",
    help="With --to onnx: some of fp32, fp16 and q8, separated by commas. Default: fp32,q8.",
)
@click.option("--with-video", is_flag=True, help="With --to onnx: graphs for videos as well.")
@config_option
@click.option(
    "--base",
    metavar="CHECKPOINT",
    type=click.Path(),
    shell_complete=completion.sources,
    help="Take missing tensors from this checkpoint: those that the dialect of SOURCE does not "
    "have (hf-image has no memory) or a training did not save. A LoRA adapter is merged into it.",
)
@weights_option
@prefix_option
@click.option(
    "--generation",
    type=Choice(["2.1", "2.0"]),
    help="Generation to write. From 2.0 to 2.1, tensors of zeros are added, which do not change "
    "the results. From 2.1 to 2.0 is refused unless the same tensors are zero.",
)
@click.option(
    "--allow-lossy",
    is_flag=True,
    help="With --generation 2.0, drop the tensors of SAM 2.1 even if they are not zero.",
)
@click.option(
    "--image-size",
    type=int,
    metavar="N",
    help="Side of the input in pixels, for the config that is written.",
)
@click.option(
    "--dtype",
    type=dtype_choice(),
    help="Cast the tensors. Default: keep their type.",
)
@click.option(
    "--lora-alpha",
    type=float,
    metavar="ALPHA",
    help="Alpha of a LoRA that is still inside SOURCE, a state dict: alpha / rank scales it. PEFT "
    "does not save it there; its default is 8.",
)
@click.option(
    "--drop-hq",
    is_flag=True,
    help="Extract the SAM 2 from an HQ-SAM 2: leave out the tensors that HQ adds.",
)
@drop_option
@click.option(
    "--shard-size",
    metavar="SIZE",
    help="Split the weights of a transformers folder into files of at most this size, as in 500MB.",
)
@click.option("--no-verify", is_flag=True, help="Do not read the output back to compare checksums.")
@click.option(
    "--parity",
    is_flag=True,
    help="Run source and output on the same inputs, and keep the output only if both compute the "
    "same: see sam21convert parity.",
)
@click.option(
    "--evaluate",
    "data",
    metavar="DATA",
    help="Track the objects of this data set with source and output, and keep the output only if "
    "no pixel of their masks differs: see sam21convert evaluate.",
)
@device_option("to compare on, if that is asked for")
@click.option("--dry-run", is_flag=True, help="Print the plan and write nothing.")
@overwrite_option
@json_option
@answering
def convert(
    source: str,
    destination: Path,
    overwrite: bool,
    dry_run: bool,
    no_verify: bool,
    parity: bool,
    data: str | None,
    device: str,
    json: bool,
    progress: ProgressBar,
    layout: Layout | None,
    variants: str | None,
    with_video: bool,
    **options: Any,
) -> Report:
    """Convert SOURCE to DESTINATION, bit for bit.

    SOURCE is a path or any source that sam21convert pull accepts. The extension of DESTINATION
    chooses the format: .pt, .pth or .safetensors for a file; any other name is a folder with its
    configs, for transformers or, with --to timm, for timm. ultralytics and comfyui recognise a file
    by its name: with --to ultralytics or comfyui, DESTINATION may be an existing folder, which gets
    a file of the right name. --json adds the origin of every tensor and the SHA-256 of every file.

    \b
    Examples:
      sam21convert convert sam2.1_hiera_tiny.pt my-model/
      sam21convert convert my-model/ back.pt
      sam21convert convert sam2.1_hiera_tiny.pt tiny-fp16.safetensors --dtype float16
      sam21convert convert sam2_hiera_tiny.pt lifted.pt --generation 2.1
      sam21convert convert my_finetune.pt my-model/ --parity --evaluate DAVIS
      sam21convert convert sam2.1_hiera_tiny.pt trunk/ --to timm
      sam21convert convert sam2.1_hiera_tiny.pt . --to ultralytics
      sam21convert convert training.ckpt ema.pt --weights ema
      sam21convert convert decoder_only.pt whole.pt --base sam2.1_hiera_tiny.pt
      sam21convert convert with_a_head.pt plain.pt --drop 'cls_head.*'
      sam21convert convert my-lora/ merged.pt --base sam2.1_hiera_tiny
      sam21convert convert my_finetune.pt my-onnx --to onnx --with-video
    """
    if options["to"] == ONNX:
        refused = {"dry_run": dry_run, "no_verify": no_verify, "evaluate": data}
        refused |= {name: options[name] for name in ("allow_lossy", "dtype", "shard_size")}
        _refuse(refused, "has no effect on graphs: leave it out")
        return _export(
            source,
            destination,
            {**options, "overwrite": overwrite, "to": None},
            layout or LAYOUTS[0],
            variants or ",".join(USUAL),
            with_video=with_video,
            parity=parity,
            progress=progress,
        )
    only = {"layout": layout, "variants": variants, "with_video": with_video}
    _refuse(only, "is for `to=onnx`: add that")
    if parity or data is not None:
        _prepare_run("`parity`" if parity else "`evaluate`", source, options, data)
    from ..conversion.options import ConvertOptions
    from ..conversion.plan import make_plan
    from ..conversion.report import report
    from ..conversion.write import carry_out

    chosen = ConvertOptions(overwrite=overwrite, **options)
    plan = make_plan(source, destination, chosen)
    verify = not no_verify
    if dry_run:
        return report(plan, dry_run=True, verified=False, hashes=json)
    if not parity and data is None:
        equal = carry_out(plan, overwrite=overwrite, verify=verify, progress=progress)
        return report(plan, dry_run=False, verified=verify, hashes=json, identical_to=equal)
    from ..workflows.convert_and_compare import convert_with_evidence

    return convert_with_evidence(
        plan,
        parity=parity,
        data=data,
        overwrite=overwrite,
        verify=verify,
        hashes=json,
        device=device,
        progress=progress,
    )


def _prepare_run(name: str, source: str, options: Mapping[str, Any], data: str | None) -> None:
    """Check that models can be run here, on all of a checkpoint, and let the process do so."""
    from ..packages import require
    from ..prediction.allocation import keep_freed_memory

    require("torch", name)
    refuse_choice(source, options["weights"], options["prefix"], options["drop"])
    if data is None:  # its videos may be long
        keep_freed_memory()


def _export(
    source: str,
    destination: Path,
    options: dict[str, Any],
    layout: Layout,
    variants: str,
    *,
    with_video: bool,
    parity: bool,
    progress: ProgressBar,
) -> Report:
    """Write graphs; ``options`` are those of a conversion."""
    from ..conversion.options import ConvertOptions
    from ..workflows.export_onnx import carry_out_export

    return carry_out_export(
        source,
        expanded(destination),
        ConvertOptions(**options),
        layout,
        tuple(cast(Variant, one) for one in variants.split(",")),  # checked there
        with_video=with_video,
        parity=parity,
        progress=progress,
    )


def _refuse(options: Mapping[str, Any], why: str) -> None:
    """Refuse options that have no effect."""
    for name, value in options.items():
        if value:
            raise UsageError(f"`{name}`: {why}")
