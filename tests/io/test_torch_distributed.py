"""Folders of torch.distributed.checkpoint are read without running anything from them."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.checkpoint import metadata as dcp_metadata
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from sam21convert import convert, inspect, validate
from sam21convert.checkpoint.open import open_checkpoint
from sam21convert.checkpoint.safety.find_pickles import Found
from sam21convert.checkpoint.safety.folder import look_through_source
from sam21convert.checkpoint.safety.report import assess
from sam21convert.config.registry import shipped_tensors
from sam21convert.errors import RefusedError, Sam21ConvertError, UnreadableError
from sam21convert.io.data.checksums import same_bytes
from sam21convert.io.open import open_source

from ..commands.test_commands import run
from ..support.checkpoints import damaged, official_pt, random_bits, state_dict

pytestmark = pytest.mark.filterwarnings("ignore")  # torch warns that it runs on one machine


def saved(folder: Path, content: Any, **options: Any) -> Path:
    save(content, storage_writer=FileSystemWriter(folder, **options), no_dist=True)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    content = {"model": state_dict(), "epoch": 3, "optimizer": {"state": {0: torch.ones(3)}}}
    return saved(tmp_path / "dcp", content, thread_count=2)


class Bad:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


class TestSafety:
    def test_a_folder_of_torch_is_harmless(self, folder: Path) -> None:
        found = inspect(folder).safety
        assert (found.rating, found.complete) == ("harmless", True)
        entries = {name.entry for name in found.names}
        assert "" in entries
        assert any(entry.startswith("__0_1.distcp, byte ") for entry in entries)

    def test_calls_in_a_piece_are_reported_with_their_place(self, tmp_path: Path) -> None:
        content = {"model": state_dict(), "sched": Bad(tmp_path / "made")}
        folder = saved(tmp_path / "dcp", content)
        found = inspect(folder)
        assert found.exit_code == 1
        [bad] = found.safety.dangerous
        assert bad.name == f"{os.name}.mkdir"
        assert bad.called
        assert bad.entry.startswith("__0_0.distcp, byte ")
        start = int(bad.entry.partition(", byte ")[2].partition(":")[0])
        places = pickle.loads((folder / ".metadata").read_bytes()).storage_data
        [place] = [place for index, place in places.items() if index.fqn == "sched"]
        assert start == place.offset
        assert not (tmp_path / "made").exists()
        load({"sched": None}, storage_reader=FileSystemReader(folder), no_dist=True)
        assert (tmp_path / "made").exists()  # so it is truly dangerous

    def test_without_readable_pieces_the_rating_is_unknown(self, folder: Path) -> None:
        found = pickle.loads((folder / ".metadata").read_bytes())
        one, other, *_ = found.storage_data.values()
        other.relative_path, other.offset = one.relative_path, one.offset
        (folder / ".metadata").write_bytes(pickle.dumps(found))
        assert (assess(folder).rating, assess(folder).complete) == ("unknown", False)

    def test_too_much_to_look_through_is_said(self, folder: Path) -> None:
        found = Found(opcodes=2000)
        look_through_source(folder, found)
        assert found.unscanned


def split(state: dict[str, torch.Tensor], folder: Path, axis: int = 0) -> Path:
    """Save a state dict as two ranks of a training do, the rows of each tensor in two files."""
    middle = {name: tensor.shape[axis] // 2 for name, tensor in state.items()}
    halves = [
        {n: t.tensor_split([middle[n]], axis)[part].contiguous() for n, t in state.items()}
        for part in (0, 1)
    ]
    folder.mkdir()
    entries: dict[str, Any] = {}
    places: dict[Any, Any] = {}
    for part, half in enumerate(halves):
        whole = pickle.loads((saved(folder / str(part), half) / ".metadata").read_bytes())
        (folder / str(part) / "__0_0.distcp").rename(folder / f"__{part}_0.distcp")
        shutil.rmtree(folder / str(part))
        for index, place in whole.storage_data.items():
            first = middle[index.fqn] if part else 0
            offset = torch.Size([*index.offset[:axis], first, *index.offset[axis + 1 :]])
            entry = whole.state_dict_metadata[index.fqn]
            entry.chunks[0].offsets = offset
            known = entries.setdefault(index.fqn, entry)
            if known is not entry:
                known.chunks.insert(0, entry.chunks[0])
                known.size = state[index.fqn].shape
            place.relative_path = f"__{part}_0.distcp"
            places[dcp_metadata.MetadataIndex(index.fqn, offset)] = place
    (folder / ".metadata").write_bytes(pickle.dumps(dcp_metadata.Metadata(entries, None, places)))
    return folder


def rows_of(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in state.items() if tensor.ndim and len(tensor) > 1}


def test_every_bit_is_read(tmp_path: Path, folder: Path) -> None:
    found = inspect(folder)
    assert (found.container, found.wrappers) == ("torch distributed", ("model",))
    assert (found.extras, found.placeholders) == (("epoch", "optimizer"), ())
    convert(folder, tmp_path / "plain.pt")
    convert(official_pt(tmp_path / "same.pt"), tmp_path / "same2.pt")
    ours, theirs = (open_checkpoint(tmp_path / name).tensors for name in ("plain.pt", "same2.pt"))
    assert list(ours) == list(theirs)
    assert all(same_bytes(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_tensors_of_any_type_shape_and_stride(tmp_path: Path, dtype: torch.dtype) -> None:
    state = {
        "turned": torch.randn(3, 4).to(dtype).t(),
        "part": torch.randn(9, 2).to(dtype)[2:5],
        "scalar": torch.tensor(2).to(dtype),
        "empty": torch.ones(0, 2, dtype=dtype),
    }
    root = open_source(saved(tmp_path / "dcp", state)).root
    torch.save(state, tmp_path / "same.pt")
    same = open_source(tmp_path / "same.pt").root
    assert all(same_bytes(root[name], same[name]) for name in state)


class TestPieces:
    def test_torch_reads_the_folders_of_these_tests(self, tmp_path: Path) -> None:
        state = rows_of(state_dict())
        target = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
        load(target, checkpoint_id=split(state, tmp_path / "dcp"), no_dist=True)
        assert all(torch.equal(target[name], state[name]) for name in state)

    def test_rows_in_several_files_are_one_tensor(self, tmp_path: Path) -> None:
        state = state_dict()
        source = split(rows_of(state), tmp_path / "dcp")
        base = official_pt(tmp_path / "base.pt")
        for target in ("plain.pt", "folder"):
            convert(source, tmp_path / target, base=base)
        convert(tmp_path / "folder", tmp_path / "back.pt")
        for name in ("plain.pt", "back.pt"):
            found = torch.load(tmp_path / name)["model"]
            assert all(torch.equal(found[key], state[key]) for key in state)

    def test_pieces_are_split_for_another_dialect_but_not_transposed(self, tmp_path: Path) -> None:
        base = official_pt(tmp_path / "base.pt")
        convert(base, tmp_path / "hf")
        theirs = load_file(tmp_path / "hf" / "model.safetensors")
        source = split(rows_of(theirs), tmp_path / "dcp")
        convert(source, tmp_path / "plain.pt", base=base)
        found, state = torch.load(tmp_path / "plain.pt")["model"], state_dict()
        assert all(torch.equal(found[key], state[key]) for key in state)
        mlx, plain = tmp_path / "mlx.safetensors", tmp_path / "plain.safetensors"
        with pytest.raises(RefusedError, match="would have to be transposed") as caught:
            convert(source, mlx, to="mlx", base=base)
        assert "leave `to` out and convert it to PLAIN.safetensors" in str(caught.value.hint)
        convert(source, plain, base=base)
        convert(plain, mlx, to="mlx")

    def test_columns_are_refused_and_the_hint_puts_them_together(self, tmp_path: Path) -> None:
        state = {n: t for n, t in state_dict().items() if t.ndim > 1 and t.shape[1] > 1}
        source, base = split(state, tmp_path / "dcp", axis=1), official_pt(tmp_path / "base.pt")
        with pytest.raises(RefusedError, match="along another axis than the first") as caught:
            convert(source, tmp_path / "out.pt", base=base)
        assert "format_utils dcp_to_torch FOLDER merged.pt" in str(caught.value.hint)
        dcp_to_torch_save(source, tmp_path / "merged.pt")  # which that command calls
        convert(tmp_path / "merged.pt", tmp_path / "out.pt", base=base)
        found = torch.load(tmp_path / "out.pt")["model"]
        assert all(torch.equal(found[name], tensor) for name, tensor in state_dict().items())

    def test_pieces_are_validated_and_compared(self, tmp_path: Path) -> None:
        state = state_dict()
        ones = {n: t for n, t in state.items() if n not in rows_of(state)}
        source = split(rows_of(state), tmp_path / "dcp")
        assert validate(source).missing == tuple(ones)
        found = open_checkpoint(source).tensors
        whole = open_checkpoint(official_pt(tmp_path / "whole.pt")).tensors
        assert all(same_bytes(found[name], whole[name]) for name in found)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda entry: entry.chunks.pop(0), "has 8 rows, its pieces have 4"),
            (lambda entry: entry.chunks.append(entry.chunks[0]), "missing or occur twice"),
            (lambda entry: setattr(entry.chunks[0], "sizes", torch.Size([4])), "dimensions"),
            (
                lambda entry: setattr(entry.chunks[0], "sizes", torch.Size([4, 1])),
                "along another axis than the first",
            ),
            (lambda entry: setattr(entry, "chunks", []), "missing"),
        ],
    )
    def test_contradicting_pieces_are_refused(
        self, tmp_path: Path, change: Callable[[Any], object], message: str
    ) -> None:
        path = split({"a": torch.randn(8, 2)}, tmp_path / "dcp") / ".metadata"
        content = pickle.loads(path.read_bytes())
        change(content.state_dict_metadata["a"])
        path.write_bytes(pickle.dumps(content))
        with pytest.raises(Sam21ConvertError, match=message):
            open_source(path.parent)


class Attack:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("where", ["instead", "as state", "as key", "in a piece"])
def test_attacks_run_nothing(tmp_path: Path, where: str) -> None:
    folder, fired = saved(tmp_path / "dcp", {"a": torch.ones(2)}), tmp_path / "fired"
    attack: Any = Attack(fired)
    content = pickle.loads((folder / ".metadata").read_bytes())
    if where == "in a piece":
        torch.save(attack, folder / "__0_0.distcp")
        [place] = content.storage_data.values()
        place.length = (folder / "__0_0.distcp").stat().st_size
    elif where == "as state":
        content.state_dict_metadata["a"].properties = attack
    elif where == "as key":
        content.storage_data = {**content.storage_data, attack: 1}
    with (folder / ".metadata").open("wb") as file:
        pickle.dump(attack if where == "instead" else content, file)
    try:
        open_source(folder)
    except Sam21ConvertError:
        assert where in ("instead", "in a piece")
    assert not fired.exists()
    if where != "in a piece":
        pickle.loads((folder / ".metadata").read_bytes())
        assert fired.exists()  # pickle itself runs it


@pytest.mark.parametrize("file", [".metadata", "__0_0.distcp"])
def test_damage_raises_only_our_errors(tmp_path: Path, file: str) -> None:
    folder = saved(tmp_path / "dcp", {"a": torch.ones(2)})
    for data in damaged((folder / file).read_bytes())[::7]:
        (folder / file).write_bytes(data)
        with suppress(Sam21ConvertError):
            open_source(folder)


def test_a_missing_file_is_named(tmp_path: Path, folder: Path) -> None:
    (folder / "__0_1.distcp").unlink()
    with pytest.raises(UnreadableError, match="No such file"):
        open_source(folder)


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="holds no checkpoint among its 0 files"):
        open_source(tmp_path)


def test_metadata_of_the_hugging_face_writer_is_dropped(tmp_path: Path) -> None:
    source = random_bits(tmp_path / "m.safetensors", shipped_tensors("debug/sam2.1_debug"))
    data = source.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] = {"format": "pt", "DCP_SHARDING_INFO": "{}", "DCP_VERSION": "1.0"}
    text = json.dumps(header).encode()
    marked = tmp_path / "marked.safetensors"
    marked.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    assert run("convert", marked, tmp_path / "out.safetensors").exit_code == 0
    assert (tmp_path / "out.safetensors").read_bytes() == data


@pytest.mark.parametrize("of", ["tensors", "files"])
def test_names_that_may_be_taken_for_each_other_are_refused(of: str, tmp_path: Path) -> None:
    names = ("part", "Part") if of == "tensors" else ("part", "other")
    folder = saved(tmp_path / "dcp", {name: torch.ones(2) for name in names})
    content = pickle.loads((folder / ".metadata").read_bytes())
    if of == "files":
        shutil.copy(folder / "__0_0.distcp", folder / "__0_0.DISTCP")
        open_source(folder)
        next(iter(content.storage_data.values())).relative_path = "__0_0.DISTCP"
        (folder / ".metadata").write_bytes(pickle.dumps(content))
    with pytest.raises(RefusedError, match="may be taken for each other"):
        open_source(folder)


def test_a_name_is_counted_once_however_many_pieces_have_it(tmp_path: Path) -> None:
    found = inspect(saved(tmp_path / "dcp", state_dict()))
    distinct = {name.name for name in found.safety.names}
    assert len(found.safety.names) > 100
    assert found.safety.verdict.endswith(f": {len(distinct)} names")
