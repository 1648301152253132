"""Videos read as the official code reads them, to the last bit."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import platform
import struct
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from sam2.utils.misc import load_video_frames
from torch import Tensor

from sam21convert.model import stored_squares, video_frames
from sam21convert.model.pictures import MediaError
from sam21convert.model.video_frames import load_frames, store_frames, stream_frames
from sam21convert.model.video_squares import Square, squares_of

SIDE = 32  # what frames are resized to
CPU = torch.device("cpu")
Pixels = NDArray[np.uint8]

# SHA-256 of what the official code gave for the clip of the test that names it, by decord 0.6.0.
DECORD_0_6_0 = "8ce1652ff0a7d9c99de6f58d6420c01abfa64c0fedbcfa4c5d82af51d2b689f1"

modes = pytest.mark.parametrize("async_loading", [False, True], ids=["at once", "async"])


def clip(count: int = 5, height: int = 40, width: int = 56) -> Pixels:
    """A bright disc that moves over a ramp of colours and noise, ``T x H x W x 3``."""
    t, y, x = np.mgrid[:count, :height, :width]
    disc = (x - width // 4 - 4 * t) ** 2 + (y - height // 2) ** 2 < (height // 3) ** 2
    video = np.stack([255 * disc, 255 * x // width, (16 * t + 255 * y // height) % 256], axis=-1)
    noise = np.random.default_rng(0).integers(-20, 20, video.shape)
    return (video + noise).clip(0, 255).astype(np.uint8)


def save(folder: Path, pictures: list[Image.Image], name: str = "{}.jpg", **how: Any) -> Path:
    folder.mkdir(exist_ok=True)
    for number, picture in enumerate(pictures):
        picture.save(folder / name.format(number), **{"format": "jpeg", **how})
    return folder


def pictures(mode: str = "RGB", **size: int) -> list[Image.Image]:
    return [Image.fromarray(frame).convert(mode) for frame in clip(**size)]


def official(video: Any, async_loading: bool = False, side: int = SIDE) -> tuple[Tensor, int, int]:
    images, height, width = load_video_frames(
        video, side, False, async_loading_frames=async_loading, compute_device=CPU
    )
    return torch.stack([image.float() for image in images]), height, width


def read(video: Any, async_loading: bool = False, side: int = SIDE) -> tuple[Tensor, int, int]:
    found = load_frames(video, side, CPU, async_loading=async_loading)
    images = [found.images[number] for number in range(len(found.images))]
    assert {image.dtype for image in images} == {torch.float32}
    return torch.stack(images), found.height, found.width


def assert_same(found: tuple[Tensor, int, int], expected: tuple[Tensor, int, int]) -> None:
    assert torch.equal(found[0], expected[0])
    assert found[1:] == expected[1:]


@modes
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("size", [(40, 56), (SIDE, SIDE), (9, 201)])
def test_a_folder_is_read_as_by_the_official_code(
    tmp_path: Path, size: tuple[int, int], mode: str, async_loading: bool
) -> None:
    save(tmp_path, pictures(mode, height=size[0], width=size[1]))
    expected = official(str(tmp_path), async_loading)
    assert expected[1:] == size
    assert_same(read(str(tmp_path), async_loading), expected)
    assert_same(read(tmp_path, async_loading), expected)


def test_the_last_bit_is_seen(tmp_path: Path) -> None:
    """Officially, frames that are read asynchronously are rounded once, others three times."""
    save(tmp_path, pictures())
    at_once, later = (read(tmp_path, async_loading)[0] for async_loading in (False, True))
    assert 0 < (at_once - later).abs().max() < 1e-6


@modes
def test_pictures_are_not_turned_by_their_metadata(tmp_path: Path, async_loading: bool) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: a quarter turn
    save(tmp_path, pictures(), exif=exif)
    assert_same(read(tmp_path, async_loading), official(str(tmp_path), async_loading))


@modes
def test_pictures_are_ordered_by_number(tmp_path: Path, async_loading: bool) -> None:
    names = ("2.jpg", "10.JPG", "011.jpeg", "100.JPEG")
    for name, picture in zip(names, pictures(), strict=False):
        picture.save(tmp_path / name, format="jpeg")
    (tmp_path / "notes.txt").touch()
    assert_same(read(tmp_path, async_loading), official(str(tmp_path), async_loading))


def test_the_suffix_of_a_picture_may_be_of_any_case(tmp_path: Path) -> None:
    folders = [save(tmp_path / name, pictures(), name="{}." + name) for name in ("jpg", "JpEg")]
    assert_same(read(folders[1]), read(folders[0]))


IN_MEMORY: dict[str, Callable[[Pixels], Any]] = {
    "array": lambda video: video,
    "array that is not contiguous": lambda video: video[:, :, ::-1].copy()[:, :, ::-1],
    "arrays": list,
    "tensor": torch.from_numpy,
    "tensors": lambda video: tuple(torch.from_numpy(video)),
    "pictures": lambda video: [Image.fromarray(frame) for frame in video],
    "pictures with alpha": lambda video: [Image.fromarray(f).convert("RGBA") for f in video],
}


@modes
@pytest.mark.parametrize("form", IN_MEMORY.values(), ids=IN_MEMORY)
def test_frames_in_memory_are_read_as_a_folder_of_the_same(
    tmp_path: Path, form: Callable[[Pixels], Any], async_loading: bool
) -> None:
    video = clip()
    save(tmp_path, pictures(), format="png")  # which loses nothing
    before = video.copy()
    assert_same(read(form(video), async_loading), official(str(tmp_path)))
    assert np.array_equal(video, before)


@modes
def test_every_byte_is_normalised_as_officially(tmp_path: Path, async_loading: bool) -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    save(tmp_path, [Image.fromarray(ramp).convert("RGB")], format="png")
    expected = official(str(tmp_path), async_loading, side=16)
    assert len(set(expected[0][0, 0].flatten().tolist())) == 256
    assert_same(read(tmp_path, async_loading, side=16), expected)


@modes
@pytest.mark.parametrize(("offload", "device"), [(False, "meta"), (True, "cpu")])
def test_frames_are_on_the_device_unless_offloaded(
    tmp_path: Path, offload: bool, device: str, async_loading: bool
) -> None:
    save(tmp_path, pictures())
    found = load_frames(tmp_path, SIDE, "meta", offload_to_cpu=offload, async_loading=async_loading)
    assert {found.images[number].device.type for number in range(5)} == {device}


@modes
def test_the_defaults_of_torch_change_nothing(tmp_path: Path, async_loading: bool) -> None:
    """Also when they are set before the module is imported."""
    save(tmp_path, pictures())
    program = (
        "import sys, torch\n"
        "torch.set_default_dtype(torch.float64)\n"
        "torch.set_default_device('meta')\n"
        "from sam21convert.model.video_frames import load_frames\n"
        f"found = load_frames({str(tmp_path)!r}, 32, 'cpu', async_loading={async_loading})\n"
        "image = found.images[0]\n"
        "sys.exit(f'{image.device} {image.dtype} {image.sum(dtype=torch.float64).item():.6f}')"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    expected = read(tmp_path, async_loading)[0][0].sum(dtype=torch.float64).item()
    assert found.stderr.strip() == f"cpu torch.float32 {expected:.6f}"


def test_no_thread_is_left_when_python_ends(tmp_path: Path) -> None:
    """One that is killed while torch is at work takes Python down with it."""
    save(tmp_path, [picture for _ in range(40) for picture in pictures()])
    program = (
        "import atexit, threading\n"
        "atexit.register(lambda: print(threading.active_count()))\n"
        "from sam21convert.model.video_frames import load_frames\n"
        f"images = load_frames({str(tmp_path)!r}, 512, 'cpu', async_loading=True).images\n"
        "print(sum(image is not None for image in images._images) < 200)"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (found.returncode, found.stdout, found.stderr) == (0, "True\n1\n", "")


def test_the_first_frame_is_there_while_a_thread_reads_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[Any] = []

    class Held:
        def __init__(self, target: Callable[[], None], daemon: bool) -> None:
            assert daemon
            self.target = target

        def start(self) -> None:
            threads.append(self)

        def join(self) -> None:
            pass

    monkeypatch.setattr(video_frames, "Thread", Held)
    found = load_frames(save(tmp_path, pictures()), SIDE, CPU, async_loading=True)
    assert (len(found.images), found.height, found.width) == (5, 40, 56)
    (tmp_path / "0.jpg").unlink()
    last = found.images[4]  # which does not wait for those before it
    (tmp_path / "4.jpg").unlink()
    threads[0].target()
    for path in tmp_path.iterdir():
        path.unlink()
    assert len([found.images[number] for number in range(5)]) == 5
    assert found.images[4] is last
    with pytest.raises(IndexError):
        found.images[5]


@modes
def test_without_jpegs_pngs_are_read(tmp_path: Path, async_loading: bool) -> None:
    """As the official code reads them under the name of a JPEG, the only one that it takes."""
    renamed = save(tmp_path / "renamed", pictures(), format="png")
    folder = save(tmp_path / "frames", pictures(), "{}.png", format="png")
    assert_same(read(folder, async_loading), official(str(renamed), async_loading))
    with pytest.raises(RuntimeError, match="no images found"):
        official(str(folder), async_loading)


@modes
def test_pngs_beside_jpegs_are_no_frames(tmp_path: Path, async_loading: bool) -> None:
    save(tmp_path, pictures())
    before = read(tmp_path, async_loading)
    Image.new("L", (56, 40)).save(tmp_path / "00001.png")
    Image.new("L", (56, 40)).save(tmp_path / "mask.png")
    assert_same(read(tmp_path, async_loading), before)


@modes
def test_more_than_8_bits_are_refused(tmp_path: Path, async_loading: bool) -> None:
    for number in range(5):
        Image.new("I;16", (56, 40), 40_000).save(tmp_path / f"{number}.png")
    with pytest.raises(MediaError, match=r"0\.png: expected 8 bits per channel"):
        read(tmp_path, async_loading)


# A part of the message, and how a folder of five pictures is spoilt.
SPOILT: dict[str, Callable[[Path], object]] = {
    "cover.jpg: expected a frame number": lambda f: (f / "3.jpg").rename(f / "cover.jpg"),
    "3.jpg: expected one frame 3, found 03.jpeg": lambda f: (f / "2.jpg").rename(f / "03.jpeg"),
    "3.jpg: cannot be read as a picture": lambda f: (f / "3.jpg").write_bytes(b"no picture"),
    "2.jpg: cannot be read as a picture": lambda f: (f / "2.jpg").write_bytes(
        (f / "2.jpg").read_bytes()[:400]
    ),
    "3.jpg: expected 40 x 56 pixels": lambda f: Image.new("RGB", (57, 40)).save(f / "3.jpg"),
    "expected pictures named <number>.jpg": lambda f: [
        path.rename(path.with_suffix(".gif")) for path in f.iterdir()
    ],
}


@modes
@pytest.mark.parametrize("message", SPOILT)
def test_a_spoilt_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, message: str, async_loading: bool
) -> None:
    class Immediate:
        def __init__(self, target: Callable[[], None], daemon: bool) -> None:
            self.start = target

        def join(self) -> None:
            pass

    monkeypatch.setattr(video_frames, "Thread", Immediate)
    SPOILT[message](save(tmp_path, pictures()))
    with pytest.raises(ValueError, match=message) as refused:
        load_frames(tmp_path, SIDE, CPU, async_loading=async_loading).images[0]
    assert str(tmp_path) in str(refused.value)


def test_streamed_frames_are_the_same_and_one_at_most_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save(tmp_path, pictures())
    expected, height, width = read(str(folder))
    read_on: list[int] = []
    normalised = video_frames._normalised
    alive: list[weakref.ref[Tensor]] = []

    def watched(*args: Any) -> Tensor:
        made = normalised(*args)
        alive.append(weakref.ref(made))
        return made

    monkeypatch.setattr(video_frames, "_normalised", watched)
    found = stream_frames(folder, SIDE, CPU)
    assert (len(found.images), found.height, found.width) == (len(expected), height, width)
    for number in [*range(len(expected)), 0, 3, 3]:
        assert torch.equal(found.images[number], expected[number])
        read_on.append(len(alive))
        assert sum(one() is not None for one in alive) == 1
    assert read_on == [1, 2, 3, 4, 5, 6, 7, 7]  # in order, each once


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_stored_frames_are_the_same_and_none_is_held(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "store").mkdir()
    if kind == "folder":
        video = save(tmp_path / "pictures", pictures())
    else:
        video = encode(tmp_path / "clip.mp4", "mpeg4", "yuv420p", clip())
    expected, height, width = read(str(video))
    alive: list[weakref.ref[Pixels]] = []

    def watched(*args: Any) -> Iterator[Square]:
        for square in squares_of(*args):
            alive.append(weakref.ref(square.pixels))
            assert sum(one() is not None for one in alive) <= 2  # the last one is being replaced
            yield square

    monkeypatch.setattr(stored_squares, "squares_of", watched)
    found = store_frames(video, SIDE, CPU, tmp_path / "store")
    assert (len(found.images), found.height, found.width) == (len(expected), height, width)
    assert len(alive) == len(expected)
    for number in [*range(len(expected)), 0, 3, 3]:
        assert torch.equal(found.images[number], expected[number])
    assert not any(one() is not None for one in alive)
    assert not [*(tmp_path / "store").iterdir()]  # it has no name


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: Any) -> io.RawIOBase:
        class Full(io.RawIOBase):
            def write(self, _: Any) -> int:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        return Full()

    monkeypatch.setattr(stored_squares, "TemporaryFile", full)
    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path}'"):
        store_frames(save(tmp_path, pictures()), SIDE, CPU, tmp_path)


def test_of_streamed_frames_a_spoilt_one_is_named(tmp_path: Path) -> None:
    folder = save(tmp_path, pictures())
    Image.new("RGB", (9, 9)).save(folder / "2.jpg")
    (folder / "3.jpg").write_bytes(b"\xff\xd8\xff")
    found = stream_frames(folder, SIDE, CPU)
    for number, message in (
        (2, r"2\.jpg: expected 40 x 56 pixels"),
        (3, r"3\.jpg: cannot be read"),
    ):
        with pytest.raises(ValueError, match=message):
            found.images[number]


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere.mp4"):
        load_frames(tmp_path / "nowhere.mp4", SIDE, CPU)


@pytest.mark.parametrize(
    ("video", "message"),
    [
        ([], "video: expected at least one frame"),
        (7, "video: expected a path, .* found int"),
        (np.zeros((8, 8, 3), np.uint8), "video: expected an array T x H x W x 3, found 8 x 8 x 3"),
        (torch.zeros((), dtype=torch.uint8), "found a scalar"),
        (torch.zeros(2, 8, 8, 3), "frame 0: .* found 8 x 8 x 3 float32"),
        (torch.zeros(2, 8, 8, 3, dtype=torch.bfloat16), "frame 0: .* found 8 x 8 x 3 bfloat16"),
        (np.zeros((2, 3, 8, 8), np.uint8), "frame 0: .* found 3 x 8 x 8 uint8"),
        (np.zeros((2, 0, 8, 3), np.uint8), "frame 0: .* found 0 x 8 x 3 uint8"),
        ([Image.new("RGB", (8, 8)), "1.jpg"], "frame 1: .* found str"),
        ([Image.new("RGB", (8, 8)), Image.new("RGB", (8, 9))], "frame 1: expected 8 x 8 pixels"),
    ],
)
def test_what_is_no_video_is_refused(video: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_frames(video, SIDE, CPU)


def encode(path: Path, codec: str, pixel_format: str, video: Pixels, **context: int) -> Path:
    """Write frames, RGB or arranged as ``pixel_format``; ``context`` is set on the encoder."""
    arrangement = "rgb24" if video.ndim == 4 else pixel_format
    pictures = [av.VideoFrame.from_ndarray(frame, format=arrangement) for frame in video]
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25)
        stream.width, stream.height = pictures[0].width, pictures[0].height
        stream.pix_fmt = pixel_format
        for name, value in {"gop_size": 6, **context}.items():
            setattr(stream.codec_context, name, value)
        for picture in pictures:
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def turned(path: Path, degrees: int) -> Path:
    """Write into the header of an MP4 or MOV that it is to be shown turned clockwise."""
    a, b = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 44
    data[matrix : matrix + 20] = struct.pack(">5i", a << 16, b << 16, 0, -b << 16, a << 16)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_a_lossless_video_of_the_model_size_is_read_as_it_was(tmp_path: Path, degrees: int) -> None:
    video = clip(height=SIDE, width=SIDE)
    path = turned(encode(tmp_path / "clip.mov", "png", "rgb24", video), degrees)
    upright = np.rot90(video, k=-degrees // 90, axes=(1, 2))
    assert_same(read(path), read(upright))
    assert_same(read(str(path)), read(upright))
    assert_same(read(path.read_bytes()), read(upright))


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_the_size_of_a_turned_video_is_that_at_which_it_is_shown(
    tmp_path: Path, degrees: int
) -> None:
    path = turned(encode(tmp_path / "clip.mp4", "mpeg4", "yuv420p", clip()), degrees)
    assert read(path)[1:] == ((56, 40) if degrees in (90, 270) else (40, 56))


# Encoder, pixel format, size and B-frames; the matrix and range of its colours.
FILES: dict[str, tuple[str, str, tuple[int, int], int, dict[str, int]]] = {
    "h264": ("libx264", "yuv420p", (96, 128), 0, {}),
    "h264, B-frames": ("libx264", "yuv420p", (96, 128), 3, {}),
    "h264, no multiple of 16": ("libx264", "yuv420p", (102, 158), 2, {}),
    "h264, of the model's size": ("libx264", "yuv420p", (SIDE, SIDE), 2, {}),
    "h264, smaller than the model's": ("libx264", "yuv420p", (22, 26), 2, {}),
    "h264, bt709": ("libx264", "yuv420p", (96, 128), 2, {"colorspace": 1}),
    "h264, full range": ("libx264", "yuv420p", (96, 128), 2, {"color_range": 2}),
    "h264, 4:4:4 and odd": ("libx264", "yuv444p", (97, 127), 2, {}),
    "h264, 10 bit": ("libx264", "yuv420p10le", (96, 128), 2, {}),
    "mpeg4, odd": ("mpeg4", "yuv420p", (97, 127), 2, {}),
    "vp9": ("libvpx-vp9", "yuv420p", (96, 128), 0, {}),
}


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("kind", FILES)
def test_a_video_file_is_read_as_by_decord(tmp_path: Path, kind: str, degrees: int) -> None:
    pytest.importorskip("decord", reason="decord, by which the official code reads, is not here")
    codec, pixel_format, (height, width), bframes, colours = FILES[kind]
    if codec not in av.codecs_available:
        pytest.skip(f"this build of FFmpeg has no {codec}")
    video = clip(count=13, height=height, width=width)
    path = tmp_path / "clip.mp4"
    encode(path, codec, pixel_format, video, max_b_frames=bframes, **colours)
    expected = official(str(turned(path, degrees)))
    assert len(expected[0]) == 13
    assert_same(read(path), expected)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="recorded on x86-64")
def test_a_video_file_is_read_as_decord_read_it_once(tmp_path: Path) -> None:
    planes = np.arange(3 * 72 * 64, dtype=np.int64).reshape(3, 72, 64)  # 48 x 64 in 4:2:0
    video = (planes**2 // 97 % 256).astype(np.uint8)
    images, *size = read(encode(tmp_path / "clip.mkv", "ffv1", "yuv420p", video))  # no loss
    assert (len(images), size) == (3, [48, 64])
    assert hashlib.sha256(images.numpy().tobytes()).hexdigest() == DECORD_0_6_0


def test_a_damaged_video_is_refused(tmp_path: Path) -> None:
    data = encode(tmp_path / "clip.mp4", "mpeg4", "yuv420p", clip()).read_bytes()
    for number, damaged in enumerate((b"", b"no video", data[: len(data) // 2])):
        path = tmp_path / f"{number}.mp4"
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=f"{number}.mp4: cannot be decoded as a video"):
            load_frames(path, SIDE, CPU)
        with pytest.raises(ValueError, match="video: cannot be decoded"):
            load_frames(damaged, SIDE, CPU)


def test_frames_of_several_sizes_in_a_file_are_refused(tmp_path: Path) -> None:
    small, large = (
        encode(tmp_path / "clip.ts", "mpeg2video", "yuv420p", clip(width=width)).read_bytes()
        for width in (56, 72)
    )
    with pytest.raises(
        ValueError, match=r"video, frame \d: expected 40 x 56 pixels .*, found 40 x 72"
    ):
        load_frames(small + large, SIDE, CPU)


def test_a_file_may_be_named_like_a_protocol(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    encode(Path("clip.mp4"), "mpeg4", "yuv420p", clip()).rename("12:30.mp4")
    assert len(load_frames("12:30.mp4", SIDE, CPU).images) == 5
