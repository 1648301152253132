"""A LoRA adapter as PEFT saves it: how it is recognised, and which tensors it changes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import RefusedError, UnreadableError, call_of
from ..hub.remote import HubPath
from ..io.open import Source, open_source
from ..io.source import CONFIG, tensors_of
from ..io.tensor import Factors, TensorRef
from ..io.text import read_json
from .lora_names import LoraChange, Repeat, factors_of, sort_tensors
from .lora_settings import ADAPTER_CONFIG, check_settings, scale_of, short, start_of

_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
# Files of a model: a folder with one of them is not a folder of adapters.
_MODEL = {".safetensors", ".bin", ".pt", ".pth", ".ckpt"}


@dataclass(frozen=True)
class Adapter:
    """An opened adapter, header only.

    Attributes:
        source: its file or folder.
        settings: the content of ``adapter_config.json``.
        changes: name of a tensor in the model that the adapter was made for -> its change.
        repeats: tensors that stand twice in it.
    """

    source: Source
    settings: Mapping[str, Any]
    changes: Mapping[str, LoraChange]
    repeats: tuple[Repeat, ...] = ()

    def __str__(self) -> str:
        updates = [one.how for one in self.changes.values() if not isinstance(one.how, TensorRef)]
        factors = [one for update in updates for one in update]
        targets = self.settings.get("target_modules")
        listed = targets if isinstance(targets, str) else ", ".join(sorted(map(str, targets or ())))
        text = described(factors, len(updates), self.settings["lora_alpha"])
        text += f" ({short(listed)})" if listed else ""
        start = next((one.start for one in factors if one.start is not None), None)
        if start is not None:
            text += f", begun as {start}, which is taken off these layers first"
        replaced = len(self.changes) - len(updates)
        return f"{text}, and {replaced} whole tensors" if replaced else text


def described(factors: list[Factors], layers: int, alpha: object) -> str:
    """Describe a LoRA in words.

    Args:
        factors: all its factors.
        layers: the number of layers that it changes.
        alpha: its alpha.

    Returns:
        Kind, rank, alpha and number of layers.
    """
    ranks = sorted({one.right.spec.shape[0] for one in factors})
    kind = "DoRA" if any(one.magnitude for one in factors) else "LoRA"
    return f"{kind} of rank {', '.join(map(str, ranks))}, alpha {alpha}, on {layers} layers"


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
    trained = f", made for {short(named)}" if named and isinstance(named, str) else ""
    base = f"base={_base(named, adapter.settings.get('revision'))}"
    raise RefusedError(
        f"{path}: is a PEFT adapter, not a model: {adapter}{trained}",
        hint=f"{call_of('convert', path, base)} merges it into the model it was made for",
    )


def find_adapter(path: Path) -> Adapter | None:
    """Open an adapter, if there is one.

    Args:
        path: the folder that PEFT saved, the file of weights in it, or a folder that holds such a
            folder, as PEFT saves an adapter that has a name.

    Returns:
        The adapter; None when ``path`` is something else.

    Raises:
        UnreadableError: when its settings or tensors are not what PEFT writes.
        RefusedError: when it is of another kind than LoRA, or a variant that is not merged here, or
            there are several.
    """
    home, notes = _home(path)
    if (path.is_file() and path.name not in _WEIGHTS) or not (home / ADAPTER_CONFIG).exists():
        return None
    settings = read_json(home / ADAPTER_CONFIG)
    check_settings(home / ADAPTER_CONFIG, settings)
    weights = (
        path if path.is_file() else next((home / w for w in _WEIGHTS if (home / w).exists()), None)
    )
    if weights is None:
        raise UnreadableError(
            f"{home}: an adapter without {' or '.join(_WEIGHTS)}",
            hint="copy or download the whole folder again",
        )
    source = open_source(weights)
    source = replace(
        source,
        path=path,
        container="PEFT adapter",
        files=(home / ADAPTER_CONFIG, *source.files),
        notes=(*source.notes, *notes),
    )
    tensors = tensors_of(source.root)
    if tensors is None:
        raise UnreadableError(f"{weights}: holds no tensors by name")
    changes, repeats = _changes(weights, settings, tensors)
    source = replace(source, notes=(*source.notes, *_notes_on_biases(settings, changes)))
    return Adapter(source, settings, changes, repeats)


def _home(path: Path) -> tuple[Path, tuple[str, ...]]:
    """The folder of an adapter, and notes on others beside it.

    PEFT saves an adapter of another name than ``default`` in a folder of that name.
    """
    if not path.is_dir() or isinstance(path, HubPath):
        return path.parent if not path.is_dir() else path, ()
    inner = sorted(one.parent for one in path.glob(f"*/{ADAPTER_CONFIG}"))
    others = ", ".join(one.name for one in inner)
    if (path / ADAPTER_CONFIG).exists():
        note = f"taken from {path}; adapters also in this folder: {others}; give {path}/NAME"
        return path, (note,) if inner else ()
    model = (path / CONFIG).exists() or any(one.suffix in _MODEL for one in path.iterdir())
    if not inner or model:
        return path, ()
    if len(inner) > 1:
        raise RefusedError(
            f"{path}: holds {len(inner)} adapters: {others}",
            hint="give one of them: " + " or ".join(shlex.quote(str(one)) for one in inner),
        )
    return inner[0], (f"the adapter was taken from {inner[0]}, the only one in {path}",)


def _changes(
    path: Path, settings: Mapping[str, Any], tensors: Mapping[str, TensorRef]
) -> tuple[dict[str, LoraChange], tuple[Repeat, ...]]:
    """The change of each tensor of the model that the adapter changes, and what stands twice."""
    found = sort_tensors(path, tensors)
    changes = {own: LoraChange((name,), ref) for own, (name, ref) in found.whole.items()}
    start = start_of(path, settings)
    for module, kinds in found.factors.items():
        refs = {kind: ref for kind, (_, ref) in kinds.items()}
        if ("lora_magnitude_vector" in refs) != bool(settings.get("use_dora")):
            raise UnreadableError(
                f"{path}: {module} has {', '.join(sorted(refs))}, which contradicts use_dora in "
                f"{ADAPTER_CONFIG}"
            )
        rank, scale = scale_of(settings, module)
        factors = factors_of(path, module, refs, scale, start)
        there = factors.right.spec.shape[0]
        # A start cannot have more directions than the weight, whose shape only the base tells.
        if there != rank and (start is None or there > rank):
            raise UnreadableError(
                f"{path}: the factors of {module} are {factors.left.spec} and "
                f"{factors.right.spec}, but {ADAPTER_CONFIG} states rank {rank}"
            )
        if start == "pissa" and scale <= 0:
            raise UnreadableError(f"{path}: init_lora_weights=pissa needs a positive lora_alpha")
        names = tuple(name for name, _ in kinds.values())
        changes[f"{module}.weight"] = LoraChange(names, (factors,))
    return changes, found.repeats


def _notes_on_biases(settings: Mapping[str, Any], changes: Iterable[str]) -> Iterator[str]:
    """PEFT before 0.21 saves none of the biases that ``bias="lora_only"`` trains."""
    if settings.get("bias") in ("all", "lora_only") and not any(
        name.endswith(".bias") for name in changes
    ):
        yield (
            f"{ADAPTER_CONFIG} says that biases were trained (bias: {settings['bias']}), and the "
            "file holds none, as PEFT before 0.21 saved it: those of the base are kept"
        )


def _base(named: object, revision: object) -> str:
    """The model that an adapter was made for, as an argument for ``--base``."""
    if not isinstance(named, str) or not named.isprintable() or len(named) > 120:
        return "CHECKPOINT"
    if re.fullmatch(r"[\w.-]+/[\w.-]+", named) and not Path(named).exists():
        at = isinstance(revision, str) and re.fullmatch(r"[\w.-]{1,64}", revision)
        return f"hf://{named}@{revision}" if at else f"hf://{named}"
    return shlex.quote(named) if Path(named).exists() else "CHECKPOINT"
