"""Schematic faces on a plain ground, and where they were put."""

from __future__ import annotations

import functools

import numpy as np

from cer_fusion.demofaces import COMPOUNDS, draw_sample
from cer_fusion.frames import Box

SIDE = 130


@functools.cache
def schematic_face(number: int, side: int = SIDE) -> np.ndarray:
    expression = list(COMPOUNDS)[number % len(COMPOUNDS)]
    return np.asarray(draw_sample(expression, seed=5, split="train", index=number, size_px=side))


def canvas(*faces: tuple[int, int, int], size: tuple[int, int] = (200, 320)) -> tuple[np.ndarray, list[Box]]:
    """A picture with faces, (which, left, top) of each, and the boxes that they fill."""
    picture = np.full((*size, 3), 120, np.uint8)
    boxes: list[Box] = []
    for number, left, top in faces:
        picture[top : top + SIDE, left : left + SIDE] = schematic_face(number)
        boxes.append((left, top, left + SIDE, top + SIDE))
    return picture, boxes
