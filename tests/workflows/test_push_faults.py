"""Push against a Hub that fails at each step: a clear error, nothing half-done, a retry works."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

import sam21convert
from sam21convert.io.data.checksums import sha256
from sam21convert.workflows.publish.upload import _Addition, _Sending

from ..support.checkpoints import DEBUG
from ..support.hub_server import (
    ALWAYS,
    READER,
    STRANGER,
    Blob,
    Cut,
    Effect,
    Fault,
    Hub,
    LostAnswer,
    Repo,
    Slow,
    Status,
    User,
)
from ..support.hub_server.policy import WRITER
from ..support.pushing import Commands, running

COMMIT, PREUPLOAD, WEIGHTS = "/api/models/*/commit/*", "/api/models/*/preupload/*", "/storage/*"
BUSY = Status(429, {"Retry-After": "1"})
CONFLICT = Status(
    409, body='{"error": "Cannot create repo: another conflicting operation is in progress"}'
)
STALL = Slow(2)  # seconds
CLIENT_TRIES = 6  # of huggingface_hub
MIDWAY = 100_000  # bytes: within the weights
UNKNOWN = User("unknown", "hf_unknowntoken")
DIRECT_AND_PROPOSED = pytest.mark.parametrize(
    "options", [(), ("--create-pr",)], ids=["direct", "proposed"]
)

COMMITTING = """
import sys
from pathlib import Path
from huggingface_hub import HfApi
from sam21convert import Progress
from sam21convert.workflows.publish.upload import commit, fetch_state

class Told(Progress):
    def start(self, label, total):
        self.phases, self.sent = [*getattr(self, "phases", []), (label, total)], 0

    def advance(self, count, doing=""):
        self.sent += count

