"""The report of an export: what was written, and how far each file is from the model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..checkpoint.safety.report import Safety, SourceReport
from ..export.folder import ExportedFile
from ..export.golden import Apart
from ..export.options import Layout
from ..model.config import Generation
from ..report import BLANK, Part, Table, Toned, heading, share, size_text, table

# What a variant is expected to keep on the example; one that does not is warned of.
_EXPECTED = {
    "fp32": {"logits": 1e-5, "mask_iou": 1.0},
    "fp16": {"logits": 5e-3, "object_score": 5e-2, "mask_iou": 0.995},
    "q8": {"mask_iou": 0.95},
}


@dataclass(frozen=True)
class Exported(SourceReport, schema="export/1"):
    """The answer of :func:`~sam21convert.export_onnx`.

    Attributes:
        source: What was exported.
        destination: The folder that was written.
        layout: For which programs the graphs are laid out.
        config: The shipped config with these tensors, if there is one.
        generation: The generation of the model; None when nothing tells it.
        image_size: The side of the input in pixels.
        graphs: The graphs.
        files: Paths of the other files in the folder.
        golden: How far each variant is from the model, on the example that the folder carries.
        sha256: Name -> SHA-256 of each file of the source.
        notes: What was left out, added or assumed, a sentence each.
        safety: What loading the source with torch or pickle would import and call.

    Example:
        >>> done = sam21convert.export_onnx("model.pt", "my-onnx")
        >>> [graph.name for graph in done.graphs if graph.variant == "fp32"]
        ['onnx/vision_encoder.onnx', 'onnx/prompt_encoder_mask_decoder.onnx']
    """

    source: Path
    destination: Path
    layout: Layout
    config: str | None
    generation: Generation | None
    image_size: int
    graphs: tuple[ExportedFile, ...]
    files: tuple[str, ...]
    golden: tuple[Apart, ...]
    sha256: dict[str, str]
    notes: tuple[str, ...]
    safety: Safety

    def to_dict(self) -> dict[str, Any]:
        """Give the fields as plain data.

        Returns:
            Field name to value, graphs and differences as dicts.
        """
        nested = {
            "graphs": [asdict(graph) for graph in self.graphs],
            "golden": [asdict(one) for one in self.golden],
        }
        return {**super().to_dict(), **nested}

    def alerts(self) -> tuple[str, ...]:
        """Warn of a source that is not clean, and of variants that differ more than is usual.

        Returns:
            A line for each.
        """
        return (*super().alerts(), *self._loose())

    def shown(self) -> list[Part]:
        """What people see.

        Returns:
            What was read and written, then a row for each graph, then one for each variant.
        """
        rows = [
            ("read", str(self.source)),
            (Toned("wrote", "good"), f"{self.destination} (ONNX, layout of {self.layout})"),
            ("model", f"{self.config or 'of no published size'}, {self.image_size} pixels"),
            ("beside", ", ".join(self.files)),
            *(("note", note) for note in self.notes),
        ]
        graphs = [
            heading(("graph", "variant", "size", "furthest from the model")),
            *((g.name, g.variant, size_text(g.bytes), f"{g.apart:.1e}") for g in self.graphs),
        ]
        measured = [
            heading(("on the example", "mask IoU", "logits", "IoU scores", "object score")),
            *(
                (
                    g.variant,
                    share(g.mask_iou),
                    *map(_text, (g.logits, g.iou_scores, g.object_score)),
                )
                for g in self.golden
            ),
        ]
        found: list[Part] = [table(rows), BLANK, Table(tuple(graphs), gives=0, right=(2, 3))]
        return [*found, BLANK, Table(tuple(measured), right=(1, 2, 3, 4))] if self.golden else found

    def _loose(self) -> Iterator[str]:
        for one in self.golden:
            for field, bound in _EXPECTED[one.variant].items():
                value = getattr(one, field)
                if value < bound if field == "mask_iou" else value > bound:
                    said = share(value) if field == "mask_iou" else _text(value)
                    yield (
                        f"{one.variant}: {field.replace('_', ' ')} is {said} on the example, "
                        f"where {bound:g} is usual: try it on your own pictures before you publish"
                    )


def _text(value: float) -> str:
    return f"{value:.1e}"
