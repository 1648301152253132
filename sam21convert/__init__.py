"""Convert SAM 2 and SAM 2.1 checkpoints between every form they come in, and prove it.

A checkpoint is given as a path, a published name (``sam2.1_hiera_tiny``), ``hf://org/repo`` or
``https://...``. Nothing in it is ever run. Every function returns a report: ``print`` it, look at
its fields, or call ``to_dict()``; ``report.exit_code`` is 0 for yes and 1 for no.

Look at a checkpoint, without torch:
    inspect                what the file is, and whether loading it with pickle would be safe
    inspect_all            the same for many files and folders, a line each
    safety                 whether loading a file of any kind would be safe
    validate               whether it loads strictly, and whether its values are sound
    diff                   what changed between two checkpoints

Convert it, without torch:
    convert                write it in another form
    batch                  convert many into one folder
    pull                   fetch it from the Hub or the web
    published_checkpoints  what is published, and what of it is on this machine
    sample                 a checkpoint with random weights, to try things on

Prove it, use it, publish it:
    parity                 whether two models compute the same, and where they part
    evaluate               how well a checkpoint tracks objects: J&F on a data set of videos
    score                  the same of masks that any program has written, without torch
    push                   publish a proven checkpoint on the Hugging Face Hub
    finetune               train it on your masks, prove the result and write it
    predict_image          masks of what points and boxes show in a picture
    predict_everything     masks of all that is in a picture
    predict_video          objects followed through a video; prompts are Point and Box
    export_onnx            a program for onnxruntime, Node and browsers, proved on this machine
    page                   a web page that runs an exported model in a browser

In memory:
    load_model             the model of this package with the weights of a checkpoint
    load_state_dict        torch tensors of a checkpoint, under the names of any package
    convert_state_dict     the same for tensors that are in memory already
    load_config            the settings of a model: a ModelConfig

Reports: Inspection, Inspections, Verdict, Validation, Difference, Conversion, BatchReport, Pulled,
Listing, Sample, Exported, Page, ParityReport, Evaluation, Finetuned, Publication, ImagePrediction,
VideoPrediction, Loading. Errors: Sam21ConvertError and below it UnreadableError, MissingFileError,
RefusedError, MismatchError, UsageError, MissingPackageError. ProgressBar shows long work, on a
terminal or in a notebook, and Progress is what to subclass to watch it otherwise.

The model itself, and the API of the official package, are in ``sam21convert.model``. Names are
loaded when they are first used, so that a program that only inspects files does not import torch.
"""

from __future__ import annotations

from ._version import __version__

