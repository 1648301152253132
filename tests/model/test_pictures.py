"""Pictures that anybody may have made: few formats, a bounded size, and no surprises."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import threading
import time
import warnings
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from sam21convert.model import pictures
from sam21convert.model.pictures import MediaError, load_picture, rgb

from ..support.paths import ROOT

READ = ("jpeg", "png", "webp", "bmp", "tiff")
NOT_READ = ("gif", "ppm", "tga", "icns", "pcx", "eps", "dds", "sgi")


def drawn(mode: str = "RGB", width: int = 24, height: int = 16) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([x * 9, y * 12, (x + y) * 5], axis=-1) % 256
    return Image.fromarray(pixels.astype(np.uint8)).convert(mode)


def plain(picture: Image.Image) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.asarray(picture.convert("RGB"))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *more: bytes, data: bytes = b"") -> bytes:
    """A grey PNG with any size in its header."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    inside = (*more, chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(inside)


def saved(**how: Any) -> bytes:
    buffer = io.BytesIO()
    drawn().save(buffer, **how)
    return buffer.getvalue()


def refusal(path: Path) -> MediaError:
    with pytest.raises(MediaError) as caught:
        load_picture(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    return caught.value


class TestFormats:
    @pytest.mark.parametrize("kind", READ)
    def test_read_whatever_the_name_says(self, tmp_path: Path, kind: str) -> None:
        path = tmp_path / "picture.jpg"
        drawn().save(path, kind)
        assert load_picture(path).size == (24, 16)

    @pytest.mark.parametrize("kind", NOT_READ)
    def test_not_read_whatever_the_name_says(self, tmp_path: Path, kind: str) -> None:
        path = tmp_path / "picture.png"
        drawn().save(path, kind)
        with Image.open(path) as opened:  # Pillow would
            assert opened.size
        error = refusal(path)
        assert "expected JPEG, PNG, WebP, BMP or TIFF" in str(error)
        hints = (f"save it as PNG, for example: ffmpeg -i {path} -frames:v 1 out.png",)
        assert error.hint in (
            *hints,
            *(["give the picture itself"] if kind in ("ppm", "eps") else []),
        )

    def test_of_a_text_nothing_is_advised_that_would_open_what_it_names(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / "a.png").write_text("#EXTM3U\n#EXTINF:1,\nother.ts\n")
        assert refusal(tmp_path / "a.png").hint == "give the picture itself"

    @pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
    def test_every_mode_becomes_rgb_as_pillow_does_it(self, tmp_path: Path, mode: str) -> None:
        kind = "tiff" if mode in ("CMYK", "YCbCr") else "png"
        drawn(mode).save(tmp_path / "a", kind)
        assert np.array_equal(rgb(load_picture(tmp_path / "a")), plain(drawn(mode)))

    def test_large_pictures_are_copied_in_parts(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pictures, "_BAND", 100)  # four rows
        drawn("P").save(tmp_path / "a", "png")
        assert np.array_equal(rgb(load_picture(tmp_path / "a")), plain(drawn("P")))

    def test_transparency_is_left_out(self, tmp_path: Path) -> None:
        drawn("P").save(tmp_path / "a", "png", transparency=bytes(range(256)))
        assert np.array_equal(rgb(load_picture(tmp_path / "a")), plain(drawn("P")))

    def test_of_several_pictures_the_first_is_read(self, tmp_path: Path) -> None:
        others = [Image.new("RGB", (9, 9))] * 3
        for kind in ("tiff", "png", "webp"):
            size = (24, 16) if kind == "tiff" else (9, 9)
            first = drawn().resize(size)
            how = {"lossless": True} if kind == "webp" else {}
            first.save(tmp_path / kind, kind, save_all=True, append_images=others, **how)
            assert np.array_equal(rgb(load_picture(tmp_path / kind)), np.asarray(first))

    @pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "tiff"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_turned_as_the_exif_data_says_if_that_is_wanted(
        self, tmp_path: Path, kind: str, orientation: int
    ) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        drawn().save(tmp_path / "a", kind, exif=exif)
        with Image.open(tmp_path / "a") as opened:
            expected = ImageOps.exif_transpose(opened)
        assert np.array_equal(rgb(load_picture(tmp_path / "a", upright=True)), rgb(expected))
        assert expected.size == ((16, 24) if orientation > 4 else (24, 16))


class TestBounds:
    @pytest.mark.parametrize(("width", "height"), [(13000, 13000), (2**26 + 1, 1), (2**20, 2**20)])
    def test_a_picture_with_too_many_pixels_is_refused_by_its_header(
        self, tmp_path: Path, width: int, height: int
    ) -> None:
        (tmp_path / "a b.png").write_bytes(png(width, height))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            error = refusal(tmp_path / "a b.png")
        assert f"{width} x {height} pixels (width x height)" in str(error)
        assert "more than the 67,108,864 allowed" in str(error)
        assert f"ffmpeg -i '{tmp_path}/a b.png' -vf scale=iw/" in str(error.hint)

    def test_the_largest_picture_is_not_refused_by_its_header(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_bytes(png(8192, 8192))
        assert "damaged or cut short" in str(refusal(tmp_path / "a.png"))

    def test_memory_is_little_more_than_the_pixels(self, tmp_path: Path) -> None:
        """A picture of 16 megapixels: 64 MB in Pillow, 48 MB as an array."""
        Image.new("RGB", (4096, 4096)).save(tmp_path / "a.png")
        program = (
            "import re, sys\n"
            "from pathlib import Path\n"
            "from sam21convert.prediction.media import read_picture\n"
            "def peak():\n"
            "    text = Path('/proc/self/status').read_text()\n"
            "    return int(re.search(r'VmHWM:\\s+(\\d+)', text)[1]) * 1024\n"
            "before = peak()\n"
            f"read_picture(Path({str(tmp_path / 'a.png')!r}))\n"
            "print(peak() - before)"
        )
        assert int(output(program)) < 140e6

    def test_a_large_file_is_refused(self, tmp_path: Path) -> None:
        with (tmp_path / "a.png").open("wb") as file:
            file.write(png(8, 8, data=bytes(72)))
            file.truncate(2**29 + 1)
        assert "536,870,913 bytes, more than the 536,870,912" in str(refusal(tmp_path / "a.png"))

    @pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"iTXt", b"iCCP"])
    def test_a_text_that_unpacks_to_very_much_is_never_unpacked_whole(
        self, tmp_path: Path, kind: bytes
    ) -> None:
        packed = zlib.compress(bytes(200 * 2**20), 9)
        middle = {b"zTXt": b"\0", b"iCCP": b"\0", b"iTXt": b"\1\0\0\0", b"tEXt": b""}[kind]
        bomb = chunk(kind, b"name\0" + middle + packed)
        (tmp_path / "a.png").write_bytes(png(8, 8, bomb, data=bytes(72)))
        program = (
            "import resource, sys\n"
            "from pathlib import Path\n"
            "from sam21convert.model.pictures import MediaError, load_picture\n"
            f"path = Path({str(tmp_path / 'a.png')!r})\n"
            "resource.setrlimit(resource.RLIMIT_DATA, (180 * 2**20,) * 2)\n"
            "try:\n"
            "    load_picture(path)\n"
            "    print('read')\n"
            "except MediaError:\n"
            "    print('refused')"
        )
        assert output(program) in ("read", "refused")

    def test_a_jpeg_with_very_many_scans_is_refused(self, tmp_path: Path) -> None:
        """Each scan takes time for the whole picture, although it takes only a few bytes."""
        data = saved(format="jpeg", progressive=True)
        last = data[data.rindex(b"\xff\xda") : -2]
        for more, allowed in ((80, True), (100, False)):
            path = tmp_path / f"{more}.jpg"
            path.write_bytes(data[:-2] + more * last + b"\xff\xd9")
            if allowed:
                assert load_picture(path).size == (24, 16)
            else:
                assert "more than 100 scans" in str(refusal(path))

    def test_what_follows_a_jpeg_or_is_embedded_in_it_does_not_count(self, tmp_path: Path) -> None:
        scans = 200 * b"\xff\xda\0\2"
        data = saved(format="jpeg", progressive=True)
        thumbnail = b"\xff\xe1" + struct.pack(">H", len(scans) + 4) + scans + b"\xff\xd9"
        path = tmp_path / "motion.jpg"
        path.write_bytes(data[:2] + thumbnail + data[2:] + scans)
        assert load_picture(path).size == (24, 16)


