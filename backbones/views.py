"""Views: one picture looked at several times, its row being the mean over all of them.

Mirroring and the crops of the four corners and the centre are those of Krizhevsky, Sutskever and Hinton, "ImageNet
Classification with Deep Convolutional Neural Networks", NeurIPS 2012, section 4.1 (224 pixels out of 256).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Literal, get_args

import numpy as np
from cer_fusion.backbones.errors import OptionError, nearest
from cer_fusion.backbones.transform import Transform
from numpy.typing import NDArray

Views = Literal["none", "flip", "five-crop", "five-crop+flip"]
"""What a row is the mean of: the picture alone; it and its mirror image; its four corners and its centre; these five
and their mirror images."""

VOCABULARY: tuple[Views, ...] = get_args(Views)

CROPS = 5
CROP_PCT = 0.875
"""A crop's share of the resized picture's side, where the transform itself keeps more of it (224 / 256)."""


def views_named(name: str) -> Views:
    """Check the name of a set of views.

    Raises
    ------
    OptionError
        If there is none of that name.
    """
    for known in VOCABULARY:
        if name == known:
            return known
    raise OptionError(f"views must be one of {', '.join(VOCABULARY)}, however: {name!r}{nearest(name, VOCABULARY)}")


def crops_of(views: Views) -> int:
    """Count the crops that are cut from one picture before it is embedded."""
    return CROPS if views.startswith("five-crop") else 1


def transform_for(views: Views, transform: Transform) -> Transform:
    """Leave the transform as it is, or have it keep a margin from which corners can be cut."""
    if crops_of(views) == 1:
        return transform
    return dataclasses.replace(transform, crop_pct=min(transform.crop_pct, CROP_PCT))


def each_view(pictures: NDArray[np.uint8], views: Views) -> Iterator[NDArray[np.uint8]]:
    """Yield one batch (b, h, w, 3) a view, of pictures (b, h, w, 3), or (b, 5, h, w, 3) where they are crops."""
    crops = [pictures] if crops_of(views) == 1 else [pictures[:, number] for number in range(CROPS)]
    yield from crops
    if views.endswith("flip"):
        for crop in crops:
            yield crop[:, :, ::-1]
