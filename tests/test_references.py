"""What may be written for a checkpoint, wherever one is taken: in processes of their own."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

import sam21convert
from sam21convert.catalog import find
from sam21convert.errors import UnreadableError, UsageError
from sam21convert.hub import OFFICIAL
from sam21convert.published import PUBLISHED
from sam21convert.references import locate

from .file_server import Served, Web, child, environment
from .hub import Hub
from .making import DEBUG, official_pt

NAME = "sam2.1_hiera_tiny"
REPO = "facebook/sam2.1-hiera-tiny"
# The debug model takes the place of the published file at the stand-in's address. Then each list of
# arguments is a command line, answered by [exit code, standard output, standard error].
PROGRAM = """
import json, sys
from dataclasses import replace
from click.testing import CliRunner
from sam21convert import downloading, pulling, references
from sam21convert.__main__ import main
downloading._WAITS = (0.01, 0.01, 0.01)
url, nbytes, digest, lines = sys.argv[1:]
first, *others = references.PUBLISHED
first = replace(first, url=url + "/tiny.pt", bytes=int(nbytes), sha256=digest)
references.PUBLISHED = pulling.PUBLISHED = (first, *others)
answers = []
for line in json.loads(lines):
    result = CliRunner().invoke(main, line)
    if not isinstance(result.exception, (SystemExit, type(None))):
        raise result.exception
    answers.append([result.exit_code, result.stdout, result.stderr])