def output(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


class TestDamage:
    @pytest.mark.parametrize("kind", READ)
    def test_a_picture_that_is_cut_short_is_refused(self, tmp_path: Path, kind: str) -> None:
        data = saved(format=kind)
        path = tmp_path / "a.png"
        for end in range(12, len(data) * 2 // 3, max(1, len(data) // 40)):
            path.write_bytes(data[:end])
            assert "cannot be read as a picture: it is damaged or cut short" in str(refusal(path))

    @pytest.mark.parametrize("kind", READ)
    def test_a_changed_byte_never_raises_anything_else(self, tmp_path: Path, kind: str) -> None:
        data, path = bytearray(saved(format=kind)), tmp_path / "a.png"
        for at in range(0, len(data), max(1, len(data) // 150)):
            before, data[at] = data[at], data[at] ^ 0x55
            path.write_bytes(data)
            data[at] = before
            with suppress(MediaError):
                rgb(load_picture(path, upright=True))

    def test_nothing_of_a_file_is_quoted(self, tmp_path: Path) -> None:
        secret = b"password"
        contents = (secret, png(8, 8, chunk(secret[:4], b"x"))[:-3] + secret, b"BM" + secret * 9)
        for content in contents:
            (tmp_path / "a").write_bytes(content)
            error = refusal(tmp_path / "a")
            assert "pass" not in f"{error} {error.hint}"

    @pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "tiff"])
    def test_odd_metadata_is_nobodys_business(self, tmp_path: Path, kind: str) -> None:
        odd = b"Exif\0\0II*\0\x08\0\0\0\x02\0\x12\x01\x03\0\x09\0\0\0\xff\xff\xff\x7f"
        if kind == "tiff":
            data = bytearray(saved(format=kind, tiffinfo={305: "a program"}))
            at = data.index(struct.pack("<HHI", 305, 2, 10))
            data[at + 4 : at + 8] = b"\xff\xff\xff\x7f"  # its length
            (tmp_path / "a").write_bytes(data)
        else:
            drawn().save(tmp_path / "a", kind, exif=odd)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert load_picture(tmp_path / "a", upright=True).size == (24, 16)

    def test_another_thread_leaves_the_filters_of_warnings_alone(self, tmp_path: Path) -> None:
        drawn().save(tmp_path / "a.png")
        seen: list[object] = []

        class Watched(list[Any]):
            def insert(self, *given: Any) -> None:
                seen.append(given)

        with warnings.catch_warnings():
            warnings.filters = Watched(warnings.filters)
            thread = threading.Thread(target=load_picture, args=(tmp_path / "a.png",))
            thread.start()
            thread.join()
        assert seen == []


SPECIAL: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "folder": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("kind", SPECIAL)
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    SPECIAL[kind](tmp_path / "a.png")
    start = time.process_time()
    assert "a.png: is not a regular file" in str(refusal(tmp_path / "a.png"))
    assert time.process_time() - start < 5


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.png: no such file"):
        load_picture(tmp_path / "gone.png")
