"""Reports of parity, made up: what their page and their tables show needs no model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from sam21convert.checkpoint.safety.report import Safety
from sam21convert.comparison.findings import (
    ActivationResult,
    CaseStatus,
    Diagnosis,
    NegativeControl,
    ParitySide,
    ScenarioResult,
    View,
)
from sam21convert.comparison.inputs import drawn_frame
from sam21convert.comparison.report import ParityReport
from sam21convert.prediction.draw import Pixels, scene
from sam21convert.prediction.prompts import Box, Point, Prompted

OF_AN_IMAGE = ("prompt.sparse", "decoder.logits", "decoder.iou", "masks")
OF_A_VIDEO = ("memory_attention.output", "decoder.logits", "pointer", "masks")
LONG = "checkpoints-of-a-rather-long-training-run/epoch_0040_" + "x" * 120 + ".pt"
HOSTILE = "<img src=x onerror=alert(1)>\"'&amp;</style><script>alert(2)</script>"


def activation(name: str = "masks", apart: float = 0.0, allowed: float = 1e-6) -> ActivationResult:
    of_masks = {"iou": 1 - apart, "differing": apart} if "masks" in name else {}
    return ActivationResult(name, 3 * apart, apart, 1 - apart, allowed / 10, allowed, **of_masks)


def view(pixels: Pixels, *, differing: bool = False, title: str = "mask") -> View:
    """A mask of the left half; with ``differing`` the right side's ends a tenth further left."""
    height, width = pixels.shape[:2]
    left, right = np.zeros((2, height, width), bool)
    left[height // 4 :, : width // 2] = True
    right[height // 4 :, : width * (4 if differing else 5) // 10] = True
    prompts = Prompted([Point(width / 4, height / 4)], Box(3, 3, width / 2, height / 2))
    return View(title, pixels, prompts, left, right)


def image(name: str = "point", apart: float = 0.0, pixels: Pixels | None = None) -> ScenarioResult:
    pixels = scene(128) if pixels is None else pixels
    activations = tuple(
        activation(one, apart if one != "prompt.sparse" else 0.0) for one in OF_AN_IMAGE
    )
    first = next((one.name for one in activations if not one.within), None)
    outcome: CaseStatus = "differs" if first else "same"
    shown = (view(pixels, differing=first is not None),)
    return ScenarioResult(name, "a summary", "", outcome, activations, first, views=shown)


def video(name: str = "video-long", frames: int = 18) -> ScenarioResult:
    names = [
        f"frame{n}.object{k}.{one}" for n in range(frames) for k in (1, 2) for one in OF_A_VIDEO
    ]
    shown = tuple(view(drawn_frame(n), title=f"frame {n}") for n in (0, 9, 17))
    activations = tuple(activation(one, 3e-7) for one in names)
    return ScenarioResult(name, "a video, followed", "", "same", activations, views=shown)


def side(backend: str = "truth", source: str = "ckpts/tiny.pt") -> ParitySide:
    digests = {Path(source).name: "9f" * 32, "config.json": "a1" * 32}
    names = ("official", "torch zip", "2.1", "sam2.1/sam2.1_hiera_t")
    return ParitySide(backend, "1.2.3", Path(source), *names, 1024, digests, (), Safety())


def report(*scenarios: ScenarioResult) -> ParityReport:
    return ParityReport(
        left=side(),
        right=side("sam2"),
        reference="left",
        device="cpu",
        dtype="float32",
        threads=2,
        versions={"torch": "2.13.0", "numpy": "2.3.1"},
        exact=False,
        multiple=10,
        noise_from=("another kernel", "float64"),
        scenarios=scenarios or (image(), video()),
        diagnosis=(),
        negative_controls=(
            NegativeControl("point", "a.weight", 0.01, detected=True, activation="decoder.logits"),
        ),
        sensitivity=None,
        command="sam21convert parity a b",
        seconds=1.5,
        date="2026-01-31T12:00:00Z",
    )


PASSING = report()
FAILING = replace(
    report(image(), image("box", apart=0.2), video()),
    diagnosis=(
        Diagnosis("a tensor differs by up to 0.1: b.weight", "decoder.logits", "look into b"),
    ),
)
KNOWN = replace(image("mask"), status="known difference", why="it rounds twice", apart=0.03)
NOT_RUN = ScenarioResult("video-box", "a box", "", "not run", why="it has no memory")
LONG_NAMES = replace(
    report(*(replace(one, input="picture-" + "y" * 120) for one in FAILING.scenarios)),
    left=replace(side(source=LONG), notes=("random values: " + "decoder.layers.0.weight" * 9,)),
    right=side("transformers", LONG),
)
