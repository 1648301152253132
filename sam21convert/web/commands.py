"""The commands that repeat what was clicked."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath

from ..prediction.prompts import Point, Prompt, Prompted
from .sides import Side


def repeat_prompts(side: Side, picture: str, prompted: Prompted) -> str:
    """Make the command that gives the same three candidates.

    Args:
        side: The checkpoint.
        picture: Name of the picture.
        prompted: What was clicked.

    Returns:
        A command for a shell, in the folder that holds the picture.
    """
    options = ["--multimask", *_options(prompted.all, video=False)]
    return _command("image", side, picture, options, _output(side, picture, "-drawn.png"))


def repeat_everything(side: Side, picture: str, points_per_side: int) -> str:
    """Make the command that finds the same masks of everything.

    Args:
        side: The checkpoint.
        picture: Name of the picture.
        points_per_side: Points that were asked per side.

    Returns:
        A command for a shell, in the folder that holds the picture.
    """
    options = ["--everything", "--points-per-side", str(points_per_side)]
    return _command("image", side, picture, options, _output(side, picture, "-drawn.png"))


def repeat_following(
    side: Side, video: str, rounds: Sequence[Mapping[str, Mapping[int, Prompted]]]
) -> str:
    """Make the command that follows the same objects.

    Args:
        side: The checkpoint.
        video: Name of the video, or of the folder with its frames.
        rounds: What was clicked in each round, by object and frame.

    Returns:
        A command for a shell, in the folder that holds the video.
    """
    prompts = [
        prompt
        for objects in rounds
        for frames in objects.values()
        for prompted in frames.values()
        for prompt in prompted.all
    ]
    options = _options(prompts, video=True)
    return _command("video", side, video, options, _output(side, video, "-followed"))


def _command(kind: str, side: Side, media: str, options: Iterable[str], output: str) -> str:
    request = side.request
    own = []
    if isinstance(request.config, (str, PurePath)):
        own += ["--config", str(request.config)]
    if request.image_size is not None:
        own += ["--image-size", str(request.image_size)]
    if request.runtime == "torch" and request.device != "cpu":
        own += ["--device", request.device]
    words = ["sam21convert", "predict", kind, _file(media), "--checkpoint", str(request.source)]
    return shlex.join([*words, *own, *options, "-o", _file(output)])


def _output(side: Side, media: str, end: str) -> str:
    """A name beside the picture or video, of which each checkpoint has its own."""
    return f"{PurePath(media).stem}{side.letter and f'-{side.letter}'}{end}"


def _options(prompts: Iterable[Prompt], *, video: bool) -> Iterable[str]:
    for prompt in prompts:
        point = isinstance(prompt, Point)
        numbers = (
            (prompt.x, prompt.y, *(() if prompt.label else (0,)))
            if isinstance(prompt, Point)
            else (prompt.x0, prompt.y0, prompt.x1, prompt.y1)
        )
        text = ",".join(map(_number, numbers))
        if video:
            again = f"/{prompt.round}" if prompt.round > 1 else ""
            text = f"{prompt.obj_id}:{text}@{prompt.frame_idx}{again}"
        yield from ("--point" if point else "--box", text)


def _number(value: float) -> str:
    """A number with all its digits."""
    return repr(float(value)).removesuffix(".0")


def _file(name: str) -> str:
    """A name that no option begins like."""
    return f"./{name}" if name.startswith("-") else name
