"""Honest probabilities: answers about rows that a head did not learn from, and the temperature fitted on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
from cer_fusion.fusion.data.blocks import FloatArray
from cer_fusion.fusion.heads.base import Codes, Head, Proba, softmax
from cer_fusion.fusion.heads.weights import SMALLEST
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

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
    new: Callable[[], Head], rows: FloatArray, codes: Codes, *, k: int, folds: int, seed: int
) -> tuple[Proba, NDArray[np.int64]]:
    """Fit a new head on all folds but one, ask it about that one, and so on round.

    Parameters
    ----------
    new : callable
        Returns an unfitted head.
    rows : float32 array of shape (n, d)
    codes : int64 array of shape (n,)
        Classes 0..k-1.
    k, folds, seed : int

    Returns
    -------
    proba : ndarray of shape (r, k)
        A class unknown to the head that answered has probability 0.
    asked : int64 array of shape (r,)
        Which rows they are about: all whose class has rows in other folds too. Empty where rows are too few to tell.
    """
    answers, places = [np.zeros((0, k))], [np.zeros(0, np.int64)]
    for seen, asked, known in inner_folds(codes, folds, seed=seed):
        wide = np.zeros((len(asked), k))
        wide[:, known] = new().fit(rows[seen], codes[seen]).predict_proba(rows[asked])
        answers.append(wide)
        places.append(asked)
    return np.concatenate(answers), np.concatenate(places)


def inner_folds(
    codes: Codes, folds: int, *, seed: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    """Yield rows to learn from, rows to ask about, and the classes that the former know, a fold.

    A class that only one fold has says nothing about a head that never saw it: its rows are not asked about. A fold
    whose other rows have one class only is left out.
    """
    fold = stratified_folds(codes, folds, seed=seed)
    for number in range(folds):
        known = np.unique(codes[fold != number])
        asked = np.flatnonzero((fold == number) & np.isin(codes, known))
        if len(known) > 1 and len(asked):
            yield np.flatnonzero(fold != number), asked, known


def stratified_folds(codes: Codes, folds: int, *, seed: int) -> NDArray[np.int64]:
    """Return a fold 0..folds-1 a row (n,); each class goes round the folds, starting where the last one stopped.

    A class of fewer rows than folds is missing from some folds, which is no error here: a rare class must not stop a
    calibration.
    """
    random = np.random.default_rng(seed)
    found = np.empty(len(codes), np.int64)
    start = 0
    for code in np.unique(codes):
        rows = random.permutation(np.flatnonzero(codes == code))
        found[rows] = (start + np.arange(len(rows))) % folds
        start += len(rows)
    return found
