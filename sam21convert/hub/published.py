"""The eight checkpoints that the authors of SAM 2 publish, as data."""

from __future__ import annotations

from collections.abc import Mapping
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
    """

    name: str
    config: str
    generation: str
    size: str
    url: str
    repo: str
    bytes: int
    sha256: str

    @property
    def file(self) -> str:
        """The name of the file, at the URL and in the repository."""
        return f"{self.name}.pt"


def _published(shipped: Shipped) -> Published:
    stem = shipped.name.partition("/")[0]
    name = f"{stem}_hiera_{shipped.size}"
    nbytes, sha256 = _FILES[name]
    return Published(
        name=name,
        config=shipped.name,
        generation=shipped.generation,
        size=shipped.size,
        url=f"{_HOME}/{_FOLDERS[shipped.generation]}/{name}.pt",
        repo=f"facebook/{stem}-hiera-{shipped.size.replace('_', '-')}",
        bytes=nbytes,
        sha256=sha256,
    )


PUBLISHED = tuple(_published(shipped) for shipped in SHIPPED if shipped.size != "debug")
