"""LoRA on the image encoder, by PEFT."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

ENCODER = "image_encoder."
_LAYERS = r"image_encoder\.trunk\.blocks\.\d+\.attn\.(qkv|proj)"
_ADAPTER = re.compile(r"\.lora_[AB]\.")


def add_lora(model: nn.Module) -> None:
    """Put a LoRA around the attention layers of the image encoder, with the defaults of PEFT.

    Nothing that the model computes changes, and all parameters but those of the LoRA are frozen.

    Args:
        model: The model, which is changed.
    """
    from peft import LoraConfig, inject_adapter_in_model

    inject_adapter_in_model(LoraConfig(target_modules=_LAYERS), model)


def lora_of(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of the LoRA.

    Args:
        model: A model, with a LoRA or without.

    Returns:
        The tensors by name; empty without one.
    """
    return {
        name: parameter.detach()
        for name, parameter in model.named_parameters()
        if _ADAPTER.search(name)
    }


def load_lora(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put values into the LoRA of a model.

    Args:
        model: The model, which is changed.
        tensors: As :func:`lora_of` returns them.

    Raises:
        KeyError: If a tensor is missing.
    """
    with torch.no_grad():
        for name, tensor in lora_of(model).items():
            tensor.copy_(tensors[name])


def merged(model: nn.Module) -> dict[str, Tensor]:
    """The weights of a model under its own names, with its LoRA added to them.

    Args:
        model: A model, with a LoRA or without. It does not change.

    Returns:
        The state dict, on the device of the model.
    """
    if not lora_of(model):
        return model.state_dict()
    from peft.tuners.lora import LoraLayer

    layers: dict[str, Any] = {
        name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)
    }
    found: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        if _ADAPTER.search(name):
            continue
        layer, _, rest = name.rpartition(".base_layer.")
        if layer and rest == "weight":
            [adapter] = layers[layer].active_adapters
            with torch.no_grad():
                tensor = tensor + layers[layer].get_delta_weight(adapter)
        found[f"{layer}.{rest}" if layer else name] = tensor
    return found
