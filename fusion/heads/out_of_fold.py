"""Answers about training rows by heads that did not learn from them: what calibration and stacking learn from."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from cer_fusion.fusion.data.blocks import FloatArray
from cer_fusion.fusion.errors import HeadConfigError
from cer_fusion.fusion.heads.base import Codes, Head, Proba
from numpy.typing import NDArray


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


def check_folds(folds: object) -> None:
    """Refuse a number of folds that is none."""
    if isinstance(folds, bool) or not isinstance(folds, int) or folds < 2:
        raise HeadConfigError(f"folds must be a whole number of at least 2, got {folds!r}")
