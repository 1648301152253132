"""Descriptions of tensors: element type, shape, and where their bytes are stored.

Nothing here holds tensor data. A :class:`TensorRef` says where in a file the bytes are, a
:class:`Constant` is in no file at all, and a :class:`Merged` is computed from several tensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Literal, TypeAlias

from ..errors import RefusedError

# Element types: name in the safetensors format, bytes, name in torch. The order is that of the
# safetensors library, whose writer puts tensors of the last type first in the file.
_ELEMENT_TYPES = (
    ("BOOL", 1, "bool"),
    ("U8", 1, "uint8"),
    ("I8", 1, "int8"),
    ("F8_E5M2", 1, "float8_e5m2"),
    ("F8_E4M3", 1, "float8_e4m3fn"),
    ("F8_E8M0", 1, "float8_e8m0fnu"),
    ("F8_E4M3FNUZ", 1, "float8_e4m3fnuz"),
    ("F8_E5M2FNUZ", 1, "float8_e5m2fnuz"),
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
DType: TypeAlias = Literal["float32", "float16", "bfloat16"]  # types that convert can write
Start: TypeAlias = Literal["pissa", "olora"]  # starts of a LoRA that are taken off the weight
WEIGHT_DTYPES = frozenset({"F16", "BF16", "F32", "F64"})
# Types that weights may be stored in, but in which no model runs: they are cast first.
FLOAT8_DTYPES = frozenset({"F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"})


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Element type and shape of a tensor.

    Attributes:
        dtype: Element type, a key of ``DTYPES``, for example ``F32``.
        shape: Size of each axis.
    """

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
        """Reorder the axes.

        Args:
            axes: Old axis for each new one, as in ``torch.permute``; empty to keep the order.

        Returns:
            The spec of the permuted tensor.
        """
        return TensorSpec(self.dtype, tuple(self.shape[axis] for axis in axes) or self.shape)

    def __str__(self) -> str:
        return f"{self.dtype} [{', '.join(map(str, self.shape))}]"


Inventory: TypeAlias = Mapping[str, TensorSpec]


@dataclass(frozen=True, slots=True)
class TensorRef:
    """A tensor in a file.

    Attributes:
        spec: Element type and shape.
        path: The file.
        offset: Byte in the file at which the first element begins.
        stride: Step of each axis in elements, as in torch; None if the elements are contiguous in
            row-major order.
    """

    spec: TensorSpec
    path: Path
    offset: int
    stride: tuple[int, ...] | None = None

    @property
    def refs(self) -> tuple[TensorRef, ...]:
        """The tensors in files that must be read to compute this one."""
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
        """Take the rows ``[start : start + count]`` along the first axis.

        Args:
            start: First row.
            count: Number of rows; may be 0.

        Returns:
            The part, as a tensor in the same file.

        Raises:
            IndexError: If the tensor does not have these rows.
        """
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
        """Reorder the axes without moving the elements.

        Args:
            axes: Old axis for each new one, as in ``torch.permute``.

        Returns:
            A view of the same bytes, with a stride.
        """
        shape = self.spec.shape
        stride = self.stride or [prod(shape[axis + 1 :]) for axis in range(len(shape))]
        steps = tuple(stride[axis] for axis in axes)
        return TensorRef(self.spec.permuted(axes), self.path, self.offset, steps)


@dataclass(frozen=True, slots=True)
class Joined(TensorRef):
    """A tensor whose rows are stored in several places, as in a sharded training checkpoint.

    Attributes:
        pieces: The parts in order along the first axis.
    """

    pieces: tuple[TensorRef, ...] = ()

    @property
    def refs(self) -> tuple[TensorRef, ...]:
        """The tensors in files that must be read to compute this one."""
        return self.pieces

    @staticmethod
    def of(pieces: Sequence[TensorRef]) -> TensorRef:
        """Join pieces along the first axis.

        Args:
            pieces: At least one tensor; all have the same element type and, except for the number
                of rows, the same shape.

        Returns:
            The joined tensor; the piece itself if there is only one.
        """
        first = pieces[0]
        if len(pieces) == 1:
            return first
        rows = sum(piece.spec.shape[0] for piece in pieces)
        spec = TensorSpec(first.spec.dtype, (rows, *first.spec.shape[1:]))
        return Joined(spec, first.path, first.offset, None, tuple(pieces))

    def rows(self, start: int, count: int) -> TensorRef:
        """Take the rows ``[start : start + count]`` along the first axis.

        Args:
            start: First row.
            count: Number of rows; may be 0.

        Returns:
            The part; a plain :class:`TensorRef` if it lies within one piece.

        Raises:
            IndexError: If the tensor does not have these rows.
        """
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
        """Reorder the axes without moving the elements; the first axis must stay the first.

        Args:
            axes: Old axis for each new one, as in ``torch.permute``.

        Returns:
            A view of the same bytes, in the same number of pieces.

        Raises:
            RefusedError: If the first axis would move, as the pieces are split along it.
        """
        if axes[0] != 0:
            raise self._cannot_transpose()
        return Joined.of([piece.permuted(axes) for piece in self.pieces])

    def _cannot_transpose(self) -> RefusedError:
        return RefusedError(
            f"{self.path}: a tensor stored in {len(self.pieces)} pieces would have to be "
            "transposed",
            hint="leave `to` out and convert it to PLAIN.safetensors; then convert that",
        )


