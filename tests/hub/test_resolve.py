"""The forms of a checkpoint reference, in every command that takes one; run in new processes."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
from collections.abc import Iterator
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path

import pytest
import torch

import sam21convert
from sam21convert.config.registry import find
from sam21convert.errors import MissingFileError, Sam21ConvertError, UnreadableError, UsageError
from sam21convert.hub import resolve
from sam21convert.hub.fetch import OFFICIAL
from sam21convert.hub.published import PUBLISHED
from sam21convert.hub.resolve import locate
from sam21convert.report import one_line

from ..support.answers import conforms
from ..support.checkpoints import DEBUG, official_pt
from ..support.file_server import Served, Web, environment
from ..support.forks import child
from ..support.hub_server import Fault, Flip, Hub
from ..support.paths import ROOT

NAME = "sam2.1_hiera_tiny"
REPO = "facebook/sam2.1-hiera-tiny"
FILE = f"hf://{REPO}/{NAME}.pt"
CONFIG = ROOT / "configs" / f"{DEBUG}.yaml"
PEERS = """
import huggingface_hub.constants  # before the next line takes the process offline
import tests.conftest, warnings
warnings.filterwarnings("ignore", ".*torch.jit.script")
"""
# Replaces the first published checkpoint by the debug model on the test server. Then runs each list
# of arguments as a command line, and prints [exit code, standard output, standard error] for each.
PROGRAM = """
import json, sys
from dataclasses import replace
from click.testing import CliRunner
from sam21convert.hub import download, listing, resolve, spelling
from sam21convert.commands.main import main
download._WAITS = (0.01, 0.01, 0.01)
url, nbytes, digest, lines = sys.argv[1:]
first, *others = resolve.PUBLISHED
first = replace(first, url=url + "/tiny.pt", bytes=int(nbytes), sha256=digest)
resolve.PUBLISHED = listing.PUBLISHED = spelling.PUBLISHED = (first, *others)
answers = []
for line in json.loads(lines):
    result = CliRunner().invoke(main, line)
    if not isinstance(result.exception, (SystemExit, type(None))):
        raise result.exception
    answers.append([result.exit_code, result.stdout, result.stderr])
