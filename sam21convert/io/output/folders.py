"""Names of folders to write, told from names that are meant for a file."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from ...errors import UsageError

_WRITTEN = ("pt", "pth", "safetensors")
# Endings of formats that are not written here: such a name is not meant for a folder, nor is one
# that ends in almost the same. An ending with a digit first, as in model-v1.2, is part of a name.
_ARCHIVES = "7z bz2 gz rar tar tgz xz zip zst"
_FOREIGN = (
    "bin ckpt gguf ggml h5 json mlmodel msgpack npy npz onnx pb pickle pkl pt2 sft tflite "
    f"torchscript txt yaml yml csv html jpeg jpg md mp4 pdf png {_ARCHIVES}"
)
_PACKED = re.compile(rf"(\.({_ARCHIVES.replace(' ', '|')}))+$", re.IGNORECASE)
_ALIKE = 0.75  # of a ratio of difflib: .safetensor and .onx are, .ema and .hf are not


def meant_for_a_file(name: str) -> str | None:
    """Tell the name of a folder from one that looks like a file's.

    Args:
        name: the last part of a path.

    Returns:
        The nearest name of a checkpoint that can be written; None where the name is that of a
        folder.
    """
    stem, ending = _divided(name)
    if ending is None:
        return None
    return f"{stem}.{'safetensors' if ending in ('safetensors', 'sft') else 'pt'}"


def refuse_file_name(folder: Path) -> None:
    """Check that an output that is a folder has not the name of a file.

    Args:
        folder: the folder to write. One that exists may have any name.

    Raises:
        UsageError: when it looks like a file.
    """
    stem, ending = _divided(folder.name)
    if ending is not None and not folder.is_dir():
        raise UsageError(
            f"{folder}: the output is a folder, and this is the name of a file",
            hint=f"a folder has a name without such an ending: {shlex.quote(stem)}",
        )


def _divided(name: str) -> tuple[str, str | None]:
    """A name without the ending of a file, and the known ending that this is or resembles.

    The ending is empty for an archive of something unknown, and None for the name of a folder.
    """
    from difflib import get_close_matches

    whole = _PACKED.sub("", name)
    suffix = Path(whole).suffix
    ending = suffix.lower().removeprefix(".")
    near = get_close_matches(ending, [*_WRITTEN, *_FOREIGN.split()], 1, _ALIKE)
    if near:
        return whole.removesuffix(suffix), near[0]
    return whole, None if whole == name else ""
