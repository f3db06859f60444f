"""Loose crops, as FER+ and web pictures of one face come, brought to a network's own crop on the way in.

Such a picture holds one face, tight or loose, small or large, upright or not. It is looked at with a part of its edge
repeated around it (a detector wants to see that a face ends), at 160 pixels first and larger where nothing was found.
The face nearest the middle is meant, unless it is a small one beside a large one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .detectors import detector_again
from .errors import OptionError
from .faces import Alignment, Convention, Detector, Face, area

CODE = 1
"""Version of what stands here; part of the identity."""
_SIDES_PX = (160, 320, 640)  # of the shorter side while a face is looked for
_ENLARGED_PX = 320  # a smaller picture is looked at enlarged so far
_EDGE = 0.3  # repeated on each side, as a share of the shorter one
_RIVAL = 0.5  # of the largest face's area, from which another may be the one that is meant


@dataclass(frozen=True, kw_only=True)
class LooseCrops:
    """Finds the one face of a picture, and cuts it out.

    Parameters are part of the identity of what is made of the crops.
    """

    detector: Detector
    convention: Convention = "arcface112"
    """See `Alignment`."""
    margin: float | None = None
    """See `Alignment`."""

    def identity(self) -> dict[str, Any]:
        """Everything that fixes the crops but their size; JSON values."""
        crop = {**self.alignment(16).identity(), "beyond_the_picture": "its edge, then black"}
        del crop["size_px"]
        return {
            "code": CODE, "sides_px": list(_SIDES_PX), "edge": _EDGE, "crop": crop,
            "detector": self.detector.identity(),
        }  # fmt: skip

    @classmethod
    def again(cls, identity: Mapping[str, Any], detector: str, *, device: str = "cpu") -> LooseCrops:
        """What has this identity; see `detector_again`.

        Raises
        ------
        OptionError
            If this release, or the detector named, would cut other crops.
        """
        found = detector_again(identity["detector"], detector, device=device)
        made = cls(detector=found, convention=identity["crop"]["convention"], margin=identity["crop"]["margin"])
        if made.identity() != identity:
            raise OptionError(f"faces cannot be cut out as they were: {dict(identity)}, here {made.identity()}")
        return made

    def alignment(self, size_px: int) -> Alignment:
        """What a crop of a size is."""
        return Alignment(size_px=size_px, convention=self.convention, margin=self.margin)

    def find(self, picture: NDArray[np.uint8]) -> Face | None:
        """The face that is meant.

        Parameters
        ----------
        picture : ndarray of shape (h, w, 3), uint8, RGB

        Returns
        -------
        Face or None
            In pixels of the picture; None where there is none.
        """
        shorter = min(picture.shape[:2])
        for side in _SIDES_PX:
            if side > max(shorter, _ENLARGED_PX):
                break
            found = self._found(picture, side / shorter)
            if found is not None:
                return found
        return None

    def cut(self, picture: NDArray[np.uint8], face: Face, size_px: int) -> NDArray[np.uint8]:
        """The face in its crop: (h, w, 3) -> (size_px, size_px, 3), uint8, RGB."""
        edge = math.ceil(_EDGE * min(picture.shape[:2]))
        return self.alignment(size_px).crop(_edged(picture, edge), _moved(face, edge, 1.0))

    def _found(self, picture: NDArray[np.uint8], scale: float) -> Face | None:
        height, width = picture.shape[:2]
        size = (max(1, round(scale * width)), max(1, round(scale * height)))
        resampling = Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.BOX
        shown = np.asarray(Image.fromarray(picture).resize(size, resampling))
        edge = math.ceil(_EDGE * min(size))
        faces = self.detector.detect(_edged(shown, edge))
        if not faces:
            return None
        least = _RIVAL * max(area(face.box) for face in faces)
        middle = (size[0] / 2 + edge, size[1] / 2 + edge)

        def off(face: Face) -> float:
            left, top, right, bottom = face.box
            return math.hypot((left + right) / 2 - middle[0], (top + bottom) / 2 - middle[1])

        chosen = min((face for face in faces if area(face.box) >= least), key=off)
        return _moved(chosen, -edge, min(height, width) / min(size))


def _edged(picture: NDArray[np.uint8], edge: int) -> NDArray[np.uint8]:
    """The picture with its outermost pixels repeated around it."""
    return np.pad(picture, ((edge, edge), (edge, edge), (0, 0)), mode="edge")


def _moved(face: Face, by: float, scale: float) -> Face:
    """A face moved by pixels in both directions, then scaled."""
    left, top, right, bottom = ((place + by) * scale for place in face.box)
    points = tuple(((x + by) * scale, (y + by) * scale) for x, y in face.landmarks)
    return replace(face, box=(left, top, right, bottom), landmarks=points)
