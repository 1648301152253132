"""What may be written for a published checkpoint or a place on the Hub; nothing is looked up."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from sam21convert.config.registry import SHIPPED, find
from sam21convert.errors import UsageError
from sam21convert.hub.published import PUBLISHED
from sam21convert.hub.spelling import published_named, spelt

REPO = "facebook/sam2.1-hiera-tiny"
SIZES = {
    "tiny": ("tiny", "t", "Tiny"),
    "small": ("small", "s"),
    "base_plus": ("base_plus", "base-plus", "base", "b", "b+", "base+", "b-plus", "baseplus"),
    "large": ("large", "l"),
}
STEMS = {"2.1": ("sam2.1", "SAM2.1", "sam-2.1", "sam2_1"), "2.0": ("sam2", "sam2.0", "sam-2")}


@pytest.mark.parametrize("published", PUBLISHED, ids=lambda one: one.name)
def test_a_published_checkpoint_has_all_these_names(published: object) -> None:
    known = next(one for one in PUBLISHED if one is published)
    names = [
        f"{stem}{hiera}{size}"
        for stem, size in product(STEMS[known.generation], SIZES[known.size])
        for hiera in ("_hiera_", "-hiera-", "_", "-")
    ]
    assert [name for name in names if spelt(name) != known.name] == []
    assert [name for name in names if (find(name) or SHIPPED[-1]).name != known.config] == []
    assert spelt(known.url) == spelt(known.config) == known.name
    assert (
        spelt(known.repo) == spelt(f"https://huggingface.co/{known.repo}") == f"hf://{known.repo}"
    )


@pytest.mark.parametrize(
    "name",
    [
        *("tiny", "b+", "sam2", "sam2.1", "sam2.1_hiera", "sam3_hiera_tiny", "sam2.2_hiera_tiny"),
        *("sam2.1_hiera_tinny", "sam2.1_debug", "sam_hiera_tiny", "sam2.1_hiera_tiny.pt"),
        *("sam2/sam2.1_hiera_t.yaml", "sam2.1tiny", "mysam2.1_tiny"),
    ],
)
def test_what_is_not_exactly_one_of_them_is_not_taken_for_it(name: str) -> None:
    assert spelt(name) is None
    assert published_named(name) is None


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("org/repo", "org/repo"),
        ("org/repo@v1", "org/repo@v1"),
        ("org/repo@refs/pr/1", "org/repo@refs/pr/1"),
        (f"{REPO}/model.safetensors", f"{REPO}/model.safetensors"),
        ("facebook/sam2.1_hiera_tiny", REPO),
        ("https://huggingface.co/org/repo", "org/repo"),
        ("http://hf.co/org/repo/", "org/repo"),
        ("huggingface.co/org/repo", "org/repo"),
        ("https://huggingface.co/org/repo#model-card", "org/repo"),
        ("https://huggingface.co/org/repo/tree/main", "org/repo"),
        ("https://huggingface.co/org/repo/tree/v1.0/a/b", "org/repo@v1.0/a/b"),
        ("https://huggingface.co/org/repo/tree/refs%2Fpr%2F1", "org/repo@refs%2Fpr%2F1"),
        ("https://huggingface.co/org/repo/tree/refs/pr/1/a", "org/repo@refs%2Fpr%2F1/a"),
        ("https://huggingface.co/org/repo/blob/main/my%20model.pt", "org/repo/my model.pt"),
        ("https://huggingface.co/org/repo/resolve/main/a.pt?download=true", "org/repo/a.pt"),
        ("https://huggingface.co/org/repo/raw/dev/a.pt", "org/repo@dev/a.pt"),
        ("https://huggingface.co/org/repo/commit/0123abc", "org/repo@0123abc"),
        (" https://huggingface.co/org/repo\n", "org/repo"),
    ],
)
def test_a_place_on_the_hub_is_a_reference(
    text: str, meant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert spelt(text) == f"hf://{meant}"


@pytest.mark.parametrize(
    "text",
    [
        *(
            "model.pt",
            "runs/model.pt",
            "a/b/c",
            "../model",
            "./model",
            "/a/b",
            "a/b/",
            "~/m",
            "a b/c",
        ),
        *("https://host/org/repo/blob/main/a.pt", "https://cdn.huggingface.co/org/repo"),
        *(
            "https://huggingface.co",
            "https://huggingface.co/org",
            "https://huggingface.co.evil/a/b",
        ),
        "https://huggingface.co/datasets/org/repo/resolve/main/a.pt",
    ],
)
def test_a_path_or_another_address_is_none(text: str) -> None:
    assert spelt(text) is None


def test_a_folder_here_makes_it_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert spelt("runs/last") == "hf://runs/last"
    (tmp_path / "runs").mkdir()
    (tmp_path / "facebook").mkdir()
    assert spelt("runs/last") is None
    assert spelt(REPO) == f"hf://{REPO}"  # is known to be one


def test_the_address_of_a_mirror_is_one_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    address = "https://mirror.example/org/repo"
    assert spelt(address) is None
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example")
    assert spelt(address) == "hf://org/repo"


@pytest.mark.parametrize("place", ["discussions", "discussions/1", "settings", "tree", "blob"])
def test_another_page_of_a_repository_is_refused(place: str) -> None:
    with pytest.raises(UsageError, match="not the address of a file") as caught:
        spelt(f"https://huggingface.co/org/repo/{place}")
    assert caught.value.hint == "hf://org/repo is the repository"
