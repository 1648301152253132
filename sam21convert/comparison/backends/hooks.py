"""Record what a model of another package computes. All hooks are removed when the context ends."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from operator import attrgetter
from typing import Any

from torch import Tensor

from ... import packages
from ...prediction.backends.replaced import replaced
from .base import CannotRun

Callback = Callable[[dict[str, Any], Any], None]  # called with keyword arguments and result


class Hooks(ExitStack):
    """Hooks on a model, for as long as the context lasts.

    Submodules and methods are given by dotted paths. If the installed version of the package does
    not have one, :class:`CannotRun` is raised.

    Args:
        model: The model.
        package: Name of its package, for messages.
    """

    def __init__(self, model: Any, package: str) -> None:
        super().__init__()
        self.model = model
        self.package = package

    def part(self, path: str) -> Any:
        """A submodule or method of the model.

        Args:
            path: Its dotted path.

        Returns:
            The submodule or method.

        Raises:
            CannotRun: When the model has nothing there.
        """
        try:
            return attrgetter(path)(self.model)
        except AttributeError:
            package = packages.titled(self.package)
            raise CannotRun(f"{package} has no {path}, which recording needs") from None

    def after(self, path: str, callback: Callback) -> None:
        """Call a function after every call of a module.

        Args:
            path: Dotted path of the module.
            callback: Called with the keyword arguments of the call and its result.

        Raises:
            CannotRun: When the model has no such module.
        """
        hook = self.part(path).register_forward_hook(
            lambda _module, _args, kwargs, result: callback(kwargs, result), with_kwargs=True
        )
        self.callback(hook.remove)

    def around(self, path: str, wrapper: Callable[..., Any]) -> None:
        """Call a wrapper instead of a method.

        Args:
            path: Dotted path of the method.
            wrapper: Called with the original method and then the arguments of the call.

        Raises:
            CannotRun: When the model has no such method.
        """
        owner, _, name = path.rpartition(".")
        method = self.part(path)
        instance = self.part(owner) if owner else self.model
        self.enter_context(replaced(instance, **{name: partial(wrapper, method)}))

    def once(self, path: str, remembered: Callable[..., Any]) -> None:
        """Let a trunk or a neck compute nothing twice.

        Args:
            path: Dotted path of the module.
            remembered: A method of :class:`~.encodings.Encodings`: ``of`` or ``levels``.

        Raises:
            CannotRun: When the model has no such module.
        """
        self.around(f"{path}.forward", partial(remembered, self.part(path)))


def as_image(sequence: Tensor) -> Tensor:
    """A sequence of tokens as an image.

    Args:
        sequence: The tokens of a square image, row by row: B x H*W x C.

    Returns:
        B x C x H x W.
    """
    side = round(sequence.shape[1] ** 0.5)
    return sequence.transpose(1, 2).reshape(*sequence.shape[::2], side, side)  # B, C, H, W
