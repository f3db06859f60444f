"""Scores of decisions under every weight vector, with bootstrap bands; which vector is best, and which are as good."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.rows import Rows
from ..heads.weights import Mix, counted, decisions, totals
from ..judging.resampling import CELLS, LEVEL, Bootstrap, Jackknife, Metric, bootstrap, jackknife, members, signs
from ..judging.significance import not_worse
from .deciders import Decisions
from .result import Band, Curve


@dataclass(frozen=True, eq=False)
class Scoring:
    """Scores decisions of s seeds; a row counts once a seed, and its repeats stay together in every resample."""

    weights: NDArray[np.float64]
    """(w, m) weight vectors."""
    k: int
    """Declared classes."""
    resamples: int
    """Of the bootstrap."""
    level: float
    """Nominal coverage of the intervals, 0-1."""
    seed: int
    """Of the bootstrap."""

    def penalised(self, rows: Rows, y_pred: Decisions) -> Penalised:
        """Take for each vector the penalty of the best macro F1: (c, w, s, n); of equal ones the strongest first."""
        flat = y_pred.reshape(*y_pred.shape[:2], -1)
        truth = np.tile(rows.y, y_pred.shape[2])
        macro_f1 = np.stack([totals(counted(truth, lines, self.k))[1] for lines in flat])  # (c, w)
        penalty = macro_f1.argmax(axis=0)
        best = np.take_along_axis(y_pred, penalty[None, :, None, None], axis=0)[0]
        return Penalised(penalty, macro_f1, self.curve(rows, best))

    def curve(self, rows: Rows, y_pred: Decisions) -> Curve:
        """Score (w, s, n)."""
        s, flat = y_pred.shape[1], y_pred.reshape(len(y_pred), -1)
        options: dict[str, Any] = {"resamples": self.resamples, "level": self.level, "seed": self.seed}
        found = curve(np.tile(rows.y, s), flat, self.k, self.weights, groups=_repeated(rows, s), **options)
        return replace(found, n=rows.n)

    def draws(self, rows: Rows, y_pred: Decisions) -> tuple[Bootstrap, bool]:
        """Resample (h, s, n) for the chosen vector's own intervals; also whether all rows are independent."""
        s, flat, groups = y_pred.shape[1], y_pred.reshape(len(y_pred), -1), _repeated(rows, y_pred.shape[1])
        found = bootstrap(np.tile(rows.y, s), flat, self.k, groups=groups, resamples=4 * self.resamples, seed=self.seed)
        return found, groups is None


@dataclass(frozen=True, eq=False)
class Penalised:
    """Each vector under the penalty that the deciding rows like best."""

    penalty: NDArray[np.intp]
    """(w,) which one that is."""
    macro_f1: NDArray[np.float64]
    """(c, w) macro F1 under each."""
    curve: Curve
    """Scores under the best."""


def _repeated(rows: Rows, s: int) -> tuple[str, ...] | None:
    if s == 1:
        return rows.clusters
    return (rows.clusters or tuple(str(i) for i in range(rows.n))) * s


FloatArray = NDArray[np.float64]


IntArray = NDArray[np.int64]


def decision_curve(
    member_proba: FloatArray,
    y_true: IntArray,
    weights: FloatArray,
    *,
    mix: Mix = "arithmetic",
    groups: Sequence[str] | None = None,
    resamples: int = 500,
    level: float = LEVEL,
    seed: int = 0,
) -> Curve:
    """Score all weight vectors over members' probabilities (m, n, k), as `decisions` mixes them."""
    y_pred = decisions(member_proba, weights, mix)
    k = member_proba.shape[2]
    return curve(y_true, y_pred, k, weights, groups=groups, resamples=resamples, level=level, seed=seed)


