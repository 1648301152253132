"""The loop over the steps: train, log, save, and score on the held-out videos."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ...errors import RefusedError
from ...model.sam2 import SAM2
from ...report import Progress
from ...training.losses import Losses
from ...training.optimiser import Rates, parameter_groups
from ...training.prompts import PromptSettings, SimulatedPrompts
from ...training.step import DivergedError, take_step
from .batches import Batches
from .logs import Logs
from .lora import load_lora, lora_of, merged
from .processes import Together
from .request import Request
from .sampling import Draws
from .saved import CHECKPOINT, CHECKPOINTS, Past, Saved, save
from .stopping import Finishing

STRETCHES = 10  # of the steps, of whose losses the report has the mean
_SCORED = 4  # times, the last of which is after all steps
_PATIENCE = 600.0  # seconds between two checkpoints
_POINTS, _PROMPTS = 2, 3  # what a generator is for; sampling has 0 and 1


class Training:
    """A training that can be stopped after any step.

    Args:
        model: The model, of which what is to be trained requires gradients.
        request: What was asked.
        draws: The clips.
        out: The folder of the results.
        together: The processes.
        progress: Told of each step.

    Attributes:
        past: What was done so far.
    """

    def __init__(
        self,
        model: SAM2,
        request: Request,
        draws: Draws,
        out: Path,
        together: Together,
        progress: Progress,
    ) -> None:
        self._model, self._request, self._draws = model, request, draws
        self._out, self._together, self._progress = out, together, progress
        self._rates = Rates.of(request.rate)
        self._trained = [one for one in model.parameters() if one.requires_grad]
        self._prompts = _prompts(request.frames)
        self._optimiser = torch.optim.AdamW(parameter_groups(model, self._rates))
        self._saved_at = time.monotonic()
        self.past = Past()

    def go_on_from(self, saved: Saved) -> None:
        """Go on where a training was.

        Args:
            saved: What it has saved.

        Raises:
            KeyError: If a tensor is missing.
        """
        if saved.lora:
            load_lora(self._model, saved.lora)
            with torch.no_grad():
                for name, parameter in self._model.named_parameters():
                    if name in saved.weights:  # what has a LoRA around it has another name now
                        parameter.copy_(saved.weights[name])
        else:
            self._model.load_state_dict(dict(saved.weights))
        self._optimiser.load_state_dict(dict(saved.optimiser))
        self.past = saved.past

    def run(self, score: Callable[[Path], float] | None) -> None:
        """Do the steps that are left.

        Args:
            score: Gives J&F in percent of a checkpoint on the held-out videos; None for no videos.

        Raises:
            Sam21ConvertError: If data cannot be read any more.
            BaseException: What a signal raises, after the step was saved.
        """
        steps, draws = self._request.steps, self._request.steps * self._together.count
        marks = {-(-steps * part // _SCORED) for part in range(1, _SCORED)} - {steps}
        self._show()
        apart = self._together.count
        self._model.train()
        with (
            Logs(self._out if self._together.first else None, self.past.steps) as logs,
            Batches(self._draws, self._request.image_size, draws - 1, apart) as batches,
        ):
            while self.past.steps < steps:
                with Finishing(self._progress.tell) as finishing:
                    began = time.monotonic()
                    found = self._step(batches)
                    self._note(found, time.monotonic() - began, logs)
                    stops = self._together.mean(float(finishing.stops)) > 0
                    due = time.monotonic() - self._saved_at >= _PATIENCE
                    marked = score is not None and self.past.steps in marks
                    if stops or due or marked or self.past.steps == steps:
                        self.save()
                    if stops:
                        finishing.pass_on()
                if marked and score is not None:
                    self._score(score, logs)

    def save(self) -> None:
        """Save the training, if this is the first process."""
        self._saved_at = time.monotonic()
        if self._together.first:
            epoch = -(-self.past.steps * self._together.count // self._draws.epoch)
            weights, state = merged(self._model), self._optimiser.state_dict()
            save(self._out, self.past, epoch, weights, lora_of(self._model), state)

    def _step(self, batches: Batches) -> Losses:
        number, together = self.past.steps, self._together
        batch = batches.take(number * together.count + together.rank).to(together.device)
        # All processes draw the same prompts, and each its own points.
        prompts = SimulatedPrompts(self._prompts, seed=self._seed(_PROMPTS, number))
        torch.manual_seed(self._seed(_POINTS, number, together.rank))
        try:
            return take_step(
                self._model,
                batch,
                prompts,
                self._optimiser,
                number / self._request.steps,
                self._rates,
                objects=together.mean(len(batch.clip)),
                autocast=together.autocast(),
                average=lambda: together.average(self._trained),
            )
        except DivergedError as error:
            raise RefusedError(
                f"{self._out}: the loss of step {number + 1} is {error.loss}",
                hint="a lower rate may help; what was saved before is whole",
            ) from error

    def _seed(self, *what: int) -> int:
        return int(np.random.SeedSequence((self._request.seed, *what)).generate_state(1)[0])

    def _note(self, found: Losses, seconds: float, logs: Logs) -> None:
        past = self.past
        numbers = {name: value.item() for name, value in found._asdict().items()}
        stretch = str(past.steps * STRETCHES // self._request.steps)
        past.losses[stretch] = past.losses.get(stretch, 0.0) + numbers["total"]
        past.steps += 1
        past.seconds += seconds
        rates = (group["lr"] for group in self._optimiser.param_groups)
        logs.write(past.steps, {f"loss/{name}": value for name, value in numbers.items()})
        logs.write(past.steps, {"rate": max(rates), "seconds": seconds})
        self._progress.advance(1)
        left = past.seconds / past.steps * (self._request.steps - past.steps)
        scores = [*past.held_out.values()]
        told = [f"loss {numbers['total']:.3f}", *(f"J&F {one:.1f}" for one in scores[-1:])]
        self._progress.tell(f"{', '.join(told)}, {_minutes(left)} left")

    def _score(self, score: Callable[[Path], float], logs: Logs) -> None:
        if self._together.first:
            found = score(self._out / CHECKPOINTS / CHECKPOINT)
            self.past.held_out[str(self.past.steps)] = found
            logs.write(self.past.steps, {"J&F": found})
            self.save()
        self._together.wait()
        self._show()

    def _show(self) -> None:
        self._progress.start("training", self._request.steps)
        self._progress.advance(self.past.steps)


def _prompts(frames: int) -> PromptSettings:
    """The official settings, but that one frame is left to be found by tracking.

    Where the true masks of all frames are given, the model computes nothing that could be wrong.
    """
    usual = PromptSettings()
    return replace(usual, first_frames=max(1, min(usual.first_frames, frames - 1)))


def _minutes(seconds: float) -> str:
    hours, rest = divmod(int(seconds), 3600)
    clock = f"{rest // 60:02}:{rest % 60:02}"
    return f"{hours}:{clock}" if hours else clock.removeprefix("0")
