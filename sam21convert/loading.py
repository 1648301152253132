"""Load any checkpoint that can be read onto the ground truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .checkpoint import open_checkpoint
from .containers.arrays import contiguous_bytes
from .containers.copying import Files, read_bytes
from .errors import RefusedError
from .model.config import ModelConfig
from .planning import to_truth
from .report import Report
from .tensors import TensorRef

if TYPE_CHECKING:
    import torch

    from .model import SAM2


@dataclass(frozen=True)
class Loading(Report):
    """What :func:`load_model` did."""

    path: Path
    dialect: str
    config: ModelConfig
    tensors: int

    def __str__(self) -> str:
        return f"loaded {self.tensors} tensors of {self.path} ({self.dialect})"


def load_model(
    source: str | Path,
    config: str | Path | ModelConfig | None = None,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
) -> tuple[SAM2, Loading]:
    """Build the model and load ``source`` into it, strictly; it is in evaluation mode.

    ``dtype`` is that of the weights unless given. Raises as :func:`~sam21convert.convert` does;
    an image model (hf-image) is refused, for it lacks the tensors of the memory.
    """
    import torch

    from .model import SAM2

    checkpoint = open_checkpoint(source, config)
    truth, _ = to_truth(checkpoint)
    keymap, model_config = checkpoint.keymap, checkpoint.model_config
    assert keymap is not None
    assert model_config is not None
    if keymap.dropped:
        raise RefusedError(
            f"{source}: is an image model, without {len(keymap.dropped)} tensors of the memory",
            hint="convert it with --base first, which takes them from another checkpoint",
        )
    with torch.device("meta"):
        model = SAM2(model_config)
    with Files() as files:
        state_dict = {name: _tensor(files, truth[name]) for name in keymap.truth}
    model.load_state_dict(state_dict, strict=True, assign=True)
    model = model.to(device=device, dtype=dtype or next(iter(state_dict.values())).dtype).eval()
    return model, Loading(Path(source), keymap.dialect.name, model_config, len(state_dict))


def _tensor(files: Files, ref: TensorRef) -> torch.Tensor:
    import torch

    kinds = {
        "F16": torch.float16,
        "BF16": torch.bfloat16,
        "F32": torch.float32,
        "F64": torch.float64,
    }
    data = read_bytes(files, ref)
    if ref.stride is not None:
        data = bytearray(contiguous_bytes(data, ref, ref.spec.dtype))
    return torch.frombuffer(data, dtype=kinds[ref.spec.dtype]).reshape(ref.spec.shape)
