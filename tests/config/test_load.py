"""Configs of every format are read, and contradictions are refused with file and field."""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import fields, is_dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml

from sam21convert.config import registry
from sam21convert.config.load import load_config
from sam21convert.config.registry import SHIPPED, Shipped, shipped_config, shipped_like
from sam21convert.config.transformers import from_json, to_json
from sam21convert.config.transformers_folder import side_files
from sam21convert.errors import MissingFileError, RefusedError, UnreadableError
from sam21convert.model.config import ConfigError, ModelConfig

from ..support.checkpoints import official_yaml
from ..support.paths import FIXTURES

PUBLISHED = [shipped for shipped in SHIPPED if shipped.size != "debug"]
# SHA-256 of the files of the published repositories facebook/sam2.1-hiera-*.
PUBLISHED_JSON = {
    "sam2.1/sam2.1_hiera_t": "860aff9751b139d83a4ad7df1e5535416fded533e0ead02625edbefcb9953cce",
    "sam2.1/sam2.1_hiera_s": "97ff9f65b76d107acda4247885f0a5555d0048850ae3c5f97183df289aaecde9",
    "sam2.1/sam2.1_hiera_l": "00446988cf4d617118d2d347eabe2c46aebed744628facdd540508be30b69ec3",
}
PUBLISHED_PROCESSORS = {
    "preprocessor_config.json": "6ebf229ee259368ce4a8d4f2fe893a72b053023710853e257253939e601f583d",
    "processor_config.json": "f8a68e865cfad115c1c2763f3d93eca7b1c622da06da2a9273eb437fb2389b6d",
    "video_preprocessor_config.json": (
        "9fccfe5f464ec38c2f236d0e6a68e95511c80c22132fc2fa4b9f7b65f24fad95"
    ),
}
TINY = shipped_config("sam2.1/sam2.1_hiera_t")


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def saved(tmp_path: Path, content: Any, name: str = "config.yaml") -> Path:
    path = tmp_path / name
    path.write_text(json.dumps(content) if name.endswith("json") else yaml.safe_dump(content))
    return path


def changed(content: dict[str, Any], field: str, value: Any) -> dict[str, Any]:
    """A copy with one dotted field set, or removed when ``value`` is ``...``."""
    content = copy.deepcopy(content)
    *path, last = field.split(".")
    section = content
    for step in path:
        section = section.setdefault(step, {})
    if value is ...:
        del section[last]
    else:
        section[last] = value
    return content


class TestShipped:
    @pytest.mark.parametrize("shipped", SHIPPED, ids=lambda s: s.name)
    def test_the_table_agrees_with_the_files(self, shipped: Shipped) -> None:
        config = shipped_config(shipped.name)
        assert (config.trunk.embed_dim, config.trunk.depth) == (shipped.embed_dim, shipped.blocks)
        assert config.generation == shipped.generation
        assert shipped_like(config) == shipped

    @pytest.mark.parametrize("shipped", PUBLISHED, ids=lambda s: s.name)
    def test_the_facts_are_those_of_the_official_yaml(self, shipped: Shipped) -> None:
        assert load_config(official_yaml(shipped.name)) == shipped_config(shipped.name)

    @pytest.mark.parametrize(
        "name",
        [
            "sam2.1/sam2.1_hiera_b+",
            "sam2.1_hiera_b+",
            "sam2.1_hiera_base_plus",
            "configs/sam2.1/sam2.1_hiera_b+.yaml",
        ],
    )
    def test_a_config_has_several_names(self, name: str) -> None:
        assert load_config(name) == shipped_config("sam2.1/sam2.1_hiera_b+")

    def test_the_error_for_an_unknown_name_lists_the_known_ones(self) -> None:
        with pytest.raises(MissingFileError, match="sam9: no such config") as caught:
            load_config("sam9")
        assert "sam2.1/sam2.1_hiera_t" in str(caught.value)

    def test_settings_that_shape_no_tensor_do_not_matter(self) -> None:
        trunk = replace(TINY.trunk, window_spec=(8, 4, 16, 8), global_att_blocks=(7,))
        assert shipped_like(replace(TINY, image_size=512, trunk=trunk)) is not None
        assert shipped_like(replace(TINY, num_maskmem=5)) is None
        assert shipped_like(replace(TINY, trunk=replace(TINY.trunk, stages=(1, 3, 6, 2)))) is None

    def test_the_glossary_explains_every_field(self) -> None:
        root = resources.files("sam21convert.configs")
        lines = root.joinpath("sam2.1/sam2.1_hiera_t.yaml").read_text().splitlines()
        explained: set[str] = set()
        comment = False
        for line in lines:
            text = line.strip()
            if text.startswith("#"):
                comment = True
            elif text:
                explained |= {text.partition(":")[0]} if comment else set()
            else:
                comment = False
        for section in (ModelConfig, type(TINY.trunk), type(TINY.memory_attention)):
            for field in fields(section):
                if not is_dataclass(getattr(TINY, field.name, None)):
                    assert field.name in explained, field.name


