"""What can be plugged into a tracker: an observer of its computation."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Observer(Protocol):
    """Receives what a :class:`~sam21convert.model.tracker.Tracker` computes on the way.

    A *place* says where a tensor belongs: ``frame3`` for what depends on the frame only,
    ``frame3.object1`` for what also depends on the object with the id 1. Tensors are the model's
    own, so an observer that keeps one and does not want to see later changes copies it.
    """

    def activation(self, place: str, name: str, tensor: Tensor) -> None:
        """Called with every activation, such as ``pointer`` or ``memory_attention.output``.

        Args:
            place: Frame and object that the activation belongs to.
            name: The name that the methods of :class:`~sam21convert.model.SAM2` give it.
            tensor: The activation.
        """

    def mask(self, place: str, mask: Tensor) -> Tensor:
        """Called with every mask whose signs become a memory, before they do.

        Args:
            place: Frame and object that the mask belongs to.
            mask: Logits, ``1 x 1 x S x S``.

        Returns:
            The mask to make the memory from: normally ``mask``. Another one of the same shape and
            type lets two implementations continue from the same signs.
        """

    def memory(self, place: str, memory: Tensor) -> Tensor:
        """Called with every memory before it is stored.

        Args:
            place: Frame and object that the memory belongs to.
            memory: ``1 x K x H x W`` in bfloat16, on the storage device of the session.

        Returns:
            The memory to store: normally ``memory``. Another one of the same shape and type lets
            two implementations continue from the same memories.
        """
