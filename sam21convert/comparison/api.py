"""The public function :func:`parity`."""

from __future__ import annotations

import platform
import shlex
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import torch

from ..errors import UsageError
from ..io.date import date_of_output
from ..io.nearby import expanded
from ..io.output.atomic import refuse_existing
from ..io.output.folders import refuse_file_name
from ..io.tensor import DType
from ..prediction.arithmetic import Arithmetic
from ..prediction.devices import pick_device
from ..report import SILENT, Progress
from .backends.base import Backend
from .backends.truth import Truth
from .cases import PIXEL_FRAMES, Case, cases
from .comparison import Comparison
from .explain.diagnosis import diagnose
from .explain.known_differences import file_faults
from .findings import Diagnosis, NegativeControl, ScenarioResult, Sensitivity
from .folder import write_folder
from .gradients.comparison import GradientComparison
from .gradients.scenarios import TrainingScenario
from .gradients.scenarios import chosen as chosen_steps
from .gradients.trainees import refuse as refuse_untrainable
from .inputs import clip, pictures
from .metrics import MULTIPLE
from .perturb import forget_others, measure_sensitivity, perturbable, run_controls
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
    gradients: bool = False,
    rounded_to: DType | None = None,
    progress: Progress = SILENT,
) -> ParityReport:
    """Run two models on the same inputs and say whether they compute the same.

    All activations are compared, in the order of the data flow. How far they may be apart is
    measured: each run also runs numerical variants of the ground truth. Every run has negative
    controls, which show that it would have detected a fault.

    Args:
        left: One side as ``backend:source``. The backend is the package that runs the model:
            ``truth`` (the model of this package, and the default), ``sam2`` (the official code),
            ``transformers``, ``timm`` (the trunk only), or ``onnx`` (a folder that
            :func:`~sam21convert.export_onnx` wrote, run by onnxruntime). The source is any
            checkpoint that can be read.
        right: The other side, in the same form.
        scenarios: ``"quick"``, ``"full"`` or names of scenarios, as a list or separated by commas.
            None means quick, or full with ``sensitivity`` or ``gradients``.
        device: ``"auto"`` for CUDA if it is there and else the CPU, or a device as torch names it.
        dtype: Type to compute in; other than float32, under autocast.
        image_size: Side of the input of both models in pixels; None for what each config says.
        config: Config for a source that has none of its own: a shipped name, a file or a config.
        right_config: The same for the right side only; None for ``config``.
        images: A folder of pictures to use instead of the drawn one.
        video: A video file, or a folder of JPEGs, to use instead of the drawn video.
        report: A folder for an HTML page, its JSON and tables; None for no page.
        overwrite: Whether ``report`` may be a folder that is not empty.
        sensitivity: Change every tensor in turn, and list those whose change no scenario detects.
        gradients: Compare a step of training instead: the losses, and the gradient of every
            parameter. It has scenarios of its own.
        rounded_to: Round the weights of the left side to this type first, to compare them with
            weights that were cast.
        progress: Told of each step before it begins.

    Returns:
        The report. ``report.ok`` is the verdict and ``print(report)`` the summary.

    Raises:
        UsageError: For wrong arguments, and for a package that is not installed. Also for a
            ``SOURCE_DATE_EPOCH`` that is no number.
        UnreadableError: For a source, picture or video that cannot be read.
        MismatchError: For a checkpoint that does not fit its config.

    Example:
        >>> report = sam21convert.parity("model.pt", "model.pt", scenarios="point")
        >>> assert report.ok, report.problems
    """
    start, date = time.perf_counter(), date_of_output()
    page = None if report is None else _folder(report, overwrite=overwrite)
    wanted = _wanted(scenarios, images, video, sensitivity=sensitivity, gradients=gradients)
    arithmetic = Arithmetic(pick_device(device, to_compare=True), dtype)
    named = parse(left, config), parse(right, config if right_config is None else right_config)
    if gradients:
        refuse_untrainable(side.backend for side in named)
    comparison = _load_sides(named, image_size, arithmetic, rounded_to, progress)
    found = _run(comparison, wanted, images, video, progress, sensitivity=sensitivity)
    options = {
        "--scenarios": ",".join(scenario.name for scenario in wanted),
        "--device": arithmetic.device,
        "--dtype": dtype,
        "--image-size": image_size,
        "--config": config if isinstance(config, (str, Path)) else None,
        "--images": images,
        "--video": video,
    }
    sides = comparison.sides
    progress.start("hashing", 0)
    result = ParityReport(
        left=named[0].described(sides[0]),
        right=named[1].described(sides[1]),
        reference="left" if comparison.reference_is_left else "right",
        device=_device_name(arithmetic.device),
        dtype=dtype,
        threads=torch.get_num_threads(),
        versions=_versions(),
        exact=comparison.truth is None,
        multiple=MULTIPLE,
        diagnosis=(*_file_faults(named, sides), *diagnose(*sides)),
        command=_command(left, right, options, sensitivity=sensitivity, gradients=gradients),
        seconds=round(time.perf_counter() - start, 2),
        date=date,
        gradients=gradients,
        **found._asdict(),
    )
    if page is not None:
        write_folder(result, page, overwrite=overwrite)
    return result


