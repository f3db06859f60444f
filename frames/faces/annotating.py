"""A picture with boxes around its faces and bars for what was predicted, for people to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from cer_fusion.frames.faces.face import Box
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_LINE, _GROUND, _BAR, _TEXT = (255, 196, 0), (16, 16, 16), (90, 150, 240), (255, 255, 255)


@dataclass(frozen=True, kw_only=True)
class Mark:
    """What is drawn about one face."""

    box: Box | None
    """Around the face; None: the whole picture is meant, and no box is drawn."""
    bars: tuple[tuple[str, float], ...]
    """Words and shares from 0 to 1, from top to bottom."""


def annotated(picture: NDArray[np.uint8], marks: Sequence[Mark]) -> NDArray[np.uint8]:
    """Draw marks: (h, w, 3) uint8 RGB -> the same shape, a new array.

    Bars stand below the box; where there is no room, inside it or at the picture's lower edge.
    """
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    size = max(9, round(min(image.size) / 28))
    font = ImageFont.load_default(size)
    for mark in marks:
        left, top, right, bottom = mark.box or (0, 0, image.width, image.height)
        if mark.box is not None:
            draw.rectangle((left, top, max(left, right), max(top, bottom)), outline=_LINE, width=max(1, size // 6))
        _bars(draw, mark, (left, bottom), image.size, font, size)
    return np.asarray(image)


def _bars(
    draw: ImageDraw.ImageDraw,
    mark: Mark,
    corner: tuple[float, float],
    picture: tuple[int, int],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    size: int,
) -> None:
    if not mark.bars:
        return
    texts = [f"{word} {100 * share:.0f} %" for word, share in mark.bars]
    width = max(draw.textlength(text, font=font) for text in texts) + size
    height = round(1.3 * size)
    x = max(0.0, min(corner[0], picture[0] - width))
    y = max(0.0, min(corner[1], picture[1] - height * len(texts)))
    for text, (_, share) in zip(texts, mark.bars, strict=True):
        draw.rectangle((x, y, x + width, y + height), fill=_GROUND)
        draw.rectangle((x, y, x + width * min(1.0, max(0.0, share)), y + height), fill=_BAR)
        draw.text((x + size / 3, y), text, fill=_TEXT, font=font)
        y += height
