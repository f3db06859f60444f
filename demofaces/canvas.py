"""Canvas: an anti-aliased picture that is drawn on in face coordinates."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from .style import Colour, Style

Points = NDArray[np.float64]
SUPERSAMPLING = 4
_INVISIBLE = 0.01  # opacity under which painting is a waste of time
_SOFT_REDUCTION = 4  # soft shapes are drawn and blurred at this fraction of the working size: it cannot be seen


class Canvas:
    """A square picture in working resolution.

    Coordinates are picture widths from the picture's centre, x to the right and y down, before the style's roll, scale
    and shift are applied.
    """

    def __init__(self, size_px: int, style: Style) -> None:
        """Start with a plain background of the style's colour."""
        self.size_px = size_px
        self.side = size_px * SUPERSAMPLING
        self.image = Image.new("RGB", (self.side, self.side), style.background)
        self._draw = ImageDraw.Draw(self.image, "RGBA")
        roll = math.radians(style.roll_deg)
        self._matrix = style.scale * np.array([[math.cos(roll), -math.sin(roll)], [math.sin(roll), math.cos(roll)]])
        self._shift = np.array([0.5 + style.shift_x, 0.5 + style.shift_y])
        self._scale = style.scale

    def fill(self, points: ArrayLike, colour: Colour, *, alpha: float = 1.0, clip: Image.Image | None = None) -> None:
        """Fill a polygon; `clip` is a mask from `mask` outside of which nothing is painted."""
        if alpha < _INVISIBLE:
            return
        pixels = self._place(points)
        if clip is None:
            self._draw.polygon(_flat(pixels), fill=(*colour, round(255 * alpha)))
            return
        box = self._box(pixels, 2)
        if box is None:
            return
        stencil = Image.new("L", (box[2] - box[0], box[3] - box[1]))
        ImageDraw.Draw(stencil).polygon(_flat(pixels - box[:2]), fill=round(255 * alpha))
        self.image.paste(colour, box, ImageChops.multiply(stencil, clip.crop(box)))

    def stroke(
        self,
        points: ArrayLike,
        width: float | Sequence[float],
        colour: Colour,
        *,
        alpha: float = 1.0,
        clip: Image.Image | None = None,
    ) -> None:
        """Draw a smooth line through the points; several widths are spread evenly along it."""
        if alpha < _INVISIBLE:
            return
        line = smooth(points)
        widths = np.interp(np.linspace(0, 1, len(line)), np.linspace(0, 1, np.size(width)), np.atleast_1d(width))
        self.fill(ribbon(line, widths), colour, alpha=alpha, clip=clip)

    def soft(
        self, points: ArrayLike, colour: Colour, *, alpha: float, blur: float, clip: Image.Image | None = None
    ) -> None:
        """Paint a polygon whose edge fades over `blur` picture widths."""
        if alpha < _INVISIBLE:
            return
        pixels = self._place(points)
        radius = blur * self._scale * self.side
        box = self._box(pixels, math.ceil(2.5 * radius) + _SOFT_REDUCTION)
        if box is None:
            return
        width, height = box[2] - box[0], box[3] - box[1]
        small = Image.new("L", (max(1, width // _SOFT_REDUCTION), max(1, height // _SOFT_REDUCTION)))
        ratio = np.array([small.width / width, small.height / height])
        ImageDraw.Draw(small).polygon(_flat((pixels - box[:2]) * ratio), fill=round(255 * min(alpha, 1.0)))
        small = small.filter(ImageFilter.GaussianBlur(radius / _SOFT_REDUCTION))
        stencil = small.resize((width, height), Image.Resampling.BILINEAR)
        if clip is not None:
            stencil = ImageChops.multiply(stencil, clip.crop(box))
        self.image.paste(colour, box, stencil)

    def mask(self, points: ArrayLike) -> Image.Image:
        """Make a clip mask that is open inside the polygon."""
        stencil = Image.new("L", (self.side, self.side))
        ImageDraw.Draw(stencil).polygon(_flat(self._place(points)), fill=255)
        return stencil

    def finish(self) -> Image.Image:
        """Reduce to the final size."""
        return self.image.reduce(SUPERSAMPLING)

    def _place(self, points: ArrayLike) -> Points:
        placed: Points = (np.asarray(points, dtype=np.float64) @ self._matrix.T + self._shift) * self.side
        return placed

    def _box(self, pixels: Points, margin: int) -> tuple[int, int, int, int] | None:
        low = np.floor(pixels.min(axis=0)).astype(int) - margin
        high = np.ceil(pixels.max(axis=0)).astype(int) + margin
        left, top = np.clip(low, 0, self.side)
        right, bottom = np.clip(high, 0, self.side)
        return (int(left), int(top), int(right), int(bottom)) if right > left and bottom > top else None


def smooth(points: ArrayLike, *, closed: bool = False, steps: int = 10) -> Points:
    """Run a Catmull-Rom curve through the points, (n, 2) -> (m, 2)."""
    knots = np.asarray(points, dtype=np.float64)
    if len(knots) < 3 and not closed:
        return np.linspace(knots[0], knots[-1], steps + 1)
    if closed:
        padded = np.concatenate([knots[-1:], knots, knots[:2]])
    else:
        padded = np.concatenate([2 * knots[:1] - knots[1:2], knots, 2 * knots[-1:] - knots[-2:-1]])
    before, start, end, after = padded[:-3, None], padded[1:-2, None], padded[2:-1, None], padded[3:, None]
    t = np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    curve = 0.5 * (
        2 * start
        + (end - before) * t
        + (2 * before - 5 * start + 4 * end - after) * t**2
        + (3 * start - before - 3 * end + after) * t**3
    )
    flat: Points = curve.reshape(-1, 2)  # (segments, steps, 2) -> (segments * steps, 2)
    return flat if closed else np.concatenate([flat, knots[-1:]])


def ribbon(line: Points, widths: NDArray[np.float64]) -> Points:
    """Outline a line of varying width, with round ends."""
    along = np.gradient(line, axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-12)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1) * widths[:, None] / 2
    turn = np.linspace(0, np.pi, 7)[1:-1, None]
    last = line[-1] + across[-1] * np.cos(turn) + along[-1] * np.sin(turn) * widths[-1] / 2
    first = line[0] - across[0] * np.cos(turn) - along[0] * np.sin(turn) * widths[0] / 2
    return np.concatenate([line + across, last, (line - across)[::-1], first])


def band(line: ArrayLike, width: float) -> Points:
    """Outline a line of even width, as given: no smoothing."""
    knots = np.asarray(line, dtype=np.float64)
    return ribbon(knots, np.full(len(knots), width))


def moved(points: ArrayLike, dx: float, dy: float) -> Points:
    """Shift points to the right and down."""
    shifted: Points = np.asarray(points, dtype=np.float64) + np.array((dx, dy))
    return shifted


def ellipse(centre: ArrayLike, rx: float, ry: float | None = None, *, steps: int = 40) -> Points:
    """Outline an upright ellipse."""
    angle = np.linspace(0, 2 * np.pi, steps, endpoint=False)
    outline: Points = np.asarray(centre, dtype=np.float64) + np.stack(
        [rx * np.cos(angle), (rx if ry is None else ry) * np.sin(angle)], axis=1
    )
    return outline


def mix(one: Colour, other: Colour, share: float) -> Colour:
    """Blend two colours; `share` of the other, 0..1."""
    r, g, b = (round(a + (z - a) * share) for a, z in zip(one, other, strict=True))
    return r, g, b


def _flat(pixels: Points) -> list[float]:
    flat: list[float] = pixels.ravel().tolist()
    return flat
