"""Pushed repositories load in the programs they are for; each runs in a new process."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from safetensors.torch import load

from sam21convert.prediction.draw import scene

from ..support.checkpoints import DEBUG
from ..support.hub_server import Hub
from ..support.paths import ROOT
from ..support.pushing import running
from ..workflows.test_push_faults import has_arrived, held

# transformers 4.57 and what it needs of a version of its own, or that nothing else here needs.
VERSION_4 = [
    "transformers==4.57.6",
    "huggingface_hub>=0.34,<1",
    "tokenizers>=0.22,<=0.23",
    *("requests", "urllib3", "certifi", "idna", "charset-normalizer"),
]
REPOS = {
    "org/video": ("--to", "hf-video", "--with-official"),
    "org/image": ("--to", "hf-image"),
    "org/official": ("--to", "official"),
}
KINDS = {"org/video": "Sam2Video", "org/image": "Sam2"}
PRELUDE = """
import hashlib, json, sys
import huggingface_hub.constants  # before the next line takes the process offline
import tests.conftest
"""
LOADING = f"""{PRELUDE}
import transformers
found = []
for repo, kind in json.loads(sys.argv[1]).items():
    processor = getattr(transformers, f"{{kind}}Processor").from_pretrained(repo)
    model, info = getattr(transformers, f"{{kind}}Model").from_pretrained(
        repo, output_loading_info=True
    )
    digests = {{
        name: hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()
        for name, tensor in model.state_dict().items()
    }}
    faults = {{name: list(keys) for name, keys in info.items()}}
    found.append([digests, faults, list(dict(processor.image_processor.size).values())])
print(json.dumps([transformers.__version__, found]))
"""
RUNNING = f"""{PRELUDE}
import numpy
found = []
for program in sys.argv[1:]:
    names = {{}}
    exec(program, names)
    masks = numpy.asarray(names["masks"]) > 0
    found.append([hashlib.sha256(masks.tobytes()).hexdigest(), masks.shape, float(masks.mean())])
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def hub(
    checkpoints: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Hub]:
    """A Hub to which a debug checkpoint was pushed in each form."""
    with running(checkpoints(DEBUG), tmp_path_factory.mktemp("home")) as commands:
        for name, (_, dialect, *options) in REPOS.items():
            answer = commands.push(name, *options, to=dialect)
            assert has_arrived(commands.hub.repo(name), answer)
        yield commands.hub


@pytest.fixture(scope="module")
def version_4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with transformers 4.57, to come first in ``PYTHONPATH``."""
    folder = tmp_path_factory.mktemp("transformers4")
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--target", str(folder)]
    done = subprocess.run(
        [*install, *VERSION_4],
        env={**os.environ, "PIP_CONSTRAINT": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"pip could not install transformers 4.57: {done.stderr[-300:]}")
    return folder


def child(hub: Hub, home: Path, program: str, *arguments: str, path: str = "") -> Any:
    """The JSON in the last line that a program prints; ``path`` comes first in PYTHONPATH."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=hub.environment(home, PYTHONPATH=os.pathsep.join(filter(None, [path, str(ROOT)]))),
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def assert_loads_strictly(hub: Hub, home: Path, version: str, path: str = "") -> None:
    """Check that every weight equals that of the file, and no name is missing or unexpected."""
    loaded_by, found = child(hub, home, LOADING, json.dumps(KINDS), path=path)
    assert loaded_by.startswith(version)
    for name, (loaded, faults, size) in zip(KINDS, found, strict=True):
        assert {"missing_keys", "unexpected_keys", "mismatched_keys"} <= set(faults)
        assert not any(faults.values())
        assert size == [128, 128]
        sent = load(held(hub.repo(name))["model.safetensors"].read())
        digests = {
            key: hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()
            for key, tensor in sent.items()
        }
        assert {key: loaded[key] for key in digests} == digests


def test_transformers_5_loads_it(hub: Hub, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    assert_loads_strictly(hub, tmp_path, "5.")


@pytest.mark.slow
def test_transformers_4_57_loads_it(hub: Hub, tmp_path: Path, version_4: Path) -> None:
    assert_loads_strictly(hub, tmp_path, "4.57.", str(version_4))


def programs(hub: Hub, name: str) -> list[str]:
    """The programs of a model card that use the official code and this package."""
    card = held(hub.repo(name))["README.md"].read().decode()
    found = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    return [
        next(program for program in found if f"from {package} import" in program)
        for package in ("sam2.build_sam", "sam21convert.model")
    ]


def test_the_official_code_gives_the_masks_of_this_package(hub: Hub, tmp_path: Path) -> None:
    """With the official file beside a transformers folder, and in a repository of its own."""
    pytest.importorskip("sam2")
    Image.fromarray(scene(480)).save(tmp_path / "picture.jpg")
    both = [*programs(hub, "org/video"), *programs(hub, "org/official")]
    first, *others = child(hub, tmp_path, RUNNING, *both)
    assert others == [first] * 3
    assert first[1] == [3, 480, 480]
    assert 0 < first[2] < 1
