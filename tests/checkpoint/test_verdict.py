"""What is not known to be safe is not called safe: calls, names, entries, and what was not seen."""

from __future__ import annotations

import argparse
import io
import json
import os
import pickle
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

import sam21convert
from sam21convert.checkpoint.safety.report import assess
from sam21convert.checkpoint.safety.verdict import verdicts_on
from sam21convert.commands.main import main
from sam21convert.errors import UsageError
from sam21convert.io.pickle.load import scan, unpickle

from ..support.checkpoints import state_dict

MARKED = b"\x80\4\x8c\7my_code\x8c\3run\x93\x8c\4text\x85R."  # calls a function that nobody has


class Own:
    """A class of the user, which no list knows."""

    class Inner: ...


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def save(path: Path, **extra: Any) -> Path:
    torch.save({"model": state_dict(), **extra}, path)
    return path


def rating(data: bytes, tmp_path: Path) -> tuple[str, bool]:
    """The rating of a pickle, and whether the answer to "is it safe?" is yes."""
    (tmp_path / "x.pt").write_bytes(data)
    found = assess(tmp_path / "x.pt")
    return found.rating, found.passes()


class TestCalls:
    def test_a_call_of_an_unknown_name_is_a_no(self, tmp_path: Path) -> None:
        path = save(tmp_path / "own.pt", extra=Own())
        name = f"{__name__}.Own"
        answer = run("inspect", path)
        assert answer.exit_code == 1
        assert "runs code that is not known to be safe" in answer.output
        assert f"--allow {name}" in answer.output  # the next command is printed
        assert run("inspect", path, "--allow", name).exit_code == 0
        assert run("inspect", path, "--fail-on", "dangerous").exit_code == 0
        assert run("inspect", path, "--allow", "another.Own").exit_code == 1
        assert sam21convert.inspect(path, allow=[name]).safety.clean

    def test_what_does_harm_cannot_be_allowed(self, tmp_path: Path) -> None:
        path = save(tmp_path / "own.pt", extra=Own())
        answer = run("inspect", path, "--allow", "os.system")
        assert (answer.exit_code, "known to do harm" in answer.stderr) == (2, True)
        with pytest.raises(UsageError, match="fail_on=never"):
            sam21convert.inspect(path, fail_on="never")  # type: ignore[arg-type]

    def test_a_name_that_is_only_stored_is_unknown_and_no_reason_to_refuse(
        self, tmp_path: Path
    ) -> None:
        found = sam21convert.inspect(save(tmp_path / "own.pt", kind=Own))
        assert (found.safety.rating, found.exit_code) == ("unknown", 0)
        assert "unknown but not called" in str(found)

    def test_names_with_dots_are_dangerous_unless_all_of_it_is_listed(self, tmp_path: Path) -> None:
        path = save(tmp_path / "own.pt")
        torch.save({"model": state_dict(), "a": Own.Inner()}, path, pickle_protocol=4)
        found = sam21convert.inspect(path)
        assert (found.safety.rating, found.exit_code) == ("dangerous", 1)
        assert sam21convert.inspect(path, allow=[f"{__name__}.Own.Inner"]).exit_code == 0

    @pytest.mark.parametrize(
        ("what", "data"),
        {
            "REDUCE": b"cmy\nC\n)R.",
            "NEWOBJ": b"cmy\nC\n)\x81.",
            "NEWOBJ_EX": b"cmy\nC\n)}\x92.",
            "OBJ": b"(cmy\nC\no.",
            "INST": b"(imy\nC\n.",
            # Harmless functions that call what they are given.
            "an argument": b"ccopyreg\n_reconstructor\n(cmy\nC\nc__builtin__\nobject\nNtR.",
            "deep in the arguments": b"ctorch._tensor\n_rebuild_from_type_v2\n((](cmy\nf\netR.",
            "a keyword argument": b"ctypes\nSimpleNamespace\n)}Va\ncmy\nf\ns\x92.",
            # Attributes of an object that opcodes look up and call.
            "__setstate__ of an object": b"cargparse\nNamespace\n)\x81}V__setstate__\ncmy\nf\nsb.",
            "append of an object": b"cargparse\nNamespace\n)\x81N}Vappend\ncmy\nf\ns\x86b.",
            "an item that can become one": b"cargparse\nNamespace\n)\x81}Vx\n}Vadd\ncmy\nf\nssb.",
            "a computed attribute": b"cargparse\nNamespace\n)\x81ccollections\nOrderedDict\n)R"
            b"c__builtin__\nstr\n)Rcmy\nf\nsb.",
        }.items(),
    )
    def test_every_way_to_call_counts(self, what: str, data: bytes, tmp_path: Path) -> None:
        assert rating(data, tmp_path) == ("unknown", False), what

    def test_what_a_container_holds_is_not_called(self, tmp_path: Path) -> None:
        for held in ([Own], {"main": Own}, (Own, {Own: Own})):
            assert rating(pickle.dumps(held, 2), tmp_path) == ("unknown", True)


