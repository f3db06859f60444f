"""Nose and the folds beside it: action unit 9, and what 10 and 12 do to the cheeks."""

from __future__ import annotations

from cer_fusion.demofaces.canvas import Canvas, ellipse
from cer_fusion.demofaces.sitter import Sitter

_LIFT = 0.045  # how far the tip stands out


def draw_nose(canvas: Canvas, sitter: Sitter) -> None:
    """Draw bridge, wings, nostrils, and the wrinkles of disgust."""
    units, style = sitter.units, sitter.style
    size, away = style.nose_size, 1.0 if style.light < 0 else -1.0
    rise = 0.016 * units.nose_wrinkle + 0.009 * units.upper_lip_raise
    base = 0.116 - rise
    wing = size * (0.047 + 0.010 * units.nose_wrinkle + 0.004 * units.upper_lip_raise + 0.004 * units.lip_corner_pull)

    side = [
        (away * 0.016, -0.055),
        (away * 0.030, 0.02),
        (away * wing, base - 0.018),
        (away * 0.012, base),
        (away * 0.008, 0.0),
    ]
    canvas.soft(sitter.on_face(side, lift=_LIFT / 2), sitter.shade, alpha=0.65 * style.contrast, blur=0.014)
    under = ellipse((0, base + 0.016), wing * 1.05, 0.014)
    canvas.soft(sitter.on_face(under, lift=_LIFT / 3), sitter.shade, alpha=0.7 * style.contrast, blur=0.010)
    canvas.soft(
        sitter.on_face(ellipse((-away * 0.006, 0.03), 0.008, 0.06), lift=_LIFT), sitter.glow, alpha=0.65, blur=0.010
    )
    canvas.soft(
        sitter.on_face(ellipse((-away * 0.008, base - 0.022), 0.014), lift=_LIFT), sitter.glow, alpha=0.8, blur=0.009
    )

    width = 0.0085 * style.line_width
    tip = [(-0.026 * size, base + 0.002), (0, base + 0.013), (0.026 * size, base + 0.002)]
    canvas.stroke(
        sitter.on_face(tip, lift=_LIFT * 0.8), [width * 0.3, width * 0.9, width * 0.3], sitter.line, alpha=0.75
    )
    for s in (-1, 1):
        curl = [(s * wing * 0.86, base - 0.030), (s * wing * 1.05, base - 0.012), (s * wing * 0.86, base + 0.003)]
        canvas.stroke(sitter.on_face(curl, lift=_LIFT / 2), [width * 0.3, width, width * 0.4], sitter.line, alpha=0.85)
        nostril = ellipse((s * 0.022 * size, base + 0.001), 0.011 * size, 0.0055 + 0.002 * units.nose_wrinkle)
        canvas.fill(sitter.on_face(nostril, lift=_LIFT * 0.6), sitter.ink, alpha=0.85)
        _wrinkles(canvas, sitter, s)


def draw_folds(canvas: Canvas, sitter: Sitter, corner_x: float, corner_y: float) -> None:
    """Draw the nasolabial folds from the wings of the nose to beside the mouth's corners."""
    for side in (-1, 1):
        units = sitter.activity(side)
        depth = min(1.0, 0.75 * units.lip_corner_pull + 0.9 * units.upper_lip_raise + 0.7 * units.nose_wrinkle)
        depth = max(depth, 0.35 * units.lip_stretch, 0.30 * units.lip_corner_depress, 0.08)
        rise = 0.014 * max(units.nose_wrinkle, units.upper_lip_raise)
        bulge = 0.018 + 0.014 * units.lip_corner_pull
        line = [
            (side * 0.066, 0.092 - rise),
            (side * (0.078 + 0.5 * bulge), 0.110 - rise),
            (
                side * (0.45 * (corner_x + 0.028) + 0.55 * (0.088 + bulge)),
                0.55 * (corner_y - 0.012) + 0.45 * (0.112 - rise),
            ),
            (side * (corner_x + 0.028), corner_y - 0.006),
        ]
        canvas.stroke(sitter.on_face(line), [0.001, 0.008, 0.0075, 0.001], sitter.line, alpha=0.60 * depth)
        puff = ellipse((side * 0.175, 0.082 - 0.02 * units.cheek_raise), 0.062, 0.045)
        warmth = 0.30 + 0.35 * max(units.lip_corner_pull, units.cheek_raise)
        canvas.soft(sitter.on_face(puff), sitter.blush, alpha=warmth, blur=0.030)


def _wrinkles(canvas: Canvas, sitter: Sitter, side: int) -> None:
    strength = sitter.units.nose_wrinkle
    if strength < 0.15:
        return
    for level in (-0.040, -0.016, 0.008):
        line = [(side * 0.020, level), (side * 0.034, level + 0.010), (side * 0.044, level + 0.026)]
        canvas.stroke(sitter.on_face(line, lift=_LIFT / 2), [0.001, 0.007, 0.001], sitter.line, alpha=0.7 * strength)
    for level in (-0.066, -0.048):
        line = [(-0.024, level - 0.004), (0.0, level + 0.003), (0.024, level - 0.004)]
        canvas.stroke(sitter.on_face(line, lift=_LIFT / 2), [0.001, 0.006, 0.001], sitter.line, alpha=0.35 * strength)
