"""State dicts of torch tensors under the names of any package, on the same key maps as files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..checkpoint.identify import identify
from ..checkpoint.mismatch import mismatch
from ..checkpoint.open import Checkpoint, open_checkpoint, recognise
from ..dialects import EITHER, HF_IMAGE, named
from ..dialects.keymap import KeyMap, compile_keymap
from ..errors import MismatchError, RefusedError
from ..io.data.copy import Files
from ..io.source import Source
from ..io.tensor import OF_TORCH, TORCH_NAMES, TensorRef, TensorSpec
from ..model.config import ModelConfig
from ..packages import require
from .load import tensor_of

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
    checkpoint = open_checkpoint(source, config)
    with Files() as files:
        tensors = {name: tensor_of(files, ref) for name, ref in checkpoint.tensors.items()}
    return _renamed(checkpoint, tensors, dialect)


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
        RefusedError: It is another model than SAM 2, or lacks what the dialect holds.
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
    tensors = list(state_dict.values())
    # The offset says which tensor is meant once wrappers are taken off its name.
    root = {
        name: TensorRef(_spec(name, tensor), _IN_MEMORY, at)
        for at, (name, tensor) in enumerate(state_dict.items())
    }
    checkpoint = recognise(Source(_IN_MEMORY, "memory", (), root), config)
    named = {name: tensors[ref.offset] for name, ref in checkpoint.tensors.items()}
    return _renamed(checkpoint, named, to)


def _spec(name: str, tensor: Tensor) -> TensorSpec:
    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype not in OF_TORCH:
        raise RefusedError(f"{_IN_MEMORY}: {name} is of type {dtype}, which no weight has")
    return TensorSpec(OF_TORCH[dtype], tuple(tensor.shape))


def _renamed(
    checkpoint: Checkpoint, tensors: Mapping[str, Tensor], dialect: str
) -> dict[str, Tensor]:
    image = dialect in EITHER and checkpoint.dialect is HF_IMAGE
    wanted = HF_IMAGE if image else named(dialect)
    identified = identify(checkpoint)
    keymap, fit = identified.keymap, identified.fit
    if fit.faults:
        raise mismatch(checkpoint)
    for one, other in fit.repeats:
        if not tensors[one].equal(tensors[other]):
            raise MismatchError(
                f"{checkpoint.source.path}: {one} and {other} should be equal and differ"
            )
    target = compile_keymap(wanted, keymap.canonical)
    copies = {of: fit.names[name] for name, of in keymap.tied.items() if name in fit.names}
    names = {**copies, **fit.names}
    canonical = _canonical(keymap, {key: tensors[name] for key, name in names.items()})
    absent = [n for entry in target.entries for n in entry.canonical if n not in canonical]
    if absent:
        raise RefusedError(
            f"{checkpoint.source.path}: {dialect} needs {len(absent)} tensors that it lacks, "
            f"{absent[0]} first",
            hint="`convert(..., base=CHECKPOINT)` takes them from a whole checkpoint",
        )
    return _named_for(target, canonical)


def _canonical(keymap: KeyMap, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a dialect under the canonical names."""
    import torch

    found: dict[str, Tensor] = {}
    for entry in keymap.entries:
        tensor = tensors[entry.key]
        if entry.axes:
            tensor = tensor.permute(*map(entry.axes.index, range(len(entry.axes))))
        rows = [keymap.canonical[name].shape[0] for name in entry.canonical]
        parts = torch.split(tensor, rows) if len(rows) > 1 else (tensor,)
        found.update(zip(entry.canonical, parts, strict=True))
    return found


def _named_for(target: KeyMap, canonical: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under canonical names as a dialect has them."""
    import torch

    named: dict[str, Tensor] = {}
    for entry in target.entries:
        parts = [canonical[name] for name in entry.canonical]
        if entry.axes:
            parts = [part.permute(*entry.axes) for part in parts]
        named[entry.key] = torch.cat(parts) if len(parts) > 1 else parts[0].contiguous()
    for tied, of in target.tied.items():
        named[tied] = named[of]
    like = next(iter(canonical.values()))
    for name, constant in target.constants.items():
        dtype = getattr(torch, TORCH_NAMES[constant.spec.dtype])
        named[name] = torch.full(constant.spec.shape, constant.value, dtype=dtype).to(like)
    return named
