"""Models that only look like SAM 2: how each is recognised, and what to do with it.

The names of tensors are those of the official code of each model family, and of transformers 5.23.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

from ..dialects import DIALECTS
from ..dialects.keymap import target_name
from ..errors import RefusedError, call_of
from ..io.open import Source
from ..io.tensor import Inventory
from .parts import bare
from .state_dict import ANCHORS, walk

_CALL = call_of("convert", "...", "drop_hq=True")


@dataclass(frozen=True, slots=True)
class Signature:
    """Tensors that only one model family has.

    In a name, ``{i}`` stands for digits, a final dot for any ending, and any prefix may precede it.

    Attributes:
        names: names that must all be there.
        without: names that must not be there.
        rank: the number of dimensions of the first tensor; None for any.
    """

    names: tuple[str, ...]
    without: tuple[str, ...] = ()
    rank: int | None = None

    def may_fit(self, lines: str) -> bool:
        """Rule out most state dicts with one search for each name.

        Args:
            lines: the names of all tensors, joined by line feeds.

        Returns:
            False if a name of this signature cannot be among them.
        """
        return all(name.partition("{i}")[0] in lines for name in self.names)

    def fits(self, tensors: Inventory) -> bool:
        """Check whether a state dict has this signature.

        Args:
            tensors: the inventory of the state dict, by the names in the file.

        Returns:
            Whether it has all of ``names`` and nothing of ``without``.
        """
        first = list(_matching(self.names[0], tensors))
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

    Attributes:
        name: what it is called.
        about: what it is, in a line.
        advice: what to do with it, in a line.
        signatures: tensors that only this family has; any one of them is enough.
        model_types: values of ``model_type`` in its ``config.json``; ``*`` stands for any ending.
        config_key: a field of ``config.json`` that no other family has.
    """

    name: str
    about: str
    advice: str
    signatures: tuple[Signature, ...] = ()
    model_types: tuple[str, ...] = ()
    config_key: str | None = None

    def claims(self, model_type: str) -> bool:
        """Check whether a ``config.json`` names this family.

        Args:
            model_type: the field ``model_type`` of the file.

        Returns:
            Whether it is one of ``model_types``.
        """
        return any(fnmatchcase(model_type, own) for own in self.model_types)

    def refusal(self, path: Path) -> RefusedError:
        """Make the error for a file of this family.

        Args:
            path: the file.

        Returns:
            The error, to be raised.
        """
        advice = self.advice.replace(_CALL, call_of("convert", path, "drop_hq=True"))
        return RefusedError(
            f"{path}: is a checkpoint of {self.name}, not of SAM 2", hint=f"{self.about}; {advice}"
        )


HQ_SAM2 = ModelFamily(
    "HQ-SAM 2",
    "SAM 2.1 large with one more mask token and its layers",
    f"{_CALL} leaves these out and writes the SAM 2.1 that remains",
    (
        Signature(("sam_mask_decoder.hf_token.weight",)),
        Signature(("sam_mask_decoder.hf_mlp.layers.{i}.weight",)),
        Signature(("hf_token.weight", "pred_obj_score_head.layers.{i}.weight")),
    ),
)
# Tensors that HQ-SAM 2 adds to the mask decoder (``sam2/modeling/sam/mask_hq_decoder.py``).
HQ_TENSORS = (
    "sam_mask_decoder.hf_token.weight",
    *(f"sam_mask_decoder.hf_mlp.layers.{i}.{end}" for i in range(3) for end in ("weight", "bias")),
    *(
        f"sam_mask_decoder.embedding_maskfeature.{i}.{end}"
        for i in (0, 1, 3)
        for end in ("weight", "bias")
    ),
)

# The first family that fits is named, so a family comes before those whose tensors it includes.
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
        "SAM2-Adapter",
        "SAM 2 with a prompt generator within its image encoder",
        "use it with the code of tianrun-chen/SAM-Adapter-PyTorch",
        (Signature(("trunk.prompt_generator.",)),),
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
            Signature(("iou_token.weight", "transformer.layers.{i}.mlp.lin1.weight")),
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
    """Find the model family whose signature a state dict has.

    Args:
        tensors: the inventory of the state dict, by the names in the file. If it holds the image
            encoder of SAM 2 behind a prefix, only names with that prefix count.

    Returns:
        The family; None when it may be a SAM 2.
    """
    clean = {bare(name): spec for name, spec in tensors.items()}
    prefix = _prefix(clean)
    if prefix:
        clean = {n.removeprefix(prefix): s for n, s in clean.items() if n.startswith(prefix)}
    lines = "\n".join(clean)
    likely = ((f, s) for f in FAMILIES for s in f.signatures if s.may_fit(lines))
    return next((family for family, signature in likely if signature.fits(clean)), None)


def lookalike_in(source: Source, config: Mapping[str, Any] | None = None) -> ModelFamily | None:
    """Find the model family of what is in a file.

    Args:
        source: the file.
        config: the content of the ``config.json`` beside it. Its ``model_type`` counts only if the
            tensors do not show an image encoder of SAM 2.

    Returns:
        The family; None when the file may hold a SAM 2, alone or beside others.
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


def of_lookalike(config: Mapping[str, Any]) -> bool:
    """Check whether a ``config.json`` names one of these families, whatever its tensors are.

    Args:
        config: the content of the file.

    Returns:
        Whether its ``model_type`` is that of a family.
    """
    return any(family.claims(str(config.get("model_type"))) for family in FAMILIES)


def _prefix(names: Iterable[str]) -> str | None:
    """The prefix of the names of a SAM 2 image encoder; None when there is no such encoder."""
    anchors = _anchors()
    found = [
        clean.removesuffix(anchor)
        for clean in map(bare, names)
        if clean.endswith(anchors)
        for anchor in anchors
        if clean == anchor or clean.endswith(f".{anchor}")
    ]
    return min(found, key=len, default=None)


@cache
def _anchors() -> tuple[str, ...]:
    names = {target_name(dialect, ANCHORS[0]) for dialect in DIALECTS}
    return tuple(name for name in names if name is not None)


def _holds(template: str, names: Iterable[str]) -> bool:
    return next(_matching(template, names), None) is not None


def _matching(template: str, names: Iterable[str]) -> Iterator[str]:
    """The names that end with the template; a search for a part of it is much faster."""
    part = template.partition("{i}")[0]
    return (name for name in names if part in name and _pattern(template).search(name))


@cache
def _pattern(template: str) -> re.Pattern[str]:
    literal = re.escape(template).replace(r"\{i\}", r"\d+")
    return re.compile(rf"(?:^|\.){literal}" + ("" if template.endswith(".") else "$"))
