"""The last word on a conversion of a published checkpoint: what others publish of it.

The published files are not here. A checkpoint of random weights stands in for one, and what
transformers itself saves of it stands in for the file on the Hub.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import sam21convert
from sam21convert.config.registry import shipped_tensors
from sam21convert.conversion import published as comparing
from sam21convert.conversion import report as reporting
from sam21convert.dialects import HF_VIDEO
from sam21convert.dialects.keymap import compile_keymap
from sam21convert.errors import MismatchError
from sam21convert.hub import published
from sam21convert.hub.published import PUBLISHED, Published, Twin

from ..commands.test_commands import run
from ..support.checkpoints import DEBUG, official_pt, state_dict

FLAT = "flat.safetensors"
TITLE = "facebook/sam2.1-hiera-tiny's model.safetensors"


def digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """A published checkpoint and its twins, as others would have written them."""
    from transformers import Sam2VideoModel

    home = tmp_path_factory.mktemp("published")
    source = official_pt(home / "m.pt")
    sam21convert.convert(source, home / "folder")
    Sam2VideoModel.from_pretrained(home / "folder").save_pretrained(home / "theirs")
    save_file(state_dict(), home / FLAT, {"format": "pt"})
    theirs = home / "theirs" / "model.safetensors"
    first = PUBLISHED[0]
    on_hub, flat = (
        Twin(first.repo, theirs.name, "abc", "hf-video", digest(theirs), theirs.stat().st_size),
        Twin("someone/flat", FLAT, None, "official", digest(home / FLAT)),
    )
    return replace(
        first,
        url=str(source),
        bytes=source.stat().st_size,
        sha256=digest(source),
        twins=(on_hub, flat),
    )


@pytest.fixture
def source(made: Published, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Path]:
    """The published file; called with hashes, its twins are said to have those."""
    monkeypatch.chdir(tmp_path)

    def there(*hashes: str) -> Path:
        twins = tuple(
            replace(twin, sha256=given)
            for twin, given in zip(
                made.twins, hashes or (t.sha256 for t in made.twins), strict=True
            )
        )
        monkeypatch.setattr(published, "PUBLISHED", (replace(made, twins=twins),))
        return Path(made.url)

    return there


class TestTheTable:
    def test_the_size_of_each_twin_is_that_of_the_tensors(self) -> None:
        """Down to the byte: so many names, shapes and offsets are in the header."""
        known = [(one, twin) for one in PUBLISHED for twin in one.twins if twin.bytes]
        assert [one.size for one, _ in known] == ["tiny", "small", "base_plus", "large"]
        for one, twin in known:
            tensors = compile_keymap(HF_VIDEO, shipped_tensors(one.config)).key
            header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
            end = 0
            for name in sorted(tensors):
                start, end = end, end + tensors[name].nbytes
                shape, offsets = list(tensors[name].shape), [start, end]
                header[name] = {"dtype": "F32", "shape": shape, "data_offsets": offsets}
            text = json.dumps(header, separators=(",", ":"))
            assert 8 + len(text) + -len(text) % 8 + end == twin.bytes

    def test_hashes_are_hashes_and_differ(self) -> None:
        hashes = [twin.sha256 for one in PUBLISHED for twin in one.twins]
        assert len(set(hashes)) == len(hashes) == 9
        assert {len(bytes.fromhex(each)) for each in hashes} == {32}


def test_the_same_bytes_are_said_to_be_the_same(source: Callable[..., Path]) -> None:
    done = json.loads(run("convert", source(), "out", "--json").output)
    assert done["identical_to"]["repo"] == "facebook/sam2.1-hiera-tiny"
    assert done["identical_to"]["sha256"] == digest(Path("out/model.safetensors"))
    printed = run("convert", source(), "one.safetensors", "--to", "hf-video").output
    assert f"identical  to {TITLE}\n" in printed
    assert str(sam21convert.convert(source(), FLAT).identical_to) == f"someone/flat's {FLAT}"


@pytest.mark.parametrize("output", ["out", FLAT])
def test_every_file_is_hashed_once(
    source: Callable[..., Path], output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[Path] = []

    def count(path: Path) -> str:
        hashed.append(path)
        return digest(path)

    for module in (comparing, reporting):
        monkeypatch.setattr(module, "sha256", count)
    given = source()
    done = sam21convert.convert(given, output, hashes=True)
    assert len(hashed) == len(done.sha256) == (6 if output == "out" else 2)
    assert done.sha256 == {name: digest(Path(name)) for name in done.sha256}


def test_other_bytes_than_those_of_the_hub_are_not_kept(source: Callable[..., Path]) -> None:
    wrong = source("0" * 64, "0" * 64)
    with pytest.raises(MismatchError, match=f"would not be those of {TITLE}: expected SHA-256 0+"):
        sam21convert.convert(wrong, "out")
    assert list(Path().iterdir()) == []
    Path("out").mkdir()
    Path("out/config.json").write_text("mine")
    done = run("convert", wrong, "out", "--overwrite")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.endswith("this is a fault of sam21convert, please report it\n")
    assert [path.read_text() for path in Path("out").iterdir()] == ["mine"]


def test_only_equality_says_something_about_a_file_of_somebody_else(
    source: Callable[..., Path],
) -> None:
    assert sam21convert.convert(source("0" * 64, "0" * 64), FLAT).identical_to is None


def test_another_checkpoint_of_the_same_size_is_compared_and_kept(
    source: Callable[..., Path],
) -> None:
    tuned = state_dict()
    tuned["no_mem_embed"] = tuned["no_mem_embed"] + 1
    assert official_pt(Path("m.pt"), tuned).stat().st_size == source().stat().st_size
    assert sam21convert.convert("m.pt", "out").identical_to is None


@pytest.mark.parametrize(
    "options",
    [
        {"dtype": "float16"},
        {"shard_size": "4MB"},
        {"verify": False},
        {"dry_run": True},
        {"to": "hf-image"},
        {"to": "mlx", "destination": "o.safetensors"},
        {"destination": "o.pt"},
    ],
)
def test_what_is_asked_for_in_another_way_is_not_compared(
    options: dict[str, Any], source: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is anything read for it: hashing takes time."""
    hashed: list[Path] = []
    monkeypatch.setattr(comparing, "sha256", hashed.append)
    wrong, given = source("0" * 64, "0" * 64), {"destination": "out", **options}
    assert sam21convert.convert(wrong, **given).identical_to is None
    assert hashed == []


def test_an_ordinary_checkpoint_is_not_hashed(
    tmp_path: Path, source: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    source()
    hashed: list[Path] = []
    monkeypatch.setattr(comparing, "sha256", hashed.append)
    torch.save(state_dict(), tmp_path / "flat.pt")
    sam21convert.convert("flat.pt", "out")
    assert hashed == []


def test_batch_says_so_too(source: Callable[..., Path]) -> None:
    right = run("batch", source(), "--out", "a")
    assert (right.exit_code, f"\n  identical to: {TITLE}\n" in right.output) == (0, True)
    assert f"\n  identical to: {TITLE}\n" in run("batch", source(), "--out", "a").output
    wrong = run("batch", source("0" * 64, "0" * 64), "--out", "b", "--json")
    (item,) = json.loads(wrong.output)["items"]
    assert (wrong.exit_code, item["outcome"], item["identical_to"]) == (1, "failed", None)
    assert f"would not be those of {TITLE}" in item["error"]
    assert not Path("b/m").exists()


def test_the_debug_model_is_the_stand_in(made: Published) -> None:
    assert sam21convert.inspect(made.url).config == DEBUG
