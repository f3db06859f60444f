"""Faces in a picture: where they are, which of them counts, and each cut out upright.

A `Detector` finds them. `Alignment` cuts a face out by one of the named conventions. For `face` and `arcface112` it
turns, scales and lays a face into a square by its five points, by the similarity (turn, scale, shift) that brings the
points closest to fixed places in the sense of least squares: Umeyama, "Least-squares estimation of transformation
parameters between two point patterns", IEEE TPAMI 13(4), 1991, section III. Five points rather than the two eyes, since
the distance of the eyes shrinks when a head turns aside.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..kit.errors import nearest
from .errors import OptionError

FloatArray = NDArray[np.float64]

LANDMARKS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
"""Names of the points; left and right are the picture's, not the person's."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels of the picture, right and bottom beyond the last pixel."""


Policy = Literal["track", "largest", "all", "none"]
POLICIES: tuple[str, ...] = get_args(Policy)
"""`track`: of the tracks that are there, the one with most presence in the video. `largest`: the largest box of each
frame. `all`: every face, each track by itself. `none`: no faces are looked for, the frame itself is the picture."""


@dataclass(frozen=True, kw_only=True)
class Face:
    """One detection."""

    box: Box
    """May reach beyond the picture's edges."""
    score: float
    """0 to 1; what it means is the detector's."""
    landmarks: tuple[tuple[float, float], ...]
    """(x, y) of the points of `LANDMARKS`, in pixels."""


class Detector(Protocol):
    """Finds faces in pictures."""

    def detect(self, picture: NDArray[np.uint8]) -> list[Face]:
        """Faces of a picture (h, w, 3) uint8 RGB, the surest first; called from several threads."""

    def identity(self) -> dict[str, object]:
        """What fixes what is found: method, weights, settings; JSON values."""

    def versions(self) -> dict[str, str]:
        """Libraries that compute it."""


@runtime_checkable
class Follows(Protocol):
    """A detector that finds faces faster near where they were."""

    def follow(self, picture: NDArray[np.uint8], boxes: Sequence[Box]) -> list[Face]:
        """Faces of a picture (h, w, 3) uint8 RGB near the boxes of the frame before; fewer where some are gone."""


def area(box: Box) -> float:
    """Square pixels; 0 for a box without extent."""
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes, 0 to 1."""
    both = area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))
    together = area(a) + area(b) - both
    return both / together if together > 0 else 0.0


def largest(boxes: Sequence[Box]) -> int | None:
    """Position of the largest box, the first of equals; None where there is none."""
    return max(range(len(boxes)), key=lambda i: (area(boxes[i]), -i), default=None)


PLACES = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))
"""Where the points of `LANDMARKS` lie in a crop of 112 x 112 without margin: the alignment of ArcFace (Deng et al.,
CVPR 2019; `arcface_dst` in insightface)."""
_SIDE = 112.0
CODE = 2
"""Version of what stands here; part of the identity."""

Convention = Literal["face", "arcface112", "box", "affectnet"]
MARGINS: dict[str, float] = {"face": 0.1, "arcface112": 0.0, "box": 0.0, "affectnet": 0.15}
"""The named ways of cutting a face out, and the margin of each unless another is asked for.

