"""Parity: the same inputs through two models, compared activation by activation, with controls."""

from __future__ import annotations

import platform
import shlex
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from ..io.output.atomic import refuse_existing
from ..io.tensor import DType
from ..prediction.load import pick_device
from ..report import SILENT, Progress
from .backends.base import Backend
from .backends.truth import Truth
from .backends.variants import Arithmetic
from .cases import PIXEL_FRAMES, Case, cases
from .comparison import Comparison
from .explain.diagnosis import diagnose
from .explain.known_differences import file_faults
from .findings import Diagnosis
from .inputs import clip, pictures
from .metrics import MULTIPLE
from .page.page import write_page
from .perturb import measure_sensitivity, perturbable, run_controls
from .report import ParityReport
from .scenarios import PixelScenario, Scenario, VideoScenario, chosen
from .sides import Config, Named, parse

_PACKAGES = ("sam21convert", "torch", "numpy", "sam2", "transformers", "timm")
_SAME_ARITHMETIC = {"truth", "sam2"}  # the same kernels in the same order


def parity(
    left: str | Path,
    right: str | Path,
    *,
    scenarios: str | Sequence[str] | None = None,
    device: str = "auto",
    dtype: DType = "float32",
    image_size: int | None = None,
    config: Config = None,
    right_config: Config = None,
    images: str | Path | None = None,
    video: str | Path | None = None,
    report: str | Path | None = None,
    overwrite: bool = False,
    sensitivity: bool = False,
    rounded_to: DType | None = None,
    progress: Progress = SILENT,
) -> ParityReport:
    """Run two models on the same inputs and say whether they compute the same.

    ``left`` and ``right`` are ``backend:source``. The backend is the package that runs the model:
    ``truth`` (the model of this package, and the default), ``sam2`` (the official code),
    ``transformers``, or ``timm`` (trunk only); the source is any checkpoint that can be read.

    ``scenarios`` are ``quick``, ``full`` or names; quick unless given, full with ``sensitivity``, which
    puts every tensor off in turn to list those that no scenario sees. ``dtype`` other than float32
    is that of autocast. ``image_size`` is that of both models; ``config`` is for a source that has
    none of its own, ``right_config`` for the right one where that is another. ``images``, a folder
    of pictures, and ``video``, a file or a folder of JPEGs, take the place of the drawn ones.
    ``report`` is a folder for an HTML page and its JSON. ``rounded_to`` has the left side's weights
    rounded to a type and back before, to compare with weights that were cast. ``progress`` is
    called as each step begins, with its name and the number of steps.

    Raises :class:`~sam21convert.errors.UsageError` for what cannot be asked, a package that is not
    installed among it, else as :func:`~sam21convert.load_model`.
    """
    start = time.perf_counter()
    if report is not None:
        refuse_existing(Path(report), overwrite=overwrite)
    wanted = chosen(scenarios or ("full" if sensitivity else "quick"))
    arithmetic = Arithmetic(pick_device(device), dtype)
    named = parse(left, config), parse(right, config if right_config is None else right_config)
    bench = _comparison(named, image_size, arithmetic, rounded_to)
    todo = _inputs(bench, wanted, images, video)
    steps = len(todo) + 1 + (len(perturbable(bench)) if sensitivity else 0)
    progress.start("comparing", steps)
    found = []
    for case in todo:
        progress.advance(0, case.title)
        found.append(bench.judge(case))
        progress.advance(1)
    progress.advance(0, "negative controls")
    controlled = tuple(run_controls(bench))
    progress.advance(1)
    measured = measure_sensitivity(bench, progress) if sensitivity else None
    asked = {
        "--scenarios": ",".join(scenario.name for scenario in wanted),
        "--device": arithmetic.device,
        "--dtype": dtype,
        "--image-size": image_size,
        "--config": config if isinstance(config, (str, Path)) else None,
        "--images": images,
        "--video": video,
    }
    one, other = bench.sides
    result = ParityReport(
        left=named[0].described(one),
        right=named[1].described(other),
        reference="left" if bench.reference_is_left else "right",
        device=_device_name(arithmetic.device),
        dtype=dtype,
        threads=torch.get_num_threads(),
        versions=_versions(),
        exact=bench.truth is None,
        multiple=MULTIPLE,
        noise_from=bench.variant_names,
        scenarios=tuple(found),
        diagnosis=(*_file_faults(named, bench.sides), *diagnose(one, other)),
        negative_controls=controlled,
        sensitivity=measured,
        command=_command(left, right, asked, sensitivity=sensitivity),
        seconds=round(time.perf_counter() - start, 2),
    )
    if report is not None:
        write_page(result, Path(report), overwrite=overwrite)
    return result


def _comparison(
    named: tuple[Named, Named],
    image_size: int | None,
    arithmetic: Arithmetic,
    rounded_to: DType | None,
) -> Comparison:
    """Load both sides, and the ground truth where noise is to be measured.

    The reference is the left side, unless its package is one that deviates and the other is not.
    """
    left, right = named
    device = arithmetic.device
    sides = left.load(image_size, device, rounded_to), right.load(image_size, device)
    swap = left.backend not in _SAME_ARITHMETIC and right.backend in _SAME_ARITHMETIC
    reference, other = reversed(sides) if swap else sides
    truth = None
    if not _exact(left, right, arithmetic):
        same = replace(right if swap else left, backend="truth")
        loaded = isinstance(reference, Truth)
        rounding = None if swap else rounded_to
        truth = reference if loaded else same.load(image_size, device, rounding)
    assert truth is None or isinstance(truth, Truth)
    return Comparison(reference, other, not swap, arithmetic, truth)


def _exact(left: Named, right: Named, arithmetic: Arithmetic) -> bool:
    """Whether the two do the same operations in the same order, and 0 can be asked for."""
    same = left.backend == right.backend or {left.backend, right.backend} <= _SAME_ARITHMETIC
    return same and arithmetic == Arithmetic("cpu", "float32")


def _inputs(
    bench: Comparison,
    wanted: Sequence[Scenario],
    images: str | Path | None,
    video: str | Path | None,
) -> list[Case]:
    """The cases to run, with pictures and frames of the reference's size."""
    size = bench.reference.config.image_size
    lengths = [s.frames for s in wanted if isinstance(s, VideoScenario)]
    moving = [s for s in wanted if isinstance(s, PixelScenario) and s.video]
    length = max([*lengths, *(PIXEL_FRAMES for _ in moving)], default=0)
    shown = pictures(None if images is None else Path(images), size)
    played = clip(None if video is None else Path(video), size, length) if length else None
    return list(cases(wanted, shown, played))


def _file_faults(named: Iterable[Named], sides: Iterable[Backend]) -> Iterator[Diagnosis]:
    for name, side in zip(named, sides, strict=True):
        yield from file_faults(side.name, side.version, name.opened())


def _command(
    left: str | Path, right: str | Path, options: Mapping[str, object], *, sensitivity: bool
) -> str:
    """The command line that asks the same; a named set of scenarios by its name."""
    sets = {",".join(s.name for s in chosen(name)): name for name in ("quick", "full")}
    asked = str(options["--scenarios"])
    options = {**options, "--scenarios": sets.get(asked, asked)}
    words = ["sam21convert", "parity", str(left), str(right)]
    for name, value in options.items():
        if value is not None:
            words += [name, str(value)]
    return shlex.join([*words, *(["--sensitivity"] if sensitivity else [])])


def _device_name(device: str) -> str:
    if device == "cpu":
        return f"cpu ({platform.machine()})"
    return f"{device} ({torch.cuda.get_device_name()})"


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
