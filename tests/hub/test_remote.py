"""``inspect hf://...`` reads kilobytes and reports the same as for a local copy, despite faults.

All inspections of this file run in one process, except those offline.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sam21convert import convert, inspect
from sam21convert.config.hydra_writer import to_hydra
from sam21convert.config.registry import shipped_config, shipped_tensors

from ..support.checkpoints import DEBUG, official_pt, state_dict
from ..support.exports import FILES as EXPORT
from ..support.hub_server import ALWAYS, Cut, Effect, Fault, Hub, NoRange, Request, Slow, Status
from ..support.hub_server.policy import WRITER

KILOBYTES = 300_000
TINY = "sam2.1_hiera_tiny.pt"
OFFICIAL = "facebook/sam2.1-hiera-tiny"
HUB = f"hf://{OFFICIAL}"
INFO, FILES, STORAGE = "/api/models/*", "/org/*/resolve/*", "/storage/*"
COMMANDS = """
import json, sys
from click.testing import CliRunner
from sam21convert.hub import retry
from sam21convert.commands.main import main

retry.wait = lambda left: None

for line in sys.stdin:
    done = CliRunner().invoke(main, json.loads(line))
    assert isinstance(done.exception, (SystemExit, type(None))), done.exception
    assert "torch" not in sys.modules
    print(json.dumps([done.exit_code, done.stdout, done.stderr]), flush=True)
"""


class Opener:
    """Creates a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.system, (f"touch {self.trace}",)


def save(value: Any, path: Path, **options: Any) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(value, path, **options)
    return path


def sharded(folder: Path, target: Path) -> Path:
    target.mkdir()
    (target / "config.json").write_bytes((folder / "config.json").read_bytes())
    tensors = load_file(folder / "model.safetensors")
    weight_map: dict[str, str] = {}
    for number in (1, 2):
        shard = f"model-{number:05}-of-00002.safetensors"
        part = {name: tensors[name] for name in sorted(tensors)[number - 1 :: 2]}
        save_file(part, target / shard, {"format": "pt"})
        weight_map |= dict.fromkeys(part, shard)
    index = {"metadata": {}, "weight_map": weight_map}
    (target / "model.safetensors.index.json").write_text(json.dumps(index))
    return target


@dataclass
class World:
    """A Hub, local copies of its files, and a process that runs commands."""

    hub: Hub
    home: Path
    copies: Path
    process: subprocess.Popen[str]

    def run(self, *words: str) -> tuple[dict[str, Any], list[Request]]:
        """The JSON that a command prints for its result or error, and its requests to the Hub."""
        code, out, requests = self.told(*words, "--json")
        answer: dict[str, Any] = json.loads(out)
        assert code == answer["exit_code"]
        return answer, requests

    def told(self, *words: str) -> tuple[int, str, list[Request]]:
        """The exit code of a command, what it prints, and its requests to the Hub."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.hub.requests.clear()
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()
        code, out, err = json.loads(self.process.stdout.readline())
        assert out, err
        assert WRITER.token not in out + err
        return code, out, list(self.hub.requests)

    def inspect(self, reference: str) -> tuple[dict[str, Any], list[Request]]:
        answer, requests = self.run("inspect", reference, "--tensors", "--tree")
        assert sum(request.sent for request in requests) < KILOBYTES
        assert not (self.home / "hub").exists()
        return answer, requests

    def error(self, reference: str) -> str:
        """The error for a repository that cannot be read; it names the repository once."""
        answer, _ = self.inspect(reference)
        text = str(answer["error"])
        assert answer["exit_code"] in (2, 3)
        assert text.startswith(reference)
        assert text.count("hf://") == 1
        return text


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files and folders that are also on the Hub, each in a repository of its name."""
    home = tmp_path_factory.mktemp("copies")
    model = state_dict()
    official_pt(home / "zip.pt", model)
    save({"model": model}, home / "legacy.pt", _use_new_zipfile_serialization=False)
    convert(home / "zip.pt", home / "flat.safetensors")
    convert(home / "zip.pt", home / "folder")
    convert(home / "zip.pt", home / "image", to="hf-image")
    sharded(home / "folder", home / "shards")
    moments = {
        number: {"step": torch.tensor(1.0), "exp_avg": tensor[:0], "exp_avg_sq": tensor[:0]}
        for number, tensor in enumerate(model.values())
    }
    extras = {"optimizer": {"state": moments}, "epoch": 3, "trace": Opener(home / "trace")}
    compiled = {f"module._orig_mod.{name}": tensor for name, tensor in model.items()}
    save({"state_dict": compiled, **extras}, home / "training.pt")
    save_file({"a": torch.zeros(2)}, home / "other.safetensors")
    official_pt(home / "small.pt", {"a": torch.zeros(50_000)})
    return home


