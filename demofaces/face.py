"""Face: background, shoulders, skull, jaw and hair with soft light; an expression and a style become a picture."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

from .action_units import ActionUnits
from .canvas import Canvas, Points, ellipse, mix, moved, smooth
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
from .sitter import Sitter
from .style import Haircut, Style


def head_outline(sitter: Sitter) -> Points:
    """Outline the head; the chin falls with the jaw."""
    style, drop = sitter.style, sitter.jaw_drop
    half = [(0.0, -0.402), (0.142, -0.371), (0.252, -0.268), (0.306, -0.100), (0.298, 0.070)]
    jaw = [(0.264, 0.215), (0.178, 0.345), (0.082, 0.415), (0.0, 0.428)]
    right = [(x * style.face_width, y) for x, y in half]
    right += [(x * style.face_width * style.jaw_width, y + drop * (y - 0.07) / 0.358) for x, y in jaw]
    left = [(-x, y) for x, y in right[-2:0:-1]]
    return moved(smooth(right + left, closed=True), _turn(sitter), 0.0)


def draw_backdrop(canvas: Canvas, sitter: Sitter) -> None:
    """Draw a softly lit wall."""
    style = sitter.style
    side = -1.0 if style.light < 0 else 1.0
    canvas.soft(ellipse((0.25 * side, -0.25), 0.38), (255, 255, 255), alpha=0.45, blur=0.16)
    canvas.soft(ellipse((-0.45 * side, 0.45), 0.34), mix(style.background, (60, 62, 80), 0.5), alpha=0.45, blur=0.16)


def draw_body(canvas: Canvas, sitter: Sitter) -> None:
    """Draw shoulders, collar and neck."""
    style = sitter.style
    shoulders = smooth([(-0.70, 0.80), (-0.56, 0.545), (-0.26, 0.465), (0.26, 0.465), (0.56, 0.545), (0.70, 0.80)])
    canvas.fill(shoulders, style.clothes)
    neck = [(-0.150, 0.20), (-0.150, 0.44), (-0.205, 0.490), (0.0, 0.585), (0.205, 0.490), (0.150, 0.44), (0.150, 0.20)]
    canvas.fill(neck, mix(style.skin, sitter.shade, 0.55))
    inside = canvas.mask(neck)
    canvas.soft(moved(head_outline(sitter), 0, 0.045), sitter.shade, alpha=0.9, blur=0.03, clip=inside)
    collar = [(-0.208, 0.478), (-0.12, 0.540), (0.0, 0.575), (0.12, 0.540), (0.208, 0.478)]
    canvas.stroke(collar, 0.026, mix(style.clothes, (255, 255, 255), 0.35))


def draw_ears(canvas: Canvas, sitter: Sitter) -> None:
    """Draw both ears; the one the head turns away from shows more."""
    style = sitter.style
    for side in (-1, 1):
        middle = np.array((side * 0.308 * style.face_width + 0.6 * _turn(sitter), 0.015))
        canvas.fill(ellipse(middle, 0.044, 0.078), mix(style.skin, sitter.shade, 0.25))
        canvas.soft(ellipse(moved(middle, side * 0.004, 0), 0.020, 0.044), sitter.shade, alpha=0.9, blur=0.010)
        rim = [
            moved(middle, side * 0.010, -0.054),
            moved(middle, side * 0.032, -0.02),
            moved(middle, side * 0.022, 0.034),
        ]
        canvas.stroke(rim, [0.003, 0.006, 0.003], sitter.line, alpha=0.45)


def draw_skin(canvas: Canvas, sitter: Sitter) -> Image.Image:
    """Draw the face's skin with its light and shadow; returns a mask of the head."""
    style = sitter.style
    outline = head_outline(sitter)
    canvas.fill(outline, style.skin)
    head = canvas.mask(outline)
    away = 1.0 if style.light < 0 else -1.0
    strength = style.contrast * abs(style.light)
    half = outline[:, 0] * away > 0.14
    edge = outline[half][np.argsort(outline[half][:, 1])] if half.any() else outline
    rim = np.concatenate([edge, edge[::-1] * (0.70, 1.0)])
    canvas.soft(rim, sitter.shade, alpha=0.85 * strength, blur=0.040, clip=head)
    chin = float(outline[:, 1].max())
    canvas.soft(
        ellipse((0, chin + 0.035), 0.20, 0.055), sitter.shade, alpha=0.7 * style.contrast, blur=0.030, clip=head
    )
    canvas.soft(ellipse((-0.11 * away, -0.20), 0.12, 0.08), sitter.glow, alpha=0.75 * strength, blur=0.050, clip=head)
    canvas.soft(ellipse((-0.19 * away, 0.055), 0.055, 0.045), sitter.glow, alpha=0.7 * strength, blur=0.030, clip=head)
    canvas.soft(ellipse((-0.02 * away, chin - 0.055), 0.045, 0.025), sitter.glow, alpha=0.55, blur=0.022, clip=head)
    return head


