#!/usr/bin/env bash
# sam2 1.1.0 keeps the memories of a video in bfloat16, whatever type it computes in. Under autocast to
# bfloat16 and without autocast its video predictor tracks; under autocast to float16, which is what GPUs
# without bfloat16 would be given, it answers for the frame with the prompt, and the first tracked frame
# is an error, as autocast does not concatenate bfloat16 with float16.
# Seen (torch 2.13.0 on a CPU, random weights, three frames):
#   float32   3 of 3 frames
#   bfloat16  3 of 3 frames
#   float16   1 of 3 frames: Unexpected floating ScalarType in at::autocast::prioritize
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 setuptools wheel
SAM2_BUILD_CUDA=0 "$folder/venv/bin/pip" install -q --no-build-isolation sam2==1.1.0 torch==2.13.0 numpy==2.4.6
cd "$folder"
venv/bin/python - 2>log <<'PYTHON' || { cat log >&2; exit 1; }
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sam2.build_sam import build_sam2_video_predictor

frames = Path("frames")
frames.mkdir()
for number in range(3):
    Image.fromarray(np.full((60, 80, 3), 60 * number, np.uint8)).save(frames / f"{number}.jpg")
torch.manual_seed(0)
predictor = build_sam2_video_predictor(
    "configs/sam2.1/sam2.1_hiera_t.yaml",
    None,
    device="cpu",
    hydra_overrides_extra=["++model.image_size=256"],
)


def tracked(dtype):
    done, said = 0, ""
    autocast = torch.autocast("cpu", dtype, enabled=dtype is not torch.float32)
    with torch.inference_mode(), autocast:
        state = predictor.init_state(str(frames))
        predictor.add_new_points_or_box(state, 0, 1, points=[[40, 30]], labels=[1])
        try:
            for _ in predictor.propagate_in_video(state):
                done += 1
        except RuntimeError as error:
            said = f": {str(error).splitlines()[0]}"
    return f"{done} of {len([*frames.iterdir()])} frames{said}"


seen = {name: tracked(getattr(torch, name)) for name in ("float32", "bfloat16", "float16")}
for name, answer in seen.items():
    print(f"{name:9} {answer}")
if [answer[:11] for answer in seen.values()] != ["3 of 3 fram", "3 of 3 fram", "1 of 3 fram"]:
    sys.exit("changed: another number of frames is tracked")
if "autocast::prioritize" not in seen["float16"]:
    sys.exit("changed: the error is another one")
PYTHON
