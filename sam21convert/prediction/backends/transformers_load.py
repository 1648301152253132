"""Load a folder as transformers does, and note what transformers does with the tensors."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ...checkpoint.identify import identify
from ...checkpoint.open import Checkpoint
from ...config.plain_yaml import naming
from ...config.transformers import ModelType, model_type
from ...config.transformers_folder import side_files
from ...errors import UnreadableError, UsageError
from ...io.folding import fold
from ...io.output.temporary import temporary_folder
from ...io.source import CONFIG
from ...io.text import read_json
from ...model.config import ModelConfig
from ...packages import install, member, module, titled
from ..load import with_image_size

PACKAGE = "transformers"
_SILENT = 50  # logging.CRITICAL


class Loaded(NamedTuple):
    """The models of a folder. They share their tensors.

    Attributes:
        image: The ``Sam2Model``.
        video: The ``Sam2VideoModel``; None for a folder of an image model.
        processor: The processor of the models.
        notes: What loading did beyond loading.
    """

    image: Any
    video: Any
    processor: Any
    notes: tuple[str, ...]


@contextmanager
def quiet() -> Iterator[None]:
    """A context in which transformers prints nothing: no logs, warnings or progress bars.

    Yields:
        Nothing.
    """
    logging = module("transformers.utils.logging")
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.callback(logging.set_verbosity, logging.get_verbosity())
        logging.set_verbosity(_SILENT)
        if logging.is_progress_bar_enabled():
            stack.callback(logging.enable_progress_bar)
            logging.disable_progress_bar()
        yield


def load_as_described(
    folder: Path, opened: Checkpoint, image_size: int | None, device: str
) -> tuple[Loaded, ModelConfig]:
    """Load a folder as the ``config.json`` in it describes it, in float32.

    Args:
        folder: A transformers folder.
        opened: The same, opened as a checkpoint.
        image_size: Side of the model's input in pixels; None for what the folder says.
        device: Device to run on.

    Returns:
        The models, and the config that they were built for.

    Raises:
        UnreadableError: When transformers does not load the folder.
        UsageError: When transformers, or a package that it needs, is not installed.
    """
    content = read_json(folder / CONFIG)
    with naming(folder / CONFIG):
        kind = model_type(content)
    config = with_image_size(image_size)(identify(opened).model_config)
    return load_folder(folder, kind, config, device, resized=image_size is not None), config


def load_folder(
    folder: Path, kind: ModelType, config: ModelConfig, device: str, *, resized: bool
) -> Loaded:
    """Load a folder with ``from_pretrained`` in float32, without any access to the network.

    Args:
        folder: A transformers folder.
        kind: The ``model_type`` of its ``config.json``.
        config: What its ``config.json`` says, with the image size to use.
        device: Device to run on.
        resized: Whether the image size of ``config`` replaces that of the folder.

    Returns:
        Copies of the models in the main memory or on the device, and notes for what was not loaded
        as is.

    Raises:
        UnreadableError: When transformers does not load the folder.
        UsageError: When transformers, or a package that it needs, is not installed.
    """
    size = config.image_size if resized else None
    with quiet():
        image, missing, notes = _model("Sam2Model", folder, size)
        video = None
        if kind == "sam2_video":
            video, more_missing, more_notes = _model("Sam2VideoModel", folder, size)
            video = _in_own_memory(video).to(device)
            missing |= more_missing
            notes += more_notes + _share(image.to(device), video, missing)
        else:
            image = _in_own_memory(image).to(device)
        processor, more_notes = _processor(folder, kind, config, size)
    return Loaded(image, video, processor, tuple(dict.fromkeys(notes + more_notes)))


def tie(models: tuple[Any, ...], copies: Mapping[str, str]) -> None:
    """Make equal copies of a tensor one tensor, so that writing to it changes both.

    Copies that are not equal stay separate.

    Args:
        models: Models that have the tensors.
        copies: By dotted name of a copy, the name of the tensor that it copies.
    """
    for model in models:
        for name, of in copies.items():
            one, other = attrgetter(name)(model), attrgetter(of)(model)
            if torch.equal(one, other):
                owner, _, last = name.rpartition(".")
                setattr(model.get_submodule(owner), last, other)


def _model(name: str, folder: Path, size: int | None) -> tuple[Any, set[str], tuple[str, ...]]:
    """A model, the names of tensors with random values, and notes.

    Weights are mapped from the file and may lie at any address, and kernels round differently by
    alignment. So they must be copied before the model is run.
    """
    kind = member(PACKAGE, name)
    with _explained(folder):
        options = {}
        if size is not None:
            options["config"] = kind.config_class.from_pretrained(folder, local_files_only=True)
            _resize(options["config"], size)
        model, info = kind.from_pretrained(
            folder,
            output_loading_info=True,
            local_files_only=True,
            use_safetensors=True,  # never a pickle
            dtype=torch.float32,
            **options,
        )
    # Depending on the version, mismatched keys come with their shapes.
    mismatched = {key if isinstance(key, str) else key[0] for key in info["mismatched_keys"]}
    missing, unexpected = set(info["missing_keys"]), set(info["unexpected_keys"])
    texts = (
        (missing, f"{name} fills {{}} with random values: not in the folder"),
        (mismatched, f"{name} fills {{}} with random values: of another shape in the folder"),
        (unexpected, f"{name} ignores {{}}: not a tensor of this model"),
    )
    notes = tuple(text.format(_listed(names)) for names, text in texts if names)
    return model.eval(), missing | mismatched, notes


def _in_own_memory(model: Any) -> Any:
    """The model, with its weights copied to memory of torch's own."""
    for held in (*model.parameters(), *model.buffers()):
        held.data = held.data.clone()
    return model