class TestReadings:
    @pytest.mark.parametrize(
        "data",
        [b"Np007\n.", b"Np+7\n.", b"Np7 \n.", b"Np1_0\n.", b"Np99999999999\n.", b"Np7\n0g07\n."],
    )
    def test_numbers_that_are_not_written_plainly(self, data: bytes, tmp_path: Path) -> None:
        assert rating(data, tmp_path) == ("dangerous", False)
        with pytest.raises(sam21convert.UnreadableError):
            unpickle(data, "data")

    @pytest.mark.parametrize(
        "data",
        [
            b"\x80\4\x95\4\0\0\0\0\0\0\0\x8c\5hello.",  # ends within a text
            b"\x80\4\x95\x20\0\0\0\0\0\0\0N\x95\1\0\0\0\0\0\0\0N" + b"0N" * 20 + b".",
        ],
    )
    def test_frames_that_end_or_begin_within_something(self, data: bytes, tmp_path: Path) -> None:
        assert rating(data, tmp_path) == ("dangerous", False)
        with pytest.raises(sam21convert.UnreadableError, match="a frame"):
            unpickle(data, "data")

    def test_texts_with_unusual_escapes_are_no_names(self, tmp_path: Path) -> None:
        assert rating(b"S'm\\171'\nS'Cls'\n\x93.", tmp_path) == ("dangerous", False)
        assert rating(b"S'my'\nS'Cls'\n\x93.", tmp_path) == ("unknown", True)

    @pytest.mark.parametrize("text", [b"\\q", b"\\x41\\\\", b"\\101", b"\\n\\t\\'", b"a\\b"])
    def test_escapes_mean_what_they_mean_to_pickle(self, text: bytes) -> None:
        data = b"S'" + text + b"'\n."
        with warnings.catch_warnings(action="ignore"):  # of an escape that is none
            assert unpickle(data, "data").value == pickle.loads(data)

    @pytest.mark.parametrize("protocol", range(6))
    def test_reader_and_scan_find_the_same_names(self, protocol: int) -> None:
        value = [argparse.Namespace(a=Own), Own(), Path("a"), {1, 2}, torch.float32]
        data = pickle.dumps(value, protocol)
        found = scan(data).references
        names = {f"{one.module.replace('__builtin__', 'builtins')}.{one.name}" for one in found}
        assert set(unpickle(data, "data").placeholders) <= names
        assert scan(data).end == len(data) == unpickle(data, "data").end


def packed(path: Path, entries: dict[str, bytes]) -> Path:
    """The archive of a checkpoint with more entries."""
    save(path)
    with zipfile.ZipFile(path, "a") as archive:
        for name, data in entries.items():
            archive.writestr(name.replace("NAME", path.stem), data)
    return path


