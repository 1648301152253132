"""The trunk in timm as one side of a comparison."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from ...checkpoint.mismatch import mismatch
from ...checkpoint.open import Checkpoint, open_checkpoint
from ...config.timm import arguments_of, published_size
from ...dialects import TIMM
from ...dialects.keymap import target_name
from ...errors import MismatchError, UsageError
from ...model.config import ModelConfig, TrunkConfig
from ...model.sam2 import SAM2
from ...prediction.load import with_image_size
from ..activations import Activations, Recorder
from ..inputs import Clip, Picture
from ..packages import INSTALL, member, titled, version
from ..scenarios import ImageScenario, VideoScenario
from .base import CannotRun, LoadOptions, tensor_of

PACKAGE = "timm"
_HEAD = "head."  # of a classifier, which SAM 2 has none of


class Timm:
    """The trunk of a checkpoint in timm's ``HieraDet``; see :class:`~.backend.Backend`.

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
    def load(cls, source: Path, given: LoadOptions) -> Timm:
        """Load the trunk of ``source`` in float32.

        What has timm's names timm loads itself; any other is read and checked as for the ground
        truth. Raises as :func:`~sam21convert.load_model`, :class:`MismatchError` for what timm does
        not take, and :class:`UsageError` without the package or for a version of it whose trunk has
        other tensors.
        """
        checkpoint = open_checkpoint(source, given.config)
        if checkpoint.dialect is TIMM:
            model, config = _load_own(checkpoint)
            config = with_image_size(given.image_size)(config)
            return cls(source, model.float().to(given.device).eval(), config)
        whole, loading = replace(given, device="cpu").onto(SAM2, source)
        weights = {
            renamed: tensor
            for name, tensor in whole.state_dict().items()
            if (renamed := target_name(TIMM, name)) is not None
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

    def encode(self, pixels: Tensor) -> Activations:
        """Encode an image, as far as the four stages of the trunk."""
        device = next(self.model.parameters()).device
        with torch.no_grad():
            stages = self.model.forward_intermediates(pixels.to(device), intermediates_only=True)
        recorder = Recorder()
        for number, stage in enumerate(stages):
            recorder.add(f"trunk.stage{number}", stage)
        return recorder

    def segment(self, picture: Picture, scenario: ImageScenario) -> Activations:
        """Not there: raises :class:`CannotRun`."""
        raise CannotRun("timm has only the trunk")

    def track(
        self, clip: Clip, scenario: VideoScenario, agreed: Activations | None = None
    ) -> Activations:
        """Not there: raises :class:`CannotRun`."""
        raise CannotRun("timm has only the trunk")

    def tensor(self, name: str) -> Tensor:
        """One of the trunk's tensors."""
        renamed = target_name(TIMM, name)
        if renamed is None:
            raise KeyError(name)
        return tensor_of(self.model, renamed)


def _load_own(checkpoint: Checkpoint) -> tuple[Any, ModelConfig]:
    """What timm makes of a folder or file of its own, and the config that it should have."""
    config, path = checkpoint.model_config, checkpoint.source.path
    if config is None or checkpoint.fit is None or checkpoint.fit.faults:
        raise mismatch(checkpoint)
    create, load = member(PACKAGE, "create_model"), member("timm.models", "load_checkpoint")
    try:
        if path.is_dir():
            return create(f"local-dir:{path}", pretrained=True), config
        model = _build(config.trunk)
        with TemporaryDirectory() as folder:  # timm goes by suffixes; an output has its own last
            suffix = ".safetensors" if checkpoint.source.container == "safetensors" else ".pt"
            link = Path(folder) / f"trunk{suffix}"
            link.symlink_to(path.absolute())
            load(model, str(link))
    except Exception as error:  # any: it comes from within a package
        said = " ".join(str(error).split())
        raise MismatchError(
            f"{path}: {titled(PACKAGE)} does not load it: {said}", hint=INSTALL[PACKAGE]
        ) from error
    return model, config


def _build(trunk: TrunkConfig) -> Any:
    """The model timm has under a name of its own for a published trunk; else of its class."""
    size = published_size(trunk)
    if size is not None:
        return member(PACKAGE, "create_model")(f"sam2_hiera_{size}", pretrained=False)
    return member("timm.models.hieradet_sam2", "HieraDet")(
        **arguments_of(trunk),
        num_classes=0,
    )