def _listed(names: set[str]) -> str:
    folded = fold(sorted(names))
    more = f" and {len(folded) - 8} more groups" if len(folded) > 8 else ""
    return f"{len(names)} tensor{'s' * (len(names) > 1)} ({', '.join(folded[:8])}{more})"


def _share(image: Any, video: Any, drawn: set[str]) -> tuple[str, ...]:
    """Make the image model use the tensors of the video model.

    All but the randomly ``drawn`` ones must have been equal, because both come from one file.
    """
    own, theirs = image.state_dict(), video.state_dict()
    shared = {name: theirs[name] for name in own if name in theirs}
    apart = {n for n, t in shared.items() if n not in drawn and not torch.equal(own[n], t)}
    image.load_state_dict(shared, strict=False, assign=True)
    if apart:
        return (f"Sam2Model and Sam2VideoModel load {_listed(apart)} differently",)
    return ()


def _resize(settings: Any, size: int) -> None:
    """Change the image size in a config, and everything that depends on it."""
    grid = size // 16
    settings.prompt_encoder_config.image_size = size
    vision = settings.vision_config
    vision.backbone_feature_sizes = [[4 * grid] * 2, [2 * grid] * 2, [grid] * 2]
    vision.backbone_config.image_size = [size, size]
    if hasattr(settings, "memory_attention_rope_feat_sizes"):
        settings.image_size = size
        settings.memory_attention_rope_feat_sizes = [grid, grid]


def _processor(
    folder: Path, kind: ModelType, config: ModelConfig, size: int | None
) -> tuple[Any, tuple[str, ...]]:
    """The folder's own processor; without one (``model.save_pretrained``), the published one."""
    kind_of_processor = member(
        PACKAGE, "Sam2VideoProcessor" if kind == "sam2_video" else "Sam2Processor"
    )
    notes: tuple[str, ...] = ()
    with _explained(folder):
        try:
            processor = kind_of_processor.from_pretrained(folder, local_files_only=True)
        except OSError:
            with temporary_folder() as home:
                for name, text in side_files(config, kind, "float32", generation=True).items():
                    (home / name).write_text(text, encoding="utf-8")
                processor = kind_of_processor.from_pretrained(home, local_files_only=True)
            notes = (
                "the folder has no complete processor, so that of the published models is used",
            )
    if size is not None:
        processor.target_size = size
        _square(processor.image_processor, "size", size)
        _square(processor.image_processor, "mask_size", size // 4)
        if kind == "sam2_video":
            _square(processor.video_processor, "size", size)
    return processor, notes


def _square(processor: Any, name: str, side: int) -> None:
    kind = type(getattr(processor, name))
    setattr(processor, name, kind(height=side, width=side))


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except ImportError as error:  # a part of transformers needs a package that is not installed
        raise UsageError(f"{titled(PACKAGE)}: {_line(error)}", hint=install(PACKAGE)) from error
    except Exception as error:  # transformers has no exceptions of its own
        raise UnreadableError(
            f"{folder}: {titled(PACKAGE)} does not load it: {type(error).__name__}: {_line(error)}",
            hint=f"sam21convert validate {shlex.quote(str(folder))} says whether it is sound",
        ) from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
