"""All that the official package offers is here, arguments and defaults too, or listed as absent.

A module, a name, an argument or a default of the installed package that this test does not know
fails it, and so does one that is listed and there after all.
"""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import Any

import pytest
import sam2

from sam21convert import model

# Modules that programs import from. sam21convert.model has what they define, by the same names.
OFFERED = ("automatic_mask_generator", "build_sam", "sam2_image_predictor", "sam2_video_predictor")
# What is absent, and why: modules, names, methods, arguments.
ABSENT = {
    "benchmark": "a script that needs a GPU; benchmarks/forward.py measures here",
    "modeling": "the network: sam21convert.model.SAM2 has the same tensors in modules of its own",
    "sam2_video_predictor_legacy": "the video predictor before it was replaced",
    "utils": "what the predictors and the generator are made of",
    "SAM2VideoPredictorVOS": "build_sam2_video_predictor(vos_optimized=True) compiles the parts",
    "SAM2AutomaticMaskGenerator.postprocess_small_regions": "nothing calls it, and it takes the "
    "MaskData of utils; min_mask_region_area removes small regions",
    **dict.fromkeys(
        (
            "SAM2VideoPredictor(fill_hole_area)",
            "SAM2VideoPredictor(non_overlap_masks)",
            "SAM2VideoPredictor(clear_non_cond_mem_around_input)",
            "SAM2VideoPredictor(add_all_frames_to_correct_as_cond)",
            "SAM2VideoPredictor(kwargs)",
        ),
        "the constructor takes the fields of TrackingOptions, and the builder official overrides",
    ),
}
# Defaults that differ, and why: the official one, ours.
DIFFERENT = {
    "build_sam2(device)": ("'cuda'", "'auto'"),  # a GPU if there is one
    "build_sam2_video_predictor(device)": ("'cuda'", "'auto'"),
    "build_sam2(hydra_overrides_extra)": ("[]", "()"),  # the same, but nobody can append to it
    "build_sam2_video_predictor(hydra_overrides_extra)": ("[]", "()"),
}


def modules() -> set[str]:
    return {module.name for module in pkgutil.iter_modules(sam2.__path__)}


def defined(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """The classes and functions that are public and no imports."""
    for name, value in vars(module).items():
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__:
            yield name, value


def callables(name: str, theirs: Any, ours: Any) -> Iterator[tuple[str, Any, Any]]:
    """A function, or a class and its public members; ours is None if it is absent."""
    yield name, theirs, ours
    for member, value in vars(theirs).items() if inspect.isclass(theirs) else ():
        if not member.startswith("_"):
            mine = getattr(ours, member, None)
            official = getattr(theirs, member) if callable(getattr(theirs, member)) else value
            yield f"{name}.{member}", official, mine


def arguments(function: Any) -> dict[str, str]:
    if isinstance(function, property):
        return {}
    parameters = inspect.signature(function).parameters.values()
    return {p.name: repr(p.default) for p in parameters}


def compared(offer: Any) -> tuple[set[str], dict[str, tuple[str, str]]]:
    """What is absent in an offer, and the defaults that differ."""
    absent, different = modules() - set(OFFERED), {}
    for module in OFFERED:
        for name, value in defined(import_module(f"sam2.{module}")):
            for title, theirs, ours in callables(name, value, getattr(offer, name, None)):
                if ours is None:
                    absent.add(title)
                    if title == name:
                        break
                    continue
                mine = arguments(ours)
                for argument, default in arguments(theirs).items():
                    where = f"{title}({argument})"
                    if argument not in mine:
                        absent.add(where)
                    elif mine[argument] != default:
                        different[where] = (default, mine[argument])
    return absent, different


def test_all_is_there_or_listed() -> None:
    absent, different = compared(model)
    assert absent == set(ABSENT)
    assert different == DIFFERENT


@pytest.mark.parametrize(
    ("name", "replacement"),
    [
        ("SAM2ImagePredictor", None),
        ("build_sam2", lambda config_file, **kwargs: None),
        ("build_sam2_hf", lambda model_id=1, **kwargs: None),
    ],
)
def test_what_is_not_would_be_detected(name: str, replacement: Any) -> None:
    offer = ModuleType("offer")
    vars(offer).update({one: getattr(model, one) for one in model.__all__})
    setattr(offer, name, replacement)
    absent, different = compared(offer)
    assert (absent, different) != (set(ABSENT), DIFFERENT)
    assert any(title.startswith(name) for title in (absent ^ set(ABSENT)) | set(different))
