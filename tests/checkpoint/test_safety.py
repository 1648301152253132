"""What loading a file with pickle would run is found without loading it, and rated."""

from __future__ import annotations

import argparse
import collections
import datetime
import io
import json
import logging
import os
import pickle
import random
import re
import struct
import subprocess
import sys
import tracemalloc
import zipfile
import zlib
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch.distributed.checkpoint.state_dict_saver import save

from sam21convert import inspect
from sam21convert.checkpoint.safety import find_pickles
from sam21convert.checkpoint.safety.find_pickles import Found
from sam21convert.checkpoint.safety.folder import look_through_source
from sam21convert.checkpoint.safety.policy import rate
from sam21convert.checkpoint.safety.report import Safety, assess
from sam21convert.commands.main import main
from sam21convert.io.open import open_source

from ..support.checkpoints import damaged, state_dict

STRING = b"\x8c"


def text(value: str) -> bytes:
    return STRING + bytes([len(value)]) + value.encode()


def call(name: str, protocol: int = 4, argument: bytes = text("x")) -> bytes:
    """A pickle that calls a name, as ``pickle`` writes it from ``__reduce__``."""
    module, _, attribute = name.partition(":")
    if protocol < 4:
        found = f"c{module}\n{attribute}\n".encode()
    else:
        found = text(module) + b"\x94" + text(attribute) + b"\x94\x93"
    start = b"\x80" + bytes([protocol]) if protocol > 1 else b""
    return start + found + (b"(" + argument + b"t" if protocol < 2 else argument + b"\x85") + b"R."


def assessed(tmp_path: Path, data: bytes, name: str = "x.pt") -> Safety:
    (tmp_path / name).write_bytes(data)
    return assess(tmp_path / name)


# Every opcode that names or calls: bytes -> name, offset, called, changed, count.
SYSTEM = b"cos\nsystem\n"
OPCODES: dict[str, tuple[bytes, tuple[str, int, bool, bool, int]]] = {
    "GLOBAL": (SYSTEM + b".", ("os.system", 0, False, False, 1)),
    "REDUCE": (SYSTEM + b"Nq\x00\x85R.", ("os.system", 0, True, False, 1)),
    "NEWOBJ": (SYSTEM + b")\x81.", ("os.system", 0, True, False, 1)),
    "NEWOBJ_EX": (SYSTEM + b")}\x92.", ("os.system", 0, True, False, 1)),
    "INST": (b"(Nios\nsystem\n.", ("os.system", 2, True, False, 1)),
    "OBJ": (b"(" + SYSTEM + b"No.", ("os.system", 1, True, False, 1)),
    "BUILD": (SYSTEM + b"}b.", ("os.system", 0, False, True, 1)),
    "SETITEM": (SYSTEM + b"NNs.", ("os.system", 0, False, True, 1)),
    "SETITEMS": (SYSTEM + b"(NNu.", ("os.system", 0, False, True, 1)),
    "APPEND": (b"csys\npath\nNa.", ("sys.path", 0, False, True, 1)),
    "APPENDS": (b"csys\npath\n(NNe.", ("sys.path", 0, False, True, 1)),
    "ADDITEMS": (SYSTEM + b"(N\x90.", ("os.system", 0, False, True, 1)),
    "PUT GET": (SYSTEM + b"p7\n0g7\n)R.", ("os.system", 0, True, False, 2)),
    "BINPUT BINGET": (SYSTEM + b"q\x070h\x07)R.", ("os.system", 0, True, False, 2)),
    "LONG_BINPUT LONG_BINGET": (
        SYSTEM + b"r\0\1\0\0000j\0\1\0\0)R.",
        ("os.system", 0, True, False, 2),
    ),
    "MEMOIZE": (SYSTEM + b"\x940h\0)R.", ("os.system", 0, True, False, 2)),
    "DUP": (SYSTEM + b"2)R.", ("os.system", 0, True, False, 2)),
    "POP_MARK": (SYSTEM + b"(NN1)R.", ("os.system", 0, True, False, 1)),
    "POP of a MARK": (SYSTEM + b"(0)R.", ("os.system", 0, True, False, 1)),
    "STACK_GLOBAL": (text("os") + text("system") + b"\x93.", ("os.system", 12, False, False, 1)),
    "from the memo": (
        text("system") + b"q\1" + text("os") + b"h\1\x93)R.",
        ("os.system", 16, True, False, 1),
    ),
    "UNICODE": (b"V\\u006fs\nVsystem\n\x93.", ("os.system", 17, False, False, 1)),
    "STRING": (b"S'\\157s'\nS'sys\\x74em'\n\x93.", ("os.system", 22, False, False, 1)),
    "BINSTRING": (
        b"T\2\0\0\0osU\6system\x93.",
        ("os.system", 15, False, False, 1),
    ),
    "BINUNICODE": (
        b"X\2\0\0\0os\x8d\6\0\0\0\0\0\0\0system\x93.",
        ("os.system", 22, False, False, 1),
    ),
    "a computed name": (
        text("os") + b"cbuiltins\nstr\n)R\x93.",
        ("os.?", 20, False, False, 1),
    ),
    "EXT1": (b"\x82\7)R.", ("extension code 7", 0, True, False, 1)),
    "EXT2": (b"\x83\7\0)R.", ("extension code 7", 0, True, False, 1)),
    "EXT4": (b"\x84\7\0\0\0)R.", ("extension code 7", 0, True, False, 1)),
    "in a persistent id": (SYSTEM + b"\x85Q.", ("os.system", 0, False, False, 1)),
    "behind frames and buffers": (
        b"\x80\5\x95\xff\0\0\0\0\0\0\0\x97\x98" + SYSTEM + b")R.",
        ("os.system", 13, True, False, 1),
    ),
}


