"""What a step of optimisation costs, in time and memory, beside the official training code.

    python -m benchmarks.training [--config NAME] [--image-size N] [--frames N] [--objects N]
                                  [--rounds N] [--threads N]

Both have the same weights, see the same clip and draw the same prompts, dropout and drop path as
published, and take turns in one process. What counts are the ratios within one run: medians of
those of the rounds, in processor time. Peak memory counts tensors that a step makes. Run it from
the root of a checkout with the test dependencies.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import accumulate

import torch

import tests.conftest  # noqa: F401  # lets torchvision be imported beside a CPU build of torch
from sam21convert.config.registry import shipped_config
from sam21convert.training.batch import Batch
from sam21convert.training.losses import LossSettings
from sam21convert.training.optimiser import parameter_groups
from sam21convert.training.prompts import PromptSettings, SimulatedPrompts
from sam21convert.training.step import take_step
from tests.support.training import (
    OfficialBatch,
    made_batch,
    official_losses,
    official_model,
    official_optimiser,
    same_model,
)

KINDS = {"points": PromptSettings(points=1.0, box=0.0), "masks": PromptSettings(points=0.0)}
SIDES = ("sam21convert", "the same, activations recomputed", "sam2")


@dataclass(frozen=True)
class Options:
    """What is measured."""

    config: str
    image_size: int
    frames: int
    objects: int
    rounds: int
    threads: int


def worker(
    side: str, prompts: PromptSettings, options: Options, batch: Batch
) -> Callable[[], None]:
    """One of the sides, ready to take steps."""
    config = replace(shipped_config(options.config), image_size=options.image_size)
    theirs = official_model(config, prompts, seed=0, drop_path=0.1)
    if side == "sam2":
        optimiser = official_optimiser(theirs)

        def official() -> None:
            optimiser.zero_grad(set_to_none=True)
            loss = official_losses(theirs(OfficialBatch(batch)), batch.masks, LossSettings())[0]
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step_schedulers(0.5, step=0)
            torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.1)
            optimiser.optimizer.step()

        return official
    model = same_model(theirs, config)
    model.regularise()
    model.recompute_activations(on=side != SIDES[0])
    mine = torch.optim.AdamW(parameter_groups(model))
    simulated = SimulatedPrompts(prompts)

    def ours() -> None:
        take_step(model, batch, simulated, mine, 0.5)

    return ours


def seconds(step: Callable[[], None]) -> float:
    """Processor time of one step."""
    start = time.process_time()
    step()
    return time.process_time() - start


def megabytes(step: Callable[[], None]) -> float:
    """Tensors at the peak of a step, beyond those there were before."""
    with torch.profiler.profile(profile_memory=True) as profile:
        step()
    assert profile.profiler is not None
    assert profile.profiler.kineto_results is not None
    events = profile.profiler.kineto_results.events()
    changes = [(e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"]
    largest: int = max(accumulate(size for _, size in sorted(changes)))
    return largest / 1e6


def measure(kind: str, options: Options) -> None:
    """Measure with one kind of prompt, and print the rows."""
    batch = made_batch(options.image_size, options.frames, 1, options.objects)
    steps = {side: worker(side, KINDS[kind], options, batch) for side in SIDES}
    spent: dict[str, list[float]] = {side: [] for side in SIDES}
    for number in range(options.rounds + 1):
        turn = number % len(SIDES)
        for side in SIDES[turn:] + SIDES[:turn]:
            torch.manual_seed(number)
            taken = seconds(steps[side])
            if number:  # the first round warms up
                spent[side].append(taken)
    peaks = {}
    for side, step in steps.items():
        torch.manual_seed(options.rounds + 1)
        peaks[side] = megabytes(step)
    for side in SIDES:
        ratios = [one / other for one, other in zip(spent[side], spent["sam2"], strict=True)]
        times = f"{statistics.median(spent[side]):.2f} | {statistics.median(ratios):.2f}"
        memory = f"{peaks[side]:.0f} MB | {peaks[side] / peaks['sam2']:.2f}"
        print(f"| {kind} | {side} | {times} | {memory} |", flush=True)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--config", default="sam2.1/sam2.1_hiera_t")
    parser.add_argument("--image-size", type=int, default=256)
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--objects", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=6, help="a multiple of 3 is fair")
    parser.add_argument("--threads", type=int, default=1)
    options = Options(**vars(parser.parse_args()))
    torch.set_num_threads(options.threads)
    print(
        f"{options.config} at {options.image_size}, {options.frames} frames, {options.objects} "
        f"objects, float32, median of {options.rounds} rounds, {options.threads} threads, "
        f"torch {version('torch')}, sam2 {version('sam2')}\n"
    )
    print("| prompts | implementation | seconds | times sam2 | peak memory | times sam2 |")
    print("|---|---|---|---|---|---|")
    for kind in KINDS:
        measure(kind, options)


if __name__ == "__main__":
    main()
