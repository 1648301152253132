"""Files that a training writes beside the weights, and that hold no model.

The names and contents are those of ``Trainer`` (``transformers/trainer.py``), ``accelerate``
(``checkpointing.py``) and ``torch.optim``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from .source import Placeholder, tensors_of

_OPTIMIZER = "the state of an optimizer"
_SCHEDULER = "the state of a learning rate scheduler"
_RANDOM = "the state of random number generators"
_SCALER = "the state of a gradient scaler"
_ARGUMENTS = "the arguments of a training"
_SAMPLER = "the state of a data loader"
_MANY = 16  # tensors by name: no file of these kinds has as many
_DEEPEST = 4

_BY_NAME: tuple[tuple[str, str], ...] = (
    (r"optimizer(_\d+)?\.(pt|pth|bin|safetensors)", _OPTIMIZER),
    (r"(lr_)?scheduler(_\d+)?\.(pt|pth|bin)", _SCHEDULER),
    (r"rng_state(_\d+)?\.pth|random_states_\d+\.pkl", _RANDOM),
    (r"scaler\.(pt|pth|bin)", _SCALER),
    (r"training_args\.bin", _ARGUMENTS),
    (r"(sampler|dl_state_dict)(_\d+)?\.bin", _SAMPLER),
    (r"trainer_state\.json", "the log of a training"),
    (r"meta\.pt", "what Lightning notes of a training"),
    (r".*\.distcp|\.metadata", "a part of a folder of torch.distributed.checkpoint"),
    (r"([a-z]+_)*config\.json", "a config"),
    (r"custom_checkpoint_\d+\.pkl", "the state of an object of a training"),
)


def is_side_file(name: str) -> bool:
    """Whether a file has the name of one that a training writes beside the weights.

    Args:
        name: The name of the file, without its folder.

    Returns:
        True for ``optimizer.pt``, ``training_args.bin``, ...
    """
    return named_as(name) is not None


def named_as(name: str) -> str | None:
    """Say what a file is by the name that libraries give it.

    Args:
        name: The name of the file, without its folder.

    Returns:
        What it is, with its article; None for any other name.
    """
    return next((what for pattern, what in _BY_NAME if re.fullmatch(pattern, name)), None)


def known_as(name: str, root: Any) -> str | None:
    """Say what an opened file is, if it is one that a training writes beside the weights.

    Args:
        name: The name of the file or folder, without those above it.
        root: What it holds. This decides; the name counts only if there are hardly any tensors.

    Returns:
        What it is, with its article; None if it may be a model.
    """
    if isinstance(root, dict):
        keys = {str(key) for key in root}
        known = next((what for what, fits in _BY_CONTENT if fits(keys, root)), None)
        if known is not None:
            return known
    if isinstance(root, Placeholder) and re.search(r"TrainingArguments$|training_args", root.name):
        return _ARGUMENTS
    what = named_as(name)
    return what if what is not None and not _has_many_tensors(root) else None


def _is_optimizer(keys: set[str], root: Any) -> bool:
    if keys and len(keys) == 1:  # as accelerate writes it with FSDP
        (inside,) = root.values()
        named = all(re.fullmatch(r"optim(izer)?(_\d+)?", key) for key in keys)
        return named and isinstance(inside, dict) and "state" in inside and len(inside) <= 2
    flat = re.compile(r"optim(izer)?(_\d+)?\.(state|param_groups)\.")
    return keys == {"state", "param_groups"} or (bool(keys) and all(map(flat.match, keys)))


_BY_CONTENT: tuple[tuple[str, Callable[[set[str], Any], bool]], ...] = (
    (_OPTIMIZER, _is_optimizer),
    (
        _SCHEDULER,
        lambda keys, _: "last_epoch" in keys and bool(keys & {"_step_count", "num_bad_epochs"}),
    ),
    (_SCALER, lambda keys, _: {"scale", "growth_factor", "backoff_factor"} <= keys),
    (
        _RANDOM,
        lambda keys, _: (
            {"python", "numpy", "cpu"} <= keys or {"random_state", "torch_manual_seed"} <= keys
        ),
    ),
)


def _has_many_tensors(root: Any) -> bool:
    """Whether any dict in it holds many tensors by name."""
    seen: set[int] = set()
    waiting = [(root, 0)]
    for node, depth in waiting:
        if isinstance(node, dict) and id(node) not in seen and depth <= _DEEPEST:
            seen.add(id(node))
            if len(tensors_of(node) or ()) >= _MANY:
                return True
            waiting += [(value, depth + 1) for value in node.values() if isinstance(value, dict)]
    return False
