"""Make the pictures of docs/serve.md: the page with two checkpoints, on a picture and on a video.

    python docs/pictures/look.py [FOLDER]

As for ``make.py``, the smallest model is taught to find things in the drawn scene; here by clicks
and boxes, and to follow them as the scene moves. One checkpoint has had a quarter of the lessons.
Then the page is opened in Chromium, with ``tests/support/browser.py``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from make import CONFIG, SIDE, box_of, targets
from PIL import Image
from torch import Tensor

import sam21convert
from sam21convert.model.config import TrackingOptions
from sam21convert.model.image_predictor import pixels_of
from sam21convert.model.inference_state import Session
from sam21convert.model.video_frames import Frames
from sam21convert.model.video_predictor import SAM2VideoPredictor
from sam21convert.prediction.draw import Mask, scene
from sam21convert.web.sides import open_sides
from tests.support.browser import Browser
from tests.support.web import serving

STEPS, BATCH, FRAMES = 240, 4, 4
CPU = torch.device("cpu")
IDLE = "document.body.ariaBusy === 'false'"
STATUS = "document.querySelector('#status').innerText"


class Student(SAM2VideoPredictor):
    """The model, without what cannot be learned from."""

    def masks_on(self, *_: Any, **__: Any) -> Tensor:
        """Nothing: results are looked at one by one."""
        return torch.empty(0)


def small(mask: Mask) -> Tensor:
    """A mask as the model gives it, ``1 x 1 x SIDE/4 x SIDE/4``."""
    return F.interpolate(torch.tensor(mask)[None, None].float(), size=SIDE // 4, mode="area")


def apart(logits: Tensor, wanted: Tensor) -> Tensor:
    """How far logits are from a mask."""
    area = logits.sigmoid()
    overlap = 2 * (area * wanted).sum((-2, -1)) / (area + wanted).sum((-2, -1))
    return F.binary_cross_entropy_with_logits(logits, wanted) + (1 - overlap).mean()


def prompt(random: np.random.Generator, mask: Mask, *, box: bool) -> tuple[Any, list[int]]:
    """A click within a mask, or the corners of a box around it; and the labels."""
    if box:
        return (np.array(box_of(mask)) + random.normal(0, 4, 4)).reshape(2, 2), [2, 3]
    down, across = np.nonzero(mask)
    at = random.integers(len(down))
    return np.array([[across[at] + 0.5, down[at] + 0.5]]), [1]


def of_a_picture(model: Student, random: np.random.Generator, shift: int) -> Tensor:
    """How far the answers to clicks and boxes are off."""
    picture = np.ascontiguousarray(np.roll(scene(SIDE), shift, axis=1))
    masks, features = targets(picture), model.encode_image(pixels_of(picture, SIDE))
    loss = torch.zeros(())
    for box in (False, True):
        chosen = random.choice([*masks], BATCH, p=[0.4, 0.4, 0.2])
        wanted = torch.cat([small(masks[name]) for name in chosen])
        asked = [prompt(random, masks[name], box=box) for name in chosen]
        points = torch.tensor(np.stack([place for place, _ in asked])).float()
        labels = torch.tensor([kinds for _, kinds in asked], dtype=torch.int)
        for several in (True, False):
            found = model.predict_masks(features, points, labels, multimask_output=several)
            right = wanted.expand_as(found.logits)
            inside, there = found.logits.detach() > 0, right > 0.5
            union = (inside | there).sum((-2, -1)).clamp(min=1)
            iou = (inside & there).sum((-2, -1)) / union
            loss = loss + apart(found.logits, right) + F.mse_loss(found.iou, iou.float())
    return loss


def of_a_clip(model: Student, random: np.random.Generator, shift: int) -> Tensor:
    """How far an object is lost in a scene that moves."""
    step = int(random.integers(-6, 7))
    moved = [np.ascontiguousarray(np.roll(scene(SIDE), shift + step * n, 1)) for n in range(FRAMES)]
    name = str(random.choice([*targets(moved[0])], p=[0.45, 0.45, 0.1]))
    wanted = [targets(picture)[name] for picture in moved]
    images = torch.cat([pixels_of(picture, SIDE) for picture in moved])
    state = Session(Frames(images, SIDE, SIDE), CPU, CPU)
    tracked = state.object("1")
    points, labels = prompt(random, wanted[0], box=random.random() < 0.5)
    tracked.points[0] = torch.tensor(points).float()[None], torch.tensor([labels]).int()
    model.respond(state, 0, "1")
    found = tracked.pending.prompted.pop(0)
    model.remember_prompt(state, 0, "1", found)
    tracked.settled.prompted[0] = found
    loss = apart(found.low_res, small(wanted[0]))
    for frame in range(1, FRAMES):
        found = tracked.settled.tracked[frame] = model.track(state, frame, "1", reverse=False)
        loss = loss + 2 * apart(found.low_res, small(wanted[frame]))
    return loss


def teach(home: Path) -> None:
    """Write the two checkpoints."""
    sam21convert.sample(home / "sample.pt", CONFIG)
    source, _ = sam21convert.load_model(home / "sample.pt", image_size=SIDE)
    torch.manual_seed(0)
    options = TrackingOptions(add_all_frames_to_correct_as_cond=True)
    model = Student(source.config, options)
    model.load_state_dict(source.state_dict())
    with torch.no_grad():  # an object is always there
        tensor = model.get_parameter("sam_mask_decoder.pred_obj_score_head.layers.2.bias")
        tensor.add_(20)
    model.eval().requires_grad_(True)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-3, STEPS)
    random = np.random.default_rng(0)
    for step in range(STEPS):
        shift = int(random.integers(-60, 60))
        loss = of_a_picture(model, random, shift) + of_a_clip(model, random, shift)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 25 == 0:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)
        if step == STEPS // 4:
            torch.save({"model": model.state_dict()}, home / "sam2.1_debug.pt")
    torch.save({"model": model.state_dict()}, home / "my_finetune.pt")


def draw(home: Path) -> list[Path]:
    """Draw the picture and the frames that are opened."""
    Image.fromarray(scene(512)[:420]).save(home / "house.png")
    paths = [home / f"{number:05}.jpg" for number in range(12)]
    for number, path in enumerate(paths):
        Image.fromarray(np.roll(scene(512), 6 * number, axis=1)[:420]).save(path, quality=95)
    return paths


def look(home: Path, out: Path) -> None:
    """Open the page, click, and save what is seen."""
    frames = draw(home)
    os.chdir(home)  # the page names what it was given
    sources = ["sam2.1_debug.pt", "my_finetune.pt"]
    with serving(open_sides(sources, image_size=SIDE, device="cpu")) as server:
        browser = Browser(home / "profile")
        browser.prefer(color_scheme="light", reduced_motion="reduce")
        browser.open(server.address, 1280, 800)
        browser.until("!document.querySelector('main').hidden")
        browser.give("#file", home / "house.png")
        browser.until(f"{IDLE} && {STATUS}.startsWith('Ready')")
        browser.drag("#views canvas", (0.21, 0.47), (0.49, 0.88))
        browser.until(f"{IDLE} && {STATUS}.startsWith('Candidate')")
        browser.screen(out / "serve-picture.png")
        browser.give("#file", *frames)
        browser.until(f"{IDLE} && {STATUS}.startsWith('Ready')")
        browser.drag("#views canvas", (0.21, 0.47), (0.49, 0.88))
        browser.until(f"{IDLE} && {STATUS}.startsWith('Object 1')")
        browser.click("#new-object")
        browser.drag("#views canvas", (0.68, 0.13), (0.88, 0.36))
        browser.until(f"{IDLE} && {STATUS}.startsWith('Object 2 on')")
        browser.click("#follow")
        browser.until(f"{IDLE} && {STATUS}.startsWith('Followed')")
        browser.click("#curve svg", 0.545, 0.5)
        browser.until("document.querySelector('#place').innerText.startsWith('Frame 6')")
        browser.screen(out / "serve-video.png")
        browser.resize(380, 800)
        browser.screen(out / "serve-phone.png", whole=False)
        browser.close()


def main() -> None:
    """Teach, and look."""
    torch.set_num_threads(1)  # as quick as two, for a model as small as this
    out = Path(sys.argv[1] if sys.argv[1:] else Path(__file__).parent).absolute()
    with TemporaryDirectory() as folder:
        home = Path(folder)
        teach(home)
        look(home, out)


if __name__ == "__main__":
    main()
