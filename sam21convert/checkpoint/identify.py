"""A checkpoint whose dialect and model are known."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

from ..config.registry import tensors_of
from ..dialects.keymap import Fit, KeyMap, compile_keymap
from ..dialects.rules import Dialect
from ..model.config import ModelConfig
from .mismatch import mismatch
from .open import Checkpoint, shipped_keymap


@dataclass(frozen=True)
class IdentifiedCheckpoint(Checkpoint):
    """A checkpoint whose dialect, model config, key map and fit are known.

    :func:`identify` makes one. The tensors need not fit the model: ``fit`` tells how they compare.

    Attributes:
        dialect: the dialect of the names.
    """

    dialect: Dialect

    @property
    def model_config(self) -> ModelConfig:
        """The config given or found, else that of the shipped model with these tensors."""
        config = super().model_config
        if config is None:
            raise mismatch(self)
        return config

    @cached_property
    def keymap(self) -> KeyMap:
        """The map from its dialect to the canonical names."""
        if self.shipped is not None:
            return shipped_keymap(self.dialect, self.shipped)
        return compile_keymap(self.dialect, tensors_of(self.model_config))

    @cached_property
    def fit(self) -> Fit:
        """How the tensors compare with what the map asks for."""
        return self.keymap.fit(self.inventory)


def identify(checkpoint: Checkpoint) -> IdentifiedCheckpoint:
    """Require that a checkpoint tells its dialect and its model.

    Args:
        checkpoint: an open checkpoint.

    Returns:
        The same checkpoint, with a dialect, model config, key map and fit that are not None.

    Raises:
        MismatchError: when no dialect has names like these, or neither a config nor the size of the
            tensors tells the model. The message says what comes nearest.
    """
    if checkpoint.dialect is None or (checkpoint.config, checkpoint.shipped) == (None, None):
        raise mismatch(checkpoint)
    values = {one.name: getattr(checkpoint, one.name) for one in fields(Checkpoint)}
    return IdentifiedCheckpoint(**values)
