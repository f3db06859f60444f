"""Intervals and tests from resampled rows or groups: how far a figure would move, and which differences are real."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import sqrt
from statistics import NormalDist
from string import ascii_letters
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import ReportError

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


Counts = NDArray[np.float32]

_CELLS = 1_000_000  # counts held at once: 8 MB of picks, 4 MB of counts
_FEW = 16  # sets of predictions up to which one product is faster than looking for where they agree


def resampled(
    y_true: IntArray,
    y_pred: NDArray[np.integer],
    k: int,
    member: IntArray | None,
    rng: np.random.Generator,
    resamples: int,
) -> tuple[FloatArray, FloatArray]:
    """Return accuracy and macro F1 of h sets of predictions on the same r resamples: (r, h) twice.

    Parameters
    ----------
    y_true, y_pred, k
        As for `cer_fusion.fusion.judging.resampling.bootstrap`: (n,), (h, n).
    member : int64 array of shape (n,), optional
        The group of each row, from 0: groups are drawn. None draws rows within each class.
    rng, resamples
        What is drawn from, and how often.
    """
    order = np.argsort(y_true, kind="stable")  # rows of a class lie together, so that a class is a slice
    truth, called = y_true[order], np.ascontiguousarray(y_pred[:, order].T.astype(np.int16))  # (h, n) -> (n, h)
    classes = _slices_of(truth, k)
    score = _few if len(y_pred) <= _FEW else _many
    chunk = max(1, _CELLS // y_true.size)
    parts = []
    for done in range(0, resamples, chunk):
        r = min(chunk, resamples - done)
        counts = _draw_rows(rng, classes, r) if member is None else _draw_groups(rng, member, r)[:, member[order]]
        parts.append(score(counts, classes, called))
    return np.concatenate([a for a, _ in parts]), np.concatenate([f for _, f in parts])


def _slices_of(truth: IntArray, k: int) -> list[slice]:
    """Return where the rows of each class lie in sorted truths, (n,)."""
    ends = np.searchsorted(truth, np.arange(k + 1)).tolist()
    return [slice(start, stop) for start, stop in pairwise(ends)]


def _draw_rows(rng: np.random.Generator, classes: list[slice], r: int) -> Counts:
    """Draw as many rows of each class as it has, with replacement, r times; count each row: (r, n)."""
    picks = np.empty((r, classes[-1].stop), np.int64)
    for own in classes:
        if own.stop > own.start:
            picks[:, own] = rng.integers(own.start, own.stop, size=(r, own.stop - own.start))
    return _counted(picks, picks.shape[1])


def _draw_groups(rng: np.random.Generator, member: IntArray, r: int) -> Counts:
    """Draw as many groups as there are, with replacement, r times; count each group: (r, g)."""
    g = int(member.max()) + 1
    return _counted(rng.integers(0, g, size=(r, g)), g)


def _counted(picks: IntArray, n: int) -> Counts:
    """Count line by line how often each of n was picked: a line's counts stay in the processor's cache."""
    counts = np.empty((len(picks), n), np.float32)
    for line, picked in zip(counts, picks, strict=True):
        line[:] = np.bincount(picked, minlength=n)
    return counts


def _few(counts: Counts, classes: list[slice], called: NDArray[np.int16]) -> tuple[FloatArray, FloatArray]:
    """Accuracy and macro F1 of few sets of predictions on each resample: (r, n), (n, h) -> (r, h) twice.

    One product a true class gives that line of all confusion matrices. float32 sums of small whole numbers are exact
    below 2^24.
    """
    (n, h), k = called.shape, len(classes)
    is_called = (called[:, :, None] == np.arange(k)).reshape(n, h * k).astype(np.float32)
    right = np.zeros((len(counts), h, k), np.float32)
    whole = np.zeros_like(right)  # support + predicted
    for c, own in enumerate(classes):
        line = (counts[:, own] @ is_called[own]).reshape(-1, h, k)  # (r, h k) -> (r, h, k)
        right[:, :, c] = line[:, :, c]
        whole += line
        whole[:, :, c] += counts[:, own].sum(axis=1)[:, None]
    f1 = right / np.maximum(whole, 1)  # 0 / 0 counts as 0
    total = counts.sum(axis=1, dtype=np.float64)[:, None]
    return right.sum(axis=2) / total, f1.sum(axis=2, dtype=np.float64) * (2 / k)


def _many(counts: Counts, classes: list[slice], called: NDArray[np.int16]) -> tuple[FloatArray, FloatArray]:
    """Do what `_few` does, for many sets that are mostly alike, such as a sweep's: where all sets agree whether a row
    is called c, the row is counted once, not h times.
    """
    by_row = np.ascontiguousarray(counts.T)  # (r, n) -> (n, r)
    hits = np.zeros((counts.shape[0], called.shape[1]), dtype=np.float32)
    f1 = np.zeros_like(hits)
    for c, place in enumerate(classes):
        own = np.zeros(len(called), np.bool_)
        own[place] = True
        is_c = called == c
        often = np.count_nonzero(is_c, axis=1)
        always, sometimes = often == called.shape[1], (often > 0) & (often < called.shape[1])
        right, wrong = (_weighed(by_row, is_c, always & part, sometimes & part) for part in (own, ~own))
        hits += right
        whole = right + wrong
        whole += by_row[place].sum(axis=0)[:, None]  # support + predicted
        np.maximum(whole, 1, out=whole)  # 0 / 0 counts as 0
        right /= whole
        f1 += right
    n = counts.sum(axis=1, dtype=np.float64)[:, None]
    return hits / n, f1.astype(np.float64) * (2 / len(classes))


def _weighed(
    by_row: Counts, is_c: NDArray[np.bool_], always: NDArray[np.bool_], sometimes: NDArray[np.bool_]
) -> Counts:
    """How often each set calls c, over the resampled rows of two masks: (r, h)."""
    total: Counts = by_row[sometimes].T @ is_c[sometimes].astype(np.float32)
    total += by_row[always].sum(axis=0)[:, None]
    return total


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
