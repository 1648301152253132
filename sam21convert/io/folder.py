"""What holds the weights in a folder or a repository: one rule, over the names of its files.

The names are those that the libraries give: ``transformers`` (``modeling_utils.py``, with
``variant``), ``accelerate`` (``checkpointing.py``, ``utils/constants.py``), ``timm``
(``models/_hub.py``), PEFT, Lightning and ``torch.distributed.checkpoint``.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ..errors import unreadable
from ..report import one_line
from .onnx import CONFIG_OF_ALL, REST
from .onnx import FOLDER as ONNX
from .side_files import is_side_file
from .source import INDEX, WEIGHTS, Container
from .torch_distributed import METADATA

ADAPTER = ("adapter_config.json", ("adapter_model.safetensors", "adapter_model.bin"))
BIN_INDEX = "pytorch_model.bin.index.json"
_MOST = 20_000  # files of a folder and those below it whose names are looked at
_DEEPEST = 3  # folders below the given one: lightning_logs/version_0/checkpoints
_SHOWN = 8  # names in a message
_SKIPPED = ("__pycache__", "com.apple.CoreML", ONNX)  # folders without checkpoints of their own
_SUFFIXES = (".bin", ".ckpt", ".pt", ".pth", ".safetensors")
# Without a variant, in the order in which transformers looks for them.
_FORMS: tuple[tuple[str, Container], ...] = (
    (WEIGHTS, "transformers folder"),
    (INDEX, "sharded transformers folder"),
    ("pytorch_model.bin", "pytorch_model.bin folder"),
    (BIN_INDEX, "sharded pytorch_model.bin folder"),
)
_INDEX = re.compile(r".+\.index(\.\w+)?\.json")
_MADE_INDEX = re.compile(r".+\.(safetensors|bin)\.index(\.\w+)?\.json")
_SHARD = re.compile(r".*-\d{5}-of-\d{5}\b.*")
_STATES, _LATEST = "_model_states.pt", "latest"  # of DeepSpeed, which has a folder for each step
_STEP = re.compile(r"(checkpoint|ckpt|step|epoch|iter(ation)?)[-_=]?0", re.IGNORECASE)
_OPTIMIZER = re.compile(r"(.*/)?optimizer(_\d+)?")  # what accelerate calls a folder of its state


class Listing(NamedTuple):
    """The files of a folder and those below it.

    Attributes:
        names: their paths in the folder, with ``/``.
        complete: whether these are all.
    """

    names: Sequence[str]
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Weights:
    """What holds weights in a folder.

    Attributes:
        place: what to name in order to read it: a file or a folder in the folder, or ``""`` for the
            folder itself.
        file: the file with the weights or their index; ``""`` if many files of ``place`` hold them.
        container: how a folder stores them; None for a file, or where the content tells.
    """

    place: str
    file: str
    container: Container | None = None

    @property
    def is_file(self) -> bool:
        """Whether a file is named, not a folder."""
        return bool(self.file) and self.place == self.file


@dataclass(frozen=True)
class Found:
    """What a folder holds.

    Attributes:
        where: the folder, as a user would write it.
        candidates: what may be meant; exactly one is an answer.
        others: what else holds weights, if the answer is the folder itself.
        files: the number of files in it.
        complete: whether all its files were looked at.
        shards: whether there are shards whose index is missing.
    """

    where: str
    candidates: tuple[Weights, ...]
    others: tuple[Weights, ...] = ()
    files: int = 0
    complete: bool = True
    shards: bool = False

    @property
    def weights(self) -> Weights | None:
        """The answer; None if there is none, or more than one."""
        sure = self.complete or any(one.place == "" for one in self.candidates)
        if len(self.candidates) != 1 or not sure:
            return None
        (only,) = self.candidates
        return None if only.container == "PEFT adapter" and only.place else only

    def problem(self) -> tuple[str, str]:
        """Say why there is no answer.

        Returns:
            The message of an error, and its hint.
        """
        where = self.where
        if not self.candidates and self.shards:
            return (
                f"{where}: holds shards of a model without their index",
                f"copy or download the index too, such as {INDEX}",
            )
        if not self.candidates:
            files = "1 file" if self.files == 1 else f"{self.files:,} files"
            return (
                f"{where}: holds no checkpoint among its {files}",
                "a checkpoint is a .pt, .pth, .ckpt, .bin or .safetensors file, or a folder that "
                "transformers, timm, accelerate or torch.distributed.checkpoint saved",
            )
        adapters = all(one.container == "PEFT adapter" for one in self.candidates)
        if len(self.candidates) == 1 and not adapters:
            return (
                f"{where}: holds more than {_MOST:,} files",
                f"give the checkpoint in it: {self.argument(self.candidates[0])}",
            )
        what = "PEFT adapters" if adapters else "several checkpoints"
        message = f"{where}: holds {what}: {_shown(one.place for one in self.candidates)}"
        first = self.argument(self.newest() or self.candidates[0])
        if adapters:
            return message, f"sam21convert convert {first} OUT --base CHECKPOINT merges this one"
        if self.newest() is not None:
            return message, f"give one of them; the newest is {first}"
        listed = [self.argument(one) for one in self.candidates[:_SHOWN]]
        return message, f"give one of them: {' or '.join(listed)}"

    def newest(self) -> Weights | None:
        """Find the newest of several steps of one training, by the numbers in their names.

        Returns:
            The one that is last in every number that differs; None if there is none, or the names
            do not say that these are steps.
        """
        numbers = [[int(n[:18]) for n in re.findall(r"\d+", one.place)] for one in self.candidates]
        alike = {re.sub(r"\d+", "0", one.place) for one in self.candidates}
        if len(self.candidates) < 2 or len(alike) != 1 or not _STEP.search(alike.pop()):
            return None
        last = [max(column) for column in zip(*numbers, strict=True)]
        pairs = zip(self.candidates, numbers, strict=True)
        return next((one for one, own in pairs if own == last), None)

    def argument(self, weights: Weights) -> str:
        """Write one of the places as an argument of a command.

        Args:
            weights: one of ``candidates`` or ``others``.

        Returns:
            Its path, or its address on the Hub, quoted for a shell if need be.
        """
        text = one_line(
            f"{self.where.rstrip('/')}/{weights.place}" if weights.place else self.where
        )
        return shlex.quote(text)

    def notes(self, used: Collection[str] = ()) -> tuple[str, ...]:
        """Say what was chosen, where there was a choice.

        Args:
            used: the files that belong to the answer, which are not named as others.

        Returns:
            Sentences for a report.
        """
        weights = self.weights
        if weights is None:
            return ()
        if weights.place:
            return (f"{one_line(weights.place)} is read: the only checkpoint in {self.where}",)
        others = [one for one in self.others if one.file not in used or not one.is_file]
        plain = not weights.file or weights.file in [name for name, _ in _FORMS]
        if not others:
            return () if plain else (f"{weights.file} is read: there is no other variant",)
        return (
            f"{weights.file or METADATA} is read; also in {self.where}: "
            f"{_shown(one.place for one in others)}; give {self.argument(others[0])} to read "
            f"{'that' if len(others) == 1 else 'the first of these'}",
        )


def find_weights(where: str, listing: Listing) -> Found:
    """Say what holds the weights in a folder or repository.

    Args:
        where: the folder or repository, as a user would write it.
        listing: its files.

    Returns:
        What was found. If libraries load the folder itself, that is the answer, whatever else it
        holds; otherwise everything in it and below it that may be meant.
    """
    homes: dict[str, list[str]] = {}
    for name in sorted(listing.names, key=_natural):
        home, _, file = name.rpartition("/")
        if not set(home.split("/")) & set(_SKIPPED):
            homes.setdefault(home, []).append(file)
    for home in [home for home in homes if home and _is_deepspeed(homes[home])]:
        above = home.rpartition("/")[0]
        if _LATEST in homes.get(above, ()):  # which is to be given, and names the step
            homes[above] += [name for name in homes.pop(home) if name.endswith(_STATES)]
    shards = any(_SHARD.fullmatch(name) for name in listing.names)
    exports = _exports(listing.names)
    for home in exports:
        homes.setdefault(home, [])
    top = _of_home("", homes.pop("", []), export="" in exports)
    below = [one for home, files in homes.items() for one in _below(home, files, home in exports)]
    facts = (len(listing.names), listing.complete, shards)
    if top and top[0].place == "":
        return Found(where, tuple(top[:1]), (*top[1:], *below), *facts)
    return Found(where, (*top, *below), (), *facts)


def list_folder(folder: Path) -> Listing:
    """List the files of a folder and those below it; the nearest come first.

    Args:
        folder: the folder.

    Returns:
        At most ``_MOST`` files, at most ``_DEEPEST`` folders below, and what is in ``onnx`` there.
        Hidden folders are left out.

    Raises:
        UnreadableError: If the folder cannot be read.
    """
    names: list[str] = []
    waiting: list[tuple[tuple[str, ...], Path]] = [((), folder)]
    for parts, home in waiting:
        try:
            for entry in sorted(home.iterdir()):
                if not entry.is_dir():
                    names.append("/".join((*parts, entry.name)))
                elif _looked_into(entry.name, len(parts)):
                    waiting.append(((*parts, entry.name), entry))
                if len(names) >= _MOST:
                    return Listing(names, complete=False)
        except OSError as error:
            if not parts:
                raise unreadable(folder, error) from error
    return Listing(names)


def export_in(folder: Path) -> Path | None:
    """Find an export, if graphs are all that a folder holds of a model.

    Args:
        folder: the folder.

    Returns:
        The folder itself, or the only one in it that an export was written to; None if there is
        none, or something else is the checkpoint.

    Raises:
        UnreadableError: If the folder cannot be read.
    """
    found = find_weights(str(folder), list_folder(folder)).weights
    if found is None or found.container != "onnx folder":
        return None
    return folder / found.place


def _looked_into(name: str, depth: int) -> bool:
    """Whether a folder that is in one so far below is listed; graphs count with what is above."""
    return not name.startswith(".") and depth < _DEEPEST + (name == ONNX)


def is_index(name: str) -> bool:
    """Whether a file is named like the index of shards.

    Args:
        name: The name of the file.

    Returns:
        True for ``model.safetensors.index.json``, ``pytorch_model.bin.index.fp16.json``, ...
    """
    return _INDEX.fullmatch(name) is not None


def is_shard(name: str) -> bool:
    """Whether a file is named like one of several shards.

    Args:
        name: The name of the file.

    Returns:
        True for ``model-00001-of-00002.safetensors``, but not for the only one of a model, nor for
        the file of a process, ``shard-00001-model-00001-of-00002.safetensors``.
    """
    alone = "-of-00001" in name or name.startswith("shard-")
    return _SHARD.fullmatch(name) is not None and not alone


def may_hold_weights(name: str) -> bool:
    """Whether a file has the name of a checkpoint, and not of what a training writes beside it.

    Args:
        name: The name of the file, with or without folders.

    Returns:
        True for ``model.pt``, but not for ``optimizer.pt``, nor for ``notes.txt``.
    """
    path = PurePosixPath(name)
    return path.suffix in _SUFFIXES and not is_side_file(path.name)


def _exports(names: Iterable[str]) -> list[str]:
    """The folders that graphs and what they need beside them were written to."""
    there = {*names}
    ends = f"{ONNX}/{CONFIG_OF_ALL}"
    homes = sorted(
        (name[: -len(ends) - 1] for name in there if f"/{name}".endswith(f"/{ends}")), key=_natural
    )
    return [
        home
        for home in homes
        if f"{home}/{ONNX}/{REST}".lstrip("/") in there and not set(home.split("/")) & set(_SKIPPED)
    ]


def _below(home: str, files: Sequence[str], export: bool) -> Iterator[Weights]:
    """What a folder below the given one holds: itself, or its files."""
    if _OPTIMIZER.fullmatch(home):
        return
    for one in _of_home(home, files, export=export):
        yield one
        if one.place == home:
            return


def _of_home(home: str, files: Sequence[str], *, export: bool) -> list[Weights]:
    """What one folder holds, without those below it: itself first, if libraries load it.

    An export is loaded itself too, unless the folder holds what it was made from as well.
    """
    prefix = f"{home}/" if home else ""
    loose = [
        Weights(f"{prefix}{name}", f"{prefix}{name}")
        for name in files
        if _MADE_INDEX.fullmatch(name)
        or (PurePosixPath(name).suffix in _SUFFIXES and not _belongs(name, files))
    ]
    whole = _whole(files)
    if whole is None and export:
        return [Weights(home, "", "onnx folder"), *loose]
    if whole is None:
        return loose
    file, container = whole
    beside = [one for one in loose if one.file != f"{prefix}{file}"]
    return [Weights(home, file and f"{prefix}{file}", container), *beside]


def _belongs(name: str, files: Collection[str]) -> bool:
    """Whether a file holds weights that are not read by its own name, or no weights."""
    stem, _, suffix = name.rpartition(".")
    # OpenVINO and ncnn have the graph of a .bin beside it.
    exported = suffix == "bin" and not {f"{stem}.xml", f"{stem}.param"}.isdisjoint(files)
    part = bool(_SHARD.fullmatch(name)) or name.endswith("_states.pt")
    return exported or part or is_side_file(name)


def _whole(files: Sequence[str]) -> tuple[str, Container | None] | None:
    """How libraries load a folder with these files: file and container."""
    config, weights = ADAPTER
    if config in files and (found := next((name for name in weights if name in files), None)):
        return found, "PEFT adapter"
    for name, container in _FORMS:
        if name in files:
            return name, container
    if METADATA in files:
        return "", "torch distributed"
    if _is_deepspeed(files):
        return "", None
    variants = [(name, form) for name in files if (form := _variant_of(name)) is not None]
    if len({variant for _, (_, variant) in variants}) == 1:
        name, (order, _) = min(variants, key=lambda one: one[1][0])
        return name, _FORMS[order][1]
    return None


def _is_deepspeed(files: Iterable[str]) -> bool:
    return any(name.endswith(_STATES) for name in files)


def _variant_of(name: str) -> tuple[int, str] | None:
    """Which of the forms a file is in, and the variant in its name."""
    for order, (form, _) in enumerate(_FORMS):
        stem, _, suffix = form.rpartition(".")
        found = re.fullmatch(rf"{re.escape(stem)}\.(\w+)\.{suffix}", name)
        if found is not None:
            return order, found[1]
    return None


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts numbers in names by their value."""
    return [
        (int(piece), "") if piece.isdecimal() and len(piece) < 19 else (0, piece)
        for piece in re.split(r"(\d+)", name)
    ]


def _shown(places: Iterable[str]) -> str:
    found = [one_line(place) for place in places]
    more = len(found) - _SHOWN
    return ", ".join(found[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
