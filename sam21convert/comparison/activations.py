"""Activations: what a model computes, by name and in the order of the data flow.

The names are those of the ground truth (:class:`~sam21convert.model.SAM2`): ``trunk.stage0`` to
``3``, ``neck.level0`` to ``2``, ``prompt.sparse``, ``decoder.logits``, ... In a video a name begins
with its place: ``frame3.neck.level2``, ``frame3.object1.pointer``. Shapes and layouts are those of
the ground truth as well; the backends of other packages convert theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from .names import OF_A_FRAME, kind

Activations = dict[str, Tensor]
# What a watcher returns says whether the value is no longer needed; None means that it is.
Watch = Callable[[str, Tensor], bool | None]

_WATCH: ContextVar[Watch | None] = ContextVar("_WATCH", default=None)


class SeenEnough(Exception):  # noqa: N818  # not an error: the rest need not be computed
    """Raised by a function that watches activations, to end the computation."""


@contextmanager
def watched(by: Watch) -> Iterator[None]:
    """A context in which a function sees each activation as soon as it is recorded.

    Args:
        by: Called with the name and the recorded value. It may raise :class:`SeenEnough`. If it
            returns True, the recorder keeps the name alone.

    Yields:
        Nothing.
    """
    token = _WATCH.set(by)
    try:
        yield
    finally:
        _WATCH.reset(token)


class Recorder(dict[str, Tensor]):
    """Activations in the order in which they were computed.

    Tensors are copied to the main memory, in float32 or wider, because a model may overwrite its
    own. A name that is recorded again gets a number: ``masks (2)``. In a video, the features of the
    trunk and the neck are kept for the first frame only: they do not depend on what happened
    before, so one frame is enough to compare them.

    Args:
        agreed: Activations of the run that this one will be compared with: see :meth:`remember`.
    """

    def __init__(self, agreed: Activations | None = None) -> None:
        super().__init__()
        self._agreed = agreed or {}
        self._prefix = ""
        self._frame: str | None = None

    def __setitem__(self, name: str, tensor: Tensor) -> None:
        watch = _WATCH.get()
        super().__setitem__(name, tensor)
        if watch is not None and watch(name, tensor):
            super().__setitem__(name, tensor.new_empty(0))

    @contextmanager
    def within(self, place: str) -> Iterator[None]:
        """A context in which recorded names begin with a place and a dot.

        Args:
            place: Such as ``frame3.object1``. Places do not nest.

        Yields:
            Nothing.
        """
        before, self._prefix = self._prefix, f"{place}."
        try:
            yield
        finally:
            self._prefix = before

    def add(self, name: str, tensor: Tensor) -> None:
        """Record an activation under its name within the current place.

        Args:
            name: The kind of the activation, such as ``pointer``. Features of a frame get the place
                of the frame, without the object.
            tensor: Its value, which is copied.
        """
        prefix = self._prefix
        if name.startswith(OF_A_FRAME):
            prefix = prefix.partition(".object")[0].rstrip(".")
            prefix = f"{prefix}." if prefix else ""
        self._keep(f"{prefix}{name}", tensor)

    def remember(self, memory: Tensor) -> Tensor:
        """Record a memory as it is kept in the memory bank, and return the memory to keep.

        All packages keep memories in bfloat16. Two models that compute the same in float32 may
        round a few values to neighbouring bfloat16 numbers. From that frame on, such a difference
        would hide every other one. So wherever the two values are neighbours, both sides continue
        with the agreed value.

        Args:
            memory: 1 x K x H x W, as the model would keep it.

        Returns:
            The memory to keep instead: the same shape and type.
        """
        name = self._unused(f"{self._prefix}memory")
        if name in self._agreed and memory.dtype == torch.bfloat16:
            memory = settled(memory, self._agreed[name].to(memory))
        self._keep(name, memory)
        return memory

    def remember_signs(self, mask: Tensor) -> Tensor:
        """Record a mask of which a memory keeps the signs only, and return the mask to keep.

        Where one model finds a logit of 1e-6, another that computes the same may find -1e-6. To the
        memory that is the difference of inside and outside. So wherever rounding may have turned a
        sign, both sides continue with the agreed logit. A difference that is more than rounding
        shows in this activation, which is recorded as the model computed it.

        Args:
            mask: Logits, 1 x 1 x S x S.

        Returns:
            The mask to keep instead: the same shape and type.
        """
        name = self._unused(f"{self._prefix}memory_encoder.mask")
        self._keep(name, mask)
        agreed = self._agreed.get(name)
        return mask if agreed is None else with_signs(mask, agreed.to(mask))

    # The ground truth writes its activations with dict.update.
    def update(  # type: ignore[override]
        self, activations: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]]
    ) -> None:
        """Record activations whose names include their places.

        Args:
            activations: Activations by name, or pairs of name and activation.
        """
        for name, tensor in (
            activations.items() if isinstance(activations, Mapping) else activations
        ):
            self._keep(name, tensor)

    def _keep(self, name: str, tensor: Tensor) -> None:
        if kind(name).startswith(OF_A_FRAME):
            place = name.partition(".")[0]
            self._frame = self._frame or place
            if name in self or (place.startswith("frame") and place != self._frame):
                return
        wide = tensor.dtype if tensor.dtype == torch.float64 else torch.float32
        ordered = torch.contiguous_format  # all are compared in pieces, in the same order
        copied = tensor.detach().to("cpu", wide, copy=True, memory_format=ordered)
        self[self._unused(name)] = copied

    def _unused(self, name: str) -> str:
        numbered, count = name, 1
        while numbered in self:
            count += 1
            numbered = f"{name} ({count})"
        return numbered


def settled(own: Tensor, agreed: Tensor) -> Tensor:
    """A memory with the agreed value wherever the two are neighbours in bfloat16.

    Args:
        own: A memory in bfloat16.
        agreed: The memory of the other run in bfloat16.

    Returns:
        ``own``, but ``agreed`` where the two are equal or neighbours; ``own`` for unequal shapes.
    """
    if own.shape != agreed.shape:
        return own
    apart = (_rank_of_bits(own) - _rank_of_bits(agreed)).abs()
    return torch.where(apart <= 1, agreed, own)


def with_signs(own: Tensor, agreed: Tensor) -> Tensor:
    """A mask with the agreed logit wherever the two differ in sign, but hardly otherwise.

    Args:
        own: Logits of a mask.
        agreed: Those of the other run.

    Returns:
        ``own``, but ``agreed`` where one of the two is above 0 and the two are nearer than the
        largest logit is to the next in bfloat16; ``own`` for unequal shapes.
    """
    if own.shape != agreed.shape:
        return own
    step = torch.finfo(torch.bfloat16).eps * agreed.abs().amax()
    turned = ((own > 0) != (agreed > 0)) & ((own - agreed).abs() <= step)
    return torch.where(turned, agreed, own)


def _rank_of_bits(values: Tensor) -> Tensor:
    """Integers in the order of the bfloat16 values: neighbours differ by 1, both zeros are 0."""
    bits = values.contiguous().view(torch.int16).int()
    return torch.where(bits < 0, -(bits & 0x7FFF), bits)
