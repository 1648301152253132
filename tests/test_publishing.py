"""Push against a Hub on this machine, with the real client."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sam21convert.readme import BEGIN

from .hub import ALWAYS, READER, STRANGER, Fault, Flip, Hub, LostAnswer, Status, User
from .hub.policy import WRITER
from .making import DEBUG

REPO = "org/my-sam2"
FILES = {
    "README.md",
    "config.json",
    "example.png",
    "model.safetensors",
    "preprocessor_config.json",
    "processor_config.json",
}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as server:
        yield server


Push = Callable[..., dict[str, Any]]


@pytest.fixture
def push(hub: Hub, checkpoints: Callable[[str], Path], tmp_path: Path) -> Push:
    """Runs the command, image models only, not compared; its JSON, or its error."""

    def run(*options: str, user: User | None = WRITER, repo: str = REPO) -> dict[str, Any]:
        words = [str(checkpoints(DEBUG)), repo, "--to", "hf-image", "--parity", "none", "--json"]
        done = subprocess.run(
            [sys.executable, "-m", "sam21convert", "push", *words, *options],
            env=hub.environment(tmp_path / "home", user),
            capture_output=True,
            text=True,
            check=False,
        )
        assert user is None or user.token not in done.stdout + done.stderr
        assert done.stdout, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        assert done.returncode == answer.get("exit_code", 0)
        return answer

    return run


def held(hub: Hub, revision: str = "main", repo: str = REPO) -> dict[str, str]:
    """Hashes by name of what a revision holds."""
    files = hub.repo(repo).files(revision)
    return {name: blob.sha256 for name, blob in files.items() if name != ".gitattributes"}


def sent(answer: dict[str, Any]) -> dict[str, str]:
    """Hashes by name of what was composed."""
    return {name: file["sha256"] for name, file in answer["repository"]["files"].items()}


def proposals(hub: Hub) -> int:
    return sum(one.is_pull_request for one in hub.repo(REPO).discussions)


def test_a_repository_is_created_and_holds_what_was_composed(hub: Hub, push: Push) -> None:
    planned = push("--dry-run")
    assert not planned["uploaded"]
    assert planned["creates"]
    assert REPO not in hub.store.repos
    assert not hub.asked("POST", "*/commit/*")

    done = push("--license", "apache-2.0")
    assert done["uploaded"]
    assert set(done["changes"].items()) == {(name, "new") for name in FILES}
    assert held(hub) == sent(done)
    assert done["url"].endswith(REPO)

    commits, uploads = (len(hub.asked("POST", "*/commit/*")), len(hub.asked("PUT")))
    again = push("--license", "apache-2.0")
    assert not again["uploaded"]
    assert set(again["changes"].values()) == {"same"}
    assert (len(hub.asked("POST", "*/commit/*")), len(hub.asked("PUT"))) == (commits, uploads)


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
        (None, (), "asks who you are"),
        (None, ("--create-pr",), "asks who you are"),
        (READER, (), "may not be written"),
        (STRANGER, (), "may not be written"),
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
