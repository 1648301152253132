#!/usr/bin/env bash
# PyAV 18.1.0 (its wheel brings FFmpeg 8.1.2 and x264): on processors with AVX-512 the same frames,
# encoded by libx264 with its defaults several times in one process, become different MP4 files,
# also with one thread. Films are valid, a few bytes longer or shorter, and decode to other pixels; so an
# overlay of masks cannot be compared with that of another run. It depends on the size: films 640, 1280
# or 1920 wide were the same each time, 96, 224 and 320 wide were not. Without macroblock trees
# (`mbtree=0`), without looking ahead, or with x264's AVX2 code (`asm=avx2`) they are always the same.
# Seen with AVX-512 (twelve films of each of three sizes; different files beyond one of each size):
#   5 by the defaults and 4 with one thread, 2 to 14 in other runs; 0 with mbtree=0 or asm=avx2
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q av==18.1.0 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'PYTHON'
import io
import pathlib

import av
import numpy as np

blocks = np.random.default_rng(0).integers(0, 256, (20, 32, 3), np.uint8)
picture = blocks.repeat(8, 0).repeat(8, 1)
generator = np.random.default_rng(1)


def film(width, height, options):
    """Eight frames that move by a pixel, between which a program makes other arrays."""
    file, arrays = io.BytesIO(), []
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=12, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for at in range(8):
            pixels = np.ascontiguousarray(picture[at : at + height, at : at + width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            arrays.append(np.full(generator.integers(1_000, 1_000_000), 17 * at, np.uint8))
        container.mux(stream.encode())
    return file.getvalue()


def others(options):
    films = [{film(*size, options) for _ in range(12)} for size in ((96, 72), (224, 64), (320, 96))]
    return sum(map(len, films)) - len(films)


if "avx512" not in pathlib.Path("/proc/cpuinfo").read_text():
    raise SystemExit("this needs a processor with AVX-512, on Linux")
settings = {}, {"threads": "1"}, {"mbtree": "0"}, {"x264-params": "asm=avx2"}
found = [others(options) for options in settings]
print(av.__version__, av.ffmpeg_version_info, *zip(settings, found))
assert all(found[:2]) and not any(found[2:])
PYTHON
