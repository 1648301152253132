"""Hints are commands that work: each is followed, as it is printed, where it was printed."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import sam21convert
from sam21convert.commands import shared
from sam21convert.commands.translate import as_options
from sam21convert.config.hydra_writer import to_hydra
from sam21convert.config.registry import shipped_config, tensors_of
from sam21convert.model.config import ModelConfig

from .commands.test_commands import run
from .support import tracked_masks as drawn
from .support.checkpoints import DEBUG, DEBUG_20, random_bits, state_dict
from .support.hints import Case, Site, commands_in, filled, sites
from .support.paths import PACKAGE, ROOT

MINE = "my model.safetensors"  # a name that a shell would split
OF_THE_MEMORY = "memory_attention.layers.0.self_attn.q_proj"
QKV = "image_encoder.trunk.blocks.0.attn.qkv"
Tensors = dict[str, torch.Tensor]


@cache
def _whole(config: str = DEBUG) -> Tensors:
    return state_dict(config)


def whole() -> Tensors:
    return dict(_whole())


def only(*starts: str) -> Tensors:
    return {name: tensor for name, tensor in whole().items() if name.startswith(starts)}


def saved(tensors: Mapping[str, Any], name: str = MINE) -> str:
    save_file(dict(tensors), name)
    return name


def plain() -> str:
    return saved(whole())


def other_size() -> ModelConfig:
    """A size that was never published."""
    config = shipped_config(DEBUG)
    first, second, third, last = config.trunk.stages
    return replace(config, trunk=replace(config.trunk, stages=(first, second, third + 1, last)))


def of_other_size(name: str = "own.safetensors") -> str:
    Path("own-size.yaml").write_text(to_hydra(other_size()))
    return str(random_bits(Path(name), tensors_of(other_size())))


def as_folder(name: str = "a folder", **options: Any) -> str:
    return str(sam21convert.convert("base.safetensors", name, **options).destination)


def image_model(name: str = "images.safetensors") -> str:
    return str(sam21convert.convert("base.safetensors", name, to="hf-image").destination)


def decoder() -> str:
    return saved(only("sam_mask_decoder."))


HEAD = {"cls_head.weight": torch.ones(2), "it.is.mine": torch.ones(2)}


def several() -> str:
    torch.save({"model": whole(), "my ema": whole()}, "two.pt")
    return "two.pt"


def folder_with(name: str) -> str:
    Path("runs").mkdir()
    shutil.move(name, "runs")
    return "runs"


def two_prefixes() -> str:
    both = {f"{p}.{n}": t for p in ("student", "the teacher") for n, t in whole().items()}
    torch.save(both, "both.pt")
    return "both.pt"


def adapter(name: str = "my lora", module: str = QKV, **settings: Any) -> str:
    """An adapter in the layout of PEFT."""
    shapes = tensors_of(other_size())
    rows, columns = shapes[f"{module}.weight"].shape
    folder = Path(name)
    folder.mkdir(parents=True)
    content = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["qkv"], **settings}
    (folder / "adapter_config.json").write_text(json.dumps(content))
    factors = {"A": torch.ones(2, columns), "B": torch.ones(rows, 2)}
    save_file(
        {f"base_model.model.{module}.lora_{k}.weight": v for k, v in factors.items()},
        folder / "adapter_model.safetensors",
    )
    return name


def lora_inside(name: str = MINE) -> str:
    """A state dict of PEFT around the trunk."""
    tensors = whole()
    rows, columns = tensors[f"{QKV}.weight"].shape
    for end in ("weight", "bias"):
        tensors[f"{QKV}.base_layer.{end}"] = tensors.pop(f"{QKV}.{end}")
    tensors[f"{QKV}.lora_A.default.weight"] = torch.ones(2, columns)
    tensors[f"{QKV}.lora_B.default.weight"] = torch.ones(rows, 2)
    return saved(tensors, name)


def samed() -> str:
    tensors = whole()
    rows, columns = tensors[f"{QKV}.weight"].shape
    for end in ("weight", "bias"):
        tensors[f"{QKV}.qkv.{end}"] = tensors.pop(f"{QKV}.{end}")
    for part in "qv":
        tensors[f"{QKV}.linear_a_{part}.weight"] = torch.ones(2, columns)
        tensors[f"{QKV}.linear_b_{part}.weight"] = torch.ones(rows // 3, 2)
    return saved(tensors)


def hq() -> str:
    return saved({**whole(), "sam_mask_decoder.hf_token.weight": torch.ones(1, 4)})


def picture(name: str = "scene.png") -> str:
    Image.new("RGB", (500, 400), (200, 40, 40)).save(name)
    return name


class Mine:
    """A class of the user's own, which a pickle calls."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Mine, ()


