"""The installed package as a wheel: the same files, for a place to which it was not published."""

from __future__ import annotations

import base64
import hashlib
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

from ..._version import __version__

_PACKAGE = Path(__file__).parents[2]
_NAME = "sam21convert"
_DATE = (1980, 1, 1, 0, 0, 0)  # the first of zip files: equal files give an equal wheel
_METADATA = f"Metadata-Version: 2.1\nName: {_NAME}\nVersion: {__version__}\n"
_WHEEL = f"Wheel-Version: 1.0\nGenerator: {_NAME}\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def write_wheel(folder: Path) -> Path:
    """Write the package that runs as a wheel.

    It names no requirements: they are installed beside it, with the versions that run here.

    Args:
        folder: Where to write it.

    Returns:
        The wheel.
    """
    about = f"{_NAME}-{__version__}.dist-info"
    content = {f"{_NAME}/{name}": path.read_bytes() for name, path in sorted(_files())}
    content |= {f"{about}/METADATA": _METADATA.encode(), f"{about}/WHEEL": _WHEEL.encode()}
    record = [f"{name},sha256={_hash(data)},{len(data)}\n" for name, data in content.items()]
    content[f"{about}/RECORD"] = "".join([*record, f"{about}/RECORD,,\n"]).encode()
    wheel = folder / f"{_NAME}-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            entry = zipfile.ZipInfo(name, _DATE)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, data)
    return wheel


def _files() -> Iterator[tuple[str, Path]]:
    """All files of the package, also behind the links of a clone."""
    for folder, inner, names in os.walk(_PACKAGE, followlinks=True):
        inner[:] = [one for one in inner if one != "__pycache__"]
        for name in names:
            path = Path(folder) / name
            yield path.relative_to(_PACKAGE).as_posix(), path


def _hash(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
