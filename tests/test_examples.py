"""What is public is listed, and every public name has an example, which is run here."""

from __future__ import annotations

import doctest
import json
import pydoc
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sam21convert
from sam21convert.prediction.draw import scene

from .support import moving_shapes, videos
from .support import tracked_masks as drawn
from .support.checkpoints import DEBUG
from .support.exports import describe
from .support.hub_server import Hub
from .support.paths import ROOT

PUBLIC = {
    *("batch", "convert", "convert_state_dict", "diff", "export_onnx", "inspect", "inspect_all"),
    *("evaluate", "score", "Evaluation", "load_config", "load_model"),
    *(
        "load_state_dict",
        "parity",
        "predict_everything",
        "predict_image",
        "predict_video",
        "published_checkpoints",
    ),
    *("finetune", "page", "pull", "push", "safety", "sample", "validate"),
    *("BatchReport", "Conversion", "Difference", "ImagePrediction", "Inspection", "Inspections"),
    *("Exported", "Finetuned", "Listing", "Page"),
    *(
        "Loading",
        "ParityReport",
        "Publication",
        "Pulled",
        "Sample",
        "Validation",
        "Verdict",
    ),
    *("VideoPrediction", "Box", "ModelConfig", "Point", "Progress", "ProgressBar"),
    *("MismatchError", "MissingFileError", "MissingPackageError"),
    *("RefusedError", "Sam21ConvertError", "UnreadableError", "UsageError"),
    "__version__",
}
# Runs the examples of each name in a copy of the current folder: {name: [examples, failures]}.
RUNNER = """
import huggingface_hub.constants  # before the next line takes the process offline
import tests.conftest
import doctest, functools, io, json, os, shutil, sys, tempfile
import sam21convert

# Two show the same export, and two the same fine-tune.
sam21convert.export_onnx = functools.cache(sam21convert.export_onnx)
sam21convert.finetune = functools.cache(sam21convert.finetune)
home, found = os.getcwd(), {}
for name in sys.argv[1:]:
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(home, folder, dirs_exist_ok=True)
        os.chdir(folder)
        docstring = getattr(sam21convert, name).__doc__ or ""
        globs = {"sam21convert": sam21convert}
        test = doctest.DocTestParser().get_doctest(docstring, globs, name, None, 0)
        said = io.StringIO()
        done = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=said.write)
        found[name] = [done.attempted, said.getvalue() if done.failed else ""]
        os.chdir(home)
print(json.dumps(found))
"""


def test_public_names_are_these() -> None:
    assert set(sam21convert.__all__) == PUBLIC
    assert len(sam21convert.__all__) == len(PUBLIC)


def test_dir_lists_the_public_names_and_no_other() -> None:
    assert set(dir(sam21convert)) == PUBLIC


def test_the_overview_names_everything_and_fits_two_screens() -> None:
    overview = sam21convert.__doc__ or ""
    assert len(overview.splitlines()) <= 48
    words = {word.strip(".,:;") for word in overview.split()}
    assert words >= PUBLIC - {"__version__"}
    assert overview.splitlines()[0] in pydoc.render_doc(sam21convert)


def test_nothing_heavy_is_imported_to_list_names() -> None:
    program = "import sys, sam21convert; dir(sam21convert); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


@pytest.fixture(scope="module")
def results(
    checkpoints: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What came of the examples of each public name, with these files in the current folder."""
    home = tmp_path_factory.mktemp("examples")
    (home / "model.pt").write_bytes(checkpoints(DEBUG).read_bytes())
    sam21convert.sample(home / "my_finetune.pt", DEBUG, seed=1)
    Image.fromarray(scene(96)).save(home / "picture.jpg")
    describe(home / "onnx", 128)
    (home / "frames").mkdir()
    for number in range(3):
        Image.fromarray(videos.frame(number)).save(home / "frames" / f"{number}.jpg")
    frames, masks = (home / f"DATA/{kind}/480p/disc" for kind in ("JPEGImages", "Annotations"))
    shutil.copytree(home / "frames", frames)
    drawn.write(masks, np.stack([videos.disc_mask()] * 3).astype(np.uint8), digits=1)
    shutil.copytree(masks, home / "masks/disc")
    moving_shapes.pictures(home / "PICTURES", 1)
    sam21convert.convert(home / "model.pt", home / "folder")
    files = {path.name: path.read_bytes() for path in (home / "folder").iterdir()}
    names = sorted(PUBLIC - {"__version__"})
    with Hub() as hub:
        hub.create("org/my-sam2", files)
        cache = tmp_path_factory.mktemp("cache")
        done = subprocess.run(
            [sys.executable, "-c", RUNNER, *names],
            env=hub.environment(cache, PYTHONPATH=str(ROOT), XDG_CACHE_HOME=str(cache)),
            cwd=home,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("name", sorted(PUBLIC - {"__version__"}))
def test_its_example_runs(results: dict[str, Any], name: str) -> None:
    examples, failures = results[name]
    assert examples
    lacking = re.search(r"(MissingPackageError|UsageError): (.*needs .*)", failures)
    if lacking:  # a package, or a newer one
        pytest.skip(lacking[2])
    assert not failures, failures


def test_an_example_that_is_wrong_is_seen() -> None:
    test = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, 0)
    assert doctest.DocTestRunner().run(test, out=lambda _: None).failed == 1
