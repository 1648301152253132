"""A video that a page has opened: objects that are pointed at, corrected and followed in it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from ..errors import RefusedError, UsageError
from ..model.run_lengths import RunLengths, encode
from ..prediction.draw import Mask
from ..prediction.media import frames_of, naming_faults
from ..prediction.predictors import Opened
from ..prediction.prompts import Prompted, check_object
from ..prediction.video import check_on_frame, followed, point_at
from .commands import repeat_following
from .limits import Limits
from .picture import Answer, StoppedError, alike, as_jpeg
from .sides import Side

_OBJECTS = 32

Found = dict[int, dict[str, RunLengths]]  # masks by frame and object
Value = TypeVar("Value")


class Clip:
    """A video, opened by each checkpoint.

    Args:
        path: A video file, or a folder of frames.
        name: What the page calls it.
        shown: A new folder, for the frames as the page shows them.
        sides: The checkpoints.
        limits: What it may have.
        tell: Told how far it is.

    Attributes:
        name: What the page calls it.
        path: The file or folder.
        count: Number of its frames.
        found: The masks of each checkpoint, as they are shown.
        rounds: What was clicked before each time that the objects were followed, and since.

    Raises:
        Sam21ConvertError: If it cannot be read, or is too large.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        shown: Path,
        sides: Sequence[Side],
        limits: Limits,
        tell: Callable[[Answer], None],
    ) -> None:
        for side in sides:
            if side.videos is None:
                raise RefusedError(
                    f"{side.name}: is an image model, or an export for pictures alone: it cannot "
                    "follow objects",
                    hint="open a picture, or serve a checkpoint with a memory",
                )
        self.path, self.name, self._shown, self._sides = path, name, shown, sides
        shown.mkdir()
        with naming_faults():
            self.count = self._show_frames(limits, tell)
            self._states = [self._state(side, tell) for side in sides]
        self.height, self.width = self._states[0].video_height, self._states[0].video_width
        self.rounds: list[dict[str, dict[int, Prompted]]] = [{}]
        self.found: list[Found] = [{} for _ in sides]
        self._settled: list[Found] = [{} for _ in sides]  # those that were followed

    def facts(self) -> Answer:
        """Say what the page shows of it.

        Returns:
            What JSON can hold.
        """
        size = {"width": self.width, "height": self.height, "frames": self.count}
        return {"kind": "video", "name": self.name, **size}

    def shown(self, frame: int) -> Path:
        """Find a frame as the page shows it.

        Args:
            frame: Its number.

        Returns:
            A JPEG.

        Raises:
            UsageError: If there is no such frame.
        """
        if not 0 <= frame < self.count:
            raise UsageError(f"frame {frame}: the video has {self.count} frames, counted from 0")
        return self._shown / f"{frame:05}.jpg"

    def mark(self, obj_id: str, frame: int, given: Prompted) -> Answer:
        """Point at an object on a frame, or correct it there.

        Args:
            obj_id: The object.
            frame: The frame.
            given: All prompts of this round for it there; without any, they are taken back.

        Returns:
            The masks of all objects on the frame, for two checkpoints how alike they are, and the
            commands that repeat it.

        Raises:
            UsageError: If the prompts do not fit the video.
        """
        check_object(obj_id)
        if given.all:
            check_on_frame(self._states[0], frame, given)
        now = self.rounds[-1]
        known = {one for objects in self.rounds for one in objects}
        if obj_id not in known and len(known) >= _OBJECTS:
            raise UsageError(f"object {obj_id}: a page follows {_OBJECTS} objects at most")
        before = self._before(obj_id, frame)
        frames = now.setdefault(obj_id, {})
        frames.pop(frame, None)
        if given.all:
            frames[frame] = given
        elif not frames:
            del now[obj_id]
        both = before.then(given)
        for at, (side, state) in enumerate(zip(self._sides, self._states, strict=True)):
            with side.turn:
                self._forget_pending(state, obj_id, frame)
                if given.all:
                    self._keep(
                        at, frame, obj_id, point_at(_videos(side), state, obj_id, frame, both)
                    )
                else:
                    self._take_back(at, state, frame, obj_id)
        return {**self._on(frame), "commands": self.commands()}

    def follow(self, tell: Callable[[Answer], None], stopped: Callable[[], bool]) -> Answer:
        """Follow all objects through the video, from the first prompt to the end and then back.

        Args:
            tell: Told the masks of each frame.
            stopped: Whether somebody asked to stop.

        Returns:
            The commands that repeat it.

        Raises:
            UsageError: If nothing was marked since it was done last.
            StoppedError: If somebody did. What was marked stays, and can be changed.
        """
        if not self.rounds[-1]:
            what = "correct an object first" if self.rounds[:-1] else "mark an object first"
            raise UsageError(f"nothing new to follow: {what}")
        before = [_copies(state.objects) for state in self._states]
        try:
            for frame, of_sides in self._followed(stopped):
                for at, masks in enumerate(of_sides):
                    for obj_id, mask in masks.items():
                        self._keep(at, frame, obj_id, mask)
                tell({"frame": frame, **self._on(frame)})
        except BaseException:
            for state, objects in zip(self._states, before, strict=True):
                state.objects.clear()
                state.objects.update(objects)
            raise
        self._settled = [{frame: {**of} for frame, of in one.items()} for one in self.found]
        commands = self.commands()
        self.rounds.append({})
        return {"commands": commands}

    def commands(self) -> list[str]:
        """Make the commands that repeat what was clicked, and follow the objects.

        Returns:
            One for each checkpoint; none before anything is marked.
        """
        rounds = [objects for objects in self.rounds if objects]
        if not rounds:
            return []
        return [repeat_following(side, self.name, rounds) for side in self._sides]

    def prompts(self) -> dict[str, dict[int, Prompted]]:
        """Put together what was clicked in all rounds.

        Returns:
            The prompts by object and frame.
        """
        found: dict[str, dict[int, Prompted]] = {}
        for objects in self.rounds:
            for obj_id, frames in objects.items():
                for frame, new in frames.items():
                    known = found.setdefault(obj_id, {})
                    known[frame] = known.get(frame, Prompted()).then(new)
        return found

    def _before(self, obj_id: str, frame: int) -> Prompted:
        """What earlier rounds have for an object on a frame."""
        found = Prompted()
        for objects in self.rounds[:-1]:
            found = found.then(objects.get(obj_id, {}).get(frame, Prompted()))
        return found

    def _followed(
        self, stopped: Callable[[], bool]
    ) -> Iterator[tuple[int, Sequence[dict[str, Mask]]]]:
        """Each frame with the masks of all checkpoints, which go through the video together."""
        walks = [
            (side.turn, followed(_videos(side), state))
            for side, state in zip(self._sides, self._states, strict=True)
        ]
        for _ in range(self.count):
            steps = []
            for turn, walk in walks:
                if stopped():
                    raise StoppedError
                with turn:
                    steps.append(next(walk))
            yield steps[0][0], [masks for _, masks in steps]

    def _keep(self, at: int, frame: int, obj_id: str, mask: Mask) -> None:
        self.found[at].setdefault(frame, {})[obj_id] = encode(mask)

    def _take_back(self, at: int, state: Any, frame: int, obj_id: str) -> None:
        """Show again what was found for an object before this round."""
        if obj_id not in self.rounds[-1] and not any(obj_id in one for one in self.rounds[:-1]):
            state.objects.pop(obj_id, None)
        shown = self.found[at].setdefault(frame, {})
        shown.pop(obj_id, None)
        settled = self._settled[at].get(frame, {}).get(obj_id)
        if settled is not None:
            shown[obj_id] = settled

    def _forget_pending(self, state: Any, obj_id: str, frame: int) -> None:
        """Let the next answer be that to one question, not to a question after others."""
        tracked = state.objects.get(obj_id)
        if tracked is None:
            return
        for group in (tracked.pending.prompted, tracked.pending.tracked):
            group.pop(frame, None)
        if not self._before(obj_id, frame).all:
            tracked.points.pop(frame, None)

    def _on(self, frame: int) -> Answer:
        """The masks of all objects on a frame, and how alike those of two checkpoints are."""
        masks = [found.get(frame, {}) for found in self.found]
        return {"sides": masks, "alike": _alike(masks) if len(masks) > 1 else None}

    def _show_frames(self, limits: Limits, tell: Callable[[Answer], None]) -> int:
        total = _expected(self.path)
        if total > limits.frames:
            raise self._too_long(f"{total:,}", limits)
        number = 0
        for number, pixels in enumerate(frames_of(self.path), 1):
            height, width = pixels.shape[:2]
            if height * width > limits.pixels:
                raise RefusedError(
                    f"{self.name}: has frames of {width} x {height} pixels (width x height), more "
                    f"than the {limits.pixels:,} allowed",
                    hint="make it smaller: ffmpeg -i VIDEO -vf scale=1920:-2 small.mp4",
                )
            if number > limits.frames:
                raise self._too_long(f"more than {limits.frames:,}", limits)
            (self._shown / f"{number - 1:05}.jpg").write_bytes(as_jpeg(pixels))
            tell({"progress": "reading the video", "done": number, "total": max(total, number)})
        if number == 0:
            raise RefusedError(f"{self.name}: has no frames")
        return number

    def _too_long(self, found: str, limits: Limits) -> RefusedError:
        most = limits.frames
        return RefusedError(
            f"{self.name}: has {found} frames, more than the {most:,} that a page takes",
            hint=f"take a part of it: ffmpeg -i VIDEO -frames:v {most} shorter.mp4; predict video "
            "follows objects through longer ones",
        )

    def _state(self, side: Side, tell: Callable[[Answer], None]) -> Any:
        tell({"progress": f"{side.name} reads the video", "done": 0, "total": 0})
        with side.turn:
            return _videos(side).predictor.init_state(str(self.path))


