"""Of boxes that show the same thing, the surest."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def suppress(boxes: NDArray[np.float32], most: float, *, smaller: bool = False) -> NDArray[np.intp]:
    """Greedy non-maximum suppression.

    Parameters
    ----------
    boxes : ndarray of shape (n, 5)
        Left, top, right, bottom, score.
    most : float
        Overlap with a surer box that is borne.
    smaller : bool
        Measure the overlap by the smaller of the two boxes, instead of by their union.

    Returns
    -------
    ndarray of int
        Positions of the boxes that stay, the surest first; of equals the first.
    """
    left, top, right, bottom, scores = boxes.astype(np.float64).T
    areas = np.maximum(right - left, 0) * np.maximum(bottom - top, 0)
    order: NDArray[np.intp] = np.argsort(-scores, kind="stable")
    kept: list[Any] = []
    while order.size:
        first, rest = order[0], order[1:]
        kept.append(first)
        width = np.minimum(right[first], right[rest]) - np.maximum(left[first], left[rest])
        height = np.minimum(bottom[first], bottom[rest]) - np.maximum(top[first], top[rest])
        both = np.maximum(width, 0) * np.maximum(height, 0)
        whole = np.minimum(areas[first], areas[rest]) if smaller else areas[first] + areas[rest] - both
        order = rest[both <= most * whole]
    return np.array(kept, dtype=np.intp)
