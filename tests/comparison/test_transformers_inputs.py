"""Where transformers treats pixels, prompts and files differently from the official code.

Each difference is shown twice: how far the unchanged transformers is from our model, which follows
the official code, and that both agree once the cause is removed. So a test fails when transformers
changes. The amounts are given in docs/compatibility.md.
"""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import Sam2Model, Sam2VideoModel

import sam21convert
from sam21convert.config.registry import shipped_config
from sam21convert.model import SAM2
from sam21convert.model.image_predictor import SAM2ImagePredictor
from sam21convert.model.video_frames import load_frames

from ..support import videos
from ..support.official import DEBUG
from ..support.rounding import EPSILON, MULTIPLE, relative, rounding
from ..support.transformers import (
    TransformersPredictor,
    a_point,
    about,
    compared,
    hf_folder,
    in_parity,
    noise,
    our_predictor,
    their_predictor,
    weights,
)
from ..support.videos import POINT

DEBUG_21 = "debug/sam2.1_debug"
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]  # of ImageNet
BOTH = pytest.mark.parametrize("name", DEBUG)


class TestPixels:
    """Preprocessing of an image and of a video, in 255ths of full intensity."""

    NOISE = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)

    def image(self, picture: Any) -> Tensor:
        """The pixels that our image predictor gives to the model."""
        model = SAM2(shipped_config(DEBUG[0])).eval()
        inputs: list[Tensor] = []
        model.image_encoder.register_forward_pre_hook(lambda _, args: inputs.extend(args[0]))
        SAM2ImagePredictor(model).set_image(picture)
        return inputs[0]

    def test_an_image_is_rounded_to_bytes_after_resizing(self) -> None:
        processor = their_predictor(DEBUG[0]).processor.image_processor
        ours = self.image(self.NOISE)
        theirs = processor(images=self.NOISE, return_tensors="pt").pixel_values[0]
        assert apart(ours, theirs) == (about(1.0), about(0.3))
        unit = torch.from_numpy(self.NOISE).permute(2, 0, 1).float() / 255
        floats = processor(images=unit, do_rescale=False, return_tensors="pt").pixel_values[0]
        assert torch.equal(ours, floats)

    def test_a_video_is_resized_bilinearly(self) -> None:
        ours = load_frames([self.NOISE], shipped_config(DEBUG[0]).image_size, "cpu").images[0]
        processor = their_predictor(DEBUG[0]).processor.video_processor
        theirs, bicubic = (
            processor(videos=[self.NOISE], return_tensors="pt", **options).pixel_values_videos[0][0]
            for options in ({}, {"resample": 3})
        )
        assert apart(ours, theirs) == (about(43), about(10.7))
        furthest, mean = apart(ours, bicubic)
        assert furthest < 2.5
        assert mean < 0.01

    def test_neither_happens_at_the_size_of_the_model(self) -> None:
        side = shipped_config(DEBUG[0]).image_size
        fits = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
        processor = their_predictor(DEBUG[0]).processor
        theirs = processor.image_processor(images=fits, return_tensors="pt").pixel_values[0]
        frames = processor.video_processor(videos=[fits], return_tensors="pt").pixel_values_videos[
            0
        ]
        noise = MULTIPLE * EPSILON * 255  # of a sum, a product and a quotient
        assert apart(self.image(fits), theirs)[0] < noise
        assert apart(load_frames([fits], side, "cpu").images[0], frames[0])[0] < noise


def apart(mine: Tensor, theirs: Tensor) -> tuple[float, float]:
    """Largest and mean difference of normalised pixels, in 255ths."""
    found = ((mine - theirs) * STD * 255).abs()
    return float(found.max()), float(found.mean())


class Image:
    """An image model of ours and of transformers, with the features of one picture."""

    def __init__(self, name: str, home: Path, scale: float = 1.0) -> None:
        last = re.compile(r"sam_mask_decoder\.output_hypernetworks_mlps\.\d\.layers\.2\.")
        drawn = {
            key: value * scale if last.match(key) else value for key, value in weights(name).items()
        }
        self.ours = SAM2(shipped_config(name)).eval()
        self.ours.load_state_dict(drawn)
        self.theirs = Sam2Model.from_pretrained(hf_folder(home, drawn))
        side = (self.ours.image_size, self.ours.image_size)
        self.picture = PIL.Image.fromarray(videos.frame(3)).resize(
            side
        )  # so that nobody resizes it
        self.pixels = load_frames([self.picture], side[0], "cpu").images[0][None]
        self.features = self.ours.encode_image(self.pixels)

    def noise(self, *prompts: tuple[Tensor, ...]) -> float:
        """How far rounding alone moves the answers to some prompts."""

        def answer(prompt: tuple[Tensor, ...], model: SAM2) -> dict[str, Tensor]:
            return {"logits": model.predict_masks(self.features, *prompt).logits}  # type: ignore[arg-type]

        return rounding(self.ours, *(partial(answer, prompt) for prompt in prompts))["logits"]

    def logits(self, **prompts: Any) -> Tensor:
        """All three candidates of transformers: 1 x 3 x h x w."""
        embeddings = self.theirs.get_image_embeddings(self.pixels)
        masks: Tensor = self.theirs(image_embeddings=embeddings, **prompts).pred_masks
        return masks[:, 0]