@pytest.fixture(scope="module")
def world(copies: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    home = tmp_path_factory.mktemp("home")
    with Hub() as hub:
        for path in copies.iterdir():
            files = path.iterdir() if path.is_dir() else [path]
            hub.create(f"org/{path.stem}", {file.name: file.read_bytes() for file in files})
        zipped = (copies / "zip.pt").read_bytes()
        flat = (copies / "flat.safetensors").read_bytes()
        hub.create(OFFICIAL, {TINY: zipped, "config.json": b"{}", "model.safetensors": b"x"})
        hub.repo(OFFICIAL).write({TINY: flat}, "refs/pr/1")
        hub.create("org/several", {"a.pt": zipped, "sub/b.safetensors": flat, "empty.pt": b""})
        settings = to_hydra(replace(shipped_config(DEBUG), image_size=192)).encode()
        hub.create("org/yaml", {"m.pt": zipped, "m.yaml": settings})
        hub.create("org/nothing", {"README.md": b"x"})
        hub.create("org/export", {f"below/{name}": b"x" for name in EXPORT})
        hub.create("some/gated", {"m.pt": zipped}, gated=True)
        hub.create("org/cut", {"m.safetensors": flat[:-7]})
        with subprocess.Popen(
            [sys.executable, "-W", "error", "-c", COMMANDS],
            env=hub.environment(home),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            yield World(hub, home, copies, process)
            assert process.stdin is not None
            process.stdin.close()


@pytest.fixture(autouse=True)
def _healthy(world: World) -> None:
    world.hub.heal()


def test_the_yaml_of_a_checkpoint_is_read(world: World) -> None:
    assert world.inspect("hf://org/yaml")[0]["image_size"] == 192
    assert world.inspect("hf://org/yaml/m.pt")[0]["image_size"] == 192


def read_back(answer: dict[str, Any]) -> Any:
    """An answer as a program reads it."""
    return json.loads(json.dumps(answer))


@pytest.mark.parametrize(
    ("reference", "shown", "copy"),
    [
        ("hf://org/zip", "hf://org/zip/zip.pt", "zip.pt"),
        ("hf://org/legacy", "hf://org/legacy/legacy.pt", "legacy.pt"),
        ("hf://org/flat", "hf://org/flat/flat.safetensors", "flat.safetensors"),
        ("hf://org/training", "hf://org/training/training.pt", "training.pt"),
        ("hf://org/other", "hf://org/other/other.safetensors", "other.safetensors"),
        ("hf://org/folder", "hf://org/folder", "folder"),
        ("hf://org/folder/", "hf://org/folder", "folder"),
        ("hf://org/image@main", "hf://org/image@main", "image"),
        ("hf://org/shards", "hf://org/shards", "shards"),
        ("hf://org/image/model.safetensors", None, "image/model.safetensors"),
        (
            "hf://org/shards/model.safetensors.index.json",
            None,
            "shards/model.safetensors.index.json",
        ),
        ("hf://org/several/sub/b.safetensors", None, "flat.safetensors"),
        (f"{HUB}/{TINY}", None, "zip.pt"),
        (f"{HUB}@refs/pr/1/{TINY}", None, "flat.safetensors"),
        (f"{HUB}@refs%2Fpr%2F1/{TINY}", None, "flat.safetensors"),
    ],
)  # fmt: skip
def test_a_repository_is_reported_like_its_copy(
    world: World, reference: str, shown: str | None, copy: str
) -> None:
    answer, requests = world.inspect(reference)
    wanted = read_back(inspect(world.copies / copy, tensors=True, tree=True).to_answer())
    told, local = answer.pop("advice"), wanted.pop("advice")  # with a command for its own source
    assert (told is None) == (local is None)
    assert told is None or reference in told
    assert answer == {**wanted, "path": shown or reference}
    read = [request for request in requests if request.path.startswith("/storage/")]
    assert all("range" in request.headers for request in read)
    assert sum(request.sent for request in read) >= min(1 << 16, wanted["bytes"])
    assert not (world.copies / "trace").exists()


def test_the_trace_would_be_seen(world: World, tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Opener(tmp_path / "trace")))
    assert (tmp_path / "trace").exists()


def test_a_published_size_costs_kilobytes(world: World, tmp_path: Path) -> None:
    specs = shipped_tensors("sam2.1/sam2.1_hiera_t")
    path = official_pt(
        tmp_path / "m.pt", {name: torch.zeros(spec.shape) for name, spec in specs.items()}
    )
    repo = world.hub.create("org/tiny", {"m.pt": path.read_bytes()})
    assert repo.files("main")["m.pt"].size > 150_000_000
    answer, requests = world.inspect("hf://org/tiny")
    assert (answer["size"], answer["problems"]) == ("tiny", [])
    assert len([request for request in requests if request.path.startswith("/storage/")]) == 2
    repo.write({"m.index.json": path.read_bytes()})
    answer, _ = world.run("inspect", "hf://org/tiny/m.index.json")
    assert "too large for an index" in answer["error"]
    world.hub.inject(Fault("GET", STORAGE, NoRange(), ALWAYS))
    answer, requests = world.run("inspect", "hf://org/tiny")
    assert "sends whole files only" in answer["error"]
    assert "sam21convert pull hf://org/tiny/m.pt COPY downloads it" in answer["hint"]
    assert sum(request.sent for request in requests) < 50_000_000  # what the system took in advance


@pytest.mark.parametrize(
    ("path", "effects"),
    [
        (INFO, [Status(503)]),
        (INFO, [Cut()]),
        (FILES, [Status(503)]),
        (STORAGE, [Status(429, {"Retry-After": "1"})]),
        (STORAGE, [Cut(1000)]),
        (STORAGE, [Cut(1000, reset=True), Cut()]),
        ("/org/*/config.json", [NoRange()]),
    ],
    ids=str,
)
def test_transient_faults_are_retried(world: World, path: str, effects: list[Effect]) -> None:
    world.hub.inject(*(Fault("GET", path, effect) for effect in effects))
    answer, requests = world.inspect("hf://org/folder")
    wanted = read_back(inspect(world.copies / "folder", tensors=True, tree=True).to_answer())
    assert answer == {**wanted, "path": "hf://org/folder"}
    assert [request.effect for request in requests if request.effect] == effects


@pytest.mark.parametrize("parts", [0, 1])
def test_a_small_file_may_come_whole(world: World, parts: int) -> None:
    world.hub.inject(Fault("GET", STORAGE, Slow(0), parts), Fault("GET", STORAGE, NoRange()))
    answer, _ = world.inspect("hf://org/small")
    wanted = read_back(inspect(world.copies / "small.pt", tensors=True, tree=True).to_answer())
    assert answer == {**wanted, "path": "hf://org/small/small.pt"}


@pytest.mark.parametrize(
    ("path", "effect", "says"),
    [
        (INFO, Status(500), "status 500"),
        (INFO, Status(403), "status 403"),
        (STORAGE, Status(403), "status 403"),
        (STORAGE, Status(404), "status 404"),
        (STORAGE, Status(206, {"Content-Range": "bytes 0-9/100"}), "the server sent"),
        (STORAGE, Status(206, {}), "the server sent"),
        (STORAGE, Status(206, {"Content-Range": f"bytes 0-{'9' * 5000}/{'9' * 5000}"}), "sent"),
        (STORAGE, Status(206, {"Content-Range": "bytes 0-65535/-1"}), "the server sent"),
        (STORAGE, Status(206, {"Content-Encoding": "gzip"}), "sends the file encoded"),
        (STORAGE, Status(200, {"Content-Encoding": "br"}), "sends the file encoded"),
        (STORAGE, Cut(1000), "cannot be reached"),
    ],
    ids=str,
)
def test_lasting_faults_are_reported(world: World, path: str, effect: Effect, says: str) -> None:
    world.hub.inject(Fault("GET", path, effect, ALWAYS))
    assert says in world.error("hf://org/zip")


@pytest.mark.parametrize("answered", [1, 2])
@pytest.mark.parametrize(
    ("status", "says"), [(403, "status 403"), (416, "the server sent"), (200, "whole files only")]
)
def test_a_failure_in_the_middle_names_the_file_once(
    world: World, answered: int, status: int, says: str
) -> None:
    well = Fault("GET", STORAGE, Slow(0), answered)
    world.hub.inject(well, Fault("GET", STORAGE, Status(status)))
    assert says in world.error("hf://org/training")


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("hf://no/such", "no such repository"),
        ("hf://org/zip@v9", "no such revision"),
        ("hf://org/zip/gone.pt", "does not hold this file"),
        ("hf://org/several/gone", "does not hold this file"),
        ("hf://some/gated", "is gated"),
        ("hf://org/nothing", "no checkpoint among its 2 files"),
        ("hf://org/nothing/README.md", "is text"),
        ("hf://org/several/empty.pt", "is empty"),
        ("hf://org/cut", "but the file has"),
    ],
)
def test_an_error_names_its_reason(world: World, reference: str, says: str) -> None:
    assert says in world.error(reference)


