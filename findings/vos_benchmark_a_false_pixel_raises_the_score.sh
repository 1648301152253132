#!/usr/bin/env bash
# vos-benchmark 0.1.0 (whose rules SA-V's evaluator has): an object counts from the first frame on which
# the truth or the prediction shows it. Before it appears, both are empty, which is J = F = 1. So one false
# pixel on an early frame makes all frames from there on count, most of them as perfect: the score of a
# poor prediction rises, that of a good one falls.
# Seen (20 frames; the object is there from frame 11 on; J and F in percent):
#   poor prediction                   J 25.0   F 7.1
#   the same, a false pixel on 1      J 61.1   F 53.2
#   good prediction                   J 100.0   F 100.0
#   the same, a false pixel on 1      J 94.4   F 94.4
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q vos-benchmark==0.1.0 numpy==2.4.6 opencv-python==5.0.0.93 scikit-image==0.26.0
cd "$folder"
venv/bin/python - 2>log <<'PYTHON' || { cat log >&2; exit 1; }
import sys

import numpy as np
from vos_benchmark.evaluator import Evaluator

truth = np.zeros((20, 96, 160), np.uint8)
truth[11:, 30:60, 40:80] = 1
poor = np.zeros_like(truth)
poor[11:, 44:74, 50:90] = 1


def score(masks, false_pixel):
    masks = masks.copy()
    masks[1, 5, 5] = int(false_pixel)
    evaluator = Evaluator()
    for mask, true in list(zip(masks, truth))[1:-1]:  # the first and the last do not count
        evaluator.feed_frame(mask, true)
    j, f = evaluator.conclude()
    return round(float(j[1]), 1), round(float(f[1]), 1)


seen = []
for name, masks in (("poor prediction", poor), ("good prediction", truth)):
    for false_pixel in (False, True):
        seen.append(score(masks, false_pixel))
        label = "the same, a false pixel on 1" if false_pixel else name
        print(f"{label:33} J {seen[-1][0]}   F {seen[-1][1]}")
if seen != [(25.0, 7.1), (61.1, 53.2), (100.0, 100.0), (94.4, 94.4)]:
    sys.exit("changed: the scores are others than stated")
PYTHON