print(json.dumps(answers))
"""


class World:
    """A Hub, a web server and the commands that see them, with caches of their own."""

    def __init__(self, home: Path, model: Path, folder: Path) -> None:
        self.home = home
        self.body = model.read_bytes()
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        self.hub = Hub()
        self.files = files
        self.web = Web({"/tiny.pt": Served(self.body), "/mine/m.pt": Served(self.body)})

    def __enter__(self) -> World:
        self._open = ExitStack()
        self._open.enter_context(self.hub)
        self._open.enter_context(self.web)
        self.hub.create(REPO, {f"{NAME}.pt": self.body})
        self.hub.repo(REPO).write({f"{NAME}.pt": b"v1"}, "v1")
        self.hub.create("some/folder", {**self.files, "training.pt": b"x"})
        self.hub.repo("some/folder").write(self.files, "refs/pr/1")
        self.hub.create("some/files", {"a.pt": self.body, "sub/b.pt": self.body})
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def run(self, *lines: list[str], **more: str) -> list[tuple[int, str, str]]:
        hub = self.hub.environment(self.home / "hf")
        env = {**environment(self.home), "HF_ENDPOINT": hub["HF_ENDPOINT"], **more}
        facts = [self.web.url, str(len(self.body)), sha256(self.body).hexdigest()]
        return [tuple(a) for a in child(PROGRAM, [*facts, json.dumps(lines)], env)]

    def one(self, *line: str, **more: str) -> tuple[int, str, str]:
        (answer,) = self.run(list(line), **more)
        return answer


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    home = tmp_path_factory.mktemp("made")
    model = official_pt(home / "m.pt")
    sam21convert.convert(model, home / "folder")
    return model, home / "folder"


@pytest.fixture
def world(tmp_path: Path, made: tuple[Path, Path]) -> Iterator[World]:
    world = World(tmp_path / "home", *made)
    with world:
        yield world


def test_every_published_checkpoint_is_listed_with_what_identifies_it() -> None:
    assert len(PUBLISHED) == 8
    assert len({(p.url, p.sha256, p.bytes, p.repo) for p in PUBLISHED}) == 8
    for published in PUBLISHED:
        shipped = find(published.name)
        assert shipped is not None
        assert (published.config, published.size) == (shipped.name, shipped.size)
        assert OFFICIAL[published.repo] == (shipped.name, published.file)
        assert published.url.endswith(f"/{published.file}")
        assert re.fullmatch("[0-9a-f]{64}", published.sha256)


@pytest.mark.parametrize("name", [NAME, "hf:", "some/thing", "sam2.1_hiera_tinny"])
def test_a_path_that_exists_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if name != NAME:
        with pytest.raises(UsageError, match="no such file or folder, and no published"):
            locate(name)
    (tmp_path / name).mkdir(parents=True)
    assert locate(name) == Path(name)


@pytest.mark.parametrize("name", ["gone.pt", "/gone", "sub/gone.safetensors"])
def test_a_path_that_does_not_exist_is_named_as_one(name: str) -> None:
    with pytest.raises(UnreadableError, match="No such file"):
        sam21convert.inspect(name)


@pytest.mark.parametrize("name", ["hf://org", "hf://", "hf://a@b", "https:///m.pt", "http://"])
def test_what_is_not_of_a_form_is_refused_with_an_example(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        locate(name)
    assert name in caught.value.message
    assert caught.value.hint is not None


def test_every_command_takes_every_form(
    world: World, tmp_path: Path, made: tuple[Path, Path]
) -> None:
    image, picture = tmp_path / "image", made[0].parent / "p.png"
    sam21convert.convert(made[0], image, to="hf-image")
    from PIL import Image

    Image.new("RGB", (32, 32)).save(picture)
    web = f"{world.web.url}/mine/m.pt"
    answers = world.run(
        ["inspect", NAME],
        ["inspect", "hf://some/folder"],
        ["inspect", "hf://some/folder@refs/pr/1"],
        ["inspect", "hf://some/folder@refs%2Fpr%2F1/model.safetensors"],
        ["inspect", "hf://some/files/sub/b.pt"],
        ["validate", web],
        ["validate", "hf://some/files@main/a.pt"],
        ["convert", NAME, str(tmp_path / "a.safetensors")],
        ["convert", str(image), str(tmp_path / "b.pt"), "--base", f"hf://{REPO}"],
        ["parity", NAME, "truth:hf://some/folder", "--scenarios", "encoder"],
        ["parity", web, f"truth:{web}", "--scenarios", "encoder"],
        ["predict", "image", str(picture), "--checkpoint", NAME, "--point", "9,9", "-o",
         str(tmp_path / "o.png")],
    )  # fmt: skip
    assert [answer[0] for answer in answers] == [0] * len(answers), answers
    assert f"config      {DEBUG}" in answers[0][1]
    assert world.web.asked("/tiny.pt") == [None]
    assert world.web.asked("/mine/m.pt") == [None]
    assert not any("training.pt" in str(request) for request in world.hub.requests)


def test_python_takes_them_too(world: World, tmp_path: Path) -> None:
    program = (
        "import json, sys, sam21convert\n"
        "model, report = sam21convert.load_model(sys.argv[1])\n"
        "found = sam21convert.inspect(sys.argv[1])\n"
        "print(json.dumps([report.tensors, str(report.path), str(found.path)]))"
    )
    source = f"{world.web.url}/mine/m.pt"
    count, loaded, inspected = child(program, [source], environment(world.home))
    assert count > 300
    assert loaded == inspected
    assert Path(loaded).read_bytes() == world.body


class TestPull:
    def test_to_the_cache(self, world: World) -> None:
        code, out, _ = world.one("pull", NAME)
        assert (code, out) == (0, f"{world.home}/sam21convert/{NAME}.pt\n")
        assert Path(out.strip()).read_bytes() == world.body

    def test_to_a_file(self, world: World, tmp_path: Path) -> None:
        out = tmp_path / "out.pt"
        line = ["pull", NAME, str(out)]
        (_, text, _), again, over = world.run([*line, "--json"], line, [*line, "--overwrite"])
        answer = json.loads(text)
        assert (answer["path"], answer["published"]) == (str(out), NAME)
        assert answer["sha256"] == {"out.pt": sha256(world.body).hexdigest()}
        assert answer["bytes"] == len(world.body)
        assert (again[0], over[0]) == (2, 0)
        assert "exists" in again[2]
        assert out.read_bytes() == world.body
        assert world.web.asked("/tiny.pt") == [None]

    def test_to_a_folder_with_the_processors(
        self, world: World, tmp_path: Path, made: tuple[Path, Path]
    ) -> None:
        pulled, folder = tmp_path / "pulled", made[1]
        answer = world.one("pull", "hf://some/folder", str(pulled))
        assert answer == (0, f"{pulled}\n", "")
        assert {path.name: path.read_bytes() for path in pulled.iterdir()} == {
            path.name: path.read_bytes() for path in folder.iterdir()
        }

    @pytest.mark.parametrize("source", ["hf://some/folder", "hf://some/files/a.pt"])
    def test_not_over_something_of_another_kind(
        self, world: World, tmp_path: Path, source: str
    ) -> None:
        (tmp_path / "out").mkdir() if source.endswith("pt") else (tmp_path / "out").touch()
        code, _, err = world.one("pull", source, str(tmp_path / "out"), "--overwrite")
        assert code == 2
        assert "what is to be written is a" in err

    def test_not_of_a_path(self, world: World, made: tuple[Path, Path]) -> None:
        for path in (made[0], "/no/such.pt"):
            code, _, err = world.one("pull", str(path))
            assert code == 2
            assert "is a path" in err

    def test_nothing_is_asked_for_when_the_output_exists(
        self, world: World, made: tuple[Path, Path]
    ) -> None:
        assert world.one("pull", NAME, str(made[0]))[0] == 2
        assert world.web.requests == []


class TestAWrongFile:
    """One changed byte."""

    def spoil(self, body: bytes) -> bytes:
        return body[:-1] + bytes([body[-1] ^ 1])

    def test_of_the_web_never_gets_its_name(self, world: World, tmp_path: Path) -> None:
        world.web.files["/tiny.pt"] = Served(self.spoil(world.body))
        answers = world.run(["inspect", NAME], ["pull", NAME, str(tmp_path / "out.pt")])
        for code, _, err in answers:
            assert code == 3
            assert "has SHA-256" in err
        assert not (tmp_path / "out.pt").exists()
        kept = set(os.listdir(world.home / "sam21convert"))
        assert all(name.split(".pt.")[1].startswith(("wrong-", "lock")) for name in kept)

    def test_of_the_hub_leaves_its_cache(self, world: World) -> None:
        world.hub.repo(REPO).write({f"{NAME}.pt": self.spoil(world.body)})
        code, _, err = world.one("validate", f"hf://{REPO}")
        assert code == 3
        assert "has SHA-256" in err
        (kept,) = (world.home / "sam21convert").glob("*.wrong-*")
        assert str(kept) in err
        assert kept.read_bytes() == self.spoil(world.body)
        world.hub.repo(REPO).write({f"{NAME}.pt": world.body})
        assert world.one("inspect", f"hf://{REPO}")[0] == 0

    def test_in_a_cache_is_found_by_pull(self, world: World) -> None:
        world.one("pull", NAME)
        path = world.home / "sam21convert" / f"{NAME}.pt"
        path.write_bytes(self.spoil(world.body))
        assert world.one("pull", NAME)[0] == 3
        assert world.one("pull", NAME)[0] == 0
        assert path.read_bytes() == world.body

    def test_of_an_older_revision_is_none(self, world: World) -> None:
        code, out, _ = world.one("pull", f"hf://{REPO}@v1")
        assert code == 0
        assert Path(out.strip()).read_bytes() == b"v1"


def test_what_was_pulled_is_there_offline(world: World) -> None:
    lines = [["pull", NAME], ["pull", f"hf://{REPO}"], ["pull", "hf://some/folder"]]
    assert [code for code, _, _ in world.run(*lines, HF_HUB_OFFLINE="1")] == [3] * 3
    online = world.run(*lines)
    assert [code for code, _, _ in online] == [0] * 3
    assert world.run(*lines, HF_HUB_OFFLINE="1") == online


def test_the_list_says_what_is_in_the_cache(world: World) -> None:
    before, _, after, text = world.run(
        ["list", "--json"], ["pull", NAME], ["list", "--json"], ["list"]
    )
    assert [c["cached"] for c in json.loads(before[1])["checkpoints"]] == [None] * 8
    cached: list[Any] = [c["cached"] for c in json.loads(after[1])["checkpoints"]]
    assert cached == [str(world.home / "sam21convert" / f"{NAME}.pt"), *[None] * 7]
    assert [line.split()[-1] for line in text[1].splitlines()[1:]] == ["yes", *["no"] * 7]
