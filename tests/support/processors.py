"""Settings of torch and its libraries under which results are those of other processors."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from .paths import ROOT

_LEVELS = ("DEFAULT", "AVX2", "AVX512")  # as torch names the kernels that it has for x86


@dataclass(frozen=True)
class Setting:
    """Environment variables that choose kernels.

    Attributes:
        name: A short name.
        environment: The variables. A process reads them when it starts.
        level: What the processor must be able to do, as torch names it.
        library: A library that torch must have been built with, as in ``torch.backends``.
    """

    name: str
    environment: Mapping[str, str]
    level: str = "DEFAULT"
    library: str = ""


_ONEDNN = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")  # of oneDNN, and of versions before 2.4
_LOWEST = {
    "ATEN_CPU_CAPABILITY": "default",
    **dict.fromkeys(_ONEDNN, "SSE41"),
    "MKL_CBWR": "COMPATIBLE",
}

SETTINGS = (
    Setting("default", {"ATEN_CPU_CAPABILITY": "default"}),
    Setting("avx2", {"ATEN_CPU_CAPABILITY": "avx2"}, "AVX2"),
    Setting("avx512", {"ATEN_CPU_CAPABILITY": "avx512"}, "AVX512"),
    Setting("onednn-sse41", dict.fromkeys(_ONEDNN, "SSE41"), library="mkldnn"),
    Setting("onednn-avx2", dict.fromkeys(_ONEDNN, "AVX2"), "AVX2", library="mkldnn"),
    Setting("mkl-compatible", {"MKL_CBWR": "COMPATIBLE"}, library="mkl"),
    Setting("mkl-avx2", {"MKL_CBWR": "AVX2"}, "AVX2", library="mkl"),
    Setting("threads-2", {"TEST_THREADS": "2"}),
    Setting("lowest", _LOWEST),  # all at once: the quick part
)


def why_not(setting: Setting) -> str:
    """Why a setting cannot be tried here.

    Args:
        setting: The setting.

    Returns:
        The reason; an empty string when it can.
    """
    level = torch.backends.cpu.get_cpu_capability()
    if setting.level != "DEFAULT":
        if level not in _LEVELS:
            return f"needs an x86 processor, this one is {level}"
        if _LEVELS.index(level) < _LEVELS.index(setting.level):  # torch would try, and crash
            return f"needs {setting.level}, this processor has {level}"
    if setting.library and not getattr(torch.backends, setting.library).is_available():
        return f"this torch was built without {setting.library}"
    return ""


def run(setting: Setting, *command: str, quiet: bool = False) -> subprocess.CompletedProcess[str]:
    """Run Python under a setting, in the root of the repository.

    Args:
        setting: The setting.
        *command: Arguments of Python.
        quiet: Whether the output is kept for the caller instead of being shown.

    Returns:
        The finished process.
    """
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, **setting.environment},
        capture_output=quiet,
        text=True,
        check=False,
    )
