"""Where a package is known to compute otherwise than the official code.

That a deviation is known excuses nothing by itself. It is believed only where the ground truth,
made to deviate in the same way, agrees with the package again within rounding. So ``versions`` need
no upper end: a release that is put right agrees without emulation, and one that deviates in another
way does not agree with it.
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
    """One way in which a package differs from the official code, the checkpoint being sound.

    It shows in ``scenarios`` of ``versions`` (a specifier as of PEP 440) of the package that
    ``backend`` runs. ``summary`` says what the package does and what is done officially, ``hint``
    what its user can do. ``emulate`` makes a ground truth deviate so, exactly.
    """

    name: str
    backend: str
    scenarios: tuple[str, ...]
    versions: str
    summary: str
    hint: str
    emulate: Callable[[Truth], Emulation]


_TRANSFORMERS = "transformers"
_EVER_SINCE = ">=4.56"  # the first release with SAM 2

# Looked at were 4.56.2, 4.57.6, 5.1.0 and 5.23.0.
KNOWN_DIFFERENCES: tuple[KnownDifference, ...] = (
    KnownDifference(
        "image-rounding",
        _TRANSFORMERS,
        ("image-pixels",),
        _EVER_SINCE,
        "An image is rounded to bytes after it was resized; officially it is resized in floats.",
        "give the image processor floats of 0 to 1 and do_rescale=False",
        emulation.image_rounding,
    ),
    KnownDifference(
        "video-resize",
        _TRANSFORMERS,
        ("video-pixels",),
        _EVER_SINCE,
        "Frames of a video are resized bilinearly; officially, pictures of a folder bicubically.",
        "resample=3 in the video processor comes within 2/255",
        emulation.video_resize,
    ),
    KnownDifference(
        "box-padding",
        _TRANSFORMERS,
        ("box", "box-point"),
        ">=4.56,<4.57",
        "The decoder of an image is given a box without the point of padding that officially "
        "follows it.",
        "transformers 4.57 or newer",
        emulation.box_padding,
    ),
    KnownDifference(
        "no-prompt",
        _TRANSFORMERS,
        ("no-prompt",),
        _EVER_SINCE,
        "An image without a prompt gets a point that is none; officially only frames of a video "
        "do.",
        "give a prompt",
        emulation.no_prompt,
    ),
    KnownDifference(
        "mask-pointer",
        _TRANSFORMERS,
        ("video-mask",),
        _EVER_SINCE,
        "The object pointer of a given mask comes from the best of three candidates; officially "
        "from the token for a single mask.",
        "replace model._single_frame_forward by functools.partial(model._single_frame_forward, "
        "multimask_output=False)",
        emulation.mask_pointer,
    ),
    KnownDifference(
        "mask-memory",
        _TRANSFORMERS,
        ("video-mask",),
        _EVER_SINCE,
        "A given mask is remembered as it is; officially it is first brought to a quarter of the "
        "resolution, like all masks.",
        "no option changes it; points and boxes are remembered alike",
        emulation.mask_memory,
    ),
    KnownDifference(
        "correction",
        _TRANSFORMERS,
        ("video-correction",),
        _EVER_SINCE,
        "A click is answered without the mask that it corrects; officially the decoder sees it.",
        "have model._run_single_frame_inference get, as prev_sam_mask_logits, the logits found on "
        "that frame, clamped to -32..32",
        emulation.correction,
    ),
    KnownDifference(
        "early-memory",
        _TRANSFORMERS,
        ("video-correction",),
        _EVER_SINCE,
        "Every answer to a prompt is made a memory; officially only the last, when objects are "
        "followed.",
        "nothing to do: no mask depends on it",
        emulation.early_memory,
    ),
    KnownDifference(
        "holes",
        _TRANSFORMERS,
        ("video-holes",),
        _EVER_SINCE,
        "Holes stay; the official builder of video predictors has those of up to 8 pixels filled.",
        "fill them afterwards, which leaves memories as they are; or build the official predictor "
        "with apply_postprocessing=False",
        emulation.holes,
    ),
)


def known(backend: str, version: str, scenario: str) -> tuple[KnownDifference, ...]:
    """The deviations of that version of a backend's package that show in a scenario."""
    return tuple(
        known_difference
        for known_difference in KNOWN_DIFFERENCES
        if known_difference.backend == backend
        and scenario in known_difference.scenarios
        and SpecifierSet(known_difference.versions).contains(version, prereleases=True)
    )


@contextmanager
def emulating(truth: Truth, known_differences: Sequence[KnownDifference]) -> Iterator[None]:
    """Let ``truth`` deviate in all these ways for a while; copies are to be made before."""
    with ExitStack() as stack:
        for known_difference in known_differences:
            stack.enter_context(known_difference.emulate(truth))
        yield


def file_faults(backend: str, version: str, checkpoint: Checkpoint) -> tuple[Diagnosis, ...]:
    """What a backend's package makes of a file other than what it holds, told from its header.

    transformers 4.56 and 4.57 save the positional embedding once, and take that of prompts from
    that of the image; newer ones ask for both. Such a file is at fault, and not in parity.
    """
    if backend != _TRANSFORMERS or checkpoint.fit is None:
        return ()
    tied = Version(version).major < 5
    return tuple(
        Diagnosis(
            f"{checkpoint.source.path}: {name} is absent, and transformers {version} puts random "
            "numbers in its place",
            "prompt.sparse" if tied or name.startswith("prompt_encoder.") else "decoder.tokens",
            "sam21convert convert writes both copies of it",
        )
        for name in checkpoint.fit.lone
        if not (tied and name.startswith("prompt_encoder."))
    )