def zipped(entries: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return buffer.getvalue()


class TestEntries:
    def test_another_entry_is_named_and_looked_through(self, tmp_path: Path) -> None:
        found = sam21convert.inspect(packed(tmp_path / "a.pt", {"NAME/notes": b"just text\n"}))
        assert (found.safety.rating, found.safety.others) == ("harmless", ("a/notes",))
        assert "a/notes" in str(found)
        assert found.to_dict()["other_entries"] == ["a/notes"]

    @pytest.mark.parametrize(
        "data", [MARKED, b"cmy_code\nrun\n(Vtext\ntR.", b"(Vtext\nimy_code\nrun\n."]
    )
    @pytest.mark.parametrize(
        "name", ["NAME/notes", "NAME/.data/more", "extra/x.bin", "NAME/data/x"]
    )
    def test_a_pickle_of_any_protocol_in_it_counts(
        self, name: str, data: bytes, tmp_path: Path
    ) -> None:
        found = sam21convert.inspect(packed(tmp_path / "a.pt", {name: data}))
        assert [one.name for one in found.safety.unknown_calls] == ["my_code.run"]
        assert found.exit_code == 1

    @pytest.mark.parametrize("whole", [True, False], ids=["with a directory", "without"])
    def test_an_entry_that_begins_behind_the_end_of_the_file(
        self, whole: bool, tmp_path: Path
    ) -> None:
        """The lengths of name and extra field in its header say so."""
        data = bytearray(zipped({"a/data.pkl": MARKED, "a/notes": MARKED}))
        data[26:30] = b"\xff\xff\xff\xff"
        (tmp_path / "x.pt").write_bytes(data if whole else data[: data.index(b"PK\1\2")])
        assert [name.entry for name in assess(tmp_path / "x.pt").unknown_calls] == ["a/notes"]
        assert run("inspect", tmp_path / "x.pt").exit_code == 3

    def test_an_archive_in_the_archive_is_looked_through_one_level_down(
        self, tmp_path: Path
    ) -> None:
        once = zipped({"data.pkl": MARKED})
        found = sam21convert.inspect(packed(tmp_path / "a.pt", {"NAME/more.zip": once}))
        assert [one.entry for one in found.safety.unknown_calls] == ["a/more.zip: data.pkl"]
        twice = packed(tmp_path / "b.pt", {"NAME/more.zip": zipped({"again.zip": once})})
        found = sam21convert.inspect(twice)
        assert (found.safety.rating, found.exit_code) == ("unknown", 1)
        assert "again.zip: is an archive in an archive" in str(found)


def folder(path: Path) -> Path:
    sam21convert.sample(path, config="debug/sam2.1_debug")
    return path


def in_tar(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("x"), io.BytesIO(data))
    return buffer.getvalue()


# File beside the model, its content -> rating, whether it passes, and what is said of it.
BESIDE: dict[str, tuple[str, bytes, str, bool, str]] = {
    "weights of a pickle": ("pytorch_model.bin", MARKED, "unknown", False, "my_code.run"),
    "one of several shards": ("pytorch_model-00001-of-00002.bin", MARKED, "unknown", False, "my_"),
    "an adapter": ("adapter_model.bin", MARKED, "unknown", False, "my_code.run"),
    "an optimizer": ("optimizer.pt", pickle.dumps({"lr": 1}), "harmless", True, "plain data"),
    "another optimizer": ("sub/optimizer.pt", MARKED, "unknown", False, "sub/optimizer.pt"),
    "no suffix": ("weights", MARKED, "unknown", False, "my_code.run"),
    "a zip": ("extra.zip", zipped({"a.pkl": MARKED}), "unknown", False, "extra.zip: a.pkl"),
    "what no library loads": ("training_args.bin", MARKED, "harmless", True, "plain data"),
    "a tar": ("more.tar.gz", in_tar(b"x"), "unknown", False, "is a gzip archive"),
    "too deep": ("a/b/c/d/x.bin", MARKED, "unknown", False, "a/b/c: the folders in it"),
    "code without a use": ("modeling.py", b"print(1)\n", "harmless", True, "plain data"),
    "a picture": ("example.png", b"\x89PNG\r\n\x1a\n", "harmless", True, "plain data"),
    "prose": ("README.md", b"(Vtext\nimy_code\nrun\n.", "harmless", True, "plain data"),
}


class TestFolders:
    @pytest.mark.parametrize("case", BESIDE)
    def test_everything_that_a_library_would_load_counts(self, case: str, tmp_path: Path) -> None:
        name, data, expected, passes, said = BESIDE[case]
        home = folder(tmp_path / "model")
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(data)
        found = sam21convert.inspect(home)
        assert (found.safety.rating, found.exit_code) == (expected, 0 if passes else 1)
        assert said in str(found)

    def test_code_that_a_config_names_is_not_looked_through(self, tmp_path: Path) -> None:
        home = folder(tmp_path / "model")
        config = json.loads((home / "config.json").read_text())
        (home / "config.json").write_text(json.dumps({**config, "auto_map": {"A": "code.B"}}))
        (home / "code.py").write_text("class B: ...\n")
        found = sam21convert.inspect(home)
        assert (found.safety.rating, found.exit_code) == ("unknown", 1)
        assert "code in code.py: auto_map in config.json" in str(found)
        assert found.to_dict()["not_scanned"]

    @pytest.mark.parametrize("name", ["gone.pt", "pipe.pt"])
    def test_what_cannot_be_opened_is_named_beside_what_can(
        self, name: str, tmp_path: Path
    ) -> None:
        beside = tmp_path / "beside.pkl"
        beside.write_bytes(b"cos\nsystem\n(S'true'\ntR.")
        if name == "pipe.pt":
            os.mkfifo(tmp_path / name)
        else:
            (tmp_path / name).symlink_to("nowhere")
        both = run("safety", tmp_path)
        assert (both.exit_code, both.stderr) == (1, "")
        assert "os.system would be called" in both.stdout
        beside.write_bytes(pickle.dumps({"a": 1}))
        answer = run("safety", tmp_path)
        assert (answer.exit_code, answer.stderr) == (1, "")
        assert answer.stdout.startswith(f"unknown    {tmp_path}: not known to be safe")
        assert f"not scanned: {name}: not a regular file" in answer.stdout
        assert f"what to do: {name}: could not be read" in answer.stdout

    @pytest.mark.parametrize("ending", ["bin", "safetensors"])
    def test_a_shard_that_is_missing_was_not_looked_at(self, ending: str, tmp_path: Path) -> None:
        """Of those that cannot be pickles nobody has to."""
        names = [f"model-0000{number}-of-00002.{ending}" for number in (1, 2)]
        torch.save(state_dict(), tmp_path / names[0])
        index = tmp_path / f"model.{ending}.index.json"
        index.write_text(json.dumps({"weight_map": {"a": names[0], "b": names[1]}}))
        for given in (tmp_path, index):
            answer = run("safety", given)
            said = f"unreadable: {names[1]}: is missing, and {index.name} names it\n"
            assert (said in answer.stdout) == (ending == "bin")
            assert ("download or copy it again" in answer.stdout) == (ending == "bin")
            assert answer.exit_code == (3 if ending == "bin" else 0)

    def test_a_refused_adapter_says_what_in_it_does_harm(self, tmp_path: Path) -> None:
        (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4}')
        (tmp_path / "adapter_model.bin").write_bytes(b"\x80\2ctorch.hub\nload\n(Vx\ntR.")
        for command in ("inspect", "validate"):
            answer = run(command, tmp_path)
            assert answer.exit_code == 3
            assert "torch.hub.load would be called" in answer.stderr


class TestEveryCommand:
    @pytest.mark.parametrize("protocol", [2, 4])
    def test_validate_convert_and_diff_warn(self, protocol: int, tmp_path: Path) -> None:
        own, out = save(tmp_path / "own.pt", extra=Own()), tmp_path / "out.safetensors"
        commands: dict[str, list[object]] = {
            "validate": [own],
            "convert": [own, out],
            "diff": [own, own],
        }
        for command, arguments in commands.items():
            answer = run(command, *arguments, "--json")
            assert answer.exit_code == 0
            assert json.loads(answer.stdout)["safety"] == "unknown"
            assert answer.stderr.startswith(f"warning: {own}: torch.load(weights_only=False) runs")
        assert "the output is clean" in run("convert", own, out, "--overwrite").stdout
        assert run("validate", out).stderr == ""
        assert json.loads(run("validate", out, "--json").stdout)["safety"] == "harmless"
        batch = run("batch", own, out, "--out", tmp_path / "made", "--suffix", ".pt", "--json")
        items = {item["source"]: item["safety"] for item in json.loads(batch.stdout)["items"]}
        assert items == {str(own): "unknown", str(out): "harmless"}
        assert f"warning: {own}: is unknown" in batch.stderr

    def test_parity_and_prediction_warn(
        self, tmp_path: Path, picture: Callable[[Path], Path]
    ) -> None:
        own = save(tmp_path / "own.pt", extra=Own())
        report = sam21convert.parity(own, own, scenarios="point")
        assert report.to_dict()["safety"] == report.to_dict()["left"]["safety"] == "unknown"
        assert str(own) in report.alerts()[0]
        made = sam21convert.predict_image(
            picture(tmp_path), own, None, [sam21convert.Point(1, 1)], device="cpu"
        )
        assert made.to_dict()["safety"] == made.to_dict()["model"]["safety"] == "unknown"
        assert str(own) in made.alerts()[0]


@pytest.fixture
def picture() -> Callable[[Path], Path]:
    from PIL import Image

    def draw(home: Path) -> Path:
        Image.new("RGB", (32, 32), "white").save(home / "white.png")
        return home / "white.png"

    return draw


@pytest.mark.parametrize(
    ("names", "code"),
    [
        (("good.pkl", "cut.pt"), 3),
        (("bad.pkl", "cut.pt"), 1),
    ],
)
def test_files_have_the_exit_code_of_their_folder(
    tmp_path: Path, names: tuple[str, ...], code: int
) -> None:
    contents = {
        "good.pkl": pickle.dumps({"a": 1}),
        "bad.pkl": b"cos\nsystem\n(S'true'\ntR.",
        "cut.pt": b"PK\3\4abcdefgh",
    }
    for name in names:
        (tmp_path / name).write_bytes(contents[name])
    paths = [str(tmp_path / name) for name in names]
    assert verdicts_on([str(tmp_path)]).exit_code == code
    assert verdicts_on(paths).exit_code == code
