"""Intervals: Wilson for one accuracy, a stratified (or group-wise) bootstrap for everything else.

One bootstrap serves the whole package: the resampled row counts are drawn once and every set of predictions (heads of a
comparison, weights of a sweep) is scored on the same counts, so differences between them are paired by construction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fusion.errors import ReportError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Metric = Literal["accuracy", "macro_f1"]

LEVEL = 0.95
_CELLS = 4_000_000  # counts held at once: 16 MB of float32


@dataclass(frozen=True)
class Interval:
    """A confidence interval."""

    low: float
    """Lower end, in the unit of the figure (0-1 for scores)."""
    high: float
    """Upper end."""
    level: float = LEVEL
    """Nominal coverage, 0-1."""

    def __contains__(self, value: float) -> bool:
        """Whether the value lies inside, ends included."""
        return self.low <= value <= self.high


def wilson(correct: float, n: int, level: float = LEVEL) -> Interval:
    """Score interval of a proportion (Wilson 1927): independent rows, good at small n and near 0 and 1.

    `correct` is a count; a mean of counts over several runs gives the interval of one run of that count.
    """
    if not 0 <= correct <= n or n < 1:
        raise ReportError(f"a proportion needs 0 <= correct <= n and n >= 1, however: {correct} of {n}")
    z = NormalDist().inv_cdf(0.5 + level / 2)
    share, spread = correct / n, z * z / n
    middle = (share + spread / 2) / (1 + spread)
    half = z * sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    return Interval(max(0.0, middle - half), min(1.0, middle + half), level)


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """Resampled scores of h sets of predictions on the same resamples."""

    accuracy: FloatArray
    """(r, h), 0-1."""
    macro_f1: FloatArray
    """(r, h), 0-1."""

    def averaged(self, runs: int) -> Bootstrap:
        """Average every so many neighbouring sets (the runs of one head) on each resample: (r, h * runs) -> (r, h)."""
        return Bootstrap(*(a.reshape(len(a), -1, runs).mean(axis=2) for a in (self.accuracy, self.macro_f1)))

    def interval(self, metric: Metric, column: int, level: float = LEVEL) -> Interval:
        """Percentile interval of one set of predictions."""
        return percentile(getattr(self, metric)[:, column], level)

    def difference(self, metric: Metric, column: int, baseline: int, level: float = LEVEL) -> Interval:
        """Percentile interval of a paired difference, ``column`` minus ``baseline``."""
        draws: FloatArray = getattr(self, metric)
        return percentile(draws[:, column] - draws[:, baseline], level)


def bootstrap(
    y_true: IntArray,
    y_pred: NDArray[np.integer],
    k: int,
    *,
    groups: Sequence[str] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> Bootstrap:
    """Score many sets of predictions on the same resamples of the rows.

    Parameters
    ----------
    y_true : int64 array of shape (n,)
        Class positions, 0..k-1.
    y_pred : int64 array of shape (h, n)
        One line per set of predictions.
    k : int
        Number of classes; macro F1 averages over all of them, an undefined F1 counts as 0.
    groups : sequence of str, optional
        Video or subject of each row. When some rows share a group whole groups are drawn (rows of a video are not
        independent); else rows are drawn within each class, so the supports stay as they are.
    resamples : int
        Number of resamples r.
    seed : int
        Same seed, same data, same numbers.
    """
    if y_pred.ndim != 2 or y_pred.shape[1] != y_true.shape[0] or not y_true.size:
        raise ReportError(
            f"predictions must have shape (h, n) for n truths, however: {y_pred.shape} for {y_true.shape[0]}"
        )
    rng = np.random.default_rng(seed)
    chunk = max(1, _CELLS // y_true.size)
    called = np.ascontiguousarray(y_pred.T.astype(np.int16))  # (h, n) -> (n, h)
    parts = [
        _resampled(_draw(rng, y_true, k, groups, min(chunk, resamples - done)), y_true, called, k)
        for done in range(0, resamples, chunk)
    ]
    return Bootstrap(np.concatenate([a for a, _ in parts]), np.concatenate([f for _, f in parts]))


def accuracy_interval(
    correct: int, n: int, draws: Bootstrap, column: int, *, independent: bool, level: float = LEVEL
) -> Interval:
    """Interval of an accuracy: Wilson for independent rows; the bootstrap's own where rows share groups."""
    return wilson(correct, n, level) if independent else draws.interval("accuracy", column, level)


def percentile(draws: FloatArray, level: float = LEVEL) -> Interval:
    """Percentile interval of bootstrap draws, shape (r,)."""
    low, high = np.quantile(draws, [0.5 - level / 2, 0.5 + level / 2])
    return Interval(float(low), float(high), level)


def clustered(groups: Sequence[str] | None) -> bool:
    """Whether some rows share a group, so that they cannot be taken as independent."""
    return groups is not None and len(set(groups)) < len(groups)


def _draw(
    rng: np.random.Generator, y_true: IntArray, k: int, groups: Sequence[str] | None, r: int
) -> NDArray[np.float32]:
    """How often each row is in each resample: (r, n)."""
    if groups is not None and clustered(groups):
        _, member = np.unique(np.asarray(groups), return_inverse=True)
        return _draw_equal(rng, int(member.max()) + 1, r)[:, member]
    counts = np.zeros((r, y_true.size), dtype=np.float32)
    for c in range(k):
        rows = np.flatnonzero(y_true == c)
        if rows.size:
            counts[:, rows] = _draw_equal(rng, rows.size, r)
    return counts


def _draw_equal(rng: np.random.Generator, n: int, r: int) -> NDArray[np.float32]:
    """Draw n of n with replacement, r times; count each: (r, n)."""
    picks = rng.integers(0, n, size=(r, n)) + np.arange(r)[:, None] * n
    return np.bincount(picks.ravel(), minlength=r * n).reshape(r, n).astype(np.float32)


def _resampled(
    counts: NDArray[np.float32], y_true: IntArray, called: NDArray[np.int16], k: int
) -> tuple[FloatArray, FloatArray]:
    """Accuracy and macro F1 of each set of predictions on each resample: (r, n), (n, h) -> (r, h) twice.

    Class by class: where all sets agree whether a row is called c, the row is multiplied once, not h times. float32
    sums of small whole numbers are exact below 2^24.
    """
    by_row = np.ascontiguousarray(counts.T)  # (r, n) -> (n, r)
    hits = np.zeros((counts.shape[0], called.shape[1]), dtype=np.float32)
    f1 = np.zeros_like(hits)
    for c in range(k):
        is_c, own = called == c, y_true == c
        often = np.count_nonzero(is_c, axis=1)
        always, sometimes = often == called.shape[1], (often > 0) & (often < called.shape[1])
        right, wrong = (_weighed(by_row, is_c, always & part, sometimes & part) for part in (own, ~own))
        hits += right
        whole = right + wrong
        whole += by_row[own].sum(axis=0)[:, None]  # support + predicted
        np.maximum(whole, 1, out=whole)  # 0 / 0 counts as 0
        right /= whole
        f1 += right
    n = counts.sum(axis=1, dtype=np.float64)[:, None]
    return hits / n, f1.astype(np.float64) * (2 / k)


def _weighed(
    by_row: NDArray[np.float32], is_c: NDArray[np.bool_], always: NDArray[np.bool_], sometimes: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """How often each set calls c, over the resampled rows of two masks: (r, h)."""
    total: NDArray[np.float32] = by_row[sometimes].T @ is_c[sometimes].astype(np.float32)
    total += by_row[always].sum(axis=0)[:, None]
    return total
