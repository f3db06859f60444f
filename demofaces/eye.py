"""Eyes and brows: action units 1, 2, 4, 5, 6 and 7."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from cer_fusion.demofaces.action_units import ActionUnits
from cer_fusion.demofaces.canvas import Canvas, Points, band, ellipse, mix, moved, smooth
from cer_fusion.demofaces.sitter import Sitter
from PIL import Image

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
