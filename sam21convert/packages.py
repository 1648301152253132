"""Packages that a plain install does not have: the extras that bring them, and their imports.

A plain install inspects, validates, converts and publishes; what computes with a model, or compares
with another package, needs one of the extras of ``pyproject.toml``. Whatever is missing is a
:class:`MissingPackageError`, which is made here alone: its hint is the command that adds the extra
to this installation, be it from an index, a clone or a repository.

The packages to compare with are imported by this module only, and only when they are needed.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .errors import MissingPackageError, UsageError

# What each extra is imported as.
_TORCH = ("torch", "scipy", "av", "PIL")
EXTRAS: Mapping[str, tuple[str, ...]] = {
    "torch": _TORCH,
    "transformers": (*_TORCH, "transformers", "torchvision"),
    "sam2": (*_TORCH, "sam2", "torchvision"),
    "timm": (*_TORCH, "timm", "torchvision"),
    "onnx": ("onnxruntime", "onnx", "onnxscript", "scipy", "av", "PIL"),
    "plot": ("matplotlib",),
    "web": ("starlette", "uvicorn"),
    "score": ("PIL",),
    "ray": ("ray",),
    "train": (*_TORCH, "accelerate", "peft", "tensorboard", "torchvision"),
}
BACKENDS = ("sam2", "timm", "transformers")  # the packages to compare with
_OF_TRAINING = ("tensordict", "tensorboard")  # what the official training code imports besides
_TITLES = {  # what is imported by another name: of the extras, and of what their packages need
    "PIL": "pillow",
    "absl": "absl-py",
    "dateutil": "python-dateutil",
    "google": "protobuf",
    "grpc": "grpcio",
    "hydra": "hydra-core",
    "yaml": "pyyaml",
}


def distribution_of(name: str) -> str:
    """Give the name under which a package is installed.

    Args:
        name: As it is imported.

    Returns:
        The name that installers know.
    """
    return _TITLES.get(name, name)


def install(extra: str) -> str:
    """Give the command that adds an extra to this installation.

    Args:
        extra: Name of the extra.

    Returns:
        A command for a shell, such as ``pip install 'sam21convert[torch]'``; for a clone it names
        the folder.
    """
    # Without this variable, sam2 tries to compile an extension that nothing here calls.
    start = "SAM2_BUILD_CUDA=0 " if extra == "sam2" else ""
    return f"{start}{_installer()} {_wanted(extra)}"


def require(extra: str, who: str, otherwise: str = "", *, packages: Sequence[str] = ()) -> None:
    """Check that the packages of an extra are there, without importing them.

    Args:
        extra: Name of the extra.
        who: What needs it: a function, a command or an option.
        otherwise: What else the user can do, for the hint.
        packages: Those of the extra that are needed; all if empty.

    Raises:
        MissingPackageError: If one is missing. It names all that are.
    """
    if absent := [name for name in _absent(extra) if name in (packages or EXTRAS[extra])]:
        raise _missing(who, absent, extra, otherwise)


def require_version(package: str, least: str, who: str) -> None:
    """Check that a package that is installed is new enough, without importing it.

    Args:
        package: Name of the package.
        least: The lowest version that will do.
        who: What needs it, as for :func:`require`.

    Raises:
        UsageError: If the version is lower.
    """
    from packaging.version import Version

    if Version(version(package)) < Version(least):
        raise UsageError(
            f"{who}: needs {package} {least} or newer, and {version(package)} is installed",
            hint=f"{_installer()} '{package}>={least}'",
        )


def explained(error: BaseException, who: str) -> MissingPackageError | None:
    """Explain an import that failed: an extra is not installed, or Python itself lacks a module.

    Args:
        error: The error of the import.
        who: What needs the module, as for :func:`require`.

    Returns:
        The error to raise; None if another module is missing, or it is another error.
    """
    if not isinstance(error, ModuleNotFoundError):
        return None
    name = (error.name or "").partition(".")[0]
    if name in sys.stdlib_module_names:
        return _missing_in_python(who, name)
    extra = next((extra for extra, names in EXTRAS.items() if name in names), None)
    return None if extra is None else _missing(who, _absent(extra) or [name], extra)


def module(name: str) -> Any:
    """Import a module of one of the packages to compare with.

    Args:
        name: Its full name, such as ``sam2.build_sam``.

    Returns:
        The module.

    Raises:
        UsageError: If it cannot be imported, whatever the reason.
    """
    with _importing(name):
        return import_module(name)


def member(name: str, attribute: str) -> Any:
    """Import a class or function of one of the packages to compare with.

    Args:
        name: Full name of the module.
        attribute: Name of the class or function. transformers imports lazily, so this is where an
            import may fail.

    Returns:
        The class or function.

    Raises:
        UsageError: If it cannot be imported, or the installed version does not have it.
    """
    with _importing(name, attribute):
        return getattr(import_module(name), attribute)


def onnxruntime() -> Any:
    """Import onnxruntime, without the record that it keeps of what it runs.

    Returns:
        The module. When it is imported in the usual way, 1.32 writes a number for this machine and
        a database of events below the user's home.

    Raises:
        ModuleNotFoundError: If it is not installed; :func:`require` says so in better words.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    return import_module("onnxruntime")


