"""Modules that were pickled whole, as ``torch.save(model)`` does: their tensors by name.

Follows ``state_dict()`` of ``torch/nn/modules/module.py``. What a module holds stands in three of
its attributes, which the reader of pickles keeps, so no class is needed and nothing runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..errors import RefusedError
from .pickle.load import BUFFERS, MODULES, NOT_SAVED, PARAMETERS, Instance

_MAX_NAMES = 32 * 2**20  # characters of all names of a file: a module may stand in many places
_PACKED = "_packed_params"  # holds quantised weights elsewhere than in tensors
_SHOWN = 3  # modules that notes name
_MAX_DEPTH = 4  # dicts and lists around a module


def with_modules_read(root: Any) -> tuple[Any, tuple[str, ...]]:
    """Put a state dict in the place of each module that a file holds.

    Args:
        root: The tree of values of a file. Modules are looked for in nested dicts and lists.

    Returns:
        The tree with a dict of tensors by name for each module, and a note about each.

    Raises:
        RefusedError: If the names of the tensors take too much memory, or two are equal.
    """
    notes: list[str] = []
    read = _read(root, (), [_MAX_NAMES], {}, notes)
    if len(notes) > _SHOWN:
        notes[_SHOWN:] = [f"{len(notes) - _SHOWN} more pickled modules were read so"]
    return read, tuple(notes)


def _read(
    value: Any,
    keys: tuple[str, ...],
    left: list[int],
    done: dict[int, Any],
    notes: list[str],
) -> Any:
    if id(value) in done:
        return done[id(value)]
    if isinstance(value, Instance) and value.state:
        where = f"under {'.'.join(keys)[:100]} is" if keys else "the file is"
        notes.append(
            f"{where} a pickled module of {value.name}; its tensors were read without running it"
        )
        found: dict[str, Any] = {}
        for name, tensor in _tensors(value, ""):
            left[0] -= len(name)
            if left[0] < 0:
                raise RefusedError("the names of the tensors in its modules take too much memory")
            if name in found:
                raise RefusedError(f"a pickled module holds {name[:100]!r} twice")
            found[name] = tensor
        done[id(value)] = found
    elif type(value) in (dict, list) and len(keys) < _MAX_DEPTH:
        done[id(value)] = value
        for key, inner in value.items() if type(value) is dict else enumerate(value):
            if isinstance(inner, (dict, list, tuple, Instance)):
                value[key] = _read(inner, (*keys, str(key)), left, done, notes)
    elif type(value) is tuple and len(keys) < _MAX_DEPTH:
        done[id(value)] = tuple(
            _read(inner, (*keys, str(number)), left, done, notes)
            for number, inner in enumerate(value)
        )
    return done.get(id(value), value)


def _tensors(module: Instance, prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield what ``state_dict()`` would hold, in its order."""
    state = module.state
    not_saved = state.get(NOT_SAVED)
    passed_by = not_saved if isinstance(not_saved, set) else ()
    for kind in (PARAMETERS, BUFFERS):
        for name, tensor in state[kind].items():
            if tensor is not None and (kind == PARAMETERS or name not in passed_by):
                yield f"{prefix}{name}", tensor
    for name, inner in state[MODULES].items():
        if isinstance(inner, Instance) and inner.state and name != _PACKED:
            yield from _tensors(inner, f"{prefix}{name}.")
        elif inner is not None:
            yield f"{prefix}{name}", inner  # not a module that is known: named if it is missed
