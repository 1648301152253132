"""Where a package is known to compute something differently from the official code.

A known difference excuses nothing by itself. It counts only if the ground truth, after the same
change was made to it, agrees with the package within tolerance. So a range of versions needs no
upper end: a release without the difference agrees without any emulation, and one that differs in
another way does not agree with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from ...checkpoint.open import Checkpoint
from ..backends.truth import Truth
from ..findings import Diagnosis
from . import emulation
from .emulation import Emulation


@dataclass(frozen=True)
class KnownDifference:
    """One way in which a package differs from the official code, although the checkpoint is right.

    Attributes:
        name: A short name.
        backend: The backend whose package differs.
        scenarios: Names of the scenarios that show it.
        versions: Versions of the package, as a specifier of PEP 440.
        summary: What the package does, and what the official code does.
        hint: What a user of the package can do.
        emulate: Makes a context in which a ground truth computes exactly what the package does.
    """

    name: str
    backend: str
    scenarios: tuple[str, ...]
    versions: str
    summary: str
    hint: str
    emulate: Callable[[Truth], Emulation]


_TRANSFORMERS = "transformers"
_WITH_SAM2 = ">=4.56"  # the first release with SAM 2

# Checked with 4.56.2, 4.57.6, 5.1.0 and 5.23.0.
KNOWN_DIFFERENCES: tuple[KnownDifference, ...] = (
    KnownDifference(
        "image-rounding",
        _TRANSFORMERS,
        ("image-pixels",),
        _WITH_SAM2,
        "An image is rounded to bytes after resizing; the official code resizes in floating point.",
        "give the image processor floats from 0 to 1 and do_rescale=False",
        emulation.image_rounding,
    ),
    KnownDifference(
        "video-resize",
        _TRANSFORMERS,
        ("video-pixels",),
        _WITH_SAM2,
        "Video frames are resized bilinearly; the official code resizes the frames of a folder "
        "bicubically.",
        "set resample=3 in the video processor, which comes within 2/255 of the official pixels",
        emulation.video_resize,
    ),
    KnownDifference(
        "box-padding",
        _TRANSFORMERS,
        ("box", "box-point"),
        ">=4.56,<4.57",
        "No padding point follows the box prompt of an image; in the official code one does.",
        "use transformers 4.57 or newer",
        emulation.box_padding,
    ),
    KnownDifference(
        "no-prompt",
        _TRANSFORMERS,
        ("no-prompt",),
        _WITH_SAM2,
        "An image without a prompt gets a padding point; in the official code only video frames "
        "do.",
        "give a prompt",
        emulation.no_prompt,
    ),
    KnownDifference(
        "mask-pointer",
        _TRANSFORMERS,
        ("video-mask",),
        _WITH_SAM2,
        "The object pointer of a mask prompt comes from the best of three candidates; in the "
        "official code it comes from the single-mask token.",
        "replace model._single_frame_forward by functools.partial(model._single_frame_forward, "
        "multimask_output=False)",
        emulation.mask_pointer,
    ),
    KnownDifference(
        "mask-memory",
        _TRANSFORMERS,
        ("video-mask",),
        _WITH_SAM2,
        "A mask prompt becomes a memory as it is; the official code first scales it to a quarter "
        "of the resolution, like all other masks.",
        "no option changes this; for points and boxes the memories are the same",
        emulation.mask_memory,
    ),
    KnownDifference(
        "correction",
        _TRANSFORMERS,
        ("video-correction",),
        _WITH_SAM2,
        "A correcting click is decoded without the mask that it corrects; in the official code "
        "the decoder gets that mask.",
        "make model._run_single_frame_inference pass the logits found on that frame, clamped to "
        "-32..32, as prev_sam_mask_logits",
        emulation.correction,
    ),
    KnownDifference(
        "early-memory",
        _TRANSFORMERS,
        ("video-correction",),
        _WITH_SAM2,
        "Every answer to a prompt becomes a memory; in the official code only the last one does, "
        "when tracking starts.",
        "nothing to do: no mask depends on it",
        emulation.early_memory,
    ),
    KnownDifference(
        "holes",
        _TRANSFORMERS,
        ("video-holes",),
        _WITH_SAM2,
        "Holes in masks stay; the official builder of video predictors makes the model fill "
        "holes of up to 8 pixels.",
        "fill them afterwards, which leaves the memories as they are; or build the official "
        "predictor with apply_postprocessing=False",
        emulation.holes,
    ),
)


def known(backend: str, version: str, scenario: str) -> tuple[KnownDifference, ...]:
    """The known differences that a scenario shows.

    Args:
        backend: Name of the backend.
        version: Installed version of its package.
        scenario: Name of the scenario.

    Returns:
        The entries of ``KNOWN_DIFFERENCES`` that apply, in the order of the table.
    """
    return tuple(
        difference
        for difference in KNOWN_DIFFERENCES
        if difference.backend == backend
        and scenario in difference.scenarios
        and SpecifierSet(difference.versions).contains(version, prereleases=True)
    )


@contextmanager
def emulating(truth: Truth, known_differences: Sequence[KnownDifference]) -> Iterator[None]:
    """A context in which a ground truth emulates known differences.

    Args:
        truth: The ground truth. Copies of it must be made before the context begins.
        known_differences: What it emulates, all at once.

    Yields:
        Nothing.
    """
    with ExitStack() as stack:
        for difference in known_differences:
            stack.enter_context(difference.emulate(truth))
        yield


def file_faults(backend: str, version: str, checkpoint: Checkpoint) -> tuple[Diagnosis, ...]:
    """Tensors that a package fills with random values because the file lacks them.

    transformers 4.56 and 4.57 save one of the two copies of the positional embedding, and use the
    image's for prompts when they load it. transformers 5.0 and later need both copies. Such a file
    is at fault, so it is not in parity.

    Args:
        backend: Name of the backend.
        version: Installed version of its package.
        checkpoint: The checkpoint; only its header is read.

    Returns:
        One entry for each missing copy.
    """
    if backend != _TRANSFORMERS or checkpoint.fit is None:
        return ()
    tied = Version(version).major < 5
    return tuple(
        Diagnosis(
            f"{checkpoint.source.path}: {name} is missing, and transformers {version} fills it "
            "with random values",
            "prompt.sparse" if tied or name.startswith("prompt_encoder.") else "decoder.tokens",
            "sam21convert convert writes both copies of it",
        )
        for name in checkpoint.fit.missing_copies
        if not (tied and name.startswith("prompt_encoder."))
    )
