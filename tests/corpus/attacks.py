"""Pickles that run something when they are loaded: each would leave a file ``fired`` behind."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

from .case import CARRIED, Case, written
from .spelling import LEGACY, call, model_zip, safetensors, spelled, torch_zip

TOUCH = b"echo fired > fired"
SHELL = spelled(TOUCH.decode())
PYTHON = spelled("__import__('os').system('echo fired > fired')")

# All call os.system; the name says with which opcodes.
ATTACKS = {
    name: data % TOUCH
    for name, data in {
        "GLOBAL REDUCE": b"cos\nsystem\n(V%s\ntR.",
        "STACK_GLOBAL REDUCE": b"\x80\x04\x8c\x02os\x8c\x06system\x93(V%s\ntR.",
        "INST": b"(V%s\nios\nsystem\n.",
        "OBJ": b"(cos\nsystem\nV%s\no.",
        "NEWOBJ": b"\x80\x02cfunctools\npartial\n(cos\nsystem\nV%s\nt\x81)R.",
        "NEWOBJ_EX": b"\x80\x04cfunctools\npartial\n(cos\nsystem\nV%s\nt}\x92)R.",
        "BUILD": b"\x80\x02ctypes\nSimpleNamespace\n)R}V__setstate__\ncos\nsystem\nsbV%s\nb.",
        "nested REDUCE": (
            b"cbuiltins\ngetattr\n(c__builtin__\n__import__\n(Vos\ntRVsystem\ntR(V%s\ntR."
        ),
        "in a dict": b"}(Vmodel\ncposix\nsystem\n(V%s\ntRu.",
        "dotted name": b"\x80\x04\x8c\x06shutil\x8c\tos.system\x93(V%s\ntR.",
        "names from the memo": b"\x80\x04\x8c\x02os\x940\x8c\x06system\x940h\0h\1\x93(V%s\ntR.",
        "memo entry set twice": b"Np0\n0cos\nsystem\np0\n0g0\n(V%s\ntR.",
        "memo entry far off": b"\x80\x02cos\nsystem\nr\xff\xff\xff\0000j\xff\xff\xff\000(V%s\ntR.",
        "result thrown away": b"\x80\x02cos\nsystem\n(V%s\ntR0}.",
        "result below a mark": b"\x80\x02N(cos\nsystem\n(V%s\ntR1.",
        "broken after it": b"\x80\x02cos\nsystem\n(V%s\ntR\xff",
        "cut after it": b"\x80\x02cos\nsystem\n(V%s\ntR",
        "stack empty after it": b"\x80\x02cos\nsystem\n(V%s\ntR000.",
        "no memo entry after it": b"\x80\x02cos\nsystem\n(V%s\ntRh\x63.",
        "protocol 99 after it": b"\x80\x02cos\nsystem\n(V%s\ntR\x80\x63.",
        "second of two": b"\x80\x02N.\x80\x02cos\nsystem\n(V%s\ntR.",
        "third of three": b"\x80\x02]q\0.\x80\x04}\x94.\x80\x02cos\nsystem\n(V%s\ntR.",
    }.items()
}
IN_A_ROW = ("second of two", "third of three")
BROKEN = {
    "broken after it": "0xff is not an opcode",
    "cut after it": "ends before the pickle does",
    "stack empty after it": "no MARK",
    "no memo entry after it": "never set",
    "protocol 99 after it": "no pickle protocol 99",
}


def _method(of: bytes, name: str, *args: bytes) -> bytes:
    return call("builtins:getattr", of, spelled(name)) + b"(" + b"".join(args) + b"tR"


# What is called instead.
CALLS = {
    "os.system": call("os:system", SHELL),
    "posix.system": call("posix:system", SHELL),
    "os.mkdir": call("os:mkdir", spelled("fired")),
    "subprocess.call": call("subprocess:call", spelled(["sh", "-c", TOUCH.decode()])),
    "subprocess.check_output": call("subprocess:check_output", spelled(["touch", "fired"])),
    "subprocess.getoutput": call("subprocess:getoutput", SHELL),
    "builtins.eval": call("builtins:eval", PYTHON),
    "builtins.exec": call("builtins:exec", PYTHON),
    "builtins.open": call("builtins:open", spelled("fired"), spelled("w")),
    "io.open": call("io:open", spelled("fired"), spelled("w")),
    "_io.FileIO": call("_io:FileIO", spelled("fired"), spelled("w")),
    "builtins.__import__": _method(call("__builtin__:__import__", spelled("os")), "system", SHELL),
    "importlib.import_module": _method(
        call("importlib:import_module", spelled("os")), "system", SHELL
    ),
    "runpy._run_code": call(
        "runpy:_run_code",
        call("builtins:compile", PYTHON, spelled("a"), spelled("exec")),
        spelled({}),
    ),
    "timeit.timeit": call(
        "timeit:timeit",
        spelled("pass"),
        PYTHON,
    ),
    "cProfile.run": call("cProfile:run", PYTHON),
    "profile.run": call("profile:run", PYTHON),
    "bdb.Bdb": _method(call("bdb:Bdb"), "run", PYTHON),
    "code.InteractiveInterpreter": _method(
        call("code:InteractiveInterpreter"), "runsource", PYTHON
    ),
    "pydoc.pipepager": call("pydoc:pipepager", spelled(""), SHELL),
    "functools.partial": call("functools:partial", b"cos\nsystem\n", SHELL) + b")R",
    "functools.reduce": call(
        "functools:reduce", b"cbuiltins\neval\n", b"](" + PYTHON + spelled({}) + b"e"
    ),
    "operator.methodcaller": call("operator:methodcaller", spelled("system"), SHELL)
    + b"("
    + call("importlib:import_module", spelled("os"))
    + b"tR",
    "builtins.map": call(
        "builtins:list", call("builtins:map", b"cos\nsystem\n", b"](" + SHELL + b"e")
    ),
    "shutil.copyfile": call("shutil:copyfile", spelled("/dev/null"), spelled("fired")),
    "ctypes.CDLL": _method(
        call("ctypes:CDLL", b"N"), "system", call("builtins:bytes", spelled([*TOUCH]))
    ),
    "pickle.loads": call("pickle:loads", call("builtins:bytes", spelled([*ATTACKS["INST"]]))),
    "_pickle.loads": call("_pickle:loads", call("builtins:bytes", spelled([*ATTACKS["OBJ"]]))),
    "numpy.f2py.crackfortran.myeval": call(
        "numpy.f2py.crackfortran:myeval", PYTHON, spelled({}), spelled({})
    ),
    "torch.storage._load_from_bytes": call(
        "torch.storage:_load_from_bytes",
        call("builtins:bytes", spelled([*(LEGACY + ATTACKS["INST"])])),
    ),
    "torch.fx.graph_module._forward_from_src": call(
        "torch.fx.graph_module:_forward_from_src", PYTHON, spelled({})
    ),
    "torch.utils.collect_env.run": call("torch.utils.collect_env:run", SHELL),
}


class Evil:
    """Is pickled as a call, with every protocol."""

    def __reduce__(self) -> tuple[object, ...]:
        return eval, ("__import__('os').system('echo fired > fired')",)


def cases() -> Iterator[Case]:
    """Attacks alone, in archives, under wrong names, and beside an intact model."""
    for name, data in ATTACKS.items():
        said = "a pickle" if data.startswith(b"\x80") else "is text"
        if name in BROKEN:
            said = "it does not begin with the magic number"
        yield Case("pickle opcodes", name, written(data), (said,), loader="pickle")
        said = BROKEN.get(name, "holds no tensors by name")
        said = "bytes after its end" if name in IN_A_ROW else said
        loader = None if name in IN_A_ROW else "torch"
        yield Case("pickles in a zip", name, written(torch_zip(data)), (said,), loader=loader)
    for name, body in CALLS.items():
        says = ("holds no tensors by name", name)
        yield Case(
            "calls", name, written(torch_zip(b"\x80\x02" + body + b".")), says, loader="torch"
        )
    for protocol in range(6):
        data = pickle.dumps(Evil(), protocol)
        told = ("is ",) if protocol < 2 else ("a pickle", "builtins.eval")
        name = f"protocol {protocol}"
        yield Case("pickle protocols", name, written(data), told, loader="pickle")
        legacy = LEGACY + data + pickle.dumps([])
        says = ("holds no tensors by name", "builtins.eval")
        name += " in the legacy format"
        yield Case("pickle protocols", name, written(legacy), says, loader="torch")
    for file in ("a.safetensors", "model.bin", "a.ckpt", "a.pickle", "a.zip", "a.txt", "a"):
        data = ATTACKS["STACK_GLOBAL REDUCE"]
        yield Case("wrong suffix", file, written(data), ("a pickle",), file=file, loader="pickle")
    yield from _beside_a_model()


def _beside_a_model() -> Iterator[Case]:
    """An attack beside the tensors is ignored; in place of a tensor, the file is refused."""
    attack = CALLS["os.system"]
    name = "no_mem_embed"
    for where, made in {
        "next to the state dict": model_zip(beside=spelled("a") + attack),
        "in the state dict": model_zip(inside=spelled("a") + attack),
        "as a key": model_zip(beside=attack + b"N"),
        "as the value of an attribute": model_zip(
            beside=spelled("a")
            + call("types:SimpleNamespace")
            + b"}"
            + spelled("b")
            + attack
            + b"sb"
        ),
    }.items():
        yield Case("beside a model", where, written(made), codes=CARRIED, loader="torch")
    for where, stub in {
        "what a call returns": attack,
        "a call of a tensor function": call("torch._utils:_rebuild_tensor_v2", attack),
        "a call as a storage": call(
            "torch._utils:_rebuild_tensor_v2",
            attack,
            *map(spelled, (0, (1, 1, 64), (64, 64, 1), False, {})),
        ),
        "a parameter of a call": call("torch._utils:_rebuild_parameter", attack, b"\x89", b"}"),
        "a type of a call": call(
            "torch._tensor:_rebuild_from_type_v2", b"cos\nsystem\n", b"ctorch\nTensor\n",
            b"(" + SHELL + b"t", b"}",
        ),
        "a persistent id with a call": b"(" + spelled("storage") + attack + b"tQ",
    }.items():  # fmt: skip
        says = ("does not describe a storage",) if "persistent" in where else (name,)
        says = ("unexpected arguments",) if "function" in where else says
        file = written(model_zip(stubs={name: stub}))
        yield Case("in place of a tensor", where, file, says, loader="torch")
    yield Case(
        "wrong suffix",
        "a zip as a picture",
        written(model_zip(beside=spelled("a") + attack)),
        codes=CARRIED,
        file="a.png",
        loader="torch",
    )
    yield Case(
        "wrong suffix",
        "safetensors as a pickle",
        written(safetensors({})),
        ("holds no tensors by name",),
    )
