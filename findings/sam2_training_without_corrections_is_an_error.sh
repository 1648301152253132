#!/usr/bin/env bash
# The training code of sam2 1.1.0 cannot be told to train on first prompts alone. With points or boxes as
# prompts (prob_to_use_pt_input_for_train, 0.5 in the shipped config of a fine-tuning),
# num_correction_pt_per_frame: 0 is accepted when the model is built, and the first step ends in an
# UnboundLocalError: the outputs of a corrected frame are those of its last correction. Batches whose
# prompts are masks are trained, so with a probability between 0 and 1 it stops at the first that is not.
# num_frames_to_correct_for_train: 0 is no way either: it is refused, as it must not be less than the
# number of first frames. One correction is the least.
# Seen (torch 2.13.0 on a CPU, the shipped config at 128 pixels, random weights, a clip of two frames):
#   points, 7 corrections: 2 frames
#   points, 1 corrections: 2 frames
#   points, 0 corrections: UnboundLocalError
#   masks, 7 corrections: 2 frames
#   masks, 1 corrections: 2 frames
#   masks, 0 corrections: 2 frames
#   points, 0 frames to correct: InstantiationException
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 setuptools==81.0.0 wheel==0.47.0
SAM2_BUILD_CUDA=0 "$folder/venv/bin/pip" install -q --no-build-isolation sam2==1.1.0 torch==2.13.0 \
    numpy==2.4.6 tensordict==0.15.3 tensorboard==2.21.0 fvcore==0.1.5.post20221221
cat > "$folder/look.py" <<'PYTHON'
import sys
from pathlib import Path

import sam2
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from training.utils.data_utils import BatchedVideoDatapoint, BatchedVideoMetaData
from training.utils.train_utils import register_omegaconf_resolvers

SIZE, FRAMES = 128, 2
register_omegaconf_resolvers()
folder = Path(sam2.__file__).parent / "configs" / "sam2.1_training"
config = OmegaConf.load(folder / "sam2.1_hiera_b+_MOSE_finetune.yaml")
config.scratch.resolution = SIZE
torch.manual_seed(0)
masks = torch.zeros(FRAMES, 1, SIZE, SIZE, dtype=torch.bool)
masks[..., 30:90, 40:100] = True
clip = BatchedVideoDatapoint(
    img_batch=torch.rand(FRAMES, 1, 3, SIZE, SIZE),
    obj_to_frame_idx=torch.tensor([[[0, 0]], [[1, 0]]]),
    masks=masks,
    metadata=BatchedVideoMetaData(
        unique_objects_identifier=torch.zeros(FRAMES, 1, 3, dtype=torch.long),
        frame_orig_size=torch.full((FRAMES, 1, 2), SIZE),
        batch_size=[FRAMES],
    ),
    dict_key="clip",
    batch_size=[FRAMES],
)


def step(**options):
    """What a step with a config comes to, up to its outputs."""
    config.trainer.model.update(options)
    try:
        return f"{len(instantiate(config.trainer.model).train()(clip))} frames"
    except Exception as error:
        return type(error).__name__


for prompts, share in (("points", 1.0), ("masks", 0.0)):
    for number in (7, 1, 0):
        found = step(
            prob_to_use_pt_input_for_train=share, num_correction_pt_per_frame=number
        )
        print(f"{prompts}, {number} corrections: {found}")
found = step(prob_to_use_pt_input_for_train=1.0, num_frames_to_correct_for_train=0)
print(f"points, 0 frames to correct: {found}")
PYTHON
(cd "$folder" && venv/bin/python look.py 2>log >seen) || { cat "$folder/log" >&2; exit 1; }
cat "$folder/seen"
sed -n 's/^#   //p' "$0" | diff - "$folder/seen" || {
    echo "changed: other output than stated" >&2
    exit 1
}
