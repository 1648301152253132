"""Export a checkpoint of any form as graphs for ONNX runtimes, and prove them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .. import packages
from .._version import __version__
from ..checkpoint.safety.report import assess, naming_harm, together
from ..conversion.options import ConvertOptions
from ..conversion.plan import Plan, make_plan
from ..conversion.write import carry_out
from ..dialects import HF_IMAGE
from ..errors import RefusedError, UsageError, call_of, did_you_mean, nearest
from ..export.options import LAYOUTS, OLDEST_TORCH, USUAL, Layout
from ..io.data.checksums import sha256
from ..io.nearby import expanded
from ..io.onnx import FOLDER, FP32, VARIANTS, Variant
from ..io.output.atomic import new_folder, refuse_existing, scratch
from ..io.output.folders import refuse_file_name
from ..io.output.unchanged import refuse_changed
from ..io.source import WEIGHTS, refuse_input
from ..model.config import Generation, ModelConfig
from ..report import SILENT, Progress
from .convert_and_compare import WithEvidence, compare_with_output, refuse_unrunnable

if TYPE_CHECKING:
    from ..model.sam2 import SAM2
    from .exported import Exported

_EXPORTERS = ("torch", "onnx", "onnxscript")
_WALL = (0.35, 0.62)  # of the house in the drawn scene, as shares of its side


def export_onnx(
    source: str | Path,
    destination: str | Path,
    *,
    layout: Layout = "transformers.js",
    variants: Sequence[Variant] = USUAL,
    with_video: bool = False,
    config: str | Path | ModelConfig | None = None,
    base: str | Path | None = None,
    weights: str | None = None,
    prefix: str | None = None,
    generation: Generation | None = None,
    image_size: int | None = None,
    lora_alpha: float | None = None,
    drop_hq: bool = False,
    drop: str | Sequence[str] = (),
    overwrite: bool = False,
    parity: bool = False,
    progress: Progress = SILENT,
) -> Exported | WithEvidence:
    """Write a checkpoint as a program for ONNX runtimes: onnxruntime, Node, the browser.

    Every file is run before it gets its name, at sizes other than those it was traced with, and a
    graph in float32 must be within 1e-5 of what the model computes, relative to the scale of each
    output, or within ten times the noise of the model itself where that is larger.

    Args:
        source: Any checkpoint, as for :func:`~sam21convert.convert`.
        destination: The folder to write.
        layout: ``"transformers.js"``, which onnxruntime, Node and browsers read, or
            ``"samexporter"``, which labelling tools read.
        variants: Which numbers the graphs hold: some of ``"fp32"``, ``"fp16"`` and ``"q8"``.
        with_video: Whether to write the graphs for videos as well.
        config: As for :func:`~sam21convert.convert`.
        base: As for :func:`~sam21convert.convert`.
        weights: As for :func:`~sam21convert.convert`.
        prefix: As for :func:`~sam21convert.convert`.
        generation: As for :func:`~sam21convert.convert`.
        image_size: The side of the input in pixels, which the graphs are made for; None for what
            the config says.
        lora_alpha: As for :func:`~sam21convert.convert`.
        drop_hq: As for :func:`~sam21convert.convert`.
        drop: As for :func:`~sam21convert.convert`.
        overwrite: Whether an existing folder may be written to.
        parity: Whether to run source and output on the same pictures, and keep the output only if
            both compute the same; see :func:`~sam21convert.parity`.
        progress: Told of each graph.

    Returns:
        What was written; with ``parity`` together with the comparison.

    Raises:
        UsageError: If the request cannot be met, or a package is not installed.
        MismatchError: If a file does not compute what the model does; nothing is then written.
        Sam21ConvertError: For a source that cannot be converted, as :func:`~sam21convert.convert`
            raises it.

    Example:
        >>> done = sam21convert.export_onnx("model.pt", "my-onnx")
        >>> done.golden[0].mask_iou
        1.0
    """
    options = ConvertOptions(
        config=config,
        base=base,
        weights=weights,
        prefix=prefix,
        generation=generation,
        image_size=image_size,
        lora_alpha=lora_alpha,
        drop_hq=drop_hq,
        drop=(drop,) if isinstance(drop, str) else tuple(drop),
        overwrite=overwrite,
    )
    return carry_out_export(
        source,
        expanded(Path(destination)),
        options,
        layout,
        tuple(variants),
        with_video=with_video,
        parity=parity,
        progress=progress,
    )


def carry_out_export(
    source: str | Path,
    destination: Path,
    options: ConvertOptions,
    layout: Layout,
    variants: tuple[Variant, ...],
    *,
    with_video: bool,
    parity: bool,
    progress: Progress,
) -> Exported | WithEvidence:
    """Do what :func:`export_onnx` does, with the options of a conversion in one object.

    Args:
        source: The checkpoint.
        destination: The folder to write.
        options: How the source is read.
        layout: One of ``LAYOUTS``.
        variants: Keys of ``VARIANTS``.
        with_video: Whether to write the graphs for videos.
        parity: Whether to compare source and output.
        progress: Told of each step.

    Returns:
        As :func:`export_onnx`.

    Raises:
        UsageError: As :func:`export_onnx`.
        Sam21ConvertError: As :func:`export_onnx`.
    """
    for extra in ("torch", "onnx"):
        packages.require(extra, "`to=onnx`")
    packages.require_version("torch", OLDEST_TORCH, "`to=onnx`")
    _refuse_options(layout, variants, with_video=with_video, parity=parity)
    refuse_file_name(destination)
    refuse_existing(destination, overwrite=options.overwrite)
    with scratch(destination) as temporary:
        # Whatever the source is, the model that is exported is what a conversion of it holds.
        plan = make_plan(source, temporary / "model", replace(options, overwrite=False))
        stale = graphs_of(destination)
        for one in plan.sources:
            refuse_input(destination, "transformers folder", one, (WEIGHTS, *stale))
        if with_video and plan.dialect is HF_IMAGE:
            raise UsageError(
                f"{source}: `with_video`: is an image model, without the tensors of the memory",
                hint="leave it out, or give `base`, a checkpoint that supplies them",
            )
        if parity:
            refuse_unrunnable(plan)
        with naming_harm(*(one.path for one in plan.sources)):
            carry_out(plan, overwrite=False, verify=False, progress=progress)
        model = _loaded(plan.destination, progress)
        _refuse_not_finite(source, model)
    with new_folder(destination, overwrite=options.overwrite, without=stale) as folder:
        made = _export(
            plan, model, folder, destination, layout, variants, progress, with_video=with_video
        )
        found = compare_with_output(plan, folder, destination, progress) if parity else None
        refuse_changed(plan.read)
    return made if found is None else WithEvidence(made, found)


def graphs_of(folder: Path) -> list[str]:
    """List the graphs of an earlier export, which must not stay beside those of another model.

    Args:
        folder: The folder to write; it need not exist.

    Returns:
        Their paths in the folder.
    """
    found = [*folder.glob("*.onnx"), *folder.glob(f"{FOLDER}/*.onnx")]
    return sorted(path.relative_to(folder).as_posix() for path in found)


def _refuse_options(
    layout: str, variants: Sequence[str], *, with_video: bool, parity: bool
) -> None:
    if layout not in LAYOUTS:
        raise UsageError(
            f"`layout={layout}`: no such layout",
            hint=did_you_mean(nearest(layout, LAYOUTS), f"one of {', '.join(LAYOUTS)}"),
        )
    unknown = [one for one in variants if one not in VARIANTS]
    if unknown or not variants or len({*variants}) < len(variants):
        raise UsageError(
            f"`variants={','.join(variants)}`: expected one or more of {', '.join(VARIANTS)}",
            hint=did_you_mean(nearest(unknown[0], VARIANTS), "") if unknown else None,
        )
    if layout == "samexporter" and (with_video or parity):
        raise UsageError(
            f"`layout=samexporter`: has no {'graphs for videos' if with_video else '`parity`'}",
            hint="use the layout of transformers.js, which is the default",
        )
    if parity and FP32 not in variants:
        raise UsageError("`parity`: compares the graphs in float32", hint="add fp32 to `variants`")


def _loaded(path: Path, progress: Progress) -> SAM2:
    import torch

    from ..model.sam2 import SAM2
    from ..prediction.load import load_onto

    progress.start("loading", 0)
    model, _ = load_onto(
        SAM2,
        path,
        None,
        change=lambda config: config,
        device="cpu",
        dtype=torch.float32,
        images_only=True,
    )
    return model


def _refuse_not_finite(source: str | Path, model: SAM2) -> None:
    """Refuse weights with which nothing shows whether graphs compute what the model does."""
    for name, tensor in model.state_dict().items():
        if not tensor.isfinite().all():
            raise RefusedError(
                f"{source}: {name}: expected finite numbers, found "
                f"{'NaN' if tensor.isnan().any() else 'infinite ones'}: what graphs compute with "
                "them cannot be compared with the model",
                hint=f"{call_of('validate', source)} lists all such tensors",
            )


def _export(
    plan: Plan,
    model: SAM2,
    folder: Path,
    destination: Path,
    layout: Layout,
    variants: Sequence[Variant],
    progress: Progress,
    *,
    with_video: bool,
) -> Exported:
    from ..export.folder import write_folder
    from ..export.samexporter import write_samexporter
    from ..prediction.draw import scene
    from .exported import Exported

    hashes = {file.name: sha256(file) for one in plan.sources for file in one.files}
    metadata = _provenance(plan, model, hashes)
    if layout == "samexporter":
        name = plan.shipped.name.rpartition("/")[2] if plan.shipped else "sam2"
        written = write_samexporter(model, folder, name, variants, metadata, progress)
    else:
        picture = scene(model.image_size)
        written = write_folder(
            model, folder, variants, metadata, progress, picture, _WALL, with_video=with_video
        )
    return Exported(
        source=plan.sources[0].path,
        destination=destination,
        layout=layout,
        config=plan.shipped.name if plan.shipped else None,
        generation=plan.generation,
        image_size=model.image_size,
        graphs=written.graphs,
        files=written.others,
        golden=written.golden,
        sha256=hashes,
        notes=plan.notes,
        safety=together(assess(one.path) for one in plan.sources if one.path.exists()),
    )


def _provenance(plan: Plan, model: SAM2, hashes: dict[str, str]) -> dict[str, str]:
    """What each graph says about where it comes from."""
    versions = {"sam21convert": __version__, **{one: packages.version(one) for one in _EXPORTERS}}
    return {
        "source": plan.sources[0].path.name,
        "sha256": json.dumps(hashes, sort_keys=True),
        "config": plan.shipped.name if plan.shipped else "",
        "generation": plan.generation or "",
        "image_size": str(model.image_size),
        "versions": json.dumps(versions),
    }
