"""One number that makes a classifier as sure as it is right (Guo et al., 2017, "On calibration of modern neural
networks", §4.2): its scores are divided by it before the softmax."""

from __future__ import annotations

from typing import Final

import numpy as np
from cer_fusion.fusion.heads.base import Codes, Proba, softmax
from cer_fusion.fusion.heads.mixes import SMALLEST
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