def _folder(report: str | Path, *, overwrite: bool) -> Path:
    """The folder of the report, if it may be written."""
    folder = expanded(Path(report))
    refuse_file_name(folder)
    refuse_existing(folder, overwrite=overwrite)
    return folder


class _Found(NamedTuple):
    """What the runs found: fields of the report."""

    scenarios: tuple[ScenarioResult, ...]
    negative_controls: tuple[NegativeControl, ...]
    noise_from: tuple[str, ...]
    sensitivity: Sensitivity | None = None


def _wanted(
    names: str | Sequence[str] | None,
    images: str | Path | None,
    video: str | Path | None,
    *,
    sensitivity: bool,
    gradients: bool,
) -> Sequence[Scenario | TrainingScenario]:
    """The scenarios that the user selects: those of training, or the others."""
    if not gradients:
        return chosen(names or ("full" if sensitivity else "quick"))
    if images is not None or video is not None:
        raise UsageError(
            "gradients: cannot be compared on pictures or a video of yours",
            hint="they need true masks, so the drawn video is used: leave yours out",
        )
    if sensitivity:
        raise UsageError(
            "gradients: cannot be compared with sensitivity",
            hint="it changes tensors and looks for other results: run it without gradients",
        )
    return chosen_steps(names or "full")


def _train(comparison: Comparison, steps: Sequence[TrainingScenario], progress: Progress) -> _Found:
    """Judge all steps of training, and run the negative controls."""
    progress.start("comparing", len(steps))
    training, results = GradientComparison(comparison), []
    for step in steps:
        progress.advance(0, step.name)
        results.append(training.judge(step))
        progress.advance(1)
    progress.start("checking that faults are detected", 0)
    controls = tuple(training.controls())
    return _Found(tuple(results), controls, training.variant_names)


def _run(
    comparison: Comparison,
    wanted: Sequence[Scenario | TrainingScenario],
    images: str | Path | None,
    video: str | Path | None,
    progress: Progress,
    *,
    sensitivity: bool,
) -> _Found:
    """Run what is wanted: steps of training, or all else."""
    if steps := [one for one in wanted if isinstance(one, TrainingScenario)]:
        return _train(comparison, steps, progress)
    others = [one for one in wanted if not isinstance(one, TrainingScenario)]
    planned = _cases(comparison, others, images, video)
    return _answer(comparison, planned, progress, sensitivity=sensitivity)


