from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from sam2 import build_sam as official_builders
from torch import Tensor, nn

from sam21convert import convert, load_model
from sam21convert.config.load import load_config
from sam21convert.config.registry import shipped_config
from sam21convert.errors import MismatchError, UsageError
from sam21convert.model import (
    SAM2,
    SAM2AutomaticMaskGenerator,
    SAM2ImagePredictor,
    SAM2VideoPredictor,
    build_sam2,
    build_sam2_hf,
    build_sam2_video_predictor,
    build_sam2_video_predictor_hf,
)
from sam21convert.model.config import ModelConfig, TrackingOptions
from sam21convert.prediction import builders

from ..support.checkpoints import DEBUG, official_pt, state_dict
from ..support.official import PUBLISHED, on_meta
from ..support.paths import FIXTURES

TINY = "configs/sam2.1/sam2.1_hiera_t.yaml"
BUILDERS = ("build_sam2", "build_sam2_video_predictor")
OWN: dict[str, Callable[..., SAM2]] = {
    "build_sam2": build_sam2,
    "build_sam2_hf": build_sam2_hf,
    "build_sam2_video_predictor": build_sam2_video_predictor,
    "build_sam2_video_predictor_hf": build_sam2_video_predictor_hf,
}
STABILITY = tuple(f.name for f in fields(ModelConfig) if f.name.startswith("dynamic_multimask"))
# Fields of the config that stand under "model." in an official YAML, and nothing in it but numbers
# and switches.
DIRECT = tuple(
    field.name
    for field in fields(ModelConfig)
    if field.type in ("int", "float", "bool") and field.name not in (*STABILITY, "hidden_dim")
)
TRACKING = tuple(field.name for field in fields(TrackingOptions))
DECODER = "sam_mask_decoder_extra_args"
OFFICIAL_YAML = FIXTURES / "sam2.1_debug_official.yaml"


def official(builder: str, *args: Any, **options: Any) -> Any:
    with on_meta():
        return getattr(official_builders, builder)(*args, device="meta", **options)


def own(builder: str, *args: Any, **options: Any) -> SAM2:
    return OWN[builder](*args, device="meta", **options)


def settings(model: Any) -> dict[str, Any]:
    """The settings that decide how a model of either code behaves, except those of its modules."""
    config = model.config if isinstance(model, SAM2) else model
    decoder = model.config if isinstance(model, SAM2) else model.sam_mask_decoder
    found = {name: getattr(config, name) for name in DIRECT}
    found |= {name: getattr(decoder, name) for name in STABILITY}
    if hasattr(model, "fill_hole_area"):
        found |= {name: getattr(model, name) for name in TRACKING}
    return found


@cache
def usual_settings() -> dict[str, Any]:
    return settings(own("build_sam2_video_predictor", DEBUG, apply_postprocessing=False))


def inventory(model: nn.Module) -> list[tuple[str, torch.Size]]:
    return [(name, tensor.shape) for name, tensor in model.state_dict().items()]


