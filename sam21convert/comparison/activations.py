"""What a model computes on the way, by name and in the order of the data flow.

Names are those that the ground truth gives (:class:`~sam21convert.model.SAM2`): ``trunk.stage0``
to ``3``, ``neck.level0`` to ``2``, ``prompt.sparse``, ``decoder.logits``, ... In a video they are
preceded by where they belong: ``frame3.neck.level2``, ``frame3.object1.pointer``. Layouts are those
of the ground truth as well; a backend of another package brings its tensors into them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

Activations = dict[str, Tensor]

# The order in which the activations of one object on one frame are computed.
ORDER = (
    "pixels",
    *(f"trunk.stage{i}" for i in range(4)),
    *(f"neck.level{i}" for i in range(3)),
    "memory_attention.memory",
    "memory_attention.position",
    "memory_attention.output",
    "prompt.sparse",
    "prompt.dense",
    "decoder.tokens",
    "decoder.logits",
    "decoder.iou",
    "decoder.object_score",
    "pointer",
    "memory_encoder.output",
    "memory",
    "masks",
)
_AS_MET = sorted(ORDER, key=lambda activation: activation.startswith("memory_attention."))
# What depends on the frame only; one frame of a video is enough to compare it.
OF_A_FRAME = ("trunk.", "neck.")
A_LOGIT = "decoder.object_score"
_PLACE = re.compile(r"^((?:frame\d+\.)?(?:object\w+\.)?)(.+?)(?: \(\d+\))?$")


def kind(name: str) -> str:
    """A activation's name without its place: ``frame3.object1.pointer (2)`` is a ``pointer``."""
    match = _PLACE.match(name)
    assert match is not None
    return match[2]


def rank(activation: str | None) -> int:
    """Place of a kind of activation among those that are met first; what no activation shows comes last.

    An object begins with a prompt, and there is a memory before anything attends to it.
    """
    return _AS_MET.index(activation) if activation is not None else len(_AS_MET)


class Recorder(dict[str, Tensor]):
    """Activations in the order in which they were computed; a name that comes again is numbered.

    Tensors are copied to the main memory, in float32 or wider, for a model may go on writing into
    its own. Of a video, features of frames are kept for the first frame only. ``agreed`` are the
    activations of the run that this one is to be compared with: see :meth:`remember`.
    """

    def __init__(self, agreed: Activations | None = None) -> None:
        super().__init__()
        self._agreed = agreed or {}
        self._prefix = ""
        self._frame: str | None = None

    @contextmanager
    def within(self, place: str) -> Iterator[None]:
        """Let names begin with ``place`` and a dot; places do not nest."""
        before, self._prefix = self._prefix, f"{place}."
        try:
            yield
        finally:
            self._prefix = before

    def add(self, name: str, tensor: Tensor) -> None:
        """Record a activation under its name within the current place."""
        prefix = self._prefix
        if name.startswith(OF_A_FRAME):
            prefix = prefix.partition(".object")[0].rstrip(".")
            prefix = f"{prefix}." if prefix else ""
        self._keep(f"{prefix}{name}", tensor)

    def remember(self, memory: Tensor) -> Tensor:
        """Record a memory as it is kept, and return what is to be kept: ``1 x K x H x W``.

        All packages keep memories in bfloat16. Two that compute the same in float32 then have, here
        and there, values that are one last place apart, a difference so coarse that it would drown
        all others from that frame on. Where it is no more than that, the agreed value is taken.
        """
        name = self._unused(f"{self._prefix}memory")
        if name in self._agreed and memory.dtype == torch.bfloat16:
            memory = settled(memory, self._agreed[name].to(memory))
        self._keep(name, memory)
        return memory

    # The ground truth fills a dictionary that it is given.
    def update(  # type: ignore[override]
        self, activations: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]]
    ) -> None:
        """Record activations whose names say their places already."""
        for name, tensor in (
            activations.items() if isinstance(activations, Mapping) else activations
        ):
            self._keep(name, tensor)

    def _keep(self, name: str, tensor: Tensor) -> None:
        if kind(name).startswith(OF_A_FRAME):
            place = name.partition(".")[0]
            self._frame = self._frame or place
            if name in self or (place.startswith("frame") and place != self._frame):
                return
        wide = tensor.dtype if tensor.dtype == torch.float64 else torch.float32
        self[self._unused(name)] = tensor.detach().to("cpu", wide, copy=True)

    def _unused(self, name: str) -> str:
        numbered, count = name, 1
        while numbered in self:
            count += 1
            numbered = f"{name} ({count})"
        return numbered


def settled(own: Tensor, agreed: Tensor) -> Tensor:
    """``own`` in bfloat16, but ``agreed`` where the two are neighbours."""
    if own.shape != agreed.shape:
        return own
    apart = (_place_in_order(own) - _place_in_order(agreed)).abs()
    return torch.where(apart <= 1, agreed, own)


def _place_in_order(values: Tensor) -> Tensor:
    """Numbers of bfloat16 values in ascending order, both zeros being 0."""
    bits = values.contiguous().view(torch.int16).int()
    return torch.where(bits < 0, -(bits & 0x7FFF), bits)
