"""Read tensors from the pickles of PyTorch; its zip and legacy formats write them the same way.

Follows ``torch/_utils.py``, whose functions rebuild a tensor from a storage, a shape and strides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import Sam21ConvertError, UnreachableError, UnreadableError
from .pickle.load import Args, Known
from .source import Placeholder
from .tensor import DTYPES, OF_TORCH, TensorRef, TensorSpec

_MAX_RANK = 64


@contextmanager
def errors_about(place: str) -> Iterator[None]:
    """Put a place in front of the message of every error raised in the block.

    Args:
        place: The file, and within it for example the tensor.

    Yields:
        Nothing.

    Raises:
        UnreadableError: In place of an :class:`OSError`.

    An :class:`UnreachableError` is passed on unchanged, as it names its file already.
    """
    try:
        yield
    except UnreachableError:
        raise
    except Sam21ConvertError as error:
        raise type(error)(f"{place}: {error.message}", hint=error.hint) from None
    except OSError as error:
        raise UnreadableError(f"{place}: {error.strerror or error}") from None


@dataclass(frozen=True, slots=True, repr=False)
class StorageType(Placeholder):
    """A storage class of torch, for example ``torch.FloatStorage``.

    Attributes:
        name: Its full name.
        dtype: Element type, a key of ``DTYPES``; None if safetensors has no name for it.
        itemsize: Bytes per element.
    """

    dtype: str | None
    itemsize: int


@dataclass(frozen=True, slots=True, repr=False)
class Storage(Placeholder):
    """A range of a file that holds the elements of one or more tensors.

    A pickle can also refer to a storage without a tensor; it then counts as a placeholder.

    Attributes:
        name: Full name of the storage class.
        key: Name of the storage in its file.
        kind: Its storage class.
        path: The file.
        offset: First byte in the file.
        nbytes: Number of bytes.
    """

    key: str
    kind: StorageType
    path: Path
    offset: int
    nbytes: int

    def part(self, kind: StorageType, start: Any, length: Any) -> Storage:
        """Take a range of elements, as the views of the legacy format do.

        Args:
            kind: Storage class of the result.
            start: First element, unchecked from the pickle.
            length: Number of elements, unchecked from the pickle.

        Returns:
            The part, as a storage of the same key.

        Raises:
            UnreadableError: If the range is not valid or not within this storage.
        """
        offset, nbytes = _natural(start) * kind.itemsize, _natural(length) * kind.itemsize
        if offset + nbytes > self.nbytes:
            raise UnreadableError(f"storage {self.key!r}: a view goes beyond its end")
        return Storage(kind.name, self.key, kind, self.path, self.offset + offset, nbytes)


class Storages:
    """The storages of a file by key.

    Args:
        path: The file.
        locate: Returns the offset of a storage in the file, given its key, the number of its
            elements and their size in bytes.
    """

    def __init__(self, path: Path, locate: Callable[[str, int, int], int]) -> None:
        self.path = path
        self.locate = locate
        self.found: dict[str, Storage] = {}

    def find(self, kind: StorageType, key: str, numel: Any) -> Storage:
        """Find the storage with a key. Several tensors may refer to it.

        Args:
            kind: Storage class, according to the pickle.
            key: Name of the storage in its file.
            numel: Number of elements, unchecked from the pickle.

        Returns:
            The storage.

        Raises:
            UnreadableError: If the key or the number is not valid, the storage cannot be located,
                or another tensor describes it differently.
        """
        if len(key) > 100:
            raise UnreadableError("the key of a storage has more than 100 characters")
        nbytes = _natural(numel) * kind.itemsize
        storage = self.found.get(key)
        if storage is None:
            try:
                offset = self.locate(key, numel, kind.itemsize)
            except Sam21ConvertError as error:
                raise type(error)(f"storage {key!r}: {error.message}", hint=error.hint) from None
            storage = Storage(kind.name, key, kind, self.path, offset, nbytes)
        elif storage.nbytes != nbytes or (nbytes and storage.kind.dtype != kind.dtype):
            raise UnreadableError(f"storage {key!r}: it is described in two different ways")
        elif storage.kind is not kind:
            storage = replace(storage, name=kind.name, kind=kind)
        self.found[key] = storage
        return storage


def _natural(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise UnreadableError("a size, stride or offset is not a number from 0 to 2**63 - 1")
    return value


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, metadata: Args = ()) -> Any:
    """Make a tensor after checking that all of its elements are within its storage."""
    if not isinstance(storage, Storage) and isinstance(storage, Placeholder):
        return storage
    if not isinstance(storage, Storage) or type(shape) is not tuple or type(stride) is not tuple:
        raise UnreadableError("a tensor is not built from a storage and two tuples")
    kind = storage.kind
    if kind.dtype is None:
        return Placeholder(kind.name)
    if any(metadata):
        return Placeholder("torch._utils.set_tensor_metadata")  # lazily conjugated or negated
    if len(shape) != len(stride) or len(shape) > _MAX_RANK:
        raise UnreadableError("the shape and strides of a tensor do not fit each other")
    last, numel, contiguous = _natural(offset), 1, True
    for n, step in zip(reversed(shape), reversed(stride), strict=True):
        last += (_natural(n) - 1) * _natural(step)
        contiguous = contiguous and (n == 1 or step == numel)
        numel *= n
    spec = TensorSpec(kind.dtype, shape)
    if numel == 0:
        return TensorRef(spec, storage.path, storage.offset)
    if numel * kind.itemsize >= 2**63:
        raise UnreadableError("a tensor has more than 2**63 - 1 bytes")
    if (last + 1) * kind.itemsize > storage.nbytes:
        raise UnreadableError(f"storage {storage.key!r}: a tensor goes beyond its end")
    at = storage.offset + offset * kind.itemsize
    return TensorRef(spec, storage.path, at, None if contiguous else stride)


def _rebuild(args: Args) -> Any:
    match args:
        case (storage, offset, shape, stride, *rest) if len(rest) in (0, 2, 3):
            return _tensor(storage, offset, shape, stride, tuple(rest[2:]))
    raise UnreadableError("a tensor is built with unexpected arguments")


def _rebuild_v3(args: Args) -> Any:
    """A tensor of an element type without a storage class; its storage consists of bytes."""
    match args:
        case (Storage() as storage, offset, shape, stride, _, _, str(name), *metadata):
            kind = _ELEMENTS.get(name, StorageType(name, None, 1))
            return _tensor(replace(storage, kind=kind), offset, shape, stride, tuple(metadata))
        case (_, _, _, _, _, _, Placeholder() as unknown, *_):
            return unknown
    raise UnreadableError("a tensor is built with unexpected arguments")


def _rebuild_parameter(args: Args) -> Any:
    match args:
        case (TensorRef() | Placeholder() as tensor, _, _, *state) if len(state) <= 1:
            return tensor
    raise UnreadableError("a parameter is built with unexpected arguments")


def _rebuild_from_type(args: Args) -> Any:
    match args:
        case (Known(name=name) as function, Placeholder() as kind, tuple(inner), _):
            if kind.name in _TENSOR_CLASSES and name in _REBUILD:
                return function.build(inner)
            return Placeholder(kind.name)
        case (Placeholder() as function, Placeholder() as kind, tuple(inner), state):
            if function.name == _WRAPPED:
                return _of_class(kind, inner, state)
            return Placeholder(function.name)
    raise UnreadableError("a tensor is built with unexpected arguments")


def _of_class(kind: Placeholder, args: Args, state: Any) -> Any:
    """A tensor of a class of its own; a DTensor of which this process has all is a plain one."""
    if isinstance(state, tuple) and len(state) == 2:
        state = state[1]  # of a class with slots
    if kind.name in _DTENSORS and isinstance(state, dict) and len(args) > 2:
        local = state.get("_local_tensor")
        if isinstance(local, TensorRef) and local.spec.shape == args[2]:
            return local
    return Placeholder(kind.name)


def _size(args: Args) -> Any:
    match args:
        case (tuple(shape),):
            return shape
    return Placeholder("torch.Size")


def _device(args: Args) -> Any:
    match args:
        case (str(kind),):
            return kind
        case (str(kind), int(index)) if len(kind) < 20 and 0 <= index < 2**16:
            return f"{kind}:{index}"
    return Placeholder("torch.device")


# Element types of torch, each with its storage class if it has one.
_STORAGE_CLASSES: Mapping[str, str | None] = {
    "bool": "Bool",
    "uint8": "Byte",
    "uint16": None,
    "uint32": None,
    "uint64": None,
    "int8": "Char",
    "int16": "Short",
    "int32": "Int",
    "int64": "Long",
    "float8_e4m3fn": None,
    "float8_e4m3fnuz": None,
    "float8_e5m2": None,
    "float8_e5m2fnuz": None,
    "float8_e8m0fnu": None,
    "float4_e2m1fn_x2": None,
    "float16": "Half",
    "bfloat16": "BFloat16",
    "float32": "Float",
    "float64": "Double",
    "bcomplex32": None,
    "complex32": None,
    "complex64": "ComplexFloat",
    "complex128": "ComplexDouble",
    "qint8": "QInt8",
    "qint32": "QInt32",
    "quint8": "QUInt8",
    "quint4x2": "QUInt4x2",
    "quint2x4": "QUInt2x4",
}
# Bytes per element of types that safetensors has no name for, where it is not 1.
_OTHER_SIZES = {"ComplexDouble": 16, "QInt32": 4}
_ELEMENTS = {
    f"torch.{name}": StorageType(f"torch.{name}", OF_TORCH[name], DTYPES[OF_TORCH[name]])
    for name in _STORAGE_CLASSES
    if name in OF_TORCH
}
# Tensors that are not a plain array of numbers, by the function or class that makes them.
TENSOR_KINDS: Mapping[str, str] = {
    "torch._utils._rebuild_qtensor": "a quantised tensor",
    "torch._utils._rebuild_sparse_tensor": "a sparse tensor",
    "torch._utils._rebuild_meta_tensor_no_storage": (
        "a tensor on the meta device, which has no values"
    ),
    "torch._utils._rebuild_nested_tensor": "a nested tensor",
    "torch._utils._rebuild_device_tensor_from_numpy": (
        "a tensor of another device, kept as a NumPy array"
    ),
    "torch._utils._rebuild_wrapper_subclass": "a tensor of a class of its own",
    "torch._utils.set_tensor_metadata": "a tensor that is conjugated or negated when it is used",
    "torch.ComplexDoubleStorage": "a tensor of complex numbers",
}
STORAGE_TYPES = {
    name: StorageType(name, dtype, DTYPES[dtype] if dtype else _OTHER_SIZES.get(storage, 1))
    for storage, dtype in [
        *((storage, OF_TORCH.get(name)) for name, storage in _STORAGE_CLASSES.items()),
        ("Untyped", "U8"),
    ]
    for package in ("torch", "torch.cuda", "torch.storage")
    for name in (f"{package}.{storage}Storage",)
    if storage is not None
}
_WRAPPED = "torch._utils._rebuild_wrapper_subclass"
_DTENSORS = (
    "torch.distributed.tensor.DTensor",
    "torch.distributed._tensor.api.DTensor",
    "torch.distributed._tensor.DTensor",
)
_TENSOR_CLASSES = ("torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer")
_REBUILD = {
    name: Known(name, build)
    for name, build in {
        "torch._utils._rebuild_tensor": _rebuild,
        "torch._utils._rebuild_tensor_v2": _rebuild,
        "torch._utils._rebuild_tensor_v3": _rebuild_v3,
        "torch._utils._rebuild_parameter": _rebuild_parameter,
        "torch._utils._rebuild_parameter_with_state": _rebuild_parameter,
    }.items()
}
# Globals of a checkpoint: storages, tensors, and a few that are read as plain values.
TORCH: Mapping[str, Any] = {
    **{f"torch.{name}": f"torch.{name}" for name in _STORAGE_CLASSES},
    **STORAGE_TYPES,
    **{name: Placeholder(name) for name in _TENSOR_CLASSES},
    **_REBUILD,
    "torch._tensor._rebuild_from_type_v2": Known(
        "torch._tensor._rebuild_from_type_v2", _rebuild_from_type
    ),
    "torch.Size": Known("torch.Size", _size),
    "torch.device": Known("torch.device", _device),
}
