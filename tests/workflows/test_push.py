"""Push against a Hub on this machine, with the real client."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from packaging.version import Version

import sam21convert
from sam21convert.config.hydra_writer import to_hydra
from sam21convert.config.load import load_config
from sam21convert.report import one_line
from sam21convert.workflows.publish.manifest import MANIFEST
from sam21convert.workflows.publish.readme import BEGIN, END, markers

from ..support.checkpoints import DEBUG
from ..support.hub_server import (
    ALWAYS,
    READER,
    STRANGER,
    Fault,
    Flip,
    Hub,
    LostAnswer,
    Status,
    User,
)
from ..support.hub_server.policy import WRITER
from ..support.nasty import NASTY
from ..support.paths import ROOT
from ..support.pushing import Commands, running

REPO = "org/my-sam2"
WHOAMI = "/api/whoami-v2"
FILES = {
    "README.md",
    "config.json",
    "model.safetensors",
    "preprocessor_config.json",
    "processor_config.json",
    MANIFEST,
}


Push = Callable[..., dict[str, Any]]


class Own:
    """What a training keeps beside the weights."""


@pytest.fixture(scope="module")
def commands(
    checkpoints: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Commands]:
    with running(checkpoints(DEBUG), tmp_path_factory.mktemp("home")) as commands:
        yield commands


@pytest.fixture
def hub(commands: Commands) -> Hub:
    """A Hub without faults, repositories or logged requests."""
    hub = commands.hub
    hub.heal()
    hub.requests.clear()
    hub.store.repos.clear()
    shutil.rmtree(hub.store.folder / REPO, ignore_errors=True)
    return hub


@pytest.fixture
def push(hub: Hub, commands: Commands) -> Push:
    """Runs the command for an image model, without a comparison; returns its JSON or its error."""

    def run(*options: str, user: User | None = WRITER, repo: str = REPO) -> dict[str, Any]:
        return commands.push(repo, *options, user=user)

    return run


def config_file(folder: Path, **settings: Any) -> Path:
    """A YAML of the debug model with other settings."""
    path = folder / "own.yaml"
    path.write_text(to_hydra(replace(load_config(DEBUG), **settings)))
    return path


def held(hub: Hub, revision: str = "main", repo: str = REPO) -> dict[str, str]:
    """File name to hash, for the files of a revision."""
    files = hub.repo(repo).files(revision)
    return {name: blob.sha256 for name, blob in files.items() if name != ".gitattributes"}


def sent(answer: dict[str, Any]) -> dict[str, str]:
    """File name to hash, for the composed files."""
    return {name: file["sha256"] for name, file in answer["repository"]["files"].items()}


def proposals(hub: Hub) -> int:
    return sum(one.is_pull_request for one in hub.repo(REPO).discussions)


def test_a_source_that_is_missing_is_told_before_the_hub_is_asked(
    hub: Hub, commands: Commands
) -> None:
    for source, said in (("gone.pt", "No such file"), ("sam2.1_hiera_tinny", "did you mean")):
        answer = commands.run("push", source, REPO, "--to", "hf-image", "--parity", "none")
        assert (answer["exit_code"], said in f"{answer}") == (3, True)
    assert not hub.requests


EARLY = """
import json, os, sys
import sam21convert
from sam21convert.errors import Sam21ConvertError
from sam21convert.workflows.publish import push as module

def composed(*_, **__):
    raise SystemExit("something was composed")

module.compose = composed
for token, options in json.load(sys.stdin):
    os.environ["HF_TOKEN"] = token
    try:
        sam21convert.push(sys.argv[1], "org/my-sam2", **options)
    except (Sam21ConvertError, SystemExit) as error:
        print(json.dumps([str(error), sorted({"torch", "transformers"} & {*sys.modules})]))
