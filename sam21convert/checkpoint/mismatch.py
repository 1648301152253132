"""Say in words how a checkpoint and a config do not fit, and what would fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..config.registry import SHIPPED
from ..dialects import DIALECTS
from ..dialects.keymap import Fit
from ..dialects.rules import Dialect
from ..errors import MismatchError, call_of
from ..io.folding import fold
from ..io.tensor import FLOAT8_DTYPES, WEIGHT_DTYPES
from ..report import counted
from .drop import drop_options, is_within
from .open import Checkpoint, shipped_keymap
from .parts import folded, names_of
from .safety.report import with_harm

_SHOWN = 3
_WHOLE = "from a complete checkpoint of the same size"


def mismatch(checkpoint: Checkpoint) -> MismatchError:
    """Make the error for a checkpoint that does not fit.

    Args:
        checkpoint: a checkpoint that is not identified, or whose ``fit`` has faults.

    Returns:
        The error, to be raised. It also says what in the file could do harm.
    """
    lines = [f"{checkpoint.source.path} does not fit {_asked(checkpoint)}"]
    if checkpoint.parts:
        lines = [f"{checkpoint.source.path} {part_text(checkpoint)}"]
    if checkpoint.fit is not None:
        fit = replace(checkpoint.fit, missing=()) if checkpoint.parts else checkpoint.fit
        lines += [f"  {line}" for line in describe(fit)]
    error = MismatchError("\n".join(lines), hint=hint(checkpoint))
    return with_harm(error, checkpoint.source.path)


def part_text(checkpoint: Checkpoint) -> str:
    """Say which parts of a model a checkpoint holds.

    Args:
        checkpoint: a checkpoint with ``parts``.

    Returns:
        A clause, such as "holds only the mask decoder of a SAM 2 (dialect 'official')".
    """
    *others, last = [f"the {part}" for part in checkpoint.parts]
    listed = f"{', '.join(others)} and {last}" if others else last
    return f"holds only {listed} of a SAM 2 ({_dialect(checkpoint)})"


def describe(fit: Fit) -> list[str]:
    """Describe the faults of a fit.

    Args:
        fit: how the tensors compare.

    Returns:
        A line for each kind of fault, with the names folded; none when everything fits.
    """
    lines = []
    for kind, names in (("missing", fit.missing), ("unexpected", fit.unexpected)):
        if names:
            lines.append(f"{kind:<11} {len(names):>4}   {_listed(fold(names), 'groups')}")
    if fit.mismatched:
        shown = [f"{name}: expected {want}, found {has}" for name, want, has in fit.mismatched]
        lines.append(f"{'mismatched':<11} {len(shown):>4}   {_listed(shown, '')}")
    if fit.wrong_type:
        shown = [f"{name} is {has.dtype}" for name, has in fit.wrong_type]
        lines.append(f"{'wrong type':<11} {len(shown):>4}   {_listed(shown, '')}")
    return lines


def hint(checkpoint: Checkpoint) -> str:
    """Say what would fit, if a shipped config comes near.

    Args:
        checkpoint: a checkpoint that does not fit.

    Returns:
        A hint in one line.
    """
    path = "..." if checkpoint.source.container == "memory" else checkpoint.source.path
    completed = call_of("convert", path, "base=CHECKPOINT")
    if checkpoint.fit is not None and checkpoint.fit.faults == 0:
        written = call_of("convert", path)
        return f"{written} writes a new folder, with the names that transformers loads"
    of_types = _about_types(checkpoint)
    if of_types is not None:
        return of_types
    own = _own_tensors(checkpoint)
    if own is not None:
        return own
    if checkpoint.parts and (checkpoint.fit is None or _lacks_only(checkpoint.fit)):
        return f"{completed} takes the rest {_WHOLE}"
    inventory = checkpoint.inventory
    tried = (
        (shipped_keymap(dialect, shipped).fit(inventory), dialect, shipped)
        for dialect in DIALECTS
        for shipped in SHIPPED
    )
    fit, dialect, shipped = min(tried, key=lambda one: _far(one[0]))
    asked = checkpoint.generation if checkpoint.config is not None else None
    if fit.faults == 0 and asked not in (None, shipped.generation):
        names = "no_obj_embed_spatial, obj_ptr_tpos_proj.weight and obj_ptr_tpos_proj.bias"
        newer = shipped.generation == "2.1"
        raised = call_of("convert", path, f"config={shipped.name}", "generation=2.1")
        return (
            f"this is a SAM {shipped.generation} checkpoint: it {'has' if newer else 'lacks'} "
            f"{names}, the three tensors that SAM 2.1 adds; use `config={shipped.name}`"
            + ("" if newer else f"; {raised} makes it a SAM 2.1")
        )
    nearest = f"dialect '{dialect.name}' with config '{shipped.name}'"
    if fit.faults == 0:
        return f"every tensor fits {nearest}: use `config={shipped.name}`"
    if fit.names and _lacks_only(fit):
        return (
            f"every tensor that is there fits dialect '{dialect.name}': {completed} takes those "
            f"that are missing {_WHOLE}"
        )
    if fit.faults < len(inventory) / 2:
        differing = counted(fit.faults, "tensor") + (" differs" if fit.faults == 1 else " differ")
        return f"nearest is {nearest}: {differing}"
    return "nothing near SAM 2 or SAM 2.1 in any dialect this tool knows"


def _about_types(checkpoint: Checkpoint) -> str | None:
    """What to do about tensors of types that no model runs in, if they are what is wrong."""
    no_floats = _no_floats(checkpoint)
    if no_floats:
        more = f" and {len(no_floats) - 1} more hold" if no_floats[1:] else " holds"
        return (
            f"{no_floats[0]}{more} no floats, as in quantised weights, which need their scales: "
            "dequantise them in the program that wrote this and save that, or give the checkpoint "
            "that they were quantised from"
        )
    fit = checkpoint.fit
    small = [spec for _, spec in fit.wrong_type if spec.dtype in FLOAT8_DTYPES] if fit else []
    if fit is None or not small or fit.faults > len(small) + len(fit.missing):
        return None
    base = ["base=CHECKPOINT"] if fit.missing else []
    cast = call_of("convert", checkpoint.source.path, *base, "dtype=float32")
    others = "does" if any(spec.dtype == "F8_E8M0" for spec in small) else "do float16 and"
    return (
        f"no model runs in these types of 8 bits: {cast} casts them, exactly; so {others} bfloat16"
        + (f"; what is missing is taken {_WHOLE}" if base else "")
    )


def _no_floats(checkpoint: Checkpoint) -> list[str]:
    """Tensors of the model that hold integers, or other numbers that no weight is."""
    known = names_of(checkpoint.dialect) if checkpoint.dialect else frozenset[str]()
    return [
        name
        for name, spec in checkpoint.inventory.items()
        if spec.dtype not in WEIGHT_DTYPES | FLOAT8_DTYPES and folded(name) in known
    ]


def _own_tensors(checkpoint: Checkpoint) -> str | None:
    """What to do about tensors that no SAM 2 has in this dialect, if they are what is wrong."""
    dialect, fit = checkpoint.dialect, checkpoint.fit
    if dialect is None or (fit and (fit.mismatched or fit.wrong_type)):
        return None
    own = [n for n in checkpoint.tensors if folded(n) not in names_of(dialect)]
    if not own or (fit and len(own) < len(fit.unexpected)):
        return None
    within = [name for name in own if is_within(name, dialect)]
    if within:
        return (
            f"{', '.join(fold(within)[:_SHOWN])} stands within a module of SAM 2, and without it "
            "this would be another model: use it with the code that trained it"
        )
    options = drop_options(own, dialect)
    if not options:
        return "the other tensors are not part of SAM 2: save the state dict without them"
    lacks = bool(checkpoint.parts) or fit is None or bool(fit.missing)
    if lacks:
        both = call_of("convert", checkpoint.source.path, *options, "base=CHECKPOINT")
        return f"{both} leaves out what is not part of SAM 2, and takes what is missing {_WHOLE}"
    return " ".join(f"`{one}`" for one in options) + " leaves out what is not part of SAM 2"


def _lacks_only(fit: Fit) -> bool:
    return fit.faults == len(fit.missing)


def _far(fit: Fit) -> tuple[bool, int]:
    """Sort key: fits where every tensor has a place come first, then those with fewer faults."""
    return not fit.names or not _lacks_only(fit), fit.faults


def _dialect(checkpoint: Checkpoint) -> str:
    return f"dialect '{checkpoint.dialect.name}'" if checkpoint.dialect else "any dialect"


def _asked(checkpoint: Checkpoint) -> str:
    dialect = _dialect(checkpoint)
    if checkpoint.config_from is not None:
        return f"{dialect} with config '{checkpoint.config_from}'"
    if checkpoint.shipped is not None:
        return f"{dialect} with config '{checkpoint.shipped.name}'"
    return f"{dialect} with any shipped config"


def _listed(items: Sequence[str], what: str) -> str:
    more = len(items) - _SHOWN
    tail = f"  ... {more} more {what}".rstrip() if more > 0 else ""
    return "  ".join(items[:_SHOWN]) + tail


def missing_text(dialect: Dialect, count: int, generation: str | None = "") -> str:
    """Say what a checkpoint is that lacks some tensors.

    Args:
        dialect: its dialect.
        count: the number of tensors that are missing, for a SAM 2.1.
        generation: its generation; None when it is unknown, which gives the number for both.

    Returns:
        A clause, such as "an image model: 150 tensors of the memory are missing".
    """
    number = f"{count} (SAM 2.1) or {count - 3} (SAM 2)" if generation is None else str(count)
    whole = {"image": "an image model", "trunk": "a trunk alone", "video": "a part of a model"}
    missing = "of the memory" if dialect.task == "image" else "of the model"
    return f"{whole[dialect.task]}: {number} tensors {missing} are missing"
