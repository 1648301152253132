"""A model that is ready to predict, whichever runtime computes it.

The predictors of :mod:`~sam21convert.model` and of :mod:`~sam21convert.export.runtime` have the
methods of the official ones, so that what uses them need not know which it has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from ..checkpoint.safety.report import Safety, SourceReport, assess, naming_harm
from ..config.hydra import VIDEO_BUILDERS
from ..config.load import load_config
from ..config.registry import shipped_like
from ..dialects import OF_IMAGES
from ..errors import UsageError, call_of
from ..export.runtime import OnnxImagePredictor, OnnxModel, OnnxVideoPredictor, load
from ..export.runtime.layouts import VISION_ENCODER
from ..io.nearby import expanded, missing
from ..io.onnx import FP32, Variant, origin, read_graph
from ..model.config import Generation, ModelConfig
from ..packages import titled
from .draw import Mask
from .load import Loading, load_onto, with_image_size
from .runtimes import Runtime

# Those of the official builder, except that the correction of a frame that was followed is kept
# when objects are followed again; a first round of prompts has no such frame.
_TRACKING: Mapping[str, Any] = {**VIDEO_BUILDERS, "add_all_frames_to_correct_as_cond": True}

if TYPE_CHECKING:
    import torch

    from ..model.video_predictor import SAM2VideoPredictor

    Model = TypeVar("Model", bound=torch.nn.Module)


@dataclass(frozen=True)
class LoadedExport(SourceReport):
    """How an export was opened, to be run by onnxruntime.

    Attributes:
        path: Its folder.
        runtime: What runs it, with its version.
        variant: Which of its graphs run: ``"fp32"``, ``"fp16"`` or ``"q8"``. Those for videos are
            always in float32.
        generation: ``"2.0"`` or ``"2.1"``.
        config: The config of the model.
        image_size: Side of the model's input in pixels.
        device: Where it runs.
        notes: From which file it was exported.
        safety: What loading files of the folder with torch or pickle would import and call.
    """

    path: Path
    runtime: str
    variant: Variant
    generation: Generation
    config: ModelConfig
    image_size: int
    device: str
    notes: tuple[str, ...]
    safety: Safety

    def to_dict(self) -> dict[str, Any]:
        """Give the fields as plain data.

        Returns:
            Field name to value, the config as a dict.
        """
        return {**super().to_dict(), "config": asdict(self.config)}


Loaded: TypeAlias = Loading | LoadedExport


@dataclass(frozen=True)
class Request:
    """What is to be loaded, and how.

    Attributes:
        source: A checkpoint, or the folder of an export.
        runtime: What computes.
        config: As for :func:`~sam21convert.load_model`; an export has its own.
        image_size: As for :func:`~sam21convert.load_model`; an export has its own.
        device: As for :func:`~sam21convert.prediction.devices.pick_device`; an export runs on the
            processor.
        variant: Which graphs of an export; None for those in float32.
    """

    source: str | Path
    runtime: Runtime
    config: str | Path | ModelConfig | None
    image_size: int | None
    device: str
    variant: Variant | None

    def refuse_impossible(self) -> Request:
        """Check what can be checked before anything is read.

        Returns:
            The same request, with the device that is meant.

        Raises:
            UsageError: If the device is not there, or the options are of another runtime.
        """
        if self.runtime == "torch":
            if self.variant is not None:
                raise UsageError(
                    f"`variant={self.variant}`: {self.source} is run by torch, and has no variants",
                    hint="give the folder of an export, or leave it out",
                )
            from .devices import pick_device

            return replace(self, device=pick_device(self.device))
        if self.device not in ("auto", "cpu"):
            raise UsageError(
                f"`device={self.device}`: onnxruntime runs an export on the processor",
                hint="leave it out, or run the checkpoint that it was exported from",
            )
        return replace(self, device="cpu")


@dataclass(frozen=True)
class Opened:
    """A predictor for pictures or for videos.

    Attributes:
        predictor: It has the methods of the official one.
        loaded: How the model was loaded.
        positive: Gives the masks of logits of any shape: True above 0.
        single: Whether it can answer with one mask, and start from a mask.
    """

    predictor: Any
    loaded: Loaded
    positive: Callable[[Any], Mask]
    single: bool = True

    def require_single(self, *, candidates: bool, from_mask: bool) -> None:
        """Check that a prompt for a picture can be answered.

        Args:
            candidates: Whether three candidates are asked for.
            from_mask: Whether it starts from a mask.

        Raises:
            UsageError: If the export lacks the graphs for it.
        """
        if self.single or (candidates and not from_mask):
            return
        what = "a mask to start from" if from_mask else "one mask instead of three candidates"
        writes = "sam21convert convert CHECKPOINT FOLDER --to onnx --with-video writes them"
        others = "" if from_mask else "; or ask for candidates of one object: `multimask=True`"
        raise UsageError(
            f"{self.loaded.path}: {what} needs graphs that this export does not have",
            hint=f"{writes}{others}",
        )


def size_of(loaded: Loaded) -> str | None:
    """Name the published size of a loaded model.

    Args:
        loaded: How the model was loaded.

    Returns:
        ``"tiny"``, ``"small"`` and so on; None for a model of another size.
    """
    shipped = shipped_like(loaded.config)
    return None if shipped is None else shipped.size


def open_images(request: Request) -> Opened:
    """Load a model to segment pictures with.

    Args:
        request: What is to be loaded. An image model, without memory, will do.

    Returns:
        Its predictor.

    Raises:
        Sam21ConvertError: As :func:`~sam21convert.load_model` or
            :func:`~sam21convert.export.runtime.load` does.
    """
    if request.runtime == "onnx":
        model, loaded = _open_export(request)
        return Opened(OnnxImagePredictor(model), loaded, _above_0, single=model.has_video)
    from ..model.image_predictor import SAM2ImagePredictor
    from ..model.sam2 import SAM2

    network, loading = load_for_use(SAM2, request, images_only=True)
    return Opened(SAM2ImagePredictor(network), loading, _above_0)


def open_videos(request: Request) -> Opened:
    """Load a model to follow objects with, with the settings of the official builder.

    Args:
        request: What is to be loaded.

    Returns:
        Its predictor.

    Raises:
        Sam21ConvertError: As :func:`open_images` does; and if the model has no memory.
    """
    if request.runtime == "onnx":
        model, loaded = _open_export(request)
        return Opened(OnnxVideoPredictor(model, **_TRACKING), loaded, _above_0)
    predictor, loading = load_for_use(_video_predictor, request)
    return Opened(predictor, loading, _above_0_of_torch)


def open_both(request: Request) -> tuple[Opened, Opened | None]:
    """Load a model once, to segment pictures and to follow objects with.

    Args:
        request: What is to be loaded. An image model, without memory, will do.

    Returns:
        A predictor as of :func:`open_images`, and one as of :func:`open_videos` with the same
        weights; None in its place if the model, or the export, has nothing to follow objects with.

    Raises:
        Sam21ConvertError: As :func:`open_images` does.
    """
    if request.runtime == "onnx":
        model, loaded = _open_export(request)
        images = Opened(OnnxImagePredictor(model), loaded, _above_0, single=model.has_video)
        if not model.has_video:
            return images, None
        return images, Opened(OnnxVideoPredictor(model, **_TRACKING), loaded, _above_0)
    from ..model.image_predictor import SAM2ImagePredictor

    network, loading = load_for_use(_video_predictor, request, images_only=True)
    images = Opened(SAM2ImagePredictor(network), loading, _above_0)
    if loading.dialect in OF_IMAGES:
        return images, None
    return images, Opened(network, loading, _above_0_of_torch)


def load_for_use(
    make: Callable[[ModelConfig], Model], request: Request, *, images_only: bool = False
) -> tuple[Model, Loading]:
    """Load a checkpoint in float32 onto a device of torch.

    Args:
        make: Builds the model from its config.
        request: What is to be loaded.
        images_only: Whether an image model, without memory, is accepted as well.

    Returns:
        What ``make`` built, with its weights, and how it was loaded.

    Raises:
        Sam21ConvertError: As :func:`~sam21convert.load_model` does.
    """
    import torch

    return load_onto(
        make,
        request.source,
        request.config,
        change=with_image_size(request.image_size),
        device=request.device,
        dtype=torch.float32,
        images_only=images_only,
    )


def _video_predictor(config: ModelConfig) -> SAM2VideoPredictor:
    from ..model.config import TrackingOptions
    from ..model.video_predictor import SAM2VideoPredictor

    return SAM2VideoPredictor(config, TrackingOptions(**_TRACKING))


def _open_export(request: Request) -> tuple[OnnxModel, LoadedExport]:
    """Open an export. What contradicts the one model that its graphs are is refused."""
    path = expanded(Path(request.source))
    if "://" in str(request.source) or path.is_file():
        raise UsageError(
            f"{request.source}: onnxruntime runs the folder of an export, on this machine",
            hint=f"{call_of('convert', request.source, 'to=onnx')} writes one",
        )
    if not path.exists():
        raise missing(path)
    with naming_harm(path):
        variant = request.variant or FP32
        model = load(path, variant=variant)
        _refuse_other_model(path, model.config, request)
        graph = read_graph(model.file_of(VISION_ENCODER))
    loaded = LoadedExport(
        path=path,
        runtime=titled("onnxruntime"),
        variant=variant,
        generation=model.config.generation,
        config=model.config,
        image_size=model.image_size,
        device=request.device,
        notes=(origin(graph.metadata),),
        safety=assess(path),
    )
    return model, loaded


def _refuse_other_model(path: Path, own: ModelConfig, request: Request) -> None:
    """Refuse a config or an image size that is not that of an export."""
    given = request.config
    wanted = own if given is None else given
    config = wanted if isinstance(wanted, ModelConfig) else load_config(wanted)
    side = config.image_size if request.image_size is None else request.image_size
    if side != own.image_size:
        raise UsageError(
            f"{path}: was exported for {own.image_size} pixels, not for {side}",
            hint=f"sam21convert convert CHECKPOINT FOLDER --to onnx --image-size {side} exports it "
            "for that size",
        )
    if replace(config, image_size=side) != own:
        raise UsageError(
            f"{path}: `config`: is not that of this export, which has its own",
            hint="leave it out",
        )


def _above_0(logits: Any) -> Any:
    return logits > 0


def _above_0_of_torch(logits: torch.Tensor) -> Mask:
    above: Mask = (logits > 0).cpu().numpy()
    return above
