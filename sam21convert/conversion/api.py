"""Convert a checkpoint: open, check, plan, write, read back, rename.

Until the output is written, only headers and a few small tensors are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..checkpoint.safety.report import naming_harm
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
    lora_alpha: float | None = None,
    drop_hq: bool = False,
    drop: str | Sequence[str] = (),
    shard_size: str | int | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    verify: bool = True,
    hashes: bool = False,
    progress: Progress = SILENT,
    check: Check = lambda _: None,
) -> Conversion:
    """Write a checkpoint in another form.

    Tensors are copied bit for bit unless ``dtype`` casts them, and after an error the destination
    is as it was before.

    Args:
        source: a path, a published name, ``hf://org/repo`` or ``https://...``. A LoRA adapter of
            PEFT is merged into ``base``.
        destination: the file or folder to write. A name in ``.pt``, ``.pth`` or ``.safetensors`` is
            a file, any other name a folder.
        to: the name of the dialect to write; by default ``official`` for a file and ``hf-video``
            for a folder; ``hf`` is ``hf-image`` for an image model. ultralytics and comfyui
            recognise a file by its name: for them give such a name, or an existing folder, in which
            a file of the right name is written.
        config: the config of ``source``: a shipped name, a file, or a model config. By default it
            is found beside ``source``, or its tensors show it.
        base: a checkpoint of the same size and generation that supplies tensors missing from
            ``source``.
        weights: the keys that lead to one of several state dicts in ``source``, or ``ema`` or
            ``model``, as for :func:`~sam21convert.inspect`.
        prefix: the prefix of the names in one of several state dicts.
        generation: the generation to write, ``"2.0"`` or ``"2.1"``; also that of a source that does
            not tell its own. From 2.0 to 2.1 three tensors of zeros are added, which change nothing
            that is computed. From 2.1 to 2.0 the same three tensors must be zero.
        allow_lossy: with ``generation="2.0"``, whether to drop the three tensors whatever they
            hold.
        image_size: the side of the input in pixels. It is recorded in the configs of a folder, or
            in a YAML beside an official file.
        dtype: the type to cast all tensors to: "float32", "float16" or "bfloat16"; None keeps
            types.
        lora_alpha: the alpha of a LoRA that is still inside the state dict of ``source``: alpha / r
            times B A is added to the weights. PEFT does not save it there; its default is 8.
        drop_hq: whether to take the SAM 2 out of an HQ-SAM 2, leaving out the tensors that HQ adds.
        drop: names of tensors to leave out, such as ``"cls_head.*"``: a head of your own beside the
            modules of SAM 2. ``*`` stands for any text. What stands within a module is not left
            out, as that would give another model.
        shard_size: the largest size of a file of weights in a transformers folder, in bytes or as
            in ``"500MB"``; None writes one file.
        overwrite: whether an existing destination may be replaced.
        dry_run: whether to plan the conversion and write nothing.
        verify: whether to check the checksums of the source and to read the output back.
        hashes: whether the report gives the SHA-256 of every file that was read or written.
        progress: is told the number of bytes written and read back.
        check: is called with the path of what was written before it is renamed to ``destination``.
            An error that it raises ends the conversion.

    Returns:
        What was written, or would be with ``dry_run``.

    Raises:
        UsageError: when the request cannot be met, such as when ``destination`` exists.
        UnreadableError: when ``source`` or ``base`` is damaged, or changes while it is read.
        RefusedError: when ``source`` is not a SAM 2 checkpoint, or tensors are missing and there is
            no ``base``.
        MismatchError: when the tensors do not fit the config, something would be lost, or the
            source is a published checkpoint and the output is not what is published of it.

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
        lora_alpha=lora_alpha,
        drop_hq=drop_hq,
        drop=(drop,) if isinstance(drop, str) else tuple(drop),
        shard_size=shard_size,
        overwrite=overwrite,
    )
    plan = make_plan(source, destination, options)
    if dry_run:
        return report(plan, dry_run=True, verified=False, hashes=hashes)
    with naming_harm(*(one.path for one in plan.sources)):
        equal = carry_out(plan, overwrite=overwrite, verify=verify, progress=progress, check=check)
    return report(plan, dry_run=False, verified=verify, hashes=hashes, identical_to=equal)
