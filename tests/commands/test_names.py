"""Values and commands as people type them."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

import sam21convert
from sam21convert._version import __version__
from sam21convert.commands.main import main
from sam21convert.conversion.target import pick_target
from sam21convert.errors import UsageError

from ..support.checkpoints import DEBUG
from .test_commands import run


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("models")
    sam21convert.sample(home / "video.pt", DEBUG)
    sam21convert.convert(home / "video.pt", home / "image.safetensors", to="hf-image")
    return home


@pytest.mark.parametrize("word", ["hf", "transformers"])
@pytest.mark.parametrize("end", ["", ".safetensors"])
def test_hf_is_the_dialect_of_the_model(models: Path, tmp_path: Path, word: str, end: str) -> None:
    for source, dialect in (("video.pt", "hf-video"), ("image.safetensors", "hf-image")):
        out = tmp_path / f"{dialect}{end}"
        done = run("convert", str(models / source), str(out), "--to", word)
        assert done.exit_code == 0, done.output
        assert sam21convert.inspect(out).dialect == dialect


def test_short_names_of_types_and_what_is_spelt_alike(models: Path, tmp_path: Path) -> None:
    line = ["convert", str(models / "video.pt"), str(tmp_path / "o.pt")]
    assert run(*line, "--dtype", "fp16").exit_code == 0
    assert sam21convert.inspect(tmp_path / "o.pt").dtypes == {"F16": 359}
    wrong = run(*line, "--to", "hf-vidio")
    assert wrong.exit_code == 2
    assert "Did you mean hf-video" in wrong.output
    assert "Did you mean" not in run(*line, "--to", "xyz").output
    with pytest.raises(UsageError) as caught:
        sam21convert.convert(line[1], "out", to="hf_image")
    assert str(caught.value.hint).startswith("did you mean hf-image")


def test_help_of_a_command_and_the_version() -> None:
    assert run("help", "convert").output == run("convert", "--help").output
    assert run("help", "predict", "image").output == run("predict", "image", "--help").output
    assert run("help").output == run("--help").output
    assert __version__ in run("-V").output


@pytest.mark.parametrize("group", [[], ["predict"]])
def test_summaries_of_commands_fit_a_line(
    group: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """click cuts the first sentence of a help text, where no shorter one is given."""
    monkeypatch.setenv("COLUMNS", "80")
    shown = run(*group, "--help").output.partition("Commands:\n")[2].partition("\n\n")[0]
    command = main.commands["predict"] if group else main
    assert isinstance(command, click.Group)
    lines = [line.strip() for line in shown.splitlines()]
    assert [line.split()[0] for line in lines] == sorted(command.commands)
    assert all(line.endswith(".") and "..." not in line for line in lines)
    monkeypatch.setattr(main.commands["inspect"], "short_help", None)
    assert "..." in run("--help").output


@pytest.mark.parametrize(("file", "kind"), [("my cat.jpg", "image"), ("cat.MP4", "video")])
def test_predict_of_a_file_points_at_the_command(file: str, kind: str) -> None:
    wrong = run("predict", file, "--checkpoint", "m.pt")
    quoted = f"'{file}'" if " " in file else file
    assert wrong.exit_code == 2
    assert f"Did you mean: sam21convert predict {kind} {quoted} --checkpoint m.pt" in wrong.output
    assert "sam21convert predict image imag" not in run("predict", "imag").output


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("out.safetensor", "out.safetensors"),
        ("out.sft", "out.safetensors"),
        ("out.safetensors.gz", "out.safetensors"),
        ("out.SAFETENSORS", "out.safetensors"),
        ("out.safetnesors", "out.safetensors"),
        *(
            (f"out{end}", "out.pt")
            for end in (".PT", ".pt2", ".pt.zip", ".pth.tar", ".ckpt", ".ckp")
        ),
        *((f"out{end}", "out.pt") for end in (".onx", ".onnx", ".bin", ".png", ".h5", ".gguf")),
        ("v1.2.tar.gz", "v1.2.pt"),
    ],
)
def test_a_name_like_that_of_a_file_is_no_folder(name: str, nearest: str) -> None:
    with pytest.raises(UsageError, match="no file of this kind") as caught:
        pick_target(Path(name), None)
    assert f"the nearest is {nearest};" in str(caught.value.hint)


@pytest.mark.parametrize(
    "name",
    [
        *("sam2.1-tiny-hf", "model-v1.2", "my-model", "sam2.1", ".hidden", "epoch_1.5", "a.b.c"),
        *(f"model.{word}" for word in ("hf", "ema", "best", "final", "fp16", "video", "tiny", "d")),
    ],
)
def test_a_folder_may_have_a_dot_in_its_name(name: str) -> None:
    assert pick_target(Path(name), None)[0] == "transformers folder"


def test_a_folder_that_exists_may_have_any_name(tmp_path: Path) -> None:
    (tmp_path / "models.zip").mkdir()
    assert pick_target(tmp_path / "models.zip", None)[0] == "transformers folder"


def test_every_choice_of_every_command_names_what_is_alike() -> None:
    def options(command: click.Command) -> list[click.Parameter]:
        nested = command.commands.values() if isinstance(command, click.Group) else ()
        return [*command.params, *(one for each in nested for one in options(each))]

    choices = [one for one in options(main) if isinstance(one.type, click.Choice)]
    context = click.Context(main)
    assert choices
    for one in choices:
        for value in map(str, one.type.choices):  # type: ignore[attr-defined]
            with pytest.raises(click.BadParameter, match=r"Did you mean .*\?"):
                one.type.convert(f"{value}x", one, context)
