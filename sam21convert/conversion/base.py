"""Complete a part of a model with the tensors of a base checkpoint: the argument ``base``."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..checkpoint.identify import IdentifiedCheckpoint, identify
from ..checkpoint.mismatch import describe, hint, missing_text
from ..checkpoint.open import Checkpoint
from ..checkpoint.remap import CanonicalTensors
from ..dialects import HF_IMAGE
from ..dialects.keymap import covers
from ..dialects.rules import Dialect
from ..errors import MismatchError, RefusedError
from ..io.tensor import TensorRef

_IMAGE_MODEL = "; `to=hf-image` writes an image model, to a folder or to .safetensors"


@dataclass(frozen=True)
class Completed:
    """The tensors of a complete model.

    Attributes:
        tensors: all tensors of the model that the target dialect has a place for, and more if the
            checkpoints hold more.
        model: the checkpoint that decides size and generation: the base if tensors were missing,
            else the source.
        added: canonical names of the tensors that were taken from the base.
    """

    tensors: CanonicalTensors[TensorRef]
    model: IdentifiedCheckpoint
    added: tuple[str, ...] = ()


def adopt_size_of(checkpoint: Checkpoint, base: Checkpoint | None) -> Checkpoint:
    """Give a part of a model whose tensors do not tell its size the size of its base.

    Args:
        checkpoint: the checkpoint to convert.
        base: the base checkpoint, if one was given.

    Returns:
        ``checkpoint`` with the model of ``base``; unchanged without a base, or when its own
        tensors or config tell the size.

    Raises:
        MismatchError: when tensors of ``checkpoint`` have no place in the model of ``base``, or
            the two are of different generations.
    """
    if base is None or checkpoint.keymap is not None:
        return checkpoint
    _refuse_other_generation(checkpoint, base)
    part = replace(checkpoint, shipped=base.shipped, generation=base.generation, config=base.config)
    if part.fit is not None and part.fit.faults > len(part.fit.missing):
        wrong = replace(part.fit, missing=())
        raise MismatchError(
            f"{part.source.path} is not part of a model like {base.source.path}\n  "
            + "\n  ".join(describe(wrong)),
            hint=hint(part)
            if not wrong.mismatched
            else "`base=CHECKPOINT` takes a checkpoint of the same size",
        )
    return part


def complete_from(
    base: Checkpoint | None,
    tensors: CanonicalTensors[TensorRef],
    checkpoint: IdentifiedCheckpoint,
    dialect: Dialect,
) -> Completed:
    """Take the tensors that a dialect holds and a checkpoint does not from a base checkpoint.

    Args:
        base: the base checkpoint, if one was given.
        tensors: the tensors of ``checkpoint``.
        checkpoint: the checkpoint to convert.
        dialect: the dialect to write.

    Returns:
        The complete tensors. Those of ``checkpoint`` come first.

    Raises:
        RefusedError: when tensors are missing and there is no base, or the base lacks them too.
        MismatchError: when the base does not fit, or is of another size or generation.
    """
    wanted = (name for name in checkpoint.keymap.canonical if covers(dialect, name))
    missing = [name for name in wanted if name not in tensors.parts]
    if not missing:
        return Completed(tensors, checkpoint)
    if base is None:
        raise RefusedError(
            f"{checkpoint.source.path}: {checkpoint.dialect.name} holds "
            + missing_text(checkpoint.dialect, len(missing), checkpoint.generation),
            hint="`base=CHECKPOINT` takes them from a checkpoint of the same size"
            + (_IMAGE_MODEL if _is_image_model(missing) else ""),
        )
    path, base_path = checkpoint.source.path, base.source.path
    model = identify(base)
    theirs = CanonicalTensors.from_checkpoint(model, partial=True)
    inventory = model.keymap.canonical
    if neither := [name for name in missing if name not in theirs.parts and name in inventory]:
        raise RefusedError(
            f"{base_path}: lacks {len(neither)} of the missing tensors too, such as {neither[0]}",
            hint="`base=CHECKPOINT` takes a complete checkpoint",
        )
    _refuse_other_generation(checkpoint, base)
    own = checkpoint.keymap.canonical
    if any(own[name] != inventory.get(name) for name in tensors.parts):
        raise MismatchError(
            f"{base_path}: is a SAM 2 of another size than {path}",
            hint="`base=CHECKPOINT` takes a checkpoint of the same size",
        )
    added = [name for name in inventory if name not in tensors.parts and name in theirs.parts]
    completed = tensors.updated(
        {name: theirs.parts[name] for name in added},
        {name: tuple(f"{base_path}: {one}" for one in theirs.origins[name]) for name in added},
    )
    return Completed(completed, model, tuple(added))


def _is_image_model(missing: list[str]) -> bool:
    return not any(covers(HF_IMAGE, name) for name in missing)


def _refuse_other_generation(checkpoint: Checkpoint, base: Checkpoint) -> None:
    if checkpoint.generation not in (None, base.generation):
        raise MismatchError(
            f"{base.source.path}: is a SAM {base.generation}, but "
            f"{checkpoint.source.path} is a SAM {checkpoint.generation}",
            hint="`base=CHECKPOINT` takes a checkpoint of the same generation",
        )