def draw_contour(canvas: Canvas, sitter: Sitter) -> None:
    """Draw the line of cheeks and chin over the shading."""
    outline = head_outline(sitter)
    low = outline[outline[:, 1] > -0.05]
    low = low[np.argsort(np.arctan2(low[:, 0], low[:, 1] + 0.1))]
    canvas.stroke(low[::3], [0.003, 0.007, 0.009, 0.007, 0.003], sitter.line, alpha=0.55)


def _turn(sitter: Sitter) -> float:
    """How far the head's outline moves when it turns, in picture widths."""
    return 0.10 * float(np.sin(np.radians(sitter.style.yaw_deg)))


_Outline = list[tuple[float, float]]

# Crowns are outlined from the left temple over the top to the right temple and back along the hairline.
_CROWN: _Outline = [
    (-0.312, 0.0),
    (-0.340, -0.16),
    (-0.278, -0.350),
    (-0.12, -0.452),
    (0.12, -0.452),
    (0.278, -0.350),
    (0.340, -0.16),
    (0.312, 0.0),
]
_HAIRLINES: dict[Haircut, _Outline] = {
    "crop": [
        (0.292, -0.10),
        (0.266, -0.225),
        (0.17, -0.315),
        (0.0, -0.330),
        (-0.17, -0.315),
        (-0.266, -0.225),
        (-0.292, -0.10),
    ],
    "parted": [
        (0.292, -0.08),
        (0.272, -0.205),
        (0.17, -0.290),
        (-0.04, -0.345),
        (-0.16, -0.315),
        (-0.268, -0.215),
        (-0.292, -0.08),
    ],
    "fringe": [
        (0.290, -0.06),
        (0.270, -0.205),
        (0.17, -0.288),
        (0.05, -0.300),
        (-0.08, -0.288),
        (-0.19, -0.258),
        (-0.286, -0.06),
    ],
    "bob": [
        (0.286, 0.02),
        (0.274, -0.185),
        (0.15, -0.295),
        (0.02, -0.325),
        (-0.11, -0.295),
        (-0.266, -0.185),
        (-0.286, 0.02),
    ],
    "bun": [
        (0.296, -0.06),
        (0.277, -0.215),
        (0.15, -0.325),
        (0.0, -0.345),
        (-0.15, -0.325),
        (-0.277, -0.215),
        (-0.296, -0.06),
    ],
    "long": [
        (0.286, 0.04),
        (0.277, -0.180),
        (0.14, -0.310),
        (0.0, -0.362),
        (-0.14, -0.310),
        (-0.277, -0.180),
        (-0.286, 0.04),
    ],
    "curly": [
        (0.300, -0.08),
        (0.264, -0.225),
        (0.16, -0.305),
        (0.0, -0.318),
        (-0.16, -0.305),
        (-0.264, -0.225),
        (-0.300, -0.08),
    ],
}


