"""RandAugment for faces: timm's operations, a few of them on each picture, chosen by numbers drawn beforehand.

Cubuk et al., "RandAugment", CVPR Workshops 2020. timm's own class chooses by Python's global generator, which cannot be
resumed; here the choice and the sign are the picture's own numbers, as in
`cer_fusion.backbones.finetuning.augmentation`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from timm.data.auto_augment import NAME_TO_OP

DRAWS_EACH = 2
"""Uniform numbers that one operation needs: which one, and in which direction."""

OPERATIONS: dict[str, Callable[[float], tuple[float, ...]]] = {
    "AutoContrast": lambda _: (),
    "Equalize": lambda _: (),
    "Rotate": lambda strength: (30 * strength,),  # degrees
    "Color": lambda strength: (1 + 0.9 * strength,),
    "Contrast": lambda strength: (1 + 0.9 * strength,),
    "Brightness": lambda strength: (1 + 0.9 * strength,),
    "Sharpness": lambda strength: (1 + 0.9 * strength,),
    "ShearX": lambda strength: (0.3 * strength,),
    "ShearY": lambda strength: (0.3 * strength,),
    "TranslateXRel": lambda strength: (0.45 * strength,),  # share of the width
    "TranslateYRel": lambda strength: (0.45 * strength,),
}
"""timm's name -> what it takes at a strength in [-1, 1], by timm's own scales. Inverting, solarising and posterising
are left out: no face looks so."""

_GREY = (128, 128, 128)
"""What comes in from outside the picture, as in timm."""


def randaugment(
    pictures: NDArray[np.uint8], u: NDArray[np.float32], *, operations: int, magnitude: float
) -> NDArray[np.uint8]:
    """Apply some operations to each picture, one after another.

    Parameters
    ----------
    pictures : ndarray of shape (b, h, w, 3), uint8
    u : ndarray of shape (b, 2 x operations), float32 in [0, 1)
    operations : int
        How many a picture; the same one may come twice.
    magnitude : float
        Strength of all of them, 0 to 10.

    Returns
    -------
    ndarray of shape (b, h, w, 3), uint8
    """
    if not operations:
        return pictures
    return np.stack([_changed(picture, own, magnitude / 10) for picture, own in zip(pictures, u, strict=True)])


def _changed(picture: NDArray[np.uint8], u: NDArray[np.float32], strength: float) -> NDArray[np.uint8]:
    image = Image.fromarray(picture)
    names = list(OPERATIONS)
    for choice, direction in u.reshape(-1, DRAWS_EACH).tolist():  # (2 x operations) -> (operations, 2)
        name = names[int(choice * len(names))]
        given = OPERATIONS[name](strength if direction < 0.5 else -strength)
        operation: Any = NAME_TO_OP[name]
        image = operation(image, *given, fillcolor=_GREY, resample=Image.Resampling.BILINEAR)
    return np.asarray(image)
