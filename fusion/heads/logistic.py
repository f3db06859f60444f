"""Logistic regression on rows that do not fit in memory: the loss and its gradient summed over pieces."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from cer_fusion.fusion.data.blocks import FloatArray
from cer_fusion.fusion.data.joined import JoinedRows, each_piece
from cer_fusion.fusion.heads.base import Codes
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

logger = logging.getLogger(__name__)

Sums = tuple[float, NDArray[np.float64], NDArray[np.float64]]

LINE_STEPS: Final = 50
"""Evaluations within one line search at most, as scikit-learn has it."""


def fit_in_pieces(
    X: JoinedRows,
    ready: Callable[[FloatArray], FloatArray],
    codes: Codes,
    class_weights: NDArray[np.float64],
    *,
    C: float,
    max_iter: int,
    tol: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Minimise what scikit-learn's `LogisticRegression` minimises, reading all rows once an evaluation.

    The objective is the weighted mean of the rows' log losses, plus the squared norm of the weights over twice C and
    the sum of the rows' weights; intercepts are free. Products are float32, sums float64. Two classes share one row of
    weights, the second class's; the first one's are zero.

    Parameters
    ----------
    X : JoinedRows of shape (n, D)
    ready : callable
        Turns a piece (m, D) into what the weights are for, float32.
    codes : int64 array of shape (n,)
        Classes 0..k-1.
    class_weights : ndarray of shape (k,)
        Factor on the loss of each class's rows.
    C, max_iter, tol
        As scikit-learn's. Stopping at `max_iter` is a `ConvergenceWarning`, there as here.

    Returns
    -------
    coef : ndarray of shape (k, D), float64
    intercept : ndarray of shape (k,), float64
    iterations : int
    """
    k, width = len(class_weights), X.shape[1]
    free = slice(1, None) if k == 2 else slice(None)
    total = float(class_weights[codes].sum())

    def objective(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        free_coef, free_intercept = _parted(flat, width)
        coef, intercept = np.zeros((k, width), np.float32), np.zeros(k)
        coef[free], intercept[free] = free_coef, free_intercept

        def summed(start: int, piece: FloatArray) -> Sums:
            return _sums(ready(piece), codes[start : start + len(piece)], coef, intercept, class_weights, free)

        loss, by_coef, by_intercept = 0.0, np.zeros_like(free_coef), np.zeros_like(free_intercept)
        for part_loss, part_coef, part_intercept in each_piece(X, summed):
            loss += part_loss
            by_coef += part_coef
            by_intercept += part_intercept
        value = loss / total + 0.5 * float((free_coef**2).sum()) / (C * total)
        logger.debug("linear: mean loss %.6f over %d rows", value, len(X))
        return value, np.concatenate([(by_coef / total + free_coef / (C * total)).ravel(), by_intercept / total])

    # One BLAS thread for each thread that works on pieces: they would only wait for each other.
    with threadpool_limits(limits=1, user_api="blas"):
        start = np.zeros(len(range(k)[free]) * (width + 1))
        options = {"maxiter": max_iter, "maxls": LINE_STEPS, "gtol": tol, "ftol": 64 * np.finfo(float).eps}
        found = minimize(objective, start, method="L-BFGS-B", jac=True, options=options)
    _say_if_unfinished(found, max_iter)
    coef, intercept = np.zeros((k, width)), np.zeros(k)
    coef[free], intercept[free] = _parted(found.x, width)
    return coef, intercept, min(int(found.nit), max_iter)


def _sums(
    rows: FloatArray,
    codes: Codes,
    coef: FloatArray,
    intercept: NDArray[np.float64],
    class_weights: NDArray[np.float64],
    free: slice,
) -> Sums:
    """Return the summed loss of rows (m, D), and its gradient by the free weights and intercepts."""
    here = np.arange(len(rows))
    logits = (rows @ coef.T).astype(np.float64) + intercept  # (m, D) -> (m, k)
    logits -= logits.max(axis=1, keepdims=True)
    proba = np.exp(logits)
    norm = proba.sum(axis=1)
    weights = class_weights[codes]
    loss = float((weights * (np.log(norm) - logits[here, codes])).sum())
    proba /= norm[:, None]
    proba[here, codes] -= 1
    proba *= weights[:, None]
    slope = proba[:, free]
    return loss, (slope.astype(np.float32).T @ rows).astype(np.float64), slope.sum(axis=0)


def _parted(flat: NDArray[np.float64], width: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rows = len(flat) // (width + 1)
    return flat[: rows * width].reshape(rows, width), flat[rows * width :]


def _say_if_unfinished(found: Any, max_iter: int) -> None:
    if found.status:
        warnings.warn(
            f"linear did not converge within {found.nit} passes (max_iter={max_iter}): {found.message}\n"
            "  raise max_iter, lower C, or standardise the blocks",
            ConvergenceWarning,
            stacklevel=2,
        )
