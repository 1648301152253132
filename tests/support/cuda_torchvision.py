"""What lets torchvision be imported beside a CPU build of torch.

The wheels of torchvision are CUDA builds. Beside a CPU build of torch their compiled library does
not load, and importing the package then fails for want of two operators that neither transformers
nor sam2 calls. This module imports nothing of this package, so that it can be run alone.
"""

from __future__ import annotations

import torch

_KEPT: list[torch.library.Library] = []


def declare_operators() -> None:
    """Declare the two operators, where torch is a CPU build."""
    if torch.version.cuda is None:
        library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        for name in ("nms", "qnms"):
            schema = f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            library.define(schema)  # type: ignore[no-untyped-call]
        _KEPT.append(library)  # an operator lives as long as its library
