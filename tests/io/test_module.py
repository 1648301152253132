"""Modules that were pickled whole are read like their state dicts, and nothing of them runs."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import sam21convert
from sam21convert.errors import RefusedError
from sam21convert.io import module
from sam21convert.io.open import open_source
from sam21convert.io.pickle.load import unpickle
from sam21convert.io.torch_zip import read_torch_zip

from ..support.checkpoints import official_pt, state_dict
from .test_torch_zip import same

RAN: list[str] = []


class Part(nn.Module):
    """All that a module may hold; what would show that it ran is recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.tied = self.linear
        self.norm = nn.BatchNorm1d(2)
        self.absent = None
        self.register_parameter("none", None)
        self.register_module("no_module", None)
        self.register_buffer("kept", torch.arange(4.0))
        self.register_buffer("not_kept", torch.zeros(5), persistent=False)
        self.loose = torch.ones(7)  # an attribute, neither parameter nor buffer
        self.blocks = nn.ModuleList([nn.Linear(2, 2, bias=False) for _ in range(3)])

    def __setstate__(self, state: dict[str, Any]) -> None:
        RAN.append("a module was made")
        super().__setstate__(state)  # type: ignore[no-untyped-call]


@pytest.fixture(autouse=True)
def _nothing_ran() -> Iterator[None]:
    RAN.clear()
    yield
    assert not RAN


def equal(found: Any, model: nn.Module) -> bool:
    wanted = model.state_dict()
    return list(found) == list(wanted) and all(same(found[n], t) for n, t in wanted.items())


