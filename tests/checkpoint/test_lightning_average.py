"""Lightning's averaging callbacks put the average in the place of the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import sam21convert
from sam21convert.errors import RefusedError

from ..support.checkpoints import official_pt, state_dict


def check(saved: dict[str, Any], folder: Path, average: Path, trained: Path) -> None:
    torch.save(saved, folder / "epoch.ckpt")
    with pytest.raises(RefusedError, match="holds 2 SAM 2 state dicts") as caught:
        sam21convert.inspect(folder / "epoch.ckpt")
    for place in ("state_dict", "current_model_state"):
        assert f"weights={place})`" in str(caught.value.hint)
    for weights, place in (("ema", "state_dict"), ("model", "current_model_state")):
        found = sam21convert.inspect(folder / "epoch.ckpt", weights=weights)
        assert found.wrappers[0] == place
    pairs = [("ema", average), ("current_model_state", trained)]
    for weights, wanted in pairs:
        out = folder / f"{weights}.pt"
        sam21convert.convert(folder / "epoch.ckpt", out, weights=weights)
        assert sam21convert.diff(out, wanted).exit_code == 0


def test_ema_and_model_choose_rightly(tmp_path: Path) -> None:
    average, trained = state_dict(seed=1), state_dict(seed=2)
    saved = {
        "state_dict": {f"model.{name}": tensor for name, tensor in average.items()},
        "current_model_state": {f"model.{name}": tensor for name, tensor in trained.items()},
        "averaging_state": {"n_averaged": torch.tensor(3)},
        "epoch": 1,
    }
    one, other = tmp_path / "average.pt", tmp_path / "trained.pt"
    check(saved, tmp_path, official_pt(one, average), official_pt(other, trained))


def test_without_the_callback_the_state_dict_is_the_model(tmp_path: Path) -> None:
    trained = state_dict()
    saved = {"state_dict": {f"model.{name}": tensor for name, tensor in trained.items()}}
    torch.save(saved, tmp_path / "a.ckpt")
    assert sam21convert.inspect(tmp_path / "a.ckpt", weights="model").tensors == len(trained)
    with pytest.raises(RefusedError, match="no state dict for `weights=ema`"):
        sam21convert.inspect(tmp_path / "a.ckpt", weights="ema")


@pytest.mark.slow
def test_the_callback_itself_writes_it_so(tmp_path: Path) -> None:
    callbacks = pytest.importorskip("lightning.pytorch.callbacks")
    average, trained = state_dict(seed=1), state_dict(seed=2)
    model = torch.nn.Module()
    for name, tensor in trained.items():
        model.register_buffer(name.replace(".", "/"), tensor)
    callback = callbacks.WeightAveraging(avg_fn=lambda mean, _, __: mean)
    callback._average_model = torch.optim.swa_utils.AveragedModel(model)
    for name, tensor in average.items():
        callback._average_model.module.get_buffer(name.replace(".", "/")).copy_(tensor)
    saved: dict[str, Any] = {"state_dict": model.state_dict()}
    callback.on_save_checkpoint(None, model, saved)
    for key in ("state_dict", "current_model_state"):
        saved[key] = {f"m.{name.replace('/', '.')}": t for name, t in saved[key].items()}
    one, other = tmp_path / "average.pt", tmp_path / "trained.pt"
    check(saved, tmp_path, official_pt(one, average), official_pt(other, trained))
