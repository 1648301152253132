"""Pictures inside a page."""

from __future__ import annotations

from base64 import b64encode
from io import BytesIO

from PIL import Image

from .elements import Markup, element

_SMALL = 40_000  # bytes; a larger picture, such as a photograph, gets fewer colours
_COLOURS = 64


def panel(picture: Image.Image, caption: str, *, loud: bool = False) -> Markup:
    """A picture with a caption; ``.panels`` puts several side by side.

    Args:
        picture: The picture.
        caption: The caption, which is also read out in place of the picture.
        loud: Whether the caption is shown in bold.

    Returns:
        A ``figure`` element that holds the picture itself.
    """
    data = _png(picture)
    if len(data) > _SMALL:
        data = _png(picture.quantize(_COLOURS, dither=Image.Dither.NONE))
    source = "data:image/png;base64," + b64encode(data).decode()
    size = {"width": str(picture.width), "height": str(picture.height)}
    image = element("img", src=source, alt=caption, **size)
    return element("figure", image, element("figcaption", caption), cls="loud" if loud else "")


def _png(picture: Image.Image) -> bytes:
    data = BytesIO()
    picture.save(data, "PNG", optimize=True)
    return data.getvalue()