@pytest.mark.parametrize("reference", ["hf://org/several", "org/several", "hf://org/several@main"])
def test_a_repository_of_several_checkpoints_is_summed_up(world: World, reference: str) -> None:
    code, out, requests = world.told("inspect", reference, "--json")
    assert code == 3  # of the empty one
    found = {one["path"].removeprefix("hf://"): one for one in map(json.loads, out.splitlines())}
    where = reference.removeprefix("hf://")
    assert list(found) == [f"{where}/{name}" for name in ("a.pt", "empty.pt", "sub/b.safetensors")]
    empty = found.pop(f"{where}/empty.pt")
    assert "is empty" in empty["error"]
    assert {one["dialect"] for one in found.values()} == {"official"}
    assert sum(request.sent for request in requests) < 3 * KILOBYTES
    _, text, _ = world.told("inspect", reference)
    assert text.splitlines()[-1] == "2 of SAM 2, 1 unreadable"


def test_a_long_repository_is_summed_up_in_part(world: World) -> None:
    world.hub.create("org/long", {f"empty_{number}.pt": b"" for number in range(102)})
    code, out, _ = world.told("inspect", "hf://org/long", "--json")
    assert code == 3
    assert len(out.splitlines()) == 100


def damaged_zips(intact: bytes) -> dict[str, tuple[bytes, str]]:
    """By name: a damaged archive, and the error for it."""
    with zipfile.ZipFile(io.BytesIO(intact)) as archive:
        entry = archive.getinfo("zip/data.pkl")
    at = entry.header_offset + 2000
    flipped = intact[:at] + bytes([intact[at] ^ 1]) + intact[at + 1 :]
    return {
        "flipped": (flipped, "data.pkl: the data does not match its checksum"),
        "short": (intact[:-100], "not an intact zip archive"),
        "gap": (
            intact[:100_000] + intact[100_001:],
            "its end record is not where its locator says",
        ),
    }


