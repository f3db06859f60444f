"""Windows that slide over one video: box, Gaussian, exponential and median.

All of them are centred, and frames beyond the ends of the video do not count: the weights of those that are there are
scaled up to 1. Rows stay probabilities.
"""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

_LOG = logging.getLogger(__name__)


def box(values: FloatArray, window: int) -> FloatArray:
    """Mean over the ``window`` frames around each: (t, k) -> (t, k). ``window`` is odd."""
    t, half = len(values), window // 2
    sums = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
    low, high = np.maximum(np.arange(t) - half, 0), np.minimum(np.arange(t) + half + 1, t)
    return _shares(sums[high] - sums[low])


def gaussian(values: FloatArray, window: int) -> FloatArray:
    """Weighted mean with a standard deviation of ``window / 6`` frames, cut at the window's ends. ``window`` is odd."""
    from scipy.ndimage import correlate1d

    offsets = np.arange(-(window // 2), window // 2 + 1)
    weights = np.exp(-0.5 * (offsets / (window / 6)) ** 2)
    return _shares(correlate1d(values, weights, axis=0, mode="constant"))


def exponential(values: FloatArray, window: int) -> FloatArray:
    """Weighted mean whose weights fall by ``(window - 1) / (window + 1)`` a frame, in both directions of time.

    One direction alone is the exponential moving average of span ``window``: its rows are as old, on average, as those
    of a one-sided box of that length, (window - 1) / 2 frames. Both together do not lag behind.
    """
    from scipy.signal import lfilter

    decay = (window - 1) / (window + 1)
    ahead = lfilter([1.0], [1.0, -decay], values, axis=0)
    behind = lfilter([1.0], [1.0, -decay], values[::-1], axis=0)[::-1]
    return _shares(ahead + behind - values)


def median(values: FloatArray, window: int) -> FloatArray:
    """Median over the ``window`` frames around each, class by class, scaled to sum to 1. ``window`` is odd.

    Near the ends an even number of frames may be there; one of the two middle ones is taken then. Where the median of
    every class is 0 (rows that are all certain, of three classes or more) the frame keeps its own row, and a warning
    says how often.
    """
    from scipy.ndimage import median_filter

    half = window // 2
    # Low and high in turn, so that those inside a window outweigh each other; the two ends start differently.
    beyond = np.where(np.arange(half) % 2 == 0, -np.inf, np.inf)
    columns = []
    for column in values.T:
        padded = np.concatenate([beyond[::-1], column, -beyond])
        columns.append(median_filter(padded, size=window, mode="nearest")[half : half + column.size])
    middle = np.stack(columns, axis=1)
    lost = ~(middle.sum(axis=1) > 0)
    if lost.any():
        _LOG.warning(
            "median over %d frames: in %d of %d frames the median of every class is 0; they keep their own row",
            window, int(lost.sum()), lost.size,
        )  # fmt: skip
    return _shares(np.where(lost[:, None], values, middle))


def _shares(values: FloatArray) -> FloatArray:
    """Scale rows to sum to 1; differences of running sums may lie a rounding error below 0."""
    positive = np.maximum(values, 0.0)
    shares: FloatArray = positive / positive.sum(axis=1, keepdims=True)
    return shares
