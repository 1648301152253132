"""What commands show on a terminal, compared with recordings in ``tests/fixtures/terminal``.

``RECORD_TERMINAL=1 pytest tests/commands/test_terminal.py`` makes the recordings again; look at
what has changed in them.
"""

from __future__ import annotations

import fcntl
import json
import os
import pickle
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import hf_hub_download

import sam21convert
from sam21convert.checkpoint.safety.report import Safety
from sam21convert.commands.main import main
from sam21convert.comparison.findings import (
    ActivationResult,
    Diagnosis,
    NegativeControl,
    ParitySide,
    ScenarioResult,
)
from sam21convert.comparison.report import ParityReport
from sam21convert.hub.watching import Download, watched

from ..support.checkpoints import DEBUG
from ..support.paths import ROOT
from ..support.terminal import Shown, in_terminal, normal, screen
from .test_commands import run

RECORDINGS = ROOT / "tests" / "fixtures" / "terminal"
LONG = "runs/a_folder_of_experiments/with_a_rather_long_name/checkpoint_epoch_0040.pt"
SESSIONS = {
    "inspect": "inspect model.pt",
    "inspect-many": f"inspect model.pt harmful.pkl cut.pt gone.pt {LONG}",
    "validate": "validate model.pt --config sam2.1/sam2.1_hiera_t",
    "diff": "diff model.pt tuned.pt",
    "safety": "safety harmful.pkl",
    "parity": "parity model.pt transformers:my-model",
    "parity-differs": "parity model.pt other.pt",
    "convert": f"convert {LONG} converted",
    "batch": f"batch {LONG} cut.pt --out many",
    "error": "convert model.pt converted.onnx",
    "usage": "convert model.pt",
    "help": "--help",
    "list": "list",
}
ESCAPE = "\x1b["


