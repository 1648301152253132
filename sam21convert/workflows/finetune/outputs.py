"""What a fine-tune writes at its end: forms of the weights, proofs, a report and a card."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...checkpoint.diff.api import diff
from ...checkpoint.diff.report import Difference
from ...comparison.api import parity
from ...comparison.report import ParityReport
from ...conversion.api import convert
from ...dialects import HF_VIDEO
from ...evaluation.api import evaluate
from ...evaluation.report import Evaluation
from ...io.output.atomic import new_file
from ...model.config import ModelConfig
from ...prediction.devices import pick_device
from ...report import Progress
from .card import write_card
from .report import Finetuned
from .saved import CHECKPOINT, CHECKPOINTS

WEIGHTS, TRANSFORMERS, REPORT = "model.safetensors", "transformers", "report.json"


@dataclass(frozen=True)
class Outputs:
    """The forms of the weights, and what was found of them.

    Attributes:
        checkpoint: The checkpoint of the trainer.
        weights: The weights under their official names.
        transformers: The folder for transformers.
        changed: How the weights differ from those of the base.
        parity: The comparison of the two forms.
        evaluation: How base and result track the held-out videos; None without any.
    """

    checkpoint: Path
    weights: Path
    transformers: Path
    changed: Difference
    parity: ParityReport
    evaluation: Evaluation | None


def write_outputs(
    out: Path,
    base: Path,
    config: ModelConfig,
    held_out: str | Path | None,
    device: str,
    progress: Progress,
) -> Outputs:
    """Convert what a training has saved, and prove it.

    Args:
        out: The folder of the results.
        base: The checkpoint to begin from.
        config: The config of both.
        held_out: The held-out videos; None for none.
        device: The device to compare and to track on.
        progress: Told of each stage.

    Returns:
        What was written and found.

    Raises:
        Sam21ConvertError: As :func:`~sam21convert.convert`, :func:`~sam21convert.parity` and
            :func:`~sam21convert.evaluate` do.
    """
    checkpoint, weights = out / CHECKPOINTS / CHECKPOINT, out / WEIGHTS
    convert(checkpoint, weights, config=config, overwrite=True, progress=progress)
    folder, size = out / TRANSFORMERS, config.image_size
    convert(
        weights,
        folder,
        to=HF_VIDEO.name,
        config=config,
        image_size=size,
        overwrite=True,
        progress=progress,
    )
    compared = parity(
        weights,
        f"transformers:{folder}",
        config=config,
        image_size=size,
        device=pick_device(device, to_compare=True),
        progress=progress,
    )
    evaluation = None
    if held_out is not None:
        evaluation = evaluate(
            base,
            held_out,
            config=config,
            against=weights,
            image_size=size,
            device=device,
            progress=progress,
        )
    changed = diff(base, weights, progress=progress)
    return Outputs(checkpoint, weights, out / TRANSFORMERS, changed, compared, evaluation)


def write_report(done: Finetuned) -> None:
    """Write the report, and the card into the folder for transformers.

    Args:
        done: What was done.

    Raises:
        OSError: If they cannot be written.
    """
    write_card(done)
    with new_file(done.out / REPORT, overwrite=True) as temporary:
        text = done.to_json() + "\n"
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
