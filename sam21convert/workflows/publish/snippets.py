"""Example programs for a model card. Each is complete.

Those for pictures use the photo of the repository and its prompts, if it has one; else they run
with a picture beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from textwrap import indent
from typing import Any

from ...dialects import HF_IMAGE, OFFICIAL
from ...io.markdown import literal
from ...prediction.prompts import Point, Prompted

PICTURE = "picture.jpg"
FRAMES = "frames"  # a folder of JPEGs
_PUBLISHED_SIZE = 1024
_LABELS = "1 on the object, 0 off it"
_ANY = Prompted([Point(210, 350)])


@dataclass(frozen=True)
class Subject:
    """What the programs segment.

    Attributes:
        repo_id: The repository of the model, ``namespace/name``.
        photo: The name of the picture in it; None for one beside the program.
        objects: The prompts of each object, by its name.
        candidates: Whether there are three masks of the only object.
    """

    repo_id: str
    photo: str | None = None
    objects: Mapping[str, Prompted] | None = None
    candidates: bool = True

    @property
    def several(self) -> bool:
        """Whether there are several objects."""
        return self.objects is not None and len(self.objects) > 1

    @property
    def only(self) -> Prompted:
        """The prompts of the only object."""
        return _ANY if self.objects is None else next(iter(self.objects.values()))

    @property
    def single(self) -> str:
        """The argument for one mask of each object, after a comma."""
        return "" if self.candidates else ", multimask_output=False"

    @property
    def count(self) -> int:
        """How many masks there are of an object."""
        return 3 if self.candidates else 1

    def opened(self) -> str:
        """Write how the picture is opened.

        Returns:
            An expression.
        """
        if self.photo is None:
            return f'Image.open("{PICTURE}").convert("RGB")'
        return f'Image.open(hf_hub_download({literal(self.repo_id)}, "{self.photo}"))'

    def imports(self) -> str:
        """Write the import that :meth:`opened` needs.

        Returns:
            A line, or nothing.
        """
        return "" if self.photo is None else "from huggingface_hub import hf_hub_download\n"


def loading(repo_id: str, dialect: str, revision: str | None) -> tuple[str, str]:
    """Two lines that load a model from its repository.

    Args:
        repo_id: The repository, ``namespace/name``.
        dialect: That of its main checkpoint.
        revision: A branch or commit; None for ``main``.

    Returns:
        Python source, an import and a call.
    """
    if dialect == OFFICIAL.name:
        source = f"hf://{repo_id}" + (f"@{revision}" if revision else "")
        return "from sam21convert import load_model", f"model, _ = load_model({literal(source)})"
    name = "Sam2Model" if dialect == HF_IMAGE.name else "Sam2VideoModel"
    more = f", revision={literal(revision)}" if revision else ""
    return (
        f"from transformers import {name}",
        f"model = {name}.from_pretrained({literal(repo_id)}{more})",
    )


def transformers_image(subject: Subject) -> str:
    """A program that gets masks from ``Sam2Model``.

    Args:
        subject: What is segmented.

    Returns:
        Python source.
    """
    count = subject.count
    program = f"""\
import torch
{subject.imports()}\
from PIL import Image
from transformers import Sam2Model, Sam2Processor

model = Sam2Model.from_pretrained({literal(subject.repo_id)})
processor = Sam2Processor.from_pretrained({literal(subject.repo_id)})
"""
    if not subject.several:
        given = _nested(subject.only)
        notes = {"input_points": "of each picture, of each object", "input_labels": _LABELS}
        lines = [
            f"    {name}={value},{f'  # {notes[name]}' if name in notes else ''}\n"
            for name, value in given.items()
        ]
        return f"""{program}\
inputs = processor(
    images={subject.opened()},
{"".join(lines)}\
    return_tensors="pt",
)
with torch.inference_mode():
    outputs = model(**inputs{subject.single})
