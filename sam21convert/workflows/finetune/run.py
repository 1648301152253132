"""Carry out a fine-tune: look at everything it needs, train, and write what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from ...checkpoint.open import open_checkpoint
from ...errors import RefusedError, UsageError
from ...evaluation.api import evaluate
from ...evaluation.datasets import open_dataset
from ...io.data.checksums import sha256
from ...io.output.atomic import new_folder
from ...model.config import ModelConfig
from ...model.sam2 import SAM2
from ...prediction.load import Loading, load_onto, with_image_size
from ...report import SILENT, Progress
from .data import Data, Kind, open_data
from .logs import can_log
from .loop import STRETCHES, Training
from .names import Train
from .outputs import Outputs, write_outputs, write_report
from .parts import choose
from .processes import Together
from .report import Finetuned
from .request import REQUEST, Request
from .sampling import Draws
from .saved import Past, saved_in
from .videos import for_training

# The official rate is for all weights. Parts are usually trained with larger ones: so are adapters
# in PEFT's examples, and decoders in those of transformers.
_RATE, _RATE_OF_PARTS = 5e-6, 1e-4
_EPOCHS = 40  # of the official fine-tuning


@dataclass(frozen=True)
class Asked:
    """The arguments of :func:`~sam21convert.finetune`, as it describes them.

    Attributes:
        base: The checkpoint to begin from.
        config: Its config; None for its own.
        image_size: Side of the model's input in pixels; None for what the config says.
        data: The data to train on.
        kind: ``images`` or ``video``; None for what the data are.
        frames: Number of frames of a clip.
        held_out: Held-out videos; None for none.
        out: The folder of the results.
        train: What to train.
        steps: Number of steps; None for what ``epochs`` asks.
        epochs: How often to draw every video or picture; None for the official number.
        rate: The rate at the beginning; None for the usual one.
        seed: Of all that is drawn.
        device: The device.
    """

    base: str | Path
    config: str | Path | ModelConfig | None
    image_size: int | None
    data: str | Path
    kind: Kind | None
    frames: int
    held_out: str | Path | None
    out: Path
    train: Train
    steps: int | None
    epochs: int | None
    rate: float | None
    seed: int
    device: str


def carry_out(asked: Asked, progress: Progress) -> Finetuned:
    """Fine-tune.

    Args:
        asked: What was asked.
        progress: Told of each step.

    Returns:
        What was done.

    Raises:
        Sam21ConvertError: As :func:`~sam21convert.finetune` does.
    """
    together = Together(asked.device)
    progress = progress if together.first else SILENT
    model, loading, hashes = _model(asked)
    data = open_data(asked.data, asked.kind, asked.frames, progress)
    _refuse_inside(asked.out, data, loading.path)
    score = _scorer(asked, data, loading.config, together.device, progress)
    draws = Draws(data, asked.frames, asked.seed)
    request = _request(asked, hashes, loading, data, draws, together)
    trained = choose(model, asked.train)
    training = Training(model.to(together.device), request, draws, asked.out, together, progress)
    _begin(training, request, asked.out, together)
    with _telling_how_to_go_on(training.past, request):
        if training.past.steps == 0 and score is not None and together.first:
            training.past.held_out["0"] = score(loading.path)
        together.wait()
        with torch.random.fork_rng():
            training.run(score)
        if not together.first:
            return together.shared(None)
        place = asked.out, loading.path, loading.config, asked.held_out, together.device
        outputs = write_outputs(*place, progress)
        done = _report(
            asked, request, loading, data, draws, training.past, trained, together, outputs
        )
        write_report(done)
        return together.shared(done)


@contextmanager
def _telling_how_to_go_on(past: Past, request: Request) -> Iterator[None]:
    """Where a signal or the user ends the block, say what is saved: commands print the hint."""
    try:
        yield
    except Exception:
        raise
    except BaseException as stopped:
        stopped.__dict__["hint"] = (
            f"{past.steps:,} of {request.steps:,} steps are saved; the same with `resume=True` "
            "goes on"
        )
        raise


def _model(asked: Asked) -> tuple[SAM2, Loading, tuple[str, ...]]:
    """The model in float32, how it was loaded, and the hashes of its files."""
    opened = open_checkpoint(asked.base, asked.config)
    model, loading = load_onto(
        SAM2,
        asked.base,
        asked.config,
        change=with_image_size(asked.image_size),
        device="cpu",
        dtype=torch.float32,
        opened=opened,
    )
    return model, loading, tuple(sorted(map(sha256, opened.source.files)))


def _refuse_inside(out: Path, data: Data, base: Path) -> None:
    """Refuse to write among the data, or where the checkpoint to begin from is."""
    place, home = out.resolve(), data.root.resolve()
    if place.is_relative_to(home) or home.is_relative_to(place):
        raise UsageError(
            f"{out}: would be written among the data in {data.root}, which are never changed",
            hint="give a folder of its own",
        )
    if base.resolve().is_relative_to(place):
        raise UsageError(
            f"{base}: is in {out}, where the results are written; it is never changed",
            hint="give a folder of its own",
        )


def _scorer(
    asked: Asked, data: Data, config: ModelConfig, device: str, progress: Progress
) -> Callable[[Path], float] | None:
    """What gives J&F in percent on the held-out videos."""
    if asked.held_out is None:
        return None
    held_out = asked.held_out
    dataset = open_dataset(held_out)
    seen = {video.truth.resolve() for video in dataset.chosen(())}
    if data.layout not in ("ids", "coco"):
        for video in for_training(data.root)[1]:
            if video.truth.resolve() in seen:
                raise UsageError(
                    f"{held_out}: video {video.name} is among those to train on",
                    hint="score on videos that were not trained on",
                )

    def score(checkpoint: Path) -> float:
        found = evaluate(
            checkpoint,
            held_out,
            config=config,
            image_size=config.image_size,
            device=device,
            progress=progress,
        )
        if found.jf is None:
            raise RefusedError(
                f"{held_out}: {'; '.join(found.notes)}", hint="score on videos with true masks"
            )
        return found.jf

    return score


def _request(
    asked: Asked,
    hashes: tuple[str, ...],
    loading: Loading,
    data: Data,
    draws: Draws,
    together: Together,
) -> Request:
    usual = _RATE if asked.train == "all" else _RATE_OF_PARTS
    epochs = asked.epochs or _EPOCHS
    return Request(
        base=hashes,
        data=str(data.root.resolve()),
        kind=data.kind,
        pictures=data.frames,
        objects=data.objects,
        train=asked.train,
        frames=draws.length,
        steps=asked.steps or max(1, round(epochs * draws.epoch / together.count)),
        rate=usual if asked.rate is None else asked.rate,
        image_size=loading.image_size,
        seed=asked.seed,
        processes=together.count,
        precision=together.precision,
    )


def _begin(training: Training, request: Request, out: Path, together: Together) -> None:
    """Make the folder of the results, or go on with what it holds."""
    if (out / REQUEST).is_file():
        request.refuse_other(out)
        saved = saved_in(out)
        if saved is not None:
            training.go_on_from(saved)
    elif together.first:
        with new_folder(out, overwrite=None) as folder:
            request.write(folder)
    together.wait()


def _report(
    asked: Asked,
    request: Request,
    loading: Loading,
    data: Data,
    draws: Draws,
    past: Past,
    trained: int,
    together: Together,
    outputs: Outputs,
) -> Finetuned:
    tenths = [step * STRETCHES // request.steps for step in range(request.steps)]
    notes = () if can_log() else ("no logs for TensorBoard, which is not installed",)
    return Finetuned(
        base=loading.path,
        data=data.root,
        layout=data.layout,
        kind=data.kind,
        pictures=data.frames,
        objects=data.objects,
        train=request.train,
        trained=trained,
        frames=request.frames,
        steps=request.steps,
        epochs=request.steps * together.count / draws.epoch,
        rate=request.rate,
        image_size=request.image_size,
        seed=request.seed,
        device=together.device,
        processes=together.count,
        precision={"no": "float32", "bf16": "bfloat16"}[request.precision],
        seconds=round(past.seconds, 2),
        losses=tuple(past.losses[str(one)] / tenths.count(one) for one in sorted({*tenths})),
        held_out=dict(past.held_out),
        out=asked.out,
        checkpoint=outputs.checkpoint,
        weights=outputs.weights,
        transformers=outputs.transformers,
        changed=outputs.changed,
        parity=outputs.parity,
        evaluation=outputs.evaluation,
        notes=notes,
    )
