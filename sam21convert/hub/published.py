"""The eight checkpoints that the authors of SAM 2 publish, and the same weights elsewhere, as data.

What is published elsewhere is the last word on a conversion: it must give those bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..config.registry import SHIPPED, Shipped

_HOME = "https://dl.fbaipublicfiles.com/segment_anything_2"
_FOLDERS = {"2.0": "072824", "2.1": "092824"}
# Size in bytes and SHA-256. The authors publish no checksums; independent copies and the Hub agree
# on these.
_FILES: Mapping[str, tuple[int, str]] = {
    "sam2.1_hiera_tiny": (
        156008466,
        "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69",
    ),
    "sam2.1_hiera_small": (
        184416285,
        "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38",
    ),
    "sam2.1_hiera_base_plus": (
        323606802,
        "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5",
    ),
    "sam2.1_hiera_large": (
        898083611,
        "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318",
    ),
    "sam2_hiera_tiny": (
        155906050,
        "65b50056e05bcb13694174f51bb6da89c894b57b75ccdf0ba6352c597c5d1125",
    ),
    "sam2_hiera_small": (
        184309650,
        "95949964d4e548409021d47b22712d5f1abf2564cc0c3c765ba599a24ac7dce3",
    ),
    "sam2_hiera_base_plus": (
        323493298,
        "d0bb7f236400a49669ffdd1be617959a8b1d1065081789d7bbff88eded3a8071",
    ),
    "sam2_hiera_large": (
        897952466,
        "7442e4e9b732a508f80e141e7c2913437a3610ee0c77381a66658c3a445df87b",
    ),
}
# The weights of the Hub's own folders for transformers: revision, size in bytes and SHA-256. For
# the repositories of SAM 2.0 they are not known.
_HUB: Mapping[str, tuple[str, int, str]] = {
    "sam2.1_hiera_tiny": (
        "de431c4043854a71d8101e17995dfe596bf101a5",
        155908064,
        "48c14467e5cf9e51870511feb72c89688e82dd74523142c0538b663e193ac2a7",
    ),
    "sam2.1_hiera_small": (
        "ee5bba1d82bb8749febdf90f45e84b687142ba03",
        184305280,
        "0a4067b11ce1e23d5229203f11c718a823060d15a4b23fa2372a7d4b77cbbc60",
    ),
    "sam2.1_hiera_base_plus": (
        "b7320756a13354e7530a63935656d35b2f91a290",
        323476296,
        "2012733a0de5d03efd1bba550a2847c4551be9ef2e0d497c83074df66189f780",
    ),
    "sam2.1_hiera_large": (
        "665f8e2ad61cf5f53d65644ff27c8ee525124610",
        897897416,
        "dc407dce21301fd94abb395c5099b4f2c455fdc8a8f261ac3d0ea6d4cd197230",
    ),
}
# Widely used files with the official names, which somebody else has written: SHA-256.
_FLAT_REPO = "Kijai/sam2-safetensors"
_FLAT: Mapping[str, str] = {
    "sam2.1_hiera_base_plus": "eb4b5f725c8b68205aa05bbe6b27efc628b18b4b9c7b9bb8218991b86b9a4932",
    "sam2.1_hiera_large": "da2b64780d0226cf37773b88a050d6df64552971b4bf97a90d39728377309ebb",
    "sam2_hiera_small": "4a468e02aad34f8deeea82e2ec1612fab1e2765248be2e00a26afa537e2975b4",
    "sam2_hiera_base_plus": "fa02d9028dcc4859c191f1d3f1ca1f7eefdb85f3b5e746c9ad738f322f3e89e2",
    "sam2_hiera_large": "ad781e6f18af5d7523075642f5da2d2b874cec6b16cebfd4f6ea1c6a289d9605",
}


@dataclass(frozen=True, slots=True)
class Twin:
    """A file on the Hub that holds the tensors of a published checkpoint in another form.

    Attributes:
        repo: its repository.
        file: its name there.
        revision: the commit that has it; None where that is not known.
        dialect: how it names the tensors; it is a safetensors file.
        sha256: the SHA-256 of the file, in hexadecimal.
        bytes: the size of the file; None where that is not known.
    """

    repo: str
    file: str
    revision: str | None
    dialect: str
    sha256: str
    bytes: int | None = None

    @property
    def binding(self) -> bool:
        """Whether a conversion must give its bytes: it was saved by transformers, as ours are.

        Who wrote another file may have chosen other metadata, so only equality says something.
        """
        return self.dialect == "hf-video"

    def __str__(self) -> str:
        return f"{self.repo}'s {self.file}"


@dataclass(frozen=True, slots=True)
class Published:
    """A checkpoint that the authors publish; its file is the same at the URL and on the Hub.

    Attributes:
        name: the name of the file without its suffix, as in ``sam2.1_hiera_tiny``.
        config: the full name of its shipped config.
        generation: ``"2.0"`` or ``"2.1"``.
        size: ``tiny``, ``small``, ``base_plus`` or ``large``.
        url: where the authors publish it.
        repo: the repository of the Hub that holds the same file.
        bytes: the size of the file.
        sha256: the SHA-256 of the file, in hexadecimal.
        twins: files with the same tensors in other forms.
    """

    name: str
    config: str
    generation: str
    size: str
    url: str
    repo: str
    bytes: int
    sha256: str
    twins: tuple[Twin, ...] = ()

    @property
    def file(self) -> str:
        """The name of the file, at the URL and in the repository."""
        return f"{self.name}.pt"


def _published(shipped: Shipped) -> Published:
    stem = shipped.name.partition("/")[0]
    name = f"{stem}_hiera_{shipped.size}"
    nbytes, sha256 = _FILES[name]
    repo = f"facebook/{stem}-hiera-{shipped.size.replace('_', '-')}"
    return Published(
        name=name,
        config=shipped.name,
        generation=shipped.generation,
        size=shipped.size,
        url=f"{_HOME}/{_FOLDERS[shipped.generation]}/{name}.pt",
        repo=repo,
        bytes=nbytes,
        sha256=sha256,
        twins=tuple(_twins(name, repo)),
    )


def _twins(name: str, repo: str) -> Iterator[Twin]:
    if name in _HUB:
        revision, nbytes, sha256 = _HUB[name]
        yield Twin(repo, "model.safetensors", revision, "hf-video", sha256, nbytes)
    if name in _FLAT:
        yield Twin(_FLAT_REPO, f"{name}.safetensors", None, "official", _FLAT[name])


PUBLISHED = tuple(_published(shipped) for shipped in SHIPPED if shipped.size != "debug")
