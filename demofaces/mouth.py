"""Mouth: action units 10, 12, 15, 17, 20, 25 and 26."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from cer_fusion.demofaces.action_units import ActionUnits
from cer_fusion.demofaces.canvas import Canvas, Points, band, ellipse, mix, moved
from cer_fusion.demofaces.sitter import Sitter

_LEVEL = 0.232  # of the resting lip line
_ALONG = -np.cos(np.linspace(0, np.pi, 41))  # denser towards the corners, where the lips turn
_CAVITY = (84, 26, 32)
_TEETH = (250, 247, 240)
_TONGUE = (204, 92, 96)


@dataclass(frozen=True, kw_only=True)
class MouthShape:
    """Four lip contours from the left to the right corner, (41, 2) each, and a few measures."""

    upper_outer: Points
    upper_inner: Points
    lower_inner: Points
    lower_outer: Points
    opening: float
    """Greatest distance between the lips."""
    corner_x: float
    corner_y: float


def mouth_shape(units: ActionUnits, fullness: float = 1.0) -> MouthShape:
    """Work out the contours that an expression gives to lips of some fullness."""
    smile, frown, stretch = units.lip_corner_pull, units.lip_corner_depress, units.lip_stretch
    sneer, chin, jaw = units.upper_lip_raise, units.chin_raise, units.jaw_drop
    part = max(units.lips_part, min(1.0, 2 * jaw))
    narrow = jaw * (1 - smile) * (1 - 0.7 * stretch)
    corner_x = 0.108 * (1 + 0.30 * smile + 0.36 * stretch + 0.05 * sneer - 0.22 * narrow - 0.04 * chin)

    gap_down = 0.014 * part + 0.100 * jaw * (1 - 0.22 * smile) + 0.010 * smile * part + 0.012 * stretch * part
    gap_up = 0.006 * part + 0.036 * sneer + 0.005 * stretch * part + 0.016 * narrow
    top = _LEVEL - 0.002 - gap_up - 0.014 * chin * (1 - sneer) + 0.004 * smile
    bottom = _LEVEL + gap_down + 0.010 * smile * part - 0.016 * chin
    bottom = max(bottom, top)
    corner_y = _LEVEL - 0.044 * smile + 0.044 * frown + 0.012 * stretch + 0.36 * gap_down * (1 - smile) + 0.006 * sneer

    square = 2.0 + 1.6 * stretch * (1 - smile) + 0.6 * sneer
    rounding = 1 - 0.42 * narrow - 0.22 * smile * part  # 1 gives pointed corners, 0.5 an ellipse
    dome = (1 - np.abs(_ALONG) ** square) ** rounding
    bowl = (1 - np.abs(_ALONG) ** (square - 0.1 + 0.2 * smile)) ** rounding
    x = corner_x * _ALONG
    inner_top = corner_y + (top - corner_y) * dome
    inner_bottom = np.maximum(corner_y + (bottom - corner_y) * bowl, inner_top)
    thin = 1 - 0.25 * smile - 0.25 * stretch - 0.10 * jaw
    rim = 1 - np.abs(_ALONG) ** 2.6
    bow = 1 - 0.20 * np.exp(-((_ALONG / 0.13) ** 2)) + 0.10 * np.exp(-(((np.abs(_ALONG) - 0.27) / 0.16) ** 2))
    upper = 0.027 * fullness * thin * rim * bow
    lower = 0.036 * fullness * thin * (1 - 0.15 * chin) * rim
    return MouthShape(
        upper_outer=np.stack([x, inner_top - upper], axis=1),
        upper_inner=np.stack([x, inner_top], axis=1),
        lower_inner=np.stack([x, inner_bottom], axis=1),
        lower_outer=np.stack([x, inner_bottom + lower], axis=1),
        opening=float((inner_bottom - inner_top).max()),
        corner_x=corner_x,
        corner_y=corner_y,
    )


def draw_mouth(canvas: Canvas, sitter: Sitter, shape: MouthShape) -> None:
    """Draw the inside first, then the lips over its edge, then the folds they make."""
    style = sitter.style

    def place(points: Points) -> Points:
        return sitter.on_face(points, lift=0.012)

    below = float(shape.lower_outer[:, 1].max())
    shadow = ellipse((0, below + 0.016), 0.060, 0.014)
    canvas.soft(place(shadow), sitter.shade, alpha=0.75 * style.contrast, blur=0.012)
    if shape.opening > 0.006:
        _inside(canvas, sitter, shape)

    upper = np.concatenate([shape.upper_outer, shape.upper_inner[::-1]])
    lower = np.concatenate([shape.lower_inner, shape.lower_outer[::-1]])
    canvas.fill(place(upper), mix(sitter.lip, sitter.ink, 0.16))
    canvas.fill(place(lower), sitter.lip)
    lip = canvas.mask(place(lower))
    shine = ellipse(
        (-0.02 * np.sign(-style.light or 1), (shape.lower_inner[20, 1] + shape.lower_outer[20, 1]) / 2), 0.034, 0.006
    )
    canvas.soft(place(shine), mix(sitter.lip, (255, 240, 232), 0.7), alpha=0.8, blur=0.006, clip=lip)

    width = 0.0085 * style.line_width
    canvas.stroke(
        place(shape.upper_inner[::4]), [width * 0.7, width, width * 0.8, width, width * 0.7], sitter.ink, alpha=0.85
    )
    if shape.opening > 0.006:
        canvas.stroke(place(shape.lower_inner[::4]), [width * 0.7, width * 0.6, width * 0.7], sitter.ink, alpha=0.6)
    canvas.stroke(place(shape.upper_outer[2:-2:3]), width * 0.35, sitter.line, alpha=0.45)
    canvas.stroke(place(shape.lower_outer[6:-6:3]), width * 0.40, sitter.line, alpha=0.55)
    _corners(canvas, sitter, shape)
    _chin(canvas, sitter, below)


def _inside(canvas: Canvas, sitter: Sitter, shape: MouthShape) -> None:
    units = sitter.units
    outline = sitter.on_face(np.concatenate([shape.upper_inner, shape.lower_inner[::-1]]), lift=0.012)
    hole = canvas.mask(outline)
    canvas.fill(outline, _CAVITY)
    top, bottom = float(shape.upper_inner[20, 1]), float(shape.lower_inner[20, 1])
    deep = sitter.on_face(ellipse((0, (top + bottom) / 2), shape.corner_x * 0.8, shape.opening * 0.5), lift=0)
    canvas.soft(deep, (38, 10, 16), alpha=0.75, blur=0.02, clip=hole)
    if shape.opening > 0.055:
        tongue = ellipse((0, bottom + 0.008), shape.corner_x * 0.66, shape.opening * 0.36)
        canvas.fill(sitter.on_face(tongue), _TONGUE, clip=hole)
        gloss = ellipse((0, bottom - shape.opening * 0.10), shape.corner_x * 0.3, shape.opening * 0.10)
        canvas.soft(sitter.on_face(gloss), (236, 140, 138), alpha=0.7, blur=0.010, clip=hole)
    bare = max(units.lip_corner_pull, units.upper_lip_raise, 0.7 * units.lip_stretch, 0.45)
    length = min(0.040 * bare + 0.006, 0.70 * shape.opening)
    x = shape.upper_inner[:, 0] * 0.94
    edge = shape.upper_inner[:, 1] + length * (1 - 0.55 * np.abs(_ALONG) ** 3)
    upper = np.concatenate([shape.upper_inner - (0, 0.01), np.stack([x, edge], axis=1)[::-1]])
    canvas.fill(sitter.on_face(upper), _TEETH, clip=hole)
    canvas.soft(band(sitter.on_face(shape.upper_inner), 0.014), (96, 48, 48), alpha=0.60, blur=0.005, clip=hole)
    if units.lip_stretch > 0.3:
        height = min(0.013 * units.lip_stretch, 0.3 * shape.opening)
        lower = np.concatenate(
            [
                moved(shape.lower_inner, 0, 0.01),
                (shape.lower_inner * (0.86, 1) - np.outer(1 - np.abs(_ALONG) ** 3, (0, height)))[::-1],
            ]
        )
        canvas.fill(sitter.on_face(lower), mix(_TEETH, _CAVITY, 0.22), clip=hole)


def _corners(canvas: Canvas, sitter: Sitter, shape: MouthShape) -> None:
    """Draw the dimples of a smile, the drag of a frown, the brackets of a stretched mouth."""
    x, y = shape.corner_x, shape.corner_y
    for side in (-1, 1):
        units = sitter.activity(side)
        tuck = [(side * (x - 0.002), y), (side * (x + 0.008), y + 0.002)]
        canvas.stroke(sitter.on_face(tuck), [0.010, 0.004], sitter.ink, alpha=0.55)
        if units.lip_corner_pull > 0.15:
            dimple = [(side * (x + 0.014), y - 0.020), (side * (x + 0.022), y + 0.002), (side * (x + 0.012), y + 0.020)]
            canvas.stroke(
                sitter.on_face(dimple), [0.002, 0.007, 0.002], sitter.line, alpha=0.65 * units.lip_corner_pull
            )
        if units.lip_corner_depress > 0.15:
            drag = [(side * (x + 0.004), y + 0.004), (side * (x + 0.014), y + 0.022), (side * (x + 0.012), y + 0.046)]
            canvas.stroke(
                sitter.on_face(drag), [0.009, 0.006, 0.001], sitter.line, alpha=0.75 * units.lip_corner_depress
            )
        if units.lip_stretch > 0.15:
            bracket = [(side * (x + 0.016), y - 0.026), (side * (x + 0.026), y), (side * (x + 0.018), y + 0.030)]
            canvas.stroke(sitter.on_face(bracket), [0.002, 0.007, 0.002], sitter.line, alpha=0.6 * units.lip_stretch)


def _chin(canvas: Canvas, sitter: Sitter, below: float) -> None:
    """Draw the pouch and pits of a raised chin."""
    strength = sitter.units.chin_raise
    if strength < 0.15:
        return
    crease = [(-0.052, below + 0.030), (0, below + 0.016), (0.052, below + 0.030)]
    canvas.stroke(sitter.on_face(crease), [0.002, 0.010, 0.002], sitter.line, alpha=0.65 * strength)
    for x, y in ((-0.020, 0.048), (0.018, 0.045), (0.0, 0.060), (-0.008, 0.040), (0.028, 0.058), (-0.030, 0.062)):
        canvas.soft(sitter.on_face(ellipse((x, below + y), 0.005)), sitter.line, alpha=0.6 * strength, blur=0.003)
