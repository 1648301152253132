"""The grammar of the inputs: how to split each format into pieces, and its own words."""

from __future__ import annotations

import io
import pickletools
import re
import zipfile
from itertools import chain, pairwise
from struct import pack

HEADER = b'{"w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}'

NUMBERS = tuple(
    pack(form, value)
    for form, values in {
        "<B": (0, 1, 0x7F, 0xFF),
        "<H": (0, 0x7FFF, 0xFFFF),
        "<I": (0, 1, 2**31 - 1, 2**31, 2**32 - 1),
        "<Q": (0, 2**31, 2**63 - 1, 2**63, 2**64 - 1),
    }.items()
    for value in values
)


def zip_of(pickled: bytes) -> bytes:
    """An intact archive of ``torch.save`` with this pickle and one storage of 24 bytes."""
    file = io.BytesIO()
    entries = {"a/data.pkl": pickled, "a/byteorder": b"little", "a/data/0": bytes(range(24))}
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in entries.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return file.getvalue()


def one_tensor(shape: tuple[int, int] = (2, 3)) -> bytes:
    """The pickle of a tensor of six numbers, as ``torch.save`` spells it."""
    rows, columns = shape
    storage = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x06tQ"
    layout = b"K\0K%cK%c\x86K%cK\x01\x86\x89" % (rows, columns, columns)
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n"
    return b"\x80\x02" + rebuild + b"(" + storage + layout + b"ccollections\nOrderedDict\n)RtR."


def safetensors_of(header: bytes) -> bytes:
    """A file with this header and 24 bytes of data."""
    return pack("<Q", len(header)) + header + bytes(24)


def opcodes(data: bytes) -> list[bytes]:
    """Split pickles into opcodes; anything that is not an opcode is one piece at the end."""
    cuts, start = [0], 0
    try:
        while start < len(data):
            for _, _, at in pickletools.genops(data[start:]):
                cuts.append(start + (at or 0))
            start = data.index(b".", cuts[-1]) + 1
            cuts.append(start)
    except Exception:  # of many kinds, where the standard library does not expect such bytes
        pass
    return [data[one:other] for one, other in pairwise([*cuts, len(data)]) if one < other]


def records(data: bytes) -> list[bytes]:
    """Split a zip archive into the fields of its records, of two or four bytes."""
    fields = {
        b"PK\1\2": "4HHHHHH444HHHHH44",
        b"PK\3\4": "4HHHHH444HH",
        b"PK\5\6": "4HHHH44H",
        b"PK\6\6": "48HH448888",
        b"PK\6\7": "4484",
    }
    found = []
    for part in re.split(rb"(?=PK[\1\3\5\6][\2\4\6\7])", data):
        at = 0
        for width in fields.get(part[:4], "").replace("H", "2"):
            found.append(part[at : at + int(width)])
            at += int(width)
        found.append(part[at:])
    return [piece for piece in found if piece]


def tokens(data: bytes) -> list[bytes]:
    """Split JSON into tokens."""
    return re.findall(rb'"(?:[^"\\]|\\.)*"|[0-9.eE+-]+|\w+|.', data, re.DOTALL)


def lines(data: bytes) -> list[bytes]:
    """Split YAML into words, marks and line breaks."""
    return re.findall(rb"[A-Za-z0-9_./]+|\n *|.", data, re.DOTALL)