def test_a_module_is_read_as_its_state_dict(tmp_path: Path) -> None:
    model = Part()
    for protocol in range(1, 6):
        torch.save(model, tmp_path / "a.pt", pickle_protocol=protocol)
        source = open_source(tmp_path / "a.pt")
        assert equal(source.root, model)
        assert source.notes == (
            f"the file is a pickled module of {__name__}.Part; its tensors were read without "
            "running it",
        )
    torch.save(model, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert equal(open_source(tmp_path / "old.pt").root, model)


def test_modules_in_dicts_and_within_other_modules_are_read(tmp_path: Path) -> None:
    model = Part()
    compiled = torch.compile(model, backend="eager")
    saved = {
        "model": model,
        "again": {"same": model},
        "ddp": nn.DataParallel(model),
        "compiled": compiled,
        "epoch": 3,
    }
    torch.save(saved, tmp_path / "a.pt")
    source = open_source(tmp_path / "a.pt")
    assert equal(source.root["model"], model)
    assert equal(source.root["again"]["same"], model)
    assert equal(source.root["ddp"], nn.DataParallel(model))
    assert all(name.startswith("_orig_mod.") for name in source.root["compiled"])
    assert len(source.root["compiled"]) == len(model.state_dict())
    assert source.root["epoch"] == 3
    assert len(source.notes) == 3  # one for each module, however often it occurs


def test_notes_name_a_few_of_many_modules(tmp_path: Path) -> None:
    torch.save({f"m{i}": nn.Linear(1, 1) for i in range(5)}, tmp_path / "a.pt")
    notes = open_source(tmp_path / "a.pt").notes
    assert (len(notes), notes[-1]) == (4, "2 more pickled modules were read so")


def test_loading_the_same_file_does_run_it(tmp_path: Path) -> None:
    torch.save(Part(), tmp_path / "a.pt")
    torch.load(tmp_path / "a.pt", weights_only=False)
    assert RAN
    RAN.clear()


class Odd:
    """Has the state of a module as far as asked."""

    def __init__(self, **state: Any) -> None:
        self.__dict__.update(state)


def test_an_object_without_the_attributes_of_a_module_stays_unread() -> None:
    found = unpickle(pickle.dumps(Odd(_parameters={}, _buffers={})), "it").value
    assert found.state == {}
    found = unpickle(pickle.dumps(Odd(_parameters={}, _buffers={}, _modules=3)), "it").value
    assert found.state == {}


def test_a_module_within_itself_is_refused() -> None:
    model = Odd(_parameters={}, _buffers={}, _modules={})
    model.__dict__["_modules"]["self"] = model
    with pytest.raises(RefusedError, match="contains itself"):
        unpickle(pickle.dumps(model), "it")


def test_two_tensors_of_one_name_are_refused(tmp_path: Path) -> None:
    inner = Odd(_parameters={"b": torch.ones(1)}, _buffers={}, _modules={})
    torch.save(
        Odd(_parameters={"a.b": torch.zeros(1)}, _buffers={}, _modules={"a": inner}),
        tmp_path / "a.pt",
    )
    with pytest.raises(RefusedError, match=r"'a\.b' twice"):
        read_torch_zip(tmp_path / "a.pt")


def test_long_names_of_many_tensors_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Part()
    names = sum(map(len, model.state_dict()))
    torch.save(model, tmp_path / "a.pt")
    monkeypatch.setattr(module, "_MAX_NAMES", names)
    read_torch_zip(tmp_path / "a.pt")
    monkeypatch.setattr(module, "_MAX_NAMES", names - 1)
    with pytest.raises(RefusedError, match="too much memory"):
        read_torch_zip(tmp_path / "a.pt")


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_whole_sam2_is_inspected_and_converted(tmp_path: Path, wrapped: bool) -> None:
    plain = official_pt(tmp_path / "plain.pt", state_dict())
    model, _ = sam21convert.load_model(plain)
    torch.save({"model": model, "ema": None, "date": "2026"} if wrapped else model, tmp_path / "m")
    found = sam21convert.inspect(tmp_path / "m")
    assert (found.dialect, found.tensors, found.problems) == ("official", 359, ())
    assert found.exit_code == 1  # its classes are not known to be harmless
    assert "pickled module of sam21convert.model.sam2.SAM2" in found.notes[0]
    report = sam21convert.convert(tmp_path / "m", tmp_path / "out.pt")
    assert any("pickled module" in note for note in report.notes)
    assert any("SAM2 would be called" in alert for alert in report.alerts())
    assert sam21convert.diff(tmp_path / "out.pt", plain).exit_code == 0
    model.sam_mask_decoder.iou_token.weight.data += 1
    torch.save(model, tmp_path / "m")
    sam21convert.convert(tmp_path / "m", tmp_path / "other.pt")
    assert sam21convert.diff(tmp_path / "other.pt", plain).exit_code == 1


def test_a_whole_model_of_transformers_is_converted(tmp_path: Path) -> None:
    from transformers import Sam2VideoModel

    plain = official_pt(tmp_path / "plain.pt", state_dict())
    sam21convert.convert(plain, tmp_path / "hf")
    torch.save(Sam2VideoModel.from_pretrained(tmp_path / "hf"), tmp_path / "m.pt")
    assert sam21convert.inspect(tmp_path / "m.pt").dialect == "hf-video"
    sam21convert.convert(tmp_path / "m.pt", tmp_path / "out.pt")
    assert sam21convert.diff(tmp_path / "out.pt", plain).exit_code == 0


@pytest.mark.slow
def test_what_ultralytics_saves_is_converted(tmp_path: Path) -> None:
    ultralytics = pytest.importorskip("ultralytics")
    sam21convert.sample(tmp_path / "base.pt", config="sam2.1/sam2.1_hiera_t")
    sam21convert.convert(tmp_path / "base.pt", tmp_path / "sam2.1_t.pt", to="ultralytics")
    ultralytics.SAM(str(tmp_path / "sam2.1_t.pt")).save(str(tmp_path / "saved.pt"))
    sam21convert.convert(tmp_path / "saved.pt", tmp_path / "out.pt")
    sam21convert.convert(tmp_path / "base.pt", tmp_path / "half.pt", dtype="float16")
    assert sam21convert.diff(tmp_path / "out.pt", tmp_path / "half.pt").exit_code == 0