def official_training() -> tuple[Any, Any]:
    """Import the official training code, which sam2 installs as the package ``training``.

    Returns:
        ``SAM2Train`` and ``MultiStepMultiMasksAndIous``.

    Raises:
        MissingPackageError: If it is not there, or what it imports is not.
        UsageError: If it cannot be imported for another reason.
    """
    try:
        model = import_module("training.model.sam2").SAM2Train
        return model, import_module("training.loss_fns").MultiStepMultiMasksAndIous
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if name in sys.stdlib_module_names:
            raise _missing_in_python(f"the training code of {titled('sam2')}", name) from error
        if name == "training":
            raise MissingPackageError(
                f"{titled('sam2')}: its training code, the package `training`, is not installed",
                hint=f"{install('sam2')}; or put the official repository on PYTHONPATH",
            ) from error
        absent = [one for one in _OF_TRAINING if _gone(one)] or [distribution_of(name)]
        raise MissingPackageError(
            f"{titled('sam2')}: its training code needs {' and '.join(absent)}, not installed here",
            hint=f"{_installer()} {' '.join(absent)}",
        ) from error
    except Exception as error:  # an import runs arbitrary code
        raise UsageError(
            f"{titled('sam2')}: its training code, the package `training`, cannot be imported: "
            f"{type(error).__name__}: {' '.join(str(error).split())}",
            hint="try: python -c 'import training.loss_fns'",
        ) from error


def version(package: str) -> str:
    """The installed version of a package.

    Args:
        package: Name of the package.

    Returns:
        The version; an empty string when it is not installed.
    """
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def titled(package: str) -> str:
    """A package with its version, as messages name it.

    Args:
        package: Name of the package.

    Returns:
        Such as ``sam2 1.1.0``; the name alone when it is not installed.
    """
    return f"{package} {version(package)}".rstrip()


def _absent(extra: str) -> list[str]:
    return [name for name in EXTRAS[extra] if find_spec(name) is None]


def _missing(who: str, absent: list[str], extra: str, otherwise: str = "") -> MissingPackageError:
    *most, last = [_TITLES.get(name, name) for name in absent]
    names = f"{', '.join(most)} and {last}" if most else last
    verb = "are" if most else "is"
    return MissingPackageError(
        f"{who}: needs {names}, which {verb} not installed",
        hint="; or ".join(filter(None, (install(extra), otherwise))),
    )


def _missing_in_python(who: str, name: str) -> MissingPackageError:
    """For a module that Python has on other systems, or when it is built with other libraries."""
    if sys.platform == "win32":
        return MissingPackageError(
            f"{who}: runs on Linux and macOS; on Windows Python has no {name}",
            hint="wsl --install sets up a Linux within Windows, in which it runs",
        )
    return MissingPackageError(
        f"{who}: needs {name} of the standard library, which this Python was built without",
        hint=f"use a Python in which this works: python -c 'import {name}'",
    )


@contextmanager
def _importing(name: str, attribute: str = "") -> Iterator[None]:
    package = name.partition(".")[0]
    extra = next(extra for extra, names in EXTRAS.items() if package in names)
    try:
        yield
    except AttributeError as error:
        raise UsageError(
            f"{titled(package)}: has no {name}.{attribute}", hint=install(extra)
        ) from error
    except Exception as error:  # an import runs arbitrary code, so any error may come out
        cause = _first(error)
        absent = (isinstance(cause, ModuleNotFoundError) and cause.name) or ""
        wanted = distribution_of(absent.partition(".")[0])
        if wanted == package:
            gone = find_spec(package) is None
            said = f"{package}: is not installed" if gone else f"{titled(package)}: has no {absent}"
            raise MissingPackageError(said, hint=install(extra)) from error
        if wanted in sys.stdlib_module_names:
            raise _missing_in_python(titled(package), wanted) from error
        reason = " ".join(str(cause).split())
        raise UsageError(
            f"{titled(package)}: cannot be imported: {type(cause).__name__}: {reason}",
            hint=f"{_installer()} {wanted}" if wanted else _hint(reason, package),
        ) from error


def _gone(name: str) -> bool:
    return name not in sys.modules and find_spec(name) is None


def _first(error: BaseException) -> BaseException:
    """The original error: the lazy imports of transformers wrap it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _hint(reason: str, package: str) -> str:
    if "torchvision" in reason:
        return "torch and torchvision must be builds for each other: install both from one index"
    return f"try: python -c 'import {package}'"


def _installer() -> str:
    """The start of a command that installs into the environment of this Python."""
    python = Path(sys.executable)
    if find_spec("pip") is None:  # an environment of uv
        return f"uv pip install --python {shlex.quote(str(python))}"
    found = shutil.which("pip")
    if found is not None and Path(found).parent == python.parent:
        return "pip install"
    return f"{shlex.quote(str(python))} -m pip install"  # that pip, if any, is of another Python


def _wanted(extra: str) -> str:
    """What to install: this package from where it came from, with an extra."""
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    clone = Path(__file__).resolve().parents[1]
    if (clone / "pyproject.toml").is_file():
        return f"-e {shlex.quote(f'{clone}[{extra}]')}"
    origin = _origin()
    url = str(origin.get("url", ""))
    if "dir_info" in origin:
        clone = Path(url2pathname(urlsplit(url).path))
        if clone.is_dir():
            return shlex.quote(f"{clone}[{extra}]")
        return " ".join(_TITLES.get(name, name) for name in EXTRAS[extra])  # the clone is gone
    wanted = f"sam21convert[{extra}]"
    if "vcs_info" in origin:
        how = origin["vcs_info"]
        wanted += f" @ {how['vcs']}+{url}@{how['commit_id']}"
    elif url:
        wanted += f" @ {url}"
    return shlex.quote(wanted)


def _origin() -> dict[str, Any]:
    """Where pip took this package from (PEP 610); nothing for an index."""
    from importlib import metadata

    try:
        text = metadata.distribution("sam21convert").read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        return {}
    return dict(json.loads(text)) if text else {}
