"""Several processes that train together, by accelerate: each has a clip, all have the same step."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import nn

from ...errors import UsageError
from ...prediction.devices import pick_device

T = TypeVar("T")

_LONGEST = timedelta(days=7)  # that the others wait while the first one evaluates


class Together:
    """The processes of a training; one, unless ``accelerate launch`` has started more.

    Args:
        device: The device of a single process, as for :func:`~sam21convert.parity`; each of several
            has its own GPU.

    Attributes:
        count: Number of processes.
        rank: The number of this one, counted from 0.
        device: Its device.
        precision: ``no``, or the type of autocast: ``bf16`` on a GPU unless accelerate was told
            otherwise.

    Raises:
        UsageError: If the device is not there, or accelerate was told to compute in fp16.
    """

    def __init__(self, device: str) -> None:
        import os

        from accelerate import Accelerator, InitProcessGroupKwargs

        chosen = pick_device(device)
        wanted = os.environ.get("ACCELERATE_MIXED_PRECISION")
        try:
            self._all = Accelerator(
                cpu=chosen == "cpu",
                mixed_precision=wanted or ("bf16" if chosen.startswith("cuda") else "no"),
                kwargs_handlers=[InitProcessGroupKwargs(timeout=_LONGEST)],
            )
        except ValueError as error:  # its state is that of the whole program
            raise UsageError(
                f"device {chosen}: accelerate computes on another one, or in another type, in this "
                "program already",
                hint="start another program",
            ) from error
        self.count: int = self._all.num_processes
        self.rank: int = self._all.process_index
        own = self._all.device
        self.device = chosen if self.count == 1 or own.type == "cpu" else str(own)
        self.precision = str(self._all.mixed_precision)
        if self.precision not in ("no", "bf16"):
            raise UsageError(
                f"mixed precision {self.precision}: expected bf16 or no",
                hint="accelerate launch --mixed_precision bf16",
            )

    @property
    def first(self) -> bool:
        """Whether this one writes and tells."""
        return self.rank == 0

    def autocast(self) -> AbstractContextManager[Any]:
        """Make a block that computes in :attr:`precision`.

        Returns:
            The block.
        """
        context: AbstractContextManager[Any] = self._all.autocast()
        return context

    def wait(self) -> None:
        """Wait until all are here."""
        self._all.wait_for_everyone()

    def mean(self, number: float) -> float:
        """The mean of a number of all.

        Args:
            number: That of this one.

        Returns:
            The mean.
        """
        if self.count == 1:
            return number
        mine = torch.tensor(number, dtype=torch.float32, device=self.device)
        return float(self._all.reduce(mine, "mean"))

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        """Give all the mean of their gradients; where only some have one, the others count as 0.

        Args:
            parameters: The parameters, whose gradients are changed.
        """
        if self.count == 1:
            return
        several = [*parameters]
        have = torch.tensor([one.grad is not None for one in several], device=self.device).float()
        some = (self._all.reduce(have, "sum") > 0).tolist()
        used = [one for one, there in zip(several, some, strict=True) if there]
        for one in used:
            if one.grad is None:
                one.grad = torch.zeros_like(one)
        flat = torch.cat([one.grad.flatten() for one in used if one.grad is not None])
        flat = self._all.reduce(flat, "mean")
        for one, piece in zip(used, flat.split([one.numel() for one in used]), strict=True):
            one.grad = piece.view_as(one).clone()

    def shared(self, made: T | None) -> T:
        """Give all what the first one has made.

        Args:
            made: What the first has; None for the others.

        Returns:
            The same.
        """
        from accelerate.utils import broadcast_object_list

        found = [made]
        if self.count > 1:
            broadcast_object_list(found)
        assert found[0] is not None
        return found[0]
