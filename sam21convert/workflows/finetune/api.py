"""The public function :func:`finetune`."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import UsageError
from ...io.nearby import expanded
from ...io.output.atomic import refuse_existing
from ...io.output.folders import refuse_file_name
from ...model.config import ModelConfig
from ...packages import require
from ...report import SILENT, Progress
from .names import TRAIN, Train

if TYPE_CHECKING:
    from .report import Finetuned

_PACKAGES = ("torch", "torchvision", "accelerate", "peft")


def finetune(
    base: str | Path,
    data: str | Path,
    out: str | Path,
    *,
    train: Train = "decoder",
    images: bool = False,
    video: bool = False,
    frames: int = 8,
    steps: int | None = None,
    epochs: int | None = None,
    lr: float | None = None,
    image_size: int | None = None,
    config: str | Path | ModelConfig | None = None,
    evaluate: str | Path | None = None,
    device: str = "auto",
    seed: int = 0,
    resume: bool = False,
    progress: Progress = SILENT,
) -> Finetuned:
    """Train a checkpoint on masks of pictures or videos, prove the result, and write it.

    Losses, simulated prompts, augmentation, optimiser and schedule are those of the official
    fine-tuning. Each step takes one clip or picture, and at most three of its objects. All is drawn
    from ``seed``, so that the same call on the same CPU gives the same weights.

    Args:
        base: The checkpoint to begin from: any that :func:`~sam21convert.load_model` takes.
        data: Videos in a layout of :func:`~sam21convert.evaluate`, of which those of a list for
            validation are left out; a folder with ``images`` and ``masks``, a PNG of ids for each
            picture; or the JSON of COCO, or its folder.
        out: A new folder. It gets ``model.safetensors``; ``transformers``, with a card that
            :func:`~sam21convert.push` publishes; ``checkpoints``, as the official trainer writes
            them; ``logs`` for TensorBoard; and ``report.json``.
        train: What to train: the mask ``"decoder"``; ``"decoder+prompt"``, with the prompt encoder;
            ``"encoder-lora"``, the decoder and a LoRA on the image encoder, which is merged; or
            ``"all"``. All other weights keep every bit.
        images: Whether to draw single frames of videos.
        video: Whether to refuse data that are no videos.
        frames: Number of frames of a clip.
        steps: Number of steps; None for what ``epochs`` asks.
        epochs: How often to draw every video or picture; None for 40.
        lr: The rate of the optimiser at the beginning; that of the image encoder is 0.6 of it.
            None for 5e-6 to train all, and 1e-4 to train parts.
        image_size: Side of the model's input in pixels; None for what the config says.
        config: As for :func:`~sam21convert.load_model`.
        evaluate: Held-out videos, as ``data`` of :func:`~sam21convert.evaluate`: they are tracked
            before and after, and three times in between.
        device: ``"auto"`` for a GPU if there is one, or a device as torch names it.
        seed: Of all that is drawn.
        resume: Whether to go on with what ``out`` holds, if it exists. On a CPU the weights at the
            end are those of a run that was never stopped, to the bit.
        progress: Told of each step: loss, J&F and time left.

    Returns:
        What was done: what changed, whether it holds, and whether it is better.

    Raises:
        UsageError: If arguments exclude each other, ``out`` exists without ``resume``, or what it
            holds was asked for otherwise.
        MissingPackageError: If a package is missing.
        MismatchError: If ``base`` does not fit ``config``.
        RefusedError: If a mask is empty, of another size than its picture or holds no ids, a video
            is shorter than a clip, or the loss is no number any more.
        Sam21ConvertError: For a checkpoint or data that cannot be read.

    Example:
        >>> done = sam21convert.finetune("model.pt", "PICTURES", "tuned", steps=1, image_size=128)
        >>> done.transformers
        PosixPath('tuned/transformers')
    """
    require("train", "finetune", packages=_PACKAGES)
    _check(train, seed, {"frames": frames, "steps": steps, "epochs": epochs, "lr": lr})
    if images and video:
        raise UsageError("`images` and `video` exclude each other")
    if steps is not None and epochs is not None:
        raise UsageError("`steps` and `epochs` exclude each other")
    folder = expanded(Path(out))
    refuse_file_name(folder)
    _refuse_there(folder, resume=resume)
    from .run import Asked, carry_out

    return carry_out(
        Asked(
            base=base,
            config=config,
            image_size=image_size,
            data=data,
            kind="images" if images else "video" if video else None,
            frames=frames,
            held_out=evaluate,
            out=folder,
            train=train,
            steps=steps,
            epochs=epochs,
            rate=lr,
            seed=seed,
            device=device,
        ),
        progress,
    )


def _check(train: str, seed: int, numbers: Mapping[str, float | None]) -> None:
    """Check arguments that need no file."""
    if train not in TRAIN:
        raise UsageError(f"`train={train}`: expected one of {', '.join(TRAIN)}")
    if seed < 0:
        raise UsageError(f"`seed={seed}`: expected 0 or more")
    for name, number in numbers.items():
        if number is not None and not (isfinite(number) and number > 0):
            raise UsageError(f"`{name}={number}`: expected a number above 0")


def _refuse_there(folder: Path, *, resume: bool) -> None:
    """Refuse a folder that holds anything, unless it is what a fine-tune has left to go on with."""
    from .request import REQUEST

    before = (folder / REQUEST).is_file()
    if resume and before:
        return
    if before:
        raise UsageError(
            f"{folder}: holds a fine-tune already",
            hint="`resume=True` goes on with it; or give another folder",
        )
    refuse_existing(folder, overwrite=None)
