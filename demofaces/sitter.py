"""Sitter: the person being drawn, that is an expression and a style with what follows from both."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from .action_units import ActionUnits
from .canvas import Points, mix
from .style import Colour, Style

_HEAD_RADII = (0.36, 0.50, 0.36)  # half width, height and depth of the ellipsoid on which the features sit
_ASYMMETRY = 0.08


class Sitter:
    """An expression on a person: colours, jaw and the places of features on a turned head."""

    def __init__(self, units: ActionUnits, style: Style) -> None:
        """Join an expression and a style."""
        self.units = units
        self.style = style
        self._sides = {side: self._half(side) for side in (-1, 1)}
        self.jaw_drop = 0.058 * units.jaw_drop
        """How far the chin falls, in picture widths."""

    def activity(self, side: int) -> ActionUnits:
        """The expression of one half of the face (-1 left, 1 right in the picture)."""
        return self._sides[side]

    def on_face(self, points: ArrayLike, *, lift: float = 0.0) -> Points:
        """Carry frontal points to where they are seen on the turned head.

        Parameters
        ----------
        points : array of shape (n, 2)
            Positions on a face that looks straight ahead.
        lift : float
            How far the points stand out from the head, in picture widths (the tip of the nose does).
        """
        x, y = np.asarray(points, dtype=np.float64).T
        rx, ry, rz = _HEAD_RADII
        z = rz * np.sqrt(np.maximum(0.0, 1.0 - (x / rx) ** 2 - (y / ry) ** 2)) + lift
        yaw, pitch = math.radians(self.style.yaw_deg), math.radians(self.style.pitch_deg)
        turned = x * math.cos(yaw) + z * math.sin(yaw)
        depth = z * math.cos(yaw) - x * math.sin(yaw)
        seen: Points = np.stack([turned, y * math.cos(pitch) + depth * math.sin(pitch)], axis=1)
        return seen

    def _half(self, side: int) -> ActionUnits:
        gain = 1.0 + side * _ASYMMETRY * self.style.asymmetry
        return ActionUnits.from_numbers({n: min(1.0, gain * value) for n, value in self.units.by_number().items()})

    @cached_property
    def shade(self) -> Colour:
        """Skin in shadow: darker and warmer."""
        r, g, b = self.style.skin
        return round(r * 0.76), round(g * 0.64), round(b * 0.60)

    @cached_property
    def glow(self) -> Colour:
        """Skin in the light."""
        return mix(self.style.skin, (255, 246, 228), 0.55)

    @cached_property
    def line(self) -> Colour:
        """Wrinkles and outlines."""
        r, g, b = self.style.skin
        return round(r * 0.45), round(g * 0.32), round(b * 0.30)

    @cached_property
    def ink(self) -> Colour:
        """Lash lines and nostrils."""
        return mix(self.line, (24, 14, 16), 0.65)

    @cached_property
    def lip(self) -> Colour:
        """Lips: redder than the skin."""
        return mix(self.style.skin, (176, 62, 70), 0.55)

    @cached_property
    def blush(self) -> Colour:
        """Cheeks."""
        return mix(self.style.skin, (222, 84, 80), 0.50)

    @cached_property
    def brow(self) -> Colour:
        """Brows: the hair, darkened until they stand out from the skin."""
        return mix(self.style.hair, (28, 18, 18), 0.55)
