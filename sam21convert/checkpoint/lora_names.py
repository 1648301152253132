"""The names that PEFT gives the tensors of a LoRA, and what each changes in the model.

Follows ``peft/tuners/lora`` (``layer.py``, ``model.py``), ``peft/utils/save_and_load.py`` and, for
layers that are trained as a whole, ``peft/utils/other.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from ..errors import RefusedError, UnreadableError
from ..io.tensor import WEIGHT_DTYPES, Factors, Start, TensorRef
from .lora_settings import ADAPTER_CONFIG, WHILE_TRAINED

PREFIX = "base_model.model."  # of every name in a file of PEFT, before the name in the model
# PEFT leaves the name of the adapter, "default", out of files; state dicts saved by hand keep it.
_FACTOR = re.compile(
    r"(?P<module>.+)\.(?P<kind>lora_A|lora_B|lora_embedding_A|lora_embedding_B"
    r"|lora_magnitude_vector)(\.(?P<adapter>(?!weight$)[^.]+))?(\.weight)?"
)
_WHOLE = re.compile(r"\.modules_to_save(?:\.(?P<adapter>[^.]+)(?=\.))?(?=\.)")
_STALE = ".original_module."  # what a layer was before it was trained as a whole
_BASE_LAYER = re.compile(r"\.base_layer(?=\.)")
_BACKWARD = re.compile(r"\.lora_velora_embed(?=\.|$)")  # only the backward pass uses it


@dataclass(frozen=True, slots=True)
class LoraChange:
    """The change of one tensor of the model.

    Attributes:
        names: the tensors of the adapter that make the change.
        how: the updates that are added, or the tensor that replaces it.
    """

    names: tuple[str, ...]
    how: tuple[Factors, ...] | TensorRef


@dataclass(frozen=True, slots=True)
class Repeat:
    """Two tensors of an adapter that replace the same tensor, so that they must be equal.

    Attributes:
        names: their names.
        refs: where they lie.
    """

    names: tuple[str, str]
    refs: tuple[TensorRef, TensorRef]


@dataclass(frozen=True, slots=True)
class LoraTensors:
    """The tensors of an adapter by what they change.

    Attributes:
        factors: name of a module -> kind of factor -> its name in the file, and where it lies.
        whole: name of a tensor of the model -> the name of what replaces it, and where it lies.
        repeats: tensors that stand twice in the file.
    """

    factors: Mapping[str, Mapping[str, tuple[str, TensorRef]]]
    whole: Mapping[str, tuple[str, TensorRef]]
    repeats: tuple[Repeat, ...]


def factor_in(names: Iterable[str]) -> str | None:
    """Find a tensor of a LoRA among the tensors of a model.

    Args:
        names: the names of the tensors.

    Returns:
        The first that PEFT would call so, if any.
    """
    return next((name for name in names if ".lora_" in name and _FACTOR.fullmatch(name)), None)


def model_name(name: str) -> str | None:
    """Give the name in the model of a tensor that PEFT has moved.

    Args:
        name: the name in the model that PEFT has changed.

    Returns:
        The name before; None for what PEFT keeps and does not compute with.
    """
    if _STALE in name or _BACKWARD.search(name):
        return None
    return _WHOLE.sub("", _BASE_LAYER.sub("", name))


def sort_tensors(path: Path, tensors: Mapping[str, TensorRef]) -> LoraTensors:
    """Sort the tensors of an adapter by what they change. Reads no data.

    With ``bias="all"`` a bias within ``modules_to_save`` stands three times in the file: plain,
    with the name of the adapter, and as it was before the training, which PEFT does not compute
    with.

    Args:
        path: the file.
        tensors: its tensors by name.

    Returns:
        The tensors.

    Raises:
        UnreadableError: when two tensors contradict each other, or one has no type of weights.
        RefusedError: when there are several adapters in the file, or a variant of LoRA that is not
            merged here.
    """
    factors: dict[str, dict[str, tuple[str, TensorRef]]] = {}
    whole: dict[str, tuple[str, TensorRef]] = {}
    repeats: list[Repeat] = []
    for name, ref in tensors.items():
        if ref.spec.dtype not in WEIGHT_DTYPES:
            raise UnreadableError(f"{path}: {name} is {ref.spec}, which is not a type of weights")
        short = name.removeprefix(PREFIX)
        hit, own = _FACTOR.fullmatch(short), model_name(short)
        if own is None:
            continue
        if hit:
            kinds = factors.setdefault(hit["module"], {})
            if hit["kind"] in kinds and not hit["adapter"]:
                raise UnreadableError(f"{path}: {name} and another tensor change the same tensor")
            kinds[hit["kind"]] = (name, ref)
        elif any(part.startswith("lora_") for part in short.split(".")):
            raise RefusedError(
                f"{path}: {name} belongs to a variant of LoRA that this tool cannot merge",
                hint=WHILE_TRAINED,
            )
        elif own in whole:
            repeats.append(Repeat((whole[own][0], name), (whole[own][1], ref)))
        else:
            whole[own] = (name, ref)
    refuse_several(path, tensors)
    if not factors and not whole:
        raise UnreadableError(f"{path}: holds no tensors")
    for module in factors:
        if f"{module}.weight" in whole:
            raise UnreadableError(f"{path}: {module}.weight is both replaced and changed")
    return LoraTensors(factors, whole, tuple(repeats))


def refuse_several(path: Path, names: Iterable[str]) -> None:
    """Check that the names are those of one adapter.

    Args:
        path: the file.
        names: the names of its tensors.

    Raises:
        RefusedError: when there are adapters of several names.
    """
    found = (_FACTOR.fullmatch(name) or _WHOLE.search(name) for name in names)
    adapters = dict.fromkeys(hit["adapter"] for hit in found if hit and hit["adapter"])
    if len(adapters) > 1:
        raise RefusedError(
            f"{path}: holds {len(adapters)} adapters, {', '.join(adapters)}, and does not tell "
            "which of them are to be merged",
            hint="in the program that saved it: model.set_adapter(NAME); "
            "model.merge_and_unload().save_pretrained(OUT); convert OUT",
        )


def factors_of(
    path: Path,
    module: str,
    refs: Mapping[str, TensorRef],
    scale: float,
    start: Start | None = None,
) -> Factors:
    """Put the factors of one module together. Those of an embedding are transposed.

    Args:
        path: the file.
        module: the name of the module.
        refs: kind of factor -> where it lies.
        scale: the scale of the product.
        start: what has to be taken off the weight first.

    Returns:
        The factors.

    Raises:
        UnreadableError: when their shapes do not go together.
        RefusedError: when factors are missing, or this tool cannot merge them.
    """
    magnitude = refs.get("lora_magnitude_vector")
    match refs:
        case {"lora_A": right, "lora_B": left} if len(refs) == 2 + (magnitude is not None):
            linear = len(left.spec.shape) == 2 == len(right.spec.shape)
        case {"lora_embedding_A": down, "lora_embedding_B": up} if len(refs) == 2:
            if {len(down.spec.shape), len(up.spec.shape)} != {2}:
                raise UnreadableError(f"{path}: the factors of {module} are not matrices")
            left, right, linear = down.permuted((1, 0)), up.permuted((1, 0)), False
        case _:
            raise RefusedError(
                f"{path}: {module} has {', '.join(sorted(refs))}, which this tool cannot merge",
                hint="a layer has lora_A and lora_B, and for DoRA lora_magnitude_vector",
            )
    rows, columns = left.spec.shape, right.spec.shape
    if len(rows) < 2 or not columns or prod(rows[1:]) != columns[0]:
        raise UnreadableError(
            f"{path}: the factors of {module} are {left.spec} and {right.spec}, which do not go "
            "together"
        )
    if start is not None and not linear:
        raise UnreadableError(
            f"{path}: {module} is not a linear layer, which contradicts init_lora_weights={start} "
            f"in {ADAPTER_CONFIG}"
        )
    return Factors(left, right, scale, magnitude, start)
