"""Head: background, shoulders, neck, ears, skull and jaw, with soft light on them."""

from __future__ import annotations

import numpy as np
from cer_fusion.demofaces.canvas import Canvas, Points, ellipse, mix, moved, smooth
from cer_fusion.demofaces.sitter import Sitter
from PIL import Image


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