class TestAsOfficially:
    @pytest.mark.parametrize("name", OWN)
    def test_arguments_and_defaults_are_the_same_but_for_the_device_and_the_image_size(
        self, name: str
    ) -> None:
        theirs = inspect.signature(getattr(official_builders, name)).parameters.values()
        ours = list(inspect.signature(OWN[name]).parameters.values())

        def plain(default: object) -> object:
            if default == "cuda":
                return "auto"
            return tuple(default) if isinstance(default, list) else default

        assert [(p.name, p.kind, plain(p.default)) for p in theirs] == [
            (p.name, p.kind, p.default) for p in ours if p.name != "image_size"
        ]
        assert any(p.name == "image_size" and p.kind is p.KEYWORD_ONLY for p in ours)

    @pytest.mark.parametrize("postprocessing", [True, False])
    @pytest.mark.parametrize("builder", BUILDERS)
    @pytest.mark.parametrize("name", PUBLISHED)
    def test_tensors_and_settings_are_the_same(
        self, name: str, builder: str, postprocessing: bool
    ) -> None:
        options = {"apply_postprocessing": postprocessing}
        theirs = official(builder, f"configs/{name}.yaml", **options)
        ours = own(builder, f"configs/{name}.yaml", **options)
        assert inventory(ours) == inventory(theirs)
        assert settings(ours) == settings(theirs)
        assert ours.sam_mask_decoder.stability.enabled is postprocessing
        assert not ours.training

    @pytest.mark.parametrize("postprocessing", [True, False])
    @pytest.mark.parametrize(
        "override",
        [
            "++model.image_size=512",
            "model.image_size=512",
            "model.num_maskmem=3",
            "++model.sigmoid_scale_for_mem_enc=1.5e1",
            "++model.multimask_output_in_sam=FALSE",
            "++model.fill_hole_area=0",
            "+model.non_overlap_masks=true",
            "++model.memory_temporal_stride_for_eval=5",
            "++model.max_cond_frames_in_attn=4",
            "++model.binarize_mask_from_pts_for_mem_enc=false",
            f"++model.{DECODER}.dynamic_multimask_via_stability=true",
            f"++model.{DECODER}.dynamic_multimask_stability_thresh=0.9",
            "model.memory_attention.layer.self_attention.feat_sizes=[32, 32]",
        ],
    )
    def test_an_override_has_the_same_effect(self, override: str, postprocessing: bool) -> None:
        options = {
            "hydra_overrides_extra": [override],
            "apply_postprocessing": postprocessing,
        }
        builder = "build_sam2_video_predictor"
        assert settings(own(builder, TINY, **options)) == settings(
            official(builder, TINY, **options)
        )

    def test_a_difference_of_settings_would_be_detected(self) -> None:
        builder = "build_sam2_video_predictor"
        theirs = settings(official(builder, TINY, apply_postprocessing=False))
        assert settings(own(builder, TINY)) != theirs
        for override in ("image_size=512", "fill_hole_area=1"):
            options = {"hydra_overrides_extra": [f"++model.{override}"]}
            ours = settings(own(builder, TINY, apply_postprocessing=False, **options))
            assert len(ours.items() - theirs.items()) == 1

    def test_weights_are_cast_to_float32(self, tmp_path: Path) -> None:
        half = {name: tensor.bfloat16() for name, tensor in state_dict().items()}
        model = build_sam2(DEBUG, official_pt(tmp_path / "m.pt", half), device="cpu")
        assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float32}

    @pytest.mark.parametrize("mode", ["eval", "train"])
    def test_the_mode_is_evaluation_unless_another_is_asked_for(
        self, tmp_path: Path, mode: str
    ) -> None:
        pt = official_pt(tmp_path / "m.pt")
        for checkpoint in (None, pt):
            model = build_sam2(DEBUG, checkpoint, device="cpu", mode=mode)
            assert model.training is (mode == "train")


