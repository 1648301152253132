"""``selftest --published``, with a server and a stand-in here; and with the real ones."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import sam21convert
from sam21convert.errors import UsageError
from sam21convert.workflows.selftest import _named

from ..support.answers import conforms
from ..support.checkpoints import DEBUG
from ..support.file_server import Served, Web, environment
from ..support.forks import child

NAME = "sam2.1_hiera_tiny"
# Replaces the first published checkpoint by the debug model on the test server, and runs a command.
PROGRAM = """
import json, sys
from dataclasses import replace
from click.testing import CliRunner
from sam21convert.hub import download, published, resolve, spelling
from sam21convert.commands.main import main
download._WAITS = (0.01,)
url, nbytes, digest, on_hub, flat, *line = sys.argv[1:]
first, *others = published.PUBLISHED
hub = first.twins[0]
twins = (
    replace(hub, sha256=on_hub),
    replace(hub, repo="someone/flat", file="m.safetensors", dialect="official", sha256=flat),
)
first = replace(first, url=url, bytes=int(nbytes), sha256=digest, twins=twins)
spelling.PUBLISHED = (first, *(replace(one, twins=()) for one in others))
published.PUBLISHED = resolve.PUBLISHED = spelling.PUBLISHED
result = CliRunner().invoke(main, line)
if not isinstance(result.exception, (SystemExit, type(None))):
    raise result.exception
print(json.dumps([result.exit_code, result.stdout, result.stderr]))
"""
REAL = """
import json, sys
from click.testing import CliRunner
from sam21convert.commands.main import main
result = CliRunner().invoke(main, ["selftest", "--published", *sys.argv[1:]])
print(json.dumps([result.exit_code, result.stdout, result.stderr]))
"""


def digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def test_downloaded_converted_and_compared(
    tmp_path: Path, checkpoints: Callable[[str], Path]
) -> None:
    source = checkpoints(DEBUG)
    sam21convert.convert(source, tmp_path / "folder")
    tensors = torch.load(source, weights_only=True)["model"]
    save_file(tensors, tmp_path / "flat")  # without metadata, as some write it
    right = digest(tmp_path / "folder" / "model.safetensors")
    body = source.read_bytes()
    with Web({"/tiny.pt": Served(body)}) as web:

        def run(*line: str, on_hub: str = right, home: str = "home") -> tuple[int, str, str]:
            facts = [f"{web.url}/tiny.pt", str(len(body)), sha256(body).hexdigest()]
            hashes = [on_hub, digest(tmp_path / "flat")]
            env = environment(tmp_path / home)
            code, out, err = child(PROGRAM, [*facts, *hashes, "selftest", *line], env)
            return code, out, err

        code, out, err = run("--published")
        assert (code, err) == (0, "")
        hub, flat = out.splitlines()
        assert hub.startswith(NAME)
        assert hub.endswith("identical to facebook/sam2.1-hiera-tiny's model.safetensors")
        assert flat.endswith(
            "not identical to someone/flat's m.safetensors, which others have written"
        )
        code, out, _ = run("--published", NAME, "--json", on_hub="0" * 64)
        hub, flat = conforms(out)["compared"]
        assert (code, hub["ok"], flat["ok"]) == (1, False, None)
        assert f"expected SHA-256 {'0' * 64}, found {right}" in hub["fault"]
        code, _, err = run("--published", "sam2_hiera_tiny")
        assert code == 2
        assert f"another form is known\nhint: one of {NAME}\n" in err
        code, _, err = run()
        assert (code, "give --published" in err) == (2, True)
    code, _, err = run("--published", home="elsewhere")
    assert (code, "tiny.pt" in err) == (3, True)


@pytest.mark.network
@pytest.mark.parametrize("name", [NAME, "sam2.1_hiera_small"])
def test_the_published_weights(name: str, tmp_path: Path) -> None:
    code, out, err = child(REAL, [name], environment(tmp_path))
    assert (code, err) == (0, ""), out


@pytest.mark.parametrize(
    "name", ["sam2.1_hiera_tiny", "sam2.1-hiera-tiny", "facebook/sam2.1-hiera-tiny", "sam2.1_t"]
)
def test_other_spellings_of_a_name_are_understood(name: str) -> None:
    assert _named(name).name == NAME


def test_a_misspelt_name_is_told_with_what_is_alike() -> None:
    with pytest.raises(UsageError) as refused:
        _named("sam2.1_hiera_tyni")
    assert str(refused.value.hint).startswith(f"did you mean {NAME}")
    with pytest.raises(UsageError) as refused:
        _named("sam3")
    assert str(refused.value.hint).startswith("one of sam2.1_hiera_tiny, ")
