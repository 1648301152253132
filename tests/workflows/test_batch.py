"""Many checkpoints in one run: outcomes, names of outputs, and repeated runs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

import sam21convert
from sam21convert.commands.main import main
from sam21convert.comparison.api import parity
from sam21convert.config.registry import shipped_tensors
from sam21convert.errors import Sam21ConvertError, UnreadableError, UsageError
from sam21convert.io.safetensors import write_safetensors
from sam21convert.workflows.batch.journal import Journal, JournalRecord, alone_in
from sam21convert.workflows.batch.manifest import ManifestEntry, read_sources
from sam21convert.workflows.batch.names import name_outputs
from sam21convert.workflows.batch.report import BatchReport

from ..support.checkpoints import DEBUG, official_pt, sparse
from ..support.paths import ROOT, contents


@pytest.fixture
def sweep(
    tmp_path: Path, checkpoints: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A working folder with three checkpoints in ``runs``."""
    (tmp_path / "runs").mkdir()
    for epoch in (1, 2, 10):
        shutil.copy(checkpoints(DEBUG), tmp_path / "runs" / f"epoch_{epoch}.pt")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def break_some(runs: Path) -> None:
    data = (runs / "epoch_1.pt").read_bytes()
    (runs / "a_cut.pt").write_bytes(data[: len(data) // 2])
    (runs / "b_page.pt").write_bytes(b"<!DOCTYPE html>")
    (runs / "c_empty.pt").touch()
    official_pt(runs / "d_other.pt", {"fc.weight": torch.zeros(2, 2)})


def outcomes(report: BatchReport) -> list[str]:
    return [item.outcome for item in report.items]


def tree(folder: Path) -> dict[str, bytes]:
    """All files except the journal, which holds times."""
    files = contents(folder)
    return {name: data for name, data in files.items() if Path(name).name != "batch.json"}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["batch", *map(str, arguments)])


def touch(path: Path) -> None:
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))