def with_a_class() -> str:
    torch.save({"model": whole(), "options": Mine()}, "mine.pt")
    return "mine.pt"


def small_types() -> str:
    return saved({name: tensor.to(torch.float8_e5m2) for name, tensor in whole().items()})


def small_part() -> str:
    part = {n: t.to(torch.float8_e5m2) for n, t in only("sam_mask_decoder.").items()}
    return saved(part)


def mixed_types() -> str:
    tensors = whole()
    name = "sam_prompt_encoder.point_embeddings.0.weight"
    return saved({**tensors, name: tensors[name].half()})


def too_large(kind: torch.dtype = torch.float32, value: float = 1e6) -> str:
    tensors = {name: tensor.to(kind) for name, tensor in whole().items()}
    tensors["no_mem_embed"] = torch.full_like(tensors["no_mem_embed"], value)
    return saved(tensors)


def with_a_head() -> str:
    """An adapter of PEFT with ``modules_to_save=["head"]``."""
    name = adapter("my lora")
    path = Path(name) / "adapter_model.safetensors"
    save_file({**load_file(path), "base_model.model.head.weight": torch.ones(2)}, path)
    return name


def two_yamls() -> str:
    for number, end in enumerate((".yaml", ".yml"), 2):
        config = replace(shipped_config(DEBUG), image_size=128 * number)
        Path(MINE).with_suffix(end).write_text(to_hydra(config))
    return plain()


def a_broken_yaml() -> str:
    Path(MINE).with_suffix(".yaml").write_text("model: {image_size: [")
    return plain()


def a_yaml_of_another_name() -> str:
    config = replace(shipped_config(DEBUG), image_size=256)
    Path("its config.yaml").write_text(to_hydra(config))
    return plain()


def official_names_in_a_folder() -> str:
    folder = as_folder()
    save_file(whole(), Path(folder) / "model.safetensors", {"format": "pt"})
    return folder


def pair_of_other_size() -> tuple[str, str]:
    own = of_other_size()
    sam21convert.convert(own, "hf.safetensors", to="hf-video", config="own-size.yaml")
    Path("hf.yaml").unlink()
    return own, "hf.safetensors"


def batch_of(*options: str) -> list[str]:
    plain()
    sam21convert.batch([MINE], "all")
    return ["batch", MINE, "--out", "all", *options]


def foreign_journal() -> str:
    Path("all").mkdir()
    Path("all/batch.json").write_text("[]")
    return plain()


def older(name: str = MINE) -> str:
    return saved(_whole(DEBUG_20), name)


def without_memory() -> str:
    return saved(only("image_encoder.", "sam_"))


def memory_of_sam21() -> str:
    return saved(only("image_encoder.", "memory_", "obj_ptr", "no_obj", "maskmem", "no_mem"))


def two_prefixes_twice() -> str:
    prefixed = {f"{prefix}.{name}": one for prefix in "ab" for name, one in whole().items()}
    torch.save({"one": prefixed, "the other": prefixed.copy()}, "four.pt")
    return "four.pt"


def two_adapters() -> str:
    adapter("my adapters/saved/one")
    adapter("my adapters/saved/two")
    return "my adapters"


def two_named_adapters() -> str:
    adapter("my adapters/one")
    adapter("my adapters/two")
    return "my adapters"


def two_checkpoints() -> str:
    Path("my run").mkdir()
    for name in ("best.pt", "the last.pt"):
        shutil.copy("base.safetensors", Path("my run", name))
    return "my run"


def two_steps() -> str:
    for step in (9, 10):
        Path("my run", f"checkpoint-{step}").mkdir(parents=True)
        shutil.copy("base.safetensors", Path("my run", f"checkpoint-{step}", "model.pt"))
    return "my run"


def own_folder() -> str:
    own = of_other_size()
    return str(sam21convert.convert(own, "own", config="own-size.yaml").destination)


def made_for_another_size() -> str:
    """An adapter of a layer that the debug model does not have, and its model."""
    own_folder()
    return adapter(module=QKV.replace(".0.", f".{sum(other_size().trunk.stages) - 1}."))


def trunk_of_other_width() -> str:
    config = shipped_config(DEBUG)
    wider = replace(config, trunk=replace(config.trunk, embed_dim=2 * config.trunk.embed_dim))
    Path("wider.yaml").write_text(to_hydra(wider))
    return str(random_bits(Path("wider.safetensors"), tensors_of(wider)))


