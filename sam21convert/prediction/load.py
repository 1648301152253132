"""Load any checkpoint that can be read onto the ground truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..checkpoint.mismatch import mismatch, missing_text
from ..checkpoint.open import Checkpoint, open_checkpoint
from ..checkpoint.remap import to_canonical
from ..config.plain_yaml import naming
from ..config.registry import shipped_like
from ..errors import MismatchError, RefusedError, UsageError
from ..io.data.copy import Files, payload
from ..io.tensor import TORCH_NAMES, Tensor, TensorRef
from ..model.config import ConfigError, ModelConfig
from ..report import Report

if TYPE_CHECKING:
    import torch

    from ..model.sam2 import SAM2
    from .resample import Resampled

    Model = TypeVar("Model", bound=torch.nn.Module)


@dataclass(frozen=True)
class Loading(Report):
    """What :func:`load_model` did; ``config`` is that of the model, resampling included."""

    path: Path
    dialect: str
    container: str
    generation: str
    config: ModelConfig
    image_size: int
    tensors: int
    dtype: str
    device: str
    resampled: tuple[Resampled, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The fields, with the config and each resampling as named values."""
        named = {"config": asdict(self.config), "resampled": [r._asdict() for r in self.resampled]}
        return super().to_dict() | named

    def __str__(self) -> str:
        lines = [
            f"loaded {self.tensors} tensors of {self.path} ({self.dialect}, {self.container})",
            f"  as SAM {self.generation} for {self.image_size} pixels, {self.dtype}, {self.device}",
            *(f"  resampled {resampled}" for resampled in self.resampled),
            *(f"  note: {note}" for note in self.notes),
        ]
        return "\n".join(lines)


def load_model(
    source: str | Path,
    config: str | Path | ModelConfig | None = None,
    image_size: int | None = None,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    resample_positions: bool = False,
) -> tuple[SAM2, Loading]:
    """Build the model and load ``source`` into it, strictly; it is in evaluation mode.

    ``image_size``, in pixels, takes the place of the config's: no tensor depends on it. ``dtype``
    is that of the weights unless given. ``resample_positions`` allows the one step that changes
    values: a checkpoint with another number of memories, or another grid of the background
    position, than the config has is interpolated, and the report says so.

    Raises :class:`UsageError` for an impossible image size, :class:`MismatchError` for a checkpoint
    that does not fit, else as :func:`~sam21convert.convert` does; an image model (hf-image) is
    refused, for it lacks the tensors of the memory.
    """
    from ..model.sam2 import SAM2

    return load_onto(
        SAM2,
        source,
        config,
        change=with_image_size(image_size),
        device=device,
        dtype=dtype,
        resample_positions=resample_positions,
    )


def pick_device(device: str) -> str:
    """The device to use, "auto" being the best there is.

    Raises :class:`UsageError` for one that is not there.
    """
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device != "cpu" and not torch.cuda.is_available():
        raise UsageError(f"device {device}: torch finds no GPU to use", hint="use cpu, or auto")
    return device


def with_image_size(image_size: int | None) -> Callable[[ModelConfig], ModelConfig]:
    """A change of a config for :func:`load_onto`; None leaves it as it is.

    The change raises :class:`UsageError` when the model cannot have that size.
    """

    def change(config: ModelConfig) -> ModelConfig:
        try:
            return config if image_size is None else replace(config, image_size=image_size)
        except ConfigError as error:
            raise UsageError(f"image_size: {error.problem}") from error

    return change


