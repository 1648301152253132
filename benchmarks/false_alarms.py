"""How often a right conversion is called wrong, and a wrong one right.

    python -m benchmarks.false_alarms [--seeds N] [--faults] [--setting NAME]... [--scenarios NAMES]
        [--config NAME]... [--gradients] [--as-large]

A right conversion is a checkpoint of random weights against the transformers folder that was made
of it: for each seed, the smallest model of both generations (or ``--config``), at two image sizes,
under each setting of the processor that is possible here (tests/support/processors.py).
``--gradients`` compares steps of training instead. ``--as-large`` measures the noise as for models
that are too large for double precision. ``--faults`` also changes every tensor of one
conversion by 1 %, one after the other, under each setting; not counted are the tensors on which no
result depends. Run it from the root of a checkout with the test dependencies.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import sam21convert
import tests.conftest  # noqa: F401  # lets torchvision be imported beside a CPU build of torch
from sam21convert.comparison import noise
from tests.support.processors import SETTINGS, Setting, run, why_not

CONFIGS = ("debug/sam2.1_debug", "debug/sam2_debug")
SIZES = (64, 128)
USUAL = Setting("usual", {})


@dataclass
class Count:
    """What was compared under one setting.

    Attributes:
        right: Right conversions.
        alarms: Those that were called wrong.
        compared: Activations that were compared in them.
        furthest: The largest difference of one of them, as a share of its tolerance.
        faults: Conversions with one tensor changed.
        missed: Names of the tensors of those that were called right.
    """

    right: int = 0
    alarms: int = 0
    compared: int = 0
    furthest: float = 0.0
    faults: int = 0
    missed: tuple[str, ...] = ()


def count(options: argparse.Namespace) -> Count:
    """Compare in this process, with the kernels that its environment chose."""
    found = Count()
    if options.as_large:
        noise.affordable = lambda truth: False
    for seed in range(options.seeds):
        for config in options.config or CONFIGS:
            with tempfile.TemporaryDirectory() as folder:
                source, hf = Path(folder, "model.pt"), Path(folder, "hf")
                sam21convert.sample(source, config, seed)
                sam21convert.convert(source, hf)
                for size in SIZES:
                    _right(found, source, hf, size, options)
                if options.faults and seed == 0 and config == CONFIGS[0]:
                    _faults(found, source, hf)
    return found


def _right(found: Count, source: Path, hf: Path, size: int, options: argparse.Namespace) -> None:
    report = sam21convert.parity(
        source,
        f"transformers:{hf}",
        scenarios=options.scenarios,
        gradients=options.gradients,
        image_size=size,
        device="cpu",
    )
    shares = [
        activation.relative / activation.tolerance
        for scenario in report.scenarios
        for activation in scenario.activations
    ]
    found.right += 1
    found.alarms += not report.ok
    found.compared += len(shares)
    found.furthest = max(found.furthest, *shares)


def _faults(found: Count, source: Path, hf: Path) -> None:
    report = sam21convert.parity(source, f"transformers:{hf}", sensitivity=True, device="cpu")
    assert report.sensitivity is not None
    found.faults = report.sensitivity.tensors - len(report.sensitivity.expected)
    found.missed = report.sensitivity.unexpected


def counted(setting: Setting, options: argparse.Namespace) -> Count:
    """Compare in a process of its own, under a setting."""
    arguments = ["--count", "--seeds", str(options.seeds), "--scenarios", options.scenarios]
    arguments += ["--faults"] if options.faults else []
    arguments += ["--gradients"] if options.gradients else []
    arguments += ["--as-large"] if options.as_large else []
    arguments += [argument for name in options.config or () for argument in ("--config", name)]
    done = run(setting, "-m", "benchmarks.false_alarms", *arguments, quiet=True)
    if done.returncode:
        raise SystemExit(f"{setting.name}: {done.stderr}")
    return Count(**json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Count under each setting and print a table; the exit code is 1 if an answer was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--scenarios", default="quick")
    parser.add_argument("--config", action="append", help="of this model")
    parser.add_argument("--faults", action="store_true")
    parser.add_argument("--gradients", action="store_true", help="of training steps")
    parser.add_argument("--as-large", action="store_true", help="without double precision")
    parser.add_argument("--setting", action="append", help="only this one")
    parser.add_argument("--count", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.count:
        print(json.dumps(asdict(count(options))))
        return
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))
    print(f"{options.scenarios}, {platform.machine()}, {packages}\n")
    print("| setting | right | called wrong | activations | furthest | faults | called right |")
    print("|---|---|---|---|---|---|---|")
    wrong = 0
    for setting in (USUAL, *SETTINGS):
        if options.setting and setting.name not in options.setting:
            continue
        if reason := why_not(setting):
            print(f"| `{setting.name}` | {reason} | | | | | |", flush=True)
            continue
        found = counted(setting, options)
        wrong += found.alarms + len(found.missed)
        missed = f"{found.faults} | {len(found.missed)}" if options.faults else "|"
        print(
            f"| `{setting.name}` | {found.right} | {found.alarms} | {found.compared} "
            f"| {found.furthest:.0%} of the tolerance | {missed} |",
            flush=True,
        )
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
