"""Convert: open -> check -> plan -> stream -> read back -> give the name.

Bytes move only while the output is written; before that, everything is decided from headers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from .containers import open_source
from .containers.atomic import new_file, new_files, new_folder
from .containers.checking import ReadBack, sha256
from .containers.copying import Progress, Written
from .containers.safetensors import write_safetensors
from .containers.sharding import index_json
from .containers.source import tensors_of
from .containers.torch_writer import write_torch
from .containers.watching import refuse_changed
from .destination import FOLDERS
from .hf.folder import CONFIG, INDEX, side_files
from .model.config import ModelConfig
from .official_yaml import to_hydra
from .planning import DTYPES, DType, Plan, make_plan
from .report import Report, size_text, table
from .tensors import Tensor
from .timm_config import timm_json

_TORCH_NAMES = {short: name for name, short in DTYPES.items()} | {"F64": "float64"}

Check = Callable[[Path], None]


@dataclass(frozen=True)
class Conversion(Report):
    """The answer of :func:`convert`.

    ``tensors`` lists, for each tensor of the output, its name, type, shape and the names it came
    ``from``, none for zeros that ``generation`` adds. ``lost`` holds what ``allow_lossy`` gave up:
    the largest magnitude in each tensor, None where it is not finite. ``dropped`` names what
    ``drop_hq`` left out. ``sha256`` is empty unless hashes were asked for.
    """

    source: Path
    destination: Path
    source_dialect: str
    source_container: str
    dialect: str
    container: str
    config: str | None
    generation: str | None
    image_size: int | None
    dtypes: dict[str, int]
    lost: dict[str, float | None]
    dropped: tuple[str, ...]
    tensors: tuple[dict[str, Any], ...]
    bytes: int
    files: tuple[str, ...]
    sha256: dict[str, str]
    verified: bool
    dry_run: bool
    notes: tuple[str, ...]

    def __str__(self) -> str:
        done = "would write" if self.dry_run else "wrote"
        dtypes = ", ".join(f"{count} {dtype}" for dtype, count in self.dtypes.items())
        checked = "read back, every byte accounted for" if self.verified else "not read back"
        rows = [
            ("read", f"{self.source} ({self.source_dialect}, {self.source_container})"),
            (done, f"{self.destination} ({self.dialect}, {self.container})"),
            ("model", self.config or "of no published size"),
            ("tensors", f"{len(self.tensors)} ({dtypes}) in {size_text(self.bytes)}"),
            ("files", ", ".join(self.files)),
            *([("dropped", ", ".join(self.dropped))] if self.dropped else []),
            *([] if self.dry_run else [("checked", checked)]),
            *(("note", note) for note in self.notes),
        ]
        return table(rows)


def convert(
    source: str | Path,
    destination: str | Path,
    *,
    to: str | None = None,
    config: str | Path | ModelConfig | None = None,
    base: str | Path | None = None,
    weights: str | None = None,
    prefix: str | None = None,
    generation: str | None = None,
    allow_lossy: bool = False,
    image_size: int | None = None,
    dtype: DType | None = None,
    drop_hq: bool = False,
    shard_size: str | int | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    verify: bool = True,
    hashes: bool = False,
    progress: Progress = lambda _: None,
    check: Check = lambda _: None,
) -> Conversion:
    """Write ``source`` anew as ``destination``, whose form picks the container.

    A name in ``.pt``, ``.pth`` or ``.safetensors`` is a file, with the official names unless ``to``
    says otherwise; any other is a folder, ``hf-video`` unless ``to`` says otherwise. ``to`` is the
    name of a dialect. One whose program goes by the names of files (ultralytics, comfyui) wants
    such a name, or an existing folder, where a file of that name is put.
    ``config`` is that of ``source``; ``base`` is a checkpoint to take the tensors from that
    ``source`` lacks. ``weights`` and ``prefix`` choose between several state dicts in ``source``,
    as for :func:`~sam21convert.inspect`. A ``source`` that is a LoRA adapter of PEFT is merged into
    ``base``, whose ``config`` it then is.
    ``generation`` is that of the output, "2.0" or "2.1", and of a source that does not tell its
    own. The way up adds zeros and changes nothing that is computed; the way down needs zeros in the
    same three tensors, or ``allow_lossy``, which drops whatever they hold.
    ``drop_hq`` takes the SAM 2 out of an HQ-SAM 2, whose further tensors are left out.
    ``image_size``, in pixels, is recorded in the configs of a folder, or in a YAML beside an
    official file. ``shard_size`` (``"500MB"``, or bytes) divides the weights of a transformers
    folder into files of at most that size. ``verify`` checks the checksums of the source and reads
    the output back; ``hashes`` asks for ``sha256`` in the report. ``progress`` is called with
    numbers of bytes. ``check`` is called with the path of what was written, before it gets its
    name; what it raises ends the conversion.

    Raises :class:`~sam21convert.errors.UsageError`,
    :class:`~sam21convert.errors.UnreadableError`, :class:`~sam21convert.errors.RefusedError` and
    :class:`~sam21convert.errors.MismatchError`; the destination is then as it was before.
    """
    plan = make_plan(
        source,
        destination,
        to=to,
        config=config,
        base=base,
        weights=weights,
        prefix=prefix,
        generation=generation,
        allow_lossy=allow_lossy,
        image_size=image_size,
        dtype=dtype,
        drop_hq=drop_hq,
        shard_size=shard_size,
        overwrite=overwrite,
    )
    if not dry_run:
        carry_out(plan, overwrite=overwrite, verify=verify, progress=progress, check=check)
    return report(plan, dry_run=dry_run, verified=verify and not dry_run, hashes=hashes)


def carry_out(
    plan: Plan,
    *,
    overwrite: bool,
    verify: bool,
    progress: Progress,
    check: Check = lambda _: None,
) -> None:
    """Write what was planned. The output has its name only when everything has succeeded."""
    if plan.container in FOLDERS:
        with new_folder(plan.destination, overwrite=overwrite) as folder:
            for name, text in _side_files(plan).items():
                (folder / name).write_text(text, encoding="utf-8", newline="\n")
            for name, tensors in plan.shards.items():
                _write(plan, folder / name, tensors, verify, progress)
            if verify:
                open_source(folder)  # and its index, if it has one, agrees with the files
            check(folder)
            refuse_changed(plan.read)
    elif plan.yaml is None or plan.config is None:
        with new_file(plan.destination, overwrite=overwrite) as file:
            _write(plan, file, plan.tensors, verify, progress)
            check(file)
            refuse_changed(plan.read)
    else:
        with new_files(plan.destination, plan.yaml, overwrite=overwrite) as folder:
            _write(plan, folder / plan.destination.name, plan.tensors, verify, progress)
            check(folder / plan.destination.name)
            settings = folder / plan.yaml.name
            settings.write_text(to_hydra(plan.config), encoding="utf-8", newline="\n")
            refuse_changed(plan.read)


def _write(
    plan: Plan, path: Path, tensors: Mapping[str, Tensor], verify: bool, progress: Progress
) -> None:
    """Write a file of tensors and, with ``verify``, read it back while it is being written."""

    def write(written: Written) -> None:
        if plan.container == "torch zip":
            write_torch(path, tensors, progress, written, plan.blobs)
        else:
            write_safetensors(path, tensors, dict(plan.dialect.metadata), progress, written)

    if not verify:
        write(lambda *_: None)
        return
    shown = plan.destination / path.name if plan.container in FOLDERS else plan.destination
    with ReadBack(path, plan.blobs, progress, shown) as readback:
        write(readback.expect)
        root = open_source(path).root
        readback.finish(tensors, tensors_of(root.get("model", root)) or {})


def report(plan: Plan, *, dry_run: bool, verified: bool, hashes: bool) -> Conversion:
    """Describe a plan, carried out or not."""
    folder = plan.container in FOLDERS
    beside = (plan.yaml.name,) if plan.yaml else ()
    names = (*_side_files(plan), *plan.shards) if folder else (plan.destination.name, *beside)
    home = plan.destination if folder else plan.destination.parent
    read = [file for source in plan.sources for file in source.files]
    hashed = [*read, *([] if dry_run else [home / name for name in names])] if hashes else []
    return Conversion(
        source=plan.sources[0].path,
        destination=plan.destination,
        source_dialect=_dialect_of(plan),
        source_container=plan.sources[0].container,
        dialect=plan.dialect.name,
        container=plan.container,
        config=plan.shipped.name if plan.shipped else None,
        generation=plan.generation,
        image_size=plan.config.image_size if plan.config else None,
        dtypes=dict(Counter(tensor.spec.dtype for tensor in plan.tensors.values())),
        lost={
            name: largest if isfinite(largest) else None
            for name, largest in plan.outcome.lost.items()
        },
        dropped=plan.source.dropped,
        tensors=tuple(
            {
                "name": name,
                "dtype": tensor.spec.dtype,
                "shape": list(tensor.spec.shape),
                "from": list(plan.origins[name]),
            }
            for name, tensor in plan.tensors.items()
        ),
        bytes=plan.nbytes,
        files=names,
        sha256={str(file): sha256(file) for file in hashed},
        verified=verified,
        dry_run=dry_run,
        notes=plan.notes,
    )


def _dialect_of(plan: Plan) -> str:
    if plan.adapter is not None:
        return "lora"
    return plan.source.dialect.name if plan.source.dialect else ""


def _side_files(plan: Plan) -> Mapping[str, str]:
    """Name and text of all that stands in a folder beside the tensors."""
    dtypes = Counter(tensor.spec.dtype for tensor in plan.tensors.values())
    assert plan.config is not None
    if plan.container == "timm folder":
        return {CONFIG: timm_json(plan.config, plan.generation)}
    files = side_files(
        plan.config,
        "sam2" if plan.dialect.task == "image" else "sam2_video",
        _TORCH_NAMES[dtypes.most_common(1)[0][0]],
        generation=plan.generation is not None,
    )
    return files if len(plan.shards) == 1 else {**files, INDEX: index_json(plan.shards)}
