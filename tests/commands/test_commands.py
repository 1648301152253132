from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sam21convert.commands.main import main

from ..support.checkpoints import DEBUG, DEBUG_20, official_pt


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def pt(tmp_path: Path) -> Path:
    return official_pt(tmp_path / "m.pt")


@pytest.mark.parametrize("command", sorted(main.commands))
def test_every_command_has_help_with_an_example(command: str) -> None:
    text = run(command, "--help").output
    assert re.search(rf"Examples?:\n\s+sam21convert {command}", text)


def test_the_exit_codes_are_documented() -> None:
    text = run("--help").output
    for code in (0, 1, 2, 3, 70, 130, 141, 143):
        assert re.search(rf"^\s+{code}  ", text, re.MULTILINE)


class TestExitCodes:
    def test_yes(self, tmp_path: Path, pt: Path) -> None:
        for arguments in (
            ("inspect", pt),
            ("inspect", pt, "--tensors"),
            ("validate", pt),
            ("validate", pt, "--config", DEBUG),
            ("convert", pt, tmp_path / "hf"),
            ("convert", pt, tmp_path / "x.safetensors", "--no-verify", "--dtype", "float16"),
            ("convert", pt, tmp_path / "y.safetensors", "--dry-run"),
            ("sample", tmp_path / "s.safetensors", "--config", DEBUG),
        ):
            result = run(*arguments)
            assert (result.exit_code, result.stderr) == (0, ""), arguments

    def test_no(self, tmp_path: Path, pt: Path) -> None:
        assert run("validate", pt, "--config", DEBUG_20).exit_code == 1
        result = run("convert", pt, tmp_path / "hf", "--config", DEBUG_20)
        assert result.exit_code == 1
        assert result.stderr.startswith("error: ")
        assert "hint: this is a SAM 2.1 checkpoint" in result.stderr

    def test_wrong_usage(self, tmp_path: Path, pt: Path) -> None:
        (tmp_path / "x.pt").touch()
        for arguments in (
            ("convert", pt),
            ("convert", pt, tmp_path / "y.pt", "--to", "klingon"),
            ("convert", pt, tmp_path / "x.pt"),
            ("sample", tmp_path / "x.pt"),
        ):
            assert run(*arguments).exit_code == 2, arguments

    def test_unreadable_or_refused(self, tmp_path: Path, pt: Path) -> None:
        (tmp_path / "x.pt").write_bytes(b"<!DOCTYPE html>")
        for command in ("inspect", "validate"):
            assert run(command, tmp_path / "gone.pt").exit_code == 3
            assert run(command, tmp_path / "x.pt").exit_code == 3
        assert run("validate", pt, "--config", "nothing").exit_code == 3

    def test_a_refusal_of_the_system_is_no_traceback(
        self, tmp_path: Path, pt: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("sam21convert.conversion.write.write_safetensors", full)
        result = run("convert", pt, tmp_path / "x.safetensors")
        said = f"error: {tmp_path / 'x.safetensors'}: No space left on device\n"
        assert (result.exit_code, result.stderr) == (3, said)
        assert os.listdir(tmp_path) == ["m.pt"]


class TestJson:
    def test_answers(self, tmp_path: Path, pt: Path) -> None:
        assert json.loads(run("inspect", pt, "--json").output)["config"] == DEBUG
        assert json.loads(run("validate", pt, "--json").output)["problems"] == []
        report = json.loads(run("convert", pt, tmp_path / "hf", "--json").output)
        assert len(report["sha256"]) == 6
        assert len(report["tensors"]) == 357
        report = json.loads(run("convert", pt, tmp_path / "hf2", "--json", "--dry-run").output)
        assert list(report["sha256"]) == [str(pt)]

    def test_errors(self, tmp_path: Path) -> None:
        result = run("inspect", tmp_path / "gone.pt", "--json")
        answer = json.loads(result.output)
        assert (result.exit_code, answer["exit_code"]) == (3, 3)
        assert "gone.pt" in answer["error"]


def test_no_progress_is_shown_where_there_is_no_terminal(tmp_path: Path, pt: Path) -> None:
    assert run("convert", pt, tmp_path / "hf").stderr == ""


def test_options_reach_the_conversion(tmp_path: Path, pt: Path) -> None:
    run("convert", pt, tmp_path / "image", "--to", "hf-image", "--image-size", 256)
    config = json.loads((tmp_path / "image" / "config.json").read_text())
    assert (config["model_type"], config["prompt_encoder_config"]["image_size"]) == ("sam2", 256)
    assert run("convert", tmp_path / "image", tmp_path / "x.pt").exit_code == 3
    assert run("convert", tmp_path / "image", tmp_path / "x.pt", "--base", pt).exit_code == 0
    assert run("convert", pt, tmp_path / "image", "--overwrite").exit_code == 0
