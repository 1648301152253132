"""Load any readable checkpoint onto the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..checkpoint.identify import IdentifiedCheckpoint, identify
from ..checkpoint.inspect import left_out, untold
from ..checkpoint.mismatch import mismatch, missing_text
from ..checkpoint.open import Checkpoint, open_checkpoint
from ..checkpoint.remap import CanonicalTensors, refuse_unequal_copies
from ..checkpoint.safety.report import Safety, SourceReport, naming_harm
from ..config.plain_yaml import naming
from ..config.registry import shipped_like
from ..config.skeleton import skeleton
from ..errors import MismatchError, RefusedError, UsageError, call_of
from ..io.data.copy import Files, payload
from ..io.tensor import TORCH_NAMES, Tensor
from ..model.config import ConfigError, ModelConfig
from ..packages import require
from .devices import place_model

if TYPE_CHECKING:
    import torch

    from ..model.sam2 import SAM2
    from .resample import Resampled

    Model = TypeVar("Model", bound=torch.nn.Module)


@dataclass(frozen=True)
class Loading(SourceReport):
    """What :func:`load_model` did.

    Attributes:
        path: The file or folder that was read.
        dialect: How the checkpoint names its tensors.
        container: How it stores them.
        generation: ``"2.0"`` or ``"2.1"``.
        config: The config of the model, after any resampling.
        image_size: Side of the model's input in pixels.
        tensors: Number of tensors that were read.
        dtype: The type of the weights, as torch names it.
        device: The device of the model, as torch names it.
        resampled: The tensors that were resampled.
        notes: What else differs from loading the file as it is.
        safety: What loading the file with torch or pickle would import and call.

    Example:
        >>> _, loading = sam21convert.load_model("model.pt")
        >>> loading.generation
        '2.1'
    """

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
    safety: Safety

    def to_dict(self) -> dict[str, Any]:
        """Give the fields as plain data.

        Returns:
            Field name to value, the config and each resampled tensor as dicts.
        """
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
    """Build the model and load a checkpoint into it, strictly.

    Args:
        source: A checkpoint in any form that :func:`~sam21convert.convert` takes. An image model
            (hf-image) is refused because it has no tensors of the memory.
        config: The config, its name or its file; None uses the one that belongs to the checkpoint.
        image_size: Side of the input in pixels, in place of the config's. No tensor depends on it.
        device: The device of the model, as torch names it, or ``"auto"`` for a GPU if there is one.
        dtype: The type of the weights; None keeps the type that the checkpoint stores.
        resample_positions: Whether positional tensors may be interpolated when the checkpoint has
            another number of memories, or another grid of the background position, than the config.
            This is the only step that changes values, and the report lists it.

    Returns:
        The model, in evaluation mode, and a report of how it was loaded.

    Raises:
        UsageError: If the image size is impossible, or the device is not there.
        MismatchError: If the checkpoint does not fit the config.
        RefusedError: If the checkpoint is an image model.
        Sam21ConvertError: For a checkpoint that cannot be read, as :func:`~sam21convert.convert`
            does.

    Example:
        >>> model, loading = sam21convert.load_model("model.pt")
        >>> model.image_size
        128
    """
    require("torch", "load_model")
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


def with_image_size(image_size: int | None) -> Callable[[ModelConfig], ModelConfig]:
    """Make a change of a config for :func:`load_onto`.

    Args:
        image_size: Side of the input in pixels; None leaves the config as it is.

    Returns:
        A function from a config to the changed one. It raises :class:`UsageError` when the model
        cannot have that size.
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
    opened: Checkpoint | None = None,
) -> tuple[Model, Loading]:
    """Load a checkpoint, strictly, onto the model that ``make`` builds.

    Args:
        make: Builds the model from its config.
        source: As for :func:`load_model`.
        config: As for :func:`load_model`.
        change: Returns the config to build from. Its argument is the given config, or the one found
            beside the checkpoint or derived from its tensors.
        device: The device of the model, as torch names it.
        dtype: The type of the weights; None keeps the type that the checkpoint stores.
        resample_positions: As for :func:`load_model`.
        images_only: Whether an image model is accepted as well. The tensors of the memory, which no
            image needs, are then zeros, and the report says so.
        opened: ``source`` as it was opened with ``config`` before; None to open it.

    Returns:
        The model, in evaluation mode, and a report of how it was loaded.

    Raises:
        UsageError: If the device is not there.
        RefusedError: If the checkpoint is an image model and ``images_only`` is false.
        MismatchError: If the checkpoint does not fit the config.
        Sam21ConvertError: For a checkpoint that cannot be read, as :func:`~sam21convert.convert`
            does.
    """
    import torch

    from .resample import resample

    device = place_model(device)
    opened = opened or open_checkpoint(source, config)
    checkpoint = identify(opened)
    path = checkpoint.source.path
    with naming_harm(path):
        checkpoint = _with_config(checkpoint, change(checkpoint.model_config))
        stored = _as_stored(checkpoint, allowed=resample_positions)
        truth = CanonicalTensors.from_checkpoint(stored).parts
        refuse_unequal_copies(stored)
        keymap, wanted = stored.keymap, checkpoint.model_config
        if keymap.dropped and not (images_only and keymap.dialect.task == "image"):
            raise RefusedError(
                f"{source}: is {missing_text(keymap.dialect, len(keymap.dropped))}",
                hint=f"{call_of('convert', path, 'base=CHECKPOINT')} takes them from another "
                "checkpoint; load what it writes",
            )
    model = skeleton(lambda: make(wanted))
    with Files() as files:
        state_dict = {
            name: read_tensor(files, Tensor(ref.spec, (ref,)))
            if (ref := truth.get(name)) is not None
            else torch.zeros(spec.shape)
            for name, spec in keymap.canonical.items()
        }
    resampled = resample(state_dict, wanted)
    found = [state_dict[name].dtype for name in truth]
    dtype = dtype or reduce(torch.promote_types, found)
    model.load_state_dict(state_dict, strict=True, assign=True)
    model = model.to(device=device, dtype=dtype).eval()
    return model, Loading(
        path=path,
        dialect=keymap.dialect.name,
        container=checkpoint.source.container,
        generation=wanted.generation,
        config=wanted,
        image_size=wanted.image_size,
        tensors=len(truth),
        dtype=str(dtype).removeprefix("torch."),
        device=device,
        resampled=resampled,
        notes=tuple(_notes(checkpoint, set(map(str, found)))),
        safety=opened.safety,
    )


