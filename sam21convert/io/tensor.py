"""Tensors as facts: what a file says of them, where their bytes lie, and how runs of names print.

Nothing here holds tensor data. A :class:`TensorRef` is a promise that the bytes can be read later,
:class:`Constant` stands in no file at all, and :class:`Merged` is computed of several.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Literal, TypeAlias

from ..errors import RefusedError

# Element types: the name of the safetensors format, bytes, and the name of torch, in the order in
# which the safetensors writer sorts tensors (the last comes first in a file).
_ELEMENT_TYPES = (
    ("BOOL", 1, "bool"),
    ("U8", 1, "uint8"),
    ("I8", 1, "int8"),
    ("F8_E5M2", 1, "float8_e5m2"),
    ("F8_E4M3", 1, "float8_e4m3fn"),
    ("I16", 2, "int16"),
    ("U16", 2, "uint16"),
    ("F16", 2, "float16"),
    ("BF16", 2, "bfloat16"),
    ("I32", 4, "int32"),
    ("U32", 4, "uint32"),
    ("F32", 4, "float32"),
    ("C64", 8, "complex64"),
    ("F64", 8, "float64"),
    ("I64", 8, "int64"),
    ("U64", 8, "uint64"),
)
DTYPES: Mapping[str, int] = {name: nbytes for name, nbytes, _ in _ELEMENT_TYPES}
TORCH_NAMES: Mapping[str, str] = {name: torch_name for name, _, torch_name in _ELEMENT_TYPES}
OF_TORCH: Mapping[str, str] = {torch_name: name for name, _, torch_name in _ELEMENT_TYPES}
DType: TypeAlias = Literal["float32", "float16", "bfloat16"]  # what a model can be written as
WEIGHT_DTYPES = frozenset({"F16", "BF16", "F32", "F64"})


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Element type (a key of ``DTYPES``) and shape of a tensor."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def numel(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Size of the data when it is contiguous."""
        return self.numel * DTYPES[self.dtype]

    def permuted(self, axes: tuple[int, ...]) -> TensorSpec:
        """With its axes in another order; none given is the order that they have."""
        return TensorSpec(self.dtype, tuple(self.shape[axis] for axis in axes) or self.shape)

    def __str__(self) -> str:
        return f"{self.dtype} [{', '.join(map(str, self.shape))}]"


Inventory: TypeAlias = Mapping[str, TensorSpec]


@dataclass(frozen=True, slots=True)
class TensorRef:
    """A tensor in a file: ``path[offset]`` is its first element.

    ``stride`` (in elements) is None when the elements lie contiguously in row-major order.
    """

    spec: TensorSpec
    path: Path
    offset: int
    stride: tuple[int, ...] | None = None

    @property
    def refs(self) -> tuple[TensorRef, ...]:
        """What is read for it."""
        return (self,)

    @property
    def extent(self) -> int:
        """Bytes from the first element to the end of the last one in the file."""
        if self.stride is None:
            return self.spec.nbytes
        if self.spec.numel == 0:
            return 0
        steps = zip(self.spec.shape, self.stride, strict=True)
        return (sum((n - 1) * step for n, step in steps) + 1) * DTYPES[self.spec.dtype]

    def rows(self, start: int, count: int) -> TensorRef:
        """The part ``[start : start + count]`` along the first axis."""
        first, *rest = self.spec.shape
        if not 0 <= start <= start + count <= first:
            raise IndexError(f"rows {start} to {start + count} of {self.spec}")
        step = prod(rest) if self.stride is None else self.stride[0]
        return TensorRef(
            TensorSpec(self.spec.dtype, (count, *rest)),
            self.path,
            self.offset + start * step * DTYPES[self.spec.dtype],
            self.stride,
        )

    def permuted(self, axes: tuple[int, ...]) -> TensorRef:
        """The same elements with the axes in another order."""
        shape = self.spec.shape
        stride = self.stride or [prod(shape[axis + 1 :]) for axis in range(len(shape))]
        steps = tuple(stride[axis] for axis in axes)
        return TensorRef(self.spec.permuted(axes), self.path, self.offset, steps)


