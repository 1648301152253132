"""The vocabulary in which a dialect is written down: frozen data, no behaviour.

A *template* is a dotted name in which ``{x}`` stands for the digits inside one segment, as in
``blocks.{i}.norm{n}``. It matches every name that starts with those segments; what follows
(``.weight``) rides along. For each tensor of the ground truth exactly one rule fires: the one with
more segments, then the one with more literal characters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from ..io.source import Container

Task: TypeAlias = Literal["video", "image", "trunk"]


@dataclass(frozen=True, slots=True)
class Rename:
    """What the ground truth calls ``canonical`` the dialect calls ``key``. Both are templates."""

    canonical: str
    key: str


@dataclass(frozen=True, slots=True)
class Concat:
    """Several tensors of the ground truth, in this order along the first axis, are one tensor."""

    canonical: tuple[str, ...]
    key: str


@dataclass(frozen=True, slots=True)
class Tied:
    """The dialect holds the tensor ``of`` (a foreign name) a second time as ``name``.

    Both are written. On reading either will do, and two that differ are an error.
    """

    name: str
    of: str


@dataclass(frozen=True, slots=True)
class Alias:
    """Other templates under which files in the wild hold the foreign name ``of``: read only."""

    of: str
    others: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Permute:
    """The dialect holds a tensor of the ground truth with its axes in the order ``axes``.

    ``canonical`` is a template of its whole name.
    """

    canonical: str
    axes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ConstantVector:
    """The dialect holds a vector ``name`` that SAM 2 has not, with ``value`` throughout.

    It is as long as the axis ``axis`` of the tensor ``like`` of the ground truth. It is written; on
    reading it may be absent, and is left out.
    """

    name: str
    value: float
    like: str
    axis: int


@dataclass(frozen=True, slots=True)
class Dialect:
    """One way of naming the tensors of the ground truth, and of storing them for some program.

    ``covers`` lists the prefixes of the ground truth that the dialect holds ("" is everything),
    ``task`` what a model of them alone can do. ``containers`` are those that the program reads, the
    usual one first. ``file`` is the name that the program knows a file by, where it goes by names:
    ``{stem}`` is ``sam2`` or ``sam2.1``, ``{size}`` and ``{s}`` the size and its first letter,
    ``{dtype}`` nothing, ``-fp16`` or ``-bf16``; with ``by_path`` it takes the generation from the
    whole path. ``metadata`` goes into safetensors files, and ``notes``, each with the published
    size that it is for, into the report of a conversion.
    """

    name: str
    summary: str
    covers: tuple[str, ...]
    rules: tuple[Rename | Concat, ...]
    tied: tuple[Tied, ...] = ()
    aliases: tuple[Alias, ...] = ()
    permutes: tuple[Permute, ...] = ()
    constants: tuple[ConstantVector, ...] = ()
    task: Task = "video"
    containers: tuple[Container, ...] = ("safetensors",)
    file: str = ""
    by_path: bool = False
    metadata: tuple[tuple[str, str], ...] = (("format", "pt"),)
    notes: tuple[tuple[str, str], ...] = ()
