"""Optimism: by how much the best of several heads looks better on the rows it was chosen on than it is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


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
