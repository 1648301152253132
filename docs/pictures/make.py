"""Make the picture at the top of README.

    python docs/pictures/make.py [docs/pictures/same.png]

Masks of random weights show nothing, and published weights are not needed for this: the smallest
model is taught for some minutes to find the house, the sun and the hill in the drawn scene of
``demo``. The checkpoint is converted, and ``parity`` runs it in the official code, and what came
of it in transformers. The masks are those that the comparison has seen.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

import sam21convert
from sam21convert.comparison.findings import View
from sam21convert.model.image_predictor import pixels_of
from sam21convert.model.sam2 import SAM2
from sam21convert.prediction.draw import COLOURS, Mask, Pixels, drawing, scene, sheet, with_mask

CONFIG, SIDE, STEPS, BATCH = "debug/sam2.1_debug", 256, 400, 6
DRAWN_IN = {  # the colours of each object in the scene
    "house": ((191, 76, 64), (102, 51, 51), (76, 38, 26)),
    "sun": ((255, 217, 76),),
    "hill": ((76, 115, 64),),
}
PANEL = 384


def targets(pixels: Pixels) -> dict[str, Mask]:
    """The masks of the objects, which are drawn in colours of their own."""
    near = {
        name: [np.abs(pixels.astype(int) - colour).max(axis=2) <= 1 for colour in colours]
        for name, colours in DRAWN_IN.items()
    }
    return {name: np.any(masks, axis=0) for name, masks in near.items()}


def box_of(mask: Mask) -> tuple[float, ...]:
    """The corners of the box around a mask."""
    down, across = np.nonzero(mask)
    return tuple(map(float, (across.min(), down.min(), across.max() + 1, down.max() + 1)))


def lessons() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """The scene, sometimes moved and mirrored: pixels, boxes that are a little off, and masks."""
    random = np.random.default_rng(0)
    plain = scene(SIDE)
    while True:
        moved = np.roll(plain, random.integers(-60, 60), axis=1)
        moved = moved[:, ::-1] if random.random() < 0.5 else moved
        masks = targets(moved)
        boxes, wanted = [], []
        for name in random.choice([*masks], BATCH, p=[0.6, 0.2, 0.2]):
            boxes.append(np.array(box_of(masks[name])) + random.normal(0, 6, 4))
            wanted.append(masks[name])
        pixels = pixels_of(np.ascontiguousarray(moved), SIDE)
        yield pixels, torch.tensor(np.stack(boxes)).float(), torch.tensor(np.stack(wanted)).float()


def taught(source: Path) -> SAM2:
    """The model after its lessons."""
    torch.manual_seed(0)
    model, _ = sam21convert.load_model(source, image_size=SIDE, device="cpu")
    model.requires_grad_(True)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-3, STEPS)
    for step, (pixels, boxes, wanted) in zip(range(STEPS), lessons(), strict=False):
        with torch.no_grad():
            small = F.interpolate(wanted[:, None], size=SIDE // 4, mode="area")
        found = model.predict_masks(model.encode_image(pixels), boxes=boxes, multimask_output=False)
        area = found.logits.sigmoid()
        overlap = 2 * (area * small).sum((1, 2, 3)) / (area + small).sum((1, 2, 3))
        loss = F.binary_cross_entropy_with_logits(found.logits, small) + (1 - overlap).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 50 == 0:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)
    return model


def compared(home: Path) -> View:
    """Convert the checkpoint, run both, and give the masks that were compared."""
    fresh, mine = home / "fresh.pt", home / "my_finetune.pt"
    sam21convert.sample(fresh, CONFIG)
    torch.save({"model": taught(fresh).state_dict()}, mine)
    sam21convert.convert(mine, home / "my-model", image_size=SIDE)
    (home / "pictures").mkdir()
    Image.fromarray(scene(2 * PANEL)).save(home / "pictures" / "scene.png")
    report = sam21convert.parity(
        f"sam2:{mine}",
        f"transformers:{home / 'my-model'}",
        scenarios="box",
        images=home / "pictures",
        image_size=SIDE,
        device="cpu",
    )
    print(report)
    (view,) = (view for found in report.scenarios for view in found.views)
    return view


def picture(view: View) -> Image.Image:
    """The question, both answers, and the pixels in which they differ."""
    assert view.prompts is not None
    differing = view.left != view.right
    dim = np.asarray(Image.fromarray(view.picture).convert("L").convert("RGB")) // 3
    panels = {
        "a picture and a box": drawing(view.picture, {"": view.left & False}, {"": view.prompts}),
        "my_finetune.pt in sam2": with_mask(view.picture, view.left),
        "my-model in transformers": with_mask(view.picture, view.right),
        f"{differing.sum():,} of {differing.size:,} pixels differ": with_mask(
            dim, differing, COLOURS[3]
        ),
    }
    size = (PANEL, PANEL)
    shown = [one.convert("RGB").resize(size, Image.Resampling.LANCZOS) for one in panels.values()]
    return sheet([*panels], shown, columns=len(panels))


def main() -> None:
    """Make the picture and save it."""
    out = Path(sys.argv[1] if sys.argv[1:] else Path(__file__).with_name("same.png"))
    with TemporaryDirectory() as folder:
        made = picture(compared(Path(folder)))
    made.quantize(256, dither=Image.Dither.NONE).save(out, optimize=True)


if __name__ == "__main__":
    main()
