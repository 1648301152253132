"""A LoRA adapter as PEFT saves it: how it is recognised, and which tensors it changes.

Follows ``peft/tuners/lora`` (``layer.py``, ``model.py``) and ``peft/utils/save_and_load.py``.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import prod, sqrt
from pathlib import Path
from typing import Any

from ..errors import RefusedError, UnreadableError
from ..io.open import Source, open_source
from ..io.source import tensors_of
from ..io.tensor import WEIGHT_DTYPES, Factors, TensorRef
from ..io.text import read_json

ADAPTER_CONFIG = "adapter_config.json"
_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_PREFIX = "base_model.model."  # of every name in the file, before the name in the model
# PEFT leaves the name of the adapter, "default", out of files; state dicts saved by hand keep it.
_FACTOR = re.compile(
    r"(?P<module>.+)\.(?P<kind>lora_A|lora_B|lora_embedding_A|lora_embedding_B"
    r"|lora_magnitude_vector)(\.default)?(\.weight)?"
)
_WRAPPED = re.compile(r"\.(base_layer|modules_to_save(\.default)?)(?=\.)")
# Settings of LoRA variants that do not compute W + scale * B A.
_VARIANTS = (
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "layer_replication",
    "lora_bias",
    "monteclora_config",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_qalora",
)


@dataclass(frozen=True, slots=True)
class LoraChange:
    """The change of one tensor of the model.

    Attributes:
        names: the tensors of the adapter that make the change.
        how: factors whose product is added, or the tensor that replaces it.
    """

    names: tuple[str, ...]
    how: Factors | TensorRef


@dataclass(frozen=True)
class Adapter:
    """An opened adapter, header only.

    Attributes:
        source: its file or folder.
        settings: the content of ``adapter_config.json``.
        changes: name of a tensor in the model that the adapter was made for -> its change.
    """

    source: Source
    settings: Mapping[str, Any]
    changes: Mapping[str, LoraChange]

    def __str__(self) -> str:
        factors = [change.how for change in self.changes.values()]
        products = [how for how in factors if isinstance(how, Factors)]
        ranks = sorted({how.right.spec.shape[0] for how in products})
        targets = self.settings.get("target_modules")
        listed = targets if isinstance(targets, str) else ", ".join(sorted(map(str, targets or ())))
        kind = "DoRA" if any(how.magnitude for how in products) else "LoRA"
        text = (
            f"{kind} of rank {', '.join(map(str, ranks))}, alpha {self.settings['lora_alpha']}, on "
            f"{len(products)} layers ({_short(listed)})"
        )
        replaced = len(factors) - len(products)
        return f"{text}, and {replaced} whole tensors" if replaced else text


def refuse_adapter(path: Path) -> None:
    """Refuse an adapter where a model is wanted.

    Args:
        path: a file or folder.

    Raises:
        RefusedError: when ``path`` is an adapter. The hint is the command that merges it.
        UnreadableError: when it is a damaged adapter.
    """
    adapter = find_adapter(path)
    if adapter is None:
        return
    named = adapter.settings.get("base_model_name_or_path")
    trained = f", made for {_short(named)}" if named and isinstance(named, str) else ""
    raise RefusedError(
        f"{path}: is a PEFT adapter, not a model: {adapter}{trained}",
        hint=f"sam21convert convert {shlex.quote(str(path))} OUT --base {_base(named)} merges it "
        "into the model it was made for",
    )


def refuse_factors(path: Path, names: Iterable[str]) -> None:
    """Refuse a file that holds tensors of an adapter without the settings of one.

    Args:
        path: the file.
        names: the names of its tensors.

    Raises:
        RefusedError: when one of them is a LoRA factor.
    """
    if factor := next((name for name in names if _FACTOR.fullmatch(name)), None):
        raise RefusedError(
            f"{path}: holds {factor}, a tensor of an adapter, without the settings to merge it",
            hint=f"give the folder that PEFT saved, with {ADAPTER_CONFIG} and {_WEIGHTS[0]}",
        )


def find_adapter(path: Path) -> Adapter | None:
    """Open an adapter, if there is one.

    Args:
        path: the folder that PEFT saved, or the file of weights in it.

    Returns:
        The adapter; None when ``path`` is something else.

    Raises:
        UnreadableError: when its settings or tensors are not what PEFT writes.
        RefusedError: when it is of another kind than LoRA, or a variant that is not merged here.
    """
    home = path if path.is_dir() else path.parent
    if (path != home and path.name not in _WEIGHTS) or not (home / ADAPTER_CONFIG).exists():
        return None
    settings = read_json(home / ADAPTER_CONFIG)
    _check(home / ADAPTER_CONFIG, settings)
    weights = (
        path if path != home else next((home / w for w in _WEIGHTS if (home / w).exists()), None)
    )
    if weights is None:
        raise UnreadableError(
            f"{path}: an adapter without {' or '.join(_WEIGHTS)}",
            hint="copy or download the whole folder again",
        )
    source = open_source(weights)
    files = (home / ADAPTER_CONFIG, *source.files)
    source = replace(source, path=path, container="PEFT adapter", files=files)
    tensors = tensors_of(source.root)
    if tensors is None:
        raise UnreadableError(f"{weights}: holds no tensors by name")
    return Adapter(source, settings, _changes(weights, settings, tensors))


def _check(path: Path, settings: Mapping[str, Any]) -> None:
    """Raise unless these are the settings of an adapter that can be merged, of the right types."""
    kind = settings.get("peft_type")
    variants = [name for name in _VARIANTS if settings.get(name)]
    if kind != "LORA" or variants:
        what = f"with {', '.join(variants)}" if kind == "LORA" else f"of type {_short(kind)}"
        raise RefusedError(
            f"{path}: an adapter {what}, which this tool cannot merge",
            hint="merge it with PEFT's merge_and_unload(), save the model and convert that",
        )
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
            _check_number(path, f"{patterns} of {_short(pattern)}", number, whole=whole)
            _check_pattern(path, pattern)


def _check_pattern(path: Path, pattern: str) -> None:
    """Raise for a pattern that is invalid or that might match slowly."""
    if len(re.findall(r"[*+?{]", pattern)) > 3 or re.search(
        r"\)[*+?{]|\\[1-9]|\(\?|\d{5}", pattern
    ):
        raise RefusedError(
            f"{path}: the pattern {_short(pattern)} could take too long to match",
            hint="merge it with PEFT's merge_and_unload(), save the model and convert that",
        )
    try:
        re.compile(pattern)
    except re.error as error:
        raise UnreadableError(f"{path}: {_short(pattern)}: {error}") from error


def _check_number(path: Path, name: str, number: object, *, whole: bool) -> None:
    known = isinstance(number, int if whole else (int, float)) and not isinstance(number, bool)
    if not known or not whole <= abs(number) <= 1e9:  # type: ignore[arg-type]
        raise UnreadableError(f"{path}: {name} cannot be {_short(number)}")


def _changes(
    path: Path, settings: Mapping[str, Any], tensors: Mapping[str, TensorRef]
) -> dict[str, LoraChange]:
    """The change of each tensor of the model that the adapter changes."""
    factors: dict[str, dict[str, tuple[str, TensorRef]]] = {}
    changes: dict[str, LoraChange] = {}
    for name, ref in tensors.items():
        if ref.spec.dtype not in WEIGHT_DTYPES:
            raise UnreadableError(f"{path}: {name} is {ref.spec}, which is not a type of weights")
        short = name.removeprefix(_PREFIX)
        hit = _FACTOR.fullmatch(short)
        own = f"{hit['module']}.weight" if hit else _WRAPPED.sub("", short)
        if (hit and hit["kind"] in factors.get(own, ())) or (not hit and own in changes):
            raise UnreadableError(f"{path}: {name} and another tensor change the same tensor")
        if hit:
            factors.setdefault(own, {})[hit["kind"]] = (name, ref)
        elif any(part.startswith("lora_") for part in short.split(".")):
            raise RefusedError(
                f"{path}: {name} belongs to a variant of LoRA that this tool cannot merge"
            )
        else:
            changes[own] = LoraChange((name,), ref)
    if not factors and not changes:
        raise UnreadableError(f"{path}: holds no tensors")
    for own, found in factors.items():
        if own in changes:
            raise UnreadableError(f"{path}: {own} is both replaced and changed")
        names = tuple(name for name, _ in found.values())
        refs = {kind: ref for kind, (_, ref) in found.items()}
        changes[own] = LoraChange(
            names, _factors(path, settings, own.removesuffix(".weight"), refs)
        )
    return changes


def _factors(
    path: Path, settings: Mapping[str, Any], module: str, refs: Mapping[str, TensorRef]
) -> Factors:
    """The factors of one module. Those of an embedding are transposed.

    The setting ``fan_in_fan_out`` is for layers that SAM 2 does not have. PEFT ignores it there.
    """
    magnitude = refs.get("lora_magnitude_vector")
    if (magnitude is not None) != bool(settings.get("use_dora")):
        raise UnreadableError(
            f"{path}: {module} has {', '.join(sorted(refs))}, which contradicts use_dora in "
            f"{ADAPTER_CONFIG}"
        )
    match refs:
        case {"lora_A": right, "lora_B": left} if len(refs) == 2 + (magnitude is not None):
            pass
        case {"lora_embedding_A": down, "lora_embedding_B": up} if len(refs) == 2:
            if {len(down.spec.shape), len(up.spec.shape)} != {2}:
                raise UnreadableError(f"{path}: the factors of {module} are not matrices")
            left, right = down.permuted((1, 0)), up.permuted((1, 0))
        case _:
            raise RefusedError(
                f"{path}: {module} has {', '.join(sorted(refs))}, which this tool cannot merge",
                hint="a layer has lora_A and lora_B, and for DoRA lora_magnitude_vector",
            )
    rank = _setting(settings, "rank_pattern", "r", module)
    rows, columns = left.spec.shape, right.spec.shape
    if len(rows) < 2 or prod(rows[1:]) != rank or not columns or columns[0] != rank:
        raise UnreadableError(
            f"{path}: the factors of {module} are {left.spec} and {right.spec}, but "
            f"{ADAPTER_CONFIG} states rank {rank}"
        )
    alpha = _setting(settings, "alpha_pattern", "lora_alpha", module)
    scale = alpha / (sqrt(rank) if settings.get("use_rslora") else rank)
    return Factors(left, right, scale, magnitude)


def _setting(settings: Mapping[str, Any], patterns: str, usual: str, module: str) -> Any:
    """The setting of one module: that of the first pattern that matches the end of its name."""
    for pattern, value in (settings.get(patterns) or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return settings[usual]


def _base(named: object) -> str:
    """The model that an adapter was made for, as an argument for ``--base``."""
    if not isinstance(named, str) or not named.isprintable() or len(named) > 120:
        return "CHECKPOINT"
    if re.fullmatch(r"[\w.-]+/[\w.-]+", named) and not Path(named).exists():
        return f"hf://{named}"
    return shlex.quote(named) if Path(named).exists() else "CHECKPOINT"


def _short(value: object) -> str:
    """A value from a file, shortened and printable."""
    text = value if isinstance(value, str) and value.isprintable() else repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