class TestOverrides:
    @pytest.mark.parametrize(
        "name", [*DIRECT, *(f"{DECODER}.{name}" for name in STABILITY), *TRACKING]
    )
    def test_every_setting_can_be_overridden(self, name: str) -> None:
        field = name.rpartition(".")[2]
        before = usual_settings()
        old = before[field]
        # Where 3 is no possible value, another.
        number = {"image_size": 96, "multimask_min_pt_num": 1}.get(field, 3)
        new = not old if isinstance(old, bool) else number
        after = settings(
            own(
                "build_sam2_video_predictor",
                DEBUG,
                hydra_overrides_extra=[f"++model.{name}={str(new).lower()}"],
                apply_postprocessing=False,
            )
        )
        assert old != new
        assert after == {**before, field: new}

    @pytest.mark.parametrize(
        ("override", "says"),
        [
            ("++model.imagesize=512", "unknown setting model.imagesize"),
            ("++model.hidden_dim=512", "unknown setting model.hidden_dim"),
            ("++trainer.max_epochs=1", "is not of the form"),
            ("++model.image_size", "is not of the form"),
            ("~model.image_size", "is not of the form"),
            ("++model.image_size=500", "image_size: 500 is not a multiple of 32"),
            ("++model.image_size=large", "image_size: expected a whole number"),
            ("++model.fill_hole_area=-1", "fill_hole_area: expected a whole number"),
            ("++model.non_overlap_masks=1", "non_overlap_masks: expected true or false"),
        ],
    )
    def test_a_wrong_one_is_named(self, override: str, says: str) -> None:
        with pytest.raises(UsageError, match="^hydra_overrides_extra") as caught:
            own(
                "build_sam2_video_predictor",
                DEBUG,
                hydra_overrides_extra=[override],
                apply_postprocessing=False,
            )
        assert says in str(caught.value)

    def test_an_unknown_one_is_answered_with_the_known_ones(self) -> None:
        overrides = ["++model.fill_hole_area=1"]
        with pytest.raises(UsageError, match=r"model\.fill_hole_area") as caught:
            own("build_sam2", DEBUG, hydra_overrides_extra=overrides)
        listed = str(caught.value.hint).partition(": ")[2].split(", ")
        assert set(listed) == {*DIRECT, *(f"{DECODER}.{name}" for name in STABILITY)}
        with pytest.raises(UsageError) as caught:
            own("build_sam2_video_predictor", DEBUG, hydra_overrides_extra=["model.x=1"])
        assert set(TRACKING) < set(str(caught.value.hint).partition(": ")[2].split(", "))

    def test_another_number_of_memories_than_the_checkpoints_is_refused(
        self, tmp_path: Path
    ) -> None:
        with pytest.raises(MismatchError, match="maskmem_tpos_enc"):
            build_sam2(
                DEBUG,
                official_pt(tmp_path / "m.pt"),
                device="cpu",
                hydra_overrides_extra=["++model.num_maskmem=5"],
            )


class TestKeywords:
    @pytest.mark.parametrize("name", OWN)
    def test_the_image_size(self, name: str, tmp_path: Path) -> None:
        args = [official_pt(tmp_path / "m.pt")] if name.endswith("hf") else [DEBUG]
        model = OWN[name](*args, device="cpu", image_size=256)
        assert model.image_size == 256

    def test_that_of_an_override_may_not_differ(self) -> None:
        options = {"hydra_overrides_extra": ["++model.image_size=256"]}
        assert own("build_sam2", DEBUG, image_size=256, **options).image_size == 256
        with pytest.raises(UsageError, match="image_size is 512, and 256 in hydra_overrides_extra"):
            own("build_sam2", DEBUG, image_size=512, **options)

    @pytest.mark.parametrize("name", OWN)
    def test_an_unknown_one_is_told_with_the_nearest(self, name: str, tmp_path: Path) -> None:
        args = [official_pt(tmp_path / "m.pt")] if name.endswith("hf") else [DEBUG]
        with pytest.warns(UserWarning, match="there is no argument") as caught:
            OWN[name](*args, device="cpu", imagesize=256, zzz=1)
        assert [str(one.message) for one in caught] == [
            f"{name.removesuffix('_hf')}: there is no argument {text}"
            for text in (
                "'imagesize', so it has no effect; did you mean 'image_size'?",
                "'zzz', so it has no effect",
            )
        ]
        assert {one.filename for one in caught} == {__file__}

    @pytest.mark.parametrize("kind", [SAM2ImagePredictor, SAM2AutomaticMaskGenerator])
    def test_from_pretrained_tells_them_once(self, kind: Any, tmp_path: Path) -> None:
        pt = official_pt(tmp_path / "m.pt")
        known = {"device": "cpu", "image_size": 256, "apply_postprocessing": False}
        if kind is SAM2AutomaticMaskGenerator:
            known["points_per_side"] = 3
        with pytest.warns(UserWarning, match="no argument 'aply_post.*mean 'apply_post") as caught:
            made = kind.from_pretrained(pt, aply_postprocessing=True, **known)
        assert [one.filename for one in caught] == [__file__]
        assert getattr(made, "predictor", made).model.image_size == 256

    def test_settings_that_sam_2_does_not_have_are_told(self, tmp_path: Path) -> None:
        content = yaml.safe_load(OFFICIAL_YAML.read_text())
        content["model"]["samurai_mode"] = True
        content["model"]["memory_attention"]["extra"] = 1
        path = tmp_path / "samurai.yaml"
        path.write_text(yaml.safe_dump(content))
        with pytest.warns(UserWarning, match="SAM 2 has no setting") as caught:
            own("build_sam2", path)
        told = " ".join(str(one.message) for one in caught)
        assert "model.samurai_mode" in told
        assert "model.memory_attention.extra" in told

    def test_an_override_that_is_not_known_comes_with_the_nearest(self) -> None:
        with pytest.raises(UsageError, match="model.imagesize; did you mean 'image_size'"):
            own("build_sam2", DEBUG, hydra_overrides_extra=["++model.imagesize=512"])


