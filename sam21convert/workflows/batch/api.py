"""Batch: many conversions with one report, which go on where they were cut off."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...config.load import load_config
from ...conversion.target import pick_target
from ...dialects import BY_NAME, HF_VIDEO
from ...errors import UsageError
from ...hub.resolve import locate
from ...io.source import FOLDERS
from ...io.tensor import DType
from ...report import SILENT, Progress
from .journal import Journal
from .manifest import ManifestEntry, entries
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
    generation: str | None = None,
    image_size: int | None = None,
    dtype: DType | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    verify: bool = True,
    parity: bool = False,
    jobs: int = JOBS,
    progress: Progress = SILENT,
) -> BatchReport:
    """Convert many checkpoints into the folder ``out``, as :func:`~sam21convert.convert` does one.

    ``sources`` are as in :func:`~sam21convert.workflows.batch.manifest.entries`: paths, patterns, or one manifest,
    whose entries may have options of their own. The outputs are named after them, see
    :func:`~sam21convert.workflows.batch.names.name_outputs`. ``suffix`` picks the container as in the name
    of a file; without it, it is the usual one of the dialect ``to``.

    What went wrong with one is in the report, and the others go on. ``batch.json`` in ``out``
    records what was made of what: a later run skips what is there and would come out the same, and
    makes the rest. What would come out different is replaced only with ``overwrite``, and is else
    a failure. Files that changed are known by size and time, and options must be the same, but for
    ``verify``. Sources that are outputs of the batch are left out.

    ``parity`` is :func:`~sam21convert.workflows.convert_and_compare.convert_in_parity`, one comparison at a time.
    ``progress`` is told of sources, by name.

    Raises :class:`UsageError`, before anything is written, when nothing matches, two outputs would
    have one name, or the common options cannot be met; :class:`UnreadableError` for a manifest or
    ``batch.json`` that cannot be read.
    """
    out = Path(out)
    if jobs < 1:
        raise UsageError(f"`jobs`: {jobs} is not a number of jobs")
    common = {
        "to": to,
        "config": None if config is None else str(config),
        "base": None if base is None else str(base),
        "generation": generation,
        "image_size": image_size,
        "dtype": dtype,
    }
    if config is not None:
        load_config(config)
    if base is not None:
        locate(base)
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file; a batch is written to a folder")
    began = time.monotonic()
    asked = entries([sources] if isinstance(sources, (str, Path)) else sources)
    journal = Journal(out)
    own = [entry.source for entry in asked if journal.owns(entry.source)]
    asked = [entry for entry in asked if entry.source not in own]
    if not asked:
        raise UsageError(f"nothing to convert: all of it was written by the batch in {out}")
    run = Run(
        out,
        _jobs(asked, common, suffix, journal),
        overwrite=overwrite,
        verify=verify,
        parity=parity,
        progress=progress,
    )
    items = run.preview() if dry_run else run.all(jobs)
    return BatchReport(out, tuple(items), tuple(own), time.monotonic() - began, dry_run)


def _jobs(
    asked: Sequence[ManifestEntry], common: Mapping[str, Any], suffix: str | None, journal: Journal
) -> list[Job]:
    """What is to be done for each entry, whose own options come before the common ones."""
    merged = [{**common, **entry.options} for entry in asked]
    options = [{key: value for key, value in each.items() if value is not None} for each in merged]
    suffixes = [_suffix(each.get("to"), suffix) for each in options]
    outputs = name_outputs(asked, suffixes, journal.names)
    for output, each in zip(outputs, options, strict=True):
        pick_target(journal.folder / output, each.get("to"))
    return [
        Job(entry.source, output, kind, each)
        for entry, output, kind, each in zip(asked, outputs, suffixes, options, strict=True)
    ]


def _suffix(to: str | None, suffix: str | None) -> str:
    if suffix is not None:
        return suffix
    dialect = HF_VIDEO if to is None else BY_NAME.get(to)
    if dialect is None or dialect.file or dialect.containers[0] in FOLDERS:
        return ""
    return {"torch zip": ".pt", "safetensors": ".safetensors"}[dialect.containers[0]]
