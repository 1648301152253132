"""Convert SAM 2 and SAM 2.1 checkpoints between every form they come in.

The functions here are what the commands do. They are loaded when first used, so that a program
that only inspects files does not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from .checkpoint.diff.api import diff as diff
    from .checkpoint.inspect import inspect as inspect
    from .checkpoint.validate import validate as validate
    from .comparison.api import parity as parity
    from .conversion.api import convert as convert
    from .conversion.sample import sample as sample
    from .errors import MismatchError as MismatchError
    from .errors import RefusedError as RefusedError
    from .errors import Sam21ConvertError as Sam21ConvertError
    from .errors import UnreadableError as UnreadableError
    from .errors import UsageError as UsageError
    from .hub.pull import pull as pull
    from .prediction.image import predict_image as predict_image
    from .prediction.load import load_model as load_model
    from .prediction.prompts import Box as Box
    from .prediction.prompts import Point as Point
    from .prediction.video import predict_video as predict_video
    from .workflows.batch.api import batch as batch
    from .workflows.publish.push import push as push


_HOME = {
    "Box": "prediction.prompts",
    "MismatchError": "errors",
    "Point": "prediction.prompts",
    "RefusedError": "errors",
    "Sam21ConvertError": "errors",
    "UnreadableError": "errors",
    "UsageError": "errors",
    "batch": "workflows.batch.api",
    "convert": "conversion.api",
    "diff": "checkpoint.diff.api",
    "inspect": "checkpoint.inspect",
    "load_model": "prediction.load",
    "parity": "comparison.api",
    "predict_image": "prediction.image",
    "predict_video": "prediction.video",
    "push": "workflows.publish.push",
    "pull": "hub.pull",
    "sample": "conversion.sample",
    "validate": "checkpoint.validate",
}
__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
