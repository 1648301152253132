"""Headers of safetensors files and indices: large ones are read, and none is misread."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any, ClassVar

import pytest

from sam21convert.errors import RefusedError, Sam21ConvertError, UnreadableError
from sam21convert.io import safetensors
from sam21convert.io.json_scanner import JsonScanner, OtherKindError, TooLongError
from sam21convert.io.safetensors import read_safetensors, read_sharded, read_weight_map
from sam21convert.io.text import unique

from ..support.paths import ROOT

INDEX = "model.safetensors.index.json"


def entry(begin: int, end: int) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [(end - begin) // 4], "data_offsets": [begin, end]}


def saved(path: Path, header: Any, data: int = 0) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(data))
    return path


def names(path: Path) -> list[str]:
    return list(read_safetensors(path).root)


class TestScanner:
    VALUE: ClassVar[dict[str, Any]] = {
        "a": [1, {"b": None}],
        '\u00e9"\\': "x" * 2000,
        "": -1.5e3,
        "t": True,
    }

    def members(self, text: bytes, longest: int = 10_000) -> dict[str, Any]:
        scanner = JsonScanner(text)
        found = {}
        more = scanner.opens()
        while more:
            name = scanner.name()
            found[name] = scanner.value(longest)
            more = scanner.more()
        scanner.end()
        return found

    @pytest.mark.parametrize("indent", [None, 3])
    @pytest.mark.parametrize("ascii_only", [True, False])
    def test_members_are_those_of_the_object(self, indent: int | None, ascii_only: bool) -> None:
        text = json.dumps(self.VALUE, indent=indent, ensure_ascii=ascii_only)
        assert self.members(f" {text}\n".encode()) == self.VALUE
        assert self.members(b" { } ") == {}

    @pytest.mark.parametrize("size", [509, 510, 511, 512, 513, 16383, 16384, 16385])
    @pytest.mark.parametrize("kind", ["text", "accents", "number", "list"])
    def test_a_value_may_be_of_any_length(self, size: int, kind: str) -> None:
        """Also where a part of it that is looked at first would be a value itself."""
        size = min(size, 4000) if kind == "number" else size
        text = {
            "text": '"' + "x" * (size - 2) + '"',
            "accents": '"' + "\u00e9" * (size // 2 - 1) + '"',
            "number": "7" * size,
            "list": "[" + "1," * (size // 2 - 1) + "1]",
        }[kind]
        assert self.members(f'{{"a": {text}}}'.encode(), 20_000) == {"a": json.loads(text)}

    def test_a_longer_value_than_allowed_is_refused(self) -> None:
        assert self.members(b'{"a": "xxxxxxxx"}', 10) == {"a": "xxxxxxxx"}
        with pytest.raises(TooLongError):
            self.members(b'{"a": "xxxxxxxxx"}', 10)
        with pytest.raises(TooLongError):
            self.members(b'{"' + b"x" * 70_000 + b'": 1}')

    @pytest.mark.parametrize("text", [b"", b"[]", b"1", b'"a"', b"null"])
    def test_anything_else_is_no_object(self, text: bytes) -> None:
        with pytest.raises(OtherKindError):
            self.members(text)

    @pytest.mark.parametrize(
        "text",
        [
            b"{", b"{,}", b'{"a"}', b'{"a":}', b'{"a":1', b'{"a":1,}', b'{"a":1 "b":2}',
            b'{"a":1}}', b"{a:1}", b"{1:1}", b'{"a":01}', b'{"a":"\xff"}', b'{"\xff":1}',
            b'{"a":1}\x0b', b'{"a":' + b"[" * 100_000, b'{"a":{"b":1,"b":2}}', b"{'a':1}",
            b'{"a":' + b"9" * 5000 + b"}",
        ],
    )  # fmt: skip
    def test_what_is_not_valid_is_refused(self, text: bytes) -> None:
        with pytest.raises(ValueError, match="."):
            self.members(text)


class TestLargeHeaders:
    COUNT = 100_000

    def header(self, count: int) -> dict[str, Any]:
        return {
            f"model.encoder.layers.{n // 10}.block{n % 10}.attention.weight": entry(
                4 * n, 4 * n + 4
            )
            for n in range(count)
        }

    def test_a_hundred_thousand_names_are_read_in_bounded_memory(self, tmp_path: Path) -> None:
        path = saved(tmp_path / "a.safetensors", self.header(self.COUNT), 4 * self.COUNT)
        assert path.stat().st_size > 10**7
        program = (
            "import re, time\n"
            "from pathlib import Path\n"
            "from sam21convert.io.safetensors import read_safetensors\n"
            "start = time.process_time()\n"
            f"found = read_safetensors(Path({str(path)!r})).root\n"
            "text = Path('/proc/self/status').read_text()\n"
            "peak = int(re.search(r'VmHWM:\\s+(\\d+)', text)[1]) * 1024\n"
            "print(len(found), peak, time.process_time() - start)"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        count, peak, seconds = map(float, done.stdout.split())
        assert count == self.COUNT
        assert peak < 150e6
        assert seconds < 5

    def test_so_is_an_index(self, tmp_path: Path) -> None:
        placed = dict.fromkeys(self.header(self.COUNT), "model-00001-of-00001.safetensors")
        path = tmp_path / INDEX
        path.write_text(json.dumps({"metadata": {"total_size": 4}, "weight_map": placed}, indent=2))
        assert read_weight_map(path) == placed

    def test_the_number_of_names_is_limited(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(safetensors, "_MAX_NAMES", 5)
        assert len(names(saved(tmp_path / "a.safetensors", self.header(5), 20))) == 5
        with pytest.raises(RefusedError, match="has more than the 5 tensors allowed"):
            read_safetensors(saved(tmp_path / "b.safetensors", self.header(6), 24))
        (tmp_path / INDEX).write_text(json.dumps({"weight_map": dict.fromkeys("abcdef", "a")}))
        with pytest.raises(RefusedError, match="names more than the 5 tensors allowed"):
            read_weight_map(tmp_path / INDEX)

    @pytest.mark.parametrize(
        "text",
        [
            b'{"a":[' + b"[]," * 5_000_000 + b"1]}",
            b'{"a":{"dtype":"F32","shape":[' + b"0," * 5_000_000 + b'0],"data_offsets":[0,0]}}',
            b'{"__metadata__":{"a":"' + b"x" * 5_000_000 + b'"}}',
            b'{"' + b"x" * 5_000_000 + b'": 1}',
        ],
    )
    def test_what_is_long_for_nothing_is_refused(self, tmp_path: Path, text: bytes) -> None:
        with pytest.raises(Sam21ConvertError, match=r"a\.safetensors: ") as caught:
            read_safetensors(saved(tmp_path / "a.safetensors", text))
        assert len(caught.value.message) < 500

    def test_metadata_may_be_large(self, tmp_path: Path) -> None:
        metadata = {"training": "x" * 3_000_000}
        path = saved(tmp_path / "a.safetensors", {"__metadata__": metadata, "a": entry(0, 4)}, 4)
        assert read_safetensors(path).metadata == metadata

    def test_shards_are_compared_with_the_index_one_by_one(self, tmp_path: Path) -> None:
        """An index of few names does not make all shards be kept."""
        saved(tmp_path / "1.safetensors", self.header(10), 40)
        (tmp_path / "2.safetensors").write_bytes(b"never read")
        placed = {"a": "1.safetensors", "b": "2.safetensors"}
        (tmp_path / INDEX).write_text(json.dumps({"weight_map": placed}))
        with pytest.raises(UnreadableError, match=r"1\.safetensors: holds .*, which .* no shard"):
            read_sharded(tmp_path / INDEX)


SPELLINGS = {
    "usual": '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}',
    "spaces": ' { "dtype" :\t"F32" ,"shape":[ 1 ] , "data_offsets" : [ 0 ,\n 4 ] } ',
    "another order": '{"shape":[1],"data_offsets":[0,4],"dtype":"F32"}',
    "escaped": '{"\\u0064type":"F32","shape":[1],"data_offsets":[0,4]}',
}


@pytest.mark.parametrize("kind", SPELLINGS)
@pytest.mark.parametrize("name", ["a", "\\u0061", "caf\u00e9", "\\ud83d\\ude00", 'a\\"b'])
def test_every_spelling_of_a_header_is_read(tmp_path: Path, kind: str, name: str) -> None:
    text = f'{{"{name}":{SPELLINGS[kind]}}}'
    path = saved(tmp_path / "a.safetensors", text.encode(), 4)
    assert names(path) == list(json.loads(text))
    (ref,) = read_safetensors(path).root.values()
    assert (ref.spec.dtype, ref.spec.shape) == ("F32", (1,))


def test_a_changed_header_is_read_as_json_or_not_at_all(tmp_path: Path) -> None:
    last = '"b": {"dtype":"F32","shape":[],"data_offsets":[4,8]}'
    text = f'{{"__metadata__":{{"format":"pt"}},"a":{SPELLINGS["usual"]},{last}}}'.encode()
    path, draw, accepted = tmp_path / "a.safetensors", random.Random(0), 0
    spare = b'{}[]",:\\ \t\n0123456789-+.eEab\x00\x0b\xff\xc3\xa9nulltrue'
    for _ in range(6000):
        changed = bytearray(text)
        for _ in range(draw.choice((1, 1, 1, 2, 3))):
            at = draw.randrange(len(changed))
            changed[at : at + draw.randrange(3)] = draw.choice((b"", bytes([draw.choice(spare)])))
        saved(path, bytes(changed), 8)
        try:
            found = read_safetensors(path)
        except Sam21ConvertError:
            continue
        accepted += 1
        wanted = json.loads(bytes(changed).decode(), object_pairs_hook=unique)
        assert found.metadata == wanted.pop("__metadata__", {})
        start = 8 + len(changed)
        assert wanted == {
            name: {
                "dtype": ref.spec.dtype,
                "shape": list(ref.spec.shape),
                "data_offsets": [ref.offset - start, ref.offset - start + ref.spec.nbytes],
            }
            for name, ref in found.root.items()
        }
    assert 100 < accepted < 5000


TWINS = {
    "case": ("Layer.weight", "layer.weight"),
    "Unicode form": (
        unicodedata.normalize("NFC", "\u00e9"),
        unicodedata.normalize("NFD", "\u00e9"),
    ),
    "separators": ("a/b", "a\\b"),
    "dots at the end": ("a.weight", "a.weight."),
    "spaces at the end": ("a", "a "),
    "compatibility characters": ("file", "\ufb01le"),
}


@pytest.mark.parametrize("kind", TWINS)
class TestTwins:
    def test_among_the_tensors_of_a_file_are_refused(self, tmp_path: Path, kind: str) -> None:
        one, other = TWINS[kind]
        header = {one: entry(0, 4), "between": entry(4, 8), other: entry(8, 12)}
        with pytest.raises(RefusedError, match="may be taken for each other") as caught:
            read_safetensors(saved(tmp_path / "a.safetensors", header, 12))
        assert f"the names {one!r} and {other!r} may" in caught.value.message

    def test_among_the_tensors_of_an_index_are_refused(self, tmp_path: Path, kind: str) -> None:
        placed = dict.fromkeys(TWINS[kind], "1.safetensors")
        (tmp_path / INDEX).write_text(json.dumps({"weight_map": placed}))
        with pytest.raises(RefusedError, match="may be taken for each other"):
            read_weight_map(tmp_path / INDEX)

    def test_among_the_shards_are_refused(self, tmp_path: Path, kind: str) -> None:
        shards = TWINS[kind]
        if kind == "separators":
            pytest.skip("not a file name in any case")
        placed = dict(zip("ab", shards, strict=True))
        (tmp_path / INDEX).write_text(json.dumps({"weight_map": placed}))
        with pytest.raises(RefusedError, match="may be taken for each other"):
            read_weight_map(tmp_path / INDEX)


def test_names_that_nobody_confuses_are_read(tmp_path: Path) -> None:
    header = {name: entry(4 * n, 4 * n + 4) for n, name in enumerate(("a.b", "ab", "a_b", "a b"))}
    assert len(names(saved(tmp_path / "a.safetensors", header, 16))) == 4