class Harm:
    def __reduce__(self) -> Any:
        return os.system, ("echo hello",)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of checkpoints."""
    folder = tmp_path_factory.mktemp("terminal")
    model, long = folder / "model.pt", folder / LONG
    sam21convert.sample(model, DEBUG)
    long.parent.mkdir(parents=True)
    long.hardlink_to(model)
    (folder / "cut.pt").write_bytes(model.read_bytes()[:1000])
    (folder / "harmful.pkl").write_bytes(pickle.dumps(Harm(), 2))
    state = torch.load(model)
    state["model"]["no_mem_embed"] *= 1.5
    state["model"]["sam_mask_decoder.iou_token.weight"] += 0.25
    torch.save(state, folder / "tuned.pt")
    return folder


@pytest.fixture
def shell(home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Shown]:
    """Runs a command line in the folder, on a terminal."""
    monkeypatch.chdir(home)
    monkeypatch.setattr("sam21convert.progress._PATIENCE", 3600)  # on a busy machine, too
    monkeypatch.setattr("sam21convert.hub.listing.cache_path", lambda _: home / "nothing")
    monkeypatch.setattr("sam21convert.hub.listing.hub_cache_path", lambda _: None)
    monkeypatch.setattr("sam21convert.comparison.api.parity", parity)

    def shell(line: str, columns: int = 80, **environment: str) -> Shown:
        words = line.split()
        return in_terminal(
            lambda: main(words, prog_name="sam21convert"), monkeypatch, columns, **environment
        )

    return shell


def parity(left: str, right: str, **_: Any) -> ParityReport:
    """A report as the real function makes it, which takes longer."""
    differs = right == "other.pt"

    def side(backend: str, path: str) -> ParitySide:
        facts = ("official", "torch zip", "2.1", DEBUG, 128)
        return ParitySide(backend, "1.0", Path(path), *facts, {}, (), Safety())

    def activation(name: str, relative: float) -> ActivationResult:
        return ActivationResult(name, relative, relative, 1.0, 1e-7, 1e-5, iou=0.9876)

    bad = activation("decoder.object_score", 3e-2)
    known = "transformers resizes pictures with antialiasing, which the official code does not do"
    return ParityReport(
        left=side("truth", left),
        right=side("transformers", right),
        reference="left",
        device="cpu",
        dtype="float32",
        threads=2,
        versions={},
        exact=False,
        multiple=10,
        noise_from=("other order of sums", "other kernels"),
        scenarios=(
            ScenarioResult("encoder", "", "", "same", (activation("trunk.stage0", 2e-6),)),
            ScenarioResult("image-pixels", "", "", "known difference", why=known, apart=2e-3),
            ScenarioResult("point", "", "", "differs", (bad,), bad.name)
            if differs
            else ScenarioResult("point", "", "", "same", (activation("decoder.masks", 2e-6),)),
        ),
        diagnosis=(Diagnosis("no_mem_embed differs", bad.name, "compare the files with diff"),)
        if differs
        else (),
        negative_controls=(NegativeControl("point", "no_mem_embed", 0.1, True, "memory"),),
        sensitivity=None,
        command="sam21convert parity model.pt other.pt",
        seconds=1.0,
        date="2025-01-01T00:00:00Z",
    )


def cleaned(home: Path) -> None:
    for name in ("converted", "many"):
        for path in sorted((home / name).rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("name", SESSIONS)
def test_the_screen_is_as_recorded(
    home: Path, shell: Callable[..., Shown], name: str, columns: int
) -> None:
    cleaned(home)
    shown = normal(shell(SESSIONS[name], columns).screen)
    recording = RECORDINGS / f"{name}-{columns}.txt"
    if os.environ.get("RECORD_TERMINAL"):
        recording.write_text(shown, encoding="utf-8")
    expected = recording.read_text(encoding="utf-8")
    assert shown.splitlines() == expected.splitlines()


def test_a_real_process_shows_the_same(home: Path) -> None:
    reader, writer = pty.openpty()
    command = [sys.executable, "-m", "sam21convert", "inspect", "model.pt"]
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    env = {**os.environ, "TERM": "xterm", "PYTHONPATH": str(ROOT)}
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        env.pop(name, None)
    done = subprocess.run(command, stdout=writer, stderr=writer, env=env, cwd=home)
    os.close(writer)
    raw = os.read(reader, 1 << 16)
    os.close(reader)
    assert done.returncode == 0
    assert normal(screen(raw, 80)) == (RECORDINGS / "inspect-80.txt").read_text()


@pytest.mark.parametrize("name", sorted(SESSIONS.keys() - {"help"}))
def test_a_narrow_terminal_loses_nothing(
    home: Path, shell: Callable[..., Shown], name: str
) -> None:
    cleaned(home)
    wide = shell(SESSIONS[name], 400)
    cleaned(home)
    narrow = shell(SESSIONS[name], 40)
    assert max(map(len, ESCAPE_SEQUENCE.sub("", narrow.raw).split("\r\n"))) <= 40
    assert letters(narrow) == letters(wide)


def letters(shown: Shown) -> Counter[str]:
    """What there is but for the places of it, and the digits of times."""
    return Counter(re.sub(r"[\s\d]", "", "".join(shown.plain)))


def test_the_help_of_click_fits_a_narrow_terminal_as_well_as_it_can(
    shell: Callable[..., Shown],
) -> None:
    lines = ESCAPE_SEQUENCE.sub("", shell(SESSIONS["help"], 60).raw).split("\r\n")
    assert 40 < max(map(len, lines)) <= 80


ESCAPE_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colours_are_turned_off(shell: Callable[..., Shown], environment: dict[str, str]) -> None:
    coloured, plain = shell("safety harmful.pkl"), shell("safety harmful.pkl", **environment)
    assert ESCAPE in coloured.raw
    assert ESCAPE not in plain.raw
    assert plain.screen == coloured.plain  # fitted to the width all the same


def test_an_empty_no_color_turns_nothing_off(shell: Callable[..., Shown]) -> None:
    assert ESCAPE in shell("safety harmful.pkl", NO_COLOR="").raw


def test_a_pipe_has_colours_if_they_are_forced_and_is_not_wrapped(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    monkeypatch.delenv("NO_COLOR", raising=False)
    line = ("inspect", "model.pt", "harmful.pkl", LONG)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    plain = run(*line).stdout
    monkeypatch.setenv("FORCE_COLOR", "1")
    forced = run(*line).stdout
    assert ESCAPE not in plain
    assert ESCAPE in forced
    assert ESCAPE_SEQUENCE.sub("", forced) == plain
    assert any(LONG in one and "harmless" in one for one in plain.splitlines())
    monkeypatch.setenv("NO_COLOR", "1")
    assert run(*line).stdout == plain


def test_json_has_no_colours(shell: Callable[..., Shown]) -> None:
    shown = shell("safety harmful.pkl --json", 80, FORCE_COLOR="1")
    assert shown.code == 1
    assert json.loads(shown.raw)["safety"] == "dangerous"


def test_names_cannot_add_colours(
    home: Path, shell: Callable[..., Shown], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = home / "\x1b[32mharmless\x1b[0m.pkl"
    path.write_bytes(pickle.dumps(Harm(), 2))
    shown = in_terminal(lambda: main(["safety", str(path)]), monkeypatch, 400)
    path.unlink()
    assert f"{ESCAPE}32m" not in shown.raw
    assert r"\x1b[32mharmless\x1b[0m.pkl" in shown.screen[0]
    assert shown.screen[0].startswith("[red]dangerous[/]")


def test_progress_tells_the_truth_and_is_gone_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sam21convert.progress._PATIENCE", 0)
    monkeypatch.setattr("sam21convert.progress._EVERY", 0.01)

    def work() -> None:
        with sam21convert.ProgressBar() as progress:
            progress.start("loading transformers", 0)
            time.sleep(0.1)
            progress.start("comparing", 3)
            for name in ("encoder", "point", "box"):
                progress.advance(0, name)
                time.sleep(0.1)
                progress.advance(1)
            progress.start("converting", 1000)
            progress.advance(1000)
            time.sleep(0.1)
        print("done")

    shown = in_terminal(work, monkeypatch, 80)
    assert shown.screen == ("done",)
    told = ESCAPE_SEQUENCE.sub("", shown.raw)
    order = "loading transformers", "comparing encoder (1 of 3)", "comparing point (2 of 3)"
    assert [told.index(text) for text in order] == sorted(told.index(text) for text in order)
    assert "converting" in told
    assert "99 %" in told
    assert "100" not in told
    dumb = in_terminal(work, monkeypatch, 80, TERM="dumb")
    assert dumb.raw.split() == ["done"]


def test_a_download_is_shown_while_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sam21convert.progress._PATIENCE", 0)
    monkeypatch.setattr("sam21convert.progress._EVERY", 0.01)

    def work() -> None:
        with sam21convert.ProgressBar() as progress:
            progress.start("inspecting", 2)
            with Download("model.pt", 1000) as download:
                download.arrived(500)
                time.sleep(0.1)
            elsewhere = threading.Thread(target=Download, args=("other.pt", 1000))
            elsewhere.start()
            elsewhere.join()
            time.sleep(0.1)

    told = ESCAPE_SEQUENCE.sub("", in_terminal(work, monkeypatch, 80).raw)
    assert told.index("downloading model.pt") < told.index("50 %") < told.rindex("inspecting")
    assert "other.pt" not in told  # of another thread, whose work has its own name
    assert watched(hf_hub_download) == {}  # nobody watches any more


def test_progress_that_is_short_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    def work() -> None:
        with sam21convert.ProgressBar() as progress:
            progress.start("converting", 10)
        print("done")

    assert in_terminal(work, monkeypatch, 80).raw == "done\r\n"


def test_a_notebook_shows_progress_without_widgets(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is shown once and updated in place, with what the phase is, and is empty in the end."""
    display = pytest.importorskip("IPython.display")
    shown: list[str] = []

    class Handle:
        def update(self, drawn: Any, raw: bool = False) -> None:
            shown.append(drawn["text/plain"] if raw else html(drawn))

    def show(drawn: Any, display_id: bool) -> Handle:
        assert display_id
        shown.append(html(drawn))
        return Handle()

    def html(drawn: Any) -> str:
        return str(drawn._repr_mimebundle_((), ())["text/html"])

    monkeypatch.setattr(display, "display", show)
    monkeypatch.setitem(sys.modules, "ipykernel", display)
    monkeypatch.setattr("sam21convert.progress._PATIENCE", 0)
    monkeypatch.setattr("sam21convert.progress._EVERY", 0.01)
    with sam21convert.ProgressBar() as progress:
        assert progress.visible
        progress.start("converting", 10)
        time.sleep(0.1)
    assert "converting" in shown[0]
    assert shown[-1] == ""
    monkeypatch.delitem(sys.modules, "ipykernel")
    assert not sam21convert.ProgressBar().visible


def test_rich_is_not_imported_in_a_pipe(home: Path) -> None:
    program = (
        "import sys\n"
        "from sam21convert.__main__ import main\n"
        "try:\n"
        "    main(['inspect', 'model.pt'])\n"
        "finally:\n"
        "    print('rich' in sys.modules, 'sam21convert.progress' in sys.modules)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    env = {name: value for name, value in env.items() if name != "FORCE_COLOR"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=env, cwd=home, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False True", done.stderr
