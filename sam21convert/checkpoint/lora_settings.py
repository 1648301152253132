"""The settings of a LoRA adapter, ``adapter_config.json``: what each field means for a merge.

Follows ``peft/tuners/lora/config.py`` and ``layer.py`` of PEFT 0.21. A field that is in none of the
tables here is one of a newer PEFT, and is refused unless it is empty.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import sqrt
from pathlib import Path
from typing import Any

from ..errors import RefusedError, UnreadableError
from ..io.tensor import Start

ADAPTER_CONFIG = "adapter_config.json"

# What the merge is computed from.
USED = {
    "alpha_pattern",
    "init_lora_weights",
    "lora_alpha",
    "peft_type",
    "r",
    "rank_pattern",
    "use_dora",
    "use_rslora",
}
# What changes nothing of what is merged. Which layers are changed, the tensors tell; and how a
# training began or went on, its result does not depend on.
IGNORED = {
    "auto_mapping",
    "base_model_name_or_path",
    "bias",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "fan_in_fan_out",  # for layers that SAM 2 does not have; PEFT ignores it for linear layers
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_dropout",
    "lora_ga_config",
    "megatron_config",
    "megatron_core",
    "modules_to_save",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
    "velora_config",  # the backward pass alone
}
# Variants of LoRA that do not compute W + scale * B A, and whether PEFT can merge them.
REFUSED = {
    "alora_invocation_tokens": False,
    "arrow_config": False,
    "kasa_config": True,
    "layer_replication": False,
    "lora_bias": True,
    "monteclora_config": True,
    "target_parameters": True,
    "trainable_token_indices": True,
    "use_bdlora": True,
    "use_qalora": False,
}
# How the factors began: only B A is learned, and the weight stays as it was.
_PLAIN_STARTS = {"gaussian", "eva", "orthogonal", "mica"}

BY_PEFT = (
    "PEFT can: PeftModel.from_pretrained(model, ADAPTER).merge_and_unload().save_pretrained(OUT); "
    "convert OUT"
)
WHILE_TRAINED = (
    "in the program that trained it: model.merge_and_unload().save_pretrained(OUT); convert OUT"
)


def check_settings(path: Path, settings: Mapping[str, Any]) -> None:
    """Check the settings of an adapter.

    Args:
        path: the file that they are from.
        settings: its content.

    Raises:
        UnreadableError: when a setting is not of the type that PEFT writes.
        RefusedError: when it is an adapter of another kind, or a field asks for something that is
            not merged here, or that this tool does not know.
    """
    if (kind := settings.get("peft_type")) != "LORA":
        raise RefusedError(
            f"{path}: an adapter of type {short(kind)}, which this tool cannot merge", hint=BY_PEFT
        )
    for name, value in settings.items():
        if value and name in REFUSED:
            raise RefusedError(
                f"{path}: an adapter with {short(name)}={short(value)}, which this tool cannot "
                "merge",
                hint=BY_PEFT if REFUSED[name] else None,
            )
        if value and name not in USED | IGNORED:
            raise RefusedError(
                f"{path}: {short(name)}={short(value)} is a setting that this tool does not know",
                hint=BY_PEFT,
            )
    start_of(path, settings)
    if not isinstance(settings.get("target_modules"), (list, str, type(None))):
        raise UnreadableError(f"{path}: target_modules is neither a list nor a pattern")
    for name, patterns, whole in (
        ("r", "rank_pattern", True),
        ("lora_alpha", "alpha_pattern", False),
    ):
        _check_number(path, name, settings.get(name), whole=whole)
        table = settings.get(patterns) or {}
        if not isinstance(table, dict):
            raise UnreadableError(f"{path}: {patterns} is not a map")
        for pattern, number in table.items():
            _check_number(path, f"{patterns} of {short(pattern)}", number, whole=whole)
            _check_pattern(path, pattern)


def start_of(path: Path, settings: Mapping[str, Any]) -> Start | None:
    """Tell what PEFT takes off the weights when it loads an adapter.

    ``pissa`` and ``olora`` start with a part of the weight, which is taken off it. PEFT does the
    same when it loads the adapter, and does not save the rest. ``pissa_niter_N`` draws random
    numbers for it, and ``corda``, ``loftq`` and ``lora_ga`` need data that the adapter does not
    hold.

    Args:
        path: the file of the settings.
        settings: its content.

    Returns:
        What is taken off; None for an adapter that leaves the weights as they are.

    Raises:
        RefusedError: when it cannot be computed again.
    """
    value = settings.get("init_lora_weights")
    if value is None or isinstance(value, bool):
        return None
    name = value.lower() if isinstance(value, str) else ""
    if name in _PLAIN_STARTS:
        return None
    if value == "pissa":
        return "pissa"
    if name == "olora":
        return "olora"
    raise RefusedError(
        f"{path}: init_lora_weights={short(value)} changed the weights when the training began, "
        "and the adapter does not hold what they were changed to",
        hint=WHILE_TRAINED,
    )


def scale_of(settings: Mapping[str, Any], module: str) -> tuple[int, float]:
    """Tell the rank of the factors of a module, and the number that their product is scaled by.

    Args:
        settings: the settings, checked.
        module: the name of the module in the model.

    Returns:
        The rank and the scale.
    """
    rank = _setting(settings, "rank_pattern", "r", module)
    alpha = _setting(settings, "alpha_pattern", "lora_alpha", module)
    return rank, alpha / (sqrt(rank) if settings.get("use_rslora") else rank)


def short(value: object) -> str:
    """Give a value from a file so that it can be printed.

    Args:
        value: the value.

    Returns:
        Its text, at most 120 printable characters.
    """
    text = value if isinstance(value, str) and value.isprintable() else repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def _setting(settings: Mapping[str, Any], patterns: str, usual: str, module: str) -> Any:
    """The setting of one module: that of the first pattern that matches the end of its name."""
    for pattern, value in (settings.get(patterns) or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return settings[usual]


def _check_pattern(path: Path, pattern: str) -> None:
    """Raise for a pattern that is invalid or that might match slowly."""
    if len(re.findall(r"[*+?{]", pattern)) > 3 or re.search(
        r"\)[*+?{]|\\[1-9]|\(\?|\d{5}", pattern
    ):
        raise RefusedError(
            f"{path}: the pattern {short(pattern)} could take too long to match", hint=BY_PEFT
        )
    try:
        re.compile(pattern)
    except re.error as error:
        raise UnreadableError(f"{path}: {short(pattern)}: {error}") from error


def _check_number(path: Path, name: str, number: object, *, whole: bool) -> None:
    known = isinstance(number, int if whole else (int, float)) and not isinstance(number, bool)
    if not known or not whole <= abs(number) <= 1e9:  # type: ignore[arg-type]
        raise UnreadableError(f"{path}: {name} cannot be {short(number)}")
