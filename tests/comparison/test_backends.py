"""The official package and timm as sides of a comparison: everything they compute is recorded.

They compute the same as the ground truth to the last bit, so each activation must be equal. This
tests the recording, not the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sam21convert
from sam21convert.comparison import sides
from sam21convert.comparison.activations import Activations
from sam21convert.comparison.backends import sam2 as official
from sam21convert.comparison.backends import timm
from sam21convert.comparison.backends.base import CannotRun, LoadOptions
from sam21convert.comparison.backends.sam2 import Official
from sam21convert.comparison.backends.timm import Timm
from sam21convert.comparison.backends.transformers import Transformers
from sam21convert.comparison.backends.truth import Truth
from sam21convert.config.registry import BY_NAME as CONFIGS
from sam21convert.config.registry import shipped_config
from sam21convert.errors import Sam21ConvertError, UsageError
from sam21convert.prediction.backends.sam2_build import published_name

from ..model.test_video_parity import flood
from ..support.backends import ASKED, BRIEF, asked, loaded, the_clip, the_picture
from ..support.checkpoints import DEBUG
from ..support.official import DEBUG as BOTH
from ..support.official import PUBLISHED

TINY = "sam2.1/sam2.1_hiera_t"


def same(reference: Activations, other: Activations) -> bool:
    """The same activations in the same order, to the last bit."""
    return list(reference) == list(other) and all(
        torch.equal(tensor, other[name]) for name, tensor in reference.items()
    )


@pytest.mark.parametrize("scenario", ASKED)
@pytest.mark.parametrize("name", BOTH)
def test_every_activation_of_the_official_code(checkpoints: Any, name: str, scenario: str) -> None:
    source = checkpoints(name)
    mine, theirs = (asked(loaded(kind, source), scenario) for kind in (Truth, Official))
    assert len(mine) >= 14
    assert same(mine, theirs)


@pytest.mark.parametrize("scenario", BRIEF)
def test_every_activation_of_a_published_model(checkpoints: Any, scenario: str) -> None:
    """At an image size that neither its YAML nor the image predictor expects."""
    source = checkpoints(TINY)
    mine, theirs = (asked(loaded(kind, source, 128), scenario) for kind in (Truth, Official))
    assert same(mine, theirs)


class TestOfficial:
    @pytest.fixture
    def backend(self, checkpoints: Any) -> Any:
        return loaded(Official, checkpoints(DEBUG))

    def test_its_own_pixels(self, backend: Any, checkpoints: Any) -> None:
        """For a picture and frames that must be resized, without JPEG compression."""
        side = backend.config.image_size
        picture, clip = the_picture(2 * side), the_clip(side, 2)
        truth = loaded(Truth, checkpoints(DEBUG), 2 * side)
        larger = loaded(Official, checkpoints(DEBUG), 2 * side)
        assert clip.frames[0].shape[:2] != (side, side)
        assert torch.equal(truth.picture_pixels(picture), larger.picture_pixels(picture))
        assert torch.equal(clip.tensor, backend.clip_pixels(clip))

    @pytest.mark.parametrize("name", PUBLISHED)
    def test_settings_of_a_published_model_come_from_its_yaml(
        self, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        config = shipped_config(name)
        built: list[tuple[str, int]] = []
        monkeypatch.setattr(official, "build_published", lambda *args: built.append(args))
        official._build(config)
        assert built == [(name, config.image_size)]
        assert published_name(config) == name

    def test_settings_of_another_model_come_from_its_config(self, backend: Any) -> None:
        assert published_name(backend.config) is None
        assert "not a published model" in backend.notes[0]
        assert backend.model.binarize_mask_from_pts_for_mem_enc

    def test_any_form_of_the_checkpoint(self, checkpoints: Any, tmp_path: Path) -> None:
        source = checkpoints(DEBUG)
        expected = asked(loaded(Official, source), "video-point")
        for name in ("folder", "file.safetensors"):
            sam21convert.convert(source, tmp_path / name)
            assert same(expected, asked(loaded(Official, tmp_path / name), "video-point"))

    def test_an_image_model_has_no_videos(self, checkpoints: Any, tmp_path: Path) -> None:
        sam21convert.convert(checkpoints(DEBUG), tmp_path / "image", to="hf-image")
        backend = loaded(Official, tmp_path / "image")
        assert backend.abilities == {"encode", "images"}
        expected = asked(loaded(Official, checkpoints(DEBUG)), "box")
        assert same(expected, asked(backend, "box"))

    def test_holes_that_it_cannot_fill_are_reported(self, backend: Any) -> None:
        with pytest.raises(CannotRun, match="fills holes with its CUDA extension"):
            asked(backend, "video-holes")

    def test_holes_that_it_can_fill(
        self, backend: Any, checkpoints: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sam2.utils.misc.get_connected_components", flood)
        filled = asked(backend, "video-holes")
        assert same(asked(loaded(Truth, checkpoints(DEBUG)), "video-holes"), filled)
        assert not same(asked(backend, "video-point"), filled)

    def test_no_progress_is_shown(self, backend: Any, capfd: pytest.CaptureFixture[str]) -> None:
        asked(backend, "video-point")
        backend.clip_pixels(the_clip(backend.config.image_size, 2))
        assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", [Official, Transformers])
class TestNothingIsLeftBehind:
    """Hooks and replaced methods are removed, however a call ends."""

    @pytest.mark.parametrize("scenario", ["mask", "video-two"])
    def test_after_a_call(self, kind: Any, checkpoints: Any, scenario: str) -> None:
        backend = loaded(kind, checkpoints(DEBUG))
        before = attached(backend)
        asked(backend, scenario)
        assert attached(backend) == before

    @pytest.mark.parametrize("part", ["mask_decoder", "memory_encoder"])
    def test_after_a_failure(
        self, kind: Any, checkpoints: Any, part: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        backend = loaded(kind, checkpoints(DEBUG))
        broken = next(m for model in models(backend) for n, m in model.named_modules() if part in n)

        def fail(*_: Any, **__: Any) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(broken, "forward", fail)
        before = attached(backend)
        with pytest.raises(ZeroDivisionError):
            asked(backend, "video-point")
        assert attached(backend) == before


def models(backend: Any) -> list[nn.Module]:
    parts = [getattr(backend, name, None) for name in ("model", "video", "image")]
    return [part for part in parts if part is not None]


def attached(backend: Any) -> list[Any]:
    """Hooks and attributes of all modules of a model, and what may be patched in the package."""
    import sam2.sam2_video_predictor
    import sam2.utils.misc

    found: list[Any] = []
    for model in models(backend):
        for name, module in model.named_modules():
            found += [(name, list(module._forward_hooks), sorted(vars(module)))]
    patched = sam2.sam2_video_predictor, sam2.utils.misc
    return [*found, *(id(vars(module)[n]) for module in patched for n in ("tqdm",))]


CONTROLS = {
    "image_encoder.trunk.patch_embed.proj.bias": ("point", "trunk.stage0"),
    "image_encoder.neck.convs.2.conv.weight": ("point", "neck.level1"),
    "sam_prompt_encoder.point_embeddings.1.weight": ("point", "prompt.sparse"),
    "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix": ("box", "prompt.sparse"),
    "sam_prompt_encoder.mask_downscaling.6.bias": ("mask", "prompt.dense"),
    "no_mem_embed": ("point", "decoder.tokens"),
    "sam_mask_decoder.output_hypernetworks_mlps.3.layers.1.bias": ("point", "decoder.logits"),
    "sam_mask_decoder.iou_prediction_head.layers.0.weight": ("point", "decoder.iou"),
    "sam_mask_decoder.pred_obj_score_head.layers.2.bias": ("point", "decoder.object_score"),
    "obj_ptr_proj.layers.1.weight": ("video-point", "frame1.object1.pointer"),
    "memory_encoder.out_proj.bias": ("video-point", "frame0.object1.memory_encoder.output"),
    "maskmem_tpos_enc": ("video-two", "frame1.object1.memory_attention.position"),
    "memory_attention.norm.weight": ("video-two", "frame1.object1.memory_attention.output"),
}


@pytest.mark.parametrize("tensor", CONTROLS)
@pytest.mark.parametrize("kind", [Truth, Official, Transformers])
def test_a_changed_tensor_shows_where_it_is_used_first(
    kind: Any, checkpoints: Any, tensor: str
) -> None:
    backend = loaded(kind, checkpoints(DEBUG))
    scenario, expected = CONTROLS[tensor]
    usual = asked(backend, scenario)
    with scaled(backend.tensor(tensor)):
        changed = asked(backend, scenario)
    assert next(name for name in usual if not torch.equal(usual[name], changed[name])) == expected
    assert same(usual, asked(backend, scenario))


@contextmanager
def scaled(tensor: Tensor) -> Iterator[None]:
    """A context in which a tensor is 10 % larger."""
    before = tensor.clone()
    tensor.mul_(1.1)
    yield
    tensor.copy_(before)


class TestTimm:
    @pytest.mark.parametrize(("name", "image_size"), [(BOTH[0], None), (BOTH[1], 256), (TINY, 256)])
    def test_every_stage_of_the_trunk(
        self, checkpoints: Any, name: str, image_size: int | None
    ) -> None:
        source = checkpoints(name)
        truth, backend = (loaded(kind, source, image_size) for kind in (Truth, Timm))
        pixels = the_picture(backend.config.image_size).tensor
        mine, theirs = truth.encode(pixels), backend.encode(pixels)
        assert list(theirs) == [f"trunk.stage{number}" for number in range(4)]
        assert all(torch.equal(mine[name], stage) for name, stage in theirs.items())

    @pytest.mark.parametrize("name", PUBLISHED)
    def test_a_published_trunk_is_built_by_its_name_in_timm(
        self, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def of_package(_module: str, attribute: str) -> Any:
            return lambda *args, **_: (attribute, *args)

        monkeypatch.setattr(timm, "member", of_package)
        built = timm._build(shipped_config(name).trunk)
        assert built == ("create_model", f"sam2_hiera_{CONFIGS[name].size}")

    def test_it_has_only_the_trunk(self, checkpoints: Any) -> None:
        backend = loaded(Timm, checkpoints(DEBUG))
        truth = loaded(Truth, checkpoints(DEBUG)).model.state_dict()
        assert backend.abilities == {"encode"}
        for name, tensor in truth.items():
            if name.startswith("image_encoder.trunk."):
                assert torch.equal(backend.tensor(name), tensor), name
            else:
                with pytest.raises(KeyError):
                    backend.tensor(name)
        for refused in (backend.picture_pixels, backend.clip_pixels):
            with pytest.raises(CannotRun):
                refused(None)
        for refused in (backend.segment, backend.track):
            with pytest.raises(CannotRun):
                refused(None, None)

    def test_a_changed_tensor_shows(self, checkpoints: Any) -> None:
        backend = loaded(Timm, checkpoints(DEBUG))
        pixels = the_picture(backend.config.image_size).tensor
        usual = backend.encode(pixels)
        with scaled(backend.tensor("image_encoder.trunk.blocks.2.mlp.layers.1.weight")):
            changed = backend.encode(pixels)
        equal = [torch.equal(usual[name], changed[name]) for name in usual]
        assert equal == [True, True, False, False]


@pytest.mark.parametrize("kind", [Official, Timm, Transformers])
def test_a_source_that_cannot_be_read(kind: Any, tmp_path: Path) -> None:
    (tmp_path / "broken.pt").write_bytes(b"nothing")
    for source in (tmp_path / "broken.pt", tmp_path / "absent.pt", tmp_path):
        with pytest.raises(Sam21ConvertError):
            kind.load(source, LoadOptions())


def test_a_backend_has_other_names_and_a_misspelt_one_a_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("m.pt").touch()
    for alias, backend in (("hf", "transformers"), ("official", "sam2"), ("sam2", "sam2")):
        assert sides.parse(f"{alias}:m.pt", None).backend == backend
    for wrong, hint in (("transfomers", "did you mean transformers:m.pt?"), ("xyz", "use one of")):
        with pytest.raises(UsageError, match="no backend") as caught:
            sides.parse(f"{wrong}:m.pt", None)
        assert str(caught.value.hint).startswith(hint)
