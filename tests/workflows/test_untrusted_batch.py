"""What strangers write for a batch: manifests, names and journals are bounded and not believed."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from click.testing import CliRunner, Result

import sam21convert
from sam21convert.commands.main import main
from sam21convert.errors import RefusedError, UnreadableError
from sam21convert.workflows.batch.manifest import ManifestEntry, read_sources
from sam21convert.workflows.batch.names import name_outputs
from sam21convert.workflows.batch.report import BatchReport, Item

from ..support.checkpoints import DEBUG

LAUGHS = "- &a0 [1]\n" + "".join(
    f"- &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 30)
)


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(main, ["batch", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder; ``epoch.pt`` is not there."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def epoch(place: Path, checkpoints: Callable[[str], Path]) -> Path:
    """A checkpoint in the working folder."""
    shutil.copy(checkpoints(DEBUG), "epoch.pt")
    return Path("epoch.pt")


class TestManifest:
    @pytest.mark.parametrize("suffix", ["yaml", "json", "txt"])
    def test_of_thousands_of_sources_works(self, place: Path, suffix: str) -> None:
        count = 10_000
        lines = {
            "yaml": "".join(f"- {{source: run{n}/last.pt, name: exp_{n}}}\n" for n in range(count)),
            "json": json.dumps([{"source": f"run{n}/last.pt"} for n in range(count)]),
            "txt": "".join(f"run{n}/last.pt\n" for n in range(count)),
        }
        Path(f"list.{suffix}").write_text(lines[suffix])
        assert len(read_sources([f"list.{suffix}"]).entries) == count

    @pytest.mark.parametrize(
        ("name", "text", "says"),
        [
            ("a.yaml", "- a.pt\n" * 10_001, "has 10,001 entries, more than the 10,000 allowed"),
            ("a.txt", "a.pt\n" * 10_001, "has 10,001 entries"),
            ("a.json", json.dumps(["a.pt"] * 10_001), "has 10,001 entries"),
            ("a.txt", "#" * (2**21 + 1), "over 2,048 KiB, too large for a manifest"),
            ("a.yaml", LAUGHS, "holds too many values"),
            ("a.yaml", "- &a [*a]", "an anchor that refers to itself"),
            ("a.yaml", "- " * 500 + "a", "nested deeper than 100 levels"),
        ],
    )
    def test_that_is_too_much_is_refused(
        self, place: Path, name: str, text: str, says: str
    ) -> None:
        Path(name).write_text(text)
        start = time.process_time()
        with pytest.raises(RefusedError, match=says):
            sam21convert.batch(name, "out")
        assert time.process_time() - start < 20
        assert not Path("out").exists()

    def test_that_is_nested_too_deep_is_no_json(self, place: Path) -> None:
        Path("a.json").write_text("[" * 10**6)
        with pytest.raises(UnreadableError, match="not valid JSON: nested too deep"):
            sam21convert.batch("a.json", "out")

    @pytest.mark.parametrize("name", ["a.yaml", "a.json", "a.txt"])
    def test_that_is_a_pipe_is_refused_at_once(self, place: Path, name: str) -> None:
        os.mkfifo(name)
        result = run(name, "--out", "out")
        assert (result.exit_code, result.stdout) == (3, "")
        assert result.stderr.startswith(f"error: {name}: is not a regular file")

    @pytest.mark.parametrize("key", ["source", "name", "config", "base", "to"])
    @pytest.mark.parametrize("odd", ["a\nerror: b", "\x1b[2Ja", "a\u202eb", "a\u2028b", "a\x00b"])
    def test_names_that_a_terminal_would_interpret_are_refused_and_shown_escaped(
        self, place: Path, key: str, odd: str
    ) -> None:
        Path("a.json").write_text(json.dumps([{"source": "epoch.pt", key: odd}]))
        result = run("a.json", "--out", "out")
        assert result.exit_code == 3
        (line, hint) = result.stderr.splitlines()
        assert line.isprintable()
        assert f"entry 1: {key}: {odd!a} has line breaks or other unprintable" in line
        assert hint.startswith("hint: ")

    def test_a_line_of_text_ends_only_where_editors_end_it(self, place: Path) -> None:
        Path("a.txt").write_text("epoch.pt\x0cother.pt\n")
        with pytest.raises(UnreadableError, match="entry 1: source: .* unprintable"):
            read_sources(["a.txt"])

    @pytest.mark.parametrize("key", ["source", "config", "base"])
    @pytest.mark.parametrize("name", ["secret.txt", "secret.yaml", "secret.json", "secret.pt"])
    def test_nothing_is_quoted_of_the_files_that_it_names(
        self, epoch: Path, key: str, name: str
    ) -> None:
        Path(name).write_text("machine hunter2 login: hunter2\n\tpassword: 'hunter2\n")
        entry = {"source": "epoch.pt", key: name}
        Path("list.json").write_text(json.dumps([entry]))
        result = run("list.json", "--out", "out")
        assert result.exit_code == 1
        assert name in result.output
        assert "hunter2" not in result.output + Path("out/batch.json").read_text()


class TestOddNames:
    """Of files on this machine, which a pattern finds."""

    def test_a_line_break_in_a_name_makes_no_line_of_the_report(self, epoch: Path) -> None:
        Path("runs").mkdir()
        Path("runs/x\nhint: y.pt").write_bytes(b"")
        shutil.move(epoch, "runs/\x1b[2J.pt")
        result = run("runs/*", "--out", "out")
        assert "\x1b" not in result.output
        assert not any(line.strip().startswith("hint: y") for line in result.stdout.splitlines())
        assert "runs/x\\nhint: y.pt" in result.stdout
        assert "out/_[2J" in result.stdout
        assert Path("out/_[2J").is_dir()

    def test_lines_of_an_error_stay_right_of_its_label(self) -> None:
        item = Item("a.pt", Path("out/a"), error="one\nhint: two\x1b", hint="three")
        lines = str(BatchReport(Path("out"), (item,), ("b\nc",), 1.0, False)).splitlines()
        assert lines[1:5] == [
            "  error: one",
            "         hint: two\\x1b",
            "  hint: three",
            "left out, written by this batch: b\\nc",
        ]

    def test_names_that_some_file_system_takes_for_one_are_told_apart(self) -> None:
        listed = [
            ManifestEntry("a/Last.pt"),
            ManifestEntry("b/last.pt"),
            ManifestEntry("c/last .pt"),
        ]
        assert name_outputs(listed, [""] * 3, {}) == ["a-Last", "b-last", "c-last "]


class TestForeignJournal:
    """A ``batch.json`` that no batch wrote, in a folder that somebody else has prepared."""

    RECORD: ClassVar[dict[str, Any]] = {"source": "a.pt", "suffix": "", "state": "started"}

    @pytest.mark.parametrize(
        "outputs",
        [
            {"../outside": RECORD},
            {"..": RECORD},
            {".": RECORD},
            {"": RECORD},
            {"/tmp/outside": RECORD},
            {"a\nb": RECORD},
            {"a": {}},
            {"a": []},
            {"a": {**RECORD, "source": 1}},
            {"a": {**RECORD, "state": "done"}},
            {"a": {**RECORD, "hunter2": 1}},
            {"a": {**RECORD, "facts": {"hunter2": 1}}},
            {"a": {**RECORD, "facts": {"bytes": "many"}}},
            {"a": {**RECORD, "facts": {"dtypes": {"F32": "many"}}}},
            {"a": {**RECORD, "written": {"a": 1}}},
            {"a": {**RECORD, "read": {"a": [1, "2"]}}},
            [],
        ],
    )
    def test_is_refused(self, place: Path, outputs: Any) -> None:
        Path("out").mkdir()
        Path("outside").mkdir()
        Path(".outside.sam21.tmp").write_text("mine")
        Path("out/batch.json").write_text(json.dumps({"format": 1, "outputs": outputs}))
        result = run("epoch.pt", "--out", "out")
        assert result.exit_code == 3
        assert "out/batch.json: not the journal of a batch" in result.stderr
        assert "hunter2" not in result.stderr
        assert Path(".outside.sam21.tmp").read_text() == "mine"

    def test_the_record_of_these_tests_is_sound(self, epoch: Path) -> None:
        Path("out").mkdir()
        text = json.dumps({"format": 1, "outputs": {"a": self.RECORD}})
        Path("out/batch.json").write_text(text)
        assert run("epoch.pt", "--out", "out").exit_code == 0

    def test_a_pipe_is_refused_at_once(self, place: Path) -> None:
        Path("out").mkdir()
        os.mkfifo("out/batch.json")
        assert "out/batch.json: is not a regular file" in run("epoch.pt", "--out", "out").stderr
