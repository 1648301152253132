"""Packages to compare with: an import that fails is an error with a reason and a hint."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from sam21convert.comparison import packages
from sam21convert.comparison.backends.base import LoadOptions
from sam21convert.comparison.backends.sam2 import Official
from sam21convert.comparison.backends.timm import Timm
from sam21convert.comparison.backends.transformers import Transformers
from sam21convert.errors import UsageError

from ..support.checkpoints import DEBUG

BACKENDS: dict[str, Any] = {"sam2": Official, "timm": Timm, "transformers": Transformers}


@pytest.mark.parametrize("package", BACKENDS)
def test_a_package_that_is_missing_is_named_with_the_command_that_installs_it(
    package: str, checkpoints: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    source: Path = checkpoints(DEBUG)
    for name in (package, *sys.modules):
        if name.partition(".")[0] == package:
            monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=rf"^{package}: is not installed") as raised:
        BACKENDS[package].load(source, LoadOptions())
    assert raised.value.hint == packages.INSTALL[package]
    assert "pip install" in packages.INSTALL[package]
    assert raised.value.exit_code == 2


def failing(error: BaseException, cause: BaseException | None = None) -> Any:
    def fail(_: str) -> None:
        raise error from cause

    return fail


class TestBrokenPackage:
    def test_builds_that_do_not_fit_together(self, monkeypatch: pytest.MonkeyPatch) -> None:
        reason = RuntimeError("operator torchvision::nms\n does not exist")
        monkeypatch.setattr(packages, "import_module", failing(reason))
        with pytest.raises(UsageError) as raised:
            packages.member("sam2.build_sam", "build_sam2")
        assert raised.value.message == (
            f"sam2 {packages.version('sam2')}: cannot be imported: "
            "RuntimeError: operator torchvision::nms does not exist"
        )
        assert "install both from one index" in str(raised.value.hint)

    def test_a_missing_dependency_of_a_package(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """transformers wraps the original error."""
        first = ModuleNotFoundError("No module named 'httpx'", name="httpx")
        monkeypatch.setattr(
            packages, "import_module", failing(ModuleNotFoundError("wrapped"), first)
        )
        with pytest.raises(UsageError, match="No module named 'httpx'") as raised:
            packages.module("transformers")
        assert raised.value.hint == "pip install httpx"

    def test_another_reason(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(packages, "import_module", failing(OSError("a library is cut short")))
        with pytest.raises(UsageError, match="OSError: a library is cut short") as raised:
            packages.module("timm")
        assert raised.value.hint == "try: python -c 'import timm'"

    def test_a_version_without_the_name(self) -> None:
        with pytest.raises(UsageError, match=r"^timm \d.*: has no timm\.create_nothing"):
            packages.member("timm", "create_nothing")


def test_a_package_that_is_not_installed_has_no_version() -> None:
    assert packages.version("no-such-package") == ""
    assert packages.titled("no-such-package") == "no-such-package"