@pytest.mark.parametrize("name", ["flipped", "short", "gap"])
def test_a_damaged_archive_is_refused(world: World, name: str) -> None:
    content, says = damaged_zips((world.copies / "zip.pt").read_bytes())[name]
    world.hub.create(f"org/{name}", {"m.pt": content})
    assert says in world.error(f"hf://org/{name}")


def test_graphs_are_to_be_downloaded(world: World) -> None:
    answer, _ = world.inspect("hf://org/export")
    assert answer["exit_code"] == 3
    assert answer["error"].startswith("hf://org/export/below: holds graphs of ONNX")
    assert answer["hint"].startswith("sam21convert pull hf://org/export/below COPY")


def test_a_change_on_the_hub_is_seen(world: World) -> None:
    repo = world.hub.create("org/moving", {"m.pt": (world.copies / "zip.pt").read_bytes()})
    assert world.inspect("hf://org/moving")[0]["container"] == "torch zip"
    repo.write({"m.pt": (world.copies / "flat.safetensors").read_bytes()})
    assert world.inspect("hf://org/moving")[0]["container"] == "safetensors"


def test_offline_an_earlier_download_is_used(world: World, tmp_path: Path) -> None:
    """The test also shows that a download would be visible, in the bytes sent and in the cache."""

    def run(*words: str, offline: str = "0") -> Any:
        done = subprocess.run(
            [sys.executable, "-m", "sam21convert", *words, "--json"],
            env=world.hub.environment(tmp_path, HF_HUB_OFFLINE=offline),
            capture_output=True,
            text=True,
            check=False,
        )
        return json.loads(done.stdout)

    world.hub.requests.clear()
    path = run("pull", "hf://org/image")["path"]
    size = (world.copies / "image" / "model.safetensors").stat().st_size
    assert sum(request.sent for request in world.hub.requests) >= size > KILOBYTES
    assert (tmp_path / "hub").exists()
    world.hub.requests.clear()
    found = run("inspect", "hf://org/image", offline="1")
    assert found == inspect(world.copies / "image").to_answer() | {"path": path}
    gone = run("inspect", "hf://org/zip", offline="1")
    assert "not in the cache" in gone["error"]
    assert not world.hub.requests