@dataclass(frozen=True, slots=True)
class Joined(TensorRef):
    """A tensor of which ``pieces``, one after the other along the first axis, lie apart."""

    pieces: tuple[TensorRef, ...] = ()

    @staticmethod
    def of(pieces: Sequence[TensorRef]) -> TensorRef:
        """The tensor that these make, which have equal types and, but for the rows, shapes."""
        first = pieces[0]
        if len(pieces) == 1:
            return first
        rows = sum(piece.spec.shape[0] for piece in pieces)
        spec = TensorSpec(first.spec.dtype, (rows, *first.spec.shape[1:]))
        return Joined(spec, first.path, first.offset, None, tuple(pieces))

    def rows(self, start: int, count: int) -> TensorRef:
        """The part ``[start : start + count]`` along the first axis."""
        if not 0 <= start <= start + count <= self.spec.shape[0]:
            raise IndexError(f"rows {start} to {start + count} of {self.spec}")
        found, begin = [], 0
        for piece in self.pieces:
            end = begin + piece.spec.shape[0]
            low, high = max(start, begin), min(start + count, end)
            if low < high:
                found.append(piece.rows(low - begin, high - low))
            begin = end
        return Joined.of(found or [self.pieces[0].rows(0, 0)])

    def permuted(self, axes: tuple[int, ...]) -> TensorRef:
        """The same elements with the axes in another order; the first must stay where it is."""
        if axes[0] != 0:
            raise RefusedError(
                f"{self.path}: a tensor that lies there in {len(self.pieces)} pieces would have to "
                "be turned around",
                hint="convert it to a .pt or .safetensors file first, and that to the other form",
            )
        return Joined.of([piece.permuted(axes) for piece in self.pieces])


@dataclass(frozen=True, slots=True)
class Constant:
    """A tensor that stands in no file: each of its elements is ``value``."""

    spec: TensorSpec
    value: float = 0.0

    @property
    def refs(self) -> tuple[TensorRef, ...]:
        """What is read for it."""
        return ()


@dataclass(frozen=True, slots=True)
class Factors:
    """A change of low rank to a tensor W, one row for each element of its first axis.

    The change is ``scale * left @ right``: ``left`` is [rows, rank] and ``right`` [rank, *rest],
    where W is [rows, *rest]. With ``magnitude``, [rows], each row of the sum is then brought to
    that length (DoRA, arXiv:2402.09353, equation 5).
    """

    left: TensorRef
    right: TensorRef
    scale: float
    magnitude: TensorRef | None = None


@dataclass(frozen=True, slots=True)
class Merged:
    """A tensor that is computed in float32: ``base``, changed by ``factors``, if there are any.

    ``spec`` is what it is to be, with the axes of ``base`` in the order ``axes``.
    """

    spec: TensorSpec
    base: TensorRef
    factors: Factors | None = None
    axes: tuple[int, ...] = ()

    @property
    def refs(self) -> tuple[TensorRef, ...]:
        """What is read for it."""
        if self.factors is None:
            return (self.base,)
        change = self.factors
        more = () if change.magnitude is None else (change.magnitude,)
        return (self.base, change.left, change.right, *more)

    def permuted(self, axes: tuple[int, ...]) -> Merged:
        """The same elements with the axes in another order; they are in that of ``base`` now."""
        assert not self.axes
        return replace(self, spec=self.spec.permuted(axes), axes=axes)


Part: TypeAlias = TensorRef | Constant | Merged


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor to be written: parts that follow each other along the first axis.

    One that is :class:`Joined` counts as its pieces.
    """

    spec: TensorSpec
    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        if any(isinstance(part, Joined) for part in self.parts):
            nested = (p.pieces if isinstance(p, Joined) else (p,) for p in self.parts)
            object.__setattr__(self, "parts", tuple(piece for some in nested for piece in some))