`arcface112`: turned upright by the five points, which come to ArcFace's places; what networks for recognition, and most
of those for expressions that began as such, were trained on. It cuts the chin off in 98 of 100 faces, and with it a
jaw that drops. `face`: the same with room for the chin, of which it loses 14 in 100; to a network trained on the tight
crop and not on this one that is a loss of a point and a half (`benchmarks/crops.py`), so it is for frames. `box`: the
square around the detector's box, not turned. `affectnet`: the same, loose, as AffectNet hands out its faces
(Mollahosseini, Hasani and Mahoor, IEEE TAC 2017); its own detector is not this one, so the margin is a likeness."""


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """What a crop is; checked once when made."""

    size_px: int = 224
    """Side of the square."""
    convention: Convention = "face"
    """One of `MARGINS`."""
    margin: float | None = None
    """Added on each side of the tight square, as a share of it; below 0 cuts closer. None: the convention's own."""

    def __post_init__(self) -> None:
        """Refuse what gives no picture."""
        if not 16 <= self.size_px <= 2048:
            raise OptionError(f"a crop's side must be from 16 to 2048 pixels, however: {self.size_px}")
        if self.convention not in MARGINS:
            raise OptionError(
                f"a crop's convention is one of {', '.join(MARGINS)}, however: {self.convention!r}"
                f"{nearest(self.convention, MARGINS)}"
            )
        if not -0.2 <= self.added <= 2:
            raise OptionError(f"a crop's margin must be from -0.2 to 2, however: {self.margin}")

    @property
    def added(self) -> float:
        """The margin that is meant."""
        return MARGINS[self.convention] if self.margin is None else self.margin

    def identity(self) -> dict[str, object]:
        """Everything that fixes a crop but the face; JSON values."""
        return {
            "convention": self.convention,
            "code": CODE,
            "size_px": self.size_px,
            "margin": self.added,
            "resampling": "bicubic over box",
            "beyond_the_picture": "black",
        }

    def crop(self, picture: NDArray[np.uint8], face: Face) -> NDArray[np.uint8]:
        """Cut a face out.

        Parameters
        ----------
        picture : ndarray of shape (h, w, 3), uint8, RGB
        face : Face
            With five points.

        Returns
        -------
        ndarray of shape (size_px, size_px, 3), uint8, RGB
            Black where the square leaves the picture.
        """
        moves = self.matrix(face)
        shrink = max(1, int(math.hypot(moves[0, 0], moves[1, 0])))  # pixels of the picture a pixel of the crop
        image, origin = _part(picture, moves, self.size_px)
        if shrink > 1:  # an affine map looks at single pixels: average them first, or fine structure turns to noise
            image = image.reduce(shrink)
        # Pillow maps the crop's pixel centres (x + 0.5, y + 0.5) through these six numbers
        a, b, c = moves[0] / shrink - np.array([0, 0, origin[0] / shrink])
        d, e, f = moves[1] / shrink - np.array([0, 0, origin[1] / shrink])
        side = (self.size_px, self.size_px)
        cut = image.transform(side, Image.Transform.AFFINE, (a, b, c, d, e, f), Image.Resampling.BICUBIC)
        return np.asarray(cut)

    def matrix(self, face: Face) -> FloatArray:
        """The map from places in the crop to places in the picture, (2, 3)."""
        whole = 1 + 2 * self.added
        if self.convention in ("face", "arcface112"):
            places = (np.array(PLACES) + _SIDE * self.added) * self.size_px / (_SIDE * whole)
            return similarity(places, np.array(face.landmarks, dtype=np.float64))
        left, top, right, bottom = face.box
        side = whole * max(right - left, bottom - top, 1)
        scale = side / self.size_px
        return np.array([[scale, 0, (left + right - side) / 2], [0, scale, (top + bottom - side) / 2]])


def similarity(source: FloatArray, target: FloatArray) -> FloatArray:
    """The turn, scale and shift, (2, 3), that bring (n, 2) points closest to (n, 2) others; never a mirror image.

    In the plane Umeyama's solution has a closed form: the centred points are complex numbers, and the best factor is
    their correlation over the source's variance.
    """
    middle, wanted = source.mean(axis=0), target.mean(axis=0)
    a = (source - middle) @ np.array([1, 1j])
    b = (target - wanted) @ np.array([1, 1j])
    factor = np.vdot(a, b) / np.vdot(a, a).real
    turn = np.array([[factor.real, -factor.imag], [factor.imag, factor.real]])
    return np.concatenate([turn, (wanted - turn @ middle)[:, None]], axis=1)


def _part(picture: NDArray[np.uint8], moves: FloatArray, side: int) -> tuple[Image.Image, tuple[int, int]]:
    """The part of the picture that a crop looks at, so that a large frame costs no more than a small one."""
    corners = moves @ np.array([[0, side, 0, side], [0, 0, side, side], [1, 1, 1, 1]])
    height, width = picture.shape[:2]
    border = 4 + 2 * math.ceil(math.hypot(moves[0, 0], moves[1, 0]))
    left, top = (max(0, math.floor(low) - border) for low in corners.min(axis=1))
    right, bottom = (
        min(most, math.ceil(high) + border) for most, high in zip((width, height), corners.max(axis=1), strict=True)
    )
    if right <= left or bottom <= top:  # the points lie outside the picture altogether
        left = top = 0
        right = bottom = 1
    return Image.fromarray(np.ascontiguousarray(picture[top:bottom, left:right])), (left, top)
