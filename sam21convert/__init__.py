"""Convert SAM 2 and SAM 2.1 checkpoints between every form they come in.

The functions here are what the commands do. They are loaded when first used, so that a program
that only inspects files does not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .batching import batch as batch
    from .conversion import convert as convert
    from .diffing import diff as diff
    from .errors import MismatchError as MismatchError
    from .errors import RefusedError as RefusedError
    from .errors import Sam21ConvertError as Sam21ConvertError
    from .errors import UnreadableError as UnreadableError
    from .errors import UsageError as UsageError
    from .inspection import inspect as inspect
    from .loading import load_model as load_model
    from .prediction import predict_image as predict_image
    from .prompts import Box as Box
    from .prompts import Point as Point
    from .proving import parity as parity
    from .publishing import push as push
    from .pulling import pull as pull
    from .sampling import sample as sample
    from .validation import validate as validate
    from .video_prediction import predict_video as predict_video

__version__ = "0.1.0"

_HOME = {
    "Box": "prompts",
    "MismatchError": "errors",
    "Point": "prompts",
    "RefusedError": "errors",
    "Sam21ConvertError": "errors",
    "UnreadableError": "errors",
    "UsageError": "errors",
    "batch": "batching",
    "convert": "conversion",
    "diff": "diffing",
    "inspect": "inspection",
    "load_model": "loading",
    "parity": "proving",
    "predict_image": "prediction",
    "predict_video": "video_prediction",
    "push": "publishing",
    "pull": "pulling",
    "sample": "sampling",
    "validate": "validation",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
