"""Which weights are trained."""

from __future__ import annotations

from ...model.sam2 import SAM2
from .lora import add_lora
from .names import Train

_DECODER, _PROMPT = "sam_mask_decoder.", "sam_prompt_encoder."
# By what is trained, the beginnings of the names of the parameters.
_PARTS: dict[Train, tuple[str, ...]] = {
    "decoder": (_DECODER,),
    "decoder+prompt": (_DECODER, _PROMPT),
    "encoder-lora": (_DECODER,),
    "all": ("",),
}


def choose(model: SAM2, train: Train) -> int:
    """Freeze what is not trained, and add a LoRA where one is.

    Where everything is trained, dropout and drop path are those of the official fine-tuning; they
    would only disturb what is frozen.

    Args:
        model: The model, which is changed.
        train: What is trained.

    Returns:
        Number of values that are trained.
    """
    if train == "encoder-lora":
        add_lora(model)
    elif train == "all":
        model.regularise()
    for name, parameter in model.named_parameters():
        trained = name.startswith(_PARTS[train])
        parameter.requires_grad_(trained or (train == "encoder-lora" and parameter.requires_grad))
    return sum(one.numel() for one in model.parameters() if one.requires_grad)