@BOTH
def test_without_a_prompt_an_image_gets_a_padding_point(name: str, tmp_path: Path) -> None:
    """The official code does this in videos, but not for images."""
    image = Image(name, tmp_path)
    nothing = torch.zeros(1, 1, 2), torch.tensor([[-1]])
    mine, padded = (
        image.ours.predict_masks(image.features, *prompt).logits for prompt in ((), nothing)
    )
    noise = MULTIPLE * image.noise((), nothing)
    theirs = image.logits()
    assert relative(mine, theirs) == about(0.3)
    assert relative(padded, theirs) < noise
    encoder = image.theirs.prompt_encoder
    dense = encoder(None, None, None, None)[1]
    encoder.forward = lambda **_: (torch.zeros(1, 1, 0, dense.shape[1]), dense)
    assert relative(mine, image.logits()) < noise


def test_low_resolution_logits_are_not_clamped(tmp_path: Path) -> None:
    image = Image(DEBUG_21, tmp_path, scale=20.0)
    predictor = SAM2ImagePredictor(image.ours)
    predictor.set_image(image.picture)
    _, _, logits = predictor.predict(POINT, [1])
    point, label = torch.tensor([POINT]), torch.ones(1, 1, dtype=torch.int64)
    theirs = image.logits(input_points=point[None], input_labels=label[None])[0]
    assert np.abs(logits).max() == 32 < 48 < theirs.abs().max()
    apart = (torch.from_numpy(logits) - theirs.clamp(-32, 32)).abs().max()
    assert apart < MULTIPLE * image.noise((point, label)) * theirs.abs().max()


class TestLoading:
    """Files that ``from_pretrained`` accepts without an error."""

    def test_a_config_of_sam_2_drops_the_tensors_of_sam_2_1(self, tmp_path: Path) -> None:
        folder = hf_folder(tmp_path, weights(DEBUG_21))
        config = json.loads((folder / "config.json").read_text())
        flags = [name for name in config if name.startswith("enable_")]
        assert len(flags) == 2
        (folder / "config.json").write_text(json.dumps(config | dict.fromkeys(flags, False)))
        model, info = Sam2VideoModel.from_pretrained(folder, output_loading_info=True)
        lost = set(load_file(folder / "model.safetensors")) - set(model.state_dict())
        assert len(lost) == 3
        assert set(info.pop("unexpected_keys")) in (set(), lost)  # versions after 5.4 hide them
        assert not any(info.values())
        with pytest.raises(RuntimeError, match="Unexpected key"):
            model.load_state_dict(load_file(folder / "model.safetensors"))
        theirs = TransformersPredictor(weights(DEBUG_21))
        theirs.model = model
        assert not in_parity(
            compared(our_predictor(DEBUG_21), theirs, a_point)[0], 100 * noise(DEBUG_21)
        )
        assert not sam21convert.validate(folder).ok

    def test_a_folder_without_one_positional_copy_gets_random_prompts(self, tmp_path: Path) -> None:
        """transformers 4.56 and 4.57 save such files. ``convert`` writes both copies again."""
        folder = hf_folder(tmp_path, weights(DEBUG_21))
        tensors = load_file(folder / "model.safetensors")
        copy = "prompt_encoder.shared_embedding.positional_embedding"
        right = tensors.pop(copy)
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        model, info = Sam2VideoModel.from_pretrained(folder, output_loading_info=True)
        assert set(info["missing_keys"]) == {copy}
        assert relative(model.state_dict()[copy], right) > 0.1
        theirs = TransformersPredictor(weights(DEBUG_21))
        theirs.model = model
        assert not in_parity(
            compared(our_predictor(DEBUG_21), theirs, a_point)[0], 100 * noise(DEBUG_21)
        )
        sam21convert.convert(folder, tmp_path / "repaired")
        theirs.model = Sam2VideoModel.from_pretrained(tmp_path / "repaired")
        found, _ = compared(our_predictor(DEBUG_21), theirs, a_point)
        assert in_parity(found, noise(DEBUG_21))