class TestPlainYaml:
    @pytest.fixture
    def content(self) -> dict[str, Any]:
        text = (registry.BY_NAME["debug/sam2.1_debug"].folder / "sam2.1_debug.yaml").read_text()
        return dict(yaml.safe_load(text))

    def test_it_reads(self, tmp_path: Path, content: dict[str, Any]) -> None:
        assert load_config(saved(tmp_path, content)) == shipped_config("debug/sam2.1_debug")

    @pytest.mark.parametrize(
        ("field", "value", "complaint"),
        [
            ("generation", 2.1, 'generation: expected "2.0" or "2.1"'),
            ("image_size", "big", "image_size: expected a whole number"),
            ("image_size", 100, "image_size: 100 is not a multiple of 32"),
            ("image_size", 10**9, "image_size: expected a whole number from 1 to"),
            ("image_size", ..., "image_size: is missing"),
            ("colour", 1, "colour: no such field"),
            ("trunk.colour", 1, "trunk.colour: no such field"),
            ("trunk", 3, "trunk: must hold named values"),
            ("trunk.num_heads", 3, "trunk.num_heads: 3 heads do not divide embed_dim 8"),
            ("trunk.num_heads", True, "trunk.num_heads: expected a whole number"),
            ("trunk.stages", [1, 1, 3], "trunk.stages: expected 4 numbers, found 3"),
            ("trunk.stages", [1, 1, 60000, 2], "trunk.stages: 60004 blocks in all"),
            ("trunk.stages", 6, "trunk.stages: expected a list"),
            ("trunk.global_att_blocks", [7], "trunk.global_att_blocks: block 7 does not exist"),
            ("memory_encoder.out_dim", 7, "memory_encoder.out_dim: 7 must be even and divide"),
            ("memory_attention.rope_theta", 0, "memory_attention.rope_theta: must be above 0"),
            ("fpn_top_down_levels", [4], "fpn_top_down_levels: level 4 does not exist"),
            ("multimask_min_pt_num", 2, "multimask_min_pt_num: 2 is above"),
            ("multimask_output_in_sam", 1, "multimask_output_in_sam: expected true or false"),
            ("sigmoid_bias_for_mem_enc", "x", "sigmoid_bias_for_mem_enc: expected a number"),
            ("trunk.window_spec", [8, 4, 7, 3], "trunk.window_spec: a window of 7 tokens"),
            ("hidden_dim", 200, "hidden_dim: must be a multiple of 16"),
        ],
    )
    def test_a_contradiction_names_file_and_field(
        self, tmp_path: Path, content: dict[str, Any], field: str, value: Any, complaint: str
    ) -> None:
        path = saved(tmp_path, changed(content, field, value))
        with pytest.raises(RefusedError) as caught:
            load_config(path)
        assert caught.value.message.startswith(f"{path}: {complaint}")

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("a: [", "not valid YAML"),
            ("!!python/object/apply:os.system ['true']", "not valid YAML"),
            ("- 1", "not a mapping"),
            ("", "not a mapping"),
        ],
    )
    def test_a_file_that_is_not_a_mapping_is_unreadable(
        self, tmp_path: Path, text: str, complaint: str
    ) -> None:
        path = tmp_path / "config.yaml"
        path.write_text(text)
        with pytest.raises(UnreadableError, match=complaint):
            load_config(path)


