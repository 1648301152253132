"""Other processors: settings that choose kernels are in force, and a quick part of what they run.

``python -m tests.processors`` runs everything numeric under each of them.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch

from . import processors
from .processors import numeric
from .support.paths import ROOT
from .support.processors import SETTINGS, Setting, run, why_not

BY_NAME = {setting.name: setting for setting in SETTINGS}
QUICK = {  # bits of the official code, pixels of transformers, and a tolerance that is measured
    "test_backends": "official_code and sam2.1_debug and (box-point or video-box)",
    "test_known_differences": "pixels_agree or (with_all_emulations and pixels and sam2.1)",
    "test_transformers_video": "test_image_features and sam2.1_debug",
}


def test_a_quick_part_passes_with_the_oldest_kernels() -> None:
    files = [f"tests/comparison/{module}.py" for module in QUICK]
    which = " or ".join(f"({module} and {names})" for module, names in QUICK.items())
    done = run(BY_NAME["lowest"], "-m", "pytest", *files, "-k", which, "-p", "no:cacheprovider")
    assert done.returncode == 0


def torch_says(setting: Setting) -> str:
    ask = (
        "import tests.conftest, torch\n"
        "print(torch.backends.cpu.get_cpu_capability(), torch.get_num_threads())"
    )
    return run(setting, "-c", ask, quiet=True).stdout.strip()


def test_the_variables_reach_torch() -> None:
    variables = {**BY_NAME["default"].environment, **BY_NAME["threads-2"].environment}
    assert torch_says(Setting("both", variables)) == "DEFAULT 2"


@pytest.mark.parametrize(
    ("level", "impossible"),
    [
        ("DEFAULT", {"avx2", "avx512", "onednn-avx2", "mkl-avx2"}),
        ("AVX2", {"avx512"}),
        ("AVX512", set()),
        ("SVE256", {"avx2", "avx512", "onednn-avx2", "mkl-avx2"}),
    ],
)
def test_what_a_processor_cannot_do_is_skipped_with_the_reason(
    level: str, impossible: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: level)
    every = [replace(setting, library="") for setting in SETTINGS]
    reasons = {setting.name: why_not(setting) for setting in every if why_not(setting)}
    assert set(reasons) == impossible
    assert all(level in reason for reason in reasons.values())


def test_a_library_that_torch_does_not_have_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    assert why_not(BY_NAME["mkl-compatible"]) == "this torch was built without mkl"


@pytest.mark.parametrize(("code", "answer"), [(0, 0), (1, "failed under default")])
def test_a_failure_under_a_setting_is_the_answer(
    code: int, answer: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []

    def finished(*given: Any) -> subprocess.CompletedProcess[str]:
        asked.append(given)
        return subprocess.CompletedProcess(given, code)

    monkeypatch.setattr(sys, "argv", ["processors", "--setting", "default", "tests/a.py"])
    monkeypatch.setattr(processors, "run", finished)
    with pytest.raises(SystemExit) as raised:
        processors.main()
    assert raised.value.code == answer
    assert asked == [(BY_NAME["default"], "-m", "pytest", "tests/a.py")]
    assert capsys.readouterr().out == "default: ATEN_CPU_CAPABILITY=default\n"


def test_every_module_that_compares_with_a_package_is_numeric() -> None:
    found = numeric()
    assert {"tests/comparison", "tests/model", "tests/dialects/test_loaders.py"} <= set(found)
    assert "tests/io/test_open.py" not in found
    assert all((ROOT / path).exists() for path in found)
