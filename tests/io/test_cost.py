"""Bytes moved and memory used by a conversion, which unlike seconds are equal on every machine.

Bytes are those that the system counts for the process, including ``copy_file_range``.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

import sam21convert
from sam21convert.config.registry import shipped_tensors
from sam21convert.errors import UnreadableError
from sam21convert.io.data import copy as copying
from sam21convert.io.open import open_source
from sam21convert.io.tensor import Tensor, TensorSpec
from sam21convert.io.torch_writer import _entry, _pickle, write_torch
from sam21convert.report import SILENT

from ..support.checkpoints import DEBUG, official_pt, random_bits, sparse

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

TINY = "sam2.1/sam2.1_hiera_t"
SLACK = 0.02  # of the bytes of the weights: headers, and the tensors that are gathered
MEMORY = 100e6
CHILD = """
import json, sys
import numpy  # casts import it
import sam21convert

def counted():
    lines = open("/proc/self/io").read().splitlines()
    return [int(line.split()[1]) for line in lines[:2]]

call, arguments, options = json.loads(sys.argv[1])
function = getattr(sam21convert, call)
before = counted()
function(*arguments, **options)
after = counted()
[peak] = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(json.dumps([after[0] - before[0], after[1] - before[1], int(peak.split()[1]) * 1024]))
"""
CAST = """
import sys
from pathlib import Path
from sam21convert.io.data import copy as copying
from sam21convert.io.open import open_source
from sam21convert.io.safetensors import write_safetensors
from sam21convert.io.tensor import Tensor, TensorSpec
from sam21convert.report import SILENT

