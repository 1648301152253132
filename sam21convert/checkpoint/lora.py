"""A LoRA adapter as PEFT saves it: what it is, and what it changes.

Source: ``peft/tuners/lora`` (``layer.py``, ``model.py``) and ``peft/utils/save_and_load.py``.
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
_PREFIX = "base_model.model."  # of every name, before that in the model
# The adapter's name, "default", is left out of files by PEFT, and in by those who save by hand.
_FACTOR = re.compile(
    r"(?P<module>.+)\.(?P<kind>lora_A|lora_B|lora_embedding_A|lora_embedding_B"
    r"|lora_magnitude_vector)(\.default)?(\.weight)?"
)
_WRAPPED = re.compile(r"\.(base_layer|modules_to_save(\.default)?)(?=\.)")
# Settings of variants of LoRA that compute something else than W + scale * B A.
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
    """What happens to a tensor: factors are added to it, or another is put in its place.

    ``names`` are those of the tensors of the adapter that do so.
    """

    names: tuple[str, ...]
    how: Factors | TensorRef


@dataclass(frozen=True)
class Adapter:
    """An opened adapter, header only. ``changes`` goes by the names of tensors in its model."""

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
        whole = len(factors) - len(products)
        return f"{text}, and {whole} whole tensors" if whole else text


def refuse_adapter(path: Path) -> None:
    """Raise :class:`RefusedError` with the command to use where ``path`` is an adapter."""
    adapter = find_adapter(path)
    if adapter is None:
        return
    named = adapter.settings.get("base_model_name_or_path")
    trained = f", made for {_short(named)}" if named and isinstance(named, str) else ""
    raise RefusedError(
        f"{path}: is an adapter of PEFT and not a model: {adapter}{trained}",
        hint=f"sam21convert convert {shlex.quote(str(path))} OUT --base {_base(named)} merges it "
        "into the model it was made for",
    )


def refuse_factors(path: Path, names: Iterable[str]) -> None:
    """Raise :class:`RefusedError` where tensors of a file that is no adapter are of one."""
    if factor := next((name for name in names if _FACTOR.fullmatch(name)), None):
        raise RefusedError(
            f"{path}: holds {factor}, and nothing beside it tells how an adapter is to be merged",
            hint=f"give the folder that PEFT saved, with {ADAPTER_CONFIG} and {_WEIGHTS[0]}",
        )


def find_adapter(path: Path) -> Adapter | None:
    """The adapter that ``path`` is, a folder or a file of it; None where it is none.

    Raises :class:`UnreadableError` when it is not what PEFT writes, and :class:`RefusedError` when
    it is of another kind than LoRA.
    """
    home = path if path.is_dir() else path.parent
    if (path != home and path.name not in _WEIGHTS) or not (home / ADAPTER_CONFIG).is_file():
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
    """Whether these settings are of an adapter that can be merged, and of the types they have."""
    kind = settings.get("peft_type")
    variants = [name for name in _VARIANTS if settings.get(name)]
    if kind != "LORA" or variants:
        what = f"with {', '.join(variants)}" if kind == "LORA" else f"of type {_short(kind)}"
        raise RefusedError(
            f"{path}: an adapter {what}, which is not merged here",
            hint="merge it with merge_and_unload() of PEFT, and convert what that saves",
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
    """Whether it is one, and no name can take it long: few repeats, and none of a group."""
    if len(re.findall(r"[*+?{]", pattern)) > 3 or re.search(
        r"\)[*+?{]|\\[1-9]|\(\?|\d{5}", pattern
    ):
        raise RefusedError(
            f"{path}: the pattern {_short(pattern)} could take for ever",
            hint="merge it with merge_and_unload() of PEFT, and convert what that saves",
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
    """What each tensor of the adapter is for."""
    factors: dict[str, dict[str, tuple[str, TensorRef]]] = {}
    changes: dict[str, LoraChange] = {}
    for name, ref in tensors.items():
        if ref.spec.dtype not in WEIGHT_DTYPES:
            raise UnreadableError(f"{path}: {name} is {ref.spec}, which is no type of weights")
        short = name.removeprefix(_PREFIX)
        hit = _FACTOR.fullmatch(short)
        own = f"{hit['module']}.weight" if hit else _WRAPPED.sub("", short)
        if (hit and hit["kind"] in factors.get(own, ())) or (not hit and own in changes):
            raise UnreadableError(f"{path}: {name} and another tensor are for the same")
        if hit:
            factors.setdefault(own, {})[hit["kind"]] = (name, ref)
        elif any(part.startswith("lora_") for part in short.split(".")):
            raise RefusedError(f"{path}: {name} is of a variant of LoRA that is not merged here")
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
    """The factors of one module; an embedding holds its weight the other way round.

    The setting ``fan_in_fan_out`` is of layers that SAM 2 has not: PEFT passes over it, as we do.
    """
    magnitude = refs.get("lora_magnitude_vector")
    if (magnitude is not None) != bool(settings.get("use_dora")):
        raise UnreadableError(
            f"{path}: {module} has {', '.join(sorted(refs))}, which is not what use_dora in "
            f"{ADAPTER_CONFIG} says"
        )
    match refs:
        case {"lora_A": right, "lora_B": left} if len(refs) == 2 + (magnitude is not None):
            pass
        case {"lora_embedding_A": down, "lora_embedding_B": up} if len(refs) == 2:
            if {len(down.spec.shape), len(up.spec.shape)} != {2}:
                raise UnreadableError(f"{path}: the factors of {module} are no matrices")
            left, right = down.permuted((1, 0)), up.permuted((1, 0))
        case _:
            raise RefusedError(
                f"{path}: {module} has {', '.join(sorted(refs))}, which is not merged here",
                hint="a layer has lora_A and lora_B, and for DoRA lora_magnitude_vector",
            )
    rank = _setting(settings, "rank_pattern", "r", module)
    rows, columns = left.spec.shape, right.spec.shape
    if len(rows) < 2 or prod(rows[1:]) != rank or not columns or columns[0] != rank:
        raise UnreadableError(
            f"{path}: the factors of {module} are {left.spec} and {right.spec}, and not of rank "
            f"{rank}, which {ADAPTER_CONFIG} states"
        )
    alpha = _setting(settings, "alpha_pattern", "lora_alpha", module)
    scale = alpha / (sqrt(rank) if settings.get("use_rslora") else rank)
    return Factors(left, right, scale, magnitude)


def _setting(settings: Mapping[str, Any], patterns: str, usual: str, module: str) -> Any:
    """The setting of one module: of the first pattern that fits the end of its name, if any."""
    for pattern, value in (settings.get(patterns) or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return settings[usual]


def _base(named: object) -> str:
    """What to write for the model that an adapter says it was made for."""
    if not isinstance(named, str) or not named.isprintable() or len(named) > 120:
        return "CHECKPOINT"
    if re.fullmatch(r"[\w.-]+/[\w.-]+", named) and not Path(named).exists():
        return f"hf://{named}"
    return shlex.quote(named) if Path(named).exists() else "CHECKPOINT"


def _short(value: object) -> str:
    """What a file says, fit to be printed."""
    text = value if isinstance(value, str) and value.isprintable() else repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