class TestOfficialYaml:
    @pytest.fixture
    def content(self) -> dict[str, Any]:
        return dict(yaml.safe_load(official_yaml("sam2.1/sam2.1_hiera_t").read_text()))

    def test_a_training_run_holds_the_model_it_trains(self) -> None:
        path = official_yaml("sam2.1_training/sam2.1_hiera_b+_MOSE_finetune")
        assert load_config(path) == shipped_config("sam2.1/sam2.1_hiera_b+")

    @pytest.mark.parametrize("stem", ["sam2", "sam2.1"])
    def test_a_size_that_was_never_published_is_read(self, stem: str) -> None:
        path = FIXTURES / f"{stem}_debug_official.yaml"
        assert load_config(path) == shipped_config(f"debug/{stem}_debug")

    def test_scientific_notation_is_a_number(self, tmp_path: Path, content: dict[str, Any]) -> None:
        field = "model.memory_attention.layer.self_attention.rope_theta"
        path = saved(tmp_path, changed(content, field, "1e4"))
        assert load_config(path) == TINY

    @pytest.mark.parametrize(
        ("field", "value", "complaint"),
        [
            ("image_encoder.trunk._target_", "timm.ViT", "image_encoder.trunk._target_: expected"),
            ("pred_obj_scores", False, "pred_obj_scores: every SAM 2 has True, found False"),
            ("pred_obj_scores", ..., "pred_obj_scores: every SAM 2 has True, found False"),
            ("use_signed_tpos_enc_to_obj_ptrs", False, "use_signed_tpos_enc_to_obj_ptrs: is False"),
            ("no_obj_embed_spatial", ..., "add_tpos_enc_to_obj_ptrs: is True while"),
            ("memory_attention.d_model", 128, "memory_attention.d_model: is 128"),
            ("memory_attention.num_layers", ..., "memory_attention.num_layers: is missing"),
            ("image_encoder.neck.backbone_channel_list", [1], "image_encoder.neck.backbone_chan"),
            ("image_size", "${nowhere}", "image_size: refers to nowhere, which the file does not"),
            ("image_size", "${times:1,2}", "image_size: cannot resolve its interpolation"),
            ("image_encoder.trunk.stages", "12", "image_encoder.trunk.stages: expected a list"),
        ],
    )
    def test_a_contradiction_names_file_and_field(
        self, tmp_path: Path, content: dict[str, Any], field: str, value: Any, complaint: str
    ) -> None:
        path = saved(tmp_path, changed(content, f"model.{field}", value))
        with pytest.raises(RefusedError) as caught:
            load_config(path)
        assert caught.value.message.startswith(f"{path}: {complaint}")

    def test_an_interpolation_is_looked_up(self, tmp_path: Path, content: dict[str, Any]) -> None:
        content = changed(content, "model.image_size", "${scratch.resolution}")
        content = changed(content, "scratch.resolution", "${scratch.side}")
        path = saved(tmp_path, changed(content, "scratch.side", 512))
        assert load_config(path) == replace(TINY, image_size=512)

    def test_a_circular_interpolation_is_an_error(
        self, tmp_path: Path, content: dict[str, Any]
    ) -> None:
        path = saved(tmp_path, changed(content, "model.image_size", "${model.image_size}"))
        with pytest.raises(RefusedError, match="cannot resolve"):
            load_config(path)


class TestTransformersJson:
    @pytest.mark.parametrize(("name", "sha256"), PUBLISHED_JSON.items())
    def test_the_file_is_the_published_one(self, name: str, sha256: str) -> None:
        config = shipped_config(name)
        assert digest(to_json(config, "sam2_video", "float32", generation=True)) == sha256

    def test_the_processors_are_the_published_ones(self) -> None:
        files = side_files(TINY, "sam2_video", "float32", generation=True)
        assert {name: digest(files[name]) for name in PUBLISHED_PROCESSORS} == PUBLISHED_PROCESSORS

    @pytest.mark.parametrize("kind", ["sam2_video", "sam2"])
    @pytest.mark.parametrize("shipped", SHIPPED, ids=lambda s: s.name)
    def test_a_written_file_is_read_back(self, shipped: Shipped, kind: Any) -> None:
        config = replace(shipped_config(shipped.name), image_size=512)
        text = to_json(config, kind, "float32", generation=True)
        assert from_json(json.loads(text), like=config) == config

    @pytest.mark.parametrize(
        ("field", "value", "named"),
        [
            ("model_type", "sam3_video", "model_type"),
            ("image_encoder_config", {}, "image_encoder_config"),
            ("mask_decoder_config.mlp_dim", 1024, "mask_decoder_config.mlp_dim"),
            ("memory_encoder_hidden_size", 128, "memory_encoder_hidden_size"),
            ("memory_attention_rope_feat_sizes", [32, 32], "memory_attention_rope_feat_sizes"),
            ("vision_config.backbone_config.hidden_size", 112, "vision_config.backbone_"),
            ("vision_config.backbone_config.blocks_per_stage", 3, "vision_config.backbone_config"),
            ("prompt_encoder_config.image_size", 512, "prompt_encoder_config.image_size"),
            ("image_size", "large", "image_size"),
            ("enable_occlusion_spatial_embedding", False, "enable_temporal_pos_encoding_for_obj"),
        ],
    )
    def test_a_contradiction_names_file_and_field(
        self, tmp_path: Path, field: str, value: Any, named: str
    ) -> None:
        content = json.loads(to_json(TINY, "sam2_video", "float32", generation=True))
        path = saved(tmp_path, changed(content, field, value), "config.json")
        with pytest.raises(RefusedError) as caught:
            load_config(path)
        assert caught.value.message.startswith(f"{path}: {named}")

    def test_a_size_may_be_a_pair(self) -> None:
        content = json.loads(to_json(TINY, "sam2_video", "float32", generation=True))
        assert from_json(changed(content, "image_size", [1024, 1024])) == TINY

    def test_a_missing_field_has_the_default_of_transformers(self) -> None:
        assert from_json({"model_type": "sam2_video"}) == TINY


def test_a_config_error_names_its_field() -> None:
    with pytest.raises(ConfigError) as caught:
        replace(TINY, image_size=0)
    assert caught.value.field == "image_size"
