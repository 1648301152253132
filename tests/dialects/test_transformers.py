"""Compared with the real transformers: names, strict loading, configs, processors."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoProcessor,
    Sam2Config,
    Sam2Model,
    Sam2Processor,
    Sam2VideoConfig,
    Sam2VideoModel,
)

import sam21convert
from sam21convert.checkpoint.open import open_checkpoint
from sam21convert.config.registry import SHIPPED, shipped_config, shipped_tensors
from sam21convert.config.transformers import to_json
from sam21convert.dialects import HF_IMAGE, HF_VIDEO
from sam21convert.dialects.keymap import compile_keymap
from sam21convert.io.data.checksums import same_bytes
from sam21convert.io.safetensors import read_safetensors

from ..support.checkpoints import DEBUG, official_pt, random_bits, state_dict

CONFIGS = [shipped.name for shipped in SHIPPED]
MODELS = {
    "hf-video": (HF_VIDEO, Sam2VideoModel, Sam2VideoConfig, "sam2_video"),
    "hf-image": (HF_IMAGE, Sam2Model, Sam2Config, "sam2"),
}
# Fields of every transformers config that do not describe the model.
BOOKKEEPING = {"transformers_version", "dtype", "architectures", "_name_or_path"}


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("dialect", MODELS)
def test_the_names_are_exactly_those_of_the_model(dialect: str, config: str) -> None:
    rules, model_class, config_class, kind = MODELS[dialect]
    text = to_json(shipped_config(config), kind, "float32", generation=True)  # type: ignore[arg-type]
    with torch.device("meta"):
        theirs = model_class(config_class.from_dict(json.loads(text))).state_dict()
    ours = compile_keymap(rules, shipped_tensors(config)).key
    assert {name: tuple(tensor.shape) for name, tensor in theirs.items()} == {
        name: spec.shape for name, spec in ours.items()
    }


@pytest.mark.parametrize("config", [name for name in CONFIGS if "debug" not in name])
def test_the_round_trip_is_exact_in_every_bit_and_in_order(tmp_path: Path, config: str) -> None:
    canonical = shipped_tensors(config)
    if not config.endswith("hiera_t"):  # half as many bytes, of a gigabyte otherwise
        canonical = {name: replace(spec, dtype="F16") for name, spec in canonical.items()}
    source = random_bits(tmp_path / "source.safetensors", canonical)
    folder, image, back = tmp_path / "hf", tmp_path / "image", tmp_path / "back.pt"
    sam21convert.convert(source, folder, verify=False)
    sam21convert.convert(source, image, to="hf-image", verify=False)
    sam21convert.convert(folder, back, verify=False)
    ours = read_safetensors(source).root
    theirs = open_checkpoint(back).tensors
    assert list(theirs) == list(canonical)
    assert all(same_bytes(ours[name], theirs[name]) for name in canonical)
    for path, (rules, _, _, _) in zip((folder, image), MODELS.values(), strict=True):
        written = read_safetensors(path / "model.safetensors").root
        assert set(written) == set(compile_keymap(rules, canonical).key)
    for file in (*folder.iterdir(), *image.iterdir(), source, back):
        file.unlink()  # the large ones would fill the disk


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("folders")
    official_pt(home / "source.pt")
    for dialect in MODELS:
        sam21convert.convert(home / "source.pt", home / dialect, to=dialect)
    return {dialect: home / dialect for dialect in MODELS}


class TestWrittenFolder:
    @pytest.mark.parametrize(
        ("dialect", "model_class"),
        [("hf-video", Sam2VideoModel), ("hf-image", Sam2Model)],
    )
    def test_it_loads_with_nothing_missing_or_unexpected(
        self, folders: dict[str, Path], dialect: str, model_class: Any
    ) -> None:
        model, info = model_class.from_pretrained(folders[dialect], output_loading_info=True)
        assert not info["missing_keys"]
        assert not info["unexpected_keys"]
        assert not info["mismatched_keys"]
        written = read_safetensors(folders[dialect] / "model.safetensors").root
        assert set(model.state_dict()) == set(written)
        canonical = state_dict()
        assert torch.equal(
            model.state_dict()["prompt_encoder.point_embed.weight"],
            torch.cat(
                [canonical[f"sam_prompt_encoder.point_embeddings.{k}.weight"] for k in range(4)]
            ),
        )

    def test_an_image_model_loads_from_the_video_folder(self, folders: dict[str, Path]) -> None:
        _, info = Sam2Model.from_pretrained(folders["hf-video"], output_loading_info=True)
        assert not info["missing_keys"]
        assert not info["mismatched_keys"]

    def test_the_processors_load(self, folders: dict[str, Path]) -> None:
        video = AutoProcessor.from_pretrained(folders["hf-video"])
        assert type(video).__name__ == "Sam2VideoProcessor"
        assert video.image_processor.size["height"] == shipped_config(DEBUG).image_size
        assert video.image_processor.mask_size["height"] == shipped_config(DEBUG).image_size // 4
        image = AutoProcessor.from_pretrained(folders["hf-image"])
        assert type(image).__name__ == "Sam2Processor"
        assert image.target_size == shipped_config(DEBUG).image_size
        Sam2Processor.from_pretrained(folders["hf-video"])


@pytest.mark.parametrize("config", [name for name in CONFIGS if "debug" not in name])
def test_config_json_equals_the_published_settings(config: str) -> None:
    """Field by field, as transformers reads it, compared with the official values."""
    ours = Sam2VideoConfig.from_dict(
        json.loads(to_json(shipped_config(config), "sam2_video", "float32", generation=True))
    )
    facts = shipped_config(config)
    theirs = Sam2VideoConfig(
        enable_occlusion_spatial_embedding=facts.generation == "2.1",
        enable_temporal_pos_encoding_for_object_pointers=facts.generation == "2.1",
        vision_config={
            "backbone_config": {
                "model_type": "sam2_hiera_det_model",
                "hidden_size": facts.trunk.embed_dim,
                "blocks_per_stage": list(facts.trunk.stages),
                "embed_dim_per_stage": list(facts.trunk.dims),
                "num_attention_heads_per_stage": list(facts.trunk.heads),
                "window_size_per_stage": list(facts.trunk.window_spec),
                "global_attention_blocks": list(facts.trunk.global_att_blocks),
                "window_positional_embedding_background_size": list(
                    facts.trunk.window_pos_embed_bkg_spatial_size
                ),
            },
            "backbone_channel_list": list(reversed(facts.trunk.dims)),
        },
    )
    assert meaning(ours.to_dict()) == meaning(theirs.to_dict())


def test_the_comparison_of_configs_can_fail() -> None:
    one, other = Sam2VideoConfig(), Sam2VideoConfig(num_maskmem=6)
    assert meaning(one.to_dict()) != meaning(other.to_dict())


def meaning(content: dict[str, object]) -> dict[str, object]:
    """The fields of a config that describe the model, without those of old versions only."""
    return {
        name: meaning(value) if isinstance(value, dict) else value
        for name, value in content.items()
        if name in known_fields() - BOOKKEEPING
    }


@cache
def known_fields() -> set[str]:
    config = Sam2VideoConfig()
    vision = config.vision_config
    parts = [config, vision, vision.backbone_config]
    parts += [config.mask_decoder_config, config.prompt_encoder_config]
    return {name for part in parts for name in part.to_dict()}
