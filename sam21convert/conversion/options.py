"""The options of a conversion, in one object: made once, and passed to everything below."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

from ..errors import UsageError
from ..io.sharded import parse_size
from ..io.tensor import DType
from ..model.config import Generation, ModelConfig

GENERATIONS: tuple[Generation, ...] = get_args(Generation)


@dataclass(frozen=True)
class ConvertOptions:
    """What may be said about a conversion, apart from its source and its destination.

    Attributes:
        to: the name of the dialect to write, or None for the usual one of the container.
        config: the config of the source: a shipped name, a file, or a model config; None to use
            the one that is found beside the source or that its tensors show.
        base: a checkpoint to take missing tensors from, or to merge a LoRA adapter into.
        weights: the keys that lead to one of several state dicts in the source, or ``ema`` or
            ``model``.
        prefix: the prefix of the names in one of several state dicts.
        generation: the generation to write; None keeps that of the source.
        allow_lossy: whether tensors that SAM 2 has no place for may be dropped when they are not
            zero. Only with ``generation="2.0"``.
        image_size: the side of the input in pixels, to be recorded in the config that is written.
        dtype: the type to cast the tensors to; None leaves them as they are.
        lora_alpha: the alpha of the LoRA that is still inside the source.
        drop_hq: whether the tensors that HQ-SAM 2 adds are left out.
        drop: names of tensors that are not part of SAM 2 and are left out; ``*`` stands for any
            text.
        shard_size: the largest size of a file of weights, in bytes or as in ``"500MB"``. Only for
            a transformers folder.
        overwrite: whether an existing destination may be replaced.
    """

    to: str | None = None
    config: str | Path | ModelConfig | None = None
    base: str | Path | None = None
    weights: str | None = None
    prefix: str | None = None
    generation: Generation | None = None
    allow_lossy: bool = False
    image_size: int | None = None
    dtype: DType | None = None
    lora_alpha: float | None = None
    drop_hq: bool = False
    drop: tuple[str, ...] = ()
    shard_size: str | int | None = None
    overwrite: bool = False

    @property
    def shard_bytes(self) -> int | None:
        """``shard_size`` in bytes."""
        return None if self.shard_size is None else parse_size(str(self.shard_size))

    def check(self) -> None:
        """Check what can be checked without opening a file.

        Raises:
            UsageError: when no generation or type has the given name, ``shard_size`` is not a size,
                ``lora_alpha`` is not a finite number, or ``allow_lossy`` is given without
                ``generation="2.0"``.
        """
        if self.generation is not None and self.generation not in GENERATIONS:
            raise UsageError(
                f"no generation is called {self.generation!r}",
                hint=f"one of {', '.join(GENERATIONS)}",
            )
        if self.allow_lossy and self.generation != "2.0":
            raise UsageError(
                "`allow_lossy`: there is nothing to lose",
                hint="use it with `generation=2.0`, to convert a SAM 2.1 to SAM 2",
            )
        if self.dtype is not None and self.dtype not in get_args(DType):
            raise UsageError(
                f"no type is called {self.dtype!r}", hint=f"one of {', '.join(get_args(DType))}"
            )
        if self.shard_size is not None:
            parse_size(str(self.shard_size))
        if self.lora_alpha is not None and not 0 < abs(self.lora_alpha) <= 1e9:
            raise UsageError(f"`lora_alpha={self.lora_alpha}`: cannot be the alpha of a LoRA")

    def given(self) -> dict[str, Any]:
        """List the options that differ from their defaults.

        Returns:
            Name to value, in the order of the fields.
        """
        values = {one.name: (getattr(self, one.name), one.default) for one in fields(self)}
        return {name: value for name, (value, default) in values.items() if value != default}
