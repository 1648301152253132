"""The packages that the ground truth is compared with: imported here only, and only when asked for.

None of them is needed for anything else. What keeps one from being imported is told as an error of
the request, with the command that helps.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module, metadata
from typing import Any

from ..errors import UsageError

INSTALL = {
    "sam2": "SAM2_BUILD_CUDA=0 pip install sam2 torch torchvision",
    "timm": "pip install timm torch torchvision",
    "transformers": "pip install 'transformers>=5.1' torch torchvision",
}


def module(name: str) -> Any:
    """A module of one of the packages, such as ``sam2.build_sam``.

    Raises :class:`UsageError` when it cannot be imported, whatever the reason.
    """
    with _explained(name):
        return import_module(name)


def member(name: str, attribute: str) -> Any:
    """A class or function of such a module; raises as :func:`module` does.

    Packages may changed an import until a name is asked for.
    """
    with _explained(name, attribute):
        return getattr(import_module(name), attribute)


def version(package: str) -> str:
    """The installed version of a package; "" when there is none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def titled(package: str) -> str:
    """A package with its version, as messages name it."""
    return f"{package} {version(package)}".rstrip()


@contextmanager
def _explained(name: str, attribute: str = "") -> Iterator[None]:
    package = name.partition(".")[0]
    try:
        yield
    except AttributeError as error:
        raise UsageError(
            f"{titled(package)}: has no {name}.{attribute}", hint=INSTALL[package]
        ) from error
    except Exception as error:  # an import runs anything, and fails in any way
        cause = _first(error)
        absent = (isinstance(cause, ModuleNotFoundError) and cause.name) or ""
        if absent.partition(".")[0] == package:
            raise UsageError(
                f"{package}: is not installed, or without {absent}", hint=INSTALL[package]
            ) from error
        reason = " ".join(str(cause).split())
        raise UsageError(
            f"{titled(package)}: cannot be imported: {type(cause).__name__}: {reason}",
            hint=f"pip install {absent}" if absent else _hint(reason, package),
        ) from error


def _first(error: BaseException) -> BaseException:
    """What went wrong first: a lazy import wraps it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _hint(reason: str, package: str) -> str:
    if "torchvision" in reason:
        return "torch and torchvision must be builds for each other: install both from one index"
    return f"try: python -c 'import {package}'"
