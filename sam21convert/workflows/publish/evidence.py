"""Evidence of earlier runs, so that a dry run and the upload after it compare once.

What is kept is bound to the bytes of all files that were read, to the options, to the versions of
the packages and to the code of this one. It is read back only if all of these are the same, if its
own hash is right, and if nobody else could have written it; else the evidence is made anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from ...errors import Sam21ConvertError
from ...hub.download import cache as cache_folder
from ...io.data.checksums import sha256
from ...io.output.atomic import new_file
from ...packages import version

T = TypeVar("T")

_LARGEST = 64 * 2**20  # bytes of an entry
_PACKAGES = (
    "torch",
    "torchvision",
    "transformers",
    "sam2",
    "timm",
    "onnxruntime",
    "numpy",
    "pillow",
)
_LEFT_OUT = ("views",)  # pictures of a comparison, which nothing that is published shows


class Evidence:
    """A place in the cache for one piece of evidence.

    Args:
        kind: What it is, such as ``"parity"``.
        read: The files that it is made from, by names that say what each is for.
        options: How it is made; values as in JSON.
        paths: Paths that may be another next time, by a name for each: they are not bound, and
            those in the evidence become those of the present.
    """

    def __init__(
        self,
        kind: str,
        read: Mapping[str, Path],
        options: Mapping[str, Any],
        paths: Mapping[str, Path] | None = None,
    ) -> None:
        self._bound = {
            "kind": kind,
            "files": {name: sha256(path) for name, path in sorted(read.items())},
            "options": dict(options),
            "versions": {name: version(name) for name in _PACKAGES},
            "on": [platform.python_version(), platform.machine(), os.cpu_count()],
            "code": _code(),
        }
        self._paths = paths or {}
        self.path = cache_folder() / "evidence" / f"{_digest(self._bound)}.json"

    def recall(self, kind: type[T]) -> T | None:
        """Read what an earlier run kept.

        Args:
            kind: A dataclass.

        Returns:
            The evidence; None if there is none, or it is not to be trusted.
        """
        try:
            entry = json.loads(_own_bytes(self.path))
            bound, told = entry["bound"], entry["evidence"]
            if bound != self._bound or entry["sha256"] != _digest([bound, told]):
                return None
            found = _decoded(kind, self._named(told, back=True))
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None  # damaged, or of another version
        assert isinstance(found, kind)
        return found

    def keep(self, evidence: object) -> None:
        """Keep evidence for later runs; where the cache cannot be written, nothing is kept.

        Args:
            evidence: A dataclass.
        """
        told = self._named(_encoded(evidence), back=False)
        entry = {"bound": self._bound, "evidence": told, "sha256": _digest([self._bound, told])}
        with suppress(OSError, Sam21ConvertError):
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with new_file(self.path, overwrite=True) as temporary:
                temporary.write_text(json.dumps(entry), encoding="utf-8")
                temporary.chmod(0o600)

    def _named(self, told: Any, *, back: bool) -> Any:
        """Evidence with the names of paths in their place, or the other way."""
        if isinstance(told, str):
            # The longest first: one path may be the start of another.
            for name, path in sorted(self._paths.items(), key=lambda one: -len(str(one[1]))):
                pair = (f"\0{name}\0", str(path))
                told = told.replace(*(pair if back else reversed(pair)))
            return told
        if isinstance(told, list):
            return [self._named(one, back=back) for one in told]
        if isinstance(told, dict):
            items = told.items()
            return {self._named(k, back=back): self._named(v, back=back) for k, v in items}
        return told


def files_of(files: Iterable[Path], home: Path) -> dict[str, Path]:
    """The files of a checkpoint, with the settings beside them.

    Args:
        files: The files that hold the weights.
        home: The checkpoint: a file or a folder.

    Returns:
        Path by name.
    """
    settings = home.glob("*.json") if home.is_dir() else ()
    return {path.name: path for path in {*files, *settings}}


def _own_bytes(path: Path) -> bytes:
    """The bytes of a file that only this user can write."""
    with path.open("rb") as file:
        state = os.fstat(file.fileno())
        foreign = state.st_uid != os.getuid() or state.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if foreign or not stat.S_ISREG(state.st_mode) or state.st_size > _LARGEST:
            raise PermissionError(path)
        return file.read(_LARGEST)


def _digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def _code() -> str:
    """A hash of this package: a verdict is that of the code and the settings which gave it."""
    home, found = Path(__file__).parents[2], hashlib.sha256()
    for path in _sources(home):
        found.update(path.relative_to(home).as_posix().encode() + b"\0" + path.read_bytes())
    return found.hexdigest()


def _sources(home: Path) -> list[Path]:
    """The modules of the package, and its configs; in a checkout two of its folders are links."""
    linked = (home / "model").rglob("*.py"), (home / "configs").rglob("*")
    found = {*home.rglob("*.py"), *(path for paths in linked for path in paths)}
    return sorted(path for path in found if path.is_file() and path.suffix != ".pyc")


def _encoded(value: Any) -> Any:
    """A dataclass as JSON has it."""
    if is_dataclass(value):
        kept = (field.name for field in fields(value) if field.name not in _LEFT_OUT)
        return {name: _encoded(getattr(value, name)) for name in kept}
    if isinstance(value, Mapping):
        return {name: _encoded(one) for name, one in value.items()}
    if isinstance(value, (tuple, list)):
        return [_encoded(one) for one in value]
    return str(value) if isinstance(value, Path) else value


def _decoded(kind: Any, told: Any) -> Any:
    """What :func:`_encoded` was given; a ``TypeError`` where the types are others."""
    origin, inner = get_origin(kind), get_args(kind)
    if isinstance(kind, type) and is_dataclass(kind):
        hints = get_type_hints(kind)
        return kind(**{name: _decoded(hints[name], one) for name, one in told.items()})
    if origin in (UnionType, Union):
        if told is None and NoneType in inner:
            return None
        (only,) = (one for one in inner if one is not NoneType)
        return _decoded(only, told)
    if origin is Literal:
        if told not in inner:
            raise TypeError(told)
        return told
    if origin is list and isinstance(told, list):
        return [_decoded(inner[0], one) for one in told]
    if origin is tuple and isinstance(told, list):
        each = [inner[0]] * len(told) if inner[1:] == (...,) else inner
        return tuple(_decoded(one, given) for one, given in zip(each, told, strict=True))
    if origin is not None and issubclass(origin, Mapping) and isinstance(told, dict):
        return {name: _decoded(inner[1], one) for name, one in told.items()}
    if kind is Path and isinstance(told, str):
        return Path(told)
    if kind is float and type(told) is int:
        return float(told)
    if type(told) is not kind:
        raise TypeError(told)
    return told
