"""Multinomial logistic regression over joined blocks, in memory or on rows that stay on the disk."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from ..data.blocks import FloatArray
from ..data.joined import JoinedRows, Matrix, each_piece
from .base import Codes, Head, HeadState, Proba, expect_shape, softmax
from .scaling import BlockScaler
from .settings import Standardize, by_code, factors, positive

TOLERANCE: Final = 1e-4
"""Largest entry of the mean loss's gradient at which L-BFGS stops: scikit-learn's default."""


@dataclass(kw_only=True, eq=False, repr=False)
class LinearHead(Head):
    """Logistic regression with an L2 penalty, fitted by scikit-learn's L-BFGS.

    Rows that stay on the disk (`JoinedRows`) are read anew in every iteration, and the same optimum is sought on sums
    over their pieces (`cer_fusion.fusion.heads.linear`): memory is bounded, time is not.

    Parameters
    ----------
    C : float
        Inverse strength of the penalty, on columns divided by sqrt(D): rows then have about unit length, and one C
        serves a single block and the join of several alike.
    class_weight : None, "balanced" or dict
        Factor on each class's loss.
    standardize : {"none", "standard", "l2", "power"}
        What happens to each block first (`cer_fusion.fusion.heads.scaling`). With anything but `none`, scaling a block
        before this head changes nothing (`l2` and `power` keep directions only, `standard` undoes it).
    max_iter : int
        Upper limit on L-BFGS iterations.

    Attributes
    ----------
    coef_ : ndarray of shape (k, D), float64
        Weights on the standardised columns over sqrt(D).
    intercept_ : ndarray of shape (k,), float64
    """

    name: ClassVar[str] = "linear"
    learns_in_pieces: ClassVar[bool] = True

    C: float = 10.0
    class_weight: Any = None
    standardize: Standardize = "power"
    max_iter: int = 1000

    def _fit(self, X: Matrix, codes: Codes) -> None:
        positive(self, "C")
        if isinstance(X, JoinedRows):
            found = factors(self.class_weight, self.classes_, codes)
            self.scaler_ = BlockScaler(self.standardize, self.blocks_).fit(X)
            self.coef_, self.intercept_, self.n_iter_ = fit_in_pieces(
                X, self._ready, codes, found, C=self.C, max_iter=self.max_iter, tol=TOLERANCE
            )
            return
        self.scaler_ = BlockScaler(self.standardize, self.blocks_).fit(X)
        weights = by_code(self.class_weight, self.classes_, codes)
        model = LogisticRegression(C=self.C, class_weight=weights, max_iter=self.max_iter, tol=TOLERANCE)
        model.fit(self._ready(X), codes)
        # Rows contiguous, as they come back from a file: BLAS then sums in the same order before and after.
        coef, intercept = model.coef_.astype(np.float64, order="C"), model.intercept_.astype(np.float64)
        if len(coef) == 1:  # two classes share one row in scikit-learn: sigmoid(z) = softmax(0, z)
            coef, intercept = np.vstack([0 * coef, coef]), np.array([0.0, intercept[0]])
        self.coef_, self.intercept_ = coef, intercept
        self.n_iter_ = int(np.max(model.n_iter_))

    def _proba(self, X: FloatArray) -> Proba:
        return softmax(self._ready(X).astype(np.float64) @ self.coef_.T + self.intercept_)

    def _ready(self, X: FloatArray) -> FloatArray:
        return self.scaler_.transform(X) / np.float32(np.sqrt(X.shape[1]))

    def _state(self) -> HeadState:
        return HeadState(
            arrays={"coef": self.coef_, "intercept": self.intercept_, **self.scaler_.state()},
            values={"iterations": self.n_iter_},
        )

    def _restore(self, state: HeadState) -> None:
        k = len(self.classes_)
        self.scaler_ = BlockScaler(self.standardize, self.blocks_).restore(state.arrays)
        self.coef_ = expect_shape("coef", state.arrays["coef"], (k, self.n_features_in_))
        self.intercept_ = expect_shape("intercept", state.arrays["intercept"], (k,))
        self.n_iter_ = int(state.values["iterations"])


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
