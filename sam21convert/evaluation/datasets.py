"""Find the videos of a data set, as its own archive unpacks them.

========  ============================  ======================================  =================
layout    frames                        true masks                              objects
========  ============================  ======================================  =================
davis     JPEGImages/480p/V/00000.jpg   Annotations/480p/V/00000.png            ids in a palette
sav       JPEGImages_24fps/V/00000.jpg  Annotations_6fps/V/000/00000.png        a folder for each
lvos      JPEGImages/V/00000001.jpg     Annotations/V/00000001.png              ids, valid_meta.json
youtube   JPEGImages/V/00000.jpg        Annotations/V/00000.png                 ids, meta.json
mose      JPEGImages/V/00000.jpg        Annotations/V/00000.png                 ids
========  ============================  ======================================  =================
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ..errors import RefusedError, UnreadableError, UsageError, did_you_mean, nearest
from ..io.nearby import expanded, not_a_folder
from ..io.source import is_file_name
from ..io.text import parse_json, read_text

Layout = Literal["davis", "sav", "lvos", "youtube", "mose"]

_RESOLUTIONS = ("480p", "Full-Resolution", "1080p")
_LISTS = ("ImageSets/2017/val.txt", "sav_val.txt", "sav_test.txt")
MASK_FOLDERS = ("Annotations_6fps", "Annotations")
_LARGEST = 1 << 26  # bytes of a file about objects; that of YouTube-VOS has 5 MB
_FRAME_NUMBERS = 10**8  # of LVOS have at most eight digits
_IDS = 256  # of objects fit into a pixel, with 0 for none
_FRAMES = ("JPEGImages_24fps", "JPEGImages")


class Span(NamedTuple):
    """When an object of LVOS is to be seen.

    Attributes:
        start: Number of its first frame.
        end: Number of its last frame.
        frames: Number of its annotated frames.
    """

    start: int
    end: int
    frames: int


@dataclass(frozen=True)
class Video:
    """A video of a data set.

    Attributes:
        name: Its name.
        frames: The folder of its JPEGs, which need not exist to score masks.
        truth: The folder of its true masks.
        objects_apart: Whether each object has a folder of its own in it.
        stated: What a file of the data set says of its objects.
        stated_in: That file; None if there is none.
    """

    name: str
    frames: Path
    truth: Path
    objects_apart: bool = False
    stated: Any = None
    stated_in: Path | None = None

    def objects(self) -> list[str]:
        """List the ids of its objects.

        Returns:
            The ids in a file of the data set, each once; empty if none lists them.

        Raises:
            UnreadableError: If one is no id.
        """
        listed = self.stated.get("objects") if isinstance(self.stated, dict) else None
        names = [str(one) for one in listed] if isinstance(listed, (list, dict)) else []
        for name in names:
            if not (name.isdecimal() and len(name) < _IDS and 0 < int(name) < _IDS):
                raise UnreadableError(
                    f"{self.stated_in}: expected ids of objects from 1 to {_IDS - 1} in video "
                    f"{self.name}, found {name[:80]}"
                )
        return [*dict.fromkeys(names)]

    def object_names(self, folder: Path) -> list[str]:
        """The folders of its objects.

        Args:
            folder: The folder that holds them.

        Returns:
            Their names, sorted.

        Raises:
            UnreadableError: If there is none.
        """
        if not folder.is_dir():
            raise not_a_folder(folder)
        names = sorted(path.name for path in folder.iterdir() if path.is_dir())
        if not names:
            raise UnreadableError(f"{folder}: expected a folder for each object, found none")
        return names

    def spans(self) -> dict[str, Span]:
        """When its objects are to be seen, as LVOS states it.

        Returns:
            The spans by id.

        Raises:
            UnreadableError: If the file does not tell them.
        """
        found = {}
        for name in self.objects():
            stated = self.stated["objects"]
            try:
                times = stated[name]["frame_range"]
                span = Span(*(int(times[key]) for key in ("start", "end", "frame_nums")))
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                raise self._no_span(name) from error
            if not 0 <= span.start <= span.end < _FRAME_NUMBERS:
                raise self._no_span(name)
            found[name] = span
        if not found:
            raise UnreadableError(
                f"{self.truth}: expected the objects of this video in valid_meta.json, as LVOS' "
                "rules need them; found none",
                hint="--protocol sav needs no such file",
            )
        return found

    def _no_span(self, name: str) -> UnreadableError:
        objects = self.stated["objects"]
        stated = objects[name] if isinstance(objects, dict) else objects
        return UnreadableError(
            f"{self.stated_in}: expected start, end and frame_nums in the frame_range of object "
            f"{name} of video {self.name}, found {json.dumps(stated)[:80]}",
            hint="--protocol sav needs no such file",
        )


@dataclass(frozen=True)
class Dataset:
    """A data set on this machine.

    Attributes:
        root: Its folder.
        layout: How its files are arranged.
        videos: Its videos: those of its list for validation, whether there are masks or not, or
            all that have masks.
        listed_in: That list; None if there is none.
    """

    root: Path
    layout: Layout
    videos: tuple[Video, ...]
    listed_in: Path | None

    def chosen(self, names: Sequence[str]) -> tuple[Video, ...]:
        """Some of the videos.

        Args:
            names: Their names; empty for all.

        Returns:
            The videos, in the order of the data set.

        Raises:
            UsageError: If there is no video of that name.
            UnreadableError: If there are no masks of one.
        """
        known = {video.name for video in self.videos}
        for name in names:
            if name not in known:
                raise UsageError(
                    f"{self.root}: there is no video {name}",
                    hint=did_you_mean(nearest(name, known), f"it has {_some(known)}"),
                )
        chosen = tuple(video for video in self.videos if not names or video.name in names)
        for video in chosen:
            if not video.truth.is_dir():
                raise UnreadableError(
                    f"{self.listed_in}: lists {video.name}, which has no masks",
                    hint="unpack all of the data set; --videos NAMES takes some of its videos",
                )
        return chosen


def open_dataset(data: str | Path, *, listed: bool = True) -> Dataset:
    """Recognise a data set by the names of its folders and files.

    Args:
        data: What its archive unpacks to, or a folder that holds nothing but that.
        listed: Whether its list for validation, if it has one, says which its videos are; False
            for all that have masks.

    Returns:
        The data set, with its videos.

    Raises:
        UnreadableError: If there is no such folder, or a file in it cannot be read.
        RefusedError: If it is arranged in none of the ways that are known.
    """
    root = expanded(Path(data))
    if not root.is_dir():
        raise not_a_folder(root)
    truth = _annotations(root)
    if truth is None:
        inner = [path for path in root.iterdir() if path.is_dir()]
        deeper = [path for path in inner if _annotations(path) is not None]
        if len(deeper) != 1:
            raise RefusedError(
                f"{root}: expected a folder Annotations or Annotations_6fps, as DAVIS, MOSE, LVOS, "
                f"YouTube-VOS and SA-V have it, found {_seen(inner)}",
                hint="name the folder that holds it",
            )
        root = deeper[0]
        truth = _annotations(root)
    assert truth is not None
    frames = next((root / name for name in _FRAMES if (root / name).is_dir()), root / _FRAMES[-1])
    layout: Layout = "sav" if truth.name == MASK_FOLDERS[0] else "mose"
    for name in _RESOLUTIONS:
        if (truth / name).is_dir():
            truth, frames, layout = truth / name, frames / name, "davis"
            break
    about, stated, kind = _stated(root)
    there = {path.name for path in truth.iterdir() if path.is_dir()}
    listed_in, names = _listed(root) if listed else (None, [])
    videos = tuple(
        Video(
            name,
            frames / name,
            truth / name,
            name in there and any(path.is_dir() for path in (truth / name).iterdir()),
            stated.get(name),
            about,
        )
        for name in names or sorted(there)
    )
    if not videos:
        raise RefusedError(f"{truth}: expected a folder with masks for each video, found none")
    if layout == "mose" and any(video.objects_apart for video in videos):
        layout = "sav"
    return Dataset(root, kind if kind and layout == "mose" else layout, videos, listed_in)


def _annotations(root: Path) -> Path | None:
    return next((root / name for name in MASK_FOLDERS if (root / name).is_dir()), None)


def _seen(folders: Sequence[Path]) -> str:
    return f"the folders {_some(path.name for path in folders)}" if folders else "no folder"


def _some(names: Iterable[str]) -> str:
    first, *others = sorted(names)
    more = len(others) - 2
    return ", ".join([first, *others[:2]]) + (f" and {more} more" if more > 0 else "")


def _listed(root: Path) -> tuple[Path | None, list[str]]:
    """The list of the videos for validation, and their names."""
    for path in (root / name for name in _LISTS):
        if path.is_file():
            names = _lines(path)
            if not names:
                raise UnreadableError(f"{path}: expected names of videos, found none")
            for name in names:
                if not is_file_name(name):
                    raise RefusedError(f"{path}: lists {name[:80]}, which is no name of a folder")
            return path, [*dict.fromkeys(names)]  # in its order, in which DAVIS adds the videos up
    return None, []


def _stated(root: Path) -> tuple[Path | None, Mapping[str, Any], Layout | None]:
    """The file about the objects, what it says of them by video, and whose file it is."""
    for path in sorted(root.glob("*meta*.json")):
        content = parse_json(path, read_text(path, _LARGEST))
        videos = content.get("videos") if isinstance(content, dict) else None
        if not isinstance(videos, dict):
            continue
        objects = [of.get("objects") for of in videos.values() if isinstance(of, dict)]
        named = [one for of in objects if isinstance(of, dict) for one in of.values()]
        if any("frame_range" in one for one in named if isinstance(one, dict)):
            return path, videos, "lvos"
        return path, videos, "youtube" if named else None
    return None, {}, None


def _lines(path: Path) -> list[str]:
    """The lines of a text file that are not blank."""
    text = read_text(path, _LARGEST, "a list of videos").removeprefix("\ufeff")
    return [line.strip() for line in text.splitlines() if line.strip()]


def names_in(text: str) -> list[str]:
    """Read which videos are wanted.

    Args:
        text: Names separated by commas, or a text file with one a line.

    Returns:
        The names.

    Raises:
        UsageError: If there is none.
        UnreadableError: If the file is no text.
    """
    path = expanded(Path(text))
    try:
        listed = _lines(path) if path.is_file() else text.split(",")
    except OSError:  # too long for a path
        listed = text.split(",")
    names = [name.strip() for name in listed if name.strip()]
    if not names:
        raise UsageError(f"{text!r}: expected names of videos, or a file with one a line")
    return names
