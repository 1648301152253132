"""What a card could state is proposed, with where it is known from, and never written unasked."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from safetensors.torch import save_file

import sam21convert
from sam21convert.checkpoint.open import open_checkpoint
from sam21convert.hub.published import PUBLISHED
from sam21convert.workflows.publish import repository
from sam21convert.workflows.publish.proposals import proposals

from ..support.checkpoints import DEBUG, random_bits, state_dict
from ..support.hub_server import Hub
from ..support.pushing import Commands, running

REPO, TINY = "org/my-sam2", "facebook/sam2.1-hiera-tiny"
OPTION = re.compile(r"(--[\w-]+) (\S+) states it")
CARD = b"---\nlicense: MIT\nbase_model:\n- some/base\n---\n# Model\n"


@pytest.fixture(scope="module")
def model(checkpoints: Callable[[str], Path]) -> Path:
    return checkpoints(DEBUG)


@pytest.fixture
def folder(model: Path, tmp_path: Path) -> Path:
    """A transformers folder with nothing in it that names another model."""
    return sam21convert.convert(model, tmp_path / "folder", to="hf-image").destination


def proposed(source: Path | str, path: Path | None = None, **stated: Any) -> list[str]:
    opened = open_checkpoint(path or source)
    return list(proposals(stated, str(source), opened, REPO))


def values(notes: list[str]) -> list[str]:
    return [re.findall("`(.+?)`", note)[0] for note in notes]


def test_of_a_model_that_nothing_is_known_of_nothing_is_proposed(model: Path) -> None:
    assert proposed(model) == []


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from sam21convert.config.registry import shipped_tensors

    home = tmp_path_factory.mktemp("tiny")
    return random_bits(home / "mine.safetensors", shipped_tensors("sam2.1/sam2.1_hiera_t"))


def test_the_published_model_of_the_same_size_may_be_the_base(tiny: Path) -> None:
    notes = proposed(tiny)
    assert values(notes) == [f"base_model={TINY}", "license=apache-2.0"]
    assert "if it was trained from" in notes[0]
    assert f"{TINY} is under" in notes[1]


@pytest.mark.parametrize("name", ["sam2.1_hiera_tiny", f"hf://{TINY}", TINY])
def test_a_published_source_is_the_base(tiny: Path, name: str) -> None:
    notes = proposed(name, tiny)
    assert values(notes) == [f"base_model={TINY}", "license=apache-2.0"]
    assert f"the source is {TINY}" in notes[0]


def test_the_card_of_the_source_folder_is_read(folder: Path) -> None:
    (folder / "README.md").write_bytes(CARD)
    notes = proposed(folder)
    assert values(notes) == ["base_model=some/base", "license=mit"]
    assert all("README" in note for note in notes)


def test_the_config_and_the_metadata_of_the_source_are_read(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "_name_or_path": "some/other"}))
    assert values(proposed(folder)) == ["base_model=some/other"]
    (folder / "config.json").write_text(json.dumps({**config, "_name_or_path": "/home/me/x"}))
    assert proposed(folder) == []
    file = tmp_path / "m.safetensors"
    save_file(state_dict(), file, {"modelspec.license": "CC-BY-4.0"})
    assert values(proposed(file)) == ["license=cc-by-4.0"]


@pytest.mark.parametrize(
    "card",
    [
        b"---\nlicense: [a, b]\nbase_model: {x: y}\n---\n",
        b"---\nlicense: 'mit`; rm'\nbase_model: '../../x y'\n---\n",
        b"---\nlicense: &a [*a]\n---\n",
        b"---\n{\n---\n",
        b"\xff" * 99,
        b"---\nlicense: mit\nbase_model: a/b\n---\n" + b"x" * (2 << 20),
    ],
)
def test_an_odd_card_proposes_nothing(folder: Path, card: bytes) -> None:
    (folder / "README.md").write_bytes(card)
    assert proposed(folder) == []


def test_an_address_on_the_web_may_be_longer_than_a_path(model: Path) -> None:
    address = f"https://host/{'x/' * 4000}m.pt?signature={'y' * 999}"
    assert proposed(address, model) == []
    assert repository._readme(address) is None


def test_what_is_stated_is_not_proposed(tiny: Path) -> None:
    assert values(proposed(tiny, license="mit")) == [f"base_model={TINY}"]
    assert values(proposed(tiny, base_model=TINY)) == ["license=apache-2.0"]
    assert proposed(tiny, base_model="my/own") == []
    assert {one.repo for one in PUBLISHED} > {TINY}


@pytest.fixture(scope="module")
def commands(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    with running(model, tmp_path_factory.mktemp("home")) as commands:
        yield commands


def stated(hub: Hub) -> dict[str, Any]:
    text = hub.repo(REPO).files()["README.md"].read().decode()
    return vars(ModelCard(text).data)


def test_each_proposal_is_followed_as_it_is_printed(commands: Commands, folder: Path) -> None:
    hub = commands.hub
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    hub.create("org/old", {**files, "README.md": CARD})
    words = ["push", "hf://org/old", REPO, "--parity", "none"]
    notes = commands.run(*words)["repository"]["notes"]
    assert (stated(hub)["base_model"], stated(hub)["license"]) == (None, None)
    options = [found for note in notes for found in OPTION.findall(note)]
    assert options == [("--base-model", "org/old"), ("--license", "mit")]
    given = [word for option in options for word in option]
    again = commands.run(*words, *given)
    assert (stated(hub)["base_model"], stated(hub)["license"]) == ("org/old", "mit")
    assert not OPTION.findall("\n".join(again["repository"]["notes"]))
    commands.run("push", "hf://org/old", "org/third", "--parity", "none")
    assert b"# Model" not in hub.repo("org/third").files()["README.md"].read()