@pytest.mark.parametrize("case", OPCODES)
def test_every_opcode_that_names_or_calls_a_global_is_found(tmp_path: Path, case: str) -> None:
    data, expected = OPCODES[case]
    found = assessed(tmp_path, data).names[0]
    assert (found.name, found.offset, found.called, found.changed, found.count) == expected
    assert found.rating == ("unknown" if "extension" in found.name else "dangerous")


def test_setting_attributes_of_an_object_does_not_change_its_class(tmp_path: Path) -> None:
    state = collections.OrderedDict(a=1)
    state._metadata = {"version": 1}  # type: ignore[attr-defined]
    [found] = assessed(tmp_path, pickle.dumps(state, 2)).names
    assert (found.name, found.changed, found.rating) == (
        "collections.OrderedDict",
        False,
        "harmless",
    )


def test_a_changed_global_is_dangerous_even_if_its_name_is_harmless(tmp_path: Path) -> None:
    """Changing the class itself affects other code; changing an object of it does not."""
    assert assessed(tmp_path, b"ccollections\nOrderedDict\n)R}b.").rating == "harmless"
    assert assessed(tmp_path, b"ccollections\nOrderedDict\n}b.").rating == "dangerous"


@pytest.mark.parametrize(
    ("name", "rating"),
    [
        ("torch._utils:_rebuild_tensor_v2", "harmless"),
        ("__builtin__:set", "harmless"),
        ("copy_reg:_reconstructor", "harmless"),
        ("my.module:Class", "unknown"),
        ("torch.optim.adam:Adam", "unknown"),
        ("functools:partial", "unknown"),
        ("uuid:UUID", "unknown"),
        ("__main__:Config", "unknown"),
        ("commands:getoutput", "dangerous"),
        ("cPickle:loads", "dangerous"),
        ("torch.nn.functional:os.system", "dangerous"),  # any module that imports os has it
        ("collections:OrderedDict.__init__.__globals__", "dangerous"),
        ("pathlib:Path.unlink", "dangerous"),
        ("numpy:ndarray.tofile", "dangerous"),
        ("torch.storage:_load_from_bytes", "dangerous"),
        ("?:x", "dangerous"),
    ],
)
def test_rating_of_a_name(name: str, rating: str) -> None:
    assert rate(*name.split(":")) == rating


