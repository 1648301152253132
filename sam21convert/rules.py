"""The vocabulary in which a dialect is written down: frozen data, no behaviour.

A *template* is a dotted name in which ``{x}`` stands for the digits inside one segment, as in
``blocks.{i}.norm{n}``. It matches every name that starts with those segments; what follows
(``.weight``) rides along. For each tensor of the ground truth exactly one rule fires: the one with
more segments, then the one with more literal characters.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rename:
    """What the ground truth calls ``truth`` the dialect calls ``foreign``. Both are templates."""

    truth: str
    foreign: str


@dataclass(frozen=True, slots=True)
class Gather:
    """Several tensors of the ground truth, in this order along the first axis, are one tensor."""

    truths: tuple[str, ...]
    foreign: str


@dataclass(frozen=True, slots=True)
class Echo:
    """The dialect holds the tensor ``of`` (a foreign name) a second time as ``name``.

    Both are written. On reading either will do, and two that differ are an error.
    """

    name: str
    of: str


@dataclass(frozen=True, slots=True)
class Spelling:
    """Other templates under which files in the wild hold the foreign name ``of``: read only."""

    of: str
    others: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Dialect:
    """One way of naming the tensors of the ground truth.

    ``covers`` lists the prefixes of the ground truth that the dialect holds ("" is everything).
    """

    name: str
    summary: str
    covers: tuple[str, ...]
    rules: tuple[Rename | Gather, ...]
    echoes: tuple[Echo, ...] = ()
    spellings: tuple[Spelling, ...] = ()
