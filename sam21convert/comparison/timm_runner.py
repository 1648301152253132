"""The trunk in timm as one side of a comparison."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..catalog import SHIPPED, shipped_config
from ..errors import UsageError
from ..model import SAM2
from ..model.config import ModelConfig, TrunkConfig
from ..peers import INSTALL, member, titled, version
from .given import Given
from .inputs import Clip, Picture
from .runner import CannotRun, tensor_of
from .scenarios import ImageScenario, VideoScenario
from .taps import Recorder, Taps

PACKAGE = "timm"
_TRUNK = "image_encoder.trunk."
_HEAD = "head."  # of a classifier, which SAM 2 has none of


class Timm:
    """The trunk of a checkpoint in timm's ``HieraDet``; see :class:`~.runner.Runner`.

    It can encode, and nothing else.
    """

    name = PACKAGE
    abilities: frozenset[str] = frozenset({"encode"})

    def __init__(self, source: Path, model: Any, config: ModelConfig) -> None:
        self.source = source
        self.model = model
        self.version = version(PACKAGE)
        self.config = config
        self.notes: tuple[str, ...] = ("only the trunk is compared: timm has nothing else",)

    @classmethod
    def load(cls, source: Path, given: Given) -> Timm:
        """Load the trunk of ``source`` in float32, read and checked as for the ground truth.

        Raises as :func:`~sam21convert.load_model`, and :class:`UsageError` without the package or
        for a version of it whose trunk has other tensors.
        """
        whole, loading = replace(given, device="cpu").onto(SAM2, source)
        weights = {
            _renamed(name): tensor
            for name, tensor in whole.state_dict().items()
            if name.startswith(_TRUNK)
        }
        model = _build(loading.config.trunk)
        apart = {name for name in model.state_dict() if not name.startswith(_HEAD)} ^ set(weights)
        if apart:
            raise UsageError(
                f"{titled(PACKAGE)}: its trunk and that of SAM 2 differ in {sorted(apart)[0]} "
                f"and {len(apart) - 1} other tensors",
                hint=INSTALL[PACKAGE],
            )
        model.load_state_dict(weights, strict=False)
        return cls(source, model.to(given.device).eval(), loading.config)

    def picture_pixels(self, picture: Picture) -> Tensor:
        """Not there: raises :class:`CannotRun`."""
        raise CannotRun("timm's preprocessing is that of classifiers")

    def clip_pixels(self, clip: Clip) -> Tensor:
        """Not there: raises :class:`CannotRun`."""
        raise CannotRun("timm has no videos")

    def encode(self, pixels: Tensor) -> Taps:
        """Encode an image, as far as the four stages of the trunk."""
        device = next(self.model.parameters()).device
        with torch.no_grad():
            stages = self.model.forward_intermediates(pixels.to(device), intermediates_only=True)
        recorder = Recorder()
        for number, stage in enumerate(stages):
            recorder.add(f"trunk.stage{number}", stage)
        return recorder

    def segment(self, picture: Picture, scenario: ImageScenario) -> Taps:
        """Not there: raises :class:`CannotRun`."""
        raise CannotRun("timm has only the trunk")

    def track(self, clip: Clip, scenario: VideoScenario, agreed: Taps | None = None) -> Taps:
        """Not there: raises :class:`CannotRun`."""
        raise CannotRun("timm has only the trunk")

    def tensor(self, name: str) -> Tensor:
        """One of the trunk's tensors."""
        if not name.startswith(_TRUNK):
            raise KeyError(name)
        return tensor_of(self.model, _renamed(name))


def _renamed(name: str) -> str:
    """Timm's name of an official tensor of the trunk."""
    first = {"0": "mlp.fc1.", "1": "mlp.fc2."}
    return re.sub(
        r"mlp\.layers\.([01])\.", lambda layer: first[layer[1]], name.removeprefix(_TRUNK)
    )


def _build(trunk: TrunkConfig) -> Any:
    """The model timm has under a name of its own for a published trunk; else of its class."""
    for shipped in SHIPPED:
        if shipped.size != "debug" and shipped_config(shipped.name).trunk == trunk:
            return member(PACKAGE, "create_model")(f"sam2_hiera_{shipped.size}", pretrained=False)
    return member("timm.models.hieradet_sam2", "HieraDet")(
        embed_dim=trunk.embed_dim,
        num_heads=trunk.num_heads,
        stages=trunk.stages,
        global_pos_size=trunk.window_pos_embed_bkg_spatial_size,
        window_spec=trunk.window_spec,
        global_att_blocks=trunk.global_att_blocks,
    )
