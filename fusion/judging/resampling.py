"""Intervals of scores: how far a figure would move with other rows, or with other groups of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import ReportError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Metric = Literal["accuracy", "macro_f1"]

LEVEL = 0.95
RESAMPLES = 10_000
OWN_RESAMPLES = 500
"""Resamples of a metric of the user's own, which is asked about one set of rows at a time."""
FEW_GROUPS = 5
"""A class whose rows come from fewer groups, in effect, has an F1 whose spread nobody can know from them."""


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
    """Scores of h sets of predictions on the same resamples, and without each group where rows share groups."""

    accuracy: FloatArray
    """(r, h), 0-1."""
    macro_f1: FloatArray
    """(r, h), 0-1."""
    jackknife: Mapping[Metric, Jackknife] | None = None
    """The same scores without each group; None where rows are independent."""

    def averaged(self, runs: int) -> Bootstrap:
        """Average every so many neighbouring sets (the runs of one head) on each resample: (r, h * runs) -> (r, h)."""
        left = self.jackknife
        return Bootstrap(
            _averaged(self.accuracy, runs),
            _averaged(self.macro_f1, runs),
            None if left is None else {metric: one.averaged(runs) for metric, one in left.items()},
        )

    def interval(self, metric: Metric, column: int, level: float = LEVEL) -> Interval:
        """Interval of one set of predictions: percentiles; `Jackknife.scores` where rows share groups."""
        if self.jackknife is None:
            return percentile(self._draws(metric)[:, column], level)
        low, high = self.jackknife[metric].only(column).scores(level)
        return Interval(float(low[0]), float(high[0]), level)

    def difference(self, metric: Metric, column: int, baseline: int, level: float = LEVEL) -> Interval:
        """Interval of a paired difference, ``column`` minus ``baseline``."""
        factors = np.zeros(self.macro_f1.shape[1])
        factors[column] += 1
        factors[baseline] -= 1
        return self.contrast(metric, factors, level)

    def contrast(self, metric: Metric, factors: FloatArray, level: float = LEVEL) -> Interval:
        """Interval of a weighted sum of the scores, factors of shape (h,): percentiles; Student's t over groups."""
        if self.jackknife is None:
            return percentile(self._draws(metric) @ factors, level)
        return self.jackknife[metric].contrast(factors, level)

    def deviation(self, metric: Metric, column: int, baseline: int) -> float:
        """Return the standard error of a paired difference."""
        if self.jackknife is None:
            draws = self._draws(metric)
            return float((draws[:, column] - draws[:, baseline]).std())
        left = self.jackknife[metric]
        apart = left.left_out[:, [column]] - left.left_out[:, [baseline]]
        return float(Jackknife(left.whole[[column]] - left.whole[[baseline]], apart).deviation[0])

    def noise(self, metric: Metric, seed: int = 0) -> FloatArray:
        """Draw what chance adds to all scores at once, around zero: (r, h)."""
        found = self._draws(metric)
        if self.jackknife is not None:
            left = self.jackknife[metric]
            found = signs(len(found), len(left.left_out), seed) @ left.parts
        centred: FloatArray = found - found.mean(axis=0)
        return centred

    def _draws(self, metric: Metric) -> FloatArray:
        return self.accuracy if metric == "accuracy" else self.macro_f1


