"""Packages that a plain install lacks: a missing one is an error with a reason and a command."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from sam21convert import packages
from sam21convert.comparison.backends.base import LoadOptions
from sam21convert.comparison.backends.sam2 import Official
from sam21convert.comparison.backends.timm import Timm
from sam21convert.comparison.backends.transformers import Transformers
from sam21convert.errors import MissingPackageError, UsageError

from .support.checkpoints import DEBUG
from .support.paths import ROOT

BACKENDS: dict[str, Any] = {"sam2": Official, "timm": Timm, "transformers": Transformers}


@pytest.fixture(autouse=True)
def _pip_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever made the environment of the tests."""
    monkeypatch.setattr(packages, "find_spec", lambda name: name == "pip" or find_spec(name))


@pytest.mark.parametrize("package", BACKENDS)
def test_a_package_that_is_missing_is_named_with_the_command_that_installs_it(
    package: str, checkpoints: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    source: Path = checkpoints(DEBUG)
    for name in (package, *sys.modules):
        if name.partition(".")[0] == package:
            monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError) as raised:
        BACKENDS[package].load(source, LoadOptions())
    assert raised.value.message == f"{package}: is not installed"
    assert raised.value.hint == packages.install(package)
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
            f"{packages.titled('sam2')}: cannot be imported: "
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
        assert str(raised.value.hint).endswith("pip install httpx")

    def test_a_dependency_is_installed_by_the_name_that_installers_know(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        error = ModuleNotFoundError("No module named 'hydra.core'", name="hydra.core")
        monkeypatch.setattr(packages, "import_module", failing(error))
        with pytest.raises(UsageError) as raised:
            packages.module("sam2.build_sam")
        assert str(raised.value.hint).endswith("pip install hydra-core")

    def test_a_module_that_python_was_built_without(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """No package brings it."""
        error = ModuleNotFoundError("No module named '_lzma'", name="_lzma")
        monkeypatch.setattr(packages, "import_module", failing(error))
        with pytest.raises(UsageError) as raised:
            packages.module("timm")
        assert raised.value.message == (
            f"{packages.titled('timm')}: needs _lzma of the standard library, which this Python "
            "was built without"
        )
        assert raised.value.hint == "use a Python in which this works: python -c 'import _lzma'"

    def test_nor_has_the_training_code(self, monkeypatch: pytest.MonkeyPatch) -> None:
        error = ModuleNotFoundError("No module named '_lzma'", name="_lzma")
        monkeypatch.setattr(packages, "import_module", failing(error))
        with pytest.raises(MissingPackageError, match="^the training code of sam2.* needs _lzma"):
            packages.official_training()

    def test_another_reason(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(packages, "import_module", failing(OSError("a library is cut short")))
        with pytest.raises(UsageError, match="OSError: a library is cut short") as raised:
            packages.module("timm")
        assert raised.value.hint == "try: python -c 'import timm'"

    def test_a_version_without_the_module(self) -> None:
        pytest.importorskip("timm")
        with pytest.raises(UsageError) as raised:
            packages.module("timm.nothing")
        said = f"timm {packages.version('timm')}: has no timm.nothing"
        assert (raised.value.message, raised.value.hint) == (said, packages.install("timm"))

    def test_a_version_without_the_name(self) -> None:
        pytest.importorskip("timm")
        with pytest.raises(UsageError, match=r"^timm \d.*: has no timm\.create_nothing"):
            packages.member("timm", "create_nothing")


def requirements() -> Iterator[str]:
    """What the packages of the extras that are installed here need themselves."""
    for name in {name for names in packages.EXTRAS.values() for name in names}:
        if packages.version(distribution := packages.distribution_of(name)):
            for line in metadata.requires(distribution) or ():
                needed = Requirement(line)
                if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                    yield canonicalize_name(needed.name)


def test_whatever_the_packages_need_can_be_installed_by_its_name() -> None:
    imports: dict[str, set[str]] = {}
    for name, owners in metadata.packages_distributions().items():
        for owner in owners:
            imports.setdefault(canonicalize_name(owner), set()).add(name)
    unknown = {
        needed
        for needed in {*requirements()} & {*imports}
        if needed not in {canonicalize_name(packages.distribution_of(n)) for n in imports[needed]}
    }
    assert not unknown


class TestAnotherSystem:
    """Where Python lacks what it has on Linux and macOS, one line says so."""

    @pytest.mark.parametrize(
        ("platform", "said", "hint"),
        [
            ("win32", "runs on Linux and macOS; on Windows Python has no fcntl", "wsl --install"),
            ("linux", "needs fcntl of the standard library", "import fcntl"),
        ],
    )
    def test_a_command(
        self, monkeypatch: pytest.MonkeyPatch, platform: str, said: str, hint: str
    ) -> None:
        error = ModuleNotFoundError("No module named 'fcntl'", name="fcntl")
        monkeypatch.setattr(sys, "platform", platform)
        found = packages.explained(error, "convert")
        assert found is not None
        assert found.exit_code == 2
        assert said in found.message
        assert hint in str(found.hint)

    def test_it_is_this_module_that_is_missing_first(self) -> None:
        program = "import sys; sys.modules['fcntl'] = None; from sam21convert.__main__ import start"
        done = subprocess.run(
            [sys.executable, "-c", f"{program}; sys.argv = ['', 'inspect', 'm.pt']; start()"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 2
        assert done.stderr.startswith("error: inspect: needs fcntl of the standard library")


def test_a_package_that_is_not_installed_has_no_version() -> None:
    assert packages.version("no-such-package") == ""
    assert packages.titled("no-such-package") == "no-such-package"


class TestInstall:
    """The command that adds an extra, for each way in which the package can be installed."""

    @pytest.fixture
    def elsewhere(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """The package lies in ``site-packages``; returns a clone that it could be from."""
        site = tmp_path / "site-packages" / "sam21convert"
        monkeypatch.setattr(packages, "__file__", str(site / "packages.py"))
        clone = tmp_path / "my clone"
        clone.mkdir()
        return clone

    @staticmethod
    def wanted(extra: str = "torch") -> str:
        """What the command installs."""
        command = shlex.split(packages.install(extra))
        return command[-1]

    @pytest.fixture
    def origin(self, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
        """States where the package was installed from, as pip does."""

        def state(**facts: Any) -> None:
            text = json.dumps(facts) if facts else None

            class Found:
                @staticmethod
                def read_text(name: str) -> str | None:
                    assert name == "direct_url.json"
                    return text

            monkeypatch.setattr(metadata, "distribution", lambda _: Found)

        return state

    def test_a_clone_that_is_run_or_was_installed_as_editable(self) -> None:
        assert shlex.split(packages.install("torch"))[-2:] == ["-e", f"{ROOT}[torch]"]

    def test_a_clone_that_was_installed(self, elsewhere: Path, origin: Any) -> None:
        origin(url=elsewhere.as_uri(), dir_info={})
        assert self.wanted() == f"{elsewhere}[torch]"

    def test_a_clone_that_is_gone(self, elsewhere: Path, origin: Any) -> None:
        elsewhere.rmdir()
        origin(url=elsewhere.as_uri(), dir_info={})
        assert packages.install("torch").endswith(" install torch scipy av pillow")

    def test_an_index(self, elsewhere: Path, origin: Any) -> None:
        origin()
        assert self.wanted("plot") == "sam21convert[plot]"

    def test_a_repository(self, elsewhere: Path, origin: Any) -> None:
        url = "https://example.org/me/it.git"
        origin(url=url, vcs_info={"vcs": "git", "commit_id": "abc"})
        wanted = Requirement(self.wanted())
        assert (wanted.name, wanted.extras, wanted.url) == (
            "sam21convert",
            {"torch"},
            f"git+{url}@abc",
        )

    def test_a_file(self, elsewhere: Path, origin: Any) -> None:
        url = "https://example.org/sam21convert-1-py3-none-any.whl"
        origin(url=url, archive_info={})
        assert Requirement(self.wanted()).url == url

    def test_sam2_is_not_compiled(self) -> None:
        assert packages.install("sam2").startswith("SAM2_BUILD_CUDA=0 ")

    def test_the_pip_of_this_environment_is_called(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """By its name if that finds it, and with the path of Python if that finds another."""
        monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
        for folder in ("bin", "other"):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "pip").touch(0o755)
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))
        assert packages.install("torch").startswith("pip install -e ")
        monkeypatch.setenv("PATH", str(tmp_path / "other"))
        assert packages.install("torch").startswith(f"{tmp_path}/bin/python -m pip install -e ")

    def test_an_environment_without_pip_is_one_of_uv(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(packages, "find_spec", lambda name: None)
        assert packages.install("torch").startswith(f"uv pip install --python {sys.executable} ")
