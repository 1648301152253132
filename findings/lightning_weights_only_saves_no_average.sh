#!/usr/bin/env bash
# Lightning 2.6.6: with a WeightAveraging or EMAWeightAveraging callback, `state_dict` in a
# checkpoint of the training is the average, unless ModelCheckpoint has `save_weights_only=True`:
# then it is the weights of the last step, the average is in no file, and nothing tells so. A file
# that Trainer.save_checkpoint(weights_only=True) writes after the training holds the average again.
# Whoever converts such a file cannot know which of the two it has: keys and names are the same.
# Seen, with torch 2.13.0 (one training, all files of its step 8):
#   whole checkpoint          state_dict is the average; current_model_state is the trained weights
#   save_weights_only=True    state_dict is the trained weights
#   weights only, afterwards  state_dict is the average
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export CUDA_VISIBLE_DEVICES=""
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 lightning==2.6.6
cd "$folder"
venv/bin/python - <<'PYTHON'
import logging
import sys
import warnings

import lightning
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint

warnings.simplefilter("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Module(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def training_step(self, batch, _):
        return self.layer(batch).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def on_train_batch_end(self, *_):
        self.trained = self.layer.weight.detach().clone()


torch.manual_seed(0)
module = Module()
keep = dict(dirpath=".", save_top_k=-1, save_on_train_epoch_end=False)
trainer = lightning.Trainer(
    accelerator="cpu",
    devices=1,
    max_steps=8,
    logger=False,
    enable_progress_bar=False,
    enable_model_summary=False,
    callbacks=[
        EMAWeightAveraging(decay=0.9),
        ModelCheckpoint(filename="whole-{step}", every_n_train_steps=8, **keep),
        ModelCheckpoint(
            filename="small-{step}", every_n_train_steps=4, save_weights_only=True, **keep
        ),
    ],
)
trainer.fit(module, torch.utils.data.DataLoader(torch.randn(32, 4), batch_size=4))
trainer.save_checkpoint("after.ckpt", weights_only=True)

# After fit, Lightning leaves the average in the module.
known = {"the trained weights": module.trained, "the average": module.layer.weight.detach()}


def told(file):
    saved = torch.load(file)
    found = []
    for key in ("state_dict", "current_model_state"):
        if key in saved:
            weight = saved[key]["layer.weight"]
            found.append([key, *(name for name, one in known.items() if torch.equal(weight, one))])
    return saved["global_step"], found


files = {
    "whole checkpoint": "whole-step=8.ckpt",
    "save_weights_only=True": "small-step=8.ckpt",
    "weights only, afterwards": "after.ckpt",
}
seen = {what: told(file) for what, file in files.items()}
for what, (_, found) in seen.items():
    print(f"{what:25}", "; ".join(" is ".join(pair) for pair in found))
average, trained = ["state_dict", "the average"], ["state_dict", "the trained weights"]
current = ["current_model_state", "the trained weights"]
if [*seen.values()] != [(8, [average, current]), (8, [trained]), (8, [average])]:
    sys.exit("changed: these files hold other weights than stated")
PYTHON