sizes = inputs["original_sizes"]
masks = processor.post_process_masks(outputs.pred_masks, sizes)[0]  # objects x {count} x H x W
scores = outputs.iou_scores[0]  # objects x {count}
"""
    return f"""{program}\
image = {subject.opened()}
{_table(subject, _nested)}\
masks = {{}}
for name, prompts in objects.items():
    inputs = processor(images=image, **prompts, return_tensors="pt")
    with torch.inference_mode():
        outputs = model(**inputs, multimask_output=False)
    sizes = inputs["original_sizes"]
    masks[name] = processor.post_process_masks(outputs.pred_masks, sizes)[0][0, 0]  # H x W
"""


def transformers_video(repo_id: str) -> str:
    """A program that follows an object through a video with ``Sam2VideoModel``.

    Args:
        repo_id: The repository, ``namespace/name``.

    Returns:
        Python source.
    """
    return f"""\
from pathlib import Path

import torch
from PIL import Image
from transformers import Sam2VideoModel, Sam2VideoProcessor

model = Sam2VideoModel.from_pretrained({literal(repo_id)})
processor = Sam2VideoProcessor.from_pretrained({literal(repo_id)})
paths = sorted(Path("{FRAMES}").glob("*.jpg"))
session = processor.init_video_session(video=[Image.open(path) for path in paths])
processor.add_inputs_to_inference_session(
    session, frame_idx=0, obj_ids=1, input_points=[[[[210, 350]]]], input_labels=[[[1]]]
)
size = [session.video_height, session.video_width]
video = {{}}  # frame -> objects x 1 x H x W
with torch.inference_mode():
    model(session, frame_idx=0)
    for found in model.propagate_in_video_iterator(session):
        video[found.frame_idx] = processor.post_process_masks([found.pred_masks], [size])[0]
"""


def official_image(subject: Subject, checkpoint: str, config: str, image_size: int) -> str:
    """A program that uses the official ``SAM2ImagePredictor`` with the YAML of the repository.

    Args:
        subject: What is segmented.
        checkpoint: The name of the ``.pt`` in the repository.
        config: The name of the YAML in it.
        image_size: Side of the model's input in pixels. The official predictor assumes 1024, so for
            another size the program sets the sizes of the feature maps.

    Returns:
        Python source.
    """
    grid = image_size // 16
    sizes = ", ".join(f"({side}, {side})" for side in (4 * grid, 2 * grid, grid))
    resized = f"predictor._bb_feat_sizes = [{sizes}]  # of {image_size} pixels, not of 1024\n"
    names = ["*.pt", "*.yaml", *([] if subject.photo is None else [subject.photo])]
    patterns = ", ".join(f'"{name}"' for name in names)
    of_folder = f'Image.open(folder + "/{subject.photo}")'
    picture = subject.opened() if subject.photo is None else of_folder
    asked = indent(_asked(subject, arrays=True), "    ")
    return f"""\
import numpy as np
import torch
from huggingface_hub import snapshot_download
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from PIL import Image
from sam2.build_sam import build_sam2
from sam2.sam2_image_predictor import SAM2ImagePredictor

folder = snapshot_download({literal(subject.repo_id)}, allow_patterns=[{patterns}])
GlobalHydra.instance().clear()
initialize_config_dir(folder, version_base="1.2")
model = build_sam2({literal(config)}, folder + {literal("/" + checkpoint)}, device="cpu")
predictor = SAM2ImagePredictor(model)
{"" if image_size == _PUBLISHED_SIZE else resized}\
{_table(subject, _of_arrays) if subject.several else ""}\
with torch.inference_mode():
    predictor.set_image({picture})
{asked}"""


def own_image(subject: Subject) -> str:
    """A program that uses the predictor of this package, which has the official methods.

    Args:
        subject: What is segmented.

    Returns:
        Python source.
    """
    return f"""\
{subject.imports()}\
from PIL import Image
from sam21convert.model import SAM2ImagePredictor

