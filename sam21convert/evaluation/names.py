"""Names of choices; imports nothing, so that the command line may name them."""

from __future__ import annotations

from typing import Literal, get_args

Protocol = Literal["davis", "sav", "lvos", "mosev2"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)
Expectation = Literal["published"]
EXPECTATIONS: tuple[Expectation, ...] = get_args(Expectation)
Backend = Literal["truth", "sam2", "transformers", "onnx"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)
