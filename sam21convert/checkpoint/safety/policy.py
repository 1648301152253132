"""The pickle policy: how dangerous each global is that a pickle may import.

Harmless are the names that ``torch.save`` writes and ``torch.load(weights_only=True)`` allows, and
types of plain data, which run nothing of what is passed to them. Dangerous are names that run code
or commands, import modules, unpickle, access files or the network, or look up any object by its
name. Both lists come from reading the libraries. Everything that picklescan lists as unsafe is
dangerous here, except ``functools.partial``. All other names are unknown, which is no better when
they are called: the list of dangerous names only serves to say more.
"""

from __future__ import annotations

from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from typing import Literal, TypeAlias

from ...io.pickle.references import COMPUTED

Rating: TypeAlias = Literal["harmless", "unknown", "dangerous"]
RATINGS: tuple[Rating, ...] = ("harmless", "unknown", "dangerous")


_LONGEST = 400  # characters: no module has a longer name


def rate(module: str, name: str) -> Rating:
    """Rate a global.

    Args:
        module: The module as the pickle spells it, with its name in Python 2 or 3.
        name: The name in the module; dots reach attributes.

    Returns:
        ``"harmless"``, ``"unknown"`` or ``"dangerous"``. A name that the pickle computes is
        dangerous, and so is one with dots, which reaches any module through any other, unless all
        of it is in the list of harmless names.
    """
    now = _in_python3(module, name)
    if now in HARMLESS and COMPUTED not in (module, name):
        return "harmless"
    return "dangerous" if "." in name or does_harm(module, name) else "unknown"


def does_harm(module: str, name: str) -> bool:
    """Whether a global is known to do harm, or can be anything.

    Args:
        module: The module as the pickle spells it.
        name: The name in the module.

    Returns:
        True also for a name that the pickle computes.
    """
    full = f"{module}.{name}"
    if COMPUTED in (module, name) or len(full) > _LONGEST:
        return True
    return _is_dangerous(full) or _is_dangerous(_in_python3(module, name))


def in_words(module: str, name: str) -> str | None:
    """Say in plain words what calling a global does, for the kinds that attacks use.

    Args:
        module: The module as the pickle spells it.
        name: The name in the module.

    Returns:
        Such as ``"runs a command"``; None for any other name.
    """
    if len(module) + len(name) > _LONGEST:
        return None
    segments = _in_python3(module, name).split(".")
    starts = (".".join(segments[:count]) for count in range(len(segments), 0, -1))
    return next((_WORDS[start] for start in starts if start in _WORDS), None)


def _in_python3(module: str, name: str) -> str:
    """The full name that ``pickle`` looks up when the pickle was written by Python 2."""
    if (module, name) in NAME_MAPPING:
        return ".".join(NAME_MAPPING[module, name])
    return f"{IMPORT_MAPPING.get(module, module)}.{name}"


def _is_dangerous(full: str) -> bool:
    if full in HARMLESS or full in EXCEPTIONS:
        return False
    segments = full.removeprefix("__torch__.").split(".")  # how TorchScript begins its own names
    return (
        any(".".join(segments[:count]) in DANGEROUS for count in range(1, len(segments) + 1))
        or not REACHED.isdisjoint(segments)
        or any(_is_special(segment) for segment in segments)
    )


def _is_special(segment: str) -> bool:
    """Whether it is a name such as ``__globals__``, from which all others can be reached."""
    special = segment.startswith("__") and segment.endswith("__")
    return special and segment not in ("__main__", "__builtin__")


def _names(table: dict[str, str]) -> frozenset[str]:
    """Full names, from a table of modules and the names in each."""
    return frozenset(
        f"{module}.{name}" for module, names in table.items() for name in names.split()
    )


_ELEMENTS = "Bool Byte Char Short Int Long Half BFloat16 Float Double"
_STORED = f"{_ELEMENTS} ComplexFloat ComplexDouble QInt8 QInt32 QUInt8 QUInt4x2 QUInt2x4 Untyped"
_STORAGES = " ".join(f"{kind}Storage" for kind in _STORED.split())
_TENSORS = " ".join(f"{kind}Tensor" for kind in _ELEMENTS.split())

_PATHS = "PurePath PurePosixPath PureWindowsPath Path PosixPath WindowsPath"

