"""A device that this machine does not have, so that the first run on a GPU is not the first test.

Its tensors say that they are on a device of their own. They hold a tensor of the CPU and compute
what it computes, to the last bit. But as on a GPU they cannot be used together with tensors of the
CPU, unless those are single numbers, and NumPy cannot read them. So a tensor that is made on the
wrong device, or a result that is not brought back, raises.

torch has a place for backends that are written in Python; it is marked as experimental there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

ELSEWHERE = "elsewhere"
_BETWEEN_DEVICES = ("copy_", "_to_copy")
_FROM_NUMBERS = (torch.tensor, torch.as_tensor, torch.asarray)
_present = False


class WrongDeviceError(RuntimeError):
    """What torch's own errors are for, on a real device."""


class Elsewhere(torch.Tensor):
    """A tensor on the device. Operations on it are those of the CPU, after a check."""

    held: torch.Tensor
    __torch_function__: Any = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, real: torch.Tensor) -> Elsewhere:
        tensor: Elsewhere = torch.Tensor._make_wrapper_subclass(
            cls,
            real.shape,
            strides=real.stride(),
            storage_offset=real.storage_offset(),
            dtype=real.dtype,
            device=torch.device(ELSEWHERE, 0),
        )
        tensor.held = real
        return tensor

    def __repr__(self) -> str:  # type: ignore[override]
        return f"{ELSEWHERE}({self.held})"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return _computed(func, args, kwargs or {}, doubles=True)


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Those that make tensors on the device have none there yet, and so pass by here."""

    def __init__(self, *, doubles: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.doubles = doubles

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # torch's compiler, which nothing here uses, takes seconds to import

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return _computed(func, args, kwargs or {}, doubles=self.doubles)


class _FromNumbers(TorchFunctionMode):
    """Tensors made of Python's numbers and of arrays never pass by the operations."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if func not in _FROM_NUMBERS or given.get("device") is None:
            return func(*args, **given)
        device = given.pop("device")
        return func(*args, **given).to(device)


def _computed(func: Any, args: Any, kwargs: dict[str, Any], *, doubles: bool) -> Any:
    """The result of an operation, on the device that torch would have it on."""
    name = func.overloadpacket.__name__
    there: dict[int, Elsewhere] = {}
    here = []

    def bring(one: Any) -> Any:
        if isinstance(one, Elsewhere):
            there[id(one.held)] = one
            return one.held
        if isinstance(one, torch.Tensor) and one.ndim:
            here.append(one)
        is_it = isinstance(one, torch.device) and one.type == ELSEWHERE
        return torch.device("cpu") if is_it else one

    def place(one: Any) -> Any:
        if not isinstance(one, torch.Tensor):
            return one
        if one.dtype == torch.float64 and not doubles:
            raise WrongDeviceError(f"{name}: there is no float64, as on MPS")
        same = there.get(id(one))  # an operation in place returns what it was given
        assert same is None or same.shape == one.shape
        return Elsewhere(one) if same is None else same

    brought = [_each(one, bring) for one in args]
    named = {key: _each(one, bring) for key, one in kwargs.items()}
    if there and here and name not in _BETWEEN_DEVICES:
        raise WrongDeviceError(f"{name}: one tensor is on the CPU, another is not")
    device = kwargs.get("device")
    stays = bool(there) if device is None else torch.device(device).type == ELSEWHERE
    with torch.inference_mode(False), torch.no_grad():  # a wrapper has no version to count
        result = func(*brought, **named)
        return _each(result, place) if stays else result


def _each(value: Any, change: Callable[[Any], Any]) -> Any:
    """Change a value, or each in a list. torch's own function for it takes most of the time."""
    if isinstance(value, (list, tuple)):
        return type(value)([_each(one, change) for one in value])
    return change(value)


@cache
def _register() -> None:
    """Tell torch of the device; it is found only within :func:`elsewhere`."""
    if torch.accelerator.is_available():
        pytest.skip("torch would no longer find this machine's own GPU: see test_gpu.py")
    try:
        from torch.utils.backend_registration import (
            _DummyBackendModule,
            _DummyPrivateUse1Hook,
            _setup_privateuseone_for_python_backend,
        )
    except ImportError:
        pytest.skip(f"torch {torch.__version__} has no place for a backend written in Python")

    class Backend(_DummyBackendModule):
        def is_available(self) -> bool:
            return _present

    class Hook(_DummyPrivateUse1Hook):
        def is_available(self) -> bool:
            return _present

    _setup_privateuseone_for_python_backend(ELSEWHERE, Backend(), Hook())


@contextmanager
def elsewhere(*, doubles: bool = True) -> Iterator[str]:
    """Let the device be there, as this machine's only GPU.

    Args:
        doubles: Whether it has float64; MPS has none.

    Yields:
        Its name.
    """
    global _present  # torch asks an object that it keeps
    _register()
    overwrite = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)  # as for other wrappers
    _present = True
    try:
        with _FromNumbers(), _Operations(doubles=doubles):
            yield ELSEWHERE
    finally:
        _present = False
        torch.__future__.set_overwrite_module_params_on_conversion(overwrite)
