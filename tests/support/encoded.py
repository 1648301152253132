"""Encoders that encode the same frame with the same weights once, for all that is tried on it.

What a test is about may be how a video is followed, in many ways. The pictures that its models look
at are the same each time, and so are the features of them, to the last bit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

# What the features of frames depend on besides the pixels, as a hash -> the features, by pixels.
Known = dict[bytes, dict[bytes, Any]]
_OF_THE_ENCODER = (
    *("image_encoder.", "sam_mask_decoder.conv_s"),
    *("vision_encoder.", "mask_decoder.conv_s"),  # of transformers
)


@contextmanager
def encoding_once(model: nn.Module, method: str, known: Known) -> Iterator[None]:
    """A context in which a model looks up the features of frames that were encoded before.

    Args:
        model: A model with the names of the official code or of transformers. Its encoder is not
            changed within the context.
        method: The method that encodes pixels.
        known: What was encoded, by this method of models of one class that compute alike.

    Yields:
        Nothing.
    """
    encode: Callable[..., Any] = getattr(model, method)
    found = known.setdefault(_dependence(model), {})

    def once(pixels: Tensor, activations: None = None, **options: Any) -> Any:
        assert activations is None  # they would have to be kept as well
        key = _hash(pixels)
        if key not in found:
            found[key] = encode(pixels, **options)
        return found[key]

    setattr(model, method, once)
    try:
        yield
    finally:
        delattr(model, method)


def _dependence(model: nn.Module) -> bytes:
    """A hash of the weights of an encoder, and of how many threads divide its work."""
    tensors = [
        _hash(tensor)
        for name, tensor in model.state_dict().items()
        if name.startswith(_OF_THE_ENCODER)
    ]
    assert len(tensors) > 50
    return b"".join([torch.get_num_threads().to_bytes(2, "little"), *tensors])


def _hash(tensor: Tensor) -> bytes:
    content = tensor.contiguous().flatten().view(torch.uint8).numpy()
    return hashlib.sha1(content.data, usedforsecurity=False).digest()