def a_config() -> str:
    Path("settings.yaml").write_text(to_hydra(shipped_config(DEBUG)))
    return "settings.yaml"


def a_video() -> str:
    Path("frames").mkdir()
    for number in range(2):
        Image.new("RGB", (64, 48), (200, 40 * number, 40)).save(f"frames/{number}.jpg")
    return "frames"


def an_mp4() -> str:
    """The beginning of one; the video to follow is given as pictures."""
    a_video()
    Path("in.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(600))
    return "in.mp4"


BASE = {"CHECKPOINT": "base.safetensors"}


def data_set(listed: str = "equal", frames: int = drawn.FRAMES) -> str:
    """Two videos of DAVIS, one of which has as many frames, and masks of both."""
    for name, count in (("equal", drawn.FRAMES), ("other", frames)):
        for folder in ("davis/Annotations/480p", "masks"):
            drawn.write(Path(folder, name), drawn.cases()["equal"][0][:count])
    Path("davis/ImageSets/2017").mkdir(parents=True)
    Path("davis/ImageSets/2017/val.txt").write_text(listed)
    return "davis"


def late_object() -> str:
    """A video of DAVIS whose object is not on its first frame."""
    truth = drawn.cases()["equal"][0].copy()
    truth[0] = 0
    for folder in ("davis/Annotations/480p", "masks"):
        drawn.write(Path(folder, "late"), truth)
    Path("davis/ImageSets/2017").mkdir(parents=True)
    Path("davis/ImageSets/2017/val.txt").write_text("late")
    return "davis"


def objects_apart() -> str:
    """Two videos of SA-V; an object of one is on its first frame alone."""
    truth = drawn.cases()["first-only"][0]
    for name, objects in (("equal", [1]), ("other", [1, 2])):
        for folder in ("sav/Annotations_6fps", "masks"):
            drawn.write_apart(Path(folder, name), truth, objects)
    return "sav"


CASES: dict[str, Case] = {
    # What does not fit.
    "a part is validated": Case(lambda: ["validate", decoder()], BASE),
    "a part is converted": Case(lambda: ["convert", decoder(), "o.safetensors"], BASE),
    "official names in a folder": Case(lambda: ["validate", official_names_in_a_folder()]),
    "8 bits, validated": Case(lambda: ["validate", small_types()]),
    "8 bits, converted": Case(lambda: ["convert", small_types(), "o.safetensors"]),
    "8 bits, a part": Case(lambda: ["validate", small_part(), "--config", DEBUG], BASE),
    "a SAM 2.1 as SAM 2": Case(lambda: ["convert", plain(), "o.safetensors", "--config", DEBUG_20]),
    "a SAM 2 as SAM 2.1, converted": Case(
        lambda: ["convert", older(), "o.safetensors", "--config", DEBUG], exits=(0, 0)
    ),
    "another size": Case(
        lambda: ["validate", plain(), "--config", "sam2.1/sam2.1_hiera_t"],
    ),
    "no memory": Case(lambda: ["validate", without_memory()], BASE),
    "a head": Case(lambda: ["validate", saved({**whole(), **HEAD})]),
    "a head on a part": Case(
        lambda: ["validate", saved({**only("sam_mask_decoder.", "memory_"), **HEAD})], BASE
    ),
    "nothing to drop": Case(lambda: ["convert", plain(), "o.safetensors", "--drop", "nothing"]),
    "nothing to drop from one of several": Case(
        lambda: ["convert", several(), "o.safetensors", "--weights", "my ema", "--drop", "nothing"]
    ),
    "two of an unpublished size": Case(
        lambda: ["diff", *pair_of_other_size()], {"FILE": "own-size.yaml"}
    ),
    "two configs, inspected": Case(lambda: ["inspect", two_yamls()], exits=(0, 0)),
    "a broken config": Case(lambda: ["inspect", a_broken_yaml()]),
    "a config of another name": Case(
        lambda: ["convert", a_yaml_of_another_name(), "o.safetensors"],
        line="(.*beside it was not read.*)",
    ),
    "an unpublished size": Case(
        lambda: ["inspect", of_other_size()],
        {"FILE": "own-size.yaml"},
        line="(.*needs a config.*)",
    ),
    "settings that no tensor tells": Case(
        lambda: ["validate", plain()], {"FILE": DEBUG}, line="(.*no tensor tells them.*)"
    ),
    # Several state dicts.
    "several, inspected": Case(lambda: ["inspect", several()], exits=(0, 0)),
    "several, compared": Case(lambda: ["diff", several(), "base.safetensors"], exits=(0, 0)),
    "several, as the base": Case(
        lambda: ["convert", decoder(), "o.safetensors", "--base", several()], exits=(0, 0)
    ),
    "several, among others": Case(
        lambda: ["batch", folder_with(several()), "--out", "all"],
        line=" *hint: (.*)",
        exits=(0, 0),
    ),
    "two prefixes twice": Case(lambda: ["inspect", two_prefixes_twice()], exits=(0,) * 4),
    "one of several in parity": Case(
        lambda: ["convert", several(), "o.safetensors", "--weights", "my ema", "--parity"]
    ),
    # Adapters.
    "an adapter is inspected": Case(lambda: ["inspect", adapter()], BASE),
    "an adapter is converted": Case(lambda: ["convert", adapter(), "o.safetensors"], BASE),
    "an adapter for a file": Case(
        lambda: ["inspect", adapter(base_model_name_or_path=plain())],
    ),
    "an adapter as base": Case(
        lambda: ["convert", decoder(), "o.safetensors", "--base", adapter()], BASE
    ),
    "two adapters": Case(lambda: ["convert", two_adapters(), "o.pt"], BASE),
    "two named adapters": Case(
        lambda: ["convert", two_named_adapters(), "o.pt"], BASE, exits=(3, 3)
    ),
    "two checkpoints": Case(lambda: ["convert", two_checkpoints(), "o.pt"], exits=(0, 0)),
    "two steps": Case(lambda: ["convert", two_steps(), "o.safetensors"]),
    "an adapter of the memory": Case(
        lambda: [
            *("convert", adapter(module=OF_THE_MEMORY), "o", "--to", "hf-image"),
            *("--base", image_model()),
        ],
        BASE,
    ),
    "an adapter of another size": Case(
        lambda: ["convert", made_for_another_size(), "o.safetensors", "--base", "base.safetensors"],
        {"CHECKPOINT": "own"},
    ),
    "an adapter of another shape": Case(
        lambda: ["convert", adapter(), "o.safetensors", "--base", trunk_of_other_width()], BASE
    ),
    "an adapter with a head": Case(
        lambda: ["convert", with_a_head(), "o.safetensors", "--base", "base.safetensors"]
    ),
    "a folder of timm at another size": Case(
        lambda: ["convert", as_folder("trunk", to="timm", image_size=256), "out", "--to", "timm"],
        {"FILE": DEBUG},
        line="(.*input_size in.*)",
    ),
    "LoRA inside, inspected": Case(lambda: ["inspect", lora_inside()], line="(.*still inside.*)"),
    "LoRA inside, converted": Case(lambda: ["convert", lora_inside(), "o.safetensors"]),
    "LoRA inside, compared": Case(
        lambda: ["diff", lora_inside("it's.safetensors"), "base.safetensors"]
    ),
    "LoRA inside the base": Case(
        lambda: ["convert", decoder(), "o.safetensors", "--base", lora_inside("its.safetensors")]
    ),
    "LoRA of SAMed": Case(lambda: ["diff", samed(), "base.safetensors"]),
    "LoRA of SAMed, merged": Case(
        lambda: ["convert", samed(), "o.safetensors"],
        line="(.*if the training had an alpha.*)",
        values={"ALPHA": "4"},
    ),
    # The base.
    "an image model to a .pt": Case(lambda: ["convert", image_model(), "o.pt"], BASE, exits=(0, 2)),
    "an image model stays one": Case(
        lambda: ["convert", as_folder("images", to="hf-image"), "out"],
        BASE,
        line="(.*adds the memory.*)",
    ),
    "a base of another size": Case(
        lambda: ["convert", image_model(), "o.safetensors", "--base", own_folder()], BASE
    ),
    "a base of another generation": Case(
        lambda: ["convert", memory_of_sam21(), "o.safetensors", "--base", older("older.pt")], BASE
    ),
    "a base that lacks the same": Case(
        lambda: ["convert", decoder(), "o.safetensors", "--base", image_model()], BASE
    ),
    # What is to be written.
    "lossy": Case(lambda: ["convert", plain(), "o.safetensors", "--generation", "2.0"]),
    "lossless": Case(
        lambda: ["convert", older(), "o.safetensors", "--generation", "2.1", "--allow-lossy"],
    ),
    "a number too large for float16": Case(
        lambda: ["convert", too_large(), "o.safetensors", "--dtype", "float16"], exits=(0, 0)
    ),
    "a number too large for float32": Case(
        lambda: ["convert", too_large(torch.float64, 1e39), "o.safetensors", "--dtype", "float32"]
    ),
    "mixed types": Case(lambda: ["convert", mixed_types(), "a folder"]),
    "a debug model for ultralytics": Case(
        lambda: ["convert", plain(), "o.pt", "--to", "ultralytics"]
    ),
    "a dialect of folders": Case(lambda: ["convert", plain(), "o.pt", "--to", "hf-video"]),
    "an output that exists": Case(lambda: ["convert", plain(), "base.safetensors"]),
    "a device that is not there": Case(
        lambda: ["parity", *["base.safetensors"] * 2, "--scenarios", "point", "--device", "mps:9"]
    ),
    "a sample that exists": Case(lambda: ["sample", "base.safetensors", "--config", DEBUG]),
    "parity of HQ-SAM 2": Case(lambda: ["convert", hq(), "o.safetensors", "--drop-hq", "--parity"]),
    "parity of LoRA inside": Case(
        lambda: ["convert", samed(), "o.safetensors", "--parity"],
    ),
    "parity of a part": Case(
        lambda: ["convert", decoder(), "o.safetensors", "--base", "base.safetensors", "--parity"]
    ),
    "parity of an adapter": Case(
        lambda: ["convert", adapter(), "o.safetensors", "--base", "base.safetensors", "--parity"]
    ),
    "a batch that was made otherwise": Case(
        lambda: batch_of("--dtype", "float16"), line=".*(--overwrite replaces it.*)"
    ),
    "a batch elsewhere": Case(
        lambda: ["batch", foreign_journal(), "--out", "all"], {"FOLDER": "another"}
    ),
    # What is not a checkpoint, or not a harmless one.
    "HQ-SAM 2, inspected": Case(lambda: ["inspect", hq()]),
    "HQ-SAM 2, converted": Case(lambda: ["convert", hq(), "o.safetensors"]),
    "a class of one's own": Case(lambda: ["inspect", with_a_class()]),
    "a class in a batch": Case(
        lambda: ["batch", with_a_class(), "--out", "all"], line="warning: (.*)", exits=(1,)
    ),
    "a YAML": Case(lambda: ["inspect", a_config()], {"FILE": "settings.yaml", **BASE}),
    "a picture": Case(lambda: ["inspect", picture()], {"FILE": "scene.png", "X,Y": "9,9", **BASE}),
    "a video": Case(lambda: ["inspect", an_mp4()], {"FILE": "frames", "X,Y": "9,9", **BASE}),
    "a misspelt file": Case(lambda: ["inspect", "bsae.safetensors"]),
    "two files spelt alike": Case(
        lambda: ["inspect", saved(whole(), "bare.safetensors").replace("r", "z")], exits=(0, 0)
    ),
    "a source of no name": Case(lambda: ["inspect", "sam3"]),
    "a path is pulled": Case(lambda: ["pull", plain()]),
    # Scores.
    "a data set without a checkpoint": Case(lambda: ["evaluate", data_set()], {"MASKS": "masks"}),
    "a checkpoint beside masks": Case(
        lambda: ["evaluate", "--score", "masks", "base.safetensors", data_set()]
    ),
    "a list with a video that is not there": Case(
        lambda: ["evaluate", "--score", "masks", data_set("equal\nbear")], {"NAMES": "equal"}
    ),
    "a video of two frames": Case(
        lambda: ["evaluate", "--score", "masks", data_set("equal\nother", 2)],
        {"NAMES": "equal"},
        line="  hint: (.*)",
    ),
    "an object that appears later": Case(lambda: ["evaluate", "--score", "masks", late_object()]),
    "an object that does not count": Case(
        lambda: ["evaluate", "--score", "masks", objects_apart()],
        {"NAMES": "equal"},
        line="  hint: (.*)",
    ),
    # Prediction.
    "no prompt": Case(
        lambda: [
            "predict",
            "image",
            picture(),
            "--checkpoint",
            "base.safetensors",
            "-o",
            "out.png",
        ],
        exits=(0, 0),
    ),
    "candidates of two": Case(
        lambda: [
            *("predict", "image", picture(), "--checkpoint", "base.safetensors", "-o", "out.png"),
            *("--point", "a:1,1", "--point", "b:9,9", "--multimask"),
        ]
    ),
    "a video with an image model": Case(
        lambda: [
            *("predict", "video", a_video(), "--checkpoint", image_model(), "--point", "9,9"),
            *("-o", "drawn"),
        ],
        BASE,
    ),
}


# What is not followed here, by where it stands and a part of it: why, or the test that follows it.
NETWORK, FAULT, NO_HINT = "needs the Hub", "only a fault of this package leads there", "is no hint"
THEIRS = "is for the program that has the model, or for a shell"
MISSING = "tests/test_light.py::test_what_needs_more_says_so_soon"
GIVEN_TOGETHER = (
    "tests/workflows/test_example.py::"
    "test_what_does_not_go_together_is_told_before_anything_is_done"
)
PROPOSED = "tests/workflows/test_proposals.py::test_each_proposal_is_followed_as_it_is_printed"
IN_PYTHON = "tests/conversion/test_lora_settings.py::test_the_ways_out_of_a_refusal_lead_out"
EARLY = (
    "tests/workflows/test_push.py::test_what_the_hub_refuses_is_told_before_anything_is_computed"
)
EXEMPT: Mapping[tuple[str, str], str] = {
    ("checkpoint/diff/report.py", "more with --json"): NO_HINT,
    ("checkpoint/tree.py", "deeper lines with --json"): NO_HINT,
    ("checkpoint/open.py", "ask for the checkpoint alone"): NETWORK,
    ("checkpoint/quantised.py", "sam21convert pull"): NETWORK,
    ("checkpoint/safety/folder.py", "sam21convert pull"): NETWORK,
    ("checkpoint/lora_names.py", "set_adapter"): THEIRS,
    ("checkpoint/lora_settings.py", "PeftModel.from_pretrained"): IN_PYTHON,
    ("checkpoint/lora_settings.py", "in the program that trained it"): IN_PYTHON,
    ("checkpoint/quantised.py", "run: python -c"): (
        "tests/checkpoint/test_quantised.py::test_the_way_out_of_torchao_works"
    ),
    ("checkpoint/quantised.py", "get_model_state_dict"): THEIRS,
    ("commands/main.py", "--help shows the usage"): (
        "tests/commands/test_ending.py::test_wrong_usage_is_an_error_like_any_other"
    ),
    ("packages.py", "pip install"): (
        "tests/test_light.py::test_a_real_one_is_small_and_its_hint_adds_what_is_missing"
    ),
    ("packages.py", "python -c"): THEIRS,
    ("packages.py", "wsl --install"): THEIRS,
    ("checkpoint/diff/plot.py", "`plot`"): MISSING,
    ("commands/diff.py", "`plot`"): MISSING,
    ("commands/convert.py", "`evaluate`"): MISSING,
    ("workflows/finetune/api.py", "`resume=True`"): (
        "tests/workflows/test_finetune.py::test_a_stopped_run_goes_on_to_the_same_bits"
    ),
    ("workflows/finetune/run.py", "`resume=True`"): (
        "tests/workflows/test_finetune.py::test_a_stopped_run_goes_on_to_the_same_bits"
    ),
    ("workflows/finetune/data.py", "`"): (
        "tests/workflows/test_finetune_data.py::test_what_a_hint_asks_for_is_taken"
    ),
    ("workflows/finetune/processes.py", "accelerate launch"): THEIRS,
    ("workflows/publish/app_space.py", "RUN pip install"): NO_HINT,
    ("workflows/publish/needs.py", "`app_space`"): MISSING,
    ("workflows/publish/needs.py", "`evaluate`"): MISSING,
    ("workflows/publish/needs.py", "`with_onnx`"): MISSING,
    ("workflows/publish/needs.py", "scenarios=none"): (
        "tests/test_light.py::test_a_plain_install_does_all_that_runs_no_model"
    ),
    ("io/data/cast.py", "merge_and_unload"): IN_PYTHON,
    ("io/open.py", "sam21convert pull"): (
        "tests/hub/test_remote.py::test_graphs_are_to_be_downloaded"
    ),
    ("io/sharded_by_process.py", "python -c"): (
        "tests/io/test_sharded_by_process.py::"
        "test_columns_are_refused_and_the_hint_puts_them_together"
    ),
    ("io/torch_distributed.py", "dcp_to_torch"): (
        "tests/io/test_torch_distributed.py::"
        "test_columns_are_refused_and_the_hint_puts_them_together"
    ),
    ("io/unsupported.py", "with torch.save"): THEIRS,
    ("prediction/backends/transformers_load.py", "sam21convert validate"): (
        "tests/comparison/test_transformers.py::test_a_tensor_of_another_shape_is_an_error"
    ),
    ("comparison/explain/diagnosis.py", "no tensor shows the image size"): NO_HINT,
    ("comparison/explain/known_differences.py", "writes both copies"): NO_HINT,
    ("commands/convert.py", "to=onnx"): (
        "tests/export/test_export.py::test_options_of_graphs_are_for_graphs"
    ),
    ("conversion/target.py", "to=onnx"): (
        "tests/export/test_export.py::test_whoever_asks_convert_for_it_is_shown_the_way"
    ),
    ("export/runtime/model.py", "--with-video"): (
        "tests/export/test_export.py::test_what_has_no_graph_is_not_run"
    ),
    ("io/onnx.py", "--to onnx"): "tests/export/test_export.py::test_operators_that_are_not_of_onnx",
    ("workflows/export_onnx.py", "to=onnx"): MISSING,
    (
        "workflows/export_onnx.py",
        "`variants`",
    ): "tests/export/test_export.py::test_what_cannot_be_is_refused_at_once",
    ("workflows/export_onnx.py", "call_of"): (
        "tests/export/test_export.py::test_weights_that_are_not_finite_are_refused"
    ),
    ("workflows/export_onnx.py", "give `base`"): (
        "tests/export/test_export.py::test_an_image_model_has_no_videos"
    ),
    ("evaluation/api.py", "`ray`"): MISSING,
    ("evaluation/cluster.py", "ray start --head"): THEIRS,
    ("evaluation/journal.py", "`overwrite=True`"): (
        "tests/evaluation/test_many.py::test_is_begun_anew_with_overwrite"
    ),
    ("evaluation/processes.py", "try fewer `jobs`"): (
        "tests/evaluation/test_many.py::test_processes_that_are_killed_as_memory_is_short"
    ),
    ("commands/predict.py", "leave --runtime and --variant out"): (
        "tests/export/test_predict.py::test_everything_is_for_torch"
    ),
    ("prediction/predictors.py", "call_of"): (
        "tests/export/test_predict.py::test_what_is_no_export"
    ),
    ("prediction/predictors.py", "--with-video"): (
        "tests/export/test_predict.py::test_an_export_for_pictures_tells_what_it_lacks"
    ),
    ("prediction/predictors.py", "multimask=True"): (
        "tests/export/test_predict.py::test_an_export_for_pictures_tells_what_it_lacks"
    ),
    ("prediction/predictors.py", "--image-size"): (
        "tests/export/test_predict.py::test_what_contradicts_an_export"
    ),
    ("export/page/folders.py", "to=onnx"): (
        "tests/export/test_page.py::test_a_checkpoint_and_the_way_out"
    ),
    ("export/page/runtime.py", "`cdn=True`"): "tests/export/test_page.py::test_there_is_no_npm",
    ("export/page/runtime.py", "leave `runtime` out"): (
        "tests/export/test_page.py::test_it_comes_from_npm_and_is_checked"
    ),
    ("export/page/site.py", "http.server"): NO_HINT,
    ("export/runtime/model.py", "variant={one}"): (
        "tests/export/test_runtime_alone.py::test_files_that_are_missing"
    ),
    ("workflows/publish/allowed.py", "propose the change"): EARLY,
    ("workflows/publish/allowed.py", "license=apache-2.0"): EARLY,
    ("hub/errors.py", "propose the change"): (
        "tests/workflows/test_push.py::test_who_may_not_write_is_told_so"
    ),
    ("hub/resolve.py", "downloads it"): NETWORK,
    ("hub/remote.py", "sam21convert pull"): (
        "tests/hub/test_remote.py::test_a_published_size_costs_kilobytes"
    ),
    ("io/tensor.py", "leave `to` out"): (
        "tests/io/test_torch_distributed.py::"
        "test_pieces_are_split_for_another_dialect_but_not_transposed"
    ),
    ("workflows/convert_and_compare.py", "nothing was written"): FAULT,
    ("io/tensor.py", "PLAIN.safetensors"): (
        "tests/io/test_torch_distributed.py::"
        "test_pieces_are_split_for_another_dialect_but_not_transposed"
    ),
    ("workflows/demo.py", "sam21convert demo"): (
        "tests/workflows/test_demo.py::test_every_step_is_taken_and_told"
    ),
    ("workflows/publish/manifest.py", "propose the change"): (
        "tests/workflows/test_replace.py::test_a_repository_of_a_later_version_is_left_alone"
    ),
    ("workflows/publish/graphs.py", "add `with_official=True`"): (
        "tests/export/test_publish.py::test_they_go_with_a_folder_for_transformers"
    ),
    ("workflows/publish/space.py", "`with_onnx=True`"): (
        "tests/export/test_publish.py::test_requests_that_cannot_be"
    ),
    ("workflows/publish/space.py", "`page_space=NAMESPACE/NAME`"): (
        "tests/export/test_publish.py::test_requests_that_cannot_be"
    ),
    ("workflows/publish/push.py", "gives one"): GIVEN_TOGETHER,
    ("workflows/publish/push.py", "leave `scenarios=none` out"): GIVEN_TOGETHER,
    ("workflows/publish/push.py", "uploads nothing"): (
        "tests/workflows/test_push.py::test_only_a_dry_run_writes_to_a_new_folder"
    ),
    ("workflows/publish/present.py", "it is created"): (
        "tests/workflows/test_push.py::test_a_repository_is_created_and_holds_what_was_composed"
    ),
    ("workflows/publish/replace.py", "proposes the change"): (
        "tests/workflows/test_push.py::test_what_is_ours_is_known_by_its_hash"
    ),
    ("workflows/publish/proposals.py", "base_model="): PROPOSED,
    ("workflows/publish/proposals.py", "license="): PROPOSED,
    ("workflows/publish/proof.py", "the written files"): FAULT,
    ("workflows/publish/proof.py", "call_of"): FAULT,
    ("workflows/publish/proof.py", "sam21convert parity"): FAULT,
    ("workflows/publish/repository.py", "a drawn scene"): GIVEN_TOGETHER,
}


class Followed(NamedTuple):
    """What happened: what the library said, and the codes of the commands in the hint."""

    said: str
    hint: str
    codes: list[int]


_DONE: dict[str, Followed] = {}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole model. Outputs take the place of a name, so that all cases can share the file."""
    return Path(saved(whole(), str(tmp_path_factory.mktemp("base") / "base.safetensors")))


@pytest.fixture
def follow(
    tmp_path_factory: pytest.TempPathFactory, base: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Followed]:
    """Bring a case about and follow its hint, once."""

    def case_of(name: str) -> Followed:
        if name not in _DONE:
            monkeypatch.chdir(tmp_path_factory.mktemp("case"))
            _DONE[name] = _follow(CASES[name], base, monkeypatch)
        return _DONE[name]

    return case_of


def _follow(case: Case, base: Path, monkeypatch: pytest.MonkeyPatch) -> Followed:
    said: list[str] = []

    def heard(text: str, **options: Any) -> str:
        said.append(text)
        return as_options(text, **options)

    monkeypatch.setattr(shared, "as_options", heard)
    monkeypatch.setattr(os, "fsync", lambda _: None)  # nothing here has to outlive the machine
    Path("base.safetensors").hardlink_to(base)
    failed = list(case.make())
    there = set(os.listdir())
    result = run(*failed)
    _clear(there)
    lines = [re.fullmatch(case.line, line) for line in result.output.splitlines()]
    hints = [found[1] for found in lines if found]
    assert hints, result.output
    text = "\n".join(said)
    codes = []
    named = list(commands_in(hints[0], failed))
    for number, arguments in enumerate(named):
        again = run(*filled(arguments, case.values, number))
        assert again.exit_code == 0 or again.output != result.output
        codes.append(again.exit_code)
        _clear(there)
    return Followed(text, hints[0], codes)


def _clear(kept: set[str]) -> None:
    """Remove what a command wrote."""
    for name in set(os.listdir()) - kept:
        if Path(name).is_dir():
            shutil.rmtree(name)
        else:
            Path(name).unlink()


@pytest.mark.parametrize("name", CASES)
def test_the_hint_is_a_command_that_works(name: str, follow: Callable[[str], Followed]) -> None:
    done = follow(name)
    assert tuple(done.codes) == CASES[name].exits, done.hint


def test_every_text_that_names_a_command_is_followed(follow: Callable[[str], Followed]) -> None:
    said = "\n".join({line for name in CASES for line in follow(name).said.splitlines()})
    left = [site for site in sites(PACKAGE) if not site.pattern.search(said)]
    assert left, "the negative control: some are exempt"
    unknown = [site for site in left if not any(_is(site, one) for one in EXEMPT)]
    assert [f"{site.where}: {site.text}" for site in unknown] == []
    assert [one for one in EXEMPT if not any(_is(site, one) for site in left)] == []


def _is(site: Site, exempt: tuple[str, str]) -> bool:
    return site.where == exempt[0] and exempt[1] in site.text


@pytest.mark.parametrize("test", sorted(one for one in set(EXEMPT.values()) if "::" in one))
def test_what_is_not_followed_here_is_tested_elsewhere(test: str) -> None:
    file, _, name = test.partition("::")
    assert f"def {name}(" in (ROOT / file).read_text()