source, target, dtype, piece = sys.argv[1:]
copying.CHUNK = int(piece)
refs = open_source(Path(source)).root
tensors = {n: Tensor(TensorSpec(dtype, ref.spec.shape), (ref,)) for n, ref in refs.items()}
write_safetensors(Path(target), tensors, {}, SILENT)
print(*[line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")])
"""


class Cost(NamedTuple):
    read: int
    written: int
    peak: int


def cost(call: str, *arguments: Path, **options: Any) -> Cost:
    """Measure a function of the package in a process of its own."""
    asked = json.dumps([call, list(map(str, arguments)), options])
    done = subprocess.run([sys.executable, "-c", CHILD, asked], capture_output=True, check=True)
    return Cost(*json.loads(done.stdout))


@pytest.fixture(scope="module")
def forms(
    checkpoints: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The weights of a tiny model, 156 MB, in every form that the table converts from."""
    home = tmp_path_factory.mktemp("forms")
    found = {"pt": checkpoints(TINY), "safetensors": home / "m.safetensors", "hf": home / "hf"}
    for name in ("safetensors", "hf"):
        sam21convert.convert(found["pt"], found[name], verify=False)
    weights = torch.load(found["pt"], mmap=True)["model"]
    state = {n: {"exp_avg": t, "exp_avg_sq": -t} for n, t in enumerate(weights.values())}
    found["training"] = home / "training.pt"
    torch.save({"model": weights, "optimizer": {"state": state}}, found["training"])
    return found


# What a conversion may read and write, in multiples of the bytes of the weights. Without checks,
# everything once. With checks the output is read as well, and compared with a checksum: a recorded
# one, or that of what went through the process. Where there is neither, or what was cast has a
# recorded one, the source is read again.
@pytest.mark.parametrize(
    ("source", "target", "options", "read", "written"),
    [
        ("pt", "out.safetensors", {"verify": False}, 1, 1),
        ("pt", "out.safetensors", {}, 2, 1),
        ("pt", "out", {"verify": False}, 1, 1),
        ("pt", "out", {}, 2, 1),
        ("pt", "out.pt", {}, 2, 1),
        ("hf", "out.pt", {"verify": False}, 1, 1),
        ("hf", "out.pt", {}, 2, 1),
        ("safetensors", "out", {}, 3, 1),
        ("training", "out", {"verify": False}, 1, 1),
        ("training", "out", {}, 2, 1),
        ("pt", "out.safetensors", {"dtype": "float16", "verify": False}, 1, 0.5),
        ("pt", "out.pt", {"dtype": "bfloat16"}, 2.5, 0.5),
        ("hf", "out", {"dtype": "float16"}, 1.5, 0.5),
    ],
)
def test_bytes_and_memory_of_a_conversion(
    tmp_path: Path,
    forms: dict[str, Path],
    source: str,
    target: str,
    options: dict[str, Any],
    read: float,
    written: float,
) -> None:
    weights = sum(spec.nbytes for spec in shipped_tensors(TINY).values())
    found = cost("convert", forms[source], tmp_path / target, **options)
    assert read - SLACK < found.read / weights < read + SLACK
    assert written - SLACK < found.written / weights < written + SLACK
    assert found.peak < MEMORY


@pytest.mark.parametrize("form", ["pt", "safetensors", "hf", "training"])
def test_bytes_and_memory_of_an_inspection(forms: dict[str, Path], form: str) -> None:
    found = cost("inspect", forms[form])
    assert found.read < 4e6
    assert found.peak < 60e6


@pytest.mark.parametrize("form", ["pt", "safetensors", "hf", "training"])
def test_a_validation_reads_the_weights_once(forms: dict[str, Path], form: str) -> None:
    weights = sum(spec.nbytes for spec in shipped_tensors(TINY).values())
    found = cost("validate", forms[form])
    assert 1 - SLACK < found.read / weights < 1 + 2 * SLACK
    assert found.peak < MEMORY


@pytest.mark.parametrize(
    ("dtype", "piece", "bounded"),
    [("F16", 1 << 20, True), ("BF16", 1 << 20, True), ("BF16", 1 << 30, False)],
    ids=["float16", "bfloat16", "control: in one piece"],
)
def test_memory_does_not_grow_with_the_tensors(
    tmp_path: Path, dtype: str, piece: int, bounded: bool
) -> None:
    source = sparse(tmp_path / "large.safetensors", {"a": TensorSpec("F32", (40_000, 1_000))})
    command = [sys.executable, "-c", CAST, str(source), str(tmp_path / "out"), dtype, str(piece)]
    done = subprocess.run(command, capture_output=True, check=True)
    assert (int(done.stdout) * 1024 < MEMORY) == bounded


def test_reading_twice_is_detected(tmp_path: Path, forms: dict[str, Path]) -> None:
    """Negative control: hashes read the source and the output once more."""
    weights = sum(spec.nbytes for spec in shipped_tensors(TINY).values())
    found = cost("convert", forms["pt"], tmp_path / "out.safetensors", hashes=True)
    assert found.read / weights > 4 - SLACK


@pytest.fixture(params=[False, True], ids=["in this thread", "in threads"])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether outputs of the debug size are written as large ones are."""
    for module in ("copy", "checksums") if request.param else ():
        monkeypatch.setattr(f"sam21convert.io.data.{module}.SMALL", 0)
    return bool(request.param)


def test_only_a_large_output_is_worth_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: bool
) -> None:
    """Some to write and some to read back; they take longer to start than a small file to copy."""
    pools, start = list[int](), ThreadPoolExecutor.__init__

    def counted(pool: ThreadPoolExecutor, workers: int) -> None:
        pools.append(workers)
        start(pool, workers)

    monkeypatch.setattr(ThreadPoolExecutor, "__init__", counted)
    sam21convert.convert(official_pt(tmp_path / "m.pt"), tmp_path / "out.safetensors")
    assert len(pools) == 2 * threads


needs_kernel_copies = pytest.mark.skipif(
    not hasattr(os, "copy_file_range"), reason="this system has no copy_file_range"
)
REFUSALS = ("EXDEV", "ENOSYS", "EINVAL", "EOPNOTSUPP", "EPERM", "EIO")


@needs_kernel_copies
@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("after", [0, 1], ids=["at once", "after a piece"])
@pytest.mark.usefixtures("threads")
def test_without_kernel_copies_the_output_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: str, after: int
) -> None:
    source, calls = official_pt(tmp_path / "m.pt"), list[int]()
    sam21convert.convert(source, tmp_path / "one.safetensors")
    copy = os.copy_file_range

    def refuse(*arguments: Any) -> int:
        calls.append(1)
        if len(calls) <= after:
            return copy(arguments[0], arguments[1], 1, *arguments[3:])
        raise OSError(getattr(errno, refusal), refusal)

    monkeypatch.setattr(os, "copy_file_range", refuse)
    sam21convert.convert(source, tmp_path / "two.safetensors")
    assert calls
    one, two = (tmp_path / f"{name}.safetensors" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


@needs_kernel_copies
@pytest.mark.parametrize("fault", ["EFBIG", "ENOSPC"])
@pytest.mark.usefixtures("threads")
def test_other_errors_of_kernel_copies_are_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    source = official_pt(tmp_path / "m.pt")

    def fail(*_: Any) -> int:
        raise OSError(getattr(errno, fault), fault)

    monkeypatch.setattr(os, "copy_file_range", fail)
    with pytest.raises(OSError, match=fault):
        sam21convert.convert(source, tmp_path / "out.safetensors")
    assert os.listdir(tmp_path) == ["m.pt"]


@needs_kernel_copies
@pytest.mark.parametrize("dtype", [None, "float16"], ids=["copied", "cast"])
@pytest.mark.usefixtures("threads")
def test_an_error_of_a_failing_disk_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: Any
) -> None:
    source = official_pt(tmp_path / "m.pt")

    def fail(*_: Any) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "copy_file_range", fail)
    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(UnreadableError, match=r"m\.pt: cannot be read at byte \d+: Input/output"):
        sam21convert.convert(source, tmp_path / "out.safetensors", dtype=dtype)
    assert os.listdir(tmp_path) == ["m.pt"]


@pytest.mark.parametrize("known", [True, False], ids=["sums known", "sums computed"])
def test_the_archive_equals_that_of_zipfile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    if known:
        source = open_source(official_pt(tmp_path / "m.pt"))
        refs = source.root["model"]
    else:
        source = open_source(random_bits(tmp_path / "m.safetensors", shipped_tensors(DEBUG)))
        refs = source.root
    tensors = {name: Tensor(ref.spec, (ref,)) for name, ref in refs.items()}
    sums = list[int]()

    def crc32(data: memoryview, crc: int) -> int:
        sums.append(zlib.crc32(data, crc))
        return sums[-1]

    monkeypatch.setattr(copying, "crc32", crc32)
    write_torch(tmp_path / "ours", tensors, SILENT, blobs=source.blobs)
    assert bool(sums) != known
    specs = {name: ref.spec for name, ref in refs.items()}
    with zipfile.ZipFile(tmp_path / "theirs", "w") as archive:
        data = source.path.read_bytes()
        parts = {"data.pkl": _pickle(specs), "byteorder": b"little"}
        for number, ref in enumerate(refs.values()):
            parts[f"data/{number}"] = data[ref.offset : ref.offset + ref.spec.nbytes]
        for name, data in {**parts, "version": b"3\n"}.items():
            archive.writestr(_entry(name, archive.start_dir), data)
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
