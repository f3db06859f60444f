"""Features: eyes and brows, nose, mouth, each moved by its action units."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from .action_units import ActionUnits
from .canvas import Canvas, Points, band, ellipse, mix, moved, smooth
from .sitter import Sitter

Place = Callable[[Points], Points]
_CENTRE = (0.148, -0.050)  # of the right eye in the picture; the left mirrors it
_HALF_WIDTH = 0.088
_WHITE = (252, 250, 247)


def draw_eye(canvas: Canvas, sitter: Sitter, side: int) -> None:
    """Draw one eye; `side` is -1 for the picture's left, 1 for its right."""
    units, style = sitter.activity(side), sitter.style
    upper, lower = (smooth(lid) for lid in _lids(units, style.eye_size))

    def place(points: Points) -> Points:
        return sitter.on_face(points * (side, 1) + (side * _CENTRE[0], _CENTRE[1]))

    socket = place(ellipse((0.0, -0.012), 0.105, 0.070))
    canvas.soft(socket, sitter.shade, alpha=0.30 * style.contrast, blur=0.028)
    _lid_skin(canvas, sitter, units, upper, place)

    opening = np.concatenate([place(upper), place(lower)[::-1]])
    inside = canvas.mask(opening)
    canvas.fill(opening, _WHITE)
    _iris(canvas, sitter, inside, place, style.eye_size)
    canvas.soft(band(place(upper), 0.022), (70, 60, 74), alpha=0.55, blur=0.008, clip=inside)

    lash = 0.0105 * style.line_width
    flick = np.concatenate([upper, [upper[-1] + (0.014, -0.009)]])
    canvas.stroke(place(flick[::3]), [lash * 0.5, lash, lash * 1.25, lash * 0.35], sitter.ink)
    canvas.stroke(place(lower[1:-1:3]), [lash * 0.15, lash * 0.45, lash * 0.55], sitter.line, alpha=0.75)
    _lower_folds(canvas, sitter, units, lower, place)


def draw_brow(canvas: Canvas, sitter: Sitter, side: int) -> None:
    """Draw one brow; raised by AU1 (inside) and AU2 (outside), lowered and drawn together by AU4."""
    units, style = sitter.activity(side), sitter.style
    knots = smooth(_brow(units) * (side, 1))
    thick = 0.030 * style.brow_weight
    canvas.stroke(sitter.on_face(knots[::4], lift=0.01), [thick * 0.75, thick, thick * 0.85, thick * 0.25], sitter.brow)
    hairs = mix(sitter.brow, style.hair, 0.6)
    canvas.stroke(sitter.on_face(knots[2:-8:4] - (0, 0.004), lift=0.01), [0.003, 0.007, 0.002], hairs, alpha=0.7)


def draw_forehead(canvas: Canvas, sitter: Sitter) -> None:
    """Draw what the brows do to the forehead: cross lines when raised, furrows between them when lowered."""
    units = sitter.units
    across = min(1.0, 0.5 * units.inner_brow_raise + 0.5 * units.outer_brow_raise)
    half = 0.075 + 0.10 * units.outer_brow_raise
    arch = 0.014 * (1 - 1.6 * units.brow_lower * units.inner_brow_raise)
    for level, strength in ((-0.262, 1.0), (-0.290, 0.7)):
        line = [(-half, level + arch), (-half / 2, level), (0, level + 0.006), (half / 2, level), (half, level + arch)]
        canvas.stroke(
            sitter.on_face(line),
            [0.001, 0.0065, 0.0065, 0.001],
            sitter.line,
            alpha=0.50 * strength * max(0.0, across - 0.2),
        )
    furrow = units.brow_lower
    if furrow > 0.15:
        top = -0.165 - 0.035 * units.inner_brow_raise
        for side in (-1, 1):
            line = [(side * 0.016, top - 0.012), (side * 0.021, top + 0.02), (side * 0.015, top + 0.055)]
            canvas.stroke(sitter.on_face(line), [0.002, 0.009, 0.002], sitter.line, alpha=0.7 * furrow)
        canvas.soft(sitter.on_face(ellipse((0, top + 0.02), 0.03, 0.04)), sitter.shade, alpha=0.5 * furrow, blur=0.014)


def _lids(units: ActionUnits, size: float) -> tuple[Points, Points]:
    """Upper and lower lid from the inner to the outer corner, (5, 2) each, around the eye's centre."""
    a = _HALF_WIDTH * size
    stern = units.brow_lower * (1 - units.inner_brow_raise)
    sorrow = units.brow_lower * units.inner_brow_raise
    up = 0.050 * size * (1 + 0.62 * units.upper_lid_raise - 0.40 * units.lid_tighten - 0.15 * units.cheek_raise)
    up *= 1 - 0.18 * max(stern, sorrow) * (1 - units.upper_lid_raise)
    low = 0.034 * size * (1 + 0.18 * units.upper_lid_raise - 0.55 * units.lid_tighten - 0.50 * units.cheek_raise)
    inner = (-a, 0.012 + 0.006 * stern - 0.006 * sorrow)
    outer = (a, -0.004 - 0.008 * stern + 0.010 * sorrow)
    upper = [
        inner,
        (-0.52 * a, -up * (0.80 - 0.34 * stern + 0.10 * sorrow)),
        (0, -up),
        (0.55 * a, -up * (0.80 - 0.25 * sorrow)),
        outer,
    ]
    lower = [inner, (-0.48 * a, low * 0.78), (0.04 * a, low), (0.55 * a, low * 0.82), outer]
    return np.array(upper), np.array(lower)