@dataclass(frozen=True, slots=True)
class Striped(Joined):
    """A tensor whose elements, in row-major order, are stored in several places.

    A piece may begin and end within a row. All pieces are contiguous and have one dimension.
    """

    @staticmethod
    def of_stretches(shape: tuple[int, ...], pieces: Sequence[TensorRef]) -> TensorRef:
        """Put a tensor together.

        Args:
            shape: Its shape.
            pieces: At least one contiguous tensor of one dimension; together they have as many
                elements as the shape says.

        Returns:
            The tensor; a plain :class:`TensorRef` if there is only one piece.
        """
        first = pieces[0]
        spec = TensorSpec(first.spec.dtype, shape)
        if len(pieces) == 1:
            return TensorRef(spec, first.path, first.offset)
        return Striped(spec, first.path, first.offset, None, tuple(pieces))

    def rows(self, start: int, count: int) -> TensorRef:
        """Take the rows ``[start : start + count]`` along the first axis.

        Args:
            start: First row.
            count: Number of rows; may be 0.

        Returns:
            The part; a plain :class:`TensorRef` if it lies within one piece.

        Raises:
            IndexError: If the tensor does not have these rows.
        """
        first, *rest = self.spec.shape
        if not 0 <= start <= start + count <= first:
            raise IndexError(f"rows {start} to {start + count} of {self.spec}")
        step = prod(rest)
        part = Joined.of(self.pieces).rows(start * step, count * step)
        return Striped.of_stretches((count, *rest), stretches_of(part))

    def permuted(self, axes: tuple[int, ...]) -> TensorRef:
        """Refuse another order of axes, which would need all elements at once.

        Args:
            axes: Old axis for each new one, as in ``torch.permute``.

        Returns:
            The tensor itself, if the order is the same.

        Raises:
            RefusedError: If it is another.
        """
        if axes != tuple(range(len(axes))):
            raise self._cannot_transpose()
        return self


def stretches_of(ref: TensorRef) -> tuple[TensorRef, ...]:
    """List where the elements of a tensor are stored.

    Args:
        ref: The tensor.

    Returns:
        The pieces of a :class:`Joined` one, else the tensor itself.
    """
    return ref.pieces if isinstance(ref, Joined) else (ref,)


@dataclass(frozen=True, slots=True)
class Constant:
    """A tensor that is in no file, because all of its elements are equal.

    Attributes:
        spec: Element type and shape.
        value: Value of every element.
    """

    spec: TensorSpec
    value: float = 0.0

    @property
    def refs(self) -> tuple[TensorRef, ...]:
        """The tensors in files that must be read to compute this one."""
        return ()


@dataclass(frozen=True, slots=True)
class Factors:
    """A low-rank update of some rows of a weight W of shape [rows, *rest], as in LoRA.

    The updated rows are ``W + scale * left @ right``. With ``magnitude`` each row of the sum is
    then rescaled to that length (DoRA, arXiv:2402.09353, equation 5).

    Attributes:
        left: [rows, rank], ``lora_B`` of a linear layer in PEFT.
        right: [rank, *rest], ``lora_A`` of a linear layer in PEFT.
        scale: Factor of the product, for example ``lora_alpha / rank``.
        magnitude: [rows], length of each row (DoRA), or None.
        start: How the factors began, if that beginning has to be taken off W first: with the
            ``rank`` largest singular values of W (``pissa``, arXiv:2404.02948), or with the first
            columns of its QR decomposition (``olora``, arXiv:2406.01775).
        first: The first of the rows that are updated, if not all are.
    """

    left: TensorRef
    right: TensorRef
    scale: float
    magnitude: TensorRef | None = None
    start: Start | None = None
    first: int | None = None

    @property
    def refs(self) -> tuple[TensorRef, ...]:
        """The tensors in files that must be read to compute the update."""
        more = () if self.magnitude is None else self.magnitude.refs
        return (*self.left.refs, *self.right.refs, *more)


@dataclass(frozen=True, slots=True)
class Merged:
    """A tensor that is computed in float32 from a base weight and low-rank updates.

    Attributes:
        spec: Element type and shape of the result.
        base: The weight to start from.
        updates: The updates to add, one after the other.
        axes: Axis of ``base`` for each axis of the result; empty if the order is the same.
    """

    spec: TensorSpec
    base: TensorRef
    updates: tuple[Factors, ...] = ()
    axes: tuple[int, ...] = ()

    @property
    def refs(self) -> tuple[TensorRef, ...]:
        """The tensors in files that must be read to compute this one."""
        return (*self.base.refs, *(ref for update in self.updates for ref in update.refs))

    def permuted(self, axes: tuple[int, ...]) -> Merged:
        """Reorder the axes of the result; allowed once, on a tensor with the axes of ``base``.

        Args:
            axes: Old axis for each new one, as in ``torch.permute``.

        Returns:
            The permuted tensor.
        """
        assert not self.axes
        return replace(self, spec=self.spec.permuted(axes), axes=axes)


Part: TypeAlias = TensorRef | Constant | Merged


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor to be written, concatenated from parts along the first axis.

    Attributes:
        spec: Element type and shape in the output.
        parts: The parts in order. A :class:`Joined` part is replaced by its pieces.
    """

    spec: TensorSpec
    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        if any(isinstance(part, Joined) for part in self.parts):
            nested = (stretches_of(p) if isinstance(p, Joined) else (p,) for p in self.parts)
            object.__setattr__(self, "parts", tuple(piece for some in nested for piece in some))
