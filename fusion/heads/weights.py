"""Honest answers about rows that a head did not learn from, and what is learned on them: temperature and weights."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from decimal import Decimal
from math import comb
from typing import Final, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax

from ...kit.errors import nearest
from ..data.blocks import simplex
from ..errors import HeadConfigError, SweepError
from .base import Codes, Head, Proba, RowInfo, softmax
from .settings import libraries_limited

logger = logging.getLogger(__name__)

Objective: TypeAlias = Literal["log_loss", "macro_f1"]

MOST_VECTORS: Final = 2_000
"""Weight vectors that are tried for macro F1, which has no gradient."""

SMALL: Final = 1e-3
"""Weights under this are left out unless that makes the mix worse."""

STEPS: Final = ("0.05", "0.1", "0.2", "0.25", "0.5", "1")


def learned_weights(
    planes: NDArray[np.float64],
    codes: Codes,
    weights: NDArray[np.float64] | None = None,
    *,
    mix: Mix,
    objective: str = "log_loss",
) -> NDArray[np.float64]:
    """Return weights (m,) of unit sum, none negative, under which the mix of members is best.

    - ``log_loss``: by L-BFGS from equal weights. Convex for the arithmetic and the geometric mix, whose minimum is
      found; for the others a local one is.
    - ``macro_f1``: the best vector of a grid over the simplex; of equal ones that of the least log loss.

    Parameters
    ----------
    planes : ndarray of shape (m, n, k)
        Probabilities of calibrated members, of rows none of them had seen.
    codes : int64 array of shape (n,)
        Classes of the rows.
    weights : ndarray of shape (n,), optional
        Of the rows in the log loss; macro F1 counts them alike.
    mix : {"arithmetic", "geometric", "harmonic", "rank"}
    objective : {"log_loss", "macro_f1"}
    """
    check_objective(objective)
    if objective == "macro_f1":
        vectors = _vectors(len(planes))
        k = planes.shape[2]
        _, macro_f1 = totals(counted(codes, decisions(planes, vectors, mix), k))
        best = vectors[macro_f1 >= macro_f1.max() - 1e-12]
        losses = [log_loss(mixed(planes, one, mix), codes, weights) for one in best]
        return np.asarray(best[int(np.argmin(losses))])
    averaged = terms(planes, mix)

    def loss(free: NDArray[np.float64]) -> float:
        return log_loss(probabilities(np.tensordot(softmax(free), averaged, axes=1), mix), codes, weights)

    m = len(planes)
    with libraries_limited(1):  # threads that wait for each other take longer than a problem of so few numbers
        found = softmax(np.asarray(minimize(loss, np.zeros(m), method="L-BFGS-B", bounds=[(-8, 8)] * m).x))
    # A softmax reaches no zero: try the nearby vectors that have some.
    pruned = np.where(found < SMALL, 0, found) / found[found >= SMALL].sum()
    candidates = [*np.eye(m), pruned, found]
    return np.asarray(
        candidates[int(np.argmin([log_loss(mixed(planes, one, mix), codes, weights) for one in candidates]))]
    )


def class_weights(
    planes: NDArray[np.float64],
    codes: Codes,
    weights: NDArray[np.float64] | None = None,
    *,
    mix: Mix,
    about: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return weights (m, k) a member and class, columns of unit sum, that make the true classes most likely.

    They are the softmax over members of m * k free numbers. With every class a column more is fitted to the same rows,
    so a normal prior of variance one, worth less than a row, holds the numbers to the logarithms of the weights that
    all classes share (`about`): a class without rows keeps those.

    Parameters
    ----------
    planes : ndarray of shape (m, n, k)
        As for `learned_weights`.
    codes, weights, mix
        As there.
    about : ndarray of shape (m,)
        Weights that all classes share, of unit sum.
    """
    scores, (m, _, k) = terms(planes, mix), planes.shape
    counts = np.ones(len(codes)) if weights is None else weights
    centre = np.repeat(np.log(np.maximum(about, SMALL))[:, None], k, axis=1)
    truth, unseen = np.eye(k)[codes], ~np.isin(np.arange(k), codes)

    def loss(free: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        apart = free.reshape(m, k) - centre
        shares = softmax(free.reshape(m, k).T).T
        means = weighted_means(scores, shares)
        proba = probabilities(means, mix)
        slope = _slope(means, proba, truth, mix) * counts[:, None]
        of_share = np.einsum("nk,mnk->mk", slope, scores)
        of_free = shares * (of_share - (shares * of_share).sum(axis=0)) + apart
        of_free[:, unseen] = 0
        value = log_loss(proba, codes, counts) * counts.sum() + (apart**2).sum() / 2
        return value / counts.sum(), of_free.ravel() / counts.sum()

    with libraries_limited(1):
        found = minimize(loss, centre.ravel(), jac=True, method="L-BFGS-B", bounds=[(-12, 12)] * (m * k))
    alike = np.repeat(about[:, None], k, axis=1)  # with zeros, which a softmax does not reach
    candidates = [alike, softmax(found.x.reshape(m, k).T).T]
    return np.asarray(min(candidates, key=lambda one: log_loss(mixed(planes, one, mix), codes, weights)))


def _slope(
    means: NDArray[np.float64], proba: NDArray[np.float64], truth: NDArray[np.float64], mix: Mix
) -> NDArray[np.float64]:
    """Return the slope (n, k) of the log loss of each row in its weighted means of `terms` (n, k)."""
    if mix == "geometric":
        return np.asarray(proba - truth)
    if mix == "harmonic":  # p = q / sum(q), where q = -1 / mean
        return (proba - truth) / -means
    return (proba - truth) / np.maximum(means, SMALLEST)


def dirichlet_weights(m: int, k: int, draws: int, seed: int) -> NDArray[np.float64]:
    """Return weights (draws, m, k) a member and class, each class's drawn by itself and evenly: of unit sum."""
    drawn = np.random.default_rng(seed).dirichlet(np.ones(m), size=(draws, k))
    return np.ascontiguousarray(drawn.transpose(0, 2, 1))  # (draws, k, m) -> (draws, m, k)


def best_drawn(
    planes: NDArray[np.float64],
    codes: Codes,
    weights: NDArray[np.float64] | None = None,
    *,
    mix: Mix,
    objective: str,
    draws: int,
    seed: int,
) -> NDArray[np.float64]:
    """Return the best of `draws` weights (m, k) a member and class, or equal ones where none is better.

    So AVCER has its weights (Ryumina et al., 2024, arXiv 2403.12687; its code: ElenaRyumina/AVCER, e434cc0). Of equally
    good draws that of the least log loss is taken. A class without rows keeps equal weights: nothing tells which draw
    is good for it.

    Parameters
    ----------
    planes, codes, weights, mix, objective
        As for `learned_weights`.
    draws, seed : int
    """
    check_objective(objective)
    m, _, k = planes.shape
    tried = np.concatenate([np.full((1, m, k), 1 / m), dirichlet_weights(m, k, draws, seed)])
    tried[:, :, ~np.isin(np.arange(k), codes)] = 1 / m
    if objective == "macro_f1":
        _, macro_f1 = totals(counted(codes, decisions(planes, tried, mix), k))
        tried = tried[macro_f1 >= macro_f1.max() - 1e-12]
    return np.asarray(min(tried, key=lambda one: log_loss(mixed(planes, one, mix), codes, weights)))


def check_objective(objective: str) -> None:
    """Refuse a word that is no objective."""
    if objective not in get_args(Objective):
        raise HeadConfigError(f"there is no objective {objective!r}; {nearest(str(objective), get_args(Objective))}")


def _vectors(m: int) -> NDArray[np.float64]:
    """Return the finest grid over the weights of m members that is not too large; equal weights are in it."""
    step = next((one for one in STEPS if comb(int(1 / Decimal(one)) + m - 1, m - 1) <= MOST_VECTORS), STEPS[-1])
    return np.vstack([np.full(m, 1 / m), simplex(m, Decimal(step))])


def likeliest_factors(
    votes: NDArray[np.float64],
    shares: NDArray[np.float64],
    weights: NDArray[np.float64] | None = None,
    *,
    others: NDArray[np.float64] | float = 0.0,
    about: NDArray[np.float64],
    start: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Return the factors (m,), none negative, on votes that make the true classes most likely.

    A row's logits are ``others + sum of factors * votes``. The loss is convex in the factors; a normal prior of
    variance one about `about`, worth less than a row, makes it strictly so, and keeps factors finite where nobody is
    ever wrong.

    Parameters
    ----------
    votes : float64 array of shape (m, n, k)
        What each member adds to the logits of rows that it did not learn from.
    shares : float64 array of shape (n, k)
        Of which classes they are, each of unit sum; without rows `start` is returned.
    weights : float64 array of shape (n,), optional
        How much each row counts.
    others : float64 array of shape (n, k), optional
        Logits that no factor is on.
    about, start : float64 arrays of shape (m,)
        What the prior is about; where the search begins, there if not given.
    """
    start = about if start is None else start
    if not len(shares):
        return start
    counts = np.ones(len(shares)) if weights is None else weights
    n = counts.sum()

    def loss(factors: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        log_proba = log_softmax(others + np.tensordot(factors, votes, axes=1), axis=1)
        apart, slope = factors - about, (np.exp(log_proba) - shares) * counts[:, None]
        value = -(counts @ (log_proba * shares).sum(axis=1)) / n + apart @ apart / (2 * n)
        return float(value), (np.einsum("mnk,nk->m", votes, slope) + apart) / n

    with libraries_limited(1):  # as above
        found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(start))
    return np.asarray(found.x, np.float64)


FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]
Decisions: TypeAlias = NDArray[np.int16]
Mix: TypeAlias = Literal["arithmetic", "geometric", "harmonic", "rank"]

MIXES: Final[tuple[str, ...]] = get_args(Mix)

SMALLEST: Final = 1e-12
"""The least probability that is believed before a logarithm or a reciprocal, so that no member can veto alone."""

TIE_BREAK: Final = 1e-6
"""What a probability counts beside a rank."""


def mixed(proba: FloatArray, weights: FloatArray, mix: str) -> FloatArray:
    """Mix members' probabilities (m, n, k) with weights (m,), or (m, k) a class, of unit sum over m into (n, k)."""
    return probabilities(weighted_means(terms(proba, mix), weights), mix)


def weighted_means(scores: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the weighted means (n, k) of `terms` (m, n, k), with weights (m,), or (m, k) a class."""
    if weights.ndim == 1:
        return np.asarray(np.tensordot(weights, scores, axes=1))
    return np.asarray(np.einsum("mk,mnk->nk", weights, scores))


def terms(proba: FloatArray, mix: str) -> FloatArray:
    """Return what `mix` takes the weighted mean of; the class of the largest mean is the class that it decides for.

    Parameters
    ----------
    proba : float64 array of shape (..., k)
        Class probabilities; those below `SMALLEST` count as that under a logarithm or a reciprocal.
    mix : {"arithmetic", "geometric", "harmonic", "rank"}
        The rules of Kittler et al. (1998, "On combining classifiers", §2) and Borda's: ``p``; ``log p``; ``-1 / p``;
        or the share of all pairs of classes that a class wins, half a win for equals. Sums of ranks tie often, and
        rounding must not decide: a millionth of the probability is added to them.

    Returns
    -------
    float64 array of shape (..., k)
    """
    if mix == "geometric":
        return np.asarray(np.log(np.maximum(proba, SMALLEST)))
    if mix == "harmonic":
        return np.asarray(-1.0 / np.maximum(proba, SMALLEST))
    return _wins(proba) + TIE_BREAK * proba if mix == "rank" else proba


def probabilities(means: FloatArray, mix: str) -> FloatArray:
    """Turn weighted means of `terms` (..., k) into probabilities: undo what was done to them, and divide by the sum."""
    if mix == "geometric":
        means = np.exp(means - means.max(axis=-1, keepdims=True))
    elif mix == "harmonic":
        means = -1.0 / means
    return np.asarray(means / means.sum(axis=-1, keepdims=True))


def _wins(proba: FloatArray) -> FloatArray:
    k = proba.shape[-1]
    wins = np.empty(proba.shape)
    for c in range(k):
        mine = proba[..., c, None]
        # A class ties with itself: half a win too many.
        wins[..., c] = (mine > proba).sum(axis=-1) + 0.5 * (mine == proba).sum(axis=-1) - 0.5
    return np.asarray(wins / (k * (k - 1) / 2))


_CHUNK = 200_000  # mixed probabilities held at once: 1.6 MB, within the caches
_CLEARLY = 1e-12  # share by which one sum must be larger than another, so that rounding cannot make them equal


def decisions(member_proba: FloatArray, weights: FloatArray, mix: Mix = "arithmetic") -> Decisions:
    """Return the class each weight vector decides for.

    Parameters
    ----------
    member_proba : float64 array of shape (m, n, k)
        Each member's class probabilities.
    weights : float64 array of shape (w, m), or (w, m, k) for weights a class
        Non-negative; their scale does not matter, a class's own scale neither.
    mix : {"arithmetic", "geometric", "harmonic", "rank"}
        What is averaged (`cer_fusion.fusion.heads.weights.terms`), as in the `late` head.

    Returns
    -------
    int16 array of shape (w, n)
        Class positions; the first of equal ones, as ``argmax`` has it.
    """
    expected = (member_proba.shape[:1], (*member_proba.shape[:1], *member_proba.shape[2:]))
    if member_proba.ndim != 3 or weights.shape[1:] not in expected:
        raise SweepError(
            f"weights must have shape (w, m) or (w, m, k) for members of shape (m, n, k), however: {weights.shape} and "
            f"{member_proba.shape}"
        )
    if mix not in MIXES:
        raise SweepError(f"there is no mix {mix!r}; {nearest(mix, MIXES)}")
    scores = terms(member_proba, mix)
    shares = weights / weights.sum(axis=1, keepdims=True)
    if shares.ndim == 3:
        return np.stack([weighted_means(scores, one).argmax(axis=1).astype(np.int16) for one in shares])
    out = np.empty((len(shares), scores.shape[1]), dtype=np.int16)
    contend = _contenders(scores)
    numbers = contend.sum(axis=1)
    for number in np.unique(numbers):
        rows = np.flatnonzero(numbers == number)
        classes = np.nonzero(contend[rows])[1].reshape(-1, number)  # (n', number), rising
        planes = np.take_along_axis(scores[:, rows], classes[None], axis=2).transpose(0, 2, 1).reshape(len(scores), -1)
        step = max(1, _CHUNK // planes.shape[1])
        for start in range(0, len(shares), step):
            mixed = shares[start : start + step] @ planes  # (w', number * n')
            out[start : start + step, rows] = _winners(mixed.reshape(-1, number, rows.size), classes.T)
    return out


def _contenders(scores: FloatArray) -> NDArray[np.bool_]:
    """Return which classes (n, k) can win a row of scores (m, n, k) under any weights at all.

    A class that another one beats with every member cannot. An earlier class must be beaten clearly: equal sums, or
    sums that rounding makes equal, fall to it.
    """
    k = scores.shape[2]
    out = np.ones(scores.shape[1:], dtype=np.bool_)
    for c in range(k):
        mine = scores[:, :, c]
        for d in range(k):
            other = scores[:, :, d]
            if d < c:
                out[:, c] &= (mine > other).any(axis=0)
            elif d > c:
                out[:, c] &= (other - mine <= _CLEARLY * (np.abs(other) + np.abs(mine))).any(axis=0)
    return out


def _winners(planes: FloatArray, classes: IntArray) -> NDArray[np.unsignedinteger]:
    """Return the class, of `classes` (c, n), of the first largest score of planes (w, c, n): (w, n).

    By whole planes, since NumPy's argmax is slow over a short axis; a class replaces another under a mask of bits.
    """
    ids = classes.astype(np.uint8 if classes.max() < 256 else np.uint16)
    best = planes[:, 0].copy()
    won = np.broadcast_to(ids[0], best.shape).copy()
    larger = np.empty(best.shape, dtype=np.bool_)
    for c in range(1, len(ids)):
        np.greater(planes[:, c], best, out=larger)
        mask = np.negative(larger.view(np.uint8).astype(ids.dtype, copy=False))  # of 0 and 1 makes no bits and all
        won ^= (won ^ ids[c]) & mask
        np.maximum(best, planes[:, c], out=best)
    return won


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


WIDEST: Final = 3.0
"""Temperatures of probabilities are sought between exp(-3) and exp(3)."""

WIDEST_OF_SCORES: Final = 9.0
"""Temperatures of scores in any unit are sought between exp(-9) and exp(9)."""


def fitted_temperature(
    scores: NDArray[np.float64],
    codes: Codes,
    weights: NDArray[np.float64] | None = None,
    *,
    widest: float = WIDEST_OF_SCORES,
) -> float:
    """Return the temperature under which ``softmax(scores / temperature)`` makes the classes most likely.

    The loss is convex in the reciprocal, so the search along its logarithm finds the only minimum.

    Parameters
    ----------
    scores : ndarray of shape (n, k)
        Of rows that the scoring did not learn from.
    codes : int64 array of shape (n,)
        Their classes.
    weights : ndarray of shape (n,), optional
        Of the rows.
    widest : float
        Largest logarithm of the temperature, either way.
    """

    def loss(log_temperature: float) -> float:
        return log_loss(softmax(scores / np.exp(log_temperature)), codes, weights)

    found = minimize_scalar(loss, bounds=(-widest, widest), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))


def tempered(proba: Proba, temperature: float) -> Proba:
    """Return probabilities (n, k) made less sure by a temperature above one, surer by one below."""
    return proba if temperature == 1 else softmax(np.log(np.maximum(proba, SMALLEST)) / temperature)


def log_loss(proba: Proba, codes: Codes, weights: NDArray[np.float64] | None = None) -> float:
    """Return the (weighted) mean of -log p of the true class of rows (n, k)."""
    likely = np.maximum(proba[np.arange(len(codes)), codes], SMALLEST)
    return float(np.average(-np.log(likely), weights=weights))


def out_of_fold(
    new: Callable[[], Head],
    rows: NDArray[np.float32],
    codes: Codes,
    info: RowInfo,
    *,
    k: int,
    folds: int,
    seed: int,
) -> tuple[Proba, NDArray[np.int64]]:
    """Fit a new head on all folds but one, ask it about that one, and so on round.

    Parameters
    ----------
    new : callable
        Returns an unfitted head.
    rows : float32 array of shape (n, d)
    codes : int64 array of shape (n,)
        Classes 0..k-1.
    info : RowInfo
        Groups stay whole; weights are handed on to the heads.
    k, folds, seed : int

    Returns
    -------
    proba : ndarray of shape (r, k)
        A class unknown to the head that answered has probability 0.
    asked : int64 array of shape (r,)
        Which rows they are about: all whose class has rows in other folds too. Empty where rows are too few to tell.
    """
    answers, places = [np.zeros((0, k))], [np.zeros(0, np.int64)]
    for seen, asked, known in inner_folds(codes, folds, seed=seed, groups=info.groups):
        wide = np.zeros((len(asked), k))
        wide[:, known] = new()._learn(rows[seen], codes[seen], info.at(seen)).predict_proba(rows[asked])
        answers.append(wide)
        places.append(asked)
    return np.concatenate(answers), np.concatenate(places)


def inner_folds(
    codes: Codes, folds: int, *, seed: int, groups: NDArray[np.int64] | None = None
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    """Yield rows to learn from, rows to ask about, and the classes that the former know, a fold.

    A class that only one fold has says nothing about a head that never saw it: its rows are not asked about. A fold
    whose other rows have one class only is left out.
    """
    fold = stratified_folds(codes, folds, seed=seed, groups=groups)
    for number in range(int(fold.max()) + 1):
        known = np.unique(codes[fold != number])
        asked = np.flatnonzero((fold == number) & np.isin(codes, known))
        if len(known) > 1 and len(asked):
            yield np.flatnonzero(fold != number), asked, known


def stratified_folds(
    codes: Codes, folds: int, *, seed: int, groups: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Return a fold 0..folds-1 a row (n,), each with about the same share of each class, and no group in two of them.

    A class of fewer rows (or groups) than folds is missing from some folds, which is no error here: a rare class must
    not stop a calibration. With fewer groups than folds there are as many folds as groups.

    Single rows of a class go round the folds, starting where the last class stopped. Groups of several rows are dealt
    first, the largest first, each to the fold in which its classes are then least crowded.
    """
    random = np.random.default_rng(seed)
    found = np.empty(len(codes), np.int64)
    if groups is None:
        start = 0
        for code in np.unique(codes):
            rows = random.permutation(np.flatnonzero(codes == code))
            found[rows] = (start + np.arange(len(rows))) % folds
            start += len(rows)
        return found
    names, of_row, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(names) < folds:
        logger.warning("%d groups are kept aside in %d folds, not in %d", len(names), len(names), folds)
        folds = len(names)
    totals = np.bincount(codes).astype(np.float64)
    counts = np.zeros((len(names), len(totals)))
    np.add.at(counts, (of_row, codes), 1 / totals[codes])
    held = np.zeros((folds, len(totals)))
    dealt = random.permutation(len(names))
    of_group = np.zeros(len(names), np.int64)
    for group in dealt[np.argsort(-sizes[dealt], kind="stable")]:
        crowded = np.square(held + counts[group]).sum(axis=1) - np.square(held).sum(axis=1)
        of_group[group] = np.lexsort((held.sum(axis=1), crowded.round(12)))[0]
        held[of_group[group]] += counts[group]
    return of_group[of_row]
