"""The answer of a fine-tune."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...checkpoint.diff.report import Difference
from ...comparison.report import ParityReport
from ...evaluation.report import Evaluation
from ...report import BLANK, Part, Report, counted, labelled, table
from .data import Kind
from .names import Train


@dataclass(frozen=True)
class Finetuned(Report, schema="finetune/1"):
    """The answer of :func:`~sam21convert.finetune`.

    Attributes:
        base: The checkpoint to begin from.
        data: The data that were trained on.
        layout: How their files are arranged: ``ids``, ``coco``, or as ``evaluate`` names it.
        kind: ``images`` or ``video``.
        pictures: Number of pictures and frames in the data.
        objects: Number of objects in the data.
        train: What was trained.
        trained: Number of values that were trained; those of a LoRA are among them.
        frames: Number of frames of a clip; 1 for pictures.
        steps: Number of steps.
        epochs: How often every video or picture was drawn, on average.
        rate: The rate at the beginning.
        image_size: Side of the model's input in pixels.
        seed: Of all that was drawn.
        device: The device, as torch names it.
        processes: Number of processes; each step took a clip from each.
        precision: ``float32``, or the type of autocast.
        seconds: How long the steps took.
        losses: The mean loss of each tenth of the steps, in their order.
        held_out: J&F in percent on the held-out videos, by the number of steps after which.
        out: The folder of the results.
        checkpoint: The checkpoint of the trainer, with its optimiser.
        weights: The weights under their official names, as safetensors.
        transformers: The folder for transformers, with a card.
        changed: What the weights differ in from those of the base.
        parity: The comparison of what transformers computes with the folder and what the ground
            truth computes with the weights.
        evaluation: How base and result track the held-out videos; None without any.
        notes: What the figures depend on.

    Example:
        >>> done = sam21convert.finetune("model.pt", "PICTURES", "tuned", steps=1, image_size=128)
        >>> done.kind, done.steps, done.parity.ok
        ('images', 1, True)
    """

    base: Path
    data: Path
    layout: str
    kind: Kind
    pictures: int
    objects: int
    train: Train
    trained: int
    frames: int
    steps: int
    epochs: float
    rate: float
    image_size: int
    seed: int
    device: str
    processes: int
    precision: str
    seconds: float
    losses: tuple[float, ...]
    held_out: dict[str, float]
    out: Path
    checkpoint: Path
    weights: Path
    transformers: Path
    changed: Difference
    parity: ParityReport
    evaluation: Evaluation | None
    notes: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """1 when the two forms do not compute the same, or a video could not be evaluated."""
        scored = 0 if self.evaluation is None else self.evaluation.exit_code
        return max(scored, self.parity.exit_code)

    def alerts(self) -> tuple[str, ...]:
        """Warn where the result tracks worse than what it was made from.

        Returns:
            A line, or none.
        """
        found = self.evaluation
        if found is None or found.against is None or found.jf is None or found.against.jf is None:
            return ()
        lost = found.jf - found.against.jf
        if lost <= 0:
            return ()
        return (
            f"J&F on the held-out videos fell by {lost:.1f}, from {found.jf:.1f} to "
            f"{found.against.jf:.1f}",
        )

    def to_dict(self) -> dict[str, Any]:
        """Give the fields as plain data.

        Returns:
            Field name to value, the comparisons as dicts.
        """
        return {
            **super().to_dict(),
            "changed": self.changed.to_dict(),
            "parity": self.parity.to_dict(),
            "evaluation": None if self.evaluation is None else self.evaluation.to_dict(),
        }

    def shown(self) -> list[Part]:
        """What people see.

        Returns:
            What was done and written; then how base and result track the held-out videos.
        """
        clips = f"clips of {counted(self.frames, 'frame')}" if self.kind == "video" else "pictures"
        steps = f"{counted(self.steps, 'step')} in {self.seconds:.0f} s on {self.device}"
        changed = [module for module in self.changed.modules if not module.untouched]
        rows: list[tuple[str, str | tuple[str, ...]]] = [
            ("base", str(self.base)),
            (
                "data",
                f"{self.data} (layout {self.layout}): {counted(self.pictures, 'picture')}, "
                f"{counted(self.objects, 'object')}",
            ),
            ("trained", f"{self.train}: {self.trained:,} values, on {clips}"),
            ("steps", f"{steps}, {self.epochs:.1f} epochs"),
            ("loss", f"{self.losses[0]:.3f} at first, {self.losses[-1]:.3f} at last"),
            ("changed", tuple(map(str, changed)) or "nothing"),
            ("holds", self._held()),
            ("written", (f"{self.weights}", f"{self.transformers}", f"{self.checkpoint}")),
        ]
        parts: list[Part] = [table(rows), *(labelled("note", note) for note in self.notes)]
        if self.evaluation is not None:
            parts += [BLANK, *self.evaluation.shown()]
        command = shlex.join(["sam21convert", "push", str(self.transformers), "NAMESPACE/NAME"])
        return [*parts, BLANK, labelled("to publish", command)]

    def _held(self) -> str | tuple[str, ...]:
        if self.parity.ok:
            return f"{self.transformers} computes what {self.weights.name} does"
        return (*self.parity.problems, f"{self.parity.command} shows more")