api, name, path, told = HfApi(), sys.argv[1], Path(sys.argv[2]), Told()
paths, options = {path.name: path}, {"propose": False, "progress": told}
print(commit(api, name, paths, fetch_state(api, name, "main"), "Large", **options))
print(told.phases, told.sent)
state = fetch_state(api, name, "main")
print(state.holds(path.name, path))
print(commit(api, name, paths, state, "Again", **options))
print(told.phases[2:], told.sent)
"""


@pytest.fixture(scope="module")
def commands(
    checkpoints: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Commands]:
    home = tmp_path_factory.mktemp("home")
    source = home / "model.safetensors"  # which is read sooner than pickles
    sam21convert.convert(checkpoints(DEBUG), source)
    with running(source, home) as commands:
        yield commands


NUMBERS = count(1)


@pytest.fixture
def name(commands: Commands) -> str:
    """A repository name that does not exist yet, on a Hub without faults or logged requests."""
    commands.hub.heal()
    commands.hub.requests.clear()
    commands.timeout, commands.largest = 60, -1
    return f"org/sam2-{next(NUMBERS)}"


@pytest.fixture
def hub(commands: Commands) -> Hub:
    return commands.hub


@pytest.fixture
def repo(hub: Hub, name: str) -> Repo:
    return hub.create(name)


def held(repo: Repo, revision: str = "main") -> dict[str, Blob]:
    files = repo.files(revision)
    return {name: blob for name, blob in files.items() if name != ".gitattributes"}


def has_arrived(repo: Repo, answer: dict[str, Any]) -> bool:
    """Whether the revision in the answer has the composed files."""
    assert answer.get("uploaded"), answer
    sent = {name: file["sha256"] for name, file in answer["repository"]["files"].items()}
    return sent == {name: blob.sha256 for name, blob in held(repo, answer["revision"]).items()}


def assert_untouched(hub: Hub, repo: Repo) -> None:
    """Check that there is no commit, no pull request, and no truncated file in the store."""
    assert len(repo.commits) == 1
    assert not repo.discussions
    for path in (hub.store.folder / repo.name).iterdir():
        assert path.name == hashlib.sha256(path.read_bytes()).hexdigest()


def assert_completes(commands: Commands, repo: Repo, *options: str) -> None:
    """Check that a retry succeeds with one commit, one pull request if wanted, no second upload."""
    commands.hub.heal()
    assert has_arrived(repo, commands.push(repo.name, *options))
    assert len(repo.discussions) == len(options)
    assert len(repo.commits) == 2
    puts = [one.path for one in commands.hub.asked("PUT") if one.effect is None]
    assert len(puts) == len(set(puts))


@DIRECT_AND_PROPOSED
@pytest.mark.parametrize(
    ("method", "path", "effects"),
    [
        ("PUT", WEIGHTS, [Cut(MIDWAY)]),
        ("PUT", WEIGHTS, [Cut(MIDWAY, reset=True)]),
        ("PUT", WEIGHTS, [Status(503)]),
        ("POST", PREUPLOAD, [Status(503)]),
        ("POST", PREUPLOAD, [BUSY]),
        ("POST", COMMIT, [LostAnswer()]),
        ("POST", COMMIT, [Status(503), LostAnswer()]),
        ("POST", COMMIT, [Cut(1000)]),
        ("POST", "/api/validate-yaml", [Status(500, body="<html>")]),
        ("GET", "/storage/*/model.safetensors", [Cut(10)]),
    ],
    ids=[
        *("cut", "reset", "upload 503", "503", "429", "answer lost", "503, then answer lost"),
        *("commit cut", "no JSON", "header cut"),
    ],
)
def test_what_passes_is_outlasted(
    commands: Commands,
    hub: Hub,
    repo: Repo,
    method: str,
    path: str,
    effects: list[Effect],
    options: tuple[str, ...],
) -> None:
    hub.inject(*(Fault(method, path, effect) for effect in effects))
    assert has_arrived(repo, commands.push(repo.name, *options))
    met = [one for one in hub.asked(method, path) if one.effect is not None]
    assert [one.effect for one in met] == effects
    assert len(repo.discussions) == len(options)
    assert len(repo.commits) == 2
    if effects == [BUSY]:
        first, second = hub.asked(method, path)
        assert second.at - first.at >= 1
    assert not commands.push(repo.name, *options)["uploaded"]


@DIRECT_AND_PROPOSED
@pytest.mark.parametrize(
    ("path", "status", "header", "says"),
    [
        (PREUPLOAD, 401, "", "does not accept your token"),
        (PREUPLOAD, 403, "", "does not let you write it: injected"),
        (PREUPLOAD, 404, "", "not found on the Hub (status 404)"),
        (COMMIT, 401, "", "does not accept your token"),
        (COMMIT, 403, "", "does not let you write it: injected"),
        (COMMIT, 404, "", "not found on the Hub (status 404)"),
        (COMMIT, 404, "RevisionNotFound", "no such revision"),
        (COMMIT, 409, "", "in the meantime"),
        (COMMIT, 412, "", "in the meantime"),
    ],
)
def test_a_refusal_is_told_once_and_running_again_completes(
    commands: Commands,
    hub: Hub,
    repo: Repo,
    path: str,
    status: int,
    header: str,
    says: str,
    options: tuple[str, ...],
) -> None:
    hub.inject(Fault("POST", path, Status(status, {"X-Error-Code": header}), ALWAYS))
    answer = commands.push(repo.name, *options)
    assert answer["exit_code"] == 3
    assert says in answer["error"]
    assert answer["hint"]
    assert len(hub.asked("POST", path)) == 1
    assert_untouched(hub, repo)
    assert_completes(commands, repo, *options)


@DIRECT_AND_PROPOSED
def test_an_upload_that_is_cut_and_then_refused_leaves_nothing(
    commands: Commands, hub: Hub, repo: Repo, options: tuple[str, ...]
) -> None:
    hub.inject(Fault("PUT", WEIGHTS, Cut(MIDWAY)), Fault("PUT", WEIGHTS, Status(403)))
    assert "the storage of the Hub refused" in commands.push(repo.name, *options)["error"]
    assert not hub.asked("POST", COMMIT)
    assert_untouched(hub, repo)
    assert_completes(commands, repo, *options)


def test_what_is_sent_again_is_not_counted_twice(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(MIDWAY))
    (tmp_path / "b").write_bytes(bytes(9))
    told: list[int] = []

    class Told(sam21convert.Progress):
        def advance(self, count: int, doing: str = "") -> None:
            told.append(count)

    sending = _Sending([tmp_path / "a", tmp_path / "b"], Told())
    with _Addition("a", tmp_path / "a", sending).as_file(with_tqdm=True) as file:
        file.read(MIDWAY // 2)
        assert sum(told) == MIDWAY // 2
        file.seek(0)  # as the client does after a connection that was cut
        assert file.read() == bytes(MIDWAY)
    with _Addition("b", tmp_path / "b", sending).as_file() as file:  # to make its hash
        file.read()
    assert sum(told) == MIDWAY


@pytest.mark.slow
@DIRECT_AND_PROPOSED
def test_a_connection_that_is_always_cut_is_one_error(
    commands: Commands, hub: Hub, repo: Repo, options: tuple[str, ...]
) -> None:
    hub.inject(Fault("PUT", WEIGHTS, Cut(MIDWAY), ALWAYS))
    answer = commands.push(repo.name, *options)
    assert answer["exit_code"] == 3
    assert "cannot be reached" in answer["error"]
    assert_untouched(hub, repo)
    assert_completes(commands, repo, *options)


@pytest.mark.parametrize(
    ("user", "options", "says"),
    [
        (READER, (), "does not let you write it"),
        (READER, ("--create-pr",), "does not let you write it"),
        (UNKNOWN, (), "does not accept your token"),
        (UNKNOWN, ("--create-pr",), "does not accept your token"),
    ],
)
def test_who_may_not_write_leaves_nothing(
    commands: Commands,
    hub: Hub,
    repo: Repo,
    user: User,
    options: tuple[str, ...],
    says: str,
) -> None:
    answer = commands.push(repo.name, *options, user=user)
    assert answer["exit_code"] == 3
    assert says in answer["error"]
    assert not hub.asked("PUT")
    assert_untouched(hub, repo)
    assert_completes(commands, repo, *options)


def test_a_push_of_someone_else_in_between_is_kept(
    commands: Commands, hub: Hub, repo: Repo
) -> None:
    def someone_else() -> None:
        deadline = time.monotonic() + 30
        while not hub.asked("PUT") and time.monotonic() < deadline:
            time.sleep(0.01)
        repo.write({"config.json": b"theirs"})

    hub.inject(Fault("PUT", WEIGHTS, Status(503)))  # the second try comes a second later
    other = threading.Thread(target=someone_else)
    other.start()
    answer = commands.push(repo.name)
    other.join()
    assert "in the meantime" in answer["error"]
    assert {name: blob.read() for name, blob in held(repo).items()} == {"config.json": b"theirs"}
    assert "did not write: config.json" in commands.push(repo.name)["error"]
    assert has_arrived(repo, commands.push(repo.name, "--create-pr"))
    assert held(repo)["config.json"].read() == b"theirs"


@pytest.mark.parametrize(
    ("method", "path"), [("POST", PREUPLOAD), ("PUT", WEIGHTS), ("GET", "/api/models/*")]
)
def test_a_request_that_stalls_is_given_up_and_repeated(
    commands: Commands, hub: Hub, repo: Repo, method: str, path: str
) -> None:
    commands.timeout = 1
    hub.inject(Fault(method, path, STALL))
    assert has_arrived(repo, commands.push(repo.name))
    assert len(hub.asked(method, path)) > 1
    assert len(repo.commits) == 2


def test_a_commit_that_stalls_counts_once(commands: Commands, hub: Hub, repo: Repo) -> None:
    commands.timeout = 1
    hub.inject(Fault("POST", COMMIT, STALL))
    assert has_arrived(repo, commands.push(repo.name))
    time.sleep(STALL.seconds)  # until the Hub has finished the first
    assert len(repo.commits) == 2


def test_a_proposal_that_stalls_is_not_opened_twice(
    commands: Commands, hub: Hub, repo: Repo
) -> None:
    commands.timeout = 1
    hub.inject(Fault("POST", COMMIT, STALL))
    answer = commands.push(repo.name, "--create-pr")
    assert "no answer in time" in answer["error"]
    time.sleep(STALL.seconds)  # until the Hub has opened it
    again = commands.push(repo.name, "--create-pr")
    assert not again["uploaded"]
    assert again["revision"] == "refs/pr/1"
    assert len(repo.discussions) == 1


@pytest.mark.parametrize(
    ("effects", "says"),
    [
        ([LostAnswer()], None),
        ([Status(503)], None),
        ([STALL], None),
        ([CONFLICT], None),
        ([CONFLICT] * 100, "another operation of yours"),
        ([Status(403)], "does not let you write it: injected"),
    ],
    ids=["answer lost", "503", "stall", "conflict", "conflict for ever", "403"],
)
def test_creating_a_repository_is_outlasted_or_told(
    commands: Commands, hub: Hub, name: str, effects: list[Effect], says: str | None
) -> None:
    commands.timeout = 1
    hub.inject(*(Fault("POST", "/api/repos/create", effect) for effect in effects))
    answer = commands.push(name)
    if says is not None:
        assert says in answer["error"]
        assert name not in hub.store.repos
        hub.heal()
        answer = commands.push(name)
    assert has_arrived(hub.repo(name), answer)


def test_a_card_that_is_cut_off_is_read_again(commands: Commands, hub: Hub, repo: Repo) -> None:
    repo.write({"README.md": b"# Theirs\n"})
    hub.inject(Fault("GET", f"/{repo.name}/resolve/*", Cut(1, reset=True)))
    assert has_arrived(repo, commands.push(repo.name))
    assert b"# Theirs" in held(repo)["README.md"].read()


def test_an_hour_is_not_waited_for(commands: Commands, hub: Hub, repo: Repo) -> None:
    hub.inject(Fault("PUT", WEIGHTS, Status(503, {"Retry-After": "3600"})))
    assert "asks to wait for 3600 seconds" in commands.push(repo.name)["error"]
    assert_untouched(hub, repo)
    assert_completes(commands, repo)


@pytest.mark.parametrize("largest", [1000, 100_000], ids=["configs", "weights"])
def test_a_full_disk_is_one_error(commands: Commands, hub: Hub, repo: Repo, largest: int) -> None:
    commands.largest = largest
    answer = commands.push(repo.name)
    assert answer["exit_code"] == 3
    assert answer["error"] == f"{commands.scratch}: File too large"
    assert not hub.asked("PUT")
    assert_untouched(hub, repo)
    commands.largest = -1
    assert_completes(commands, repo)


def test_a_large_file_arrives_whole_in_one_commit(hub: Hub, repo: Repo, tmp_path: Path) -> None:
    size = 150_000_000
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.truncate(size)  # sparse: it takes no space on the disk and reads as zeros
        file.write(b"not all of it is the same")
    tracemalloc.start()
    done = subprocess.run(
        [sys.executable, "-c", COMMITTING, repo.name, str(path)],
        env=hub.environment(tmp_path / "home"),
        capture_output=True,
        text=True,
        check=False,
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert done.returncode == 0, done.stderr
    label, total = "uploading 150.0 MB", path.stat().st_size
    assert done.stdout.splitlines() == [
        *("main", str([(label, 0), (label, total)]) + f" {total}"),
        *("True", "main", str([(label, 0)]) + " 0"),  # the Hub has it already
    ]
    assert held(repo)["model.safetensors"].sha256 == sha256(path)
    assert len(hub.asked("PUT")) == 1
    assert len(repo.commits) == 2
    assert peak < size / 10  # the local Hub keeps files on its disk, not in memory


@pytest.mark.slow
def test_a_checkpoint_of_full_size_comes_back_bit_for_bit(
    commands: Commands, hub: Hub, repo: Repo, tmp_path: Path
) -> None:
    source = tmp_path / "tiny.pt"
    sam21convert.sample(source, "sam2.1/sam2.1_hiera_t")
    words = ("push", str(source), repo.name, "--to", "official", "--parity", "none")
    assert has_arrived(repo, commands.run(*words))
    pulled = tmp_path / "pulled.pt"
    commands.run("pull", f"hf://{repo.name}/sam2.1_hiera_tiny.pt", str(pulled))
    ours, theirs = (torch.load(path, mmap=True)["model"] for path in (source, pulled))
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    puts = len(hub.asked("PUT"))
    assert not commands.run(*words)["uploaded"]
    assert len(hub.asked("PUT")) == puts
    assert len(repo.commits) == 2


@pytest.mark.slow
def test_what_the_client_has_repeated_is_not_repeated_again(
    commands: Commands, hub: Hub, repo: Repo
) -> None:
    hub.inject(Fault("PUT", WEIGHTS, Status(503), ALWAYS))
    assert "status 503" in commands.push(repo.name)["error"]
    assert Counter(one.path for one in hub.asked("PUT")).most_common()[0][1] == CLIENT_TRIES
    assert_completes(commands, repo)


@pytest.mark.parametrize("options", [(), ("--private",)], ids=["public", "private"])
def test_a_private_repository_is_shown_to_its_owners_only(
    commands: Commands, hub: Hub, name: str, tmp_path: Path, options: tuple[str, ...]
) -> None:
    answer = commands.push(name, *options)
    assert answer["creates"]
    made = hub.repo(name)
    assert made.private == bool(options)
    assert has_arrived(made, answer)
    for user, shown in ((STRANGER, not options), (WRITER, True)):
        answer = commands.run("pull", f"hf://{name}", str(tmp_path / user.name), user=user)
        assert ("error" not in answer) == shown
        assert (tmp_path / user.name).exists() == shown


@pytest.fixture(scope="module")
def published(commands: Commands, checkpoints: Callable[[str], Path]) -> Repo:
    """A repository for transformers' video model and the official code."""
    commands.hub.heal()
    repo = commands.hub.create("org/published")
    of_pickles = replace(commands, source=checkpoints(DEBUG))
    answer = of_pickles.push(repo.name, "--with-official", to="hf-video")
    assert has_arrived(repo, answer)
    assert {"sam2.1_debug.pt", "sam2.1_debug.yaml"} < set(held(repo))
    return repo


def test_what_was_pushed_is_pulled_byte_by_byte(
    commands: Commands, published: Repo, tmp_path: Path
) -> None:
    commands.run("pull", f"hf://{published.name}", str(tmp_path / "folder"))
    pulled = {path.name: path.read_bytes() for path in (tmp_path / "folder").iterdir()}
    assert {"model.safetensors", "config.json", "preprocessor_config.json"} < set(pulled)
    assert pulled == {name: held(published)[name].read() for name in pulled}


def test_the_official_file_comes_back_with_the_bits_of_the_source(
    commands: Commands,
    published: Repo,
    checkpoints: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    pulled = tmp_path / "model.pt"
    commands.run("pull", f"hf://{published.name}/sam2.1_debug.pt", str(pulled))
    assert pulled.read_bytes() == held(published)["sam2.1_debug.pt"].read()
    source, again = (torch.load(path)["model"] for path in (checkpoints(DEBUG), pulled))
    assert list(source) == list(again)
    assert all(torch.equal(source[name], again[name]) for name in source)
