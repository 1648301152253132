"""The vocabulary in which a dialect is written down: frozen data, no behaviour.

Two kinds of names appear throughout. A *canonical name* is the name of a tensor in the state dict
of the model in ``model/``. A *target name*, or *key*, is the name that a dialect gives it.

A *template* is a dotted name in which ``{x}`` stands for the digits inside one segment, as in
``blocks.{i}.norm{n}``. It matches every name that starts with those segments; the segments that
follow (``.weight``) are carried over unchanged. Exactly one rule applies to each tensor: the one
whose template has the most segments, and among those the one with the most literal characters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from ..io.source import Container

Task: TypeAlias = Literal["video", "image", "trunk"]


@dataclass(frozen=True, slots=True)
class Rename:
    """The dialect calls a tensor ``key`` that the model calls ``canonical``.

    Attributes:
        canonical: template of the canonical name; ``""`` matches every name.
        key: template of the target name, with the same ``{x}`` as ``canonical``.
    """

    canonical: str
    key: str


@dataclass(frozen=True, slots=True)
class Concat:
    """The dialect stores several tensors of the model as one, concatenated along the first axis.

    Attributes:
        canonical: the canonical names of the parts, in the order of concatenation (no templates).
        key: the target name of the result.
    """

    canonical: tuple[str, ...]
    key: str


@dataclass(frozen=True, slots=True)
class Tied:
    """The dialect stores the tensor ``of`` a second time as ``name``.

    Both copies are written. On reading either one is enough, and two copies that differ are an
    error.

    Attributes:
        name: the target name of the second copy.
        of: the target name of the tensor that it repeats.
    """

    name: str
    of: str


@dataclass(frozen=True, slots=True)
class Alias:
    """Other names that existing files use for the key ``of``. They are read, never written.

    Attributes:
        of: template of the dialect's own key.
        others: templates of the alternative keys, with the same ``{x}`` as ``of``.
    """

    of: str
    others: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Permute:
    """The dialect stores a tensor of the model with its axes in another order.

    Attributes:
        canonical: template of the whole canonical name, ``.weight`` included.
        axes: the permutation, as ``torch.permute`` takes it: axis ``axes[k]`` of the model's
            tensor becomes axis ``k`` of the dialect's.
    """

    canonical: str
    axes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ConstantVector:
    """The dialect stores a vector that SAM 2 does not have, with the same value everywhere.

    It is always written. On reading it may be absent, and it is left out of a conversion to other
    dialects.

    Attributes:
        name: the target name of the vector.
        value: the value of all its elements.
        like: the canonical name of the tensor that gives the vector its type and length.
        axis: the axis of ``like`` that is as long as the vector.
    """

    name: str
    value: float
    like: str
    axis: int


@dataclass(frozen=True, slots=True)
class Dialect:
    """One way to name the tensors of the model, and to store them for some program.

    Attributes:
        name: the name on the command line, as in ``--to hf-video``.
        summary: one line that says what the dialect is for.
        covers: the prefixes of canonical names that the dialect has a place for; ``""`` is the
            whole model.
        rules: the renames and concats; together they must cover every tensor under ``covers``.
        tied: the tensors that the dialect stores twice.
        aliases: further names that are read.
        permutes: the tensors whose axes the dialect orders differently.
        constants: the vectors that the dialect stores in addition.
        task: what a model made of these tensors can do: segment videos, segment images, or only
            compute the features of the trunk.
        containers: the containers that the program reads, the usual one first.
        file: for a program that recognises a file by its name, that name: ``{stem}`` is ``sam2``
            or ``sam2.1``, ``{size}`` the size and ``{s}`` its first letter, ``{dtype}`` is empty,
            ``-fp16`` or ``-bf16``. Empty for all other programs.
        by_path: whether that program takes the generation from the whole path instead of the file
            name alone.
        metadata: the entries of ``__metadata__`` in safetensors files.
        notes: pairs of a published size and a remark that the report of a conversion shows for
            that size.
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

    def __hash__(self) -> int:  # caches ask for it once for each tensor
        return hash(self.name)
