"""Aligned crops: every face turned upright, scaled and laid into a square by its five points.

The similarity (turn, scale, shift) that brings the points closest to fixed places, in the sense of least squares:
Umeyama, "Least-squares estimation of transformation parameters between two point patterns", IEEE TPAMI 13(4), 1991,
section III. Five points rather than the two eyes, since the distance of the eyes shrinks when a head turns aside.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from cer_fusion.backbones.errors import OptionError
from cer_fusion.frames.faces.face import Face
from numpy.typing import NDArray
from PIL import Image

FloatArray = NDArray[np.float64]

PLACES = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))
"""Where the points of `LANDMARKS` lie in a crop of 112 x 112 without margin: the alignment of ArcFace (Deng et al.,
CVPR 2019; `arcface_dst` in insightface)."""
_SIDE = 112.0
CODE = 1
"""Version of what stands here; part of the identity."""


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """What a crop is; checked once when made."""

    size_px: int = 224
    """Side of the square."""
    margin: float = 0.0
    """Added on each side of the tight square, as a share of it; below 0 cuts closer."""

    def __post_init__(self) -> None:
        """Refuse what gives no picture."""
        if not 16 <= self.size_px <= 2048:
            raise OptionError(f"a crop's side must be from 16 to 2048 pixels, however: {self.size_px}")
        if not -0.2 <= self.margin <= 2:
            raise OptionError(f"a crop's margin must be from -0.2 to 2, however: {self.margin}")

    def identity(self) -> dict[str, object]:
        """Everything that fixes a crop but the face; JSON values."""
        return {
            "method": "similarity of five points",
            "code": CODE,
            "size_px": self.size_px,
            "margin": self.margin,
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
        scale = self.size_px / (_SIDE * (1 + 2 * self.margin))
        places = (np.array(PLACES) + _SIDE * self.margin) * scale
        return similarity(places, np.array(face.landmarks, dtype=np.float64))


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
