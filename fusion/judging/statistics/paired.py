"""Paired tests of whether two heads, scored on the same rows, really differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from cer_fusion.fusion.errors import ReportError
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class McNemar:
    """The exact test of McNemar on rows that exactly one of two heads got right."""

    only_first: int
    """Rows that only the first head got right."""
    only_second: int
    """Rows that only the second head got right."""
    p: float
    """Two-sided exact p-value, uncorrected."""


def mcnemar(y_true: IntArray, first: IntArray, second: IntArray) -> McNemar:
    """Test whether two heads have the same accuracy on the same independent rows, all of shape (n,)."""
    if not (y_true.shape == first.shape == second.shape):
        raise ReportError(f"a paired test needs the same rows, however: {y_true.shape}, {first.shape}, {second.shape}")
    a, b = first == y_true, second == y_true
    only_first, only_second = int((a & ~b).sum()), int((b & ~a).sum())
    return McNemar(only_first, only_second, sign_test(only_first, only_second))


def sign_test(wins: int, losses: int) -> float:
    """Two-sided exact binomial p-value at 1/2: twice the smaller tail, at most 1. Whole-number arithmetic."""
    n, tail, term = wins + losses, 0, 1
    for i in range(min(wins, losses) + 1):
        tail += term
        term = term * (n - i) // (i + 1)
    return float(min(Fraction(1), Fraction(2 * tail, 2**n)))


def bootstrap_p(differences: FloatArray) -> float:
    """Two-sided p-value of "no difference" from paired bootstrap differences of shape (r,).

    Twice the share of resamples on the far side of zero, so that it is below 1 - level exactly when the percentile
    interval of that level leaves zero out (Efron and Tibshirani 1993, §15.4, the achieved significance level read off
    the interval). One is added to count and resamples (Davison and Hinkley 1997, §4.2): r resamples cannot prove less
    than 2 / (r + 1). Ties count on both sides.
    """
    r = differences.size
    far = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    return min(1.0, 2 * (far + 1) / (r + 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for several tests (Holm 1979): family-wise error, never weaker than Bonferroni; order kept."""
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = running
    return adjusted
