"""LoRA that is still inside a state dict, beside the weights that it changes.

PEFT's ``model.state_dict()`` holds a layer as ``base_layer.weight``, ``lora_A.NAME.weight`` and
``lora_B.NAME.weight``; alpha is not in it. The layers of SAMed (``sam_lora_image_encoder.py``) hold
``qkv.qkv.weight`` and ``qkv.linear_a_q.weight``, ``linear_b_q`` and so on, and have no alpha: the
first rows, q, get b_q a_q, and the last rows, v, get b_v a_v.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import RefusedError, UnreadableError, call_of
from ..io.source import Source, tensors_of
from ..io.tensor import WEIGHT_DTYPES, Factors, TensorRef
from .lora import Adapter, described
from .lora_names import LoraChange, factor_in, factors_of, model_name, refuse_several, sort_tensors
from .lora_settings import ADAPTER_CONFIG, WHILE_TRAINED
from .state_dict import MAX_DEPTH, Unwrapped

_SAMED = re.compile(r"(?P<module>.+)\.linear_(?P<side>[ab])_(?P<part>[qkv])\.weight")
_SAMED_WEIGHT = re.compile(r"\.qkv\.qkv(?=\.(weight|bias)$)")
_AROUND_A_PART = re.compile(r"(?<=\.)base_model\.model\.")
_KEPT_BY_PEFT = re.compile(r"\.(base_layer|token_adapter)\.")
PEFT_ALPHA = 8  # the default of ``lora_alpha`` in ``LoraConfig``


@dataclass(frozen=True)
class LoraInside:
    """The LoRA in a state dict.

    Attributes:
        source: the file that it is in.
        by: whose layers hold it.
        changes: name of a tensor in the state dict -> its change, scaled by 1.
    """

    source: Source
    by: str
    changes: Mapping[str, LoraChange]

    @property
    def needs_alpha(self) -> bool:
        """Whether the scale is not known without the alpha of the training."""
        return self.by != "SAMed"

    @property
    def problem(self) -> str:
        """What keeps the state dict from being loaded as a SAM 2."""
        updates = [change.how for change in self.changes.values()]
        factors = [one for how in updates if not isinstance(how, TensorRef) for one in how]
        text = described(factors, len(self.changes), None).replace(", alpha None", "")
        return f"{text} is still inside, in the layers of {self.by}"

    @property
    def hint(self) -> str:
        """How it is merged."""
        path, first = self.source.path, ""
        if self.source.container == "memory":
            path, first = Path("lora.pt"), "torch.save(state_dict, 'lora.pt'); "
        if not self.needs_alpha:
            return f"{first}{call_of('convert', path)} merges it, with the scale 1 of SAMed"
        merged = call_of("convert", path, f"lora_alpha={PEFT_ALPHA}")
        return (
            f"{first}{merged} merges it, if the training used PEFT's default for lora_alpha; else "
            "give the alpha of the training, which the file does not tell"
        )

    def refusal(self) -> RefusedError:
        """Make the error for a use that needs merged weights.

        Returns:
            The error, to be raised.
        """
        return RefusedError(f"{self.source.path}: {self.problem}", hint=self.hint)

    def adapter(self, alpha: float | None) -> Adapter:
        """Scale the changes.

        Args:
            alpha: the alpha of the training; the scale is alpha / rank.

        Returns:
            The changes as an adapter of the same file.

        Raises:
            RefusedError: when alpha is needed and not given.
        """
        if alpha is None and self.needs_alpha:
            raise RefusedError(
                f"{self.source.path}: {self.problem}; the file does not tell its alpha",
                hint=f"`lora_alpha={PEFT_ALPHA}` if the training used PEFT's default for "
                "lora_alpha; else the alpha of the training",
            )
        changes = {}
        for name, change in self.changes.items():
            assert not isinstance(change.how, TensorRef)
            how = tuple(
                replace(one, scale=1.0 if alpha is None else alpha / one.right.spec.shape[0])
                for one in change.how
            )
            changes[name] = replace(change, how=how)
        return Adapter(self.source, {"lora_alpha": alpha}, changes)

    def note(self, alpha: float | None) -> str:
        """Say how it was merged.

        Args:
            alpha: the alpha that was given.

        Returns:
            A sentence.
        """
        merged = f"{self.problem.replace(' is still inside', '')}, was merged"
        if alpha is None:
            alpha_of_training = "`lora_alpha=ALPHA` if the training had an alpha"
            return f"{merged} with the scale 1 of SAMed; {alpha_of_training}"
        return (
            f"{merged} with the scale {alpha:g} / rank; with use_rslora it is alpha / sqrt(rank), "
            "and with alpha_pattern another for some layers, which nothing in the file tells"
        )


def with_plain_names(source: Source) -> Source:
    """Give the weights under a LoRA the names that they have without it. Reads no data.

    Args:
        source: the file.

    Returns:
        The file with the names changed in each state dict that holds a LoRA; the factors keep
        theirs.

    Raises:
        RefusedError: when there are LoRAs of several names in a state dict.
        UnreadableError: when two tensors have one name without the LoRA.
    """
    if not isinstance(source.root, dict):
        return source
    root = _renamed(source.path, source.root, MAX_DEPTH, {})
    return source if root is source.root else replace(source, root=root)


def take_out(source: Source, found: Unwrapped) -> tuple[Unwrapped, LoraInside | None]:
    """Separate a LoRA from the weights that it changes. Reads no data.

    Args:
        source: the file.
        found: the state dict in it.

    Returns:
        The state dict without the LoRA, and the LoRA, if there is one.

    Raises:
        RefusedError: when it is one of another kind, or its weights are not there.
        UnreadableError: when its factors do not go together.
    """
    path = source.path
    samed = {name: ref for name, ref in found.tensors.items() if _is_samed(name)}
    lora = {name: ref for name, ref in found.tensors.items() if ".lora_" in name}
    if not samed and factor_in(lora) is None:
        _refuse_other_kinds(path, found.tensors)
        return found, None
    weights = {n: ref for n, ref in found.tensors.items() if n not in samed and n not in lora}
    if samed and lora:
        raise RefusedError(
            f"{path}: holds the LoRA of two programs: {next(iter(samed))} and {next(iter(lora))}",
            hint=WHILE_TRAINED,
        )
    changes = _samed_changes(path, samed, weights) if samed else _peft_changes(path, lora, weights)
    inside = LoraInside(source, "SAMed" if samed else "PEFT", changes)
    return replace(found, tensors=weights), inside


def _refuse_other_kinds(path: Path, names: Iterable[str]) -> None:
    """Raise :class:`RefusedError` where PEFT keeps a weight beside what changes it."""
    kept = next((name for name in names if _KEPT_BY_PEFT.search(name)), None)
    if kept is not None:
        raise RefusedError(
            f"{path}: an adapter of PEFT that is no LoRA is still inside: {kept} is a weight that "
            "the adapter changes, and this tool cannot merge it",
            hint=WHILE_TRAINED,
        )


def _is_samed(name: str) -> bool:
    return ".linear_" in name and _SAMED.fullmatch(name) is not None


def _renamed(
    path: Path, root: dict[Any, Any], depth: int, done: dict[int, dict[Any, Any]]
) -> dict[Any, Any]:
    """A tree of dicts, with the names in each state dict that holds a LoRA made plain."""
    if id(root) in done:
        return done[id(root)]
    done[id(root)] = root
    tensors = tensors_of(root) or {}
    samed = any(map(_is_samed, tensors))
    marked = samed or factor_in(tensors) is not None
    if marked:
        refuse_several(path, tensors)
    result: dict[Any, Any] = {}
    for key, value in root.items():
        name = _plain(key, samed) if marked and key in tensors else key
        if name is None:
            continue
        if name in result:
            raise UnreadableError(f"{path}: {key} and another tensor are both {name}")
        inner = depth and isinstance(value, dict)
        result[name] = _renamed(path, value, depth - 1, done) if inner else value
    changed = marked or any(result[key] is not value for key, value in root.items())
    done[id(root)] = result if changed else root
    return done[id(root)]


def _plain(name: str, samed: bool) -> str | None:
    """The name of a tensor in the model, without what a LoRA puts into it."""
    if samed:
        return _SAMED_WEIGHT.sub(".qkv", name)
    return model_name(_AROUND_A_PART.sub("", name))


def _peft_changes(
    path: Path, lora: Mapping[str, TensorRef], weights: Iterable[str]
) -> dict[str, LoraChange]:
    """The changes of the layers of PEFT, scaled by 1."""
    bare = next((name for name in lora if name.endswith((".lora_A", ".lora_B"))), None)
    changes: dict[str, LoraChange] = {}
    for module, kinds in sort_tensors(path, lora).factors.items():
        name = f"{module}.weight"
        if name not in weights:
            raise RefusedError(
                f"{path}: holds {next(iter(lora))}, a tensor of an adapter, without the settings "
                "to merge it",
                hint=f"give the folder that PEFT saved, with {ADAPTER_CONFIG} and "
                "adapter_model.safetensors",
            )
        if bare is not None:
            raise RefusedError(
                f"{path}: {bare} is named as loralib does, which merges the weights in eval() and "
                "takes them apart in train(): the file does not tell whether they are merged",
                hint="in the program that saved it: model.eval(), then save the tensors whose "
                "names do not hold lora_",
            )
        refs = {kind: ref for kind, (_, ref) in kinds.items()}
        names = tuple(one for one, _ in kinds.values())
        changes[name] = LoraChange(names, (factors_of(path, module, refs, 1.0),))
    return changes


def _samed_changes(
    path: Path, lora: Mapping[str, TensorRef], weights: Mapping[str, TensorRef]
) -> dict[str, LoraChange]:
    """The changes of the layers of SAMed, scaled by 1."""
    layers: dict[str, dict[str, dict[str, str]]] = {}
    for name in lora:
        hit = _SAMED.fullmatch(name)
        assert hit is not None
        layers.setdefault(hit["module"], {}).setdefault(hit["part"], {})[hit["side"]] = name
    changes = {}
    for module, parts in layers.items():
        weight = weights.get(f"{module}.weight")
        if weight is None:
            raise RefusedError(
                f"{path}: holds a LoRA in the layers of SAMed without the weight {module}.weight",
                hint=WHILE_TRAINED,
            )
        names = tuple(name for sides in parts.values() for name in sides.values())
        updates = tuple(
            _samed_factors(path, part, sides, lora, weight) for part, sides in parts.items()
        )
        changes[f"{module}.weight"] = LoraChange(names, updates)
    return changes


def _samed_factors(
    path: Path,
    part: str,
    sides: Mapping[str, str],
    lora: Mapping[str, TensorRef],
    weight: TensorRef,
) -> Factors:
    """The factors of q, k or v: as in SAMed, of the first, the next or the last rows."""
    if len(sides) != 2:
        raise UnreadableError(f"{path}: {next(iter(sides.values()))} has no counterpart")
    right, left = lora[sides["a"]], lora[sides["b"]]
    shapes = left.spec.shape, right.spec.shape
    wrong = {left.spec.dtype, right.spec.dtype} - WEIGHT_DTYPES or {len(s) for s in shapes} != {2}
    if wrong or shapes[0][1] != shapes[1][0] or 3 * shapes[0][0] > weight.spec.shape[0]:
        raise UnreadableError(
            f"{path}: {sides['b']} and {sides['a']} are {left.spec} and {right.spec}, which do not "
            f"go together for a weight of {weight.spec}"
        )
    rows = shapes[0][0]
    first = {"q": 0, "k": rows, "v": weight.spec.shape[0] - rows}[part]
    return Factors(left, right, 1.0, first=first)
