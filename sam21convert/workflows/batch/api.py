"""Batch: many conversions with one report, which continue where they were interrupted."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from ...config.load import load_config
from ...conversion.options import ConvertOptions
from ...conversion.target import pick_target
from ...dialects import HF_VIDEO, named
from ...errors import UsageError
from ...hub.resolve import locate
from ...io.nearby import expanded
from ...io.output.folders import refuse_file_name
from ...io.source import FOLDERS
from ...io.tensor import DType
from ...model.config import Generation
from ...packages import require
from ...prediction.devices import pick_device
from ...report import SILENT, Progress
from .journal import Journal
from .manifest import ManifestEntry, read_sources
from .names import name_outputs
from .report import BatchReport
from .run import Job, Run

JOBS = min(4, os.cpu_count() or 1)


def batch(
    sources: str | Path | Iterable[str | Path],
    out: str | Path,
    *,
    to: str | None = None,
    suffix: str | None = None,
    config: str | Path | None = None,
    base: str | Path | None = None,
    generation: Generation | None = None,
    image_size: int | None = None,
    dtype: DType | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    verify: bool = True,
    parity: bool = False,
    device: str = "auto",
    jobs: int = JOBS,
    progress: Progress = SILENT,
) -> BatchReport:
    """Convert many checkpoints into one folder.

    A conversion that fails is listed in the report and does not stop the others. ``batch.json`` in
    ``out`` records what each output was made from. A later run skips outputs that would come out
    the same and makes the rest. An output that would come out different is a failure unless
    ``overwrite`` is true. Files count as unchanged if size and time of change are the same; all
    options must be the same except ``verify`` and ``device``.

    Args:
        sources: Paths, patterns such as ``runs/*.pt``, folders that hold several checkpoints, or
            one manifest, whose entries may have options of their own; see
            :func:`~sam21convert.workflows.batch.manifest.read_sources`.
            Sources that this batch has written itself are left out.
        out: The output folder; it is made if it does not exist. Outputs are named after their
            sources, see :func:`~sam21convert.workflows.batch.names.name_outputs`.
        to: As for :func:`~sam21convert.convert`.
        suffix: The extension of the outputs, which chooses the format: ``".pt"``, ``".pth"`` or
            ``".safetensors"``. None means the usual format of the dialect ``to``.
        config: As for :func:`~sam21convert.convert`.
        base: As for :func:`~sam21convert.convert`.
        generation: As for :func:`~sam21convert.convert`.
        image_size: As for :func:`~sam21convert.convert`.
        dtype: As for :func:`~sam21convert.convert`.
        overwrite: Whether outputs that would come out different may be replaced.
        dry_run: Whether to report what would be done and write nothing.
        verify: As for :func:`~sam21convert.convert`.
        parity: Whether to keep only outputs that compute what their sources do, see
            :func:`~sam21convert.workflows.convert_and_compare.convert_with_evidence`. Comparisons
            run one at a time.
        device: The device for ``parity``, as for :func:`~sam21convert.parity`.
        jobs: The number of conversions at a time, at least 1.
        progress: Receives the number of finished sources, and their names.

    Returns:
        The outcome for each source, in their order.

    Raises:
        UsageError: Before anything is written, if nothing matches, two outputs would have the same
            name, an option is impossible, the device is not there, or another batch is writing
            to ``out``.
        UnreadableError: If a manifest or ``batch.json`` cannot be read.

    Example:
        >>> report = sam21convert.batch("*.pt", "converted", suffix=".safetensors")
        >>> [item.outcome for item in report.items]
        ['converted', 'converted']
    """
    out = expanded(Path(out))
    refuse_file_name(out)
    if jobs < 1:
        raise UsageError(f"`jobs`: expected a number from 1, found {jobs}")
    common = ConvertOptions(
        to=to,
        config=None if config is None else str(config),
        base=None if base is None else str(base),
        generation=generation,
        image_size=image_size,
        dtype=dtype,
    )
    if config is not None:
        load_config(config)
    if base is not None:
        locate(base)
    if parity:
        require("torch", "`parity`")
        device = pick_device(device, to_compare=True)
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file; the output of a batch is a folder")
    start = time.monotonic()
    journal = Journal(out)
    listed, others = read_sources(sources, journal.owns)
    own = [entry.source for entry in listed if journal.owns(entry.source)]
    listed = [entry for entry in listed if entry.source not in own]
    if not listed:
        raise UsageError(
            f"nothing to convert: the batch in {out} wrote all of these sources itself"
        )
    run = Run(
        out,
        _jobs(listed, common, suffix, journal),
        overwrite=overwrite,
        verify=verify,
        parity=parity,
        device=device,
        progress=progress,
    )
    items = run.preview() if dry_run else run.all(jobs)
    return BatchReport(out, tuple(items), tuple(own), time.monotonic() - start, dry_run, others)


def _jobs(
    listed: Sequence[ManifestEntry], common: ConvertOptions, suffix: str | None, journal: Journal
) -> list[Job]:
    """The conversion of each entry; its own options override the common ones."""
    options = [replace(common, **entry.options) for entry in listed]
    suffixes = [_suffix(each.to, suffix) for each in options]
    outputs = name_outputs(listed, suffixes, journal.names)
    for output, each in zip(outputs, options, strict=True):
        pick_target(journal.folder / output, each.to)
    return [
        Job(entry.source, output, kind, each)
        for entry, output, kind, each in zip(listed, outputs, suffixes, options, strict=True)
    ]


def _suffix(to: str | None, suffix: str | None) -> str:
    if suffix is not None:
        return suffix
    dialect = HF_VIDEO if to is None else named(to)
    if dialect.file or dialect.containers[0] in FOLDERS:
        return ""
    return {"torch zip": ".pt", "safetensors": ".safetensors"}[dialect.containers[0]]