class TestOneRun:
    def test_outputs_are_those_of_convert(self, sweep: Path) -> None:
        report = sam21convert.batch("runs/*.pt", "out")
        assert [item.source for item in report.items] == [
            f"runs/epoch_{epoch}.pt" for epoch in (1, 2, 10)
        ]
        sam21convert.convert("runs/epoch_1.pt", "alone")
        assert tree(sweep / "out" / "epoch_10") == tree(sweep / "alone")
        assert report.exit_code == 0

    def test_a_failure_does_not_stop_the_others(self, sweep: Path) -> None:
        break_some(sweep / "runs")
        report = sam21convert.batch(["runs/*.pt", "gone.pt"], "out", to="mlx")
        assert outcomes(report) == ["failed"] * 4 + ["converted"] * 3 + ["failed"]
        assert report.exit_code == 1
        texts = [item.error for item in report.items if item.error is not None]
        says = ["not an intact zip", "a web page", "empty", "does not fit any", "gone.pt: No such"]
        for text, words in zip(texts, says, strict=True):
            assert words in text
        assert sorted(tree(sweep / "out")) == [f"epoch_{n}.safetensors" for n in (1, 10, 2)]

    def test_jobs_change_neither_bytes_nor_order(self, sweep: Path) -> None:
        break_some(sweep / "runs")
        one, four = (sam21convert.batch("runs/*", f"out{n}", jobs=n) for n in (1, 4))
        assert tree(sweep / "out1") == tree(sweep / "out4") != {}
        assert [(i.source, i.outcome, i.error) for i in one.items] == [
            (i.source, i.outcome, i.error) for i in four.items
        ]

    def test_a_fault_of_our_own_is_one_failure(
        self, sweep: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(source: Path, *_: object, **__: object) -> None:
            raise ZeroDivisionError(source.name)

        monkeypatch.setattr("sam21convert.workflows.batch.run.make_plan", broken)
        report = sam21convert.batch("runs/*", "out")
        assert report.items[0].error == "ZeroDivisionError: epoch_1.pt"
        assert outcomes(report) == ["failed"] * 3

    @pytest.mark.parametrize("right", [True, False])
    def test_parity(self, sweep: Path, right: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        if not right:
            monkeypatch.setattr("sam21convert.comparison.report.ParityReport.ok", False)
        under_way = threading.Lock()

        def one_at_a_time(*sides: Any, **options: Any) -> Any:
            assert under_way.acquire(blocking=False)
            try:
                return parity(*sides, **options)
            finally:
                under_way.release()

        monkeypatch.setattr("sam21convert.workflows.convert_and_compare.parity", one_at_a_time)
        report = sam21convert.batch("runs/*_[12].pt", "out", suffix=".pt", parity=True, jobs=2)
        assert outcomes(report) == ["converted" if right else "failed"] * 2
        assert sorted(tree(sweep / "out")) == (["epoch_1.pt", "epoch_2.pt"] if right else [])

    def test_a_dialect_that_goes_by_names_has_a_folder_for_each(self, sweep: Path) -> None:
        sparse(sweep / "tiny.safetensors", shipped_tensors("sam2.1/sam2.1_hiera_t"))
        for expected in ("converted", "skipped"):
            sources = ["tiny.safetensors", "runs/*_1.pt"]
            report = sam21convert.batch(sources, "out", to="ultralytics", verify=False)
            assert outcomes(report) == [expected, "failed"]
            assert "only for the published sizes" in (report.items[1].error or "")
            assert list(tree(sweep / "out")) == ["tiny/sam2.1_t.pt"]
            assert sorted(os.listdir("out")) == ["batch.json", "tiny"]

    @pytest.mark.parametrize("there", [False, True])
    def test_a_dry_run_writes_nothing_and_says_the_same(self, sweep: Path, there: bool) -> None:
        break_some(sweep / "runs")
        if there:
            sam21convert.batch("runs/*1.pt", "out")
            Path("out/epoch_2").mkdir()
            Path("out/epoch_2/mine").touch()
        before = tree(sweep), Path("out").stat().st_mtime_ns if there else None
        dry = sam21convert.batch("runs/*", "out", dry_run=True)
        assert (tree(sweep), Path("out").stat().st_mtime_ns if there else None) == before
        assert Path("out").exists() == there
        wet = sam21convert.batch("runs/*", "out")
        expected = [outcome.replace("planned", "converted") for outcome in outcomes(dry)]
        assert outcomes(wet) == expected
        assert [item.output for item in dry.items] == [item.output for item in wet.items]
        assert [item.bytes for item in dry.items] == [item.bytes for item in wet.items]


class TestAgain:
    def test_what_is_done_is_skipped_and_not_touched(self, sweep: Path) -> None:
        first = sam21convert.batch("runs/*", "out")
        before = Path("out/epoch_1/model.safetensors").stat()
        second = sam21convert.batch("runs/*", "out", overwrite=True, verify=False)
        assert outcomes(second) == ["skipped"] * 3
        assert [item.config for item in second.items] == [item.config for item in first.items]
        assert Path("out/epoch_1/model.safetensors").stat().st_ino == before.st_ino

    @pytest.mark.parametrize(
        ("change", "options"),
        [
            (lambda: touch(Path("runs/epoch_2.pt")), {}),
            (lambda: touch(Path("out/epoch_2/config.json")), {}),
            (lambda: shutil.move("runs/epoch_2.pt", "epoch_2.pt"), {}),
            (lambda: None, {"image_size": 256}),
            (lambda: None, {"generation": "2.1"}),
        ],
        ids=["source", "output", "elsewhere", "option", "same by another option"],
    )
    def test_what_would_come_out_different_needs_leave(
        self, sweep: Path, change: Callable[[], object], options: dict[str, Any]
    ) -> None:
        sam21convert.batch("runs/*_2.pt", "out")
        before = tree(sweep / "out")
        change()
        source = "epoch_2.pt" if Path("epoch_2.pt").exists() else "runs/epoch_2.pt"
        for _ in range(2):
            report = sam21convert.batch(source, "out", **options)
            assert outcomes(report) == ["failed"]
            assert report.items[0].hint == "`overwrite=True` replaces it"
            assert tree(sweep / "out") == before
        for expected in ("converted", "skipped"):
            report = sam21convert.batch(source, "out", **options, overwrite=True)
            assert outcomes(report) == [expected]

    def test_only_what_changed_is_made_again(self, sweep: Path) -> None:
        sam21convert.batch("runs/*", "out")
        touch(Path("runs/epoch_2.pt"))
        report = sam21convert.batch("runs/*", "out", overwrite=True)
        assert outcomes(report) == ["skipped", "converted", "skipped"]

    def test_a_config_and_a_base_count_as_sources(self, sweep: Path) -> None:
        shutil.copy(ROOT / "configs" / f"{DEBUG}.yaml", "mine.yaml")
        shutil.copy("runs/epoch_1.pt", "base.pt")
        sam21convert.batch("runs/*", "images", to="hf-image")

        def again() -> list[str]:
            report = sam21convert.batch(
                "images/*_2", "out", config="mine.yaml", base="base.pt", suffix=".pt"
            )
            return outcomes(report)

        assert (again(), again()) == (["converted"], ["skipped"])
        for path in ("mine.yaml", "base.pt", "images/epoch_2/config.json"):
            before = Path(path).stat().st_mtime_ns
            touch(Path(path))
            assert again() == ["failed"], path
            os.utime(path, ns=(before, before))
            assert again() == ["skipped"], path

    def test_what_was_deleted_or_failed_is_made(self, sweep: Path) -> None:
        data = Path("runs/epoch_2.pt").read_bytes()
        Path("runs/epoch_2.pt").write_bytes(data[:9])
        sam21convert.batch("runs/*", "out")
        Path("runs/epoch_2.pt").write_bytes(data)
        shutil.rmtree("out/epoch_1")
        Path("out/epoch_10/config.json").unlink()
        report = sam21convert.batch("runs/*", "out")
        assert outcomes(report) == ["converted"] * 3
        assert outcomes(sam21convert.batch("runs/*", "out")) == ["skipped"] * 3

    def test_what_is_not_of_the_batch_is_kept(self, sweep: Path) -> None:
        Path("out").mkdir()
        Path("out/epoch_2.pt").write_text("mine")
        for _ in range(2):
            report = sam21convert.batch("runs/*", "out", suffix=".pt")
            assert [item.error for item in report.items if item.outcome == "failed"] == [
                "out/epoch_2.pt: exists"
            ]
            assert Path("out/epoch_2.pt").read_text() == "mine"

    def test_an_earlier_output_survives_a_source_that_broke(self, sweep: Path) -> None:
        sam21convert.batch("runs/*_2.pt", "out")
        before = tree(sweep / "out")
        Path("runs/epoch_2.pt").write_bytes(b"")
        for _ in range(2):
            report = sam21convert.batch("runs/*_2.pt", "out", overwrite=True)
            assert outcomes(report) == ["failed"]
            assert tree(sweep / "out") == before
        assert "out/epoch_2" in sam21convert.batch(["runs/*", "out/*"], "out").left_out

    @pytest.mark.parametrize("to", ["hf-video", "mlx", "official"])
    def test_outputs_among_the_sources_are_left_out(self, sweep: Path, to: str) -> None:
        sources = sorted(os.listdir("runs"))
        if to == "official":  # in the same place, under the same name
            report = sam21convert.batch("runs/*", "runs", to=to)
            assert outcomes(report) == ["failed"] * 3
            assert outcomes(sam21convert.batch("runs/*.pt", "runs", to=to)) == ["failed"] * 3
        else:
            sam21convert.batch("runs/*", "runs", to=to)
            report = sam21convert.batch("runs/*", "runs", to=to)
            assert outcomes(report) == ["skipped"] * 3
            assert len(report.left_out) == 4
            assert len(os.listdir("runs")) == 7
        assert set(sources) <= set(os.listdir("runs"))

    def test_the_folder_itself_and_settings_beside_outputs_are_left_out(self, sweep: Path) -> None:
        for _ in range(2):
            report = sam21convert.batch(
                ["runs/*", "runs/out/*.yaml"][: 1 + Path("runs/out").exists()],
                "runs/out",
                suffix=".pt",
                image_size=256,
            )
        assert outcomes(report) == ["skipped"] * 3
        assert len(report.left_out) == 4

    def test_two_at_once_are_refused(self, sweep: Path) -> None:
        Path("out").mkdir()
        with alone_in(Path("out")), pytest.raises(UsageError, match="another batch"):
            sam21convert.batch("runs/*", "out")
        assert outcomes(sam21convert.batch("runs/*", "out")) == ["converted"] * 3


KILLED = """
import os, signal, sys
import sam21convert, sam21convert.workflows.batch.run, sam21convert.conversion.write

moment, suffix = sys.argv[1:]
module, name = {
    "writing": (sam21convert.conversion.write, "write_safetensors"),
    "written": (sam21convert.workflows.batch.run, "report"),
}[moment]
real, calls = getattr(module, name), []

def deadly(first, *args, **options):
    calls.append(first)
    if len(calls) == 2:
        if moment == "writing":
            first.write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    return real(first, *args, **options)

setattr(module, name, deadly)
sam21convert.batch("runs/*", "out", suffix=suffix or None, image_size=256, jobs=1)
"""


@pytest.mark.parametrize("suffix", ["", ".safetensors"])
@pytest.mark.parametrize("moment", ["writing", "written"])
def test_a_batch_that_was_killed_goes_on(sweep: Path, moment: str, suffix: str) -> None:
    command = [sys.executable, "-c", KILLED, moment, suffix]
    killed = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert killed.returncode == -signal.SIGKILL
    kept = {name: text for name, text in tree(sweep / "out").items() if not name.startswith(".")}
    left = [name for name in os.listdir("out") if name.endswith(".tmp")]
    assert bool(left) == (moment == "writing")
    options: dict[str, Any] = {"suffix": suffix or None, "image_size": 256}
    assert outcomes(sam21convert.batch("runs/*", "complete", **options)) == ["converted"] * 3
    assert kept.items() < tree(sweep / "complete").items()
    report = sam21convert.batch(["runs/*", "out/*"], "out", **options)
    assert outcomes(report) == ["skipped", "converted", "converted"]
    assert tree(sweep / "out") == tree(sweep / "complete")


def test_an_interrupted_batch_leaves_what_is_done(
    sweep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Path] = []

    def interrupted(path: Path, tensors: Any, metadata: Any, progress: Any, written: Any) -> None:
        calls.append(path)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGINT)
            end = time.monotonic() + 20
            while time.monotonic() < end:
                progress.advance(0)
                time.sleep(0.01)
        write_safetensors(path, tensors, metadata, progress, written)

    with monkeypatch.context() as patched:
        patched.setattr("sam21convert.conversion.write.write_safetensors", interrupted)
        with pytest.raises(KeyboardInterrupt):
            sam21convert.batch("runs/*", "out", jobs=1)
    assert sorted(os.listdir("out")) == ["batch.json", "epoch_1"]
    assert list(json.loads(Path("out/batch.json").read_text())["outputs"]) == ["epoch_1"]
    report = sam21convert.batch("runs/*", "out")
    assert outcomes(report) == ["skipped", "converted", "converted"]


class TestNames:
    @pytest.mark.parametrize(
        ("sources", "names"),
        [
            (["runs/epoch_10.pt"], ["epoch_10"]),
            (["a/epoch_1.5.pth", "x.pth.tar"], ["epoch_1.5", "x"]),
            (["runs/a/last.pt", "runs/b/last.pt"], ["a-last", "b-last"]),
            (["runs/a/w/last.pt", "runs/b/last.pt"], ["a-w-last", "b-last"]),
            (["runs/last.pt", "runs/b/last.pt", "b/x.pt"], ["last", "b-last", "x"]),
            (["runs/last.pt", "runs/last.safetensors"], ["last-pt", "last-safetensors"]),
            (["a/Last.pt", "b/last.pt"], ["a-Last", "b-last"]),
            (["größe 東京.pt", "a/gr\u00f6\u00dfe.pt"], ["größe 東京", "größe"]),
            (["a/\u00e9.pt", "b/e\u0301.pt"], ["a-\u00e9", "b-e\u0301"]),
            (["sam2.1_hiera_tiny", "my-model/"], ["sam2.1_hiera_tiny", "my-model"]),
            (["hf://me/sam2", "hf://you/sam2@v1.0"], ["sam2", "sam2@v1.0"]),
            (["hf://me/sam2", "hf://you/sam2"], ["me-sam2", "you-sam2"]),
            (["hf://me/sam2@refs/pr/3", "hf://me/sam2/x.pt"], ["sam2@pr-3", "x"]),
            (["https://host/a%20b.pt?download=1", "https://host"], ["a b", "checkpoint"]),
            (["https://host/..", ".pt"], ["checkpoint", "pt"]),
        ],
    )
    def test_of_outputs(self, sources: list[str], names: list[str]) -> None:
        asked = [ManifestEntry(source) for source in sources]
        assert name_outputs(asked, [""] * len(asked), {}) == names
        assert name_outputs(asked[::-1], [".pt"] * len(asked), {}) == [
            f"{name}.pt" for name in names[::-1]
        ]

    def test_stated_ones_win(self) -> None:
        asked = [
            ManifestEntry("a/last.pt", "last"),
            ManifestEntry("b/last.pt"),
            ManifestEntry("b/x.pt", "y.pt"),
        ]
        assert name_outputs(asked, [".pt"] * 3, {}) == ["last.pt", "b-last.pt", "y.pt"]

    def test_one_source_in_two_forms(self) -> None:
        assert name_outputs([ManifestEntry("m.pt")] * 2, ["", ".pt"], {}) == ["m", "m.pt"]

    @pytest.mark.parametrize(
        "asked",
        [
            [ManifestEntry("a.pt", "x"), ManifestEntry("b.pt", "X")],
            [ManifestEntry("a.pt", "b"), ManifestEntry("b.pt", "b")],
            [ManifestEntry("m.pt"), ManifestEntry("./m.pt")],
            [ManifestEntry("hf://a/b"), ManifestEntry("hf://a/b")],
            [
                ManifestEntry("x/a-last.pt"),
                ManifestEntry("y/a/last.pt"),
                ManifestEntry("y/b/last.pt"),
            ],
        ],
    )
    def test_two_outputs_of_one_name_are_refused(self, asked: list[ManifestEntry]) -> None:
        with pytest.raises(UsageError, match="both would be written as"):
            name_outputs(asked, [""] * len(asked), {})

    def test_a_sweep_that_grows_keeps_them(self, sweep: Path) -> None:
        for name in "ab":
            Path(name).mkdir()
            shutil.copy("runs/epoch_1.pt", f"{name}/last.pt")
            report = sam21convert.batch("[ab]/last.pt", "out")
        assert [(item.outcome, str(item.output)) for item in report.items] == [
            ("skipped", "out/last"),
            ("converted", "out/b-last"),
        ]

    def test_of_unicode_reach_the_disk(self, sweep: Path) -> None:
        shutil.move("runs/epoch_1.pt", "runs/größe 東京.pt")
        sam21convert.batch("runs/*京.pt", "aus gabe", to="mlx")
        assert list(tree(sweep / "aus gabe")) == ["größe 東京.safetensors"]


class TestPattern:
    def test_what_is_no_checkpoint_is_counted_and_no_failure(self, sweep: Path) -> None:
        Path("runs/README.md").write_text("# Runs\n")
        Path("runs/cat.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(99))
        shutil.copy("runs/epoch_1.pt", "runs/epoch_1.pth.tar")
        Path("runs/cut.pt").write_bytes(b"PK\x03\x04")
        report = sam21convert.batch("runs/*", "out", dry_run=True)
        found = {item.source.removeprefix("runs/"): item.outcome for item in report.items}
        good = ("epoch_1.pt", "epoch_2.pt", "epoch_10.pt", "epoch_1.pth.tar")
        assert found == {**dict.fromkeys(good, "planned"), "cut.pt": "failed"}
        assert report.others == ("runs/README.md", "runs/cat.jpg")
        assert "no checkpoints: 2 files: runs/README.md, runs/cat.jpg" in str(report)

    def test_a_folder_without_weights_is_summed_up_and_fails_where_it_is_named(
        self, sweep: Path
    ) -> None:
        Path("runs/logs/more").mkdir(parents=True)
        Path("runs/logs/more/a.txt").write_text("x\n")
        Path("runs/tf").mkdir()
        Path("runs/tf/saved_model.pb").touch()  # another model is no less than a damaged one
        report = sam21convert.batch("runs/*", "out", dry_run=True)
        failed = [item.source for item in report.items if item.outcome == "failed"]
        assert (failed, report.others) == (["runs/tf"], ("runs/logs/more/a.txt",))
        report = sam21convert.batch(["runs/logs", "runs/*1.pt"], "out", dry_run=True)
        assert outcomes(report) == ["failed", "planned"]
        with pytest.raises(UsageError, match=r"no checkpoints: 1 file: runs/logs/more/a\.txt"):
            sam21convert.batch("runs/l*", "out", dry_run=True)

    def test_a_file_that_is_named_is_one_that_fails(self, sweep: Path) -> None:
        Path("notes.md").write_text("# Notes\n")
        report = sam21convert.batch(["notes.md", "runs/epoch_1.pt"], "out", dry_run=True)
        assert outcomes(report) == ["failed", "planned"]

    def test_one_that_matches_nothing_else_is_refused(self, sweep: Path) -> None:
        Path("a.md").write_text("# A\n")
        with pytest.raises(UsageError, match=r"\*\.md: no checkpoints: 1 file: a\.md"):
            sam21convert.batch("*.md", "out")
        assert not Path("out").exists()


class TestManifest:
    @pytest.mark.parametrize("suffix", ["yaml", "yml", "json"])
    def test_lists_entries_with_options_of_their_own(self, sweep: Path, suffix: str) -> None:
        listed = [
            "epoch_1.pt",
            {"source": "epoch_2.pt", "name": "second", "image_size": 256, "generation": 2.1},
            {"source": "epoch_2.pt", "to": "mlx", "dtype": "float16", "config": DEBUG},
        ]
        manifest = Path(f"runs/list.{suffix}")
        manifest.write_text(json.dumps(listed))
        report = sam21convert.batch(manifest, "out", dtype="bfloat16")
        assert [str(item.output) for item in report.items] == [
            "out/epoch_1",
            "out/second",
            "out/epoch_2.safetensors",
        ]
        assert [list(item.dtypes) for item in report.items] == [["BF16"], ["BF16"], ["F16"]]
        config = json.loads(Path("out/second/config.json").read_text())
        assert config["prompt_encoder_config"]["image_size"] == 256

    def test_lists_sources_one_per_line(self, sweep: Path) -> None:
        lines = "\ufeff# a sweep\n\n  epoch_1.pt  \r\nsam2.1_hiera_tiny\nhf://a/b\n"
        Path("runs/list.txt").write_text(lines)
        listed = [entry.source for entry in read_sources(["runs/list.txt"]).entries]
        assert listed == ["runs/epoch_1.pt", "sam2.1_hiera_tiny", "hf://a/b"]

    def test_understands_what_names_something_published_or_on_the_hub(self, sweep: Path) -> None:
        names = ("facebook/sam2.1-hiera-tiny", "me/my-sam2@v2", "sam2.1_b", "hf.co/a/b")
        page = "https://huggingface.co/a/b/blob/main/m.pt"
        paths = ("lists/a.pt", "lists/none", "gone.pt", "../runs/epoch_1.pt", f"{'n' * 300}/m")
        Path("runs/lists").mkdir()
        Path("runs/list.txt").write_text("\n".join([*names, page, *paths, "~/m.pt"]))
        listed = [entry.source for entry in read_sources(["runs/list.txt"]).entries]
        expected = [*names, page, *(f"runs/{path}" for path in paths), str(Path.home() / "m.pt")]
        assert listed == expected
        Path("me").mkdir()  # beside it, not beside the manifest
        Path("runs/list.json").write_text(json.dumps([{"source": "x.pt", "base": names[0]}]))
        (entry,) = read_sources(["runs/list.json"]).entries
        assert entry.options["base"] == names[0]

    def test_is_a_single_argument_and_no_index(self, sweep: Path) -> None:
        for name in ("a.yaml", "b.txt", "model.safetensors.index.json"):
            Path(name).write_text("[]")
        assert [entry.source for entry in read_sources(["a.yaml", "b.txt"]).entries] == [
            "a.yaml",
            "b.txt",
        ]
        (entry,) = read_sources(["model.safetensors.index.json"]).entries
        assert entry.source.endswith("index.json")

    @pytest.mark.parametrize(
        ("text", "error", "says"),
        [
            (b"[", UnreadableError, "not valid YAML"),
            (b"\xff", UnreadableError, "not UTF-8"),
            (b"source: a.pt", UnreadableError, "not a list"),
            (b"- 3", UnreadableError, "entry 1: has no source"),
            (b"- a.pt\n- name: x", UnreadableError, "entry 2: has no source"),
            (b"- {source: a.pt, zzz: 1}", UnreadableError, "'zzz' is unknown\nhint: one of"),
            (b"- {source: a.pt, dtyp: x}", UnreadableError, "unknown\nhint: did you mean dtype"),
            (b"- {source: a.pt, image_size: big}", UnreadableError, "expected a whole number"),
            (b"- {source: a.pt, image_size: true}", UnreadableError, "expected a whole number"),
            (b"- {source: a.pt, dtype: 16}", UnreadableError, "expected text"),
            (b"- {source: a.pt, name: ../x}", UnreadableError, "is not a file name"),
            (b"- {source: a.pt, name: ..}", UnreadableError, "is not a file name"),
            (b"- {source: a.pt, to: klingon}", UsageError, "no dialect is called"),
            (b"[]", UsageError, "lists no sources"),
        ],
    )
    def test_that_is_wrong_is_told_with_its_place(
        self, sweep: Path, text: bytes, error: type[Sam21ConvertError], says: str
    ) -> None:
        Path("list.yaml").write_bytes(text)
        with pytest.raises(error, match=says):
            sam21convert.batch("list.yaml", "out")
        assert not Path("out").exists()


class TestCommand:
    def test_exit_codes(self, sweep: Path) -> None:
        Path("bad.yaml").write_text("{}")
        Path("full").mkdir()
        Path("full/batch.json").write_text("{}")
        for code, arguments in (
            (0, ("runs/epoch_1.pt", "runs/epoch_2.pt", "--out", "out", "--jobs", 1)),
            (1, ("runs/*", "gone.pt", "--out", "out")),
            (2, ("nothing/*", "--out", "new")),
            (2, ("runs/*",)),
            (2, ("runs/*", "--out", "new", "--jobs", 0)),
            (2, ("runs/*", "--out", "new", "--to", "mlx", "--suffix", ".pt")),
            (2, ("runs/*", "--out", "runs/epoch_1.pt")),
            (2, ("out/*", "--out", "out")),
            (3, ("bad.yaml", "--out", "new")),
            (3, ("runs/*", "--out", "new", "--config", "nothing")),
            (3, ("gone.yaml", "also.yaml", "--out", "full")),
        ):
            assert run(*arguments).exit_code == code, arguments
        assert not Path("new").exists()

    def test_the_report_says_what_became_of_each(self, sweep: Path) -> None:
        Path("runs/epoch_2.pt").write_bytes(b"")
        result = run("runs/*", "--out", "out", "--to", "mlx")
        assert result.stderr == ""
        assert "out/epoch_1.safetensors   official to mlx  debug/sam2.1_debug  F32" in result.stdout
        assert "failed     runs/epoch_2.pt\n  error: runs/epoch_2.pt: is empty" in result.stdout
        assert "3 in all: 2 converted, 1 failed; 21.0 MB in" in result.stdout

    def test_json_holds_the_same(self, sweep: Path) -> None:
        answer = json.loads(run("runs/*", "gone.pt", "--out", "out", "--json").output)
        assert answer["totals"] == {"converted": 3, "failed": 1, "bytes": 3 * 10512008}
        assert answer["items"][3]["error"] == "gone.pt: No such file or directory"
        assert answer["items"][0]["config"] == DEBUG


def test_what_the_journal_says_of_an_output_is_put_into_words_twice(
    sweep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At its start and its end, and not again for each of the others; all is one JSON file."""
    told = list[str]()

    def counted(record: JournalRecord) -> dict[str, Any]:
        told.append(record.source)
        return asdict(record)

    monkeypatch.setattr("sam21convert.workflows.batch.journal.asdict", counted)
    assert sam21convert.batch("runs", 'out\n"', suffix=".pt").ok
    assert sorted(told) == sorted(2 * [f"{sweep}/runs/epoch_{epoch}.pt" for epoch in (1, 2, 10)])
    text = Path('out\n"/batch.json').read_text()
    assert text == json.dumps(json.loads(text), indent=1) + "\n"
    for output in json.loads(text)["outputs"]:
        Journal(Path('out\n"')).put(output, None)
    text = Path('out\n"/batch.json').read_text()
    assert text == json.dumps({"format": 1, "outputs": {}}, indent=1) + "\n"


def test_the_ledger_is_on_disk_before_anything_is_written(
    sweep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = []

    def look(*_: object, **__: object) -> None:
        record = Journal(Path("out")).get("epoch_1")
        states.append(record.state if record else None)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sam21convert.workflows.batch.run.carry_out", look)
    report = sam21convert.batch("runs/epoch_1.pt", "out")
    assert states == ["started"]
    assert report.items[0].error == "out/epoch_1: No space left on device"
