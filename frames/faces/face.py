"""A face in a picture: where it is, how sure the detector was, and five points of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

LANDMARKS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
"""Names of the points; left and right are the picture's, not the person's."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels of the picture, right and bottom beyond the last pixel."""


@dataclass(frozen=True, kw_only=True)
class Face:
    """One detection."""

    box: Box
    """May reach beyond the picture's edges."""
    score: float
    """0 to 1; what it means is the detector's."""
    landmarks: tuple[tuple[float, float], ...]
    """(x, y) of the points of `LANDMARKS`, in pixels."""

    @property
    def area(self) -> float:
        """Of the box, in square pixels."""
        return area(self.box)


class Detector(Protocol):
    """Finds faces in pictures."""

    def detect(self, picture: NDArray[np.uint8]) -> list[Face]:
        """Faces of a picture (h, w, 3) uint8 RGB, the surest first."""

    def identity(self) -> dict[str, object]:
        """What fixes what is found: method, weights, settings; JSON values."""

    def versions(self) -> dict[str, str]:
        """Libraries that compute it."""


def area(box: Box) -> float:
    """Square pixels; 0 for a box without extent."""
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes, 0 to 1."""
    both = area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))
    together = area(a) + area(b) - both
    return both / together if together > 0 else 0.0
