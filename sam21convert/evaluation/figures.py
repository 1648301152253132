"""The published J&F of each checkpoint of SAM 2, as data with their sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ..report import Part, Report, labelled, table
from .datasets import Layout
from .names import Protocol

SOURCE = "https://github.com/facebookresearch/sam2/blob/2b90b9f5ceec907a1c18123530e92e794ad901a4/README.md"
IMAGE_SIZE, DTYPE = 1024, "bfloat16"  # of the published figures, which autocast computed on a GPU
ROUNDED = 0.05  # at most, as figures have one digit


class Benchmark(NamedTuple):
    """A set of videos that figures are published of, or are looked for in vain.

    Attributes:
        name: What it is called.
        layout: The layout of its data.
        protocol: The rules by which it is scored.
        listed: The name of the list of its videos; empty if it has none.
        videos: Number of its videos.
        objects: Number of its objects; None where that is not known.
        off: The most that others were off by who tracked it with a published checkpoint; None if
            they were not scored alike.
        heard: What they got.
        why: Why a figure cannot be compared with the published one; empty if it can.
    """

    name: str
    layout: Layout
    protocol: Protocol
    listed: str
    videos: int
    objects: int | None
    off: float | None
    heard: str
    why: str = ""


SAV_TEST = Benchmark(
    "SA-V test",
    "sav",
    "sav",
    "sav_test.txt",
    150,
    278,
    0.4,
    "others got 74.6 with sam2_hiera_tiny (published: 75.0) and 75.7 with sam2_hiera_large (76.0): "
    "https://github.com/facebookresearch/sam2/issues/279",
)
SAV_VAL = Benchmark(
    "SA-V val",
    "sav",
    "sav",
    "sav_val.txt",
    155,
    293,
    None,
    "",
    "the README of SAM 2 has no figures of SA-V val",
)
MOSE_VAL = Benchmark(
    "MOSE val",
    "mose",
    "davis",
    "",
    311,
    None,
    None,
    "somebody got 66 (published: 74.6), which nobody has explained: "
    "https://github.com/facebookresearch/sam2/issues/738",
    "MOSE's server scores it, as its true masks are not public",
)
LVOS_V2 = Benchmark(
    "LVOS v2 val",
    "lvos",
    "lvos",
    "",
    140,
    None,
    None,
    "others got 84.0 with sam2.1_hiera_large (published: 80.6) by LVOS' own evaluator: "
    "https://github.com/Mark12Ding/SAM2Long/issues/14",
    "the published figures are of 136 of its videos, and it is not known by what rules",
)
BENCHMARKS = (SAV_TEST, SAV_VAL, MOSE_VAL, LVOS_V2)
# J&F in percent, from the tables in the README of SAM 2.
FIGURES: Mapping[str, Mapping[str, float]] = {
    name: dict(zip(("SA-V test", "MOSE val", "LVOS v2 val"), figures, strict=True))
    for name, figures in {
        "sam2.1_hiera_tiny": (76.5, 71.8, 77.3),
        "sam2.1_hiera_small": (76.6, 73.5, 78.3),
        "sam2.1_hiera_base_plus": (78.2, 73.7, 78.2),
        "sam2.1_hiera_large": (79.5, 74.6, 80.6),
        "sam2_hiera_tiny": (75.0, 70.9, 75.3),
        "sam2_hiera_small": (74.9, 71.5, 76.4),
        "sam2_hiera_base_plus": (74.7, 72.8, 75.8),
        "sam2_hiera_large": (76.0, 74.6, 79.8),
    }.items()
}


@dataclass(frozen=True)
class Expected(Report):
    """How far an evaluation is from the published figure.

    Attributes:
        benchmark: What the data are taken for; None for data that no figure is known of.
        model: The published checkpoint of this architecture and generation; None for an
            architecture that is not published.
        published_file: Whether the checkpoint is that very file.
        figure: The published J&F of ``model`` on ``benchmark``, in percent; None if there is none.
        apart: J&F of the evaluation less the published one, in percentage points; None if there is
            only one of the two, or the data are not the whole of the benchmark.
        spread: How far it may be from the published figure: as far as others were with the same
            checkpoint, and what rounding hides. None if this is not known.
        why: Why the two cannot be compared; None if they can.
        notes: What was done unlike for the published figure, and what is known of others.
        source: Where the figure is published.
    """

    benchmark: str | None
    model: str | None
    published_file: bool
    figure: float | None
    apart: float | None
    spread: float | None
    why: str | None
    notes: tuple[str, ...]
    source: str = SOURCE

    @property
    def ok(self) -> bool:
        """Whether J&F is not below the published figure by more than others were, if they compare.

        Higher is no fault, and what cannot be compared is none either.
        """
        if self.why is not None or self.apart is None or self.spread is None:
            return True
        return self.apart >= -self.spread

    @property
    def answer(self) -> str:
        """How far the evaluation is from the published figure, in a sentence."""
        if self.figure is None:
            return f"no published figure: {self.why}"
        text = f"{self.figure:.1f} of {self.model} on {self.benchmark}"
        if self.apart is not None:
            text += f"; here {self.apart:+.1f}"
        if self.why is not None:
            return f"{text}. Not comparable: {self.why}"
        assert self.apart is not None
        assert self.spread is not None
        if self.apart < -self.spread:
            return f"{text}, lower by more than the {self.spread:g} that is known of others"
        if self.apart > self.spread:
            return f"{text}, higher by more than the {self.spread:g} that is known of others"
        return f"{text}, within the {self.spread:g} that is known of others"

    def shown(self) -> list[Part]:
        """What people see.

        Returns:
            The answer, and what it depends on.
        """
        rows = [("published", self.answer)]
        if self.figure is not None:
            rows.append(("", f"from {self.source}"))
        return [table(rows), *(labelled("note", note) for note in self.notes)]