@dataclass(frozen=True, eq=False)
class Jackknife:
    """h scores, and what they are without each of g groups."""

    whole: FloatArray
    """(h,) on all rows, 0-1."""
    left_out: FloatArray
    """(g, h) without the rows of each group, 0-1."""

    def averaged(self, runs: int) -> Jackknife:
        """Average every so many neighbouring scores."""
        return Jackknife(_averaged(self.whole[None], runs)[0], _averaged(self.left_out, runs))

    def only(self, column: int) -> Jackknife:
        """Return one score alone."""
        return Jackknife(self.whole[[column]], self.left_out[:, [column]])

    @property
    def deviation(self) -> FloatArray:
        """(h,) standard errors (Efron and Tibshirani 1993, eq. 11.5); infinite with a single group."""
        g = len(self.left_out)
        if g < 2:
            return np.full(self.whole.shape, np.inf)
        found: FloatArray = np.sqrt((g - 1) / g * (self._apart**2).sum(axis=0))
        return found

    @property
    def parts(self) -> FloatArray:
        """(g, h) what each group adds to each score: they sum to the score, their spread is the standard error."""
        g = len(self.left_out)
        found: FloatArray = self.whole / g - np.sqrt(1 - 1 / g) * self._apart
        return found

    @property
    def _apart(self) -> FloatArray:
        found: FloatArray = self.left_out - self.left_out.mean(axis=0)
        return found

    def scores(self, level: float = LEVEL) -> tuple[FloatArray, FloatArray]:
        """Return the lower and upper ends, (h,) each, of intervals of the scores, inside 0-1.

        Wilson's interval on as many independent rows as would give the score its jackknife standard error (Korn and
        Graubard 1998, *Confidence Intervals for Proportions with Small Expected Number of Positive Counts Estimated
        from Survey Data*), around the score less its jackknife bias (a few groups lack classes, which costs F1), with
        Student's t for the normal quantile. The degrees of freedom are the number of groups that carry the variance,
        ``(sum d^2)^2 / sum d^4`` of the g deviations: three groups with a rare class weigh more than fifty without.
        The score itself always lies inside. One group alone says nothing: 0 to 1.
        """
        g = len(self.left_out)
        if g < 2:
            return np.zeros_like(self.whole), np.ones_like(self.whole)
        squares, variance = self._apart**2, self.deviation**2
        moved = variance > 1e-18
        carried = squares.sum(axis=0) ** 2 / np.where(moved, (squares**2).sum(axis=0), 1)
        t = _student(np.clip(np.where(moved, carried, g - 1), 1, g - 1), level)
        middle = np.clip(g * self.whole - (g - 1) * self.left_out.mean(axis=0), 0, 1)
        free = middle * (1 - middle)
        rows = np.where(moved & (free > 0), free / np.where(moved, variance, 1), g)
        centre = (middle + t**2 / rows / 2) / (1 + t**2 / rows)
        half = t * np.sqrt(free / rows + (t / rows) ** 2 / 4) / (1 + t**2 / rows)
        low, high = np.minimum(centre - half, self.whole), np.maximum(centre + half, self.whole)
        return np.clip(low, 0, 1), np.clip(high, 0, 1)

    def contrast(self, factors: FloatArray, level: float = LEVEL) -> Interval:
        """Jackknife interval of a weighted sum of scores with Student's t on g - 1 degrees of freedom."""
        g, value = len(self.left_out), float(self.whole @ factors)
        lowest, highest = float(np.minimum(factors, 0).sum()), float(np.maximum(factors, 0).sum())
        if g < 2:
            return Interval(lowest, highest, level)
        one = Jackknife(self.whole[None] @ factors, (self.left_out @ factors)[:, None])
        half = float(_student(np.float64(g - 1), level) * one.deviation[0])
        return Interval(max(lowest, value - half), min(highest, value + half), level)


def _averaged(values: FloatArray, runs: int) -> FloatArray:
    found: FloatArray = values.reshape(len(values), -1, runs).mean(axis=2)
    return found


def _student(df: NDArray[np.float64] | np.float64, level: float) -> FloatArray:
    from scipy.special import stdtrit

    return np.asarray(stdtrit(df, 0.5 + level / 2), np.float64)


def signs(draws: int, g: int, seed: int) -> FloatArray:
    """Draw a sign for each of g groups, (draws, g): -1 where a group's answers change hands."""
    return np.random.default_rng(seed).choice(np.array([-1.0, 1.0]), size=(draws, g))


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
        Video or subject of each row. When some rows share a group whole groups are drawn and left out (rows of a
        video are not independent); else rows are drawn within each class, so the supports stay as they are.
    resamples : int
        Number of resamples r.
    seed : int
        Same seed, same data, same numbers.
    """
    if y_pred.ndim != 2 or y_pred.shape[1] != y_true.shape[0] or not y_true.size:
        raise ReportError(
            f"predictions must have shape (h, n) for n truths, however: {y_pred.shape} for {y_true.shape[0]}"
        )
    member = members(groups)
    accuracy, macro_f1 = resampled(y_true, y_pred, k, member, np.random.default_rng(seed), resamples)
    return Bootstrap(accuracy, macro_f1, None if member is None else jackknife(y_true, y_pred, k, member))


def jackknife(y_true: IntArray, y_pred: NDArray[np.integer], k: int, member: IntArray) -> dict[Metric, Jackknife]:
    """Score sets of predictions (h, n) on all rows and without each of the groups that ``member`` (n,) numbers."""
    right, whole = by_group(y_true, y_pred, k, member)
    sizes = np.bincount(member).astype(np.float64)
    hits = right.sum(axis=2)  # (h, g, k) -> (h, g)
    without = right.sum(axis=1, keepdims=True) - right, whole.sum(axis=1, keepdims=True) - whole
    return {
        "accuracy": Jackknife(
            hits.sum(axis=1) / y_true.size,
            ((hits.sum(axis=1)[:, None] - hits) / np.maximum(y_true.size - sizes, 1)).T,
        ),
        "macro_f1": Jackknife(_f1(right.sum(axis=1), whole.sum(axis=1)), _f1(*without).T),
    }


def by_group(
    y_true: IntArray, y_pred: NDArray[np.integer], k: int, member: IntArray
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count by group and class the rows called right, and those of the class plus those called so: (h, g, k) twice."""
    h, g = len(y_pred), int(member.max()) + 1
    at = (np.arange(h)[:, None] * g + member) * k  # (h, n)
    shape = (h, g, k)
    right = np.bincount((at + y_true)[y_pred == y_true], minlength=h * g * k).reshape(shape)
    called = np.bincount((at + y_pred).ravel(), minlength=h * g * k).reshape(shape)
    return right, called + np.bincount(member * k + y_true, minlength=g * k).reshape(g, k)


