"""Convert: open -> check -> plan -> stream -> read back -> give the name.

Bytes move only while the output is written; before that, everything is decided from headers.
"""

from __future__ import annotations

from pathlib import Path

from ..io.tensor import DType
from ..model.config import Generation, ModelConfig
from ..report import SILENT, Progress
from .options import ConvertOptions
from .plan import make_plan
from .report import Conversion, report
from .write import Check, carry_out


def convert(
    source: str | Path,
    destination: str | Path,
    *,
    to: str | None = None,
    config: str | Path | ModelConfig | None = None,
    base: str | Path | None = None,
    weights: str | None = None,
    prefix: str | None = None,
    generation: Generation | None = None,
    allow_lossy: bool = False,
    image_size: int | None = None,
    dtype: DType | None = None,
    drop_hq: bool = False,
    shard_size: str | int | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    verify: bool = True,
    hashes: bool = False,
    progress: Progress = SILENT,
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

    Example:
        >>> done = sam21convert.convert("model.pt", "my-model")
        >>> done.container
        'transformers folder'
    """
    options = ConvertOptions(
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
    plan = make_plan(source, destination, options)
    if not dry_run:
        carry_out(plan, overwrite=overwrite, verify=verify, progress=progress, check=check)
    return report(plan, dry_run=dry_run, verified=verify and not dry_run, hashes=hashes)