HARMLESS = _names(
    {
        # Tensors, as torch.save and torch.distributed.checkpoint write them.
        "torch": f"""{_STORAGES} {_TENSORS} Tensor Size device
            bool uint1 uint2 uint3 uint4 uint5 uint6 uint7 uint8 uint16 uint32 uint64
            int1 int2 int3 int4 int5 int6 int7 int8 int16 int32 int64
            float4_e2m1fn_x2 float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz
            float8_e8m0fnu float16 bfloat16 float32 float64
            bcomplex32 complex32 complex64 complex128
            bits8 bits16 bits1x8 bits2x4 bits4x2 qint8 qint32 quint8 quint4x2 quint2x4
            per_tensor_affine per_tensor_symmetric per_channel_affine per_channel_symmetric
            per_channel_affine_float_qparams strided sparse_coo contiguous_format channels_last
            preserve_format""",
        "torch.cuda": f"{_STORAGES} {_TENSORS}",
        "torch.sparse": _TENSORS,
        "torch.cuda.sparse": _TENSORS,
        "torch.storage": f"{_STORAGES} TypedStorage",
        "torch.nn.parameter": "Parameter Buffer",
        "torch.nn.modules.container": "ParameterList ParameterDict",
        "torch._C": "Generator",
        "torch._tensor": "_rebuild_from_type_v2",
        "torch._utils": """_rebuild_tensor _rebuild_tensor_v2 _rebuild_tensor_v3 _rebuild_parameter
            _rebuild_parameter_with_state _rebuild_qtensor _rebuild_sparse_tensor
            _rebuild_nested_tensor _rebuild_meta_tensor_no_storage _rebuild_wrapper_subclass
            _rebuild_device_tensor_from_cpu_tensor _rebuild_device_tensor_from_numpy""",
        "torch.serialization": "_get_layout",
        "torch.torch_version": "TorchVersion",
        "torch.distributed.checkpoint.metadata": """Metadata MetadataIndex TensorStorageMetadata
            ChunkStorageMetadata BytesStorageMetadata TensorProperties StorageMeta
            _MEM_FORMAT_ENCODING""",
        "torch.distributed.checkpoint.filesystem": "_StorageInfo",
        # Plain data.
        "builtins": """object bool int float complex str bytes bytearray list tuple dict set
            frozenset slice range Ellipsis NotImplemented""",
        "collections": "OrderedDict defaultdict Counter deque",
        "_codecs": "encode",
        "copyreg": "_reconstructor __newobj__",
        "argparse": "Namespace",
        "types": "SimpleNamespace",
        "typing": "Any Dict List Tuple Union",
        "datetime": "date datetime time timedelta timezone",
        "decimal": "Decimal",
        "fractions": "Fraction",
        "pathlib": _PATHS,
        "pathlib._local": _PATHS,  # in Python 3.13
        "numpy": """dtype ndarray bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16
            float32 float64 complex64 complex128 str_""",
        "numpy.core.multiarray": "scalar _reconstruct",
        "numpy._core.multiarray": "scalar _reconstruct",
        "numpy.core.numeric": "_frombuffer",
        "numpy._core.numeric": "_frombuffer",
        "numpy.dtypes": """BoolDType Int8DType Int16DType Int32DType Int64DType UInt8DType
            UInt16DType UInt32DType UInt64DType Float16DType Float32DType Float64DType
            Complex64DType Complex128DType StrDType""",
        "numpy.random._pickle": "__randomstate_ctor __generator_ctor __bit_generator_ctor",
        "numpy.random._mt19937": "MT19937",
        "numpy.random._pcg64": "PCG64 PCG64DXSM",
        "numpy.random._philox": "Philox",
        "numpy.random._sfc64": "SFC64",
        "numpy.random.bit_generator": "SeedSequence __pyx_unpickle_SeedSequence",
        "omegaconf.dictconfig": "DictConfig",
        "omegaconf.listconfig": "ListConfig",
        "omegaconf.base": "ContainerMetadata Metadata",
        "omegaconf.nodes": """AnyNode BooleanNode BytesNode EnumNode FloatNode IntegerNode PathNode
            StringNode""",
        "pytorch_lightning.utilities.parsing": "AttributeDict",
        "lightning.pytorch.utilities.parsing": "AttributeDict",
        "lightning.fabric.utilities.data": "AttributeDict",
        "lightning_fabric.utilities.data": "AttributeDict",
        "yacs.config": "CfgNode",
        "fvcore.common.config": "CfgNode",
        "easydict": "EasyDict",
        "addict.addict": "Dict",
        "mmengine.config.config": "ConfigDict",
        # What trainers keep beside weights.
        "mmengine.logging.history_buffer": """HistoryBuffer HistoryBuffer.min HistoryBuffer.max
            HistoryBuffer.current HistoryBuffer.mean""",
        "fastcore.foundation": "L",
        "deepspeed.runtime.fp16.loss_scaler": "LossScaler DynamicLossScaler",
        "deepspeed.runtime.zero.config": "ZeroStageEnum",
        "deepspeed.utils.tensor_fragment": "fragment_address",
    }
)

