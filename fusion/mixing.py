"""Decision-level mixing: many weight vectors over the members' probabilities, in one contraction."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fusion.errors import SweepError, nearest
from fusion.mixes import MIXES, Mix, terms

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]
Decisions: TypeAlias = NDArray[np.int16]

_CHUNK = 100_000  # mixed probabilities held at once: 0.8 MB, within the caches


def decisions(member_proba: FloatArray, weights: FloatArray, mix: Mix = "arithmetic") -> Decisions:
    """Return the class each weight vector decides for.

    Parameters
    ----------
    member_proba : float64 array of shape (m, n, k)
        Each member's class probabilities.
    weights : float64 array of shape (w, m)
        Non-negative; their scale does not matter.
    mix : {"arithmetic", "geometric", "harmonic", "rank"}
        What is averaged (`fusion.mixes.terms`), as in the `late` head.

    Returns
    -------
    int16 array of shape (w, n)
        Class positions; the first of equal ones, as ``argmax`` has it.
    """
    if member_proba.ndim != 3 or weights.ndim != 2 or weights.shape[1] != member_proba.shape[0]:
        raise SweepError(
            f"weights must have shape (w, m) for members of shape (m, n, k), however: {weights.shape} and "
            f"{member_proba.shape}"
        )
    if mix not in MIXES:
        raise SweepError(f"there is no mix {mix!r}; {nearest(mix, MIXES)}")
    m, _, k = member_proba.shape
    firsts = member_proba.argmax(axis=2)  # (m, n)
    out = np.repeat(firsts[:1].astype(np.int16), weights.shape[0], axis=0)
    rows = np.flatnonzero((firsts != firsts[0]).any(axis=0))  # where all members agree, so does every mix of them
    if not rows.size:
        return out
    scores = terms(member_proba[:, rows], mix)
    planes = np.ascontiguousarray(scores.transpose(0, 2, 1)).reshape(m, -1)  # (m, n', k) -> (m, k * n')
    shares = weights / weights.sum(axis=1, keepdims=True)
    step = max(1, _CHUNK // planes.shape[1])

    def decide(start: int) -> None:
        mixed = (shares[start : start + step] @ planes).reshape(-1, k, rows.size)  # (w', k * n') -> (w', k, n')
        out[start : start + step, rows] = _argmax(mixed)

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # NumPy's loops release the lock; parts have places of their own
        deque(pool.map(decide, range(0, len(shares), step)), maxlen=0)
    return out


def _argmax(planes: FloatArray) -> Decisions:
    """First largest class, by whole planes: (w, k, n) -> (w, n). NumPy's argmax is slow over a short axis.

    The position is counted as the classes that pass before the largest value is met: sums of single bytes.
    """
    best = planes[:, 0].copy()
    for c in range(1, planes.shape[1]):
        np.maximum(best, planes[:, c], out=best)
    where = np.zeros(best.shape, dtype=np.uint8)
    before, unequal = np.ones(best.shape, dtype=np.bool_), np.empty(best.shape, dtype=np.bool_)
    for c in range(planes.shape[1] - 1):
        np.not_equal(planes[:, c], best, out=unequal)
        np.logical_and(before, unequal, out=before)
        where += before.view(np.uint8)
    return where.astype(np.int16)


def counted(y_true: IntArray, y_pred: NDArray[np.integer], k: int) -> IntArray:
    """Return the confusion matrix of each line of predictions: (n,), (w, n) -> (w, k, k)."""
    w, n = y_pred.shape
    out = np.empty((w, k, k), dtype=np.int64)
    step = max(1, _CHUNK // n)
    for start in range(0, w, step):
        part = y_pred[start : start + step]
        cells = part + (np.arange(len(part)) * k * k)[:, None] + (y_true * k)[None, :]
        out[start : start + step] = np.bincount(cells.ravel(), minlength=len(part) * k * k).reshape(-1, k, k)
    return out


def totals(confusions: IntArray) -> tuple[FloatArray, FloatArray]:
    """Return accuracy and macro F1 (an undefined F1 counts as 0) of each confusion matrix: (w, k, k) -> (w,), (w,)."""
    right = np.diagonal(confusions, axis1=1, axis2=2)
    whole = confusions.sum(axis=1) + confusions.sum(axis=2)
    f1 = np.divide(2.0 * right, whole, out=np.zeros(right.shape), where=whole > 0)
    return right.sum(axis=1) / confusions.sum(axis=(1, 2)), f1.mean(axis=1)