# Nothing else is imported: until a command handles signals, Ctrl-C shows a traceback.
TYPE_CHECKING = False  # true for type checkers, as typing.TYPE_CHECKING is
if TYPE_CHECKING:
    from typing import Any

    from .checkpoint.diff.api import diff as diff
    from .checkpoint.diff.report import Difference as Difference
    from .checkpoint.inspect import Inspection as Inspection
    from .checkpoint.inspect import inspect as inspect
    from .checkpoint.inspect_all import Inspections as Inspections
    from .checkpoint.inspect_all import inspect_all as inspect_all
    from .checkpoint.safety.verdict import Verdict as Verdict
    from .checkpoint.safety.verdict import safety as safety
    from .checkpoint.validate import Validation as Validation
    from .checkpoint.validate import validate as validate
    from .comparison.api import parity as parity
    from .comparison.report import ParityReport as ParityReport
    from .config.load import load_config as load_config
    from .conversion.api import convert as convert
    from .conversion.report import Conversion as Conversion
    from .conversion.sample import Sample as Sample
    from .conversion.sample import sample as sample
    from .errors import MismatchError as MismatchError
    from .errors import MissingFileError as MissingFileError
    from .errors import MissingPackageError as MissingPackageError
    from .errors import RefusedError as RefusedError
    from .errors import Sam21ConvertError as Sam21ConvertError
    from .errors import UnreadableError as UnreadableError
    from .errors import UsageError as UsageError
    from .evaluation.api import evaluate as evaluate
    from .evaluation.api import score as score
    from .evaluation.report import Evaluation as Evaluation
    from .export.page.site import Page as Page
    from .export.page.site import page as page
    from .hub.listing import Listing as Listing
    from .hub.listing import published_checkpoints as published_checkpoints
    from .model.config import ModelConfig as ModelConfig
    from .prediction.everything import predict_everything as predict_everything
    from .prediction.image import ImagePrediction as ImagePrediction
    from .prediction.image import predict_image as predict_image
    from .prediction.load import Loading as Loading
    from .prediction.load import load_model as load_model
    from .prediction.prompts import Box as Box
    from .prediction.prompts import Point as Point
    from .prediction.state_dict import convert_state_dict as convert_state_dict
    from .prediction.state_dict import load_state_dict as load_state_dict
    from .prediction.video import VideoPrediction as VideoPrediction
    from .prediction.video import predict_video as predict_video
    from .progress import ProgressBar as ProgressBar
    from .report import Progress as Progress
    from .workflows.batch.api import batch as batch
    from .workflows.batch.report import BatchReport as BatchReport
    from .workflows.export_onnx import export_onnx as export_onnx
    from .workflows.exported import Exported as Exported
    from .workflows.finetune.api import finetune as finetune
    from .workflows.finetune.report import Finetuned as Finetuned
    from .workflows.publish.publication import Publication as Publication
    from .workflows.publish.push import push as push
    from .workflows.pull import Pulled as Pulled
    from .workflows.pull import pull as pull

_NAMES = {
    "checkpoint.diff.api": ("diff",),
    "checkpoint.diff.report": ("Difference",),
    "checkpoint.inspect": ("Inspection", "inspect"),
    "checkpoint.inspect_all": ("Inspections", "inspect_all"),
    "checkpoint.safety.verdict": ("Verdict", "safety"),
    "checkpoint.validate": ("Validation", "validate"),
    "comparison.api": ("parity",),
    "comparison.report": ("ParityReport",),
    "config.load": ("load_config",),
    "conversion.api": ("convert",),
    "conversion.report": ("Conversion",),
    "conversion.sample": ("Sample", "sample"),
    "errors": (
        "MismatchError",
        "MissingFileError",
        "MissingPackageError",
        "RefusedError",
        "Sam21ConvertError",
        "UnreadableError",
        "UsageError",
    ),
    "evaluation.api": ("evaluate", "score"),
    "evaluation.report": ("Evaluation",),
    "export.page.site": ("Page", "page"),
    "hub.listing": ("Listing", "published_checkpoints"),
    "model.config": ("ModelConfig",),
    "prediction.everything": ("predict_everything",),
    "prediction.image": ("ImagePrediction", "predict_image"),
    "prediction.load": ("Loading", "load_model"),
    "prediction.prompts": ("Box", "Point"),
    "prediction.state_dict": ("convert_state_dict", "load_state_dict"),
    "prediction.video": ("VideoPrediction", "predict_video"),
    "progress": ("ProgressBar",),
    "report": ("Progress",),
    "workflows.batch.api": ("batch",),
    "workflows.batch.report": ("BatchReport",),
    "workflows.export_onnx": ("export_onnx",),
    "workflows.exported": ("Exported",),
    "workflows.finetune.api": ("finetune",),
    "workflows.finetune.report": ("Finetuned",),
    "workflows.publish.publication": ("Publication",),
    "workflows.publish.push": ("push",),
    "workflows.pull": ("Pulled", "pull"),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}
__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    try:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    except ModuleNotFoundError as error:
        from .packages import explained

        raise explained(error, f"{__name__}.{name}") or error from None


def __dir__() -> list[str]:
    return sorted(__all__)
