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
    size = {"width": str(picture.width), "height": str(picture.height)}
    return figure(data, "png", caption, caption, cls="loud" if loud else "", **size)


def figure(
    data: bytes, kind: str, caption: str, said: str, *, cls: str = "", **attributes: str
) -> Markup:
    """A picture that is held by the page itself.

    Args:
        data: The content of its file.
        kind: ``png`` or ``jpeg``.
        caption: What stands below it.
        said: What is read out in its place.
        cls: The class of the figure.
        **attributes: Attributes of the picture, such as its width.

    Returns:
        A ``figure`` element.
    """
    source = f"data:image/{kind};base64," + b64encode(data).decode()
    image = element("img", src=source, alt=said, **attributes)
    return element("figure", image, element("figcaption", caption), cls=cls)


def _png(picture: Image.Image) -> bytes:
    data = BytesIO()
    picture.save(data, "PNG", optimize=True)
    return data.getvalue()
