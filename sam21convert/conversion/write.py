"""Carry out a plan: write the tensors, read them back, rename the output."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from ..config.hydra_writer import to_hydra
from ..config.timm import timm_json
from ..config.transformers_folder import side_files
from ..hub.published import Twin
from ..io.data.checksums import ReadBack
from ..io.data.copy import Written
from ..io.open import open_source
from ..io.output.atomic import new_file, new_files, new_folder
from ..io.output.unchanged import refuse_changed
from ..io.safetensors import write_safetensors
from ..io.sharded import index_json
from ..io.source import CONFIG, FOLDERS, INDEX, tensors_of
from ..io.tensor import TORCH_NAMES, Tensor
from ..io.torch_writer import write_torch
from ..report import Progress
from .plan import Plan
from .published import compare_with_published

Check = Callable[[Path], None]


def carry_out(
    plan: Plan,
    *,
    overwrite: bool,
    verify: bool,
    progress: Progress,
    check: Check = lambda _: None,
) -> Twin | None:
    """Write what was planned. The output gets its name only when everything has succeeded.

    Args:
        plan: the plan.
        overwrite: whether an existing destination may be replaced.
        verify: whether to check the checksums of the source and to read the output back.
        progress: is told the number of bytes written and read back.
        check: is called with the path of what was written before it is renamed. An error that it
            raises ends the conversion.

    Returns:
        The published file that has the same bytes, if ``verify`` found one.

    Raises:
        UnreadableError: when a source is damaged or has changed since it was opened.
        MismatchError: when the output does not read back as it was planned, or is not what is
            published of the same checkpoint.
        UsageError: when the destination exists and may not be replaced.
    """
    equal: Twin | None = None

    def examine(written: Path) -> None:
        nonlocal equal
        equal = compare_with_published(plan, written) if verify else None
        check(written)

    progress.start("converting", plan.nbytes * (1 + verify))
    if plan.container in FOLDERS:
        with new_folder(plan.destination, overwrite=overwrite) as folder:
            for name, text in side_files_of(plan).items():
                (folder / name).write_text(text, encoding="utf-8", newline="\n")
            for name, tensors in plan.shards.items():
                _write(plan, folder / name, tensors, verify, progress)
            if verify and len(plan.shards) > 1:
                open_source(folder)  # its index agrees with the files
            examine(folder)
            refuse_changed(plan.read)
    elif plan.yaml is None or plan.config is None:
        with new_file(plan.destination, overwrite=overwrite) as file:
            _write(plan, file, plan.tensors, verify, progress)
            examine(file)
            refuse_changed(plan.read)
    else:
        with new_files(plan.destination, plan.yaml, overwrite=overwrite) as folder:
            _write(plan, folder / plan.destination.name, plan.tensors, verify, progress)
            examine(folder / plan.destination.name)
            settings = folder / plan.yaml.name
            text = to_hydra(plan.config, generation=plan.generation is not None)
            settings.write_text(text, encoding="utf-8", newline="\n")
            refuse_changed(plan.read)
    return equal


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
        root = open_source(path, alone=True).root
        readback.finish(tensors, tensors_of(root.get("model", root)) or {})


def side_files_of(plan: Plan) -> Mapping[str, str]:
    """Make the files that a folder holds beside the tensors.

    Args:
        plan: a plan whose container is a folder.

    Returns:
        Name of a file to its text.
    """
    dtypes = Counter(tensor.spec.dtype for tensor in plan.tensors.values())
    assert plan.config is not None
    if plan.container == "timm folder":
        return {CONFIG: timm_json(plan.config, plan.generation)}
    files = side_files(
        plan.config,
        "sam2" if plan.dialect.task == "image" else "sam2_video",
        TORCH_NAMES[dtypes.most_common(1)[0][0]],
        generation=plan.generation is not None,
    )
    return files if len(plan.shards) == 1 else {**files, INDEX: index_json(plan.shards)}
