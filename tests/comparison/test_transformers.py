"""transformers as a side of a comparison: loaded by its own code, recorded completely.

Without a known difference, each activation agrees with the ground truth's within rounding.
"""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import sam21convert
from sam21convert.comparison.activations import Activations
from sam21convert.comparison.backends.base import CannotRun, LoadOptions
from sam21convert.comparison.backends.transformers import Transformers
from sam21convert.comparison.backends.truth import Truth
from sam21convert.comparison.inputs import Picture
from sam21convert.comparison.names import kind
from sam21convert.errors import UnreadableError
from sam21convert.model.image_predictor import pixels_of

from ..support.backends import ASKED, apart, asked, loaded, the_clip, the_picture, tolerance
from ..support.checkpoints import DEBUG
from ..support.official import DEBUG as BOTH

DIFFERENT = ("no-prompt", "video-mask", "video-correction")
COPY = "prompt_encoder.shared_embedding.positional_embedding"


@pytest.fixture
def folder(checkpoints: Any, tmp_path: Path) -> Path:
    sam21convert.convert(checkpoints(DEBUG), tmp_path / "hf")
    return tmp_path / "hf"


@pytest.fixture
def usual(checkpoints: Any) -> Any:
    return loaded(Transformers, checkpoints(DEBUG))


def in_parity(source: Path, reference: Activations, other: Activations) -> bool:
    return all(far <= tolerance(source) for far in apart(reference, other).values())


def equal(one: Activations, other: Activations) -> bool:
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


