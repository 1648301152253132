"""State dicts that a file holds in lists: of several models, or of pairs of a name and a tensor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .source import Placeholder
from .tensor import TensorRef

_MANY = 16  # tensors by name: fewer are no state dict that is worth looking for in lists
_MAX_DEPTH = 4  # dicts and lists around a state dict


def with_lists_read(root: Any) -> Any:
    """Put dicts in the place of lists, in a file whose state dicts all stand in lists.

    A list of pairs becomes a dict of them, as ``list(model.state_dict().items())`` is one. Any
    other list or tuple with a state dict in it becomes a dict by number, so that keys lead to it.

    Args:
        root: The tree of values of a file.

    Returns:
        The tree; the same one if a state dict can be reached without any list.
    """
    return root if _in_dicts(root, 0) else _read(root, 0)


def _in_dicts(value: Any, depth: int) -> bool:
    """Whether a state dict can be reached through dicts alone."""
    if not isinstance(value, dict) or depth > _MAX_DEPTH:
        return False
    return _is_state_dict(value) or any(_in_dicts(one, depth + 1) for one in value.values())


def _is_state_dict(value: dict[Any, Any]) -> bool:
    """Whether it names many tensors, or what stands in their place, such as arrays of NumPy."""
    named = (isinstance(n, str) and _is_tensor(one) for n, one in value.items())
    return sum(named) >= _MANY


def _is_tensor(value: Any) -> bool:
    return isinstance(value, (TensorRef, Placeholder))


def _read(value: Any, depth: int) -> Any:
    if depth > _MAX_DEPTH:
        return value
    if isinstance(value, dict):
        return {key: _read(one, depth + 1) for key, one in value.items()}
    if not isinstance(value, (list, tuple)):
        return value
    pairs = [*_pairs(value)]
    if len(pairs) == len(dict(pairs)) == len(value) and _is_state_dict(dict(pairs)):
        return dict(pairs)
    items = {number: _read(one, depth + 1) for number, one in enumerate(value)}
    return items if any(_in_dicts(one, depth + 1) for one in items.values()) else value


def _pairs(items: list[Any] | tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
    """The items that are a name and a tensor."""
    for item in items:
        match item:
            case (str(name), value) if _is_tensor(value):
                yield name, value
