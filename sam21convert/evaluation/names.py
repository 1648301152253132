"""Whose rules a score can follow; imports nothing, so that the command line may name them."""

from __future__ import annotations

from typing import Literal, get_args

Protocol = Literal["davis", "sav", "lvos", "mosev2"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)
