"""Checkpoints with unusual values: validate reports them, and convert keeps every bit."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from .case import ACCEPTED, Case, Codes, written
from .spelling import (
    model,
    model_data,
    model_header,
    safetensors,
    shared,
    storage,
    tensor,
    torch_zip,
)

NAME = "no_mem_embed"  # [1, 1, 128]
COUNT = 128


def _floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values) * (COUNT // len(values))


def _bits(*words: int) -> bytes:
    return struct.pack(f"<{len(words)}I", *words) * (COUNT // len(words))


# The data of the tensor, what validate says, and its exit code.
VALUES: dict[str, tuple[bytes, str, int]] = {
    "NaN": (_floats(1.0, float("nan")), "NaN", 1),
    "NaN throughout": (_floats(float("nan")), "NaN", 1),
    "NaN with a payload": (_bits(0x7FC12345, 0x3F800000), "NaN", 1),
    "signalling NaN": (_bits(0x7F800001, 0xFF812345), "NaN", 1),
    "infinity": (_floats(1.0, float("inf")), "infinite", 1),
    "minus infinity": (_floats(1.0, -float("inf")), "infinite", 1),
    "both infinities and NaN": (_floats(float("inf"), float("nan")), "NaN", 1),
    "denormals": (_bits(0x00000001, 0x807FFFFF), "denormal", 0),
    "the smallest that are not denormal": (_bits(0x00800000, 0x80800000), "", 0),
    "zeros": (_floats(0.0), "all zero", 0),
    "minus zeros": (_floats(-0.0), "all zero", 0),
    "both zeros": (_floats(0.0, -0.0), "all zero", 0),
    "one value": (_floats(0.5), "one value throughout", 0),
    "the largest": (_bits(0x7F7FFFFF, 0xFF7FFFFF), "", 0),
}


def cases() -> Iterator[Case]:
    """Each value in a safetensors file and in a torch zip."""
    for name, (data, said, code) in VALUES.items():
        says = (NAME, said) if said else ()
        codes: Codes = (0, code, 0) if code else ACCEPTED
        in_zip, flat = _in_zip(data), _flat(data)
        yield Case("values", name, flat, says, codes, file="a.safetensors", carries=data)
        yield Case("values", f"{name}, in a zip", in_zip, says, codes, carries=data)


def _in_zip(data: bytes) -> Callable[..., object]:
    stub = tensor(0, (1, 1, COUNT), (COUNT, COUNT, 1), storage("FloatStorage", "1", COUNT))
    return written(lambda: torch_zip(model(stubs={NAME: stub}), shared(), data))


def _flat(data: bytes) -> Callable[..., object]:
    def make() -> bytes:
        header, _ = model_header()
        begin, end = header[NAME]["data_offsets"]
        return safetensors(header, model_data()[:begin] + data + model_data()[end:])

    return written(make)
