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
from cer_fusion.fusion.errors import ReportError
from cer_fusion.fusion.judging.statistics.resampling import resampled
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Metric = Literal["accuracy", "macro_f1"]

LEVEL = 0.95
RESAMPLES = 10_000
"""So many that the pairs of twenty heads can be told apart after Holm's correction (`letters.enough`)."""


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
    resamples: int = RESAMPLES,
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
    member = _members(groups)
    accuracy, macro_f1 = resampled(y_true, y_pred, k, member, np.random.default_rng(seed), resamples)
    return Bootstrap(accuracy, macro_f1)


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


def _members(groups: Sequence[str] | None) -> IntArray | None:
    """Return which group each row is in, (n,); None where rows are independent."""
    if groups is None or not clustered(groups):
        return None
    return np.unique(np.asarray(groups), return_inverse=True)[1].astype(np.int64)
