"""Models that only look like SAM 2 are named and refused; a SAM 2 never is."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from sam21convert import convert, inspect, load_model, parity, validate
from sam21convert.checkpoint import lookalikes
from sam21convert.checkpoint.lookalikes import (
    FAMILIES,
    HQ_SAM2,
    HQ_TENSORS,
    ModelFamily,
    Signature,
    family_of,
    lookalike_in,
)
from sam21convert.checkpoint.open import open_checkpoint, shipped_keymap
from sam21convert.commands.main import main
from sam21convert.config.registry import SHIPPED, shipped_tensors
from sam21convert.dialects import DIALECTS
from sam21convert.dialects.rules import Dialect
from sam21convert.errors import MismatchError, RefusedError, UsageError
from sam21convert.io.open import open_source
from sam21convert.io.source import Source
from sam21convert.io.tensor import Inventory, TensorRef, TensorSpec

from ..support.checkpoints import DEBUG, official_pt, random_bits, read_bytes, state_dict

LARGE = "sam2.1/sam2.1_hiera_l"
INTERACTIVE = "tracker.model.interactive_sam_mask_decoder.iou_token.weight"
PERCEIVER = {"spatial_perceiver.latents": TensorSpec("F32", (256, 64))}
ENDS = (("weight", 2), ("bias", 1))
NESTINGS: tuple[tuple[str, ...], ...] = ((), ("model",), ("state_dict",), ("a", "b", "c"))
PREFIXES = (
    *("", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.", "sam2."),
    *(
        "model.sam2.",
        "grounding_encoder.sam2_model.",
        "visual_model.",
        "tracker.",
        "tracker_model.",
    ),
    *("detector.", "image_encoder.", "vision_encoder.", "spatial_tracker."),
)


# Inventories of the model families, built by transformers where it has them.


@cache
def from_transformers(model_type: str) -> Inventory:
    """Names and shapes of a model of transformers, built without memory for its tensors."""
    from transformers import AutoConfig, AutoModel, EdgeTamVideoConfig, EdgeTamVisionConfig

    config = AutoConfig.for_model(model_type)
    if model_type == "edgetam_video":  # its default is the image encoder of SAM 2
        config = EdgeTamVideoConfig(vision_config=EdgeTamVisionConfig())
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        model = AutoModel.from_config(config)
    return {name: TensorSpec("F32", tuple(t.shape)) for name, t in model.state_dict().items()}


def official(config: str = LARGE) -> dict[str, TensorSpec]:
    return dict(shipped_tensors(config))


def specs(*shapes: tuple[str, tuple[int, ...]]) -> dict[str, TensorSpec]:
    return {name: TensorSpec("F32", shape) for name, shape in shapes}


def without_trunk() -> dict[str, TensorSpec]:
    return {n: s for n, s in official().items() if not n.startswith("image_encoder.trunk.")}


def sam3(tracker: str, *more: str) -> dict[str, TensorSpec]:
    """The tracker has most names of SAM 2, except those of the memory and the image encoder."""
    renamed = {
        tracker
        + name.replace("memory_encoder.", "maskmem_backbone.").replace(
            "memory_attention.", "transformer.encoder."
        ): spec
        for name, spec in without_trunk().items()
        if not name.startswith("image_encoder.")
    }
    trunk = ("detector.backbone.vision_backbone.trunk.patch_embed.proj.weight", (1024, 3, 14, 14))
    text = ("detector.backbone.language_backbone.resizer.weight", (256, 1024))
    return {**renamed, **specs(trunk, text, *((name, (1, 256)) for name in more))}


def edgetam() -> dict[str, TensorSpec]:
    return without_trunk() | specs(
        ("image_encoder.trunk.body.stem_0.c.weight", (24, 3, 3, 3)),
        ("spatial_perceiver.latents", (256, 64)),
        ("spatial_perceiver.layers.0.attn.to_q.weight", (64, 64)),
    )


def efficienttam() -> dict[str, TensorSpec]:
    return without_trunk() | specs(
        ("image_encoder.trunk.pos_embed", (1, 197, 384)),
        ("image_encoder.trunk.patch_embed.proj.weight", (384, 3, 16, 16)),
        ("image_encoder.trunk.blocks.0.attn.qkv.weight", (1152, 384)),
    )


def hq_sam2(config: str = LARGE) -> dict[str, TensorSpec]:
    """Shapes after ``mask_hq_decoder.py``, for a decoder of ``width`` channels."""
    width = official(config)["sam_mask_decoder.iou_token.weight"].shape[1]
    mlp, features = "sam_mask_decoder.hf_mlp.layers", "sam_mask_decoder.embedding_maskfeature"
    return official(config) | specs(
        ("sam_mask_decoder.hf_token.weight", (1, width)),
        *((f"{mlp}.{i}.{end}", (width,) * dim) for i in (0, 1) for end, dim in ENDS),
        (f"{mlp}.2.weight", (width // 8, width)),
        (f"{mlp}.2.bias", (width // 8,)),
        (f"{features}.0.weight", (width // 4, width // 8, 3, 3)),
        *((f"{features}.{i}", (width // 4,)) for i in ("0.bias", "1.weight", "1.bias")),
        (f"{features}.3.weight", (width // 8, width // 4, 3, 3)),
        (f"{features}.3.bias", (width // 8,)),
    )


def sam2_unet() -> dict[str, TensorSpec]:
    trunk = "image_encoder.trunk."
    found = {}
    for name, spec in official("sam2/sam2_hiera_l").items():
        if name.startswith(trunk):
            own = name.removeprefix(trunk).split(".")
            if own[0] == "blocks":
                own.insert(2, "block")
            found["encoder." + ".".join(own)] = spec
    return found | specs(
        ("encoder.blocks.0.prompt_learn.0.weight", (32, 144)),
        ("rfb1.branch0.0.conv.weight", (64, 144, 1, 1)),
    )


def sam2_adapter() -> dict[str, TensorSpec]:
    """It has neither ``sam_`` nor a memory, and its prompt generator is within the trunk."""
    renamed = {
        name.removeprefix("sam_"): spec
        for name, spec in official().items()
        if name.startswith(("image_encoder.", "sam_mask_decoder."))
    }
    return renamed | specs(("image_encoder.trunk.prompt_generator.shared_mlp1.weight", (144, 4)))


def alone(inventory: Inventory, part: str) -> dict[str, TensorSpec]:
    return {n.removeprefix(part): spec for n, spec in inventory.items() if n.startswith(part)}


def mobile_sam() -> dict[str, TensorSpec]:
    return specs(
        ("image_encoder.patch_embed.seq.0.c.weight", (32, 3, 3, 3)),
        ("image_encoder.layers.0.blocks.0.conv1.c.weight", (256, 64, 1, 1)),
        ("mask_decoder.iou_token.weight", (1, 256)),
    )


def sam1(*more: str) -> dict[str, TensorSpec]:
    return specs(
        ("image_encoder.pos_embed", (1, 64, 64, 768)),
        ("image_encoder.blocks.0.attn.rel_pos_h", (27, 64)),
        ("prompt_encoder.not_a_point_embed.weight", (1, 256)),
        ("mask_decoder.iou_token.weight", (1, 256)),
        *((name, (1, 256)) for name in more),
    )


CASES: tuple[tuple[str, str, Callable[[], Inventory]], ...] = (
    ("SAM 3.1", "official", lambda: sam3("tracker.model.", INTERACTIVE)),
    ("SAM 3", "official", lambda: sam3("tracker.")),
    ("SAM 3", "detector", lambda: {n: s for n, s in sam3("").items() if n.startswith("detector.")}),
    ("SAM 3", "tracker", lambda: sam3("")),
    *(
        ("SAM 3", kind, lambda kind=kind: from_transformers(kind))
        for kind in ("sam3", "sam3_tracker", "sam3_tracker_video", "sam3_video", "sam3_lite_text")
    ),
    ("EdgeTAM", "official", edgetam),
    ("EdgeTAM", "a SAM 2 with one of its tensors", lambda: official() | PERCEIVER),
    ("EdgeTAM", "edgetam", lambda: from_transformers("edgetam")),
    ("EdgeTAM", "edgetam_video", lambda: from_transformers("edgetam_video")),
    ("HQ-SAM 2", "official", hq_sam2),
    ("HQ-SAM 2", "its decoder", lambda: alone(hq_sam2(), "sam_mask_decoder.")),
    ("SAM2-UNet", "official", sam2_unet),
    ("SAM2-Adapter", "official", sam2_adapter),
    ("EfficientTAM", "official", efficienttam),
    ("HQ-SAM", "official", lambda: sam1("mask_decoder.hf_token.weight")),
    ("HQ-SAM", "sam_hq", lambda: from_transformers("sam_hq")),
    ("HQ-SAM", "light", lambda: mobile_sam() | specs(("mask_decoder.hf_token.weight", (1, 256)))),
    ("MobileSAM", "official", mobile_sam),
    ("SAM 1", "official", sam1),
    ("SAM 1", "sam", lambda: from_transformers("sam")),
    ("SAM 1", "its decoder", lambda: alone(from_transformers("sam"), "mask_decoder.")),
)
IDS = [f"{name}-{form}" for name, form, _ in CASES]


def source(inventory: Inventory, path: tuple[str, ...] = (), **beside: Any) -> Source:
    root: Any = {name: TensorRef(spec, Path("x"), 0) for name, spec in inventory.items()}
    for key in reversed(path):
        root = {key: root}
    return Source(Path("x"), "safetensors", (), {**root, **beside})


def prefixed(inventory: Inventory, prefix: str) -> dict[str, TensorSpec]:
    return {prefix + name: spec for name, spec in inventory.items()}


def compiled_inside(inventory: Inventory) -> dict[str, TensorSpec]:
    """The names that a model has when its parts are compiled."""
    return {name.replace(".", "._orig_mod.", 1): spec for name, spec in inventory.items()}


class TestLookalikes:
    @pytest.mark.parametrize(("name", "form", "make"), CASES, ids=IDS)
    def test_each_is_recognised_in_any_wrapper(
        self, name: str, form: str, make: Callable[[], Inventory]
    ) -> None:
        for prefix, path in zip(
            ("", "module.", "_orig_mod.", "net.module."), NESTINGS, strict=True
        ):
            found = lookalike_in(source(prefixed(make(), prefix), path, epoch=3))
            assert found is not None, (prefix, path)
            assert found.name == name, (prefix, path)
        found = family_of(compiled_inside(make()))
        assert found is not None
        assert found.name == name

    def test_every_signature_is_covered_by_a_case(self) -> None:
        inventories = [make() for _, _, make in CASES]
        for family in FAMILIES:
            for signature in family.signatures:
                assert any(map(signature.fits, inventories)), signature

    @pytest.mark.parametrize("family", FAMILIES[:-1], ids=lambda family: family.name)
    def test_a_signature_needs_all_of_its_tensors(self, family: ModelFamily) -> None:
        for signature in family.signatures:
            complete = next(make() for _, _, make in CASES if signature.fits(make()))
            for name in signature.names:
                rest = {n: s for n, s in complete.items() if not Signature((name,)).fits({n: s})}
                assert not signature.fits(rest)

    def test_rank_and_absent_names_distinguish_a_lookalike_from_a_sam2(self) -> None:
        trunk = "image_encoder.trunk."
        bare = {n.replace(trunk, "image_encoder."): s for n, s in official().items() if trunk in n}
        plain = {signature for f in FAMILIES for signature in f.signatures if signature.rank}
        for sam2 in (official(), bare):
            assert not any(signature.fits(sam2) for signature in plain)
            weakened = (replace(signature, rank=None, without=()) for signature in plain)
            assert any(signature.fits(sam2) for signature in weakened)

    @pytest.mark.parametrize("family", FAMILIES[:-1], ids=lambda family: family.name)
    def test_without_its_signatures_a_family_is_not_recognised(
        self, monkeypatch: pytest.MonkeyPatch, family: ModelFamily
    ) -> None:
        families = tuple(replace(f, signatures=()) if f is family else f for f in FAMILIES)
        monkeypatch.setattr(lookalikes, "FAMILIES", families)
        for name, _, make in CASES:
            if name == family.name:
                found = family_of(make())
                assert found is None or found.name != name

    @pytest.mark.parametrize(
        ("content", "name"),
        [
            ({"model_type": "sam3_video"}, "SAM 3"),
            ({"model_type": "edgetam"}, "EdgeTAM"),
            ({"model_type": "sam_hq"}, "HQ-SAM"),
            ({"model_type": "sam"}, "SAM 1"),
            ({"model_type": "sam2", "image_encoder_config": {}}, FAMILIES[-1].name),
            ({"model_type": "sam2_video"}, None),
            ({"model_type": "sam2"}, None),
            ({"model_type": None}, None),
        ],
    )
    def test_the_config_decides_when_the_tensors_do_not(
        self, content: dict[str, Any], name: str | None
    ) -> None:
        unknown = source(specs(("weight", (1,))))
        found = lookalike_in(unknown, content)
        assert (found.name if found else None) == name
        found = lookalike_in(source(official()), content)
        assert found is None or found.config_key in content

    def test_a_teacher_beside_a_sam2_does_not_make_it_a_lookalike(self) -> None:
        both = source(official(), ("model",), teacher=source(edgetam()).root)
        assert lookalike_in(both) is None
        assert lookalike_in(source(prefixed(official(), "student.") | edgetam())) is None
        moments = source(specs(("exp_avg", (3,)))).root
        for beside in (source(hq_sam2()).root, moments):
            assert lookalike_in(source(hq_sam2(), ("model",), beside=beside)) is HQ_SAM2


class TestSam2:
    @pytest.mark.parametrize("shipped", SHIPPED, ids=lambda shipped: shipped.name)
    @pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
    def test_it_is_never_a_lookalike(self, dialect: Dialect, shipped: Any) -> None:
        whole = shipped_keymap(dialect, shipped).key
        for prefix in PREFIXES:
            assert family_of(prefixed(whole, prefix)) is None, prefix
        for path in NESTINGS:
            assert lookalike_in(source(prefixed(whole, "module."), path, epoch=3)) is None, path
        assert family_of(compiled_inside(whole)) is None

    # Among names without a prefix, only pos_embed_window identifies a trunk.
    @pytest.mark.parametrize(
        "dialect", [d for d in DIALECTS if d.task != "trunk"], ids=lambda dialect: dialect.name
    )
    def test_without_one_of_its_parts_it_is_no_lookalike(self, dialect: Dialect) -> None:
        whole = shipped_keymap(dialect, SHIPPED[0]).key
        for part in {name.partition(".")[0] for name in whole}:
            rest = {name: spec for name, spec in whole.items() if name.partition(".")[0] != part}
            for prefix in PREFIXES:
                assert family_of(prefixed(rest, prefix)) is None, (part, prefix)

    def test_a_fine_tune_with_an_additional_head_is_still_a_sam2(self, tmp_path: Path) -> None:
        path = official_pt(tmp_path / "m.pt", {**state_dict(), "my_head.weight": torch.ones(3)})
        assert "my_head.weight" in " ".join(inspect(path).problems)

    @pytest.mark.parametrize(("name", "form", "make"), CASES, ids=IDS)
    def test_no_lookalike_is_taken_for_one(
        self, tmp_path: Path, name: str, form: str, make: Callable[[], Inventory]
    ) -> None:
        """With sparse files: a header, and a hole in place of the data."""
        path = sparse(tmp_path / "model.safetensors", make())
        with pytest.raises(RefusedError) as caught:
            open_checkpoint(path)
        assert caught.value.message == f"{path}: is a checkpoint of {name}, not of SAM 2"
        assert caught.value.hint
        assert "\n" not in caught.value.hint


def sparse(path: Path, inventory: Inventory) -> Path:
    header, end = {}, 0
    for name, spec in inventory.items():
        header[name] = {
            "dtype": spec.dtype,
            "shape": list(spec.shape),
            "data_offsets": [end, end + spec.nbytes],
        }
        end += spec.nbytes
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    with path.open("r+b") as file:
        file.truncate(8 + len(text) + end)
    return path


def as_a_base(path: Path, out: Path) -> None:
    convert(official_pt(out.with_name("m.pt")), out.with_name("image"), to="hf-image")
    convert(out.with_name("image"), out, base=path)


@pytest.mark.parametrize(
    "command",
    [
        lambda path, _: inspect(path),
        lambda path, _: validate(path),
        convert,
        as_a_base,
        lambda path, _: load_model(path),
        lambda path, _: parity(path, path),
    ],
    ids=["inspect", "validate", "convert", "base", "load_model", "parity"],
)
def test_every_command_refuses_a_lookalike(
    tmp_path: Path, command: Callable[[Path, Path], Any]
) -> None:
    latents = {"spatial_perceiver.latents": torch.ones(2, 2)}
    path = official_pt(tmp_path / "edgetam.pt", {**state_dict(), **latents})
    with pytest.raises(RefusedError, match="is a checkpoint of EdgeTAM, not of SAM 2"):
        command(path, tmp_path / "out.pt")
    assert not (tmp_path / "out.pt").exists()


def test_the_commands_print_two_lines_and_exit_with_3(tmp_path: Path) -> None:
    path = sparse(tmp_path / "m.safetensors", edgetam())
    for command in (["inspect", path], ["validate", path], ["convert", path, tmp_path / "o.pt"]):
        result = CliRunner().invoke(main, [str(word) for word in command])
        lines = result.stderr.splitlines()
        assert result.exit_code == 3
        assert lines[0] == f"error: {path}: is a checkpoint of EdgeTAM, not of SAM 2"
        assert lines[1].startswith("hint: ")
        assert len(lines) == 2


def test_the_folder_of_a_lookalike_is_recognised_by_its_config(tmp_path: Path) -> None:
    save_file({"weight": torch.ones(2)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"model_type": "sam2", "image_encoder_config": {}}')
    with pytest.raises(RefusedError, match="a draft of transformers") as caught:
        inspect(tmp_path)
    assert "sam2-hiera-tiny" in str(caught.value.hint)


class TestDroppingHQ:
    def test_the_result_is_the_sam2_bit_for_bit(self, tmp_path: Path) -> None:
        path = random_bits(tmp_path / "hq.safetensors", hq_sam2(DEBUG))
        done = convert(path, tmp_path / "plain.safetensors", drop_hq=True)
        assert set(done.dropped) == set(HQ_TENSORS) == set(hq_sam2()) - set(official())
        assert "hf_token" in str(done)
        assert json.loads(done.to_json())["dropped"] == list(HQ_TENSORS)
        before = open_source(path).root
        after = open_source(tmp_path / "plain.safetensors").root
        assert set(before) - set(after) == set(HQ_TENSORS)
        for name, ref in after.items():
            assert read_bytes(ref) == read_bytes(before[name])

    def test_names_with_a_prefix_convert_to_a_folder(self, tmp_path: Path) -> None:
        path = random_bits(tmp_path / "hq.safetensors", prefixed(hq_sam2(DEBUG), "module."))
        convert(path, tmp_path / "hf", drop_hq=True)
        assert inspect(tmp_path / "hf").problems == ()

    def test_without_the_option_an_hq_sam2_is_refused(self, tmp_path: Path) -> None:
        path = random_bits(tmp_path / "hq.safetensors", hq_sam2(DEBUG))
        with pytest.raises(RefusedError, match="HQ-SAM 2, not of SAM 2") as caught:
            convert(path, tmp_path / "out.pt")
        assert f"`convert({path}, OUT, drop_hq=True)`" in str(caught.value.hint)

    def test_only_the_tensors_of_hq_are_dropped(self, tmp_path: Path) -> None:
        more = specs(("sam_mask_decoder.hf_mlp.layers.3.weight", (2,)), ("my_head.weight", (2,)))
        path = random_bits(tmp_path / "hq.safetensors", {**hq_sam2(DEBUG), **more})
        with pytest.raises(MismatchError, match="unexpected +2 .*my_head.weight.*layers.3.weight"):
            convert(path, tmp_path / "out.pt", drop_hq=True)
        assert not (tmp_path / "out.pt").exists()

    def test_the_feature_layers_alone_do_not_make_an_hq_sam2(self, tmp_path: Path) -> None:
        more = {n: s for n, s in hq_sam2(DEBUG).items() if ".hf_" not in n}
        path = random_bits(tmp_path / "m.safetensors", more)
        with pytest.raises(MismatchError, match="unexpected +6 .*embedding_maskfeature"):
            convert(path, tmp_path / "out.pt")

    def test_the_option_needs_an_hq_sam2(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="is not an HQ-SAM 2"):
            convert(official_pt(tmp_path / "m.pt"), tmp_path / "out.pt", drop_hq=True)
        path = sparse(tmp_path / "e.safetensors", edgetam())
        with pytest.raises(RefusedError, match="EdgeTAM"):
            convert(path, tmp_path / "out.pt", drop_hq=True)

    def test_the_command_drops_and_refuses_parity(self, tmp_path: Path) -> None:
        path = random_bits(tmp_path / "hq.safetensors", hq_sam2(DEBUG))
        words = ["convert", str(path), str(tmp_path / "out.pt"), "--drop-hq"]
        result = CliRunner().invoke(main, [*words, "--parity"])
        assert result.exit_code == 2
        assert "cannot run an HQ-SAM 2" in result.stderr
        assert CliRunner().invoke(main, words).exit_code == 0
