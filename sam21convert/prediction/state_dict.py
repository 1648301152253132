"""State dicts of torch tensors under the names of any package, on the same key maps as files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from ..checkpoint.identify import IdentifiedCheckpoint, identify
from ..checkpoint.open import open_checkpoint, recognise
from ..checkpoint.remap import CanonicalTensors, refuse_unequal_copies
from ..checkpoint.safety.report import naming_harm
from ..dialects import EITHER, HF_IMAGE, named
from ..dialects.keymap import compile_keymap
from ..errors import MismatchError, RefusedError
from ..io.data.copy import Files
from ..io.source import Source
from ..io.tensor import DTYPES, OF_TORCH, TORCH_NAMES, Constant, Part, TensorRef, TensorSpec
from ..io.tensor import Tensor as Planned
from ..model.config import ModelConfig
from ..packages import require
from .load import read_tensor

if TYPE_CHECKING:
    from torch import Tensor

_IN_MEMORY = Path("state dict")


def load_state_dict(
    source: str | Path, dialect: str = "official", *, config: str | Path | ModelConfig | None = None
) -> dict[str, Tensor]:
    """Load a checkpoint as a dict of torch tensors, under the names of any package.

    Nothing in the file is run, and every tensor is accounted for, as by
    :func:`~sam21convert.convert`.

    Args:
        source: A path, a published name, ``hf://org/repo`` or ``https://...``.
        dialect: Whose names to use: "official", "hf-video", "hf-image", "mlx", "timm" and so on.
        config: The model's settings, for a size that is not published: a shipped name, a file or a
            :class:`~sam21convert.ModelConfig`.

    Returns:
        Tensors on the CPU in the types of the file, by name, in the order of the dialect.

    Raises:
        UnreadableError: The file is missing or damaged.
        RefusedError: It is another model than SAM 2, or lacks what the dialect holds.
        MismatchError: It fits no dialect; or tensors are missing, unexpected or of another shape.
        UsageError: There is no such dialect.
        MissingFileError: There is no such config.

    Example:
        >>> tensors = sam21convert.load_state_dict("model.pt", "hf-video")
        >>> tensors["no_memory_embedding"].shape
        torch.Size([1, 1, 128])
    """
    require("torch", "load_state_dict")
    checkpoint = identify(open_checkpoint(source, config))
    with naming_harm(checkpoint.source.path):
        refuse_unequal_copies(checkpoint)
        planned = _planned(checkpoint, dialect)
    with Files() as files:
        return _each_once(planned, lambda tensor: read_tensor(files, tensor))


def convert_state_dict(
    state_dict: Mapping[str, Tensor],
    to: str = "official",
    *,
    config: str | Path | ModelConfig | None = None,
) -> dict[str, Tensor]:
    """Give torch tensors that are in memory the names and layouts of another package.

    Args:
        state_dict: Tensors under the names of any dialect, also with a prefix such as ``module.``
            on each name. It is not changed.
        to: The dialect to convert to.
        config: As for :func:`load_state_dict`.

    Returns:
        Tensors by their new names. They share memory with ``state_dict`` where no element moves,
        and with each other where a dialect holds a tensor twice.

    Raises:
        RefusedError: It is another model than SAM 2, or lacks what the dialect holds; or something
            in it is no tensor.
        MismatchError: It fits no dialect; or tensors are missing, unexpected or of another shape.
        UsageError: There is no such dialect.
        MissingFileError: There is no such config.

    Example:
        >>> official = sam21convert.load_state_dict("model.pt")
        >>> renamed = sam21convert.convert_state_dict(official, to="hf-video")
        >>> back = sam21convert.convert_state_dict(renamed)
        >>> all(bool((back[name] == official[name]).all()) for name in official)
        True
    """
    import torch

    tensors = list(state_dict.values())
    # The path says which tensor is meant once wrappers are taken off its name.
    root = {
        name: TensorRef(_spec(name, tensor), _IN_MEMORY / str(at), 0)
        for at, (name, tensor) in enumerate(state_dict.items())
    }
    checkpoint = identify(recognise(Source(_IN_MEMORY, "memory", (), root), config))

    def view(part: Part) -> Tensor:
        if isinstance(part, TensorRef):
            return _view(part, tensors[int(part.path.name)])
        assert isinstance(part, Constant)
        dtype = getattr(torch, TORCH_NAMES[part.spec.dtype])
        return torch.full(part.spec.shape, part.value, dtype=dtype, device=tensors[0].device)

    def joined(tensor: Planned) -> Tensor:
        parts = [view(part) for part in tensor.parts]
        return torch.cat(parts) if len(parts) > 1 else parts[0].contiguous()

    for one, other in checkpoint.fit.repeats:
        if not view(checkpoint.tensors[one]).equal(view(checkpoint.tensors[other])):
            raise MismatchError(f"{_IN_MEMORY}: {one} and {other} should be equal and differ")
    return _each_once(_planned(checkpoint, to), joined)


def _spec(name: object, tensor: object) -> TensorSpec:
    import torch

    if not isinstance(tensor, torch.Tensor) or not isinstance(name, str):
        within = f"give what is under {name!r}" if isinstance(tensor, Mapping) else None
        raise RefusedError(
            f"{_IN_MEMORY}: expected tensors by name, found {name!r}: {type(tensor).__name__}",
            hint=within or "leave out what is no tensor; torch.from_numpy makes one of an array",
        )
    if tensor.layout is not torch.strided:
        raise RefusedError(
            f"{_IN_MEMORY}: {name} is sparse, which no weight is",
            hint="its method to_dense makes a weight of it",
        )
    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype not in OF_TORCH:
        raise RefusedError(f"{_IN_MEMORY}: {name} is of type {dtype}, which no weight has")
    return TensorSpec(OF_TORCH[dtype], tuple(tensor.shape))


def _view(ref: TensorRef, tensor: Tensor) -> Tensor:
    """The elements of a tensor that a reference to it means."""
    whole = tensor.contiguous()
    steps = ref.stride or tuple(prod(ref.spec.shape[at + 1 :]) for at in range(len(ref.spec.shape)))
    first = whole.storage_offset() + ref.offset // DTYPES[ref.spec.dtype]
    return whole.as_strided(ref.spec.shape, steps, first)


def _planned(checkpoint: IdentifiedCheckpoint, dialect: str) -> dict[str, Planned]:
    """The tensors of a dialect, by name, and what of the checkpoint they are made of."""
    image = dialect in EITHER and checkpoint.dialect is HF_IMAGE
    wanted = HF_IMAGE if image else named(dialect)
    canonical = CanonicalTensors.from_checkpoint(checkpoint)
    target = compile_keymap(wanted, checkpoint.keymap.canonical)
    absent = [n for entry in target.entries for n in entry.canonical if n not in canonical.parts]
    if absent:
        raise RefusedError(
            f"{checkpoint.source.path}: {dialect} needs {len(absent)} tensors that it lacks, "
            f"{absent[0]} first",
            hint="`convert(..., base=CHECKPOINT)` takes them from a whole checkpoint",
        )
    try:
        return canonical.named_for(target, None)
    except MismatchError as error:  # parts of several types, which neither function casts
        raise MismatchError(
            f"{checkpoint.source.path}: {error.message}", hint="cast them first, as by .float()"
        ) from error


def _each_once(
    planned: Mapping[str, Planned], make: Callable[[Planned], Tensor]
) -> dict[str, Tensor]:
    """Make all tensors; one that stands under two names is made once."""
    made: dict[int, Tensor] = {}
    for tensor in planned.values():
        if id(tensor) not in made:
            made[id(tensor)] = make(tensor)
    return {name: made[id(tensor)] for name, tensor in planned.items()}