def load_onto(
    make: Callable[[ModelConfig], Model],
    source: str | Path,
    config: str | Path | ModelConfig | None,
    *,
    change: Callable[[ModelConfig], ModelConfig],
    device: str | torch.device,
    dtype: torch.dtype | None,
    resample_positions: bool = False,
    images_only: bool = False,
) -> tuple[Model, Loading]:
    """As :func:`load_model`, onto what ``make`` builds of the config that ``change`` returns.

    ``change`` gets the config given, found beside the checkpoint or told by its tensors. With
    ``images_only`` an image model is taken too; the tensors of the memory, which no image needs,
    are zeros then, and the report says so.
    """
    import torch

    from .resample import resample

    checkpoint = open_checkpoint(source, config)
    if checkpoint.model_config is not None:
        checkpoint = _with_config(checkpoint, change(checkpoint.model_config))
    stored = _as_stored(checkpoint, allowed=resample_positions)
    truth, _ = to_canonical(stored)
    keymap, wanted = stored.keymap, checkpoint.model_config
    assert keymap is not None
    assert wanted is not None
    if keymap.dropped and not (images_only and keymap.dialect.task == "image"):
        raise RefusedError(
            f"{source}: is {missing_text(keymap.dialect, len(keymap.dropped))}",
            hint="convert it with `base` first, which takes them from another checkpoint",
        )
    with torch.device("meta"):
        model = make(wanted)
    with Files() as files:
        state_dict = {
            name: _tensor(files, truth[name]) if name in truth else torch.zeros(spec.shape)
            for name, spec in keymap.canonical.items()
        }
    resampled = resample(state_dict, wanted)
    found = [state_dict[name].dtype for name in truth]
    dtype = dtype or reduce(torch.promote_types, found)
    model.load_state_dict(state_dict, strict=True, assign=True)
    model = model.to(device=device, dtype=dtype).eval()
    return model, Loading(
        path=checkpoint.source.path,
        dialect=keymap.dialect.name,
        container=checkpoint.source.container,
        generation=wanted.generation,
        config=wanted,
        image_size=wanted.image_size,
        tensors=len(truth),
        dtype=str(dtype).removeprefix("torch."),
        device=str(device),
        resampled=resampled,
        notes=tuple(_notes(checkpoint, set(map(str, found)))),
    )


def _with_config(checkpoint: Checkpoint, config: ModelConfig) -> Checkpoint:
    """The checkpoint, to be loaded with a config that differs from the one found."""
    if config == checkpoint.model_config:
        return checkpoint
    return replace(
        checkpoint, config=config, generation=config.generation, shipped=shipped_like(config)
    )


def _as_stored(checkpoint: Checkpoint, *, allowed: bool) -> Checkpoint:
    """The checkpoint with a config that it fits, when only resampling keeps it from its own.

    Raises :class:`MismatchError` when resampling would help and is not ``allowed``.
    """
    from .resample import can_resample, stored_config

    fit, keymap, config = checkpoint.fit, checkpoint.keymap, checkpoint.model_config
    if fit is None or keymap is None or config is None or not fit.mismatched:
        return checkpoint
    canonical = {fit.names.get(entry.key): entry.canonical[0] for entry in keymap.entries}
    shapes = {}
    for name, expected, found in fit.mismatched:
        truth = canonical.get(name, name)
        if can_resample(truth, found.shape, expected.shape):
            shapes[truth] = found.shape
    if len(shapes) < fit.faults:
        return checkpoint
    if not allowed:
        raise MismatchError(
            mismatch(checkpoint).message,
            hint=f"load_model(..., resample_positions=True) interpolates {' and '.join(shapes)} "
            "to the config's shape, which changes what the model computes",
        )
    with naming(checkpoint.source.path):
        return _with_config(checkpoint, stored_config(config, shapes))


def _notes(checkpoint: Checkpoint, dtypes: set[str]) -> Iterator[str]:
    if checkpoint.fit is not None:
        for name in checkpoint.fit.lone:
            yield f"{name} is absent; a copy of it is there"
    if checkpoint.extras:
        more = " ..." if len(checkpoint.extras) > 8 else ""
        yield f"left out, not part of the model: {', '.join(checkpoint.extras[:8])}{more}"
    if checkpoint.keymap is not None and checkpoint.keymap.dropped:
        yield "an image model: it has no memory, and can segment images only"
    if len(dtypes) > 1:
        kinds = ", ".join(sorted(kind.removeprefix("torch.") for kind in dtypes))
        yield f"the file mixes {kinds}; the model has one type"
    if checkpoint.config_from is None:
        size = "image size, " if checkpoint.config is None else ""
        yield f"{size}windows and heads are those of the published model: no tensor tells them"


def _tensor(files: Files, ref: TensorRef) -> torch.Tensor:
    import torch

    data = bytearray()
    for chunk in payload(files, Tensor(ref.spec, (ref,))):
        data += chunk
    tensor = torch.frombuffer(data, dtype=getattr(torch, TORCH_NAMES[ref.spec.dtype])).reshape(
        ref.spec.shape
    )
    return tensor.clone()  # in memory of torch's own: on a CPU, alignment changes the rounding
