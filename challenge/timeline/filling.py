"""Frames without a row, filled in time from the same video's neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from cer_fusion.challenge.timeline.track import IntArray, Timeline
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Filled:
    """One video without gaps, from the first to the last frame that has a row."""

    values: FloatArray
    """(t, k) probabilities; those of missing frames are interpolated."""
    observed: NDArray[np.bool_]
    """(t,) whether the frame has a row of its own."""


def filled(proba: FloatArray, timeline: Timeline) -> list[Filled]:
    """Close the gaps inside each video: (n, k) rows in any order -> one `Filled` a track."""
    out = []
    for track in timeline.tracks:
        span = track.span
        observed = np.zeros(span.size, dtype=np.bool_)
        observed[track.frames - track.frames[0]] = True
        out.append(Filled(values=at_frames(proba[track.rows], track.frames, span), observed=observed))
    return out


def at_frames(values: FloatArray, frames: IntArray, wanted: IntArray) -> FloatArray:
    """Return one video's probabilities at any frame numbers.

    A frame that has a row keeps it to the bit; between two rows probabilities are interpolated linearly in time; before
    the first and after the last row they are held.

    Parameters
    ----------
    values : float64 array of shape (t, k)
        Rows at ``frames``.
    frames : int64 array of shape (t,)
        Rising, t >= 1.
    wanted : int64 array of shape (w,)
        Any frame numbers.

    Returns
    -------
    float64 array of shape (w, k)
    """
    right = np.minimum(np.searchsorted(frames, wanted), frames.size - 1)
    left = np.where((frames[right] > wanted) & (right > 0), right - 1, right)
    apart = np.maximum(frames[right] - frames[left], 1)
    share = np.clip((wanted - frames[left]) / apart, 0.0, 1.0)[:, None] * (right != left)[:, None]
    mixed: FloatArray = values[left] * (1 - share) + values[right] * share
    return mixed
