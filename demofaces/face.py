"""Face: an expression and a style become a picture."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

from .action_units import ActionUnits
from .canvas import Canvas
from .errors import StyleError
from .features import (
    draw_brow,
    draw_eye,
    draw_folds,
    draw_forehead,
    draw_mouth,
    draw_nose,
    mouth_shape,
)
from .head import (
    draw_backdrop,
    draw_body,
    draw_contour,
    draw_ears,
    draw_hair,
    draw_hair_behind,
    draw_skin,
)
from .sitter import Sitter
from .style import Style

_NEUTRAL = Style()


def draw_face(units: ActionUnits, *, style: Style = _NEUTRAL, size_px: int = 100) -> Image.Image:
    """Draw one face.

    Parameters
    ----------
    units : ActionUnits
        The expression.
    style : Style
        Person, pose, light and camera.
    size_px : int
        Side of the square picture, 16 to 2048.

    Returns
    -------
    PIL.Image.Image
        RGB; the same arguments always give the same pixels.

    Raises
    ------
    StyleError
        If the size is outside 16..2048.
    """
    if not 16 <= size_px <= 2048:
        raise StyleError(f"a face is drawn 16 to 2048 pixels wide, however: size_px={size_px}")
    sitter = Sitter(units, style)
    canvas = Canvas(size_px, style)
    draw_backdrop(canvas, sitter)
    draw_hair_behind(canvas, sitter)
    draw_body(canvas, sitter)
    draw_ears(canvas, sitter)
    draw_skin(canvas, sitter)
    draw_contour(canvas, sitter)
    draw_hair(canvas, sitter)
    shape = mouth_shape(units, style.lip_fullness)
    draw_folds(canvas, sitter, shape.corner_x, shape.corner_y)
    draw_forehead(canvas, sitter)
    for side in (-1, 1):
        draw_eye(canvas, sitter, side)
    draw_nose(canvas, sitter)
    draw_mouth(canvas, sitter, shape)
    for side in (-1, 1):
        draw_brow(canvas, sitter, side)
    return _photograph(canvas.finish(), style)


def _photograph(picture: Image.Image, style: Style) -> Image.Image:
    """Add what a camera adds: blur, exposure and noise."""
    if style.blur_px > 0:
        picture = picture.filter(ImageFilter.GaussianBlur(style.blur_px * picture.width / 100))
    if style.exposure == 1.0 and style.noise == 0:
        return picture
    pixels = np.asarray(picture, dtype=np.float64) * style.exposure
    if style.noise > 0:
        pixels += np.random.default_rng(style.noise_seed).normal(0.0, style.noise, pixels.shape)
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