class TestActivations:
    @pytest.mark.parametrize("scenario", [name for name in ASKED if name not in DIFFERENT])
    @pytest.mark.parametrize("name", BOTH)
    def test_all_are_there_and_agree(self, checkpoints: Any, name: str, scenario: str) -> None:
        source = checkpoints(name)
        truth = asked(loaded(Truth, source), scenario)
        theirs = asked(loaded(Transformers, source), scenario, agreed=truth)
        assert set(truth) == set(theirs)
        assert in_parity(source, truth, theirs)

    @pytest.mark.parametrize("scenario", DIFFERENT)
    def test_those_of_a_known_difference_are_there(self, checkpoints: Any, scenario: str) -> None:
        """Each prompt becomes a memory at once, so a correction leaves more memories."""
        source = checkpoints(DEBUG)
        truth = asked(loaded(Truth, source), scenario)
        theirs = asked(loaded(Transformers, source), scenario, agreed=truth)
        kinds = ("memory_encoder.mask", "memory_encoder.output", "memory")
        more = {name for name in theirs if kind(name) in kinds}
        assert set(truth) <= set(theirs) <= set(truth) | more
        assert not in_parity(source, truth, theirs)

    def test_a_tensor_changed_by_1_percent_is_out_of_parity(
        self, checkpoints: Any, usual: Any
    ) -> None:
        source = checkpoints(DEBUG)
        truth = asked(loaded(Truth, source), "video-two")
        weight = usual.tensor("memory_encoder.pix_feat_proj.weight")
        before = weight.clone()
        weight.mul_(1.01)
        found = apart(truth, asked(usual, "video-two", agreed=truth))
        weight.copy_(before)
        first = next(name for name in truth if found[name] > tolerance(source))
        assert first == "frame0.object1.memory_encoder.output"

    def test_a_method_that_a_version_does_not_have_is_named(
        self, usual: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delattr(type(usual.video), "_batch_encode_memories")
        message = re.escape(f"transformers {usual.version} has no _batch_encode_memories")
        with pytest.raises(CannotRun, match=message):
            asked(usual, "video-point")


class TestFolder:
    def test_a_folder_and_a_file_converted_to_one_are_the_same(
        self, folder: Path, usual: Any
    ) -> None:
        backend = loaded(Transformers, folder)
        assert backend.notes == ()
        assert "converted" in usual.notes[0]
        assert equal(asked(backend, "video-point"), asked(usual, "video-point"))

    @pytest.mark.parametrize("form", ["image", "image.safetensors"])
    def test_an_image_model(self, checkpoints: Any, usual: Any, tmp_path: Path, form: str) -> None:
        sam21convert.convert(checkpoints(DEBUG), tmp_path / form, to="hf-image")
        backend = loaded(Transformers, tmp_path / form)
        assert backend.abilities == {"encode", "images"}
        assert equal(asked(backend, "box-point"), asked(usual, "box-point"))
        clip = the_clip(backend.config.image_size, 2)
        with pytest.raises(CannotRun):
            backend.track(clip, None)
        with pytest.raises(CannotRun):
            backend.clip_pixels(clip)
        with pytest.raises(KeyError):
            backend.tensor("maskmem_tpos_enc")

    @pytest.mark.parametrize("to", ["hf-video", "hf-image"])
    def test_another_image_size_is_as_in_a_folder_converted_to_it(
        self, checkpoints: Any, tmp_path: Path, to: str
    ) -> None:
        source = checkpoints(DEBUG)
        sam21convert.convert(source, tmp_path / "plain", to=to)
        sam21convert.convert(source, tmp_path / "larger", to=to, image_size=256)
        resized = loaded(Transformers, tmp_path / "plain", 256)
        larger = loaded(Transformers, tmp_path / "larger")
        assert resized.config == larger.config
        for model in ("image", "video") if to == "hf-video" else ("image",):
            one, other = (getattr(backend, model).config for backend in (resized, larger))
            assert one.to_dict() | {"_name_or_path": ""} == other.to_dict() | {"_name_or_path": ""}
        assert resized.processor.to_dict() == larger.processor.to_dict()
        assert equal(asked(resized, "points"), asked(larger, "points"))
        if to == "hf-video":
            assert equal(asked(resized, "video-point"), asked(larger, "video-point"))

    def test_pixels_are_made_by_its_processors(self, folder: Path) -> None:
        """They round to bytes, and resize videos bilinearly by default."""
        path = folder / "video_preprocessor_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"resample": 3}))
        backend = loaded(Transformers, folder)
        side = backend.config.image_size
        byte = 1 / 255 / 0.224  # of the channel with the smallest divisor, after normalising
        resized, square = the_picture(side), np.zeros((side, side, 3), np.uint8)
        fits = Picture("", square, pixels_of(square, side))
        assert largest(backend.picture_pixels(fits) - fits.tensor) < byte / 100
        ours = pixels_of(resized.pixels, side)
        assert byte / 4 < largest(backend.picture_pixels(resized) - ours) < byte
        clip = the_clip(side, 2)
        assert byte / 4 < largest(backend.clip_pixels(clip) - clip.tensor) < 3 * byte

    def test_without_processors_the_published_ones_are_used(self, folder: Path, usual: Any) -> None:
        for path in folder.glob("*processor_config.json"):
            path.unlink()
        backend = loaded(Transformers, folder)
        assert any("no complete processor" in note for note in backend.notes)
        assert equal(asked(backend, "video-box"), asked(usual, "video-box"))

    def test_the_input_is_not_changed(self, folder: Path) -> None:
        before = {path: path.read_bytes() for path in folder.iterdir()}
        asked(Transformers.load(folder, LoadOptions(image_size=256)), "video-point")
        assert {path: path.read_bytes() for path in folder.iterdir()} == before


def largest(difference: Tensor) -> float:
    return float(difference.abs().max())


def rewritten(folder: Path, **changes: Tensor | None) -> Path:
    """The folder with tensors changed, or left out."""
    tensors = load_file(folder / "model.safetensors") | changes
    kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    return folder


class TestWhatLoadingSays:
    """``from_pretrained`` accepts almost any file; the notes say what it did with the tensors."""

    def test_a_missing_tensor_gets_random_values(self, folder: Path) -> None:
        """transformers 4.57 saves such files."""
        notes = loaded(Transformers, rewritten(folder, **{COPY: None})).notes
        assert notes == tuple(
            f"{model} fills 1 tensor ({COPY}) with random values: not in the folder"
            for model in ("Sam2Model", "Sam2VideoModel")
        )

    def test_an_unexpected_tensor_is_ignored(self, folder: Path) -> None:
        unexpected = {"other.weight": torch.zeros(3)}
        notes = loaded(Transformers, rewritten(folder, **unexpected)).notes
        assert notes[-1].endswith("ignores 1 tensor (other.weight): not a tensor of this model")

    def test_a_tensor_of_another_shape_is_an_error(self, folder: Path) -> None:
        rewritten(folder, no_object_pointer=torch.zeros(1, 7))
        with pytest.raises(UnreadableError, match="does not load it: RuntimeError") as raised:
            loaded(Transformers, folder)
        assert str(folder) in raised.value.message
        assert f"sam21convert validate {folder} says" in str(raised.value.hint)
        assert not sam21convert.validate(folder).ok

    def test_nothing_reaches_the_terminal(
        self, folder: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        backend = Transformers.load(rewritten(folder, **{COPY: None}), LoadOptions(image_size=256))
        asked(backend, "point")
        asked(backend, "video-point")
        backend.picture_pixels(the_picture(256))
        assert capfd.readouterr() == ("", "")

    def test_messages_of_transformers_are_on_again_afterwards(self, usual: Any) -> None:
        from transformers.utils import logging

        before = logging.get_verbosity(), logging.is_progress_bar_enabled()
        asked(usual, "point")
        assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
        assert before[0] < logging.CRITICAL

    def test_the_network_is_never_asked(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: Any) -> None:
            raise AssertionError("the network was asked")

        for name in ("connect", "connect_ex"):
            monkeypatch.setattr(socket.socket, name, refuse)
        monkeypatch.setattr(socket, "getaddrinfo", refuse)
        for path in folder.glob("*processor_config.json"):
            path.unlink()
        asked(Transformers.load(folder, LoadOptions()), "video-point")


class TestTensors:
    def test_every_canonical_tensor_is_found(self, checkpoints: Any, usual: Any) -> None:
        truth = loaded(Truth, checkpoints(DEBUG)).model.state_dict()
        for name, tensor in truth.items():
            assert torch.equal(usual.tensor(name), tensor), name
        with pytest.raises(KeyError):
            usual.tensor("no.such.tensor")

    @pytest.mark.parametrize("name", BOTH)
    def test_both_models_see_what_is_written(self, checkpoints: Any, name: str) -> None:
        backend = Transformers.load(checkpoints(name), LoadOptions())
        truth = loaded(Truth, checkpoints(name)).model.state_dict()
        for tensor in truth:
            backend.tensor(tensor).fill_(3.0)
        for model in (backend.video, backend.image):
            assert all(bool((tensor == 3).all()) for tensor in model.state_dict().values())

    def test_copies_that_differ_stay_apart(self, folder: Path) -> None:
        backend = loaded(Transformers, rewritten(folder, **{COPY: torch.zeros(2, 64)}))
        assert not backend.image.state_dict()[COPY].any()
        assert backend.image.state_dict()["shared_image_embedding.positional_embedding"].all()
