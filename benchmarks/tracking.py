"""What a tracked frame costs, step by step, and what other ways to attend to memories would give.

    python -m benchmarks.tracking [--config NAME] [--rounds N]

Processor time with one thread. A frame attends to seven memories and sixteen pointers, with random
weights. The ways take turns; each ratio is the median of those of the rounds. Each way is compared
with the model's own: the largest difference, in units of the largest value. Run it from the root of
a checkout with the test dependencies; a compiler is needed for what is compiled.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention

import sam21convert
import tests.conftest  # noqa: F401  # lets torchvision be imported beside a CPU build of torch
from sam21convert.conversion.sample import DEFAULT_CONFIG
from sam21convert.model import SAM2
from sam21convert.model.memory_attention import RotaryAttention
from sam21convert.model.position_encoding import turn

Way = Callable[[RotaryAttention, Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


def seconds(run: Callable[[], object]) -> float:
    """Processor time of one call."""
    start = time.process_time()
    run()
    return time.process_time() - start


def keys_and_queries(
    layer: RotaryAttention, q: Tensor, k: Tensor, q_turns: Tensor, k_turns: Tensor
) -> tuple[Tensor, Tensor]:
    """Both projected and rotated, ``B x 1 x N x C`` and ``B x 1 x M x C``."""
    q, k = layer.split_heads(layer.q_proj(q)), layer.split_heads(layer.k_proj(k))
    k[:, :, : len(k_turns)] = turn(k[:, :, : len(k_turns)], k_turns)
    return turn(q, q_turns), k


def finished(layer: RotaryAttention, mixed: Tensor) -> Tensor:
    """Values projected after they were mixed: the weights of each query have the sum 1."""
    made: Tensor = layer.out_proj(layer.v_proj(mixed))
    return made


def in_chunks(
    layer: RotaryAttention,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_turns: Tensor,
    k_turns: Tensor,
    size: int = 128,
) -> Tensor:
    """Two products; narrow values are mixed before they are projected."""
    q, k = keys_and_queries(layer, q, k, q_turns, k_turns)
    q = q * q.shape[-1] ** -0.5
    mixed = [(part @ k.mT).softmax(-1) @ v[:, None] for part in torch.split(q, size, 2)]
    return finished(layer, torch.cat(mixed, 2)[:, 0])


def in_chunks_unscaled(
    layer: RotaryAttention, q: Tensor, k: Tensor, v: Tensor, q_turns: Tensor, k_turns: Tensor
) -> Tensor:
    """The same, with the sum of the weights as one more value, and in place."""
    q, k = keys_and_queries(layer, q, k, q_turns, k_turns)
    q = q * q.shape[-1] ** -0.5
    wide = torch.cat([v, torch.ones_like(v[..., :1])], -1)[:, None]
    mixed = []
    for part in torch.split(q, 128, 2):
        scores = part @ k.mT
        found = scores.sub_(scores.amax(-1, keepdim=True)).exp_() @ wide
        mixed.append(found[..., :-1] / found[..., -1:])
    return finished(layer, torch.cat(mixed, 2)[:, 0])


def padded(
    layer: RotaryAttention, q: Tensor, k: Tensor, v: Tensor, q_turns: Tensor, k_turns: Tensor
) -> Tensor:
    """The fused kernel, with narrow values filled up to the width of keys."""
    q, k = keys_and_queries(layer, q, k, q_turns, k_turns)
    mixed = F.scaled_dot_product_attention(q, k, F.pad(v, (0, k.shape[-1] - v.shape[-1]))[:, None])
    return finished(layer, mixed[:, 0, :, : v.shape[-1]])


_flex = torch.compile(flex_attention)


def flex(
    layer: RotaryAttention, q: Tensor, k: Tensor, v: Tensor, q_turns: Tensor, k_turns: Tensor
) -> Tensor:
    """A compiled kernel for values narrower than keys."""
    q, k = keys_and_queries(layer, q, k, q_turns, k_turns)
    return finished(layer, _flex(q, k, v[:, None].contiguous())[:, 0])


def flex_wide(
    layer: RotaryAttention, q: Tensor, k: Tensor, v: Tensor, q_turns: Tensor, k_turns: Tensor
) -> Tensor:
    """The compiled kernel with values as wide as keys."""
    q, k = keys_and_queries(layer, q, k, q_turns, k_turns)
    values = layer.split_heads(layer.v_proj(v)).contiguous()
    made: Tensor = layer.out_proj(_flex(q, k, values)[:, 0])
    return made


WAYS: Mapping[str, Way] = {
    "as the model does: values projected, then `scaled_dot_product_attention`": (
        lambda layer, *given: layer(*given)
    ),
    "values of 64, filled up with zeros for the fused kernel": padded,
    **{
        f"values of 64, two products for {size} queries at a time": partial(in_chunks, size=size)
        for size in (64, 128, 512)
    },
    "the same for 128, softmax in place and its sum by the second product": in_chunks_unscaled,
    "values of 64, compiled `flex_attention`": flex,
    "values of 256, compiled `flex_attention`": flex_wide,
    "without attention: what projects and rotates keys and queries": (
        lambda layer, q, k, v, *turns: keys_and_queries(layer, q, k, *turns)[0]
    ),
}


def encoders(model: SAM2) -> dict[str, Callable[[Tensor], object]]:
    """Ways to encode a picture, 1 x 3 x S x S."""
    last = deepcopy(model.image_encoder)
    last.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in its types
    compiled = torch.compile(model.image_encoder)
    return {
        "as the model does": model.image_encoder,
        "channels last": lambda pixels: last(pixels.to(memory_format=torch.channels_last)),
        "compiled": compiled,
    }


def objects(model: SAM2, count: int) -> dict[str, Callable[[], object]]:
    """Memory attention for some objects, one after the other and at once."""
    draw = torch.Generator().manual_seed(0)
    grid, width = model.image_size // 16, model.config.memory_encoder.out_dim
    frame = torch.randn(1, model.config.hidden_dim, grid, grid, generator=draw)
    tokens = 7 * grid**2 + 64
    memories = torch.randn(count, tokens, width, generator=draw)
    position = torch.randn(1, tokens, width, generator=draw)
    attend = model.memory_attention
    frames, positions = frame.expand(count, -1, -1, -1), position.expand(count, -1, -1)
    return {
        f"{count} objects, one after the other": lambda: [
            attend(frame, memory[None], position, 64) for memory in memories
        ],
        f"{count} objects at once": lambda: attend(frames, memories, positions, 64),
    }


def steps(model: SAM2) -> dict[str, Callable[[], object]]:
    """The steps of a tracked frame, and of one cross-attention with its inputs."""
    draw = torch.Generator().manual_seed(0)
    size, grid = model.image_size, model.image_size // 16
    pixels = torch.randn(1, 3, size, size, generator=draw)
    frame = model.encode_frame(pixels)
    width = model.config.memory_encoder.out_dim
    memories = [(age, torch.randn(1, width, grid, grid, generator=draw)) for age in range(7)]
    pointers = [
        (age + 1, torch.randn(1, model.config.hidden_dim, generator=draw)) for age in range(16)
    ]
    conditioned = model.attend_to_memory(frame, memories, pointers, 15)
    seen = model.predict_single_mask(conditioned, multimask_output=False)
    return {
        "the picture encoded": lambda: model.encode_frame(pixels),
        "attention to seven memories and 16 pointers": lambda: model.attend_to_memory(
            frame, memories, pointers, 15
        ),
        "a mask": lambda: model.predict_single_mask(conditioned, multimask_output=False),
        "a memory": lambda: model.encode_memory(frame, seen.high_res, seen.object_score),
    }


def attention(model: SAM2) -> tuple[RotaryAttention, tuple[Tensor, ...]]:
    """The cross-attention of the first layer, and what it is given."""
    found: list[tuple[Tensor, ...]] = []
    layer = model.get_submodule("memory_attention.layers.0.cross_attn_image")
    assert isinstance(layer, RotaryAttention)
    hook = layer.register_forward_pre_hook(lambda _, given: found.append(given))
    steps(model)
    hook.remove()
    return layer, found[0]


def in_turns(title: str, ways: Mapping[str, Callable[[], object]], rounds: int) -> None:
    """Measure ways that do the same, and print a table of them."""
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for turn_number in range(rounds + 1):
        for name, way in ways.items():
            taken = seconds(way)
            if turn_number:  # the first one compiles
                spent[name].append(taken)
    base = next(iter(spent.values()))
    print(f"\n| {title} | seconds | ratio |\n|---|---|---|")
    for name, found in spent.items():
        ratio = statistics.median(one / first for one, first in zip(found, base, strict=True))
        show(name, ratio, statistics.median(found))


def show(name: str, ratio: float, median: float) -> None:
    """A row of a table."""
    print(f"| {name} | {median:.2f} | {ratio:.2f} |", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--config", default=DEFAULT_CONFIG)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as home, torch.inference_mode():
        sam21convert.sample(Path(home) / "model.pt", options.config)
        model, _ = sam21convert.load_model(Path(home) / "model.pt")
        parts = steps(model)
        times = {name: [seconds(run) for _ in range(options.rounds)] for name, run in parts.items()}
        whole = sum(map(statistics.median, times.values()))
        print("| step | seconds | share |\n|---|---|---|")
        for name, found in times.items():
            show(name, statistics.median(found) / whole, statistics.median(found))
        pixels = torch.randn(1, 3, model.image_size, model.image_size)
        ways = {name: partial(way, pixels) for name, way in encoders(model).items()}
        in_turns("a picture", ways, options.rounds)
        in_turns("memory attention", objects(model, 2), options.rounds)
        layer, given = attention(model)
        usual = layer(*given)
        for name, way in WAYS.items():
            difference = float((way(layer, *given) - usual).abs().max() / usual.abs().max())
            print(f"{name}: {difference:.0e}")
        in_turns(
            "cross-attention of one layer",
            {name: partial(way, layer, *given) for name, way in WAYS.items()},
            options.rounds,
        )


if __name__ == "__main__":
    main()
