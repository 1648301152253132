"""Weights that are not plain floats: how each kind is recognised, and how it becomes plain floats.

The commands in the hints are run by the tests, with the versions of the libraries stated there.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

from ..dialects import DIALECTS
from ..dialects.keymap import target_name
from ..errors import RefusedError
from ..hub.remote import HubPath
from ..io.source import CONFIG, WEIGHTS, Placeholder, Source
from ..io.tensor import TensorRef
from .parts import bare
from .state_dict import ANCHORS

_MAX_DEPTH = 4
_OUT, _OUT_FILE = '"FLOATS"', '"FLOATS.safetensors"'  # what commands call their output
_FILES = ("safetensors", "torch zip")
_ORIGINAL = "give the checkpoint that it was quantised from"
_NOT_FOUND = "load it with the program that made it, and save a state dict of floats"

Keys: TypeAlias = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Method:
    """A way to store weights in few bits.

    Attributes:
        what: what a checkpoint is that was stored so.
        names: regular expression of names that only such a checkpoint has.
        quant_method: what transformers calls it in a ``config.json``.
    """

    what: str
    names: str
    quant_method: str = ""


METHODS: tuple[Method, ...] = (
    Method(
        "quantised by bitsandbytes to 4 bits",
        r"\.absmax|\.quant_map|\.quant_state\.bitsandbytes__\w+",
        "bitsandbytes",
    ),
    Method("quantised by bitsandbytes to 8 bits", r"\.SCB", "bitsandbytes"),
    Method("quantised by torchao", r"\._\w+_qdata", "torchao"),
    Method("quantised by quanto", r"\.weight\._(?:data|scale)", "quanto"),
    Method("quantised by GPTQ or AWQ", r"\.qweight|\.qzeros", "gptq"),
    Method("quantised by MLX", r"\.(?:scales|biases)", "mlx"),
    Method("quantised by torch (dynamic quantisation)", r"\._packed_params(?:\.\w+)*"),
    Method(
        "in 8 bits with scales of its own",
        r"(?:^|\.)(?:scale_weight|weight_scale|weight_scale_inv|scaled_fp8|comfy_quant)",
        "fp8",
    ),
)
# How bitsandbytes makes floats of what it saved. The number is its own, about 1 / 127.
_FROM_8_BITS = (
    't = {n: v.float() * t[n[:-6] + "SCB"].view(-1, 1) * 7.874015718698502e-3 '
    'if n[:-6] + "SCB" in t and n[-6:] == "weight" else v.float() '
    'for n, v in t.items() if not n.endswith((".SCB", ".weight_format"))}; '
)
_FROM_4_BITS = (
    "from bitsandbytes.functional import QuantState as Q, dequantize_4bit as D; "
    'q = lambda n: {k: v for k, v in t.items() if k.startswith(n + ".")}; '
    't = {n: D(v, Q.from_dict(q(n), "cpu")).float() if q(n) else v.float() '
    'for n, v in t.items() if ".weight." not in n}; '
)
# Objects that stand in place of a tensor, by what makes them.
_NUMPY = re.compile(r"numpy\.(_?core\.multiarray\._reconstruct|_?core\.numeric\._frombuffer)")
_DTENSOR = re.compile(r"torch\.distributed\.(_?tensor)(\.\w+)*\.DTensor")
_TORCHAO = re.compile(r"torchao\..*")


def refuse_quantised(source: Source, config: Mapping[str, Any] | None) -> None:
    """Refuse weights that are not plain floats, before their names are taken for faults.

    Args:
        source: the opened file or folder.
        config: the content of its ``config.json``, if there is one.

    Raises:
        RefusedError: with the way to plain floats, when there is one.
    """
    beside = config.get("quantization_config") if config is not None else None
    if isinstance(beside, dict):
        raise _by_config(source, config or {}, beside)
    for keys, node in _state_dicts(source.root):
        lines = "\n".join(name for name in node if isinstance(name, str))  # searched at once
        for method in METHODS:
            if re.search(rf"(?:{method.names})$", lines, re.MULTILINE):
                hint = _way_out(source, method, keys, node)
                raise RefusedError(f"{source.path}: is {method.what}", hint=hint)
        for name, value in node.items():
            if isinstance(value, Placeholder) and isinstance(name, str):
                _refuse_object(source, keys, name, value.name)


def _state_dicts(root: Any) -> Iterator[tuple[Keys, Mapping[Any, Any]]]:
    """Yield dicts in which a value has a name that a SAM 2 has, whatever the values are."""
    waiting: list[tuple[Keys, Any]] = [((), root)]
    seen: set[int] = set()
    for keys, node in waiting:
        if not isinstance(node, dict) or id(node) in seen:
            continue
        seen.add(id(node))
        if any(isinstance(n, str) and bare(n).endswith(_anchors()) for n in node):
            yield keys, node
        if len(keys) < _MAX_DEPTH:
            waiting += [((*keys, k), v) for k, v in node.items() if isinstance(v, dict)]


@cache
def _anchors() -> tuple[str, ...]:
    names = {target_name(dialect, anchor) for dialect in DIALECTS for anchor in ANCHORS}
    return tuple(name for name in names if name is not None)


def _by_config(
    source: Source, config: Mapping[str, Any], quantisation: Mapping[str, Any]
) -> RefusedError:
    """The error for a folder of transformers whose config tells the method."""
    method = str(quantisation.get("quant_method") or "an unknown method")[:40]
    bits = next((f" to {n} bits" for n in (4, 8) if quantisation.get(f"load_in_{n}bit")), "")
    hint = _ORIGINAL
    if method == "bitsandbytes":
        hint = _through_transformers(source.path, config)
    elif method == "torchao":
        hint = _through_torchao(source.path / WEIGHTS)
    return RefusedError(f"{source.path}: is quantised by {method}{bits}", hint=hint)


def _way_out(source: Source, method: Method, keys: Keys, node: Mapping[Any, Any]) -> str:
    """The hint for a checkpoint that is recognised by its tensors."""
    path = source.path
    if method.quant_method == "bitsandbytes":
        if source.container == "safetensors" and (path.parent / CONFIG).exists():
            return f"give the folder with its {CONFIG}: {path.parent}"
        if source.container in _FILES:
            return _saved(source, keys, _FROM_4_BITS if "4 bits" in method.what else _FROM_8_BITS)
    if method.quant_method == "torchao" and source.container == "safetensors":
        return _through_torchao(path)
    if method.quant_method == "fp8":
        return _scaled(source, keys, node)
    known = ("", "torchao", "quanto", "bitsandbytes")
    return _NOT_FOUND if method.quant_method in known else _ORIGINAL


def _through_transformers(folder: Path, config: Mapping[str, Any]) -> str:
    architectures = config.get("architectures")
    named = architectures[0] if isinstance(architectures, list) and architectures else ""
    model = named if isinstance(named, str) and re.fullmatch(r"Sam2\w{0,40}", named) else ""
    model = model or "AutoModel"
    return _python(
        folder,
        f"from transformers import {model} as M; M.from_pretrained(IN).dequantize()"
        f".save_pretrained({_OUT}, save_original_format=False)",
    )


def _through_torchao(file: Path) -> str:
    return _python(
        file,
        "import json; from safetensors import safe_open; from safetensors.torch import save_file; "
        "from torchao.prototype.safetensors.safetensors_support import unflatten_tensor_state_dict "
        'as U; f = safe_open(IN, "pt"); m = f.metadata(); m["tensor_names"] = '
        'json.dumps([n for n in json.loads(m["tensor_names"]) if "." in n]); '
        "q, rest = U({n: f.get_tensor(n) for n in f.keys()}, m); "
        "save_file({n: t.dequantize().contiguous() for n, t in {**q, **rest}.items()}, "
        f"{_OUT_FILE})",
    )


def _scaled(source: Source, keys: Keys, node: Mapping[Any, Any]) -> str:
    """Multiply each weight by its scale; only where there is one scale for a weight or a row."""
    ends = [end for end in ("scale_weight", "weight_scale") if _has(node, end)]
    if len(ends) != 1 or _has(node, "comfy_quant") or source.container not in _FILES:
        return _ORIGINAL
    for name, scale in node.items():
        if not isinstance(name, str) or not name.endswith(f".{ends[0]}"):
            continue
        weight = node.get(f"{name.removesuffix(ends[0])}weight")
        if (
            not isinstance(weight, TensorRef)
            or not isinstance(scale, TensorRef)
            or scale.spec.numel not in (1, *weight.spec.shape[:1])
        ):
            return _ORIGINAL
    scaled = (
        f's = lambda n, v: t[n[:-6] + "{ends[0]}"].float().reshape(-1, *[1] * (v.ndim - 1)) '
        f'if n[-6:] == "weight" and n[:-6] + "{ends[0]}" in t else 1; '
        "t = {n: v.float() * s(n, v) for n, v in t.items() if not n.endswith("
        '("scale_weight", "weight_scale", "scaled_fp8", "scale_input", "input_scale"))}; '
    )
    return _saved(source, keys, scaled)


def _saved(source: Source, keys: Keys, floats: str) -> str:
    """A command that saves floats; in its code, ``t`` are the tensors by name."""
    if source.container == "safetensors":
        code = "from safetensors.torch import load_file, save_file; t = load_file(IN); "
        return _python(source.path, f"{code}{floats}save_file(t, {_OUT_FILE})")
    code = f"import torch; t = torch.load(IN){_at(keys)}; "
    return _python(source.path, f'{code}{floats}torch.save(t, "FLOATS.pt")')


def _has(node: Mapping[Any, Any], end: str) -> bool:
    return any(isinstance(name, str) and name.endswith(f".{end}") for name in node)


def _refuse_object(source: Source, keys: Keys, name: str, maker: str) -> None:
    """Refuse what stands in place of a tensor, if it is known what it is."""
    if _NUMPY.fullmatch(maker):
        raise RefusedError(
            f"{source.path}: {name} is a NumPy array, not a tensor",
            hint=_python(
                source.path,
                "import numpy as n, torch; from numpy._core.multiarray import _reconstruct as r; "
                'torch.serialization.add_safe_globals([r, (r, "numpy.core.multiarray._reconstruct")'
                ', n.ndarray, n.dtype, *map(type, map(n.dtype, ("f2", "f4", "f8", "i8")))]); '
                f"t = torch.load(IN){_at(keys)}; "
                'torch.save({k: torch.as_tensor(v) for k, v in t.items()}, "FLOATS.pt")',
            ),
        )
    if _DTENSOR.fullmatch(maker):
        raise RefusedError(
            f"{source.path}: {name} is a part of a DTensor, which FSDP2 divided among processes",
            hint="save get_model_state_dict(model, options=StateDictOptions(full_state_dict=True)) "
            "of torch.distributed.checkpoint.state_dict, or give the folder that "
            "torch.distributed.checkpoint.save writes",
        )
    if _TORCHAO.fullmatch(maker):
        raise RefusedError(
            f"{source.path}: {name} is quantised by torchao",
            hint=_python(
                source.path,
                f"import torch, torchao; t = torch.load(IN){_at(keys)}; "
                'torch.save({k: v.dequantize() for k, v in t.items()}, "FLOATS.pt")',
            ),
        )


def _at(keys: Keys) -> str:
    """The expression that reaches what these keys lead to; in a list they are numbers."""
    return "".join(f"[{_quoted(key) if isinstance(key, str) else key}]" for key in keys)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=not text.isprintable())


def _python(path: Path, code: str) -> str:
    """A command that runs code, in which IN stands for the path."""
    if isinstance(path, HubPath):
        return f"run: sam21convert pull {shlex.quote(str(path))}, and inspect what that downloads"
    return f"run: python -c {shlex.quote(code.replace('IN', _quoted(str(path)), 1))}"