class TestConfigs:
    def test_this_projects_config_says_what_the_builder_sets_so_it_can_be_unset(self) -> None:
        assert shipped_config(DEBUG).dynamic_multimask_via_stability
        for config in (DEBUG, OFFICIAL_YAML):
            model = own("build_sam2", config, apply_postprocessing=False)
            assert not model.config.dynamic_multimask_via_stability

    @pytest.fixture
    def stating(self, tmp_path: Path) -> Path:
        """An official YAML that itself states what the builders set."""
        content = yaml.safe_load(OFFICIAL_YAML.read_text())
        content["model"] |= {
            "fill_hole_area": 3,
            "max_cond_frames_in_attn": 4,
            DECODER: {
                "dynamic_multimask_via_stability": True,
                "dynamic_multimask_stability_thresh": 0.5,
            },
        }
        path = tmp_path / "stating.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    def test_what_an_official_yaml_states_holds_without_postprocessing(self, stating: Path) -> None:
        model = own("build_sam2_video_predictor", stating, apply_postprocessing=False)
        expected = {
            "fill_hole_area": 3,
            "max_cond_frames_in_attn": 4,
            "dynamic_multimask_via_stability": True,
            "dynamic_multimask_stability_thresh": 0.5,
        }
        assert expected.items() <= settings(model).items()

    def test_an_override_wins_over_the_yaml_and_postprocessing_over_both(
        self, stating: Path
    ) -> None:
        options = {"hydra_overrides_extra": ["++model.fill_hole_area=5"]}
        for postprocessing, area, thresh in ((False, 5, 0.5), (True, 8, 0.98)):
            model = own(
                "build_sam2_video_predictor",
                stating,
                apply_postprocessing=postprocessing,
                **options,
            )
            assert settings(model)["fill_hole_area"] == area
            assert settings(model)["dynamic_multimask_stability_thresh"] == thresh
            assert settings(model)["max_cond_frames_in_attn"] == 4

    def test_a_config_json_will_do(self, tmp_path: Path) -> None:
        convert(official_pt(tmp_path / "m.pt"), tmp_path / "hf")
        config = load_config(tmp_path / "hf" / "config.json")
        assert own("build_sam2", tmp_path / "hf" / "config.json").config == config

    def test_nothing_to_build_is_an_error(self) -> None:
        with pytest.raises(UsageError, match="expected `config_file` or `ckpt_path`"):
            build_sam2(None)