predictor = SAM2ImagePredictor.from_pretrained({literal(subject.repo_id)}, device="cpu")
predictor.set_image({subject.opened()})
{_table(subject, _flat) if subject.several else ""}\
{_asked(subject, arrays=False)}"""


def javascript_image(repo_id: str, dtype: str) -> str:
    """A program that gets masks from the ``Sam2Model`` of transformers.js.

    Args:
        repo_id: The repository, ``namespace/name``.
        dtype: Which graphs it loads.

    Returns:
        JavaScript source, a module.
    """
    return f"""\
import {{ RawImage, Sam2Model, Sam2Processor }} from "@huggingface/transformers";

const model = await Sam2Model.from_pretrained({literal(repo_id)}, {{ dtype: "{dtype}" }});
const processor = await Sam2Processor.from_pretrained({literal(repo_id)});
const image = await RawImage.read("{PICTURE}");
const inputs = await processor(image, {{
  input_points: [[[[210, 350]]]], // of each picture, of each object
  input_labels: [[[1]]], // {_LABELS}
}});
const {{ pred_masks, iou_scores }} = await model(inputs);
const {{ original_sizes, reshaped_input_sizes }} = inputs;
const masks = await processor.post_process_masks(pred_masks, original_sizes, reshaped_input_sizes);
"""


def onnx_image(repo_id: str, variant: str) -> str:
    """A program that runs the graphs by onnxruntime.

    Args:
        repo_id: The repository, ``namespace/name``.
        variant: Which graphs.

    Returns:
        Python source.
    """
    which = "" if variant == "fp32" else f', variant="{variant}"'
    return f"""\
from huggingface_hub import snapshot_download
from PIL import Image
from sam21convert.export.runtime import OnnxImagePredictor, load

folder = snapshot_download({literal(repo_id)}, allow_patterns=["onnx/*"])
predictor = OnnxImagePredictor(load(folder{which}))
predictor.set_image(Image.open("{PICTURE}").convert("RGB"))
masks, scores, _ = predictor.predict([[210, 350]], [1])  # 3 x H x W
"""


def _asked(subject: Subject, *, arrays: bool) -> str:
    """The statement that asks a predictor with the official methods."""
    if subject.several:
        return """\
masks = {
    name: predictor.predict(**prompts, multimask_output=False)[0][0]  # H x W
    for name, prompts in objects.items()
}
"""
    given = (_of_arrays if arrays else _flat)(subject.only)
    words = [value if name != "box" else f"box={value}" for name, value in given.items()]
    count = f"# {subject.count} x H x W"
    return f"masks, scores, _ = predictor.predict({', '.join(words)}{subject.single})  {count}\n"


def _flat(prompted: Prompted) -> dict[str, str]:
    """Arguments of ``predict`` of one object, as Python source."""
    found: dict[str, Any] = {}
    if prompted.points:
        found["point_coords"] = [[*map(_number, point)] for point in prompted.coordinates or ()]
        found["point_labels"] = prompted.labels
    if prompted.corners is not None:
        found["box"] = [*map(_number, prompted.corners)]
    return {name: repr(value) for name, value in found.items()}


def _of_arrays(prompted: Prompted) -> dict[str, str]:
    return {name: f"np.array({value})" for name, value in _flat(prompted).items()}


def _nested(prompted: Prompted) -> dict[str, str]:
    """The same for a processor of transformers, which nests them by picture and object."""
    names = {"point_coords": "input_points", "point_labels": "input_labels", "box": "input_boxes"}
    return {names[name]: f"[[{value}]]" for name, value in _flat(prompted).items()}


def _table(subject: Subject, form: Callable[[Prompted], Mapping[str, str]]) -> str:
    """The prompts of several objects, as a dict."""
    lines = [f"objects = {{  # labels: {_LABELS}\n"]
    for name, prompted in (subject.objects or {}).items():
        given = ", ".join(f'"{key}": {value}' for key, value in form(prompted).items())
        lines.append(f'    "{name}": {{{given}}},\n')
    return "".join([*lines, "}\n"])


def _number(value: float) -> float:
    return int(value) if value == int(value) else value