def draw_hair_behind(canvas: Canvas, sitter: Sitter) -> None:
    """Draw what hangs or stands behind the head."""
    cut, dark = sitter.style.haircut, mix(sitter.style.hair, (16, 10, 14), 0.35)
    if cut == "bob":
        half = [
            (0.0, -0.458),
            (0.22, -0.412),
            (0.355, -0.20),
            (0.385, 0.06),
            (0.378, 0.25),
            (0.300, 0.330),
            (0.0, 0.330),
        ]
        canvas.fill(_mirrored(half), dark)
    elif cut == "long":
        half = [(0.0, -0.458), (0.22, -0.414), (0.355, -0.20), (0.385, 0.10), (0.425, 0.40), (0.43, 0.70), (0.15, 0.70)]
        canvas.fill(_mirrored(half), dark)
    elif cut == "bun":
        canvas.fill(ellipse((0.0, -0.445), 0.115, 0.085), sitter.style.hair)
        canvas.soft(
            ellipse((-0.02, -0.47), 0.05, 0.02), mix(sitter.style.hair, (255, 236, 210), 0.5), alpha=0.6, blur=0.02
        )
    elif cut == "curly":
        for angle in np.linspace(-0.15, np.pi + 0.15, 13):
            canvas.fill(ellipse((0.335 * np.cos(angle), -0.10 - 0.325 * np.sin(angle)), 0.078), dark)


def draw_hair(canvas: Canvas, sitter: Sitter) -> None:
    """Draw the hair that lies on the head."""
    style = sitter.style
    if style.haircut == "bald":
        spot = ellipse((0.09 * np.sign(style.light or 1.0), -0.30), 0.06, 0.025)
        canvas.soft(spot, (255, 255, 250), alpha=0.45, blur=0.02)
        return
    shift = 0.06 * float(np.sin(np.radians(style.yaw_deg)))
    hairline = [(x + 2 * shift, y + 0.15 * np.sin(np.radians(style.pitch_deg))) for x, y in _HAIRLINES[style.haircut]]
    crown = [(x + shift, y) for x, y in _CROWN]
    cap = np.concatenate([smooth(crown), smooth(hairline)]) * (style.face_width, 1.0)
    shadow = np.array(hairline) * (style.face_width, 1.0)
    canvas.soft(np.concatenate([shadow, moved(shadow[::-1], 0, 0.030)]), sitter.shade, alpha=0.7, blur=0.014)
    canvas.fill(cap, style.hair)
    if style.haircut == "curly":
        rng = np.random.default_rng(7)
        for x, y in zip(np.linspace(-0.27, 0.27, 11), rng.uniform(-0.008, 0.008, 11), strict=True):
            canvas.fill(ellipse((x + shift, -0.395 + 1.05 * x**2 + y), 0.066), style.hair)
            canvas.stroke(
                smooth([(x - 0.03 + shift, -0.38 + x**2), (x + shift, -0.41 + x**2), (x + 0.03 + shift, -0.38 + x**2)]),
                0.006, mix(style.hair, (255, 230, 200), 0.25), alpha=0.6,
            )  # fmt: skip
    inside = canvas.mask(cap)
    lit = mix(style.hair, (255, 232, 200), 0.40)
    dark = mix(style.hair, (14, 8, 12), 0.45)
    side = 1.0 if style.light > 0 else -1.0
    canvas.soft(ellipse((0.14 * side, -0.375), 0.12, 0.035), lit, alpha=0.75, blur=0.030, clip=inside)
    canvas.soft(ellipse((-0.33 * side, -0.16), 0.05, 0.18), dark, alpha=0.6, blur=0.040, clip=inside)
    for strand in _strands(style.haircut):
        canvas.stroke(moved(strand, shift, 0), [0.001, 0.005, 0.001], dark, alpha=0.5, clip=inside)


def _strands(cut: Haircut) -> list[Points]:
    if cut == "curly":
        return []
    root = {"parted": -0.14, "fringe": 0.10}.get(cut, 0.0)
    strands = []
    for end in np.linspace(-0.30, 0.30, 9):
        tip = (end * 1.02, -0.30 + 1.6 * end**2)
        strands.append(
            np.array([(root + 0.3 * end, -0.445), ((root + end) / 2 + 0.15 * end, -0.400 + 0.4 * end**2), tip])
        )
    return strands


def _mirrored(half: _Outline) -> Points:
    return smooth(half + [(-x, y) for x, y in half[:0:-1]], closed=True)


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
