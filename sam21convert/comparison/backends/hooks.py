"""Listen to a model of another package: callbacks that are gone when the context ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from operator import attrgetter
from typing import Any

from torch import Tensor

from .. import packages
from .base import CannotRun

Callback = Callable[[dict[str, Any], Any], None]  # gets keyword arguments and the result


class Hooks(ExitStack):
    """What is attached to ``model``, of a ``package``, while the context lasts.

    Parts of the model are given by dotted paths. Where a version of the package has no such part,
    :class:`CannotRun` is raised.
    """

    def __init__(self, model: Any, package: str) -> None:
        super().__init__()
        self.model = model
        self.package = package

    def part(self, path: str) -> Any:
        """What the model has there."""
        try:
            return attrgetter(path)(self.model)
        except AttributeError:
            package = packages.titled(self.package)
            raise CannotRun(f"{package} has no {path} to listen to") from None

    def after(self, path: str, passed: Callback) -> None:
        """Let ``passed`` know of every call of a module, with its keyword arguments and result."""
        hook = self.part(path).register_forward_hook(
            lambda _module, _args, given, result: passed(given, result), with_kwargs=True
        )
        self.callback(hook.remove)

    def around(self, path: str, wrapper: Callable[..., Any]) -> None:
        """Call ``wrapper`` in the place of a method, which it gets before the arguments."""
        owner, _, name = path.rpartition(".")
        method = self.part(path)
        instance = self.part(owner) if owner else self.model
        self.enter_context(replaced(instance, **{name: partial(wrapper, method)}))


@contextmanager
def replaced(target: object, **values: Any) -> Iterator[None]:
    """Let one instance, or a module, have other methods or attributes for a while."""
    own = vars(target)
    before = {name: own[name] for name in values if name in own}
    own.update(values)
    try:
        yield
    finally:
        for name in values:
            del own[name]
        own.update(before)


def as_image(sequence: Tensor) -> Tensor:
    """The places of a square, ``B x H*W x C``, as ``B x C x H x W``."""
    side = round(sequence.shape[1] ** 0.5)
    return sequence.transpose(1, 2).reshape(*sequence.shape[::2], side, side)  # B, C, H, W
