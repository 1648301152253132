"""The notes in the report of a conversion: what was left out, added or assumed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ..checkpoint.identify import IdentifiedCheckpoint
from ..checkpoint.open import Checkpoint
from ..config.hydra import BUILDERS
from ..config.registry import Shipped
from ..dialects import EITHER, HF_IMAGE, OFFICIAL
from ..dialects.keymap import KeyMap
from ..dialects.rules import Dialect
from ..model.config import ModelConfig
from ..report import counted
from .output_config import tells_trunk_alone


def notes_on_source(checkpoint: IdentifiedCheckpoint, trained: Sequence[str]) -> Iterator[str]:
    """Say what of the source is left out or repeated.

    Args:
        checkpoint: the source.
        trained: the names of vectors that SAM 2 does not have and that were trained.

    Yields:
        The notes, a sentence each.
    """
    fit, keymap = checkpoint.fit, checkpoint.keymap
    yield from checkpoint.source.notes
    for name in fit.missing_copies:
        yield f"{name} was absent from the source; it is a copy of one that was there"
    constants = [name for name in keymap.constants if name in fit.names]
    if constants:
        yield f"left out, as SAM 2 has no such layer: {', '.join(constants)}"
    if trained:
        yield f"lost, though it was trained and other programs use it: {', '.join(trained)}"
    if checkpoint.extras:
        from ..checkpoint.inspect import left_out

        yield f"left out, not part of the model: {', '.join(left_out(checkpoint))}"


def notes_on_base(base: Checkpoint, names: Sequence[str]) -> Iterator[str]:
    """Say which tensors were taken from the base checkpoint.

    Args:
        base: the base checkpoint.
        names: canonical names of the tensors that were taken from it.

    Yields:
        A sentence, if there are any.
    """
    if names:
        groups = Counter(name.partition(".")[0] for name in names)
        listed = ", ".join(f"{group} ({count})" for group, count in groups.items())
        taken = counted(len(names), "tensor") + (" was" if len(names) == 1 else " were")
        yield f"{taken} taken from {base.source.path}: {listed}"


def notes_on_output(target: KeyMap, count: int, shipped: Shipped | None) -> Iterator[str]:
    """Say what the dialect of the output leaves out and adds.

    Args:
        target: the key map of the output.
        count: the number of tensors that the model was read with.
        shipped: the shipped config of the output, if it has one.

    Yields:
        The notes, a sentence each.
    """
    dialect = target.dialect
    left_out = count - sum(len(entry.canonical) for entry in target.entries)
    if target.dropped and left_out:
        kind = "of the memory" if dialect.task == "image" else "beside the trunk"
        yield f"{left_out} tensors {kind} are left out: {dialect.name} has none"
    if target.constants:
        yield f"added, as {dialect.name} asks for it: {', '.join(target.constants)}"
    for size, note in dialect.notes:
        if shipped is not None and shipped.size == size:
            yield note


def notes_on_assumptions(source: Checkpoint, complete: Checkpoint, *, sized: bool) -> Iterator[str]:
    """Say which settings in the config that is written are assumed.

    Args:
        source: the source.
        complete: the base that completes it, or the source itself.
        sized: whether an image size was asked for.

    Yields:
        A sentence, if anything is assumed.
    """
    trunk_alone = tells_trunk_alone(source)
    if source.config_from is None or trunk_alone:
        from ..checkpoint.inspect import untold

        yield from untold(complete, sized=sized)
    elif complete is not source and complete.config_from is None:
        yield ("the settings of the memory are those of the published model: no tensor tells them")
    if source.config and complete.config and not sized and not trunk_alone:
        size, other = source.config.image_size, complete.config.image_size
        if size != other:
            path = complete.source.path
            yield f"image size {size} is that of {source.source.path}; that of {path} is {other}"


def notes_on_yaml(dialect: Dialect, config: ModelConfig | None) -> Iterator[str]:
    """Say which settings no YAML can pass on to the official builders.

    Args:
        dialect: the dialect of the output.
        config: the config that is written.

    Yields:
        A sentence, if there are any.
    """
    if dialect is OFFICIAL and config is not None and replace(config, **BUILDERS) != config:
        yield (
            "the official builders set the multimask stability switches to other values: a model "
            "that they build may choose another of its masks"
        )


def notes_on_image_model(to: str | None, dialect: Dialect) -> Iterator[str]:
    """Say that an image model stays one, if that was not asked for.

    Args:
        to: the name of the dialect that was asked for.
        dialect: the dialect of the output.

    Yields:
        A sentence, if it is an image model.
    """
    if to in (None, *EITHER) and dialect is HF_IMAGE:
        yield "an image model, as it was: `to=hf-video` `base=CHECKPOINT` adds the memory"