def curve(
    y_true: IntArray,
    y_pred: NDArray[np.integer],
    k: int,
    weights: FloatArray,
    *,
    groups: Sequence[str] | None = None,
    resamples: int = 500,
    level: float = LEVEL,
    seed: int = 0,
) -> Curve:
    """Score the decisions of all weight vectors on the same rows and the same resamples.

    Parameters
    ----------
    y_true : int64 array of shape (n,)
        Class positions, 0..k-1.
    y_pred : int64 array of shape (w, n)
        Decisions, one line per weight vector.
    k : int
        Number of declared classes.
    weights : float64 array of shape (w, m)
        Only to prefer the most even vector among equals.
    groups, resamples, level, seed
        Of the `bootstrap`. Vectors that decide alike on every row are resampled once.
    """
    accuracy, macro_f1 = totals(counted(y_true, y_pred, k))
    best = choose(accuracy, macro_f1, weights)
    different, which = _different(y_pred)
    lines, member = y_pred[different], members(groups)
    if member is None:
        draws, tails = bootstrap(y_true, lines, k, resamples=resamples, seed=seed), [0.5 - level / 2, 0.5 + level / 2]
        ends: dict[Metric, FloatArray] = {
            "accuracy": np.quantile(draws.accuracy, tails, axis=0),
            "macro_f1": np.quantile(draws.macro_f1, tails, axis=0),
        }
        noise = _noise_of_rows(y_true, lines, k, resamples, seed)
    else:
        ends, noise = _left_out(y_true, lines, k, member, resamples, level, seed)
    return Curve(
        accuracy=Band(value=accuracy, low=ends["accuracy"][0][which], high=ends["accuracy"][1][which]),
        macro_f1=Band(value=macro_f1, low=ends["macro_f1"][0][which], high=ends["macro_f1"][1][which]),
        best=best,
        alike=not_worse(macro_f1[different], noise, 1 - level)[which],
        n=y_true.size,
    )


def _left_out(
    y_true: IntArray, lines: NDArray[np.integer], k: int, member: IntArray, draws: int, level: float, seed: int
) -> tuple[dict[Metric, FloatArray], FloatArray]:
    """Leave out each group, lines in pieces: intervals (2, w) of each score, noise (r, w) of the macro F1.

    The noise is that of groups whose share in every score changes its sign by chance, the same for all lines.
    """
    g = int(member.max()) + 1
    sign, step = signs(draws, g, seed), max(1, CELLS // (g * k))
    ends: dict[Metric, list[FloatArray]] = {"accuracy": [], "macro_f1": []}
    noise = []
    for start in range(0, len(lines), step):
        left = jackknife(y_true, lines[start : start + step], k, member)
        noise.append(sign @ left["macro_f1"].parts)
        for name, found in ends.items():
            found.append(np.stack(left[name].scores(level)))
    return {name: np.concatenate(found, axis=1) for name, found in ends.items()}, np.concatenate(noise, axis=1)


def _noise_of_rows(y_true: IntArray, lines: NDArray[np.integer], k: int, draws: int, seed: int) -> FloatArray:
    """Return the noise (r, w) of the macro F1 as `_left_out` does, each row a group of its own.

    What a line is without a row depends on nothing but the row's class and the answer: k * k numbers a line.
    """
    n, sign = y_true.size, signs(draws, y_true.size, seed)
    step, noise = max(1, CELLS // n), []
    for start in range(0, len(lines), step):
        part = lines[start : start + step]
        confusion = counted(y_true, part, k)  # (w, k, k)
        right = np.diagonal(confusion, axis1=1, axis2=2)
        whole = confusion.sum(axis=1) + confusion.sum(axis=2)
        f1 = 2 * right / np.maximum(whole, 1)  # (w, k)
        missed = 2 * right / np.maximum(whole - 1, 1) - f1  # one row less that was of the class, or called so
        change = missed[:, :, None] + missed[:, None, :]
        cells = np.arange(k)
        change[:, cells, cells] = 2 * (right - 1) / np.maximum(whole - 2, 1) - f1
        left = np.take_along_axis(change.reshape(len(part), -1), y_true * k + part.astype(np.int64), axis=1) / k
        scores = f1.mean(axis=1)
        noise.append(sign @ Jackknife(scores, (scores[:, None] + left).T).parts)
    return np.concatenate(noise, axis=1)


def choose(accuracy: FloatArray, macro_f1: FloatArray, weights: FloatArray) -> int:
    """Return the vector of the highest macro F1, then of the highest accuracy, then the most even, then the first."""
    shares = weights / weights.sum(axis=1, keepdims=True)
    order = np.lexsort((np.arange(len(shares)), (shares**2).sum(axis=1).round(12), -accuracy, -macro_f1.round(12)))
    return int(order[0])


def _different(y_pred: NDArray[np.integer]) -> tuple[IntArray, IntArray]:
    """Return one index per different line, and which of them each line equals."""
    lines = np.ascontiguousarray(y_pred.astype(np.uint16)).view(f"V{2 * y_pred.shape[1]}").ravel()
    found: dict[bytes, int] = {}
    which = np.array([found.setdefault(line.tobytes(), len(found)) for line in lines], dtype=np.int64)
    _, first = np.unique(which, return_index=True)
    return first.astype(np.int64), which