# What a call does, by the name of a global or the beginning of it; the longest counts.
_WORDS = {
    name: words
    for words, names in {
        "runs a command": """os.system os.popen os.execl os.execle os.execlp os.execlpe os.execv
            os.execve os.execvp os.execvpe os.spawnl os.spawnle os.spawnlp os.spawnlpe os.spawnv
            os.spawnve os.spawnvp os.spawnvpe os.startfile os.posix_spawn os.posix_spawnp
            posix.system posix.popen posix.execv posix.execve posix.posix_spawn posix.posix_spawnp
            nt.system nt.startfile nt.execv nt.execve nt.spawnv subprocess _posixsubprocess commands
            pty.spawn asyncio.create_subprocess_exec asyncio.create_subprocess_shell""",
        "starts another process": "os.fork posix.fork multiprocessing torch.multiprocessing",
        "runs Python code": """builtins.eval builtins.exec builtins.execfile builtins.compile runpy
            code codeop timeit profile cProfile pdb bdb trace doctest pandas.eval torch.compile
            numexpr numpy.f2py types.CodeType types.FunctionType marshal""",
        "imports code": "builtins.__import__ builtins.reload importlib imp pkgutil zipimport site",
        "unpickles more, which may run code": """pickle _pickle cPickle dill cloudpickle joblib
            shelve jsonpickle torch.load torch.serialization torch.storage._load_from_bytes
            numpy.load pandas.read_pickle pandas.io.pickle""",
        "opens a file": "builtins.open io _io codecs.open os.open posix.open nt.open",
        "changes files": """os.remove os.unlink os.rmdir os.removedirs os.rename os.replace os.mkdir
            os.makedirs os.chmod os.chown os.link os.symlink os.truncate posix.remove posix.unlink
            posix.rmdir posix.rename posix.replace posix.mkdir posix.chmod posix.chown posix.link
            posix.symlink posix.truncate nt.remove nt.unlink nt.rmdir nt.rename nt.mkdir shutil
            tempfile pathlib""",
        "sends or receives data over the network": """socket _socket ssl http httplib urllib urllib2
            urllib3 requests httpx aiohttp ftplib smtplib telnetlib poplib imaplib nntplib xmlrpc
            boto3 paramiko huggingface_hub""",
        "downloads code and runs it": "torch.hub",
        "opens a web page": "webbrowser",
        "loads a native library": "ctypes _ctypes cffi torch.ops.load_library torch.classes",
        "looks up anything by its name": """builtins.getattr builtins.globals builtins.locals
            builtins.vars operator.attrgetter operator.methodcaller operator.itemgetter
            _operator.attrgetter _operator.methodcaller""",
        "changes other objects": "builtins.setattr builtins.delattr",
        "ends the program": "builtins.exit builtins.quit os._exit os.abort posix._exit posix.abort",
    }.items()
    for name in names.split()
}

# Names in dangerous modules that are rated unknown.
EXCEPTIONS = _names(
    {
        "uuid": "UUID SafeUUID",
        "types": "MappingProxyType GenericAlias NoneType",
        "io": "BytesIO StringIO",
        "_io": "BytesIO StringIO",
        # What TorchScript calls in its own pickles; each returns what it is given.
        "torch.jit._pickle": """build_intlist build_tensorlist build_doublelist build_boollist
            build_tensor_from_id restore_type_tag""",
    }
)