def _answer(
    comparison: Comparison, planned: Sequence[Case], progress: Progress, *, sensitivity: bool
) -> _Found:
    """Judge all cases, run the negative controls, and measure the sensitivity if asked for."""
    progress.start("comparing", len(planned))
    results = []
    for case in planned:
        progress.advance(0, case.title)
        results.append(comparison.judge(case))
        if not sensitivity:
            forget_others(comparison)
        progress.advance(1)
    progress.start("checking that faults are detected", 0)
    controls = tuple(run_controls(comparison))
    measured = None
    if sensitivity:
        progress.start("changing", len(perturbable(comparison)))
        measured = measure_sensitivity(comparison, progress)
    return _Found(tuple(results), controls, comparison.variant_names, measured)


def _load_sides(
    named: tuple[Named, Named],
    image_size: int | None,
    arithmetic: Arithmetic,
    rounded_to: DType | None,
    progress: Progress,
) -> Comparison:
    """Load both sides, and the ground truth where noise must be measured.

    The reference is the left side, unless only the right one does the arithmetic of the official
    code.
    """
    left, right = named
    device = arithmetic.device
    sides = (
        left.load(image_size, device, rounded_to, progress),
        right.load(image_size, device, progress=progress),
    )
    # Weights of a graph cannot be changed for negative controls, so it is never the reference.
    swap = left.backend not in _SAME_ARITHMETIC and right.backend in _SAME_ARITHMETIC
    swap = swap or left.backend == "onnx"
    reference, other = reversed(sides) if swap else sides
    truth = None
    if not _exact(left, right, arithmetic):
        same = replace(right if swap else left, backend="truth")
        loaded = isinstance(reference, Truth)
        rounding = None if swap else rounded_to
        truth = reference if loaded else same.load(image_size, device, rounding)
    assert truth is None or isinstance(truth, Truth)
    if truth is not None:
        truth.for_exports = "onnx" in (left.backend, right.backend)
    return Comparison(reference, other, not swap, arithmetic, truth)


def _exact(left: Named, right: Named, arithmetic: Arithmetic) -> bool:
    """Whether the two do the same operations in the same order, so that they must be equal."""
    same = left.backend == right.backend or {left.backend, right.backend} <= _SAME_ARITHMETIC
    return same and arithmetic == Arithmetic("cpu", "float32")


def _cases(
    comparison: Comparison,
    wanted: Sequence[Scenario],
    images: str | Path | None,
    video: str | Path | None,
) -> list[Case]:
    """The cases to run, with pictures and frames of the reference's size."""
    size = comparison.reference.config.image_size
    lengths = [s.frames for s in wanted if isinstance(s, VideoScenario)]
    moving = [s for s in wanted if isinstance(s, PixelScenario) and s.video]
    length = max([*lengths, *(PIXEL_FRAMES for _ in moving)], default=0)
    drawn = pictures(None if images is None else expanded(Path(images)), size)
    shown = None if video is None else expanded(Path(video))
    played = clip(shown, size, length) if length else None
    return list(cases(wanted, drawn, played))


def _file_faults(named: Iterable[Named], sides: Iterable[Backend]) -> Iterator[Diagnosis]:
    for name, side in zip(named, sides, strict=True):
        yield from file_faults(side.name, side.version, name.opened)


def _command(
    left: str | Path,
    right: str | Path,
    options: Mapping[str, object],
    *,
    sensitivity: bool,
    gradients: bool,
) -> str:
    """The command line that runs the same comparison; ``quick`` and ``full`` by their names."""
    choose = chosen_steps if gradients else chosen
    sets = {",".join(s.name for s in choose(name)): name for name in ("quick", "full")}
    names = str(options["--scenarios"])
    options = {**options, "--scenarios": sets.get(names, names)}
    words = ["sam21convert", "parity", str(left), str(right)]
    for name, value in options.items():
        if value is not None:
            words += [name, str(value)]
    flags = {"--sensitivity": sensitivity, "--gradients": gradients}
    return shlex.join([*words, *(flag for flag, given in flags.items() if given)])


def _device_name(device: str) -> str:
    cuda = torch.device(device).type == "cuda"
    return f"{device} ({torch.cuda.get_device_name(device) if cuda else platform.machine()})"


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