def test_everything_that_weights_only_allows_is_harmless() -> None:
    from torch._weights_only_unpickler import _get_allowed_globals

    allowed = [name.rpartition(".") for name in _get_allowed_globals()]
    assert len(allowed) > 100
    assert {f"{m}.{n}" for m, _, n in allowed if rate(m, n) != "harmless"} == set()


def training_checkpoint(protocol: int) -> dict[str, Any]:
    """A checkpoint with everything that trainers save besides the weights."""
    model = torch.nn.Linear(2, 2)
    adam = torch.optim.AdamW(model.parameters())
    with torch.enable_grad():
        model(torch.ones(2)).sum().backward()
    adam.step()
    lightning = {"epoch": 3, "pytorch-lightning_version": "2.5", "loops": {}, "callbacks": {}}
    ema = torch.optim.swa_utils.AveragedModel(model)
    return {
        "model": state_dict(),
        "optimizer": adam.state_dict(),
        "scheduler": torch.optim.lr_scheduler.StepLR(adam, 1).state_dict(),
        "scaler": torch.amp.GradScaler("cpu").state_dict(),
        "ema": {"n": ema.state_dict(), "parameters": [*model.parameters()]},
        "rng": [torch.get_rng_state(), np.random.get_state(), random.getstate()],
        "generator": np.random.default_rng(0).bit_generator.state,
        "args": argparse.Namespace(lr=1e-4, out=Path("runs"), when=datetime.datetime.now()),
        "meters": collections.defaultdict(list, best=[np.float64(0.5), np.float32(1)]),
        "shape": model.weight.shape,
        "half": [torch.ones(1, dtype=torch.bfloat16), torch.float16, torch.device("cpu")],
        "sparse": torch.eye(2).to_sparse(),
        "array": np.ones(3),
        "sets": [{1}, frozenset({2}), 1 + 2j, bytearray(b"a"), b"b", protocol],
        **lightning,
    }


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_training_checkpoint_is_harmless(tmp_path: Path, protocol: int, legacy: bool) -> None:
    torch.save(
        training_checkpoint(protocol),
        tmp_path / "train.pt",
        pickle_protocol=protocol,
        _use_new_zipfile_serialization=not legacy,
    )
    found = inspect(tmp_path / "train.pt", weights="model")
    assert [str(name) for name in found.safety.names if name.rating != "harmless"] == []
    assert (found.safety.rating, found.exit_code, len(found.safety.rows())) == ("harmless", 0, 1)


class Opaque:
    """A class of the user, which no policy knows."""


class Payload:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


def test_report_and_exit_code_name_what_would_be_called(tmp_path: Path) -> None:
    for name, extra in (("clean", 1), ("odd", Opaque()), ("bad", Payload(tmp_path / "fired"))):
        torch.save({"model": state_dict(), "extra": extra}, tmp_path / f"{name}.pt")
    results = {
        name: CliRunner().invoke(main, ["inspect", str(tmp_path / f"{name}.pt"), "--json"])
        for name in ("clean", "odd", "bad")
    }
    reports = {name: json.loads(result.output) for name, result in results.items()}
    assert {name: (r.exit_code, reports[name]["safety"]) for name, r in results.items()} == {
        "clean": (0, "harmless"),
        "odd": (1, "unknown"),
        "bad": (1, "dangerous"),
    }
    worst = reports["bad"]["pickle"][0]
    data = zipfile.ZipFile(tmp_path / "bad.pt").read("bad/data.pkl")
    assert worst == {
        "name": f"{os.name}.mkdir",
        "entry": "bad/data.pkl",
        "offset": data.index(f"c{os.name}\nmkdir\n".encode()),
        "called": True,
        "changed": False,
        "count": 1,
        "rating": "dangerous",
        "does": "changes files",
        "arguments": [f'("{tmp_path / "fired"}")'],
        "calls": 1,
    }
    assert re.search(
        "unknown +tests.*Opaque would be called .byte", str(inspect(tmp_path / "odd.pt"))
    )
    assert re.search(
        "dangerous +posix.mkdir would be called .byte", str(inspect(tmp_path / "bad.pt"))
    )
    assert not (tmp_path / "fired").exists()
    program = "import sys, torch; torch.load(sys.argv[1], weights_only=False)"
    subprocess.run([sys.executable, "-c", program, tmp_path / "bad.pt"], check=True)
    assert (tmp_path / "fired").exists()


