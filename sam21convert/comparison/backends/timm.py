"""timm's trunk as one side of a comparison."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...checkpoint.mismatch import mismatch
from ...checkpoint.open import Checkpoint
from ...config.timm import arguments_of, published_size
from ...dialects import TIMM
from ...dialects.keymap import target_name
from ...errors import MismatchError, UsageError
from ...io.output.temporary import temporary_folder
from ...model.config import ModelConfig, TrunkConfig
from ...model.sam2 import SAM2
from ...packages import install, member, titled, version
from ...prediction.load import with_image_size
from ..activations import Activations, Recorder
from ..inputs import Clip, Picture
from ..scenarios import ImageScenario, VideoScenario
from .base import CannotRun, LoadOptions, tensor_of

PACKAGE = "timm"
_HEAD = "head."  # timm's classifier, which SAM 2 does not have


class Timm:
    """The trunk of a checkpoint in timm's ``HieraDet``; see :class:`~.base.Backend`.

    It can encode, and nothing else.

    Args:
        source: The checkpoint.
        model: timm's model with the weights.
        config: The config of the whole model.
    """

    name = PACKAGE
    abilities: frozenset[str] = frozenset({"encode"})

    def __init__(self, source: Path, model: Any, config: ModelConfig) -> None:
        self.source = source
        self.model = model
        self.version = version(PACKAGE)
        self.config = config
        self.notes: tuple[str, ...] = (
            "only the trunk is compared: timm has nothing else of SAM 2",
        )

    @classmethod
    def load(cls, source: Path, options: LoadOptions) -> Timm:
        """Load the trunk of a checkpoint.

        timm itself loads a checkpoint with timm's names. Any other is read and checked as for the
        ground truth.

        Args:
            source: The checkpoint.
            options: How to load it.

        Returns:
            The backend, in float32.

        Raises:
            UnreadableError: When the source cannot be read.
            MismatchError: When the checkpoint does not fit its config, or timm does not load it.
            UsageError: When timm is not installed, or the trunk of the installed version has other
                tensors.
        """
        checkpoint = options.open(source)
        if checkpoint.dialect is TIMM:
            model, config = _load_own(checkpoint)
            config = with_image_size(options.image_size)(config)
            return cls(source, model.float().to(options.device).eval(), config)
        sam2, loading = replace(options, device="cpu", opened=checkpoint).onto(SAM2, source)
        weights = {
            renamed: tensor
            for name, tensor in sam2.state_dict().items()
            if (renamed := target_name(TIMM, name)) is not None
        }
        model = _build(loading.config.trunk)
        own = {name for name in model.state_dict() if not name.startswith(_HEAD)}
        unequal = own ^ set(weights)
        if unequal:
            raise UsageError(
                f"{titled(PACKAGE)}: its trunk and that of SAM 2 differ in {sorted(unequal)[0]} "
                f"and {len(unequal) - 1} other tensors",
                hint=install(PACKAGE),
            )
        model.load_state_dict(weights, strict=False)
        return cls(source, model.to(options.device).eval(), loading.config)

    def picture_pixels(self, picture: Picture) -> Tensor:
        """Not supported.

        Args:
            picture: Ignored.

        Returns:
            Never.

        Raises:
            CannotRun: Always.
        """
        raise CannotRun("timm preprocesses images for classification")

    def clip_pixels(self, clip: Clip) -> Tensor:
        """Not supported.

        Args:
            clip: Ignored.

        Returns:
            Never.

        Raises:
            CannotRun: Always.
        """
        raise CannotRun("timm does not process videos")

    def encode(self, pixels: Tensor) -> Activations:
        """Encode an image with the four stages of the trunk.

        Args:
            pixels: 1 x 3 x S x S, preprocessed.

        Returns:
            ``trunk.stage0`` to ``trunk.stage3``.
        """
        device = next(self.model.parameters()).device
        with torch.no_grad():
            stages = self.model.forward_intermediates(pixels.to(device), intermediates_only=True)
        recorder = Recorder()
        for number, stage in enumerate(stages):
            recorder.add(f"trunk.stage{number}", stage)
        return recorder

    def segment(self, picture: Picture, scenario: ImageScenario) -> Activations:
        """Not supported.

        Args:
            picture: Ignored.
            scenario: Ignored.

        Returns:
            Never.

        Raises:
            CannotRun: Always.
        """
        raise CannotRun("timm has only the trunk")

    def track(
        self, clip: Clip, scenario: VideoScenario, agreed: Activations | None = None
    ) -> Activations:
        """Not supported.

        Args:
            clip: Ignored.
            scenario: Ignored.
            agreed: Ignored.

        Returns:
            Never.

        Raises:
            CannotRun: Always.
        """
        raise CannotRun("timm has only the trunk")

    def tensor(self, name: str) -> Tensor:
        """One of the trunk's tensors, to write to.

        Args:
            name: Canonical name.

        Returns:
            A tensor that shares its memory with the model.

        Raises:
            KeyError: When the trunk has no tensor of that name.
        """
        renamed = target_name(TIMM, name)
        if renamed is None:
            raise KeyError(name)
        return tensor_of(self.model, renamed)


def _load_own(checkpoint: Checkpoint) -> tuple[Any, ModelConfig]:
    """Let timm load a checkpoint with its own names; returns the model and the config for it."""
    config, path = checkpoint.model_config, checkpoint.source.path
    if config is None or checkpoint.fit is None or checkpoint.fit.faults:
        raise mismatch(checkpoint)
    create, load = member(PACKAGE, "create_model"), member("timm.models", "load_checkpoint")
    try:
        if path.is_dir():
            return create(f"local-dir:{path}", pretrained=True), config
        model = _build(config.trunk)
        # timm decides by the suffix, and a file that is being written has a temporary one.
        with temporary_folder() as folder:
            suffix = ".safetensors" if checkpoint.source.container == "safetensors" else ".pt"
            link = folder / f"trunk{suffix}"
            link.symlink_to(path.absolute())
            load(model, str(link))
    except Exception as error:  # from within a package, so it may be any
        reason = " ".join(str(error).split())
        raise MismatchError(
            f"{path}: {titled(PACKAGE)} does not load it: {reason}", hint=install(PACKAGE)
        ) from error
    return model, config


def _build(trunk: TrunkConfig) -> Any:
    """The model that timm registers for a published trunk; for any other, its ``HieraDet``."""
    size = published_size(trunk)
    if size is not None:
        return member(PACKAGE, "create_model")(f"sam2_hiera_{size}", pretrained=False)
    return member("timm.models.hieradet_sam2", "HieraDet")(
        **arguments_of(trunk),
        num_classes=0,
    )
