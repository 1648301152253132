"""Which devices torch finds here, and which of them to use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import UsageError, did_you_mean, nearest

if TYPE_CHECKING:
    import torch

_AUTO = "`device=auto` takes the best of what is there"
_KINDS = ("cpu", "cuda", "gpu", "mps", "xpu")  # of torch, and what people call some of them


def pick_device(device: str | torch.device, *, to_compare: bool = False) -> str:
    """Choose the device to compute on.

    Args:
        device: ``"auto"``, or a device as torch names it: ``"cpu"``, ``"cuda"``, ``"cuda:1"``,
            ``"mps"``.
        to_compare: Whether models will be compared. ``"auto"`` then passes MPS by: several releases
            of torch compute pooling and convolutions of strided tensors wrongly there, without an
            error, and a comparison should not be about that.

    Returns:
        ``device``, or for ``"auto"`` the kind of GPU that torch finds and ``"cpu"`` if there is
        none.

    Raises:
        UsageError: If the device is not there; the message names those that are.
    """
    import torch

    found = _found()
    if str(device) == "auto":
        kind = found[0].partition(":")[0]
        return "cpu" if to_compare and kind == "mps" else kind
    try:
        wanted = torch.device(device)
        there = wanted.type == "cpu" or f"{wanted.type}:{wanted.index or 0}" in found
    except RuntimeError:  # torch knows no such name
        there = False
    if not there:
        raise UsageError(
            f"device {device}: torch {torch.__version__} finds only {' and '.join(found)} here",
            hint=did_you_mean(_meant(str(device), found), _AUTO),
        )
    return str(wanted)


def _meant(device: str, found: list[str]) -> list[str]:
    """What a misspelt device may mean, if that is there."""
    kinds = {one.partition(":")[0] for one in found}
    near = nearest(device, ["auto", *_KINDS, *kinds])[: int(":" not in device)]
    return [one for one in near if one == "auto" or one in kinds]


def place_model(device: str | torch.device) -> str:
    """Choose the device of a model that may only be built.

    Args:
        device: As for :func:`pick_device`, or ``"meta"`` for a model without values.

    Returns:
        As :func:`pick_device` does.

    Raises:
        UsageError: As :func:`pick_device` does.
    """
    return "meta" if str(device) == "meta" else pick_device(device)


def _found() -> list[str]:
    """The devices that can compute, the best first: ``cuda:0``, ``cuda:1``, ``cpu``."""
    import torch

    count = torch.accelerator.device_count() if torch.accelerator.is_available() else 0
    kind = torch.accelerator.current_accelerator() if count else None
    return ["cpu"] if kind is None else [*(f"{kind.type}:{n}" for n in range(count)), "cpu"]