print(json.dumps(answers))
"""


class World:
    """A Hub, a web server, and commands that use them with empty caches."""

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
        self.hub.create(REPO, {f"{NAME}.pt": self.body, **self.files})
        self.hub.repo(REPO).write({f"{NAME}.pt": b"v1"}, "v1")
        self.hub.create(
            "some/folder", {**self.files, "training.pt": pickle.dumps(b"x" * (1 << 20))}
        )
        self.hub.repo("some/folder").write(self.files, "refs/pr/1")
        self.hub.create("some/files", {"a.pt": self.body, "sub/b.pt": self.body})
        larger = CONFIG.read_text().replace("image_size: 128", "image_size: 256").encode()
        self.hub.create("some/configured", {"m.pt": self.body, "sub/larger.yaml": larger})
        own = {"sub/m.pt": self.body, "sub/m.yaml": larger, "sub/n.pt": self.body}
        self.hub.create("some/own", {**own, "other.yaml": CONFIG.read_bytes()})
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def run(
        self, *lines: list[str], program: str = PROGRAM, **more: str
    ) -> list[tuple[int, str, str]]:
        env = {**environment(self.home), "HF_ENDPOINT": self.endpoint, **more}
        facts = [self.web.url, str(len(self.body)), sha256(self.body).hexdigest()]
        return [tuple(a) for a in child(program, [*facts, json.dumps(lines)], env)]

    @property
    def endpoint(self) -> str:
        return self.hub.environment(self.home / "hf")["HF_ENDPOINT"]

    def one(self, *line: str, **more: str) -> tuple[int, str, str]:
        (answer,) = self.run(list(line), **more)
        return answer


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    home = tmp_path_factory.mktemp("made")
    model = home / "m.pt"
    sam21convert.sample(model, DEBUG)
    sam21convert.convert(model, home / "folder")
    return model, home / "folder"


@pytest.fixture
def world(tmp_path: Path, made: tuple[Path, Path]) -> Iterator[World]:
    world = World(tmp_path / "home", *made)
    with world:
        yield world


def test_the_facts_of_published_checkpoints_are_consistent() -> None:
    assert len(PUBLISHED) == 8
    assert len({(p.url, p.sha256, p.bytes, p.repo) for p in PUBLISHED}) == 8
    for published in PUBLISHED:
        shipped = find(published.name)
        assert shipped is not None
        assert (published.config, published.size) == (shipped.name, shipped.size)
        assert OFFICIAL[published.repo] == (shipped.name, published.file)
        assert published.url.endswith(f"/{published.file}")
        assert re.fullmatch("[0-9a-f]{64}", published.sha256)


@pytest.mark.parametrize("name", [NAME, "hf:", "some/thing/else", "sam2.1_hiera_tinny"])
def test_a_path_that_exists_takes_precedence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if name != NAME:
        with pytest.raises(MissingFileError, match="no such file or folder, and no published"):
            locate(name)
    (tmp_path / name).mkdir(parents=True)
    assert locate(name) == Path(name)


@pytest.mark.parametrize("name", ["gone.pt", "/gone", "sub/gone.safetensors"])
def test_a_path_that_does_not_exist_is_named_as_one(name: str) -> None:
    with pytest.raises(UnreadableError, match="No such file"):
        sam21convert.inspect(name)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "hf://org",
            "hf://",
            "hf://a@b",
            "hf://org/re\npo",
            "hf://org/repo@v%00",
            "hf://a/b/\udcff",
        ),
        *("https:///m.pt", "http://", "https://:80/m.pt", "https://[::1", "https://[::1/m.pt"),
        *("https://host:x/m.pt", "https://host:99999/m.pt", "https://ho st/m.pt"),
        *("https://host/m%00.pt", "https://ho\nst/m.pt", "https://host/\udcff.pt", "http://a\0b/m"),
    ],
)
def test_a_malformed_reference_is_refused_with_an_example(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        locate(name)
    shown = one_line(caught.value.message)
    assert one_line(name) in shown or one_line(name.replace("\n", " ")) in shown
    assert caught.value.hint is not None


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/m.pt", "m.pt"),
        ("/%C3%A9%20m.pt", "é m.pt"),
        ("/a/..%2Fm.pt", "m.pt"),
        ("/%1b%0a.pt", "__.pt"),
        ("/" + "n" * 300 + ".pt", "n" * 97 + ".pt"),
        ("/" + "%C3%A9" * 300 + ".pt", "é" * 48 + ".pt"),
        *((path, "checkpoint") for path in ("", "/", "/.", "/..", "/%2e%2e", "/%2F")),
    ],
)
def test_a_file_of_the_web_has_a_name_that_every_file_system_takes(
    path: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolve, "download", lambda *_: None)
    assert locate(f"https://host{path}").name == name


@pytest.mark.parametrize(
    "source", ["https://host/m.pt?signature=" + "s" * 300, "hf://a/" + "r" * 300]
)
def test_an_address_may_be_longer_than_the_name_of_a_file(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(resolve, "download", lambda *given: asked.extend(given))
    monkeypatch.setattr(resolve, "_download_from_hub", asked.append)
    resolve.resolve(source)
    assert asked


@pytest.mark.parametrize("source", ["n" * 300, "n" * 300 + ".pt"])
def test_a_path_that_cannot_be_looked_up_is_named_as_one(source: str) -> None:
    with pytest.raises(UnreadableError, match="File name too long"):
        sam21convert.inspect(source)


def test_no_path_holds_a_zero_byte() -> None:
    for source in ("a\0b", "a\0b.pt"):
        with pytest.raises(Sam21ConvertError):
            sam21convert.inspect(source)


def test_every_command_takes_every_form(
    world: World, tmp_path: Path, made: tuple[Path, Path]
) -> None:
    image, picture = tmp_path / "image", made[0].parent / "p.png"
    sam21convert.convert(made[0], image, to="hf-image")
    from PIL import Image

    Image.new("RGB", (32, 32)).save(picture)
    web, page = f"{world.web.url}/mine/m.pt", f"{world.endpoint}/some/files"
    answers = world.run(
        ["inspect", NAME],
        ["inspect", "hf://some/folder"],
        ["inspect", "hf://some/folder@refs/pr/1"],
        ["inspect", "hf://some/folder@refs%2Fpr%2F1/model.safetensors"],
        ["inspect", "hf://some/files/sub/b.pt"],
        ["inspect", "some/folder"],
        ["inspect", f"{page}/blob/main/sub/b.pt"],
        ["inspect", NAME.replace("_", "-")],
        ["validate", web],
        ["validate", "hf://some/files@main/a.pt"],
        ["validate", f"{page}/resolve/main/a.pt?download=true"],
        ["convert", NAME, str(tmp_path / "a.safetensors")],
        ["convert", str(image), str(tmp_path / "b.pt"), "--base", f"hf://{REPO}"],
        ["convert", str(image), str(tmp_path / "c.pt"), "--base", FILE],
        ["parity", NAME, "truth:some/folder", "--scenarios", "encoder"],
        ["parity", web, f"truth:{web}", "--scenarios", "encoder"],
        ["predict", "image", str(picture), "--checkpoint", NAME, "--point", "9,9", "-o",
         str(tmp_path / "o.png")],
    )  # fmt: skip
    assert [answer[0] for answer in answers] == [0] * len(answers), answers
    assert f"config      {DEBUG}" in answers[0][1]
    assert world.web.asked("/tiny.pt") == [None]
    assert world.web.asked("/mine/m.pt") == [None]
    looked_into = [request for request in world.hub.requests if "training.pt" in request.path]
    assert all(request.sent < 1 << 20 for request in looked_into)  # only its beginning is read


@pytest.mark.parametrize(
    ("source", "container", "size"),
    [
        (f"hf://{REPO}", "transformers folder", 128),
        (FILE, "torch zip", None),
        ("hf://some/configured", "torch zip", 256),
        ("hf://some/configured/m.pt", "torch zip", None),
        ("hf://some/own/sub/m.pt", "torch zip", 256),
        ("hf://some/own/sub/n.pt", "torch zip", None),
        (f"hf://{REPO}/model.safetensors", "safetensors", 128),
    ],
)
def test_a_repository_gives_its_checkpoint_and_config_and_a_file_its_own(
    world: World, tmp_path: Path, source: str, container: str, size: int | None
) -> None:
    answer = json.loads(world.one("inspect", source, "--json")[1])
    assert (answer["container"], answer["image_size"]) == (container, size)
    line = ["convert", source, str(tmp_path / "out.pt"), "--to", "official", "--json"]
    converted = json.loads(world.one(*line)[1])  # which downloads it
    assert converted["image_size"] == size
    line[2] = str(tmp_path / "again.pt")
    assert json.loads(world.one(*line, HF_HUB_OFFLINE="1")[1])["image_size"] == size


def test_a_config_that_is_given_overrides_the_one_beside_the_checkpoint(
    world: World, tmp_path: Path
) -> None:
    source = "hf://some/configured"
    sizes = world.run(
        ["validate", source, "--json"],
        ["validate", source, "--config", DEBUG, "--json"],
        ["convert", source, str(tmp_path / "beside")],
        ["convert", source, str(tmp_path / "given"), "--config", DEBUG],
        ["inspect", str(tmp_path / "beside"), "--json"],
        ["inspect", str(tmp_path / "given"), "--json"],
    )
    assert [code for code, _, _ in sizes] == [0] * 6
    assert [json.loads(sizes[n][1])["config"] for n in (0, 1)] == ["larger.yaml", DEBUG]
    assert [json.loads(sizes[n][1])["image_size"] for n in (4, 5)] == [256, 128]


def test_a_yaml_that_is_not_a_config_is_named(world: World) -> None:
    world.hub.repo("some/configured").write({"sub/larger.yaml": b"lr: 0.1"})
    named, alone, given = world.run(
        ["inspect", "hf://some/configured"],
        ["inspect", "hf://some/configured/m.pt"],
        ["validate", "hf://some/configured/m.pt", "--config", DEBUG],
    )
    assert (named[0], alone[0], given[0]) == (3, 0, 0)
    assert "sub/larger.yaml: generation: is missing" in named[2]
    assert "hint: ask for the checkpoint alone" in named[2]


def test_parity_of_what_is_on_the_hub(world: World, tmp_path: Path) -> None:
    tensors = torch.load(io.BytesIO(world.body))["model"]
    tensors["image_encoder.neck.convs.0.conv.bias"] += 1
    world.hub.create("some/other", {"m.pt": official_pt(tmp_path / "m.pt", tensors).read_bytes()})
    pairs = (
        (f"sam2:{FILE}", "transformers:hf://some/folder"),
        ("sam2:hf://some/other", f"transformers:hf://{REPO}"),
        ("sam2:hf://some/configured", "hf://some/configured"),
    )
    lines = [["parity", *pair, "--scenarios", "encoder", "--json"] for pair in pairs]
    answers = world.run(*lines, program=PEERS + PROGRAM)
    assert [code for code, _, _ in answers] == [0, 1, 0], answers
    sides = [json.loads(out)[side] for _, out, _ in answers for side in ("left", "right")]
    assert [side["image_size"] for side in sides] == [128] * 4 + [256] * 2


def test_python_functions_take_the_same_forms(world: World, tmp_path: Path) -> None:
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
        answer = conforms(text)
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
        assert "but the target must be a" in err

    def test_not_of_a_path(self, world: World, made: tuple[Path, Path]) -> None:
        for path, expected in ((made[0], 2), ("/no/such.pt", 3)):
            code, _, err = world.one("pull", str(path))
            assert code == expected
            assert ("is a path" if expected == 2 else "No such file") in err

    @pytest.mark.parametrize("command", ["pull", "convert"])
    def test_nothing_is_asked_for_when_the_output_exists(
        self, world: World, made: tuple[Path, Path], command: str
    ) -> None:
        for code, _, err in world.run(
            *([command, source, str(made[0])] for source in (NAME, FILE, "hf://some/folder"))
        ):
            assert code == 2
            assert "exists" in err
        assert world.web.requests == []
        assert world.hub.requests == []


class TestAWrongFile:
    """A file of which one byte has changed."""

    def spoil(self, body: bytes) -> bytes:
        return body[:-1] + bytes([body[-1] ^ 1])

    def test_from_the_web_never_gets_its_final_name(self, world: World, tmp_path: Path) -> None:
        world.web.files["/tiny.pt"] = Served(self.spoil(world.body))
        answers = world.run(["inspect", NAME], ["pull", NAME, str(tmp_path / "out.pt")])
        for code, _, err in answers:
            assert code == 3
            assert "has SHA-256" in err
        assert not (tmp_path / "out.pt").exists()
        kept = set(os.listdir(world.home / "sam21convert"))
        assert all(name.split(".pt.")[1].startswith(("wrong-", "lock")) for name in kept)

    def test_from_the_hub_is_moved_out_of_the_cache(self, world: World) -> None:
        world.hub.repo(REPO).write({f"{NAME}.pt": self.spoil(world.body)})
        code, _, err = world.one("validate", FILE)
        assert code == 3
        assert "has SHA-256" in err
        (kept,) = (world.home / "sam21convert").glob("*.wrong-*")
        assert str(kept) in err
        assert kept.read_bytes() == self.spoil(world.body)
        world.hub.repo(REPO).write({f"{NAME}.pt": world.body})
        assert world.one("inspect", FILE)[0] == 0

    @pytest.mark.parametrize(
        ("source", "name", "says", "no_links"),
        [
            ("hf://some/folder", "model.safetensors", "has SHA-256", ""),
            ("hf://some/folder@refs/pr/1", "config.json", "has the git hash", ""),
            ("hf://some/folder@refs/pr/1", "config.json", "has the git hash", "1"),
            ("hf://some/files/sub/b.pt", "b.pt", "has SHA-256", "1"),
            (FILE, f"{NAME}.pt", "has SHA-256", ""),
        ],
    )
    def test_from_the_hub_is_detected_on_arrival(
        self, world: World, source: str, name: str, says: str, no_links: str
    ) -> None:
        right = world.files.get(name, world.body)
        world.hub.inject(Fault("GET", f"*/{name}", Flip(len(right) - 1)))
        line = ["validate", source]
        (code, _, err), again = world.run(line, line, HF_HUB_DISABLE_SYMLINKS=no_links)
        assert code == 3
        assert says in err
        (kept,) = (world.home / "sam21convert/hub").rglob(f"{name}.wrong-*")
        assert str(kept) in err
        assert kept.read_bytes()[:-1] == right[:-1]
        assert kept.read_bytes() != right
        assert again[0] == 0
        assert [path.read_bytes() for path in (world.home / "hf").rglob(name)] == [right]

    @pytest.mark.parametrize("source", [NAME, FILE, "hf://some/folder", "hf://some/files/a.pt"])
    def test_in_a_cache_is_detected_by_pull(self, world: World, source: str) -> None:
        path = Path(world.one("pull", source)[1].strip())
        path = path / "config.json" if path.is_dir() else path
        right = path.read_bytes()
        path.write_bytes(self.spoil(right))
        wrong, found = world.run(["pull", source], ["pull", source])
        assert (wrong[0], found[0]) == (3, 0)
        assert "kept as" in wrong[2]
        assert path.read_bytes() == right

    def test_an_older_revision_may_differ_from_the_published_file(self, world: World) -> None:
        code, out, _ = world.one("pull", f"hf://{REPO}@v1")
        assert code == 0
        assert Path(out.strip()).read_bytes() == b"v1"


FULL = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
"""


