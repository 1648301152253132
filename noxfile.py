"""The environments that the package is tested in: a table, and what is run in each.

``uvx nox`` runs all of them, ``uvx nox -s floors`` one, ``uvx nox -l`` lists them. What comes after
``--`` is given to pytest in place of the quick tests: ``uvx nox -s newest-3.13 -- tests/hub``. On a
machine without a GPU, ``UV_TORCH_BACKEND=cpu`` saves gigabytes. A Python that is not here is
skipped, unless ``--download-python`` is said. Results are in docs/compatibility.md.
"""

from __future__ import annotations

import nox

nox.needs_version = ">=2025.2"
nox.options.default_venv_backend = "uv"

PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
# One or two modules for each package that the floors and the newest versions are about.
QUICK = (
    "tests/test_light.py",
    "tests/test_packages.py",
    "tests/test_examples.py",  # every public function
    "tests/commands/test_commands.py",  # click
    "tests/commands/test_paths.py",  # Python's pathlib
    "tests/workflows/test_demo.py",
    "tests/workflows/test_push.py",  # huggingface_hub
    "tests/hub/test_load_from_the_hub.py",
    "tests/io/test_safetensors.py",  # safetensors, mlx
    "tests/io/test_torch_zip.py",
    "tests/io/test_yaml_text.py",  # pyyaml
    "tests/checkpoint/test_diff.py",  # matplotlib
    "tests/checkpoint/test_safety.py::test_everything_that_weights_only_allows_is_harmless",
    "tests/conversion/test_lora.py",  # peft
    "tests/dialects/test_loaders.py",  # timm, transformers, sam2
    "tests/dialects/test_transformers.py",
    "tests/model/test_parity.py",  # torch: bit for bit what sam2 computes
    "tests/model/test_connected_components.py",  # scipy
    "tests/model/test_video_frames.py",  # av
    "tests/prediction/test_predict.py",  # pillow
    "tests/comparison/test_transformers.py",
    "tests/comparison/test_transformers_inputs.py",  # torchvision
    "tests/web/test_server.py",  # starlette, uvicorn
    "tests/export/test_runtime_image.py",  # onnx, onnxruntime, onnxscript
)


def _quick_tests(session: nox.Session, *requirements: str) -> None:
    # Without the variable, sam2 compiles an extension that no test calls.
    session.install(*requirements, env={"SAM2_BUILD_CUDA": "0"})
    session.run("uv", "pip", "freeze", external=True)
    session.run("pytest", *(session.posargs or QUICK))


@nox.session(python=PYTHONS[0])
def floors(session: nox.Session) -> None:
    """Exactly the lowest versions that pyproject.toml promises, on the oldest Python."""
    # The triton of torch 2.6 imports distutils, and setuptools 77 would then not let it be another.
    session.env["SETUPTOOLS_USE_DISTUTILS"] = "stdlib"
    _quick_tests(session, "--resolution=lowest-direct", "-e", ".[test]")


@nox.session(python=PYTHONS[0])
def alone(session: nox.Session) -> None:
    """The same without a package to compare with, whose tests are skipped."""
    tools = ("markdown-it-py>=3", "pytest>=9.0", "safetensors>=0.5")
    _quick_tests(session, "--resolution=lowest-direct", "-e", ".[torch]", *tools)


@nox.session(python="3.11")
def pinned(session: nox.Session) -> None:
    """The versions in tests/constraints.txt."""
    _quick_tests(session, "--constraint=tests/constraints.txt", "-e", ".[test]")


@nox.session(python=PYTHONS)
def newest(session: nox.Session) -> None:
    """The newest version of everything, on each Python."""
    _quick_tests(session, "--upgrade", "-e", ".[test]")
