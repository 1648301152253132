"""What is written tracks the objects of a data set as its source does, to the pixel."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..checkpoint.identify import identify
from ..checkpoint.open import open_checkpoint
from ..errors import MismatchError, RefusedError, UsageError
from ..evaluation.api import evaluate
from ..evaluation.datasets import open_dataset
from ..evaluation.report import Evaluation
from ..model.config import ModelConfig
from ..report import Progress

Config = str | Path | ModelConfig | None


def refuse_untrackable(dialect_task: str, name: str, data: str | Path) -> None:
    """Check, before anything is written, that the output can track and that the data are there.

    Args:
        dialect_task: What a model in the dialect of the output can do.
        name: The dialect.
        data: The data set.

    Raises:
        UsageError: If it has no memory.
        Sam21ConvertError: As :func:`~sam21convert.evaluate` does for the data.
    """
    if dialect_task != "video":
        raise UsageError(f"`evaluate`: {name} has no memory for videos, and tracks nothing")
    open_dataset(data).chosen(())


def tracked_alike(
    source: Path,
    config: Config,
    written: Path,
    written_config: Config,
    data: str | Path,
    *,
    lossless: bool,
    image_size: int | None,
    device: str,
    progress: Progress,
) -> Evaluation:
    """Track the objects of a data set with a checkpoint and with what was made of it.

    Both by this package's model: others track otherwise by their own design.

    Args:
        source: The checkpoint.
        config: Its config; None for its own.
        written: What was made of it.
        written_config: Its config; None for its own.
        data: The data set.
        lossless: Whether no pixel may differ.
        image_size: Side of the model's input in pixels; None for what the configs say.
        device: As for :func:`~sam21convert.evaluate`.
        progress: As there.

    Returns:
        The evaluation of both.

    Raises:
        MismatchError: If a pixel differs and none may.
        RefusedError: If a video could not be evaluated.
        Sam21ConvertError: As :func:`~sam21convert.evaluate` does.
    """
    found = evaluate(
        source,
        data,
        config=config,
        against=written,
        against_config=written_config or identify(open_checkpoint(written)).model_config,
        image_size=image_size,
        device=device,
        progress=progress,
    )
    assert found.paired is not None
    if found.failed:
        first = found.failed[0]
        raise RefusedError(f"{first.video}: was not evaluated: {first.reason}", hint=first.hint)
    if lossless and not found.paired.identical:
        raise MismatchError(
            f"{written.name}: does not track as {source} does: {found.paired.pixels:,} of "
            f"{found.paired.of_pixels:,} pixels of the masks differ\n\n{found}",
            hint="nothing was written",
        )
    return found


def under_its_name(found: Evaluation, written: Path, name: Path) -> Evaluation:
    """The evaluation with the final path of what was written in place of its temporary one.

    Args:
        found: The evaluation.
        written: The temporary path.
        name: The final one.

    Returns:
        The same evaluation of that path.
    """
    assert found.against is not None
    assert found.against.checkpoint is not None
    hashes = {
        path.replace(str(written), str(name)): digest
        for path, digest in found.against.sha256.items()
    }
    return replace(found, against=replace(found.against, checkpoint=name, sha256=hashes))
