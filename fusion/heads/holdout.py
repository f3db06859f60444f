"""Dividing rows so that every class is spread as evenly as its rows allow."""

from __future__ import annotations

import numpy as np
from cer_fusion.fusion.heads.base import Codes
from numpy.typing import NDArray


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


def held_out(codes: Codes, share: float, *, seed: int) -> NDArray[np.bool_]:
    """Return which rows (n,) to keep aside: `share` of each class, rounded down, so a single row stays in training."""
    random = np.random.default_rng(seed)
    found = np.zeros(len(codes), bool)
    for code in np.unique(codes):
        rows = random.permutation(np.flatnonzero(codes == code))
        found[rows[: int(share * len(rows))]] = True
    return found
