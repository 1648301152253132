from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

# Read when torch is first imported: threads that wait for work let others compute, where two of
# them share a busy processor.
os.environ |= {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
# Where one of these is set, pytest writes the whole difference of two values into its message:
# hours of work, for two files of a megabyte.
os.environ |= {"CI": "", "BUILD_NUMBER": ""}
# With it, each of the many processes that tests start would compile all that it imports again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import pytest
import torch

import sam21convert
from sam21convert.prediction import allocation

from .support.cuda_torchvision import declare_operators

# Ignored in a shell's background, and then in all that is started from here.
signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is first imported
# Small models gain nothing from more threads, and suffer on a busy machine.
torch.set_num_threads(int(os.environ.get("TEST_THREADS", "1")))


# What the tests compare with or draw with. A module that imports one that is not installed is
# skipped; one that is there and cannot be imported, or has changed, is an error.
PEERS = {"markdown_it", "matplotlib", "peft", "sam2", "timm", "torchvision", "transformers"}
PEERS |= {"training", "fvcore", "tensorboard", "tensordict"}  # of sam2, and what that imports
PEERS |= {"accelerate", "onnx", "onnxruntime", "onnxscript", "starlette", "uvicorn"}  # of extras


class _Module(pytest.Module):
    """A test module that is skipped, with the reason, where a package it imports is missing."""

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        try:
            return super().collect()
        except self.CollectError as error:
            cause = error.__cause__
            if isinstance(cause, ModuleNotFoundError) and cause.name in PEERS:
                pytest.skip(f"{cause.name} is not installed", allow_module_level=True)
            raise


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module:
    """Make the test modules."""
    return _Module.from_parent(parent, path=module_path)


declare_operators()


def pytest_collection() -> None:
    """Search for no garbage meanwhile: what is imported and collected stays."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Leave what was imported and collected out of every later search for garbage."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)  # the usual 700 are those of one layer of a model
    gc.enable()


@pytest.fixture(autouse=True)
def _quiet_torch() -> None:
    torch.set_grad_enabled(False)


@pytest.fixture(autouse=True, scope="session")
def _without_waiting_for_the_disk() -> None:
    """Let files stay in memory: nothing that is written here has to outlive the machine."""

    def only_look(fd: Any) -> None:
        os.fstat(fd if isinstance(fd, int) else fd.fileno())

    os.fsync = only_look


@pytest.fixture(autouse=True, scope="session")
def _memory_as_usual() -> None:
    """What a command may ask of its own process, it must not ask of that of all tests."""
    allocation.keep_freed_memory = lambda: None


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Evidence that other runs have kept is none for this one."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Sample checkpoints by the names of their configs, written when first asked for."""
    home = tmp_path_factory.mktemp("samples")

    @cache
    def checkpoint(name: str) -> Path:
        path = home / f"{name.replace('/', '_')}.pt"
        sam21convert.sample(path, name)
        return path

    return checkpoint


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read in pieces so small that most tensors take several, in threads, as large ones do."""
    monkeypatch.setattr("sam21convert.io.data.copy.CHUNK", 1 << 10)
    for module in ("copy", "checksums"):
        monkeypatch.setattr(f"sam21convert.io.data.{module}.SMALL", 1 << 10)
