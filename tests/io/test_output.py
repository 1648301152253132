"""Outputs are written atomically and read back."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sam21convert.errors import MismatchError, UnreadableError, UsageError
from sam21convert.io.data.cast import cast, contiguous_bytes
from sam21convert.io.data.checksums import ReadBack, check_sums, same_bytes, sha256
from sam21convert.io.data.copy import Files, Sums, payload
from sam21convert.io.open import open_source
from sam21convert.io.output.atomic import new_file, new_folder
from sam21convert.io.safetensors import read_safetensors, write_safetensors
from sam21convert.io.source import Blob
from sam21convert.io.tensor import Part, Tensor, TensorRef, TensorSpec
from sam21convert.io.torch_writer import write_torch
from sam21convert.report import SILENT

pytestmark = pytest.mark.usefixtures("small_pieces")


class TestAtomicFile:
    def test_the_file_appears_after_the_block(self, tmp_path: Path) -> None:
        path = tmp_path / "out"
        with new_file(path, overwrite=False) as temporary:
            temporary.write_text("new")
            assert not path.exists()
        assert path.read_text() == "new"
        assert os.listdir(tmp_path) == ["out"]

    def test_after_a_failure_nothing_is_left(self, tmp_path: Path) -> None:
        (tmp_path / "out").write_text("old")
        with pytest.raises(KeyboardInterrupt), new_file(tmp_path / "out", overwrite=True) as path:
            path.write_text("half")
            raise KeyboardInterrupt
        assert os.listdir(tmp_path) == ["out"]
        assert (tmp_path / "out").read_text() == "old"

    def test_an_existing_file_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "out").write_text("old")
        with pytest.raises(UsageError, match="exists"), new_file(tmp_path / "out", overwrite=False):
            pass

    def test_a_file_that_appears_in_the_meantime_is_not_replaced(self, tmp_path: Path) -> None:
        path = tmp_path / "out"
        with pytest.raises(UsageError, match="exists"), new_file(path, overwrite=False) as mine:
            mine.write_text("mine")
            path.write_text("theirs")
        assert path.read_text() == "theirs"
        assert os.listdir(tmp_path) == ["out"]

    def test_permissions_are_those_of_other_new_files(self, tmp_path: Path) -> None:
        (tmp_path / "plain").touch()
        with new_file(tmp_path / "out", overwrite=False) as temporary:
            temporary.touch()
        assert (tmp_path / "out").stat().st_mode == (tmp_path / "plain").stat().st_mode

    def test_a_missing_folder_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="does not exist"):
            new_file(tmp_path / "no" / "out", overwrite=False).__enter__()


class TestAtomicFolder:
    def test_an_empty_folder_may_be_filled(self, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        with new_folder(tmp_path / "out", overwrite=False) as folder:
            (folder / "a").write_text("1")
        assert os.listdir(tmp_path) == ["out"]
        assert (tmp_path / "out" / "a").read_text() == "1"

    @pytest.mark.parametrize("overwrite", [None, False])
    def test_the_option_is_advised_where_there_is_one(
        self, tmp_path: Path, overwrite: bool | None
    ) -> None:
        path = tmp_path / "out"
        for there in (False, True):  # it appears in the meantime, or before
            with (
                pytest.raises(UsageError, match="exists") as refused,
                new_folder(path, overwrite=overwrite),
            ):
                assert not there
                path.mkdir()
                (path / "theirs").touch()
            assert ("overwrite" in str(refused.value.hint)) == (overwrite is False)

    def test_overwriting_keeps_other_files(self, tmp_path: Path) -> None:
        out = tmp_path / "out"
        out.mkdir()
        (out / "README.md").write_text("mine")
        (out / "a").write_text("old")
        with pytest.raises(UsageError), new_folder(out, overwrite=False):
            pass
        with new_folder(out, overwrite=True) as folder:
            (folder / "a").write_text("new")
        assert {path.name: path.read_text() for path in out.iterdir()} == {
            "README.md": "mine",
            "a": "new",
        }

    @pytest.mark.parametrize("inside", [False, True], ids=["exchanged", "by its files"])
    def test_unwanted_files_are_removed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: bool
    ) -> None:
        out = tmp_path / "out"
        for name in ("masks", "frames"):
            (out / name).mkdir(parents=True)
            (out / name / "old").touch()
        for name in ("film", "mine"):
            (out / name).touch()
        if inside:
            monkeypatch.chdir(out)
        with new_folder(out, overwrite=True, without={"masks", "frames", "film"}) as folder:
            (folder / "masks").mkdir()
            (folder / "masks" / "new").touch()
            assert (out / "film").exists()
        found = sorted(path.relative_to(out).as_posix() for path in out.rglob("*"))
        assert found == ["masks", "masks/new", "mine"]
        assert os.listdir(tmp_path) == ["out"]

    def test_the_current_folder_may_be_filled(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        with new_folder(Path(), overwrite=False) as folder:
            (folder / "a").write_text("1")
        assert os.listdir(tmp_path) == ["here"]
        assert os.listdir(tmp_path / "here") == ["a"]

    def test_after_a_failure_nothing_is_left(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="x"), new_folder(tmp_path / "o", overwrite=False):
            raise ValueError("x")
        assert os.listdir(tmp_path) == []


@pytest.fixture
def source(tmp_path: Path) -> dict[str, Tensor]:
    tensors = {
        "a.weight": torch.randn(70, 33),
        "a.bias": torch.randn(5).half(),
        "b": torch.randn(3, 2, 2).bfloat16(),
        "c": torch.randn(4).double(),
    }
    save_file(tensors, tmp_path / "source.safetensors")
    refs = read_safetensors(tmp_path / "source.safetensors").root
    return {name: Tensor(ref.spec, (ref,)) for name, ref in refs.items()}


class TestTorchFile:
    def test_torch_loads_it_with_weights_only(
        self, tmp_path: Path, source: dict[str, Tensor]
    ) -> None:
        path = tmp_path / "out.pt"
        write_torch(path, source, SILENT)
        for mmap in (False, True):
            loaded = torch.load(path, weights_only=True, mmap=mmap)
            assert list(loaded) == ["model"]
            assert list(loaded["model"]) == list(source)
        with Files() as files:
            for name, tensor in source.items():
                ours = loaded["model"][name].flatten().view(torch.uint8).numpy().tobytes()
                assert ours == b"".join(map(bytes, payload(files, tensor)))

    def test_storages_are_aligned_and_the_archive_is_sound(
        self, tmp_path: Path, source: dict[str, Tensor]
    ) -> None:
        path = tmp_path / "out.pt"
        write_torch(path, source, SILENT)
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
        for ref in open_source(path).root["model"].values():
            assert ref.offset % 64 == 0

    def test_the_same_tensors_give_the_same_file(
        self, tmp_path: Path, source: dict[str, Tensor]
    ) -> None:
        for name in ("one", "two"):
            write_torch(tmp_path / name, source, SILENT)
        assert sha256(tmp_path / "one") == sha256(tmp_path / "two")


class TestReadingBack:
    def check(self, tmp_path: Path, source: dict[str, Tensor], blobs: Sequence[Blob] = ()) -> None:
        path = tmp_path / "out"
        with ReadBack(path, blobs, SILENT) as readback:
            readback.finish(source, read_safetensors(path).root)

    def test_a_written_file_reads_back(self, tmp_path: Path, source: dict[str, Tensor]) -> None:
        write_safetensors(tmp_path / "out", source, {}, SILENT)
        self.check(tmp_path, source)

    @pytest.mark.parametrize("way", ["copied", "summed", "cast"])
    @pytest.mark.parametrize("damaged", [None, "a.weight", "b", "c"])
    def test_parts_are_verified_while_others_are_written(
        self, tmp_path: Path, source: dict[str, Tensor], way: str, damaged: str | None
    ) -> None:
        """Against the source if the kernel copied, otherwise against the checksum at writing."""
        path, seen = tmp_path / "out", dict[str, bool]()
        if way == "cast":
            specs = {name: TensorSpec("F16", tensor.spec.shape) for name, tensor in source.items()}
            source = {name: Tensor(specs[name], source[name].parts) for name in source}
        with ReadBack(path, [], SILENT) as readback:

            def expect(name: str, part: Part, dtype: str, offset: int, sums: Sums | None) -> None:
                seen[name] = sums is not None
                if name == damaged:
                    with path.open("r+b") as file:
                        file.seek(offset)
                        [byte] = file.read(1)
                        file.seek(offset)
                        file.write(bytes([byte ^ 1]))
                readback.expect(name, part, dtype, offset, sums)

            with nullcontext() if damaged is None else pytest.raises(MismatchError, match=damaged):
                if way == "summed":
                    write_torch(path, source, SILENT, expect)
                else:
                    write_safetensors(path, source, {}, SILENT, expect)
                root = open_source(path).root
                readback.finish(source, root.get("model", root))
        assert seen == {
            name: way == "summed" or tensor.spec.dtype != tensor.parts[0].spec.dtype
            for name, tensor in source.items()
        }
        assert any(seen.values()) == (way != "copied")

    def test_any_changed_byte_is_detected(self, tmp_path: Path, source: dict[str, Tensor]) -> None:
        path = tmp_path / "out"
        write_safetensors(path, source, {}, SILENT)
        good = path.read_bytes()
        for name, ref in read_safetensors(path).root.items():
            for place in (ref.offset, ref.offset + ref.spec.nbytes - 1):
                path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
                with pytest.raises(MismatchError, match=f"{name}, read back"):
                    self.check(tmp_path, source)

    def test_a_recorded_checksum_verifies_source_and_output(
        self, tmp_path: Path, source: dict[str, Tensor]
    ) -> None:
        """The error says whether the output is wrong or the source is corrupt."""
        path = tmp_path / "out"
        write_safetensors(path, source, {}, SILENT)
        [part] = source["a.weight"].parts
        assert isinstance(part, TensorRef)
        with part.path.open("rb") as file:
            file.seek(part.offset)
            crc = zlib.crc32(file.read(part.spec.nbytes))
        place = (part.path, part.offset, part.spec.nbytes)
        self.check(tmp_path, source, [Blob("w", *place, crc)])
        with pytest.raises(UnreadableError, match="w is corrupt"):
            self.check(tmp_path, source, [Blob("w", *place, crc ^ 1)])
        at = read_safetensors(path).root["a.weight"].offset
        raw = bytearray(path.read_bytes())
        raw[at] ^= 1
        path.write_bytes(raw)
        with pytest.raises(MismatchError, match="read back"):
            self.check(tmp_path, source, [Blob("w", *place, crc)])

    def test_a_missing_or_moved_tensor_is_detected(
        self, tmp_path: Path, source: dict[str, Tensor]
    ) -> None:
        path = tmp_path / "out"
        write_safetensors(path, source, {}, SILENT)
        found = read_safetensors(path).root
        less = {name: ref for name, ref in found.items() if name != "b"}
        with ReadBack(path, [], SILENT) as readback, pytest.raises(MismatchError, match="hold"):
            readback.finish(source, less)
        with ReadBack(path, [], SILENT) as readback, pytest.raises(MismatchError, match="b, read"):
            readback.expect("b", source["b"].parts[0], "BF16", found["b"].offset + 2, None)
            readback.finish(source, found)


class TestChecking:
    def test_a_wrong_checksum_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "f").write_bytes(b"123456789")
        check_sums([Blob("data/0", tmp_path / "f", 0, 9, 0xCBF43926)], SILENT)
        with pytest.raises(UnreadableError, match="data/0 is corrupt"):
            check_sums([Blob("data/0", tmp_path / "f", 0, 8, 0xCBF43926)], SILENT)

    def test_a_file_that_shrank_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "f").write_bytes(b"1234")
        ref = TensorRef(TensorSpec("F32", (2,)), tmp_path / "f", 0)
        with pytest.raises(UnreadableError, match="ends at byte 4, 4 bytes too early"):
            same_bytes(ref, ref)


class TestElements:
    @pytest.mark.parametrize(
        "source", [torch.float64, torch.float32, torch.float16, torch.bfloat16]
    )
    @pytest.mark.parametrize("target", [torch.float32, torch.float16, torch.bfloat16])
    def test_casts_are_those_of_torch(self, source: torch.dtype, target: torch.dtype) -> None:
        names = {torch.float64: "F64", torch.float32: "F32"}
        names |= {torch.float16: "F16", torch.bfloat16: "BF16"}
        bits = torch.randint(-(2**15), 2**15, (200_000,), dtype=torch.int16)
        values = bits.view(source) if source.itemsize == 2 else bits.repeat(4).view(source)
        if source.itemsize > 2:  # and numbers of every magnitude, ties among them
            scale = torch.randint(-30, 20, (50_000,)).double().exp2()
            ties = torch.randint(-(2**12), 2**12, (50_000,)).double() * scale
            values = torch.cat([values, ties.to(source)])
        raw = values.view(torch.uint8).numpy().tobytes()
        ours = cast(raw, names[source], names[target])
        theirs = values.to(target)
        mine = torch.frombuffer(bytearray(ours), dtype=target)
        assert torch.equal(mine.isnan(), theirs.isnan())
        kept = ~theirs.isnan()
        integer = {4: torch.int32, 2: torch.int16}[target.itemsize]
        assert torch.equal(mine.view(integer)[kept], theirs.view(integer)[kept])

    def test_a_strided_tensor_is_made_contiguous(self) -> None:
        whole = np.arange(24, dtype="<f4").reshape(4, 6)
        part = TensorRef(TensorSpec("F32", (6, 2)), Path("f"), 0, (1, 12))
        raw = whole.tobytes()[: part.extent]
        assert contiguous_bytes(raw, part) == whole.T[:, ::2].tobytes()

    def test_parts_are_concatenated_in_order(self, tmp_path: Path) -> None:
        (tmp_path / "f").write_bytes(struct.pack("<4f", 1, 2, 3, 4))
        spec = TensorSpec("F32", (1, 2))
        parts = (TensorRef(spec, tmp_path / "f", 8), TensorRef(spec, tmp_path / "f", 0))
        with Files() as files:
            raw = b"".join(map(bytes, payload(files, Tensor(TensorSpec("F32", (2, 2)), parts))))
        assert struct.unpack("<4f", raw) == (3, 4, 1, 2)
