"""onnxruntime-web: which files of it a page needs, and where they come from."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path

from ...errors import MissingFileError, Sam21ConvertError, UnreadableError, UsageError
from ...report import one_line

VERSION = "1.30.0"
# Of the archive in the npm registry, as its metadata give it.
INTEGRITY = (
    "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZ"
    "ClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
)
CDN = f"https://cdn.jsdelivr.net/npm/onnxruntime-web@{VERSION}/dist/"
# The files for a device, and how many bytes a browser loads of them.
FILES: Mapping[str, Mapping[str, int]] = {
    "wasm": {
        "ort.wasm.min.mjs": 50_126,
        "ort-wasm-simd-threaded.mjs": 24_381,
        "ort-wasm-simd-threaded.wasm": 14_239_897,
    },
    "webgpu": {
        "ort.webgpu.min.mjs": 66_349,
        "ort-wasm-simd-threaded.asyncify.mjs": 53_057,
        "ort-wasm-simd-threaded.asyncify.wasm": 26_781_914,
    },
}
_LONGEST = 900  # seconds that npm may take
_CDN_INSTEAD = f"`cdn=True` has browsers load the runtime from {CDN.split('/')[2]}"
_ELSE = f"install Node.js, which brings npm, or {_CDN_INSTEAD}"


def needed() -> list[str]:
    """List the files that a page needs.

    Returns:
        Their names.
    """
    return [name for files in FILES.values() for name in files]


def download(folder: Path) -> None:
    """Get the files from npm.

    Args:
        folder: Where to put them; it exists.

    Raises:
        UsageError: If npm is not installed.
        UnreadableError: If the archive cannot be downloaded, or is not the one that is known.
        OSError: If a file cannot be written.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise UsageError("npm: not found, it brings the runtime onnxruntime-web", hint=_ELSE)
    with tempfile.TemporaryDirectory() as home:
        archive = _packed(npm, Path(home))
        found = b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if f"sha512-{found}" != INTEGRITY:
            raise UnreadableError(
                f"onnxruntime-web {VERSION}: expected {INTEGRITY}, found sha512-{found}",
                hint=_CDN_INSTEAD,
            )
        with tarfile.open(archive) as content:
            for name in needed():
                member = content.extractfile(f"package/dist/{name}")
                if member is None:
                    raise UnreadableError(f"onnxruntime-web {VERSION}: dist/{name} is no file")
                with member, (folder / name).open("wb") as out:
                    shutil.copyfileobj(member, out)


def copy(source: Path, folder: Path) -> None:
    """Take the files from a folder, such as ``node_modules/onnxruntime-web/dist``.

    Args:
        source: The folder.
        folder: Where to put them; it exists.

    Raises:
        MissingFileError: If one is not there.
        OSError: If a file cannot be copied.
    """
    for name in needed():
        if not (source / name).is_file():
            raise MissingFileError(
                f"{source}: holds no {name} of onnxruntime-web {VERSION}",
                hint="leave `runtime` out, and npm downloads it",
            )
        shutil.copyfile(source / name, folder / name)


def _packed(npm: str, home: Path) -> Path:
    """Download the archive of the package; nothing in it is run."""
    line = [npm, "pack", f"onnxruntime-web@{VERSION}", "--json", "--ignore-scripts"]
    try:
        done = subprocess.run(  # noqa: S603
            line, cwd=home, capture_output=True, text=True, timeout=_LONGEST, check=False
        )
    except subprocess.TimeoutExpired:
        raise _failed(f"npm took longer than {_LONGEST} seconds") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise _failed(one_line(lines[0] if lines else f"npm ended with {done.returncode}"))
    (path,) = home.glob("*.tgz")
    return path


def _failed(why: str) -> Sam21ConvertError:
    return UnreadableError(
        f"onnxruntime-web {VERSION}: cannot be downloaded: {why}", hint=_CDN_INSTEAD
    )
