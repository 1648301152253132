"""Build a model whose tensors have no values yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch

    Model = TypeVar("Model", bound=torch.nn.Module)


def skeleton(make: Callable[[], Model]) -> Model:
    """Build a model on torch's device without memory, and draw no initial values.

    Args:
        make: Builds the model. What it puts on another device gets its values, unless they are
            drawn.

    Returns:
        The model, whose parameters and buffers are to be assigned.
    """
    with undrawn():
        return make()


@contextmanager
def undrawn() -> Iterator[None]:
    """A context in which models are built on torch's device without memory, and nothing is drawn.

    On that device torch draws initial values in Python, and imports its compiler for it.

    Yields:
        Nothing.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    class Undrawn(TorchFunctionMode):
        """Nothing is drawn: functions of ``torch.nn.init`` return their tensor as it is."""

        def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            given = kwargs or {}
            if getattr(func, "__module__", None) == "torch.nn.init":
                return given["tensor"] if "tensor" in given else args[0]
            return (torch.empty if func is torch.randn else func)(*args, **given)

    with torch.device("meta"), Undrawn():
        yield
