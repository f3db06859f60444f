"""Which differences between heads are real: paired tests, letters, the set of the best, power, the cost of choosing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist
from string import ascii_letters

import numpy as np
from numpy.typing import NDArray

from ..errors import ReportError
from .resampling import CELLS, RESAMPLES, FloatArray, IntArray, by_group, members


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
    """Two-sided exact binomial p-value at 1/2; 1 where there is nothing to tell by."""
    from scipy.stats import binomtest

    return float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


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


@dataclass(frozen=True, eq=False)
class Exchange:
    """Studentised differences of the macro F1 of pairs of columns, and what they are when answers change hands."""

    t: FloatArray
    """(p,) absolute differences over their standard errors."""
    null: FloatArray
    """(r, p) the same, on r exchanges that all pairs share."""

    @property
    def floor(self) -> float:
        """The smallest p-value that so many exchanges can give."""
        return 1 / (len(self.null) + 1)

    def p(self) -> FloatArray:
        """(p,) uncorrected p-values, the data counted as one exchange (Phipson and Smyth 2010)."""
        found: FloatArray = ((self.null >= self.t - _TIE).sum(axis=0) + 1) * self.floor
        return found

    def adjusted(self) -> FloatArray:
        """(p,) p-values of all pairs together, by the step-down largest statistic (Westfall and Young 1993, §2.8)."""
        order = np.argsort(self.t, kind="stable")  # the largest of what is left, from the weakest pair up
        most = np.maximum.accumulate(self.null[:, order], axis=1)
        p = ((most >= self.t[order] - _TIE).sum(axis=0) + 1) * self.floor
        found: FloatArray = np.empty(len(order))
        found[order] = np.maximum.accumulate(p[::-1])[::-1]
        return found


_TIE = 1e-9


def exchange(
    y_true: IntArray,
    y_pred: NDArray[np.integer],
    k: int,
    pairs: Sequence[tuple[int, int]],
    *,
    groups: Sequence[str] | None = None,
    draws: int = RESAMPLES,
    seed: int = 0,
) -> Exchange:
    """Test differences of macro F1 by letting two columns exchange their answers to whole groups.

    If it makes no difference which of two heads answered, their answers to a group could as well have changed hands.
    Macro F1 is computed anew on every exchange. Divided by its standard error (delta method over groups) the
    difference is also right, for many groups, for heads that err differently and have the same macro F1 (Janssen 1997;
    Chung and Romano 2013, *Exact and Asymptotically Robust Permutation Tests*).

    Parameters
    ----------
    y_true : int64 array of shape (n,)
        Class positions.
    y_pred : array of shape (h, s, n)
        Answers of h columns in s runs; all runs of a column change hands together.
    k : int
        Number of classes.
    pairs : sequence of (int, int)
        The columns to compare.
    groups : sequence of str, optional
        As for `bootstrap`; independent rows are groups of their own.
    draws, seed
        Random exchanges; same seed, same exchanges.
    """
    member = members(groups)
    member = np.arange(y_true.size) if member is None else member
    h, s, n = y_pred.shape
    right, whole = (
        part.reshape(h, s, -1, k).transpose(0, 2, 1, 3).astype(np.float64)
        for part in by_group(y_true, y_pred.reshape(h * s, n), k, member)
    )  # (h s, g, k) -> (h, g, s, k)
    g = right.shape[1]
    rng, null = np.random.default_rng(seed), np.empty((draws, len(pairs)))
    t = np.empty(len(pairs))
    chunk = max(1, CELLS // g)
    for start in range(0, draws, chunk):
        moved = rng.integers(0, 2, size=(min(chunk, draws - start), g)).astype(np.bool_)
        for at, (i, j) in enumerate(pairs):
            one, other = (right[i], whole[i]), (right[j], whole[j])
            null[start : start + len(moved), at] = _studentised(one, other, moved)
            if not start:
                t[at] = _studentised(one, other, np.zeros((1, g), np.bool_))[0]
    return Exchange(t, null)


_Counts = tuple[FloatArray, FloatArray]


def _studentised(one: _Counts, other: _Counts, moved: NDArray[np.bool_]) -> FloatArray:
    """|difference of macro F1| / standard error after each exchange: counts (g, s, k) twice, (r, g) -> (r,).

    Groups that both columns answer alike change nothing but the standard error, through its quadratic form.
    """
    r = len(moved)
    mine, yours = (np.concatenate([part.reshape(len(part), -1) for part in side], axis=1) for side in (one, other))
    apart = (mine != yours).any(axis=1)  # (g,)
    if not apart.any():
        return np.zeros(r)
    kinds, kind, often = np.unique(
        np.concatenate([mine[apart], yours[apart]], axis=1), axis=0, return_inverse=True, return_counts=True
    )  # independent rows are of few kinds
    order = np.argsort(kind.ravel(), kind="stable")
    first = np.concatenate([[0], np.cumsum(often)[:-1]])
    swapped = np.add.reduceat(moved[:, np.flatnonzero(apart)[order]].astype(np.float64), first, axis=1)  # (r, kinds)
    my, your = np.split(kinds, 2, axis=1)  # (kinds, 2 s k)
    change = swapped @ (your - my)  # (r, 2 s k)
    slopes, scores = [], []
    for counts, way in ((mine, 1), (yours, -1)):
        right, whole = np.split(counts.sum(axis=0) + way * change, 2, axis=1)  # (r, s k) each
        whole = np.maximum(whole, 1)
        scores.append((right / whole).sum(axis=1))
        slopes.append(np.concatenate([1 / whole, -right / whole**2], axis=1))  # d(right / whole)
    kept, changed = slopes[0] @ my.T - slopes[1] @ your.T, slopes[0] @ your.T - slopes[1] @ my.T  # (r, kinds)
    gap, alike = slopes[0] - slopes[1], mine[~apart]
    squares = ((often - swapped) * kept**2 + swapped * changed**2).sum(axis=1)
    squares += ((gap @ (alike.T @ alike)) * gap).sum(axis=1)
    error, difference = np.sqrt(squares), np.abs(scores[0] - scores[1])
    t: FloatArray = np.divide(difference, error, out=np.zeros(r), where=error > 1e-12)
    return t


def letters_of(adjusted: Mapping[tuple[int, int], float], values: Sequence[float], alpha: float) -> list[str]:
    """Give letters to columns from the p-values of all pairs, corrected together.

    Parameters
    ----------
    adjusted : dict of pair of columns to p-value
        Of `Exchange.adjusted`.
    values : sequence of h floats
        The scores themselves; the best column gets ``a``.
    alpha : float
        Family-wise error, 0-1.
    """
    differ = np.zeros((len(values), len(values)), dtype=np.bool_)
    for (i, j), p in adjusted.items():
        differ[i, j] = differ[j, i] = p <= alpha
    return display(differ, np.argsort(-np.asarray(values), kind="stable").tolist())


def not_worse(values: FloatArray, noise: FloatArray, alpha: float) -> NDArray[np.bool_]:
    """Return the columns that cannot be told from the best one: a model confidence set, (h,).

    Hansen, Lunde and Nason 2011, *The Model Confidence Set*, with the range of the scores as the statistic: while the
    scores of the columns left lie further apart than chance would throw equal ones, the worst is dropped. All columns
    that are truly best are in the set with probability 1 - alpha or more, however many columns there are. The worst is
    always the one of the lowest score, so one pass over the columns in order does all steps.

    Parameters
    ----------
    values : array of shape (h,)
        Scores of the columns.
    noise : array of shape (r, h)
        What chance adds to all of them at once, around zero.
    alpha : float
        Family-wise error, 0-1.
    """
    order = np.argsort(-values, kind="stable")
    drawn = noise[:, order]
    spread = np.maximum.accumulate(drawn, axis=1) - np.minimum.accumulate(drawn, axis=1)
    lead = values[order[0]] - values[order]
    p = ((spread >= lead - _TIE).sum(axis=0) + 1) / (len(noise) + 1)
    kept = np.empty(len(values), np.bool_)
    kept[order] = np.maximum.accumulate(p[::-1])[::-1] > alpha
    return kept


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


def optimism(draws: FloatArray, values: Sequence[float] | FloatArray) -> float:
    """Estimate by how much the best score of h heads flatters, because it was chosen for it.

    A bootstrap of the choice (Efron 1983, *Estimating the Error Rate of a Prediction Rule*): on each draw the best head
    is chosen, and what chance had added to it is the bias. The heads' own scores may not stand for their true ones
    there: they lie further apart by the very noise that is asked about, so that a lucky head looks truly better, and
    the estimate comes out at two thirds. They are first drawn towards their mean, until their variance is what is left
    without that of the noise (the empirical Bayes argument of Efron and Morris 1973).

    Parameters
    ----------
    draws : array of shape (r, h)
        Scores of all heads on the same r draws, or the noise alone: their means do not count.
    values : array of shape (h,)
        Scores of all heads on all rows, 0-1.

    Returns
    -------
    float
        0-1, never negative; 0 for a single head.
    """
    full, noise = np.asarray(values, dtype=np.float64), draws - draws.mean(axis=0)
    if full.size < 2:
        return 0.0
    shown, chance = float(full.var(ddof=1)), float(noise.var(axis=1, ddof=1).mean())
    kept = sqrt(max(0.0, 1 - chance / shown)) if shown > 0 else 0.0
    best = (full.mean() + kept * (full - full.mean()) + noise).argmax(axis=1)
    return max(0.0, float(noise[np.arange(len(noise)), best].mean()))
