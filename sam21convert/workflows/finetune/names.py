"""Names of choices; imports nothing, so that the command line may name them."""

from __future__ import annotations

from typing import Literal, get_args

Train = Literal["decoder", "decoder+prompt", "encoder-lora", "all"]
TRAIN: tuple[Train, ...] = get_args(Train)
