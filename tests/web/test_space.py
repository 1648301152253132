"""``push --app-space``: a page beside the published model, which starts from what was written."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packaging.requirements import Requirement

import sam21convert
from sam21convert.model.run_lengths import decode
from sam21convert.workflows.publish.app_space import requirements
from sam21convert.workflows.publish.readme import metadata_of
from sam21convert.workflows.publish.wheel import write_wheel

from ..support import installs
from ..support.hub_server import Hub
from ..support.paths import PACKAGE
from ..support.pushing import Commands, running
from ..workflows.test_repository import digest

REPO, SPACE = "org/model", "org/app"
ASKED = ("--app-space", SPACE)
OWN = {"app.py", "Dockerfile", "requirements.txt", "README.md", "sam21convert.json"}


@pytest.fixture(scope="module")
def commands(work: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    with running(work / "first.pt", tmp_path_factory.mktemp("home")) as commands:
        yield commands


@pytest.fixture
def hub(commands: Commands) -> Hub:
    """Empty."""
    for key in (REPO, f"spaces/{SPACE}"):
        commands.hub.store.repos.pop(key, None)
        shutil.rmtree(commands.hub.store.folder / key, ignore_errors=True)
    return commands.hub


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_wheel(tmp_path_factory.mktemp("wheel"))


def test_it_is_published_and_verified(commands: Commands, hub: Hub, tmp_path: Path) -> None:
    look = tmp_path / "look"
    planned = commands.push(REPO, *ASKED, "--dry-run", "--output", str(look), to="hf-video")
    assert planned["app"]["creates"]
    assert not {REPO, f"spaces/{SPACE}"} & {*hub.store.repos}
    done = commands.push(REPO, *ASKED, to="hf-video")
    assert (done["uploaded"], done["app"]["uploaded"], done["page"]) == (True, True, None)
    assert f"space       {SPACE}" in commands.announced
    there = hub.store.repos[f"spaces/{SPACE}"].files("main")
    hashes = {name: blob.sha256 for name, blob in there.items() if name != ".gitattributes"}
    assert {*hashes} - OWN == {f"sam21convert-{sam21convert.__version__}-py3-none-any.whl"}
    assert hashes == {name: one["sha256"] for name, one in done["app"]["files"].items()}
    assert hashes | {"README.md": ""} == {name: digest(look / "app" / name) for name in hashes} | {
        "README.md": ""
    }
    front = metadata_of(there["README.md"].read())
    stated = {name: front[name] for name in ("sdk", "app_port", "models")}
    assert stated == {"sdk": "docker", "app_port": 7860, "models": [REPO]}
    again = commands.push(REPO, *ASKED, to="hf-video")
    assert (again["uploaded"], again["app"]["uploaded"]) == (False, False)


def test_what_others_have_there_stays(commands: Commands, hub: Hub) -> None:
    front = b"---\nsdk: %s\n---\n# Theirs\n"
    for files, said in (
        ({"README.md": front % b"static"}, "is a Space of the kind static"),
        ({"README.md": front % b"docker", "app.py": b"theirs"}, "app.py"),
    ):
        hub.store.create(SPACE, files, prefix="spaces/")
        refused = commands.push(REPO, *ASKED)
        assert said in refused["error"]
        assert (refused["exit_code"], refused["hint"]) == (3, "name another Space")
        assert REPO not in hub.store.repos
        shutil.rmtree(hub.store.folder / f"spaces/{SPACE}")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--app-space", "app"), "app: expected NAMESPACE/NAME"),
        (("--app-space", "a b/c"), "not a valid name of a Space"),
        ((*ASKED, "--create-pr"), "--create-pr and --app-space exclude each other"),
        (
            (*ASKED, "--with-onnx", "--page-space", SPACE),
            "--app-space and --page-space need a Space each",
        ),
    ],
)
def test_requests_that_cannot_be(
    commands: Commands, hub: Hub, options: tuple[str, ...], message: str
) -> None:
    refused = commands.push(REPO, *options)
    assert (refused["exit_code"], message in refused["error"]) == (2, True), refused


def test_versions_are_those_that_run_here(wheel: Path) -> None:
    index, own, *pins = requirements(wheel.name).splitlines()
    assert index == "--extra-index-url https://download.pytorch.org/whl/cpu"
    assert own == f"./{wheel.name}"
    pinned = {one.name: one for one in map(Requirement, pins)}
    needed = installs.closure([*installs.declared(), *installs.declared("torch")])
    needed |= installs.closure(installs.declared("web"))
    assert {*pinned} == {
        name for name in needed if not name.startswith(("nvidia", "cuda", "triton"))
    }
    for name, one in pinned.items():
        version = needed[name].version
        assert str(one.specifier) == (
            f"=={version.partition('+')[0]}+cpu" if name == "torch" else f"=={version}"
        )


def test_the_wheel_holds_the_package_and_is_the_same_each_time(wheel: Path, tmp_path: Path) -> None:
    assert write_wheel(tmp_path).read_bytes() == wheel.read_bytes()
    installed = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-compile"]
    subprocess.run([*pip, "--target", installed, wheel], check=True)
    for path in PACKAGE.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            name = path.relative_to(PACKAGE)
            assert (installed / "sam21convert" / name).read_bytes() == path.read_bytes()
    assert (installed / "sam21convert" / "model" / "sam2.py").is_file()


@contextmanager
def started(python: Path, app: Path, environment: dict[str, str]) -> Iterator[int]:
    """The app as its Dockerfile starts it; the port that it prints."""
    words = [str(python), "app.py"]
    with subprocess.Popen(
        words, cwd=app, env=environment | {"PORT": "0"}, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline().rstrip("/\n").rpartition(":")[2])
        finally:
            process.kill()


def alone(hub: Hub, home: Path) -> dict[str, str]:
    """Variables that lead to this Hub, to no other packages, and to a folder for what is left."""
    given = hub.environment(home) | {"TMPDIR": str(home)}
    return {name: value for name, value in given.items() if not name.startswith("PYTHON")}


def ask(port: int, path: str, body: Any) -> Any:
    behind = {"Host": "org-app.hf.space", "Origin": "https://org-app.hf.space"}
    with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("POST", path, body, behind)
        answer = connection.getresponse()
        policy = answer.getheader("content-security-policy") or ""
        assert "frame-ancestors https://huggingface.co" in policy
        return json.loads(answer.read().splitlines()[-1])


def assert_it_answers(port: int, work: Path) -> None:
    begun = ask(port, "/api/begin", "")
    assert [side["source"] for side in begun["sides"]] == [f"hf://{REPO}"]
    home = f"/api/{begun['session']}"
    ask(port, f"{home}/upload?name=house.png", (work / "house.png").read_bytes())
    ask(port, f"{home}/open", '{"names": ["house.png"]}')
    found = ask(port, f"{home}/prompt", '{"points": [[42, 60, 1]]}')
    point = sam21convert.Point(42, 60)
    wanted = sam21convert.predict_image(
        work / "house.png", work / "first.pt", prompts=[point], device="cpu"
    )
    masks = [decode(runs) for runs in found["sides"][0]["masks"]]
    assert np.mean(np.array(masks) == wanted.masks) > 0.999  # threads round as they please


def look_of(commands: Commands, hub: Hub, tmp_path: Path) -> Path:
    """The app as it lies on the Hub, with the model beside it."""
    assert commands.push(REPO, *ASKED, to="hf-video")["app"]["uploaded"]
    for name, blob in hub.store.repos[f"spaces/{SPACE}"].files("main").items():
        (tmp_path / "app").mkdir(exist_ok=True)
        (tmp_path / "app" / name).write_bytes(blob.read())
    return tmp_path / "app"


def test_the_app_starts_and_serves_the_published_model(
    commands: Commands, hub: Hub, work: Path, tmp_path: Path
) -> None:
    """From the wheel, with the packages of this Python that its requirements name."""
    app = look_of(commands, hub, tmp_path)
    python = installs.install(tmp_path / "env", "torch", "web")
    (site,) = (tmp_path / "env" / "lib").glob("python*/site-packages")
    (site / "sam21convert").unlink()
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", site, *app.glob("*.whl")], check=True)
    with started(python, app, alone(hub, tmp_path)) as port:
        assert_it_answers(port, work)


@pytest.mark.slow
def test_a_real_environment(commands: Commands, hub: Hub, work: Path, tmp_path: Path) -> None:
    """An empty one, into which pip installs what the requirements say."""
    app = look_of(commands, hub, tmp_path)
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    line = [str(python), "-m", "pip", "install", "-q", "-r", "requirements.txt"]
    subprocess.run(line, cwd=app, check=True)
    with started(python, app, alone(hub, tmp_path)) as port:
        assert_it_answers(port, work)