def _f1(right: NDArray[Any], whole: NDArray[Any]) -> FloatArray:
    """Macro F1 from counts of shape (..., k); 0 / 0 counts as 0."""
    found: FloatArray = (2 * right / np.maximum(whole, 1)).mean(axis=-1)
    return found


def thin(y_true: IntArray, groups: Sequence[str] | None, classes: Sequence[str]) -> str | None:
    """Say which classes have rows of so few groups that no interval can be trusted; None where all have enough.

    Counted is the effective number, ``(sum n_g)^2 / sum n_g^2`` of a class's rows by group (Kish 1965, *Survey
    Sampling*, §8.2): a video of a hundred rows and five videos of one row count as little more than one.
    """
    member = members(groups)
    if member is None:
        return None
    counts = np.zeros((int(member.max()) + 1, len(classes)))
    np.add.at(counts, (member, y_true), 1)
    effective = counts.sum(axis=0) ** 2 / np.maximum((counts**2).sum(axis=0), 1)
    few = [f"{name} {n:.1f}" for name, n in zip(classes, effective.tolist(), strict=True) if 0 < n < FEW_GROUPS]
    if not few:
        return None
    return (
        f"No interval or test of macro F1 can be trusted here: fewer than {FEW_GROUPS} groups, in effect, hold the "
        f"rows of {', '.join(few)}."
    )


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


def members(groups: Sequence[str] | None) -> IntArray | None:
    """Return which group each row is in, (n,), numbered as they appear; None where rows are independent."""
    if groups is None or not clustered(groups):
        return None
    number: dict[str, int] = {}
    return np.array([number.setdefault(group, len(number)) for group in groups], dtype=np.int64)


def figures_on(
    y_true: IntArray,
    y_pred: NDArray[np.integer],
    of_confusion: Callable[[NDArray[Any]], FloatArray] | None,
    of_rows: Callable[[IntArray, IntArray], float] | None,
    k: int,
    *,
    groups: Sequence[str] | None,
    resamples: int,
    seed: int,
) -> tuple[FloatArray, FloatArray]:
    """Return a metric of sets of predictions (h, n) on all rows, (h, m), and on other rows, (r, h, m).

    The other rows are resamples, drawn within each class; where rows share groups, all but one group's each time.
    One of the functions is given: of counts (..., k, k) to (..., m) or (...), or of true and predicted positions.
    """
    member = members(groups)
    if of_rows is not None:
        taken = _picks(y_true, k, member, min(resamples, OWN_RESAMPLES), seed)
        whole = np.array([[of_rows(y_true, one.astype(np.int64))] for one in y_pred], np.float64)
        rest = [[[of_rows(y_true[at], one[at].astype(np.int64))] for one in y_pred] for at in taken]
        return whole, np.array(rest, np.float64)
    assert of_confusion is not None
    cells = y_true * k + y_pred  # (h, n)
    if member is None:
        counts = [_cells_of(cells[:, at], k) for at in _picks(y_true, k, None, resamples, seed)]
    else:
        each = [_cells_of(cells[:, member == g], k) for g in range(int(member.max()) + 1)]
        counts = [sum(each) - one for one in each]
    whole, rest_of = of_confusion(_cells_of(cells, k)), of_confusion(np.stack(counts))
    return whole.reshape(len(y_pred), -1), rest_of.reshape(len(counts), len(y_pred), -1)


def figure_interval(whole: float, others: FloatArray, level: float, *, clustered: bool, share: bool) -> Interval:
    """Interval of a figure from its values on other rows, see `figures_on`: (r,).

    Percentiles; where rows share groups the jackknife's, as for scores (`share`: 0-1) or with Student's t for others.
    """
    if not clustered:
        return percentile(others, level)
    left = Jackknife(np.array([whole]), others[:, None])
    if share:
        low, high = left.scores(level)
        return Interval(float(low[0]), float(high[0]), level)
    half = float(_student(np.float64(max(len(others) - 1, 1)), level) * left.deviation[0])
    return Interval(whole - half, whole + half, level)


def _picks(y_true: IntArray, k: int, member: IntArray | None, resamples: int, seed: int) -> Iterator[IntArray]:
    """Yield positions of rows: resamples within each class, or all rows but those of each group."""
    if member is not None:
        yield from (np.flatnonzero(member != g) for g in range(int(member.max()) + 1))
        return
    rng, rows = np.random.default_rng(seed), [np.flatnonzero(y_true == c) for c in range(k)]
    for _ in range(resamples):
        yield np.concatenate([own[rng.integers(0, own.size, own.size)] for own in rows if own.size])


def _cells_of(cells: NDArray[np.integer], k: int) -> NDArray[np.int64]:
    """Count the cells of confusion matrices: (h, n) -> (h, k, k)."""
    h = len(cells)
    found = np.bincount((np.arange(h)[:, None] * k * k + cells).ravel(), minlength=h * k * k)
    return found.reshape(h, k, k).astype(np.int64)


Counts = NDArray[np.float32]

CELLS = 1_000_000  # counts held at once: 8 MB of picks, 4 MB of counts
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
    chunk = max(1, CELLS // y_true.size)
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
