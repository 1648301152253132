"""The packages to compare with. Only this module imports them, and only when they are needed.

Nothing else in sam21convert needs them. A package that cannot be imported is a :class:`UsageError`,
with the command that helps as its hint.
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
    "torchvision": "pip install torch torchvision",
    "transformers": "pip install 'transformers>=5.1' torch torchvision",
}


def module(name: str) -> Any:
    """Import a module of one of the packages.

    Args:
        name: Its full name, such as ``sam2.build_sam``.

    Returns:
        The module.

    Raises:
        UsageError: When it cannot be imported, whatever the reason.
    """
    with _explained(name):
        return import_module(name)


def member(name: str, attribute: str) -> Any:
    """Import a class or function of one of the packages.

    Args:
        name: Full name of the module.
        attribute: Name of the class or function. transformers imports lazily, so this is where an
            import may fail.

    Returns:
        The class or function.

    Raises:
        UsageError: When it cannot be imported, or the installed version does not have it.
    """
    with _explained(name, attribute):
        return getattr(import_module(name), attribute)


def version(package: str) -> str:
    """The installed version of a package.

    Args:
        package: Name of the package.

    Returns:
        The version; an empty string when it is not installed.
    """
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


@contextmanager
def _explained(name: str, attribute: str = "") -> Iterator[None]:
    package = name.partition(".")[0]
    try:
        yield
    except AttributeError as error:
        raise UsageError(
            f"{titled(package)}: has no {name}.{attribute}", hint=INSTALL[package]
        ) from error
    except Exception as error:  # an import runs arbitrary code, so any error may come out
        cause = _first(error)
        absent = (isinstance(cause, ModuleNotFoundError) and cause.name) or ""
        if absent.partition(".")[0] == package:
            raise UsageError(
                f"{package}: is not installed, or lacks {absent}", hint=INSTALL[package]
            ) from error
        reason = " ".join(str(cause).split())
        raise UsageError(
            f"{titled(package)}: cannot be imported: {type(cause).__name__}: {reason}",
            hint=f"pip install {absent}" if absent else _hint(reason, package),
        ) from error


def _first(error: BaseException) -> BaseException:
    """The original error: the lazy imports of transformers wrap it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _hint(reason: str, package: str) -> str:
    if "torchvision" in reason:
        return "torch and torchvision must be builds for each other: install both from one index"
    return f"try: python -c 'import {package}'"