LINES = (
    *(
        b"\n- ",
        b"\n  ",
        b": ",
        b"&a ",
        b"*a",
        b"<<: *a",
        b"[*a, *a]",
        b"{",
        b"}",
        b"[",
        b"]",
        b"? ",
    ),
    *(
        b"!!python/name:os.system ",
        b"!!binary ",
        b"---\n",
        b"...\n",
        b"|\n",
        b">-\n",
        b"#",
        b"'",
        b'"',
    ),
    *(b"%YAML 1.1\n", b"\t", b"\0", b"\xff", b"\xc3\xa9", b"~", b"1e999", b"0x1F", b"2001-01-01"),
    *(
        b"source",
        b"name",
        b"image_size",
        b"generation",
        b"to",
        b"config",
        b"../../x",
        b"https://a/b",
    ),
    *(b"[" * 200, b"- " * 200, b"a: " * 3, b"9" * 5000, b"\\u0000", b"\xe2\x80\xae", b"\r\n"),
)
_GLOBALS = (
    *("os system", "builtins eval", "builtins set", "builtins bytes", "builtins bytearray"),
    *("builtins complex", "_codecs encode", "collections OrderedDict", "collections Counter"),
    *("collections defaultdict", "torch FloatStorage", "torch HalfStorage", "torch Size"),
    *("torch QInt8Storage", "torch ComplexDoubleStorage", "torch.storage UntypedStorage"),
    *("torch device", "torch float32", "torch uint16", "torch.nn.parameter Parameter"),
    *("torch Tensor", "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_tensor_v3"),
    *("torch._utils _rebuild_parameter", "torch._tensor _rebuild_from_type_v2"),
    *("torch.distributed.checkpoint.metadata Metadata", "numpy dtype"),
    *("torch.distributed.checkpoint.metadata MetadataIndex",),
    *("torch.distributed.checkpoint.metadata TensorStorageMetadata",),
    *("torch.distributed.checkpoint.metadata ChunkStorageMetadata",),
    *("torch.distributed.checkpoint.filesystem _StorageInfo",),
)
_KEYS = ("storage", "module", "0", "cpu", "latin1", "w", "fqn", "offset", "offsets", "sizes")
OPCODES = (
    *(opcode.code.encode("latin-1") for opcode in pickletools.opcodes),
    *(b"c" + name.replace(" ", "\n").encode() + b"\n" for name in _GLOBALS),
    *(b"X" + pack("<I", len(key)) + key.encode() for key in _KEYS),
    *(code + value for code in (b"J", b"X", b"T", b"B", b"r", b"j", b"\x8b") for value in NUMBERS),
    *(code + value for code in (b"\x8d", b"\x8e", b"\x95", b"\x96") for value in NUMBERS[-5:]),
    *(b"\x8a\x08" + value for value in NUMBERS[-5:]),
    *(
        b"h\0",
        b"q\0",
        b"h\1",
        b"q\1",
        b"\x80\5",
        b"G\x7f\xf8" + bytes(6),
        b"I01\n",
        b"p0\n",
        b"g0\n",
    ),
    *(b")\x81", b"}b", b")R", b"(t", b"]a", b"}(", b"2\x86", b"0", b"\x94h\0", b"S'a'\n"),
    b"X" + pack("<I", 400) + "é".encode() * 200,
    *(b"\x85", b"\x86", b"\x87", b"Q", b"Pa\n", b"V\\ud800\n", b"L1L\n", b"F1e400\n", b"Fnan\n"),
)
RECORDS = (
    *NUMBERS,
    *(b"PK\1\2", b"PK\3\4", b"PK\5\6", b"PK\6\6", b"PK\6\7", b"a/data.pkl", b"a/data/0"),
    *(b"a/byteorder", b"little", b"big", b"../x", b"/x", b"a/\0", b"a/\xff", b"a/constants.pkl"),
    *(b"\1\0\x10\0", b"\1\0\x18\0" + b"\xff" * 24, b"up\x07\0\1", b"\x08\0", b"\x0e\0", b"\x63\0"),
)
TOKENS = (
    *(b"{", b"}", b"[", b"]", b",", b":", b"[" * 2000, b'{"a":' * 2000, b"{}", b"[]", b'""'),
    *(b"0", b"1", b"24", b"-1", b"-0", b"1.0", b"1e400", b"9" * 30, b"9" * 5000),
    *(str(value).encode() for value in (2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1, 2**64)),
    *(b"NaN", b"Infinity", b"true", b"null", b'"\\ud800"', b'"\\u0000"', b'"\xc3\xa9"', b"\xff"),
    *(f'"{key}"'.encode() for key in ("w", "dtype", "shape", "data_offsets", "__metadata__")),
    *(f'"{key}"'.encode() for key in ("F32", "BOOL", "F64", "F4", "weight_map", "metadata")),
    *(f'"{key}"'.encode() for key in ("model.safetensors", "../x", ".", "..", "", "x", "a\\u0000")),
    *(b"9223372036854775807," * 300, '"{}"'.format("é" * 200).encode()),
    b'"x":{"dtype":"F32","shape":[0],"data_offsets":[24,24]},',
)
_STARTS = (
    *(b"\x80\2", b"PK\5\6", b"GGUF", b"\x89HDF\r\n\x1a\n", b"\x93NUMPY", b"\x1f\x8b", b"BZh"),
    *(b"ustar", b"ftyp", b"TFL3", b"%PDF-", b"\x08\x07\x12", b"\x08\x07\x3a", b"<html", b"<?xml "),
    *(
        b"version https://git-lfs",
        b"<!--",
        b"-->",
        b"{",
        b'{"',
        b"[",
        b"\xef\xbb\xbf",
        b"\0\0\0\0{",
    ),
)
ANY = tuple(chain(_STARTS, RECORDS))
