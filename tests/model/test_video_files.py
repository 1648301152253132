"""Video files that anybody may have made: few containers, bounded frames, and no other file."""

from __future__ import annotations

import io
import os
import re
import struct
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image

from sam21convert.model import memory_limit, video_files
from sam21convert.model.memory_limit import free_memory
from sam21convert.model.pictures import MediaError
from sam21convert.model.video_files import open_video
from sam21convert.model.video_frames import _emptying, load_frames

from .test_video_frames import clip, encode, pictures, save

SIDE = 32
CPU = torch.device("cpu")
EACH = 13 * SIDE**2  # bytes that a frame needs

# Name of a file in each container, and a codec that it can hold.
READ = {
    "clip.mp4": "mpeg4",
    "clip.mov": "mpeg4",
    "clip.mkv": "mpeg4",
    "clip.webm": "libvpx-vp9",
    "clip.avi": "mpeg4",
    "clip.ts": "mpeg2video",
    "clip.m2ts": "mpeg2video",
    "clip.mpg": "mpeg2video",
    "clip.ogv": "libtheora",
    "clip.flv": "flv",
    "clip.wmv": "wmv2",
}
NOT_READ = {
    "clip.gif": ("gif", "rgb8"),
    "clip.y4m": ("rawvideo", "yuv420p"),
    "clip.m2v": ("mpeg2video", "yuv420p"),
}

# Each names another video; FFmpeg opens it for all of them.
PLAYLISTS = {
    "m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nother.ts\n#EXT-X-ENDLIST\n",
    "m3u8 with a byte order mark": "\ufeff#EXTM3U\n#EXTINF:1,\nother.ts\n#EXT-X-ENDLIST\n",
    "ffconcat": "ffconcat version 1.0\nfile other.ts\n",
    "dash": "<?xml version='1.0'?><MPD><Period><BaseURL>other.ts</BaseURL></Period></MPD>",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 1 RTP/AVP 96\n",
}  # fmt: skip


def refusal(video: Any) -> MediaError:
    with pytest.raises(MediaError) as caught:
        load_frames(video, SIDE, CPU)
    assert "\n" not in str(caught.value)
    return caught.value


class TestContainers:
    @pytest.mark.parametrize("name", READ)
    def test_read_whatever_the_name_says(self, tmp_path: Path, name: str) -> None:
        if READ[name] not in av.codecs_available:
            pytest.skip(f"this build of FFmpeg has no {READ[name]}")
        path = encode(tmp_path / name, READ[name], "yuv420p", clip(height=48, width=64))
        path = path.rename(tmp_path / "renamed")
        assert len(load_frames(path, SIDE, CPU).images) == 5
        assert len(load_frames(path.read_bytes(), SIDE, CPU).images) == 5

    @pytest.mark.parametrize("name", NOT_READ)
    def test_not_read_whatever_the_name_says(self, tmp_path: Path, name: str) -> None:
        codec, pixel_format = NOT_READ[name]
        path = encode(tmp_path / name, codec, pixel_format, clip()).rename(tmp_path / "clip.mp4")
        with av.open(str(path)) as container:  # FFmpeg would read it
            assert container.streams.video
        error = refusal(path)
        assert "expected MP4, MOV, Matroska, WebM, AVI, MPEG, Ogg, FLV or WMV" in str(error)
        if name == "clip.gif":
            assert error.hint == f"convert it first: ffmpeg -i {path} video.mp4"

    def test_a_transport_stream_may_begin_within_a_packet(self, tmp_path: Path) -> None:
        path = encode(tmp_path / "clip.ts", "mpeg2video", "yuv420p", clip())
        path.write_bytes(path.read_bytes()[100:])
        assert len(load_frames(path, SIDE, CPU).images) >= 1

    def test_sound_alone_is_no_video(self, tmp_path: Path) -> None:
        path = tmp_path / "sound.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("aac", rate=8000)
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), "fltp", "mono")
            silence.sample_rate = 8000
            container.mux(stream.encode(silence))
            container.mux(stream.encode(None))
        assert "sound.mp4: expected a video, found none" in str(refusal(path))

    def test_a_file_named_like_a_protocol_gets_a_command_that_works(self, tmp_path: Path) -> None:
        path = encode(tmp_path / "clip.gif", "gif", "rgb8", clip()).rename(tmp_path / "12:30.gif")
        assert f"ffmpeg -i file:{path} video.mp4" in str(refusal(path).hint)