class TestCheckpoints:
    @pytest.mark.parametrize("builder", BUILDERS)
    @pytest.mark.parametrize("form", ["m.pt", "x.safetensors", "hf"])
    def test_any_form_of_a_checkpoint_will_do(
        self, tmp_path: Path, form: str, builder: str
    ) -> None:
        pt = official_pt(tmp_path / "m.pt")
        if form != "m.pt":
            convert(pt, tmp_path / form)
        for name, args in ((builder, [DEBUG]), (f"{builder}_hf", [])):
            model = OWN[name](*args, tmp_path / form, device="cpu")
            assert equal(model.state_dict(), state_dict())
            assert isinstance(model, SAM2VideoPredictor) is ("video" in builder)

    def test_options_go_through_the_hf_builders(self, tmp_path: Path) -> None:
        pt = official_pt(tmp_path / "m.pt")
        overrides = ["++model.image_size=256", "++model.fill_hole_area=2"]
        model = build_sam2_video_predictor_hf(
            pt, device="cpu", apply_postprocessing=False, hydra_overrides_extra=overrides
        )
        assert (model.config.image_size, model.fill_hole_area) == (256, 2)

    def test_the_predictors_come_from_a_path_with_options_for_both_steps(
        self, tmp_path: Path
    ) -> None:
        pt = str(official_pt(tmp_path / "m.pt"))
        image = SAM2ImagePredictor.from_pretrained(pt, device="cpu", mask_threshold=0.5)
        assert equal(image.model.state_dict(), state_dict())
        assert image.mask_threshold == 0.5
        video = SAM2VideoPredictor.from_pretrained(pt, device="cpu")
        assert equal(video.state_dict(), state_dict())
        assert video.fill_hole_area == 8

    def test_the_built_model_is_the_loaded_one(self, tmp_path: Path) -> None:
        pt = official_pt(tmp_path / "m.pt")
        loaded, _ = load_model(pt, replace(shipped_config(DEBUG), image_size=256))
        built = build_sam2(
            DEBUG, pt, device="cpu", hydra_overrides_extra=["++model.image_size=256"]
        )
        assert built.config == loaded.config
        assert equal(built.state_dict(), loaded.state_dict())


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return list(first) == list(second) and all(
        torch.equal(tensor, second[name]) for name, tensor in first.items()
    )


# Whether the sizes that a part is called with may vary.
PARTS = {
    "image_encoder": False,
    "memory_encoder": False,
    "memory_attention": True,
    "sam_prompt_encoder": False,
    "sam_mask_decoder": False,
}


class TestCompiled:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return official_pt(tmp_path / "m.pt")

    def track(self, path: Path, **options: Any) -> tuple[SAM2VideoPredictor, list[Tensor]]:
        predictor = build_sam2_video_predictor(DEBUG, path, device="cpu", **options)
        rng = np.random.default_rng(0)
        state = predictor.init_state(rng.integers(0, 256, (2, 60, 80, 3), dtype=np.uint8))
        predictor.add_new_points_or_box(state, 0, 1, points=[[40, 30]], labels=[1])
        return predictor, [masks for _, _, masks in predictor.propagate_in_video(state)]

    def test_each_part_is_one_graph_with_the_official_options_and_the_same_masks(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The graphs are those of torch.compile; they are run as they are, not made faster."""
        real, seen = torch.compile, {}

        def trace(run: Any, *, mode: str, **options: Any) -> Any:
            seen[type(run.__self__).__name__] = {"mode": mode, **options}
            return real(run, backend="eager", **options)

        _, expected = self.track(path)
        monkeypatch.setattr(torch, "compile", trace)
        predictor, masks = self.track(path, vos_optimized=True)
        assert seen == {
            type(predictor.get_submodule(part)).__name__: {
                "mode": "max-autotune",
                "fullgraph": True,
                "dynamic": dynamic,
            }
            for part, dynamic in PARTS.items()
        }
        assert all(torch.equal(one, two) for one, two in zip(expected, masks, strict=True))

    @pytest.mark.parametrize("owning", [True, False])
    def test_no_result_is_lost_in_the_memory_that_a_graph_uses_again(
        self, path: Path, monkeypatch: pytest.MonkeyPatch, owning: bool
    ) -> None:
        """CUDA graphs write over their results; without the copies this would be detected."""
        results: list[Any] = []

        def replaying(run: Any, **_: Any) -> Any:
            def replay(*args: Any) -> Any:
                inputs = copy.deepcopy(args)
                while results:
                    result = results.pop()
                    for tensor in [result] if isinstance(result, Tensor) else result:
                        tensor.fill_(torch.nan)
                results.append(copy.deepcopy(run(*inputs)))
                return results[-1]

            return replay

        _, expected = self.track(path)
        monkeypatch.setattr(torch, "compile", replaying)
        if not owning:
            monkeypatch.setattr(builders, "_owning", lambda run: run)
        _, masks = self.track(path, vos_optimized=True)
        same = [torch.equal(one, two) for one, two in zip(expected, masks, strict=True)]
        assert all(same) is owning