# Each name includes everything in it. A module that is dangerous only in parts is listed by these.
DANGEROUS = frozenset(
    """
    os posix nt ntpath posixpath subprocess _posixsubprocess commands popen2 pty multiprocessing
    _winapi winreg msvcrt signal asyncio concurrent threading _thread sched atexit

    builtins.eval builtins.exec builtins.compile builtins.execfile builtins.getattr builtins.setattr
    builtins.delattr builtins.__import__ builtins.open builtins.file builtins.input
    builtins.raw_input builtins.breakpoint builtins.globals builtins.locals builtins.vars
    builtins.apply builtins.map builtins.filter builtins.exit builtins.quit builtins.help
    builtins.reload builtins.memoryview
    operator _operator types code codeop inspect

    importlib imp _imp _frozen_importlib _frozen_importlib_external zipimport runpy pkgutil site
    sys gc _testcapi copyreg marshal weakref

    pickle _pickle cPickle pickletools dill cloudpickle joblib shelve jsonpickle yaml.load
    yaml.unsafe_load yaml.full_load yaml.unsafe pandas.read_pickle pandas.io.pickle pandas.eval
    pandas.core.computation sklearn.externals.joblib

    io _io _pyio codecs.open shutil glob fileinput tempfile linecache pathlib zipfile tarfile
    gzip.open bz2.open lzma.open mmap dbm sqlite3 _sqlite3 logging.FileHandler logging.config
    logging.handlers ctypes _ctypes cffi fcntl
    distutils setuptools pip ensurepip venv _osx_support _aix_support _pyrepl

    socket _socket socketserver ssl _ssl http httplib urllib urllib2 urllib3 requests httpx aiohttp
    ftplib smtplib telnetlib poplib imaplib nntplib xmlrpc webbrowser antigravity uuid paramiko
    websocket websockets boto3 huggingface_hub

    bdb pdb cmd trace tracemalloc profile cProfile hotshot pstats timeit doctest unittest test
    pydoc idlelib lib2to3 turtledemo IPython ipykernel ptpython pytest _pytest sympy.sympify
    numexpr

    torch.load torch.serialization torch.storage._load_from_bytes torch.jit torch._jit_internal
    torch.hub torch.package torch.compile torch.compiler torch._dynamo torch._inductor torch._export
    torch.export torch.fx torch.ops torch.classes torch._classes torch._ops torch.library
    torch.onnx torch.testing torch.multiprocessing torch.monitor
    torch.distributed.rpc torch.distributed.run torch.distributed.launch torch.distributed.launcher
    torch.distributed.elastic torch.distributed.nn torch.distributed.distributed_c10d
    torch.utils.cpp_extension torch.utils._cpp_extension_versioner torch.utils.bottleneck
    torch.utils.collect_env torch.utils.hipify torch.utils.model_zoo torch.utils.data.datapipes
    torch.utils._config_module torch.utils.show_pickle torch.utils.benchmark torch.utils.tensorboard
    torch.utils.mobile_optimizer torch.utils.file_baton torch.utils.model_dump
    torch._utils_internal torch._appdirs torch._vendor torch._sources torch._lobpcg torchvision.io
    torchaudio.io torchgen functorch.compile triton

    numpy.f2py numpy.testing numpy.distutils numpy.ctypeslib numpy.load numpy.save numpy.savez
    numpy.memmap numpy.fromfile numpy.loadtxt numpy.genfromtxt numpy.lib numpy.vectorize
    numpy.fromfunction numpy.apply_along_axis numpy.core.memmap numpy.ndarray
    scipy.io scipy.LowLevelCallable

    tensorflow keras tf_keras mxnet.gluon onnxruntime transformers.dynamic_module_utils
    hydra.utils hydra._internal omegaconf.resolvers fsspec wandb.sdk
    lightning.fabric.utilities.cloud_io
    """.split()  # noqa: SIM905
)

# Modules that many others import: the name ``os.system`` in ``torch.nn.functional`` reaches ``os``.
REACHED = frozenset(
    """os posix nt subprocess sys builtins importlib runpy pkgutil pickle _pickle shutil socket
    ctypes pty multiprocessing asyncio tempfile inspect ast operator zipfile tarfile urllib requests
    """.split()  # noqa: SIM905
)