class TestPlaylists:
    @pytest.mark.parametrize("kind", PLAYLISTS)
    @pytest.mark.parametrize("name", ["clip.mp4", "clip.m3u8", "clip.ffconcat"])
    def test_a_playlist_is_refused_before_anything_is_opened(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, name: str
    ) -> None:
        encode(tmp_path / "other.ts", "mpeg2video", "yuv420p", clip())
        (tmp_path / name).write_text(PLAYLISTS[kind])

        def opened(*_: Any, **__: Any) -> None:
            raise AssertionError("FFmpeg was asked to open it")

        monkeypatch.setattr(av, "open", opened)
        for video in (tmp_path / name, (tmp_path / name).read_bytes()):
            assert "a playlist, is not opened" in str(refusal(video).hint)

    @pytest.mark.parametrize("kind", ["m3u8", "ffconcat"])
    def test_ffmpeg_itself_would_open_the_other_file(self, tmp_path: Path, kind: str) -> None:
        """The control of the test above, and what the choice of the demuxer prevents."""
        encode(tmp_path / "other.ts", "mpeg2video", "yuv420p", clip())
        path = tmp_path / f"clip.{kind}"
        path.write_text(PLAYLISTS[kind])
        with av.open(str(path)) as container:
            assert container.streams.video[0].width == 56
        with pytest.raises(av.FFmpegError):
            av.open(str(path), format="mov", options={"format_whitelist": "mov"})

    def test_a_mov_that_refers_to_another_file_does_not_open_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The other file is a pipe that nobody writes to: whoever opens it waits for ever."""
        monkeypatch.chdir(tmp_path)
        path = encode(tmp_path / "clip.mov", "mpeg4", "yuv420p", clip())
        path.write_bytes(elsewhere(path.read_bytes(), b"other.mov"))
        os.mkfifo(tmp_path / "other.mov")
        start = time.process_time()
        with pytest.raises(ValueError, match=r"clip\.mov: expected at least one frame"):
            load_frames(path, SIDE, CPU)
        assert time.process_time() - start < 5
        (tmp_path / "other.mov").unlink()
        encode(tmp_path / "other.mov", "mpeg4", "yuv420p", clip())
        with av.open(str(path), options={"enable_drefs": "1"}) as container:  # the control
            assert len(list(container.decode(video=0))) == 5


def elsewhere(data: bytes, name: bytes) -> bytes:
    """Let a MOV say that its media are in another file of its folder."""
    at = data.index(b"dref") - 4
    assert data[at + 20 : at + 24] == b"url "
    full = b"/" + name
    # An alias record of version 2, as QuickTime writes it: 150 bytes, then typed texts.
    path = struct.pack(">hH", 2, len(full)) + full + bytes(len(full) % 2)
    levels = struct.pack(">hH", 0, 0)
    fixed = struct.pack(">IHHH", 0, 150 + len(path) + len(levels) + 4, 2, 0)
    volume = bytes([0]) + bytes(27) + bytes(12)
    file = bytes([len(name)]) + name.ljust(63, b"\0") + bytes(16) + struct.pack(">hh", 1, 1)
    record = fixed + volume + file
    record += bytes(max(0, 154 - len(record))) + path + levels + struct.pack(">hH", -1, 0)
    entry = struct.pack(">I4sI", 8 + 4 + len(record), b"alis", 0) + record
    dref = struct.pack(">I4sII", 16 + len(entry), b"dref", 0, 1) + entry
    grown = len(dref) - struct.unpack(">I", data[at : at + 4])[0]
    data = data[:at] + dref + data[at + struct.unpack(">I", data[at : at + 4])[0] :]
    for box in (b"dinf", b"minf", b"mdia", b"trak", b"moov"):
        here = data.index(box) - 4
        size = struct.unpack(">I", data[here : here + 4])[0] + grown
        data = data[:here] + struct.pack(">I", size) + data[here + 4 :]
    return data


class TestBounds:
    def test_large_frames_are_refused_by_the_header(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        video = clip(height=480, width=640)
        path = encode(tmp_path / "clip.mp4", "mpeg4", "yuv420p", video)
        monkeypatch.setattr(video_files, "MAX_FRAME_PIXELS", 640 * 480 - 1)
        error = refusal(path)
        assert "has frames of 640 x 480 pixels (width x height), more than" in str(error)
        assert f"ffmpeg -i {path} -vf scale=1920:-2 small.mp4" in str(error.hint)
        monkeypatch.setattr(video_files, "MAX_FRAME_PIXELS", 640 * 480)
        assert len(load_frames(path, SIDE, CPU).images) == 5

    def test_frames_that_grow_later_are_not_decoded(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        small, large = (
            encode(tmp_path / "clip.ts", "mpeg2video", "yuv420p", clip(width=width)).read_bytes()
            for width in (56, 720)
        )
        monkeypatch.setattr(video_files, "MAX_FRAME_PIXELS", 64 * 64)
        with open_video(io.BytesIO(small + large), "video") as container:
            widths: set[int] = set()
            with pytest.raises(av.FFmpegError):
                widths.update(frame.width for frame in container.decode(video=0))
        assert widths <= {56}

    @pytest.mark.parametrize("stated", [True, False])
    def test_more_frames_than_fit_into_memory_are_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stated: bool
    ) -> None:
        path = encode(tmp_path / "clip.mp4", "mpeg4", "yuv420p", clip(count=7))
        if not stated:
            monkeypatch.setattr("sam21convert.model.video_squares.stated_frames", lambda _: 0)
        monkeypatch.setattr(video_files, "free_memory", lambda _: 7 * EACH - 1)
        error = refusal(path)
        found = "has 7 frames, which need 0.0 GB" if stated else "has more than 6 frames"
        assert f"{path}: {found}; the memory that is free holds 6 frames of 32 x 32" in str(error)
        assert f"ffmpeg -i {path} -frames:v 6 shorter.mp4" in str(error.hint)
        monkeypatch.setattr(video_files, "free_memory", lambda _: 7 * EACH)
        assert len(load_frames(path, SIDE, CPU).images) == 7

    @pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.avi", "clip.ts"])
    def test_the_number_of_frames_is_known_before_they_are_decoded(
        self, tmp_path: Path, name: str
    ) -> None:
        path = encode(tmp_path / name, "mpeg2video", "yuv420p", clip(count=50))
        with open_video(path, name) as container:
            assert abs(video_files.stated_frames(container) - 50) <= 2

    @pytest.mark.parametrize("async_loading", [False, True])
    def test_a_folder_of_too_many_pictures_is_refused_before_one_is_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, async_loading: bool
    ) -> None:
        for number in range(5):
            (tmp_path / f"{number}.jpg").touch()
        monkeypatch.setattr(video_files, "free_memory", lambda _: 5 * EACH - 1)
        with pytest.raises(MediaError, match="has 5 frames, .* holds 4 frames"):
            load_frames(tmp_path, SIDE, CPU, async_loading=async_loading)

    def test_frames_in_memory_are_counted_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(video_files, "free_memory", lambda _: 5 * EACH - 1)
        assert "video: has 5 frames" in str(refusal(clip()))

    def test_decoded_frames_are_let_go_one_by_one(self, tmp_path: Path) -> None:
        waiting: Any = deque([1, 2, 3])
        assert [len(waiting) for _ in _emptying(waiting)] == [2, 1, 0]


class TestFreeMemory:
    def test_it_is_what_the_machine_has_at_most(self) -> None:
        free = free_memory(CPU)
        assert free is not None
        assert 0 < free <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

    def test_a_device_without_memory_has_no_limit(self) -> None:
        assert free_memory(torch.device("meta")) is None

    def test_a_gpu_has_its_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (5, 10))
        assert free_memory(torch.device("cuda")) == 5

    @pytest.mark.parametrize("version", [1, 2])
    def test_the_limit_of_a_container_counts(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int
    ) -> None:
        names = memory_limit._LIMITS[2 - version]
        monkeypatch.setattr(memory_limit, "_CONTROL_GROUP", tmp_path)
        texts = ("5000\n", "3000\n", f"anon 7\n{names[3]} 1000\n")
        for name, text in zip(names, texts, strict=False):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)
        assert free_memory(CPU) == 3000
        (tmp_path / names[0]).write_text("max\n")
        assert (free_memory(CPU) or 0) > 1_000_000


SPECIAL: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("kind", SPECIAL)
class TestSpecialFiles:
    def test_a_video_that_is_no_regular_file_is_refused_at_once(
        self, tmp_path: Path, kind: str
    ) -> None:
        SPECIAL[kind](tmp_path / "clip.mp4")
        start = time.process_time()
        assert "clip.mp4: is not a regular file" in str(refusal(tmp_path / "clip.mp4"))
        assert time.process_time() - start < 5

    @pytest.mark.parametrize("number", [0, 3])
    @pytest.mark.parametrize("async_loading", [False, True])
    def test_so_is_a_frame_in_a_folder(
        self, tmp_path: Path, kind: str, number: int, async_loading: bool
    ) -> None:
        save(tmp_path, pictures())
        (tmp_path / f"{number}.jpg").unlink()
        SPECIAL[kind](tmp_path / f"{number}.jpg")
        start = time.process_time()
        with pytest.raises(ValueError, match=rf"{number}\.jpg: is not a regular file"):
            load_frames(tmp_path, SIDE, CPU, async_loading=async_loading).images[number]
        assert time.process_time() - start < 5


def test_a_frame_with_too_many_pixels_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, pictures())
    monkeypatch.setattr("sam21convert.model.pictures.MAX_PIXELS", 40 * 56 - 1)
    assert re.search(r"0\.jpg: has 56 x 40 pixels", str(refusal(tmp_path)))


def test_a_frame_in_another_format_is_refused(tmp_path: Path) -> None:
    save(tmp_path, [Image.new("RGB", (8, 8))], format="gif")
    assert "0.jpg: cannot be read as a picture: expected JPEG" in str(refusal(tmp_path))