def _with_config(checkpoint: IdentifiedCheckpoint, config: ModelConfig) -> IdentifiedCheckpoint:
    """The checkpoint with ``config`` in place of the config that was found."""
    if config == checkpoint.model_config:
        return checkpoint
    return replace(
        checkpoint, config=config, generation=config.generation, shipped=shipped_like(config)
    )


def _as_stored(checkpoint: IdentifiedCheckpoint, *, allowed: bool) -> IdentifiedCheckpoint:
    """The checkpoint with the config of its stored shapes, if resampling then fits its own.

    Raises :class:`MismatchError` when resampling would help and is not ``allowed``.
    """
    from .resample import can_resample, stored_config

    fit, keymap, config = checkpoint.fit, checkpoint.keymap, checkpoint.model_config
    if not fit.mismatched:
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


def _notes(checkpoint: IdentifiedCheckpoint, dtypes: set[str]) -> Iterator[str]:
    yield from checkpoint.source.notes
    for name in checkpoint.fit.missing_copies:
        yield f"{name} is absent; a copy of it is there"
    if checkpoint.extras:
        yield f"not loaded, not part of the model: {', '.join(left_out(checkpoint))}"
    if checkpoint.keymap.dropped:
        yield "an image model: it has no memory and can only segment images"
    if len(dtypes) > 1:
        kinds = ", ".join(sorted(kind.removeprefix("torch.") for kind in dtypes))
        yield f"the file mixes {kinds}; the model has one type"
    yield from untold(checkpoint, sized=checkpoint.config is not None)


def read_tensor(files: Files, tensor: Tensor) -> torch.Tensor:
    """Read a tensor of a checkpoint, or put it together.

    Args:
        files: The open files of the checkpoint.
        tensor: What it is made of.

    Returns:
        A copy in torch's own memory.
    """
    import torch

    data = bytearray()
    for chunk in payload(files, tensor):
        data += chunk
    found = torch.frombuffer(data, dtype=getattr(torch, TORCH_NAMES[tensor.spec.dtype]))
    # in memory of torch's own: on a CPU, alignment changes the rounding
    return found.reshape(tensor.spec.shape).clone()