def _videos(side: Side) -> Opened:
    assert side.videos is not None, "a video is not opened without"
    return side.videos


def _expected(path: Path) -> int:
    """How many frames a video has by its header, or a folder by its files."""
    if path.is_dir():
        from ..model.pictures import numbered

        return len(numbered(path))
    from ..model.video_files import open_video, stated_frames

    with open_video(path, str(path)) as container:
        return stated_frames(container)


def _alike(masks: Sequence[dict[str, RunLengths]]) -> dict[str, float]:
    from ..model.run_lengths import decode

    one, other = masks
    return {obj_id: alike(decode(one[obj_id]), decode(other[obj_id])) for obj_id in one}


def _copies(objects: dict[Any, Value]) -> dict[Any, Value]:
    """Objects whose dictionaries can change without changing these; results are shared."""
    return {obj_id: _copy(tracked) for obj_id, tracked in objects.items()}


def _copy(tracked: Any) -> Any:
    groups = {
        name: replace(group, prompted=copy.copy(group.prompted), tracked=copy.copy(group.tracked))
        for name, group in (("pending", tracked.pending), ("settled", tracked.settled))
    }
    own = {name: copy.copy(getattr(tracked, name)) for name in ("points", "masks", "reversed_on")}
    return replace(tracked, **own, **groups)
