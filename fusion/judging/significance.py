"""Which differences are more than chance: paired tests, letters, power, and what choosing costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import sqrt
from statistics import NormalDist
from string import ascii_letters

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


def letters_of(draws: NDArray[np.float64], values: Sequence[float], alpha: float) -> list[str]:
    """Give letters to columns by paired bootstrap tests of all pairs, Holm-corrected.

    Parameters
    ----------
    draws : array of shape (r, h)
        Scores of h columns on the same r resamples.
    values : sequence of h floats
        The scores themselves; the best column gets ``a``.
    alpha : float
        Family-wise error, 0-1.

    Raises
    ------
    ReportError
        If so few resamples cannot show any difference among so many pairs.
    """
    h = draws.shape[1]
    pairs = [(i, j) for i in range(h) for j in range(i + 1, h)]
    if not enough(len(draws), h, alpha):
        raise ReportError(
            f"{len(draws)} resamples cannot tell {h} columns apart at {alpha:g}, whatever they are\n"
            f"  take at least {int(2 * len(pairs) / alpha)} resamples"
        )
    p_values = holm([bootstrap_p(draws[:, i] - draws[:, j]) for i, j in pairs])
    differ = np.zeros((h, h), dtype=np.bool_)
    for (i, j), p in zip(pairs, p_values, strict=True):
        differ[i, j] = differ[j, i] = p <= alpha
    return display(differ, np.argsort(-np.asarray(values), kind="stable").tolist())


def enough(resamples: int, columns: int, alpha: float) -> bool:
    """Whether the smallest p-value that so many resamples can give survives Holm's correction over all pairs."""
    return columns * (columns - 1) / (resamples + 1) <= alpha


def display(differ: NDArray[np.bool_], order: Sequence[int]) -> list[str]:
    """Return a text of letters per column, so that two columns share a letter exactly if they do not differ.

    Insert-and-absorb (Piepho 2004, *An Algorithm for a Letter-Based Representation of All-Pairwise Comparisons*):
    begin with one letter for all; a pair that differs splits every letter it shares; a letter whose columns another
    letter has too is dropped. Letters run in `order`, the best column first.

    Parameters
    ----------
    differ : bool array of shape (h, h)
        Symmetric; true where two columns differ.
    order : sequence of h ints
        The columns from best to worst.
    """
    h = len(differ)
    shared = [frozenset(range(h))]
    for i, j in np.argwhere(np.triu(differ, 1)).tolist():
        split = [part - {out} for part in shared for out in ((i, j) if {i, j} <= part else (-1,))]
        shared = [part for part in dict.fromkeys(split) if not any(part < other for other in split)]
    rank = {column: place for place, column in enumerate(order)}
    shared.sort(key=lambda part: sorted(rank[column] for column in part))
    names = [ascii_letters[i] if i < len(ascii_letters) else f"({i})" for i in range(len(shared))]
    return ["".join(name for name, part in zip(names, shared, strict=True) if column in part) for column in range(h)]


POWER = 0.8


def smallest_shift(n: int, discordance: float, *, alpha: float = 0.05, power: float = POWER) -> float | None:
    """Return the smallest true difference of two accuracies that McNemar's test finds with this power.

    Connor 1987, *Sample size for testing differences in proportions for the paired-sample design*, solved for the
    difference d: ``n d^2 = (z_a sqrt(q) + z_b sqrt(q - d^2))^2`` with q the discordance.

    Parameters
    ----------
    n : int
        Rows that both heads answer.
    discordance : float
        Share of the rows that exactly one of the two gets right, 0-1.
    alpha, power : float
        Two-sided error; chance to find the difference.

    Returns
    -------
    float or None
        0-1; None if no difference is large enough, because it cannot exceed the discordance.
    """
    if n < 1 or not 0 <= discordance <= 1:
        raise ReportError(f"power needs n >= 1 and a discordance of 0-1, however: n = {n}, {discordance}")
    z_a, z_b = _z(alpha, power)
    a, slack = z_a * sqrt(n * discordance), n + z_b**2
    inner = a**2 - slack * discordance * (z_a**2 - z_b**2)
    found = (a + sqrt(max(inner, 0.0))) / slack
    return found if 0 < found <= discordance else None


def smallest_difference(sd: float, *, alpha: float = 0.05, power: float = POWER) -> float:
    """Return the smallest true difference that a two-sided z-test finds with this power.

    Parameters
    ----------
    sd : float
        Standard deviation of the estimated difference, for example over paired bootstrap resamples.
    alpha, power : float
        As for `smallest_shift`.
    """
    return sum(_z(alpha, power)) * sd


def _z(alpha: float, power: float) -> tuple[float, float]:
    if not (0 < alpha < 1 and 0 < power < 1):
        raise ReportError(f"alpha and power must lie between 0 and 1, however: {alpha} and {power}")
    return NormalDist().inv_cdf(1 - alpha / 2), NormalDist().inv_cdf(power)


def optimism(draws: NDArray[np.float64], values: Sequence[float] | NDArray[np.float64]) -> float:
    """Estimate the expected bias of the best score of h heads by the bootstrap.

    On each resample the best head is chosen anew; the mean of its score there minus its score on all rows is how much
    choosing on a sample flatters (the bootstrap of optimism of Efron 1983, *Estimating the Error Rate of a Prediction
    Rule*, applied to the choice of the best: Tibshirani and Tibshirani 2009 do so over folds). Each head's draws
    are first centred on its own score, because the macro F1 of a resample is a little low in itself.

    Parameters
    ----------
    draws : array of shape (r, h)
        Scores of all heads on the same r resamples, 0-1.
    values : array of shape (h,)
        Scores of all heads on all rows, 0-1.

    Returns
    -------
    float
        0-1, never negative; 0 for a single head.
    """
    full = np.asarray(values, dtype=np.float64)
    centred = draws - draws.mean(axis=0) + full
    best = centred.argmax(axis=1)
    return max(0.0, float((centred[np.arange(len(draws)), best] - full[best]).mean()))