@pytest.mark.parametrize("source", [NAME, FILE, "hf://some/folder"])
def test_a_full_disk_is_reported_and_nothing_is_lost(world: World, source: str) -> None:
    """The full disk is a limit on the size of files, which gives a similar error."""
    [(code, out, err)] = world.run(["validate", source], program=FULL + PROGRAM)
    assert (code, out) == (3, "")
    assert "cannot be saved in " + str(world.home) in err
    assert "File too large" in err
    assert world.one("validate", source)[0] == 0


def test_what_was_pulled_is_there_offline(world: World) -> None:
    lines = [["pull", NAME], ["pull", f"hf://{REPO}"], ["pull", "hf://some/folder"]]
    assert [code for code, _, _ in world.run(*lines, HF_HUB_OFFLINE="1")] == [3] * 3
    online = world.run(*lines)
    assert [code for code, _, _ in online] == [0] * 3
    assert world.run(*lines, HF_HUB_OFFLINE="1") == online


def test_the_list_shows_what_is_in_the_cache(world: World) -> None:
    lists = [["list", "--json"], ["list"]]
    answers = world.run(*lists, ["pull", FILE], *lists, ["pull", NAME], *lists)
    pulled = [answers[n][1].strip() for n in (2, 5)]
    assert pulled[1] == str(world.home / "sam21convert" / f"{NAME}.pt")
    for at, by_hub, cached, says in (
        (0, None, None, "no"),
        (3, pulled[0], None, "by the Hub"),
        (6, pulled[0], pulled[1], "yes"),
    ):
        first, *others = json.loads(answers[at][1])["checkpoints"]
        assert (first["cached_by_hub"], first["cached"]) == (by_hub, cached)
        assert {(c["cached_by_hub"], c["cached"]) for c in others} == {(None, None)}
        rows = [line.split("  ")[-1] for line in answers[at + 1][1].splitlines()[1:]]
        assert rows == [says, *["no"] * 7]
    requests = len(world.hub.requests)
    assert world.run(*lists, HF_ENDPOINT="http://127.0.0.1:9") == answers[-2:]
    assert len(world.hub.requests) == requests