"""


def test_what_the_hub_refuses_is_told_before_anything_is_computed(
    hub: Hub, checkpoints: Callable[[str], Path], tmp_path: Path
) -> None:
    """With one or two requests, nothing converted, and torch not imported, which takes seconds."""
    pytest.importorskip("transformers")  # its absence would be told first
    sign_in, read_only = "requires you to sign in", "your token is for reading alone"
    license, space = {"license": "mine"}, {"with_onnx": True, "page_space": "other/page"}  # noqa: A001
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("", {}, sign_in),
        ("", {"create_pr": True}, sign_in),
        ("hf_nobody", {}, "does not accept your token"),
        (READER.token, {}, read_only),
        (READER.token, {"create_pr": True}, read_only),
        (STRANGER.token, {}, "org is none of your namespaces: stranger"),
        (WRITER.token, space, "other is none of your namespaces: writer, org"),
        (WRITER.token, license, 'would state: "license" must be one of'),
        (WRITER.token, {**license, "dry_run": True}, 'would state: "license" must be one of'),
    ]
    as_hinted: list[tuple[str, dict[str, Any], str]] = [
        (STRANGER.token, {"create_pr": True}, "something was composed"),
        (WRITER.token, {"license": "apache-2.0"}, "something was composed"),
    ]
    hub.create(REPO)

    def tell(*asked: tuple[str, dict[str, Any], str]) -> list[tuple[str, list[str]]]:
        done = subprocess.run(
            [sys.executable, "-c", EARLY, str(checkpoints(DEBUG))],
            env=hub.environment(tmp_path),
            input=json.dumps([(token, options) for token, options, _ in asked]),
            capture_output=True,
            text=True,
            check=True,
        )
        return [json.loads(line) for line in done.stdout.splitlines()]

    for (_, _, says), (error, imported) in zip(cases, tell(*cases), strict=True):
        assert says in error
        assert imported == []
    assert len(hub.requests) <= 2 * len(cases)
    assert {request.path for request in hub.requests} == {WHOAMI, "/api/validate-yaml"}
    assert [error for error, _ in tell(*as_hinted)] == [says for *_, says in as_hinted]
    assert not hub.asked("PUT", "*")


def test_in_a_log_there_is_nothing_but_what_is_uploaded(
    hub: Hub, push: Push, commands: Commands
) -> None:
    """No bar of ours or of the client, which both draw on a terminal."""
    assert push("--with-official")["uploaded"]
    assert hub.asked("PUT", "*")
    lines = commands.announced.splitlines()
    assert [line for line in lines if line.startswith("new")]
    for shown in (commands.announced, commands.log.read_text()):
        assert not re.search(r"[\r\x1b%|]|it/s|B/s|[1-4]/4", shown)


def test_what_a_push_asks_for(hub: Hub, push: Push) -> None:
    """The second one asks who it is, for the state, the card and the manifest of what is there."""
    assert push()["uploaded"]
    assert len(hub.requests) <= 17
    hub.requests.clear()
    assert not push()["uploaded"]
    assert len(hub.requests) <= 7
    assert not hub.asked("POST", "*")


def test_a_repository_is_created_and_holds_what_was_composed(hub: Hub, push: Push) -> None:
    planned = push("--dry-run")
    assert not planned["uploaded"]
    assert planned["commit"] is None
    assert planned["creates"]
    assert REPO not in hub.store.repos
    assert not hub.asked("POST", "*/commit/*")

    done = push("--license", "apache-2.0")
    assert done["uploaded"]
    assert set(done["changes"].items()) == {(name, "new") for name in FILES}
    assert held(hub) == sent(done)
    assert done["url"].endswith(REPO)
    assert done["commit"] == hub.repo(REPO).head().id

    commits, uploads = (len(hub.asked("POST", "*/commit/*")), len(hub.asked("PUT")))
    again = push("--license", "apache-2.0")
    assert not again["uploaded"]
    assert again["commit"] == done["commit"]
    assert set(again["changes"].values()) == {"same"}
    assert (len(hub.asked("POST", "*/commit/*")), len(hub.asked("PUT"))) == (commits, uploads)


@pytest.mark.parametrize("status", [401, 503])
def test_a_dry_run_goes_on_without_an_answer_and_says_so(
    hub: Hub, push: Push, tmp_path: Path, status: int
) -> None:
    push()
    hub.inject(Fault("GET", "/api/*", Status(status), ALWAYS))
    refused = push("--create-pr")
    planned = push("--create-pr", "--dry-run", "--output", str(tmp_path / "look"))
    assert (refused["exit_code"], planned["exit_code"]) == (3, 0)
    assert not planned["asked"]
    assert planned["changes"] == dict.fromkeys(FILES, "upload")
    assert (planned["creates"], planned["foreign"], planned["uploaded"]) == (False, [], False)
    assert planned["notes"][0].startswith("what the repository has is not known, since it was not")
    assert planned["output"] == str(tmp_path / "look")


def test_a_dry_run_needs_neither_network_nor_token(commands: Commands, tmp_path: Path) -> None:
    unreachable = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    words = ["push", str(commands.source), REPO, "--to", "hf-image", "--parity", "none"]
    done = subprocess.run(
        [sys.executable, "-m", "sam21convert", *words, "--dry-run", "--output", "look"],
        env={**os.environ, **unreachable, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^upload +model.safetensors, ", done.stdout, re.MULTILINE)
    assert "since it was not asked: org/my-sam2: the Hub cannot be reached" in done.stdout
    assert {path.name for path in (tmp_path / "look").iterdir()} == FILES


def test_a_dry_run_writes_what_would_be_uploaded(hub: Hub, push: Push, tmp_path: Path) -> None:
    look = tmp_path / "look"
    planned = push("--dry-run", "--output", str(look))
    assert planned["asked"]
    assert planned["output"] == str(look)
    assert not hub.store.repos
    hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in look.iterdir()}
    assert hashes == sent(planned)
    push()
    assert held(hub) == hashes


def test_a_source_that_would_run_something_is_told(
    hub: Hub, commands: Commands, tmp_path: Path
) -> None:
    own = tmp_path / "own.pt"
    model = torch.load(commands.source)
    torch.save({**model, "args": Own()}, own)
    words = ("push", str(own), REPO, "--to", "hf-image", "--parity", "none")
    answer = commands.run(*words)
    assert (answer["safety"], answer["exit_code"]) == ("unknown", 0)
    assert f"warning: {own}: torch.load(weights_only=False) runs code" in commands.announced
    assert set(held(hub)) == FILES
    assert commands.push(REPO, "--dry-run")["safety"] == "harmless"
    assert "warning" not in commands.announced


def test_what_the_hub_says_for_sure_ends_a_dry_run_too(hub: Hub, push: Push) -> None:
    assert push("--dry-run", "--create-pr", repo="org/none")["exit_code"] == 3
    hub.create(REPO, {"model.safetensors": b"theirs"})
    assert "would replace files" in push("--dry-run")["error"]


def test_only_a_dry_run_writes_to_a_new_folder(hub: Hub, push: Push, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine").touch()
    assert push("--output", str(tmp_path / "look"))["exit_code"] == 2
    for name in ("there", "look.safetensors"):
        refused = push("--dry-run", "--output", str(tmp_path / name))
        assert refused["exit_code"] == 2
        if name == "there":  # no option replaces it
            assert refused["hint"] == "give another name"
    assert not hub.requests
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_a_proposal_is_continued_and_not_doubled(hub: Hub, push: Push) -> None:
    hub.create(REPO, {"README.md": b"# Theirs\n", "config.json": b"{}", "notes.txt": b"mine"})
    before = held(hub)
    first = push("--create-pr")
    second = push("--create-pr", "--license", "mit")
    third = push("--create-pr", "--license", "mit")
    assert [one["revision"] for one in (first, second, third)] == ["refs/pr/1"] * 3
    assert [one["uploaded"] for one in (first, second, third)] == [True, True, False]
    assert second["changes"]["README.md"] == "changed"
    assert proposals(hub) == 1
    assert held(hub) == before
    assert held(hub, "refs/pr/1") == {**sent(second), "notes.txt": before["notes.txt"]}
    assert first["foreign"] == ["notes.txt"]


def test_foreign_files_are_not_replaced_without_a_proposal(hub: Hub, push: Push) -> None:
    hub.create(REPO, {"README.md": b"# Theirs\n", "config.json": b"{}"})
    before = held(hub)
    answer = push()
    assert answer["exit_code"] == 3
    assert "did not write: config.json" in answer["error"]
    assert held(hub) == before


def test_what_is_ours_is_known_by_its_hash(hub: Hub, push: Push) -> None:
    push()
    hub.repo(REPO).write({"model.safetensors": b"theirs", "config.json": b"{}", "notes": b""})
    before = held(hub)
    assert "did not write: config.json, model.safetensors" in push()["error"]
    assert held(hub) == before
    assert push("--create-pr")["foreign"] == ["notes"]


@pytest.fixture
def push_other(hub: Hub, commands: Commands, tmp_path: Path) -> Push:
    """Pushes a model with other weights and settings than ``push`` does."""
    other = sam21convert.sample(tmp_path / "other.pt", DEBUG, seed=1).path
    smaller = ("--config", str(config_file(tmp_path, image_size=64)))

    def run(*options: str) -> dict[str, Any]:
        words = ["push", str(other), REPO, "--to", "hf-image", "--parity", "none", *smaller]
        return commands.run(*words, *options)

    return run


def assert_replaced(hub: Hub, done: dict[str, Any]) -> None:
    changed = {name for name, change in done["changes"].items() if change == "changed"}
    assert {"model.safetensors", "config.json", "preprocessor_config.json"} <= changed
    assert held(hub) == sent(done)


def test_a_file_of_ours_is_replaced(hub: Hub, push: Push, push_other: Push) -> None:
    push()
    assert_replaced(hub, push_other())


def test_a_file_of_ours_that_is_left_out_once_is_replaced_later(
    hub: Hub, push: Push, push_other: Push
) -> None:
    push("--with-official")
    left = held(hub)["sam2.1_debug.pt"]
    push()
    assert held(hub)["sam2.1_debug.pt"] == left
    assert_replaced(hub, push_other("--with-official"))
    hub.repo(REPO).write({"sam2.1_debug.pt": b"theirs"})
    push()
    assert "did not write: sam2.1_debug.pt" in push("--with-official")["error"]


def test_whoever_edits_the_readme_can_still_update_the_model(
    hub: Hub, push: Push, push_other: Push
) -> None:
    push()
    hub.repo(REPO).write({"README.md": b"# All mine\n"})
    assert_replaced(hub, push_other())


def as_pushed_earlier(hub: Hub, edit: Callable[[str], str] = lambda card: card) -> None:
    """Make the repository one that an earlier version pushed: its files are in the card alone."""
    files = {name: blob.read() for name, blob in hub.repo(REPO).files().items()}
    del files[MANIFEST], files[".gitattributes"]
    card = files["README.md"].decode()
    row = re.compile(rf"^\| .*{re.escape(MANIFEST)}.*\n", re.MULTILINE)
    files["README.md"] = edit(row.sub("", card)).encode()
    shutil.rmtree(hub.store.folder / REPO)
    hub.create(REPO, files)


def test_what_an_earlier_version_pushed_is_replaced(hub: Hub, push: Push, push_other: Push) -> None:
    push()
    as_pushed_earlier(hub)
    assert push_other("--dry-run")["changes"][MANIFEST] == "new"
    assert_replaced(hub, push_other())


def forged(card: str) -> str:
    """A card that also lists config.json of the present content, as the name of its source."""
    digest = hashlib.sha256(b"{}").hexdigest()
    row = f"| [`config.json`](config.json) | written | 2 | `{digest}` |"
    return card.replace("converted from | `", f"converted from | `x` |\n{row}\n| y | `")


def test_no_name_in_a_card_makes_a_file_of_someone_else_ours(
    hub: Hub, push: Push, push_other: Push
) -> None:
    push()
    as_pushed_earlier(hub, forged)
    hub.repo(REPO).write({"config.json": b"{}"})
    before = held(hub)
    answer = push_other()
    assert answer["error"].endswith("did not write: config.json")
    assert "--create-pr proposes the change" in answer["hint"]
    assert held(hub) == before


FORGED_ROW, COLOURS = (
    next(name for name in NASTY if part in name) for part in ("| written |", "\x1b")
)


@pytest.mark.parametrize("name", [FORGED_ROW, COLOURS, "\udcff"], ids=["row", "colours", "bytes"])
def test_a_source_of_any_name_is_published_and_shown_in_one_line(
    hub: Hub, commands: Commands, tmp_path: Path, name: str
) -> None:
    source = tmp_path / f"{name}.pt"
    shutil.copyfile(commands.source, source)
    done = commands.run("push", str(source), REPO, "--to", "hf-image", "--parity", "none")
    assert held(hub) == sent(done)
    readme = hub.repo(REPO).files()["README.md"].read().decode()
    assert markers(readme) == [BEGIN, END]
    told, *lines = commands.announced.splitlines()
    assert told == f"read        {one_line(str(source))}"
    assert all(re.match("repository|revision|new|checked|done|url|$", line) for line in lines)
    assert commands.run("push", str(source), REPO, "--to", "hf-image", "--parity", "none")[
        "changes"
    ]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), ["org/my-sam2, to be created\n", "main\n", "new", "to be uploaded\n"]),
        (("--revision", "main"), ["changed     README.md, ", "same        config.json, ", "kept"]),
        (("--create-pr",), ["a new pull request\n", "to be uploaded\n"]),
        (("--dry-run",), []),
    ],
)
def test_what_will_be_written_is_said_before(
    hub: Hub, push: Push, commands: Commands, options: tuple[str, ...], says: list[str]
) -> None:
    if options:
        push()
        hub.repo(REPO).write({"theirs.txt": b""})
    hub.inject(Fault("POST", "/api/*/commit/*", Status(403), ALWAYS))
    hub.requests.clear()
    push("--license", "mit", *options)  # ends in an error, if it comes to writing
    assert bool(commands.announced) == bool(says)
    assert all(text in commands.announced for text in says)


def test_a_repository_is_published_anew_with_the_settings_of_its_yaml(
    hub: Hub, commands: Commands, tmp_path: Path
) -> None:
    settings = config_file(tmp_path, image_size=64).read_bytes()
    hub.create("org/old", {"m.pt": commands.source.read_bytes(), "m.yaml": settings})
    commands.run("push", "hf://org/old", REPO, "--to", "hf-image", "--parity", "none")
    config = json.loads(hub.repo(REPO).files()["config.json"].read())
    assert config["prompt_encoder_config"]["image_size"] == 64


def test_nothing_is_said_when_nothing_is_to_be_uploaded(push: Push, commands: Commands) -> None:
    push()
    assert not push()["uploaded"]
    assert not commands.announced


def test_it_is_said_before_anything_is_written(hub: Hub, push: Push, commands: Commands) -> None:
    hub.inject(Fault("POST", "/api/repos/create", Status(403)))
    assert "does not let you write it" in push()["error"]
    assert "to be created" in commands.announced
    assert not hub.store.repos


def test_an_existing_card_keeps_its_words(hub: Hub, push: Push) -> None:
    theirs = b"---\nlicense: mit\n---\n# Theirs\n"
    hub.create(REPO, {"README.md": theirs})
    done = push("--license", "apache-2.0")
    text = hub.repo(REPO).files("main")["README.md"].read().decode()
    assert f"license: mit\n---\n# Theirs\n\n{BEGIN}" in text
    assert "which is kept" in done["repository"]["notes"][0]


def test_shards_of_another_model_are_refused(hub: Hub, push: Push) -> None:
    hub.create(REPO, {"model.safetensors.index.json": b"{}"})
    assert "would contradict" in push("--create-pr")["error"]


@pytest.mark.parametrize(
    ("user", "options", "says"),
    [
        (None, (), "requires you to sign in"),
        (None, ("--create-pr",), "requires you to sign in"),
        (READER, (), "does not let you write it"),
        (STRANGER, (), "does not let you write it"),
    ],
)
def test_who_may_not_write_is_told_so(
    hub: Hub, push: Push, user: User | None, options: tuple[str, ...], says: str
) -> None:
    hub.create(REPO)
    before = held(hub)
    answer = push(*options, user=user)
    assert answer["exit_code"] == 3
    assert says in answer["error"]
    assert held(hub) == before


@pytest.mark.parametrize(
    "fault",
    [
        Fault("POST", "/api/models/*/commit/*", LostAnswer()),
        Fault("POST", "/api/models/*/commit/*", Status(503)),
        Fault("GET", "/api/models/*", Status(500)),
        Fault("PUT", "/storage/*", Status(503)),
    ],
    ids=["answer lost", "commit 503", "reading 500", "upload 503"],
)
@pytest.mark.parametrize("options", [(), ("--create-pr",)], ids=["direct", "proposed"])
def test_what_passes_is_outlasted(
    hub: Hub, push: Push, fault: Fault, options: tuple[str, ...]
) -> None:
    hub.create(REPO)
    hub.inject(fault)
    done = push(*options)
    assert done["uploaded"]
    assert fault.times == 0
    revision = "refs/pr/1" if options else "main"
    assert done["revision"] == revision
    assert held(hub, revision) == sent(done)
    assert proposals(hub) == len(options)
    commits = [c for c in hub.asked("POST", "*/commit/*") if not isinstance(c.effect, Status)]
    assert len(commits) == 1


def test_what_does_not_pass_is_one_error_and_running_again_completes(hub: Hub, push: Push) -> None:
    hub.create(REPO)
    hub.inject(Fault("POST", "/api/models/*/commit/*", Status(503), ALWAYS))
    answer = push()
    assert answer["exit_code"] == 3
    assert "status 503" in answer["error"]
    assert held(hub) == {}
    hub.heal()
    done = push()
    assert held(hub) == sent(done)
    assert len(hub.asked("PUT")) == len({request.path for request in hub.asked("PUT")})


@pytest.mark.parametrize(
    ("token", "method", "path"),
    [
        (WRITER.token, "POST", "/api/*/commit/*"),
        (WRITER.token, "GET", "/api/models/*"),
        ("My-0wn.t0ken+/=", "GET", WHOAMI),
        ("12345678", "GET", WHOAMI),
    ],
)
def test_what_the_hub_repeats_is_told_without_secrets_in_one_line(
    hub: Hub, push: Push, token: str, method: str, path: str
) -> None:
    if path == WHOAMI and Version(huggingface_hub.__version__) < Version("1"):
        pytest.skip("this client does not pass on what it is told")
    hub.create(REPO)
    text = f"no\n\x1b[1mBearer {token} at https://me:{token}@host/x?sig={token}&a=b, {token!r}"
    hub.inject(Fault(method, path, Status(403, body=json.dumps({"error": text})), ALWAYS))
    answer = push(user=User("anyone", token))  # which also checks that the token is nowhere
    assert r": no \x1b[1mBearer *** at https://***@host/x?*** " in answer["error"]
    assert "\n" not in answer["error"]


def test_what_the_client_logs_is_told_without_secrets(
    hub: Hub, push: Push, commands: Commands
) -> None:
    hub.create(REPO)
    hub.inject(Fault("PUT", "/storage/*", Status(503)))
    warned = json.dumps({"warnings": [{"message": f"see\n{WRITER.token}"}]})
    hub.inject(Fault("POST", "/api/validate-yaml", Status(200, body=warned)))
    assert push()["uploaded"]
    log = commands.log.read_text()
    assert re.search(r"HTTP Error 503 thrown while requesting PUT http://[\w.:/-]+\?\*\*\*\n", log)
    assert "Warnings while validating metadata in README.md: - see ***\n" in commands.announced


@pytest.mark.parametrize("status", [409, 412])
def test_a_push_of_someone_else_in_between_is_told(hub: Hub, push: Push, status: int) -> None:
    hub.create(REPO)
    hub.inject(Fault("POST", "/api/models/*/commit/*", Status(status)))
    assert "in the meantime" in push()["error"]


def test_a_header_that_came_out_wrong_is_noticed(hub: Hub, push: Push) -> None:
    hub.create(REPO)
    hub.inject(Fault("GET", "/storage/*/model.safetensors", Flip(200), ALWAYS))
    answer = push()
    assert answer["exit_code"] != 0
    assert "model.safetensors" in answer["error"]


@pytest.mark.parametrize(
    ("options", "repo", "code"),
    [
        (("--create-pr", "--revision", "main"), REPO, 2),
        ((), "no-owner", 2),
        ((), "a//b", 2),
        (("--create-pr",), "org/none", 3),
        (("--revision", "none"), REPO, 3),
        (("--license", "no-such-license"), REPO, 3),
    ],
)
def test_what_cannot_be_asked(
    hub: Hub, push: Push, options: tuple[str, ...], repo: str, code: int
) -> None:
    hub.create(REPO)
    assert push(*options, repo=repo)["exit_code"] == code
    assert held(hub) == {}