def packed(entries: dict[str, bytes], **options: Any) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **options) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return buffer.getvalue()


BAD = call("os:system")
ZIP = packed({"m/version": b"3\n", "m/data.pkl": BAD})
# Files that are not checkpoints, or broken: they are refused, but their pickles are still scanned.
REFUSED: dict[str, bytes] = {
    **{f"a bare pickle of protocol {p}": call("os:system", p) for p in range(6)},
    "broken after the call": BAD[:-1] + b"\xff",
    "cut short after the call": BAD[:-1],
    "the second of two pickles": pickle.dumps([1]) + BAD,
    "behind the magic number": pickle.dumps(0x1950A86A20F9469CFC6C, 2) + BAD,
    "behind much data": b"\x80\4B" + struct.pack("<I", 300_000) + bytes(300_000) + BAD[2:],
    "behind a long line": b"V" + b"a" * 200_000 + b"\n" + BAD[2:],
    "a fake checkpoint": ZIP,
    "deflated": packed({"m/data.pkl": BAD}, compression=zipfile.ZIP_DEFLATED),
    "another entry": packed({"m/data.pkl": b"N.", "m/config": BAD}),
    "with a wrong checksum": ZIP.replace(struct.pack("<I", zlib.crc32(BAD)), b"abcd"),
    "with the flag of encryption": ZIP.replace(
        b"PK\1\2\x14\3\x14\0\0\0", b"PK\1\2\x14\3\x14\0\1\0"
    ),
    "with another name in the directory": b"m/data.pk_".join(ZIP.rsplit(b"m/data.pkl", 1)),
    "without a directory": ZIP[: ZIP.index(b"PK\1\2")],
    "a TorchScript archive": packed({"m/constants.pkl": b"N.", "m/data.pkl": BAD}),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_the_pickles_of_a_refused_file_are_still_scanned(
    tmp_path: Path, case: str, suffix: str
) -> None:
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(REFUSED[case])
    result = CliRunner().invoke(main, ["inspect", str(path)])
    assert result.exit_code == 3
    error, hint = result.stderr.splitlines()
    assert error.startswith(f"error: {path}: ")
    assert "os.system would be called (byte " in error
    assert hint == "hint: do not load it with anything that runs pickles; ask where it came from"


@pytest.mark.parametrize(
    "data",
    [b"hello", b"\x93NUMPY" + bytes(90), b"\x80\2N", ZIP[:40]],
    ids=["text", "an array", "an unfinished pickle", "the start of an archive"],
)
def test_a_refused_file_without_dangerous_globals_gets_no_warning(
    tmp_path: Path, data: bytes
) -> None:
    (tmp_path / "x.pt").write_bytes(data)
    assert "do harm" not in CliRunner().invoke(main, ["inspect", str(tmp_path / "x.pt")]).stderr


@pytest.mark.parametrize("low", [ord("p"), ord("g"), ord("h"), ord("t"), ord("0"), 0x93, 0x86])
def test_the_length_of_a_header_is_not_held_against_a_file(tmp_path: Path, low: int) -> None:
    """Safetensors files begin with it, and its bytes are opcodes, which lack a value here."""
    header = b'{"a":{"dtype":"F32","shape":[64],"data_offsets":[0,256]}}'
    data = bytes(range(256))
    path = tmp_path / "a.safetensors"
    path.write_bytes((0x300 + low).to_bytes(8, "little") + header.ljust(0x300 + low) + data)
    assert open_source(path).root.keys() == {"a"}
    assert assess(path).verdict == "nothing but tensors and plain data: 0 names"
    # What would run is found behind such bytes, if an unpickler comes there.
    path.write_bytes(b"X" + (0x203).to_bytes(4, "little") + bytes(3) + header.ljust(0x200) + BAD)
    assert assess(path).rating == "dangerous"


def test_numbers_in_an_archive_are_not_held_against_it(tmp_path: Path) -> None:
    """Exported programs have an entry for each weight, which may begin with any byte."""
    numbers = {f"m/weight_{i}": bytes([i]) + random.Random(i).randbytes(999) for i in range(256)}
    (tmp_path / "a.zip").write_bytes(packed(numbers))
    assert assess(tmp_path / "a.zip").rating != "dangerous"
    (tmp_path / "a.zip").write_bytes(packed({**numbers, "m/weight_7": BAD}))
    assert assess(tmp_path / "a.zip").rating == "dangerous"


def test_a_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.pt")
    assert CliRunner().invoke(main, ["inspect", str(tmp_path / "x.pt")]).exit_code == 3


class Inert:
    """Stands for whatever a pickle imports, and does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return object.__new__(cls)

    def __setstate__(self, _: Any) -> None: ...
    def __setitem__(self, _: Any, __: Any) -> None: ...
    def append(self, _: Any) -> None: ...
    def extend(self, _: Any) -> None: ...
    def add(self, _: Any) -> None: ...
    def __hash__(self) -> int:
        return 0


class Recorder:
    """Mixed into an unpickler of the standard library: records names, and imports nothing."""

    names: set[tuple[str, str]]

    def find_class(self, module: str, name: str) -> Any:
        self.names.add((module, name))
        return Inert

    def persistent_load(self, _: Any) -> Any:
        return None


class InC(Recorder, pickle.Unpickler): ...


class InPython(Recorder, pickle._Unpickler): ...  # damaged numbers make the other take much memory


@pytest.mark.parametrize("protocol", range(6))
def test_every_name_that_pickle_would_import_is_found(tmp_path: Path, protocol: int) -> None:
    """In sound and damaged pickles; the unpickler of the standard library stops at the damage."""
    value = [argparse.Namespace(a=1), {"b": datetime.date(2024, 1, 1)}, collections.Counter("aa")]
    seen = sum(
        compare(tmp_path, data, kind) for data, _ in OPCODES.values() for kind in (InC, InPython)
    )
    for data in damaged(pickle.dumps([value, value], protocol)):
        seen += compare(tmp_path, data, InPython)
    assert seen > 500


def compare(tmp_path: Path, data: bytes, unpickler: type[InC] | type[InPython]) -> int:
    recorder = unpickler(io.BytesIO(data))
    recorder.names = set()
    with suppress(Exception):  # whatever damage does
        recorder.load()
    (tmp_path / "x.pt").write_bytes(data)
    found = Found()
    look_through_source(tmp_path / "x.pt", found)
    ours = {(reference.module, reference.name) for _, reference in found.names}
    assert recorder.names <= ours, data
    for module in {reference.module.partition(".")[0] for reference in found.failing}:
        assert find_spec(module) is None, data  # so leaving it out of the answer hides nothing
    return len(recorder.names)


MANY = b"".join(b"cm\nx%d\n" % i for i in range(20_000))
LONG = {
    "opcodes": (b"N0" * 800_000 + SYSTEM, "unknown"),
    "memo": (
        b"N" + b"".join(b"r" + struct.pack("<I", i) for i in range(900_000)),
        "unknown",
    ),
    "a large stack": (b"N" * 1_800_000 + SYSTEM, "unknown"),
    "a dangerous name after many": (MANY + SYSTEM, "unknown"),
    "a dangerous name before many": (SYSTEM + MANY, "dangerous"),
    "a long name": (b"cos\n" + b"x" * 10**7, "dangerous"),
}


@pytest.mark.parametrize("case", LONG)
def test_a_pickle_that_is_too_long_is_unknown_at_best(tmp_path: Path, case: str) -> None:
    data, rating = LONG[case]
    assert assessed(tmp_path, data).rating == rating


@pytest.mark.slow  # tracemalloc takes its time
@pytest.mark.parametrize("case", LONG)
def test_memory_is_bounded(tmp_path: Path, case: str) -> None:
    (tmp_path / "x.pt").write_bytes(LONG[case][0])
    tracemalloc.start()
    assess(tmp_path / "x.pt")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6


def test_long_data_is_skipped_without_reading_it(tmp_path: Path) -> None:
    path, size = tmp_path / "x.pt", 3 << 30
    path.write_bytes(b"\x80\4\x8e" + struct.pack("<Q", size))
    with path.open("r+b") as file:
        file.seek(size, os.SEEK_END)
        file.write(BAD[2:])
    tracemalloc.start()
    [found] = assess(path).names
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()
    assert (found.name, found.offset) == ("os.system", 11 + size + BAD.index(b"\x93") - 2)


# The public test cases of picklescan, rebuilt from what each of them calls.
PUBLIC = """builtins:eval posix:system httplib:HTTPSConnection requests.api:get
    aiohttp.client:ClientSession socket:create_connection subprocess:run sys:exit pickle:loads
    _pickle:loads __builtin__:exec operator:attrgetter runpy:_run_code bdb:Bdb.run pip:main
    torch._inductor.codecache:compile_file pydoc:pipepager torch.serialization:load venv:create
    timeit:timeit numpy.testing._private.utils:runstring _io:FileIO logging:FileHandler
    types:CodeType urllib.request:urlopen ssl:get_server_certificate
    cloudpickle.cloudpickle:_make_function cloudpickle.cloudpickle:subimport
    idlelib.pyshell:ModifiedInterpreter.runcode idlelib.debugobj:ObjectTreeItem.SetText ctypes:CDLL
    _operator:attrgetter _operator:methodcaller cProfile:run cProfile:runctx profile:run
    profile:Profile.runctx torch.utils.bottleneck.__main__:run_cprofile
    torch.utils.bottleneck.__main__:run_autograd_prof trace:Trace.run trace:Trace.runctx
    idlelib.autocomplete:AutoComplete.get_entity idlelib.calltip:Calltip.fetch_tip
    idlelib.run:Executive.runcode torch._dynamo.guards:GuardBuilder.get
    code:InteractiveInterpreter.runcode lib2to3.pgen2.grammar:Grammar.loads
    lib2to3.pgen2.pgen:ParserGenerator.make_label torch.utils.collect_env:run doctest:debug_script
    torch.fx.experimental.symbolic_shapes:ShapeEnv.evaluate_guards_expression
    _aix_support:_read_cmd_output imaplib:IMAP4_stream _osx_support:_read_output
    _pyrepl.pager:pipe_pager test.support.script_helper:assert_python_ok uuid:_get_command_stdout
    torch.utils.data.datapipes.utils.decoder:basichandlers distutils.file_util:write_file
    asyncio.unix_events:_UnixSubprocessTransport._start numpy.f2py.crackfortran:getlincoef pty:spawn
    torch.jit.unsupported_tensor_ops:execWrapper pkgutil:resolve_name ensurepip:_run_pip
    torch.utils._config_module:ConfigModule.load_config builtins:__import__ __builtin__:globals"""
TRICKS = {
    "a value of the memo that was never set": SYSTEM + b")R0" + text("os") + b"h\3\x93.",
    "a number for a name": SYSTEM + b")R0K\x2aq\0" + text("os") + b"h\0\x93.",
    "bytes behind the end": b"Vos\np2\n0Vsystem\np3\n0g2\ng3\n\x93(Vx\ntR.\n\n\t\t",
    "an attribute of a module set": text("torch")
    + text("_utils")
    + b"\x93}"
    + text("_rebuild_tensor")
    + text("builtins")
    + b"sb0"
    + text("torch._utils")
    + text("_rebuild_tensor")
    + b"\x93"
    + text("eval")
    + b"\x93"
    + text("1")
    + b"\x85R.",
    "functools.partial": call("functools:partial", argument=SYSTEM),
    "the magic number computed": call("__builtin__:eval", 2) + pickle.dumps(1001, 2),
    "a counter": pickle.dumps(collections.Counter("a")),
}
# picklescan warns of these names because it does not know them; they are harmless.
KNOWN_TO_US = {"collections.Counter"}


@pytest.mark.parametrize("wrap", [False, True], ids=["pickle", "zip"])
def test_everything_that_picklescan_flags_is_flagged(tmp_path: Path, wrap: bool) -> None:
    scanner = pytest.importorskip("picklescan.scanner")
    logging.disable(logging.CRITICAL)
    cases = {
        **TRICKS,
        **{name: data for name, (data, _) in OPCODES.items()},
        **{f"{n} {p}": call(n, p) for n in PUBLIC.split() for p in range(6)},
        **({} if wrap else REFUSED),
    }
    flagged = 0
    for case, data in cases.items():
        content = packed({"m/data.pkl": data}) if wrap else data
        found = assessed(tmp_path, content)
        theirs = scanner.scan_bytes(io.BytesIO(content), "x", ".pkl").globals
        levels = {
            one.safety.value for one in theirs if f"{one.module}.{one.name}" not in KNOWN_TO_US
        }
        if "dangerous" in levels:
            assert found.rating == "dangerous", case
        elif "suspicious" in levels:
            assert found.rating != "harmless", case
        flagged += bool(levels - {"innocuous"})
    logging.disable(logging.NOTSET)
    assert flagged > 400


def test_every_name_that_picklescan_calls_dangerous_is_dangerous() -> None:
    """Except functools.partial, which Lightning saves: what it would call has its own rating."""
    scanner = pytest.importorskip("picklescan.scanner")
    names = {
        (module, name)
        for module, listed in scanner._unsafe_globals.items()
        for name in ({"x"} if listed == "*" else {listed} if isinstance(listed, str) else listed)
    }
    assert len(names) > 80
    missed = {f"{m}.{n}" for m, n in names if rate(m, n) != "dangerous"}
    assert missed == {"functools.partial"}


def write(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


WRAP = b"cmy_project\nwrap\n"  # a name that nobody knows, which is not called itself
SPACE = b"cargparse\nNamespace\n)\x81"
NODE = b"comegaconf.nodes\nAnyNode\n)\x81}" + write("_val") + WRAP + b"sb"
# Harmless functions and classes that call what is in the object they are given.
CALLED_BY_OTHERS = {
    "a method of an argument": b"cbuiltins\ndict\n" + SPACE + b"}" + write("keys") + WRAP
    + b"sb\x85R.",
    "a value that becomes a method": b"comegaconf.dictconfig\nDictConfig\n)\x81}"
    + write("_content") + b"}" + write("append") + NODE + b"ssb" + write("x") + b"a.",
    "put into a dict that an object has": SPACE + b"}" + write("x") + b"}q\0sbh\0" + write("keys")
    + WRAP + b"s0.",
    "put into a dict and replaced": b"}q\0" + write("keys") + WRAP + b"s0" + SPACE + b"h\0b0h\0"
    + write("keys") + b"Ns.",
    "an item of an object": b"clightning.fabric.utilities.data\nAttributeDict\n)\x81"
    + write("keys") + WRAP + b"s.",
}  # fmt: skip


@pytest.mark.parametrize("case", CALLED_BY_OTHERS)
def test_what_is_in_an_object_may_be_called(tmp_path: Path, case: str) -> None:
    safety = assessed(tmp_path, b"\x80\2" + CALLED_BY_OTHERS[case])
    assert [name.name for name in safety.unknown_calls] == ["my_project.wrap"]
    assert not safety.passes()


@pytest.mark.parametrize("container", [b"}", b"ccollections\nOrderedDict\n)R"])
def test_what_is_in_a_dict_is_only_imported(tmp_path: Path, container: bytes) -> None:
    safety = assessed(tmp_path, b"\x80\2" + container + write("keys") + WRAP + b"s.")
    assert (safety.rating, safety.passes()) == ("unknown", True)


GETATTR = b"c__builtin__\ngetattr\nq\0"
BUFFER = b"cmmengine.logging.history_buffer\nHistoryBuffer\n"


@pytest.mark.parametrize(
    ("data", "names"),
    [
        (GETATTR + BUFFER + write("mean") + b"\x86R.", ["HistoryBuffer", "HistoryBuffer.mean"]),
        (
            GETATTR + BUFFER + write("mean") + b"\x86R0h\0"
            + BUFFER + write("__init__") + b"\x86R.",
            ["HistoryBuffer.__init__", "HistoryBuffer", "HistoryBuffer.mean"],
        ),
        (GETATTR + BUFFER + write("a.b") + b"\x86R.", ["getattr", "HistoryBuffer"]),
        (GETATTR + SPACE + write("mean") + b"\x86R.", ["getattr", "Namespace"]),
        (GETATTR + BUFFER + write("mean") + b"\x86R0h\0.", [
            "getattr", "HistoryBuffer", "HistoryBuffer.mean"]),
    ],
    ids=["one", "two", "with a dot", "of an object", "getattr itself"],
)  # fmt: skip
def test_getattr_of_a_class_is_a_name_in_it(tmp_path: Path, data: bytes, names: list[str]) -> None:
    """As ``pickle`` writes a class in a class, or a method, in protocols 0 to 3."""
    safety = assessed(tmp_path, b"\x80\2" + data)
    assert [
        re.sub(r"^(__builtin__|argparse|mmengine[a-z_.]*)[.]", "", name.name)
        for name in safety.names
    ] == names
    assert safety.passes() == (len(names) == 2 and "getattr" not in names)


@pytest.mark.filterwarnings("ignore:torch.distributed is")  # torch warns: on one machine
class TestTheBound:
    """What is not looked at because there is too much is named, once."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """A folder of torch.distributed.checkpoint whose tensors lie in one file."""
        tensors = {str(number): torch.zeros(2) for number in range(4)}
        save(tensors, checkpoint_id=tmp_path / "dcp", no_dist=True)
        return tmp_path / "dcp"

    def test_pieces_behind_it_are_named_wherever_it_is_reached(self, folder: Path) -> None:
        whole = Found()
        look_through_source(folder, whole)
        assert whole.unscanned == []
        needed = Found().entries - whole.entries
        for entries in range(1, needed):
            found = Found(entries=entries)
            look_through_source(folder, found)
            [left] = found.unscanned
            assert left.endswith("there is more than is looked through")
        enough = Found(entries=needed)
        look_through_source(folder, enough)
        assert enough.unscanned == []

    def test_and_so_are_entries_of_an_archive(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
            for number in range(9):
                archive.writestr(f"{number}.pkl", call("os:system"))
        found = Found(entries=5)
        look_through_source(tmp_path / "many.zip", found)
        assert len(found.unscanned) == 1
        assert 0 < len({where for where, _ in found.names}) < 9


def test_the_same_bytes_are_scanned_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("once.pkl", call("os:system"))
    with monkeypatch.context() as nothing_is_remembered:
        nothing_is_remembered.setattr(find_pickles, "_REMEMBERED", 0)
        expected = assess(path)
    assert assess(path) == expected
    monkeypatch.setattr(find_pickles, "scan", None)
    assert assess(path) == expected
