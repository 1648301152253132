"""Differences of two sides that are found without running them: weights as loaded, and settings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from ...checkpoint.detect import GENERATION_TENSORS
from ...config.registry import tensors_of
from ...io.folding import few
from .. import influence
from ..backends.base import Backend, held
from ..findings import Diagnosis
from ..names import rank

_LISTED = 4  # differing tensors that are described one by one, for each activation
_ROUNDED = (torch.bfloat16, torch.float16)


def diagnose(left: Backend, right: Backend) -> tuple[Diagnosis, ...]:
    """Compare the weights and the settings of two loaded models.

    The weights are compared as the models hold them after loading, by their canonical names. So two
    swapped, transposed, rounded or randomly initialised tensors are found.

    Args:
        left: The left side.
        right: The right side.

    Returns:
        The differences, in the order of the first activation that each can change.
    """
    found = [*_settings(left, right), *_tensors(left, right)]
    return tuple(sorted(found, key=lambda difference: rank(difference.activation)))


def _settings(left: Backend, right: Backend) -> Iterator[Diagnosis]:
    one, other = (dict(_flat(asdict(side.config))) for side in (left, right))
    for name, value in one.items():
        if other[name] == value or (name == "generation" and _lifted(left, right)):
            continue
        if not _concerns(name, left, right):
            continue
        hint = None
        if name == "image_size":
            hint = (
                f"no tensor shows the image size; `image_size={value}` or {other[name]} compares "
                "both at one size, and convert with `image_size` records it in a folder"
            )
        yield Diagnosis(
            f"{name}: {_shown(value)} on the left, {_shown(other[name])} on the right",
            influence.of_setting(name),
            hint,
        )


def _concerns(name: str, left: Backend, right: Backend) -> bool:
    """Whether a setting changes anything that both sides can run."""
    activation = influence.of_setting(name)
    if left.abilities & right.abilities >= {"videos"}:
        return True
    if activation.startswith(("memory", "generation")):
        return False
    return (
        activation.startswith(("pixels", "trunk")) or "images" in left.abilities & right.abilities
    )


def _flat(fields: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _shown(value: Any) -> str:
    return str(list(value)) if isinstance(value, (list, tuple)) else str(value)


def _lifted(left: Backend, right: Backend) -> bool:
    """Whether one side is SAM 2 converted to SAM 2.1: the new tensors are all zeros."""
    new, old = sorted((left, right), key=lambda side: side.config.generation, reverse=True)
    if (new.config.generation, old.config.generation) != ("2.1", "2.0"):
        return False
    found = [held(new, name) for name in GENERATION_TENSORS]
    return all(tensor is not None and not tensor.any() for tensor in found)


def _tensors(left: Backend, right: Backend) -> Iterator[Diagnosis]:
    names = {**tensors_of(left.config), **tensors_of(right.config)}
    differing: dict[str, tuple[Tensor, Tensor]] = {}
    alone: dict[str, list[str]] = {"left": [], "right": []}
    for name in names:
        one, other = held(left, name), held(right, name)
        if one is None or other is None:
            present = one if one is not None else other
            if present is not None and present.any() and _comparable(left, right):
                alone["left" if other is None else "right"].append(name)
        elif not _same(one, other):
            differing[name] = one, other
    for side, extra in alone.items():
        if extra:
            activation = min((influence.of_tensor(name, left.config) for name in extra), key=rank)
            count = f"{len(extra)} of {len(names)} tensors"
            yield Diagnosis(f"only the {side} has {count}: {few(extra, _LISTED)}", activation)
    rounded = _rounding(differing)
    if rounded is not None:
        activations = [influence.of_tensor(name, left.config) for name in differing]
        yield Diagnosis(
            f"{len(differing)} tensors are rounded to {rounded}", min(activations, key=rank)
        )
        return
    yield from _by_activation(differing, left)


def _comparable(left: Backend, right: Backend) -> bool:
    """Whether both should hold the same tensors: an image model or a trunk lacks some."""
    return left.abilities == right.abilities


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool(torch.equal(one, other) or _equal_nan(one, other))


def _equal_nan(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)


def _rounding(differing: dict[str, tuple[Tensor, Tensor]]) -> str | None:
    """The type that the weights of one side were rounded to, if that explains all differences."""
    for dtype in _ROUNDED:
        if differing and all(
            one.shape == other.shape
            and (_same(one.to(dtype).float(), other) or _same(other.to(dtype).float(), one))
            for one, other in differing.values()
        ):
            return str(dtype).removeprefix("torch.")
    return None


def _by_activation(
    differing: dict[str, tuple[Tensor, Tensor]], left: Backend
) -> Iterator[Diagnosis]:
    """One entry for each activation; up to ``_LISTED`` tensors are described one by one."""
    groups: dict[str | None, list[str]] = {}
    for name in differing:
        groups.setdefault(influence.of_tensor(name, left.config), []).append(name)
    for activation, names in groups.items():
        if len(names) > _LISTED:
            count = f"{len(names)} of {len(tensors_of(left.config))} tensors differ"
            yield Diagnosis(f"{count}: {few(names, _LISTED)}", activation)
            continue
        for name in names:
            yield Diagnosis(_description(name, differing), activation)


def _description(name: str, differing: dict[str, tuple[Tensor, Tensor]]) -> str:
    one, other = differing[name]
    twins = [
        twin
        for twin, (its_left, its_right) in differing.items()
        if twin != name and _same(its_left, other) and _same(its_right, one)
    ]
    if twins:
        return f"two tensors are swapped: {name} and {twins[0]}"
    if one.shape != other.shape:
        left, right = ("x".join(map(str, shape.shape)) for shape in (one, other))
        return f"a tensor is {left} on the left and {right} on the right: {name}"
    if one.ndim == 2 and one.shape[0] == one.shape[1] and _same(one.T, other):
        return f"a tensor is transposed: {name}"
    furthest, scale = float((one - other).abs().max()), float(one.abs().max())
    if not other.any():
        return f"a tensor is zero on the right: {name}"
    if not furthest < float("inf"):
        return f"a tensor has values that are not finite on one side: {name}"
    share = f", {furthest / scale:.2g} of its scale" if scale else ""
    return f"a tensor differs by up to {furthest:.3g}{share}: {name}"
