"""How much memory tensors take while something is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any
from weakref import ReferenceType, ref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class PeakMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all tensors that operations read or write within the block.

    What an operation needs for itself alone is not seen.

    Attributes:
        peak: The most that there was at a time, in bytes.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._now = 0
        self._there: dict[int, tuple[ReferenceType[torch.UntypedStorage], int]] = {}  # by address

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation and look at its tensors; torch calls this."""
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves((args, kwargs, result)):
            if isinstance(value, torch.Tensor) and value.device.type != "meta":
                self._see(value.untyped_storage())
        if self._now > self.peak:  # as long as it is not, what is gone need not be looked for
            for address in [key for key, (one, _) in self._there.items() if one() is None]:
                self._forget(address)
            self.peak = max(self.peak, self._now)
        return result

    def _see(self, storage: torch.UntypedStorage) -> None:
        address = storage._cdata
        known = self._there.get(address)
        if known is not None and known[0]() is None:  # another has taken its place
            self._forget(address)
        if address not in self._there:
            self._there[address] = ref(storage), storage.nbytes()
            self._now += storage.nbytes()

    def _forget(self, address: int) -> None:
        self._now -= self._there.pop(address)[1]
