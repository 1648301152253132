"""Malformed and malicious files: each gets the expected verdict, and none of them runs anything."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sam21convert.errors import Sam21ConvertError
from sam21convert.io import safetensors, zip_directory
from sam21convert.io import text as text_files
from sam21convert.io import torch_zip as torch_zip_reader
from sam21convert.io.open import open_source
from sam21convert.io.pickle import machine

from ..corpus import CASES, build
from ..corpus.attacks import CALLS
from ..corpus.broken_pickles import WHOLE
from ..corpus.case import Case, written
from ..corpus.spelling import torch_zip
from ..support.paths import DOCS, ROOT

COMMANDS = ("inspect", "validate", "convert")
SECONDS, MEMORY = 2.0, 300e6  # of a verdict; of the whole corpus in one process
Answers = dict[Case, list[dict[str, Any]]]


def program(name: str, jobs: list[Any]) -> Any:
    """Run a program of the corpus in a process of its own, and return its answers."""
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "corpus" / name],
        input=json.dumps(jobs), capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def ask(made: dict[Case, Path]) -> Answers:
    jobs = [
        {
            "home": str(path.parent),
            "argument": case.argument or str(path),
            "config": case.config,
            "carries": None if case.carries is None else case.carries.hex(),
        }
        for case, path in made.items()
    ]
    return dict(zip(made, program("child.py", jobs), strict=True))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Case, Path]]:
    found = build(tmp_path_factory.mktemp("corpus"))
    yield found
    for path in found.values():
        with suppress(OSError):
            path.unlink()  # they are large


@pytest.fixture(scope="module")
def answers(made: dict[Case, Path]) -> Answers:
    root = os.name != "posix" or os.geteuid() == 0  # which reads what it may not
    return ask({c: p for c, p in made.items() if not (root and c.name == "not to be read")})


def wrong(case: Case, answers: list[dict[str, Any]]) -> list[str]:
    """List everything that differs from the manifest."""
    found = []
    for code, answer in zip(case.codes, answers, strict=True):
        text = answer["err"] + answer["out"]
        checks = {
            f"exit code {answer['code']}, not {code}": answer["code"] == code,
            "a traceback": "Traceback" not in text,
            f"left {answer['litter']}": not answer["litter"],
            f"took away {answer['lost']}": not answer["lost"],
            f"took {answer['seconds']:.1f} s": answer["seconds"] <= SECONDS,
            "not the bytes of the input": answer["carried"] is not False,
            f"is no answer: {text[-400:]}": answer["code"] == 0
            or all(words in text for words in case.says),
            f"not one line: {text[:400]}": answer["code"] not in (2, 3)
            or (
                one_line(answer)
                and (case.argument or ("config.yaml" if case.config else "/")) in text
            ),
        }
        found += [
            f"{case}: {answer['command']}: {what}" for what, good in checks.items() if not good
        ]
    return found


def one_line(answer: dict[str, Any]) -> bool:
    """Whether the text is one readable error line, optionally with one hint."""
    pattern = r"error: [^\n]{1,1000}\n(hint: [^\n]{1,500}\n)?"
    return not answer["out"] and re.fullmatch(pattern, answer["err"]) is not None


def test_every_file_gets_its_verdict(answers: Answers) -> None:
    assert [line for case, found in answers.items() for line in wrong(case, found)] == []


def test_memory_is_bounded(answers: Answers) -> None:
    assert max(answer["peak"] for found in answers.values() for answer in found) < MEMORY


def test_the_corpus_is_large_and_always_the_same(tmp_path: Path) -> None:
    assert len(CASES) == len({*map(str, CASES)}) >= 150
    assert sum(case.loader is not None for case in CASES) >= 80
    twice = [case for case in CASES if case.kind in ("calls", "zip entries")]
    for case in twice:
        for name in "ab":
            case.build(tmp_path / name)
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_malicious_files_run_something_when_loaded_the_ordinary_way(made: dict[Case, Path]) -> None:
    malicious = {case: path for case, path in made.items() if case.loader is not None}
    homes = [path.parent for path in malicious.values()]
    jobs = [[str(p.parent), str(p), c.loader] for c, p in malicious.items()]
    fired = program("danger.py", jobs)
    for home in homes:
        fired_at = home / "fired"
        fired_at.rmdir() if fired_at.is_dir() else fired_at.unlink(missing_ok=True)
    assert [str(case) for case, hot in zip(malicious, fired, strict=True) if not hot] == []


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_cut_at_any_byte_raises_one_of_our_errors(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    for end in range(len(WHOLE[name])):
        path.write_bytes(WHOLE[name][:end])
        with pytest.raises(Sam21ConvertError, match=re.escape(str(path))) as caught:
            open_source(path)
        assert "\n" not in caught.value.message
    path.write_bytes(WHOLE[name])
    assert open_source(path)


CONTROL = Case("control", "control", written(torch_zip(b"N.")), ("holds no tensors",))


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    path = tmp_path_factory.mktemp("control") / "a.pt"
    CONTROL.build(path)
    return ask({CONTROL: path})[CONTROL]


class TestControls:
    """Negative controls: the checks above fail when they should."""

    def test_a_wrong_manifest_is_detected(self, asked: list[dict[str, Any]]) -> None:
        assert wrong(CONTROL, asked) == []
        assert len(wrong(replace(CONTROL, codes=(0, 3, 3)), asked)) == 1
        assert len(wrong(replace(CONTROL, says=("another cause",)), asked)) == 3

    @pytest.mark.parametrize(
        ("change", "count"),
        [
            ({"litter": ["fired"]}, 1),
            ({"lost": ["a.pt"]}, 1),
            ({"seconds": 3.0}, 1),
            ({"carried": False}, 1),
            ({"err": "error: holds no tensors\nand more\n"}, 1),
            ({"err": "Traceback, holds no tensors"}, 2),
        ],
    )
    def test_a_wrong_answer_is_detected(
        self, asked: list[dict[str, Any]], change: dict[str, Any], count: int
    ) -> None:
        first, *rest = asked
        assert len(wrong(CONTROL, [{**first, **change}, *rest])) == count

    def test_a_reader_that_runs_code_is_detected(self, tmp_path: Path) -> None:
        """A malicious file is loaded with torch in the observed folder."""
        path = tmp_path / "a.pt"
        path.write_bytes(torch_zip(b"\x80\x02" + CALLS["os.system"] + b"."))
        harmless = tmp_path / "harmless"
        harmless.mkdir()
        (harmless / "a.pt").write_bytes(torch_zip(b"\x80\x02}."))
        jobs = [[str(p.parent), str(p), "torch"] for p in (path, harmless / "a.pt")]
        assert program("danger.py", jobs) == [True, False]


def test_the_document_states_the_limits() -> None:
    text = " ".join((DOCS / "safety.md").read_text().split())
    for stated in (
        f"{machine.MAX_OPCODES:,} opcodes and {machine._MAX_KEPT >> 20} MiB of values for a pickle",
        f"{zip_directory.MAX_DIRECTORY >> 20} MiB for the directory of a zip archive",
        f"{safetensors._MAX_HEADER // 10**6} MB for the header of a safetensors file",
        f"{text_files._MAX_BYTES >> 10} KiB for a config",
        f"{torch_zip_reader._MAX_ONE_TENSOR >> 10} KiB for directory and pickle of a piece",
    ):
        assert stated in text


def test_the_document_counts_the_cases() -> None:
    text = (DOCS / "safety.md").read_text()
    reading = text.split("## Reading")[1].split("## Writing")[0]
    listed = {
        row[0]: int(row[1]) for row in re.findall(r"^\| ([^|]+) \| (\d+) \|", reading, re.MULTILINE)
    }
    assert listed == {**Counter(case.kind for case in CASES), "in all": len(CASES)}