def _brow(units: ActionUnits) -> Points:
    """Middle line of the right brow from its inner to its outer end, (5, 2)."""
    raise_in, raise_out, lower = units.inner_brow_raise, units.outer_brow_raise, units.brow_lower
    pulled = lower * max(0.0, 1 - 1.25 * raise_in)  # when AU1 holds the inner end up, AU4 only draws the brows together
    oblique = lower * raise_in * (1 - 0.6 * raise_out)
    knit = 0.024 * lower
    knots = [
        (
            0.062 - knit,
            -0.146
            - (0.058 + 0.014 * lower) * raise_in
            - 0.006 * raise_out
            + 0.056 * pulled
            + 0.012 * units.nose_wrinkle,
        ),
        (0.105 - knit, -0.164 - 0.050 * raise_in - 0.020 * raise_out + 0.046 * pulled - 0.004 * oblique),
        (0.160 - knit / 2, -0.172 - 0.020 * raise_in - 0.050 * raise_out + 0.024 * pulled + 0.014 * oblique),
        (0.210, -0.168 - 0.004 * raise_in - 0.058 * raise_out + 0.006 * pulled + 0.020 * oblique),
        (0.254, -0.142 - 0.052 * raise_out + 0.002 * pulled + 0.020 * oblique),
    ]
    return np.array(knots)


def _iris(canvas: Canvas, sitter: Sitter, inside: Image.Image, place: Place, size: float) -> None:
    colour = sitter.style.iris
    middle = np.array((-0.004, -0.006))
    radius = 0.042 * size
    canvas.fill(place(ellipse(middle, radius)), mix(colour, (16, 12, 16), 0.62), clip=inside)
    canvas.fill(place(ellipse(middle, radius * 0.86)), colour, clip=inside)
    lit = ellipse(moved(middle, 0, radius * 0.38), radius * 0.62, radius * 0.40)
    canvas.soft(place(lit), mix(colour, (255, 236, 200), 0.45), alpha=0.8, blur=0.006, clip=inside)
    canvas.fill(place(ellipse(middle, radius * 0.48)), (18, 14, 18), clip=inside)
    glint = place(np.array([middle]))[0] + (0.35 * radius * np.sign(sitter.style.light or 1.0), -0.38 * radius)
    canvas.fill(ellipse(glint, radius * 0.26), (255, 255, 255), clip=inside)
    dim = 2 * place(np.array([middle]))[0] - glint
    canvas.fill(ellipse(dim, radius * 0.12), (255, 255, 255), alpha=0.55, clip=inside)


def _lid_skin(canvas: Canvas, sitter: Sitter, units: ActionUnits, upper: Points, place: Place) -> None:
    """Draw the skin of the upper lid and its crease; both get narrower the wider the eye opens."""
    gap = 0.022 * (1 - 0.55 * units.upper_lid_raise) * (1 - 0.4 * units.brow_lower)
    crease = upper - np.stack([0 * upper[:, 0], gap * np.sin(np.linspace(0.35, np.pi - 0.15, len(upper)))], axis=1)
    canvas.soft(place(np.concatenate([crease, upper[::-1]])), sitter.shade, alpha=0.5, blur=0.004)
    width = 0.0055 * sitter.style.line_width
    canvas.stroke(place(crease[2:-1:3]), [width * 0.3, width, width * 0.4], sitter.line, alpha=0.65)


def _lower_folds(canvas: Canvas, sitter: Sitter, units: ActionUnits, lower: Points, place: Place) -> None:
    """Draw the bag under a tightened lid, and crow's feet beside raised cheeks."""
    bag = max(units.lid_tighten, 0.9 * units.cheek_raise, 0.15)
    fold = lower[6:-6:4] * (0.95, 1) + (0, 0.017)
    canvas.stroke(place(fold), [0.001, 0.006, 0.001], sitter.line, alpha=0.55 * bag)
    if units.cheek_raise > 0.2:
        corner = lower[-1]
        for rise in (-0.016, 0.002, 0.020):
            foot = [moved(corner, 0.018, rise * 0.5), moved(corner, 0.048, rise * 1.5)]
            canvas.stroke(place(np.array(foot)), [0.006, 0.002], sitter.line, alpha=0.5 * units.cheek_raise)


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
