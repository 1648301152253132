from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sam2.build_sam import HF_MODEL_ID_TO_FILENAMES

from sam21convert.config.registry import find
from sam21convert.errors import RefusedError, UsageError
from sam21convert.hub.fetch import OFFICIAL, fetch

from ..support.checkpoints import DEBUG, official_pt
from ..support.exports import FILES
from ..support.hub_server import WRITER, Fault, Flip, Hub
from ..support.paths import ROOT

TINY = "facebook/sam2.1-hiera-tiny"
INDEX = {"weight_map": {"a": "part-1.safetensors", "b": "part-2.safetensors"}}
FOLDER = {"config.json": b"{}", "model.safetensors": b"weights"}
SHARDS = {
    "config.json": b"{}",
    "model.safetensors.index.json": json.dumps(INDEX).encode(),
    "part-1.safetensors": b"1",
    "part-2.safetensors": b"2",
    "other.safetensors": b"another model",
}


def named(*names: str) -> dict[str, bytes]:
    return {name: name.encode() for name in names}


EXPORT = sorted(f"exp/{name}" for name in FILES)
REPOS = {
    TINY: {**FOLDER, "sam2.1_hiera_tiny.pt": b"main"},
    "facebook/sam2-hiera-tiny": FOLDER,
    "some/folder": {**FOLDER, "optimizer.pt": b"", "v2.pt": b""},
    "some/shards": SHARDS,
    "some/export": named(*EXPORT, "exp/onnx/vision_encoder_fp16.onnx", "exp/golden/expected.json"),
    "some/file": named("README.md", "sub/best.pth"),
    "some/file-with-config": named("best.pt", "sub/config.yaml"),
    "some/file-with-configs": named("best.safetensors", "one.yaml", "two.yml"),
    "some/files": named("first.pt", "last.pt", "config.yaml"),
    "some/nothing": named("README.md", "config.json"),
    "some/gated": FOLDER,
}
# Runs fetch for each argument and prints [checkpoint, config] or [type, exit code, text].
PROGRAM = """
import json, sys
from sam21convert.errors import Sam21ConvertError
from sam21convert.hub.fetch import fetch
for model_id in sys.argv[1:]:
    try:
        answer = [None if part is None else str(part) for part in fetch(model_id)]
    except Sam21ConvertError as error:
        answer = [type(error).__name__, error.exit_code, str(error)]
    print(json.dumps(answer))
assert "torch" not in sys.modules
"""


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with Hub() as server:
        for name, files in REPOS.items():
            server.create(name, files, gated=name == "some/gated")
        server.repo(TINY).write({"sam2.1_hiera_tiny.pt": b"v1"}, "v1")
        server.repo("some/folder").write(FOLDER, "v1")
        yield server


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home folder, and thus cache, of all tests that may share one."""
    return tmp_path_factory.mktemp("home")


def fetched(hub: Hub, home: Path, *ids: str, **environment: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, *ids],
        env={**hub.environment(home), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert WRITER.token not in done.stdout + done.stderr
    return dict(zip(ids, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.fixture(scope="module")
def answers(hub: Hub, home: Path) -> dict[str, Any]:
    """The answers of one process for every id that this file tests."""
    extra = [
        f"{TINY}@v1",
        f"{TINY}@v9",
        "some/folder@v1",
        "some/folder@v9",
        "no/such",
        "../x",
        "no-such.pt",
    ]
    return fetched(hub, home, *REPOS, *extra)


def test_the_table_equals_that_of_the_official_code() -> None:
    assert {
        name: (find(config), file) for name, (config, file) in HF_MODEL_ID_TO_FILENAMES.items()
    } == {name: (find(config), file) for name, (config, file) in OFFICIAL.items()}


def test_an_official_repository_gives_its_official_file(answers: dict[str, Any]) -> None:
    path, config = answers[TINY]
    assert (Path(path).name, config) == ("sam2.1_hiera_tiny.pt", "sam2.1/sam2.1_hiera_t")
    assert Path(path).read_bytes() == b"main"


def test_a_revision_follows_an_at_sign(answers: dict[str, Any]) -> None:
    assert Path(answers[f"{TINY}@v1"][0]).read_bytes() == b"v1"
    assert answers["some/folder@v1"][0] != answers["some/folder"][0]


def test_a_transformers_folder_comes_without_other_files(answers: dict[str, Any]) -> None:
    path, config = answers["some/folder"]
    assert {file.name for file in Path(path).iterdir()} == set(FOLDER)
    assert config is None


def test_shards_come_with_their_index(answers: dict[str, Any]) -> None:
    path, _ = answers["some/shards"]
    assert {file.name for file in Path(path).iterdir()} == set(SHARDS) - {"other.safetensors"}


def test_an_export_comes_with_its_graphs_in_full_precision(answers: dict[str, Any]) -> None:
    path, config = answers["some/export"]
    found = [file for file in Path(path).rglob("*") if file.is_file()]
    assert sorted(f"exp/{file.relative_to(path)}" for file in found) == EXPORT
    assert config is None


@pytest.mark.parametrize(
    ("name", "checkpoint", "config"),
    [
        ("some/file", "sub/best.pth", None),
        ("some/file-with-config", "best.pt", "sub/config.yaml"),
        ("some/file-with-configs", "best.safetensors", None),
    ],
)
def test_an_only_checkpoint_comes_with_its_only_yaml(
    answers: dict[str, Any], name: str, checkpoint: str, config: str | None
) -> None:
    path, found = answers[name]
    assert path.endswith(checkpoint)
    assert Path(path).read_bytes() == checkpoint.encode()
    assert (found is None) == (config is None)
    assert config is None or found.endswith(config)


@pytest.mark.parametrize(
    ("name", "kind", "says"),
    [
        ("some/files", "SeveralCheckpointsError", "several checkpoints: first.pt, last.pt"),
        ("some/nothing", "RefusedError", "no checkpoint among its 3 files"),
        ("some/gated", "UnreadableError", "is gated"),
        ("no/such", "UnreadableError", "no such repository"),
        (f"{TINY}@v9", "UnreadableError", "no such revision"),
        ("some/folder@v9", "UnreadableError", "no such revision"),
        ("facebook/sam2-hiera-tiny", "UnreadableError", "does not hold this file"),
        ("../x", "UsageError", "no such file or folder, and not a repository id"),
        ("no-such.pt", "UsageError", "no such file or folder, and not a repository id"),
    ],
)
def test_an_error_is_reported_with_a_hint(
    answers: dict[str, Any], name: str, kind: str, says: str
) -> None:
    found, exit_code, text = answers[name]
    assert found == kind
    assert exit_code in (2, 3)
    assert says in text
    assert "\nhint: " in text
    assert name.partition("@")[0] in text


def test_the_token_reaches_the_hub_and_nothing_else(hub: Hub, answers: dict[str, Any]) -> None:
    assert {request.token for request in hub.asked("HEAD")} == {WRITER.token}
    assert all(WRITER.token not in str(answer) for answer in answers.values())


def test_earlier_downloads_are_available_offline(
    hub: Hub, home: Path, answers: dict[str, Any]
) -> None:
    ids = [TINY, "some/folder", "some/file", "some/file-with-config"]
    seen = len(hub.requests)
    offline = fetched(hub, home, *ids, HF_HUB_OFFLINE="1")
    assert offline == {name: answers[name] for name in ids}
    assert len(hub.requests) == seen


def test_offline_mode_and_an_unreachable_hub_are_reported(hub: Hub, tmp_path: Path) -> None:
    says = "not a local path, not in the cache, and the Hub cannot be reached"
    for answer in fetched(hub, tmp_path, TINY, "some/folder", HF_HUB_OFFLINE="1").values():
        assert answer[:2] == ["UnreadableError", 3]
        assert says in answer[2]
    nowhere = fetched(hub, tmp_path, "some/folder", HF_ENDPOINT="http://127.0.0.1:9")
    assert nowhere["some/folder"][:2] == ["UnreadableError", 3]
    assert "the Hub cannot be reached: ConnectError" in nowhere["some/folder"][2]


@pytest.mark.parametrize("name", [TINY, "some/folder"])
def test_a_byte_that_changed_on_the_way_is_detected(tmp_path: Path, name: str) -> None:
    with Hub() as hub:
        hub.create(name, REPOS[name])
        hub.inject(Fault("GET", "/storage/*", Flip(0)))
        cache = tmp_path / "cache"
        kind, code, text = fetched(hub, tmp_path, name, XDG_CACHE_HOME=str(cache))[name]
        assert (kind, code) == ("UnreadableError", 3)
        (kept,) = (cache / "sam21convert/hub" / name).glob("*.wrong-sha256-*")
        assert str(kept) in text
        path = Path(fetched(hub, tmp_path, name, XDG_CACHE_HOME=str(cache))[name][0])
        file = path / "model.safetensors" if path.is_dir() else path
        assert file.read_bytes() == REPOS[name][file.name]


class TestLocal:
    def test_a_file_is_returned_as_it_is(self, tmp_path: Path) -> None:
        pt = official_pt(tmp_path / "m.pt")
        assert fetch(pt) == (pt, None)

    def test_a_folder_is_searched_like_a_repository(self, tmp_path: Path) -> None:
        pt = official_pt(tmp_path / "m.pt")
        assert fetch(tmp_path) == (pt, None)
        (tmp_path / "m.yaml").touch()
        assert fetch(str(tmp_path)) == (pt, tmp_path / "m.yaml")
        (tmp_path / "config.json").touch()
        (tmp_path / "model.safetensors").touch()
        assert fetch(tmp_path) == (tmp_path, None)

    def test_no_checkpoint_and_several_are_errors(self, tmp_path: Path) -> None:
        with pytest.raises(RefusedError, match="no checkpoint"):
            fetch(tmp_path)
        (tmp_path / "a.pt").touch()
        (tmp_path / "b.pth").touch()
        with pytest.raises(UsageError, match=r"several checkpoints: a\.pt, b\.pth"):
            fetch(tmp_path)


def test_a_fine_tuned_repository_becomes_a_model(tmp_path: Path) -> None:
    """Any repository works, through the builders, not only those of the official table."""
    weights = official_pt(tmp_path / "m.pt").read_bytes()
    program = (
        "import torch\n"
        "from sam21convert import load_model\n"
        "from sam21convert.model import build_sam2_hf\n"
        "built = build_sam2_hf('some/model', device='cpu').state_dict()\n"
        f"loaded = load_model({str(tmp_path / 'm.pt')!r})[0].state_dict()\n"
        "assert list(built) == list(loaded)\n"
        "assert all(torch.equal(built[name], loaded[name]) for name in loaded)\n"
    )
    yaml = f"{DEBUG}.yaml".encode()
    config = (ROOT / "configs" / yaml.decode()).read_bytes()
    with Hub() as hub:
        hub.create("some/model", {"m.pt": weights, "m.yaml": config})
        environment = hub.environment(tmp_path / "home")
        subprocess.run([sys.executable, "-c", program], env=environment, check=True)


def test_a_file_of_an_absurd_size_is_not_downloaded(tmp_path: Path) -> None:
    program = (
        "import json, sys\n"
        "from sam21convert.errors import RefusedError\n"
        "from sam21convert.hub import fetch\n"
        "fetch.MAX_FILE = 3\n"
        "try:\n"
        "    fetch.fetch('some/large')\n"
        "except RefusedError as error:\n"
        "    print(error.message)\n"
    )
    with Hub() as server:
        server.create("some/large", {"m.pt": b"1234"})
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", program],
            env=server.environment(tmp_path), capture_output=True, text=True, check=True,
        )  # fmt: skip
        sent = [request for request in server.requests if request.method == "GET"]
    assert done.stdout.strip() == "some/large/m.pt: has 4 bytes, more than the 3 allowed for a file"
    assert not any("m.pt" in request.path for request in sent)
