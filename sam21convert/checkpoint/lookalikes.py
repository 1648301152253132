"""Models that only look like SAM 2: how each gives itself away, and what to do with it.

Names of tensors are those of the official code of each family, and of transformers 5.23.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

from ..dialects import DIALECTS
from ..dialects.keymap import target_name
from ..errors import RefusedError
from ..io.open import Source
from ..io.tensor import Inventory
from .state_dict import ANCHORS, COMPILED, walk


@dataclass(frozen=True, slots=True)
class Signature:
    """Tensors that only one family has.

    All of ``names`` must be there, and none of ``without``; whatever stands before them. In a
    name, ``{i}`` stands for digits, and a final dot for all that begins so. ``rank`` is the number
    of dimensions of the first.
    """

    names: tuple[str, ...]
    without: tuple[str, ...] = ()
    rank: int | None = None

    def fits(self, tensors: Inventory) -> bool:
        """Whether these tensors bear the signature."""
        first = [name for name in tensors if _pattern(self.names[0]).search(name)]
        if self.rank is not None:
            first = [name for name in first if len(tensors[name].shape) == self.rank]
        return (
            bool(first)
            and all(_holds(name, tensors) for name in self.names[1:])
            and not any(_holds(name, tensors) for name in self.without)
        )


@dataclass(frozen=True, slots=True)
class ModelFamily:
    """A family of models that shares names or code with SAM 2.

    ``about`` says what it is and ``advice`` what to do, a line each. ``model_types`` are those of
    its ``config.json``, ``*`` for any ending; ``config_key`` is a field of it that no other has.
    """

    name: str
    about: str
    advice: str
    signatures: tuple[Signature, ...] = ()
    model_types: tuple[str, ...] = ()
    config_key: str | None = None

    def claims(self, model_type: str) -> bool:
        """Whether that is a ``model_type`` of this family."""
        return any(fnmatchcase(model_type, own) for own in self.model_types)

    def refusal(self, path: Path) -> RefusedError:
        """The error for a file of this family."""
        return RefusedError(
            f"{path}: is a checkpoint of {self.name}, not of SAM 2",
            hint=f"{self.about}; {self.advice}",
        )


HQ_SAM2 = ModelFamily(
    "HQ-SAM 2",
    "SAM 2.1 large with one more mask token and its layers",
    "convert `drop_hq=True` leaves these out and writes the SAM 2.1 that remains",
    (
        Signature(("sam_mask_decoder.hf_token.weight",)),
        Signature(("sam_mask_decoder.hf_mlp.layers.{i}.weight",)),
    ),
)
# What the decoder of HQ-SAM 2 has and that of SAM 2 has not (sam2/modeling/sam/mask_hq_decoder.py).
HQ_TENSORS = (
    "sam_mask_decoder.hf_token.weight",
    *(f"sam_mask_decoder.hf_mlp.layers.{i}.{end}" for i in range(3) for end in ("weight", "bias")),
    *(
        f"sam_mask_decoder.embedding_maskfeature.{i}.{end}"
        for i in (0, 1, 3)
        for end in ("weight", "bias")
    ),
)

# The first that fits names a file: those that hold most of another come before it.
FAMILIES: tuple[ModelFamily, ...] = (
    ModelFamily(
        "SAM 3.1",
        "its trackers were trained on another image encoder, so none of it makes a SAM 2",
        "use it with the code of facebookresearch/sam3",
        (Signature(("interactive_sam_mask_decoder.iou_token.weight",)),),
    ),
    ModelFamily(
        "SAM 3",
        "its tracker has the memory of SAM 2, trained on another image encoder",
        "use it with the code of facebookresearch/sam3 or the Sam3 models of transformers",
        (
            Signature(("maskmem_backbone.", "sam_mask_decoder.")),
            Signature(("backbone.vision_backbone.", "backbone.language_backbone.")),
            Signature(("detector_model.", "tracker_model.")),
            Signature(("vision_encoder.neck.fpn_layers.", "vision_encoder.backbone.embeddings.")),
        ),
        model_types=("sam3*",),
    ),
    ModelFamily(
        "EdgeTAM",
        "a smaller tracker with another image encoder and a compressed memory",
        "use it with the code of facebookresearch/EdgeTAM or the EdgeTam models of transformers",
        (
            Signature(("spatial_perceiver.",)),
            Signature(("image_encoder.trunk.body.",)),
            Signature(("vision_encoder.backbone.timm_model.",)),
        ),
        model_types=("edgetam*",),
    ),
    HQ_SAM2,
    ModelFamily(
        "SAM2-UNet",
        "the image encoder of SAM 2 between adapters, and a U-Net decoder",
        "use it with its own code; facebook/sam2-hiera-large is the encoder it was made from",
        (Signature(("blocks.{i}.prompt_learn.", "blocks.{i}.block.")),),
    ),
    ModelFamily(
        "EfficientTAM",
        "the memory of SAM 2 on a plain ViT",
        "use it with the code of yformer/EfficientTAM",
        (
            Signature(
                ("image_encoder.trunk.pos_embed",),
                without=("image_encoder.trunk.pos_embed_window",),
                rank=3,
            ),
        ),
    ),
    ModelFamily(
        "HQ-SAM",
        "SAM 1 with one more mask token and its layers: another image encoder, no memory",
        "use it with the code of SysCV/sam-hq or SamHQModel of transformers",
        (
            Signature(("mask_decoder.hf_token.weight",)),
            Signature(("mask_decoder.hq_token.weight",)),
        ),
        model_types=("sam_hq",),
    ),
    ModelFamily(
        "MobileSAM",
        "SAM 1 with a TinyViT as image encoder, no memory",
        "use it with the code of ChaoningZhang/MobileSAM",
        (
            Signature(
                ("image_encoder.patch_embed.seq.{i}.c.weight", "mask_decoder.iou_token.weight")
            ),
        ),
    ),
    ModelFamily(
        "SAM 1",
        "the first Segment Anything: another image encoder, no memory",
        "use it with the code of facebookresearch/segment-anything or SamModel of transformers",
        (
            Signature(
                ("image_encoder.pos_embed",),
                without=("image_encoder.trunk.", "image_encoder.pos_embed_window"),
                rank=4,
            ),
            Signature(("vision_encoder.layers.{i}.attn.rel_pos_h",)),
        ),
        model_types=("sam",),
    ),
    ModelFamily(
        "a draft of transformers (August 2024)",
        "transformers does not load it today",
        "take the repository of the same name without -hf, as in hf://facebook/sam2-hiera-tiny",
        config_key="image_encoder_config",
    ),
)


def family_of(tensors: Inventory) -> ModelFamily | None:
    """The family that the tensors of a state dict give away; None when they may be a SAM 2.

    Names are as they stand in the file. In a larger model only what surrounds its SAM 2 counts.
    """
    clean = {name.replace(COMPILED, ""): spec for name, spec in tensors.items()}
    prefix = _prefix(clean)
    if prefix:
        clean = {n.removeprefix(prefix): s for n, s in clean.items() if n.startswith(prefix)}
    return next((f for f in FAMILIES if any(s.fits(clean) for s in f.signatures)), None)


def lookalike_in(source: Source, config: Mapping[str, Any] | None = None) -> ModelFamily | None:
    """The family of what is in a file; None when it may be a SAM 2, alone or beside others.

    ``config`` is the content of the ``config.json`` beside it; its ``model_type`` counts where the
    tensors may be of any model.
    """
    config = config or {}
    holders = [{name: ref.spec for name, ref in refs.items()} for _, refs in walk(source.root)]
    trunks = [holder for holder in holders if _prefix(holder) is not None]
    found = [family_of(holder) for holder in trunks or holders]
    named = [family for family in found if family is not None]
    if named and (not trunks or None not in found):
        return named[0]
    kind = "" if trunks else str(config.get("model_type"))
    return next((f for f in FAMILIES if f.config_key in config or f.claims(kind)), None)


def _prefix(names: Iterable[str]) -> str | None:
    """What stands before the names of the SAM 2 image encoder; None when there is none."""
    found = [
        clean.removesuffix(anchor)
        for name in names
        for clean in [name.replace(COMPILED, "")]
        for anchor in _anchors()
        if clean == anchor or clean.endswith(f".{anchor}")
    ]
    return min(found, key=len, default=None)


@cache
def _anchors() -> frozenset[str]:
    names = (target_name(dialect, ANCHORS[0]) for dialect in DIALECTS)
    return frozenset(name for name in names if name is not None)


def _holds(template: str, names: Iterable[str]) -> bool:
    return any(map(_pattern(template).search, names))


@cache
def _pattern(template: str) -> re.Pattern[str]:
    literal = re.escape(template).replace(r"\{i\}", r"\d+")
    return re.compile(rf"(?:^|\.){literal}" + ("" if template.endswith(".") else "$"))
