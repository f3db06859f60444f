"""Multinomial logistic regression: the optimum that scikit-learn's seeks, in a tenth of the passes over the rows.

L-BFGS takes the more steps, the less alike the curvatures along its coordinates are. Here the coordinates are those in
which the bound on the Hessian of Böhning (1992, "Multinomial logistic regression algorithm", §2), s X'WX/n + penalty,
is the identity: a Cholesky factor of one Gram matrix, applied to weights and gradients alone, so that rows are never
copied. On embeddings of faces 20 to 40 steps do what took 120 to 180.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, eigh, solve_triangular
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning

from ..data.blocks import FloatArray
from ..data.joined import JoinedRows, Matrix, Product, divided_product, each_piece, one_blas_thread_each

logger = logging.getLogger(__name__)

Floats = NDArray[np.float64]

TOLERANCE: Final = 1e-4
"""Largest entry of the mean loss's gradient at which L-BFGS stops: scikit-learn's default."""

LINE_STEPS: Final = 50
"""Evaluations within one line search at most, as scikit-learn has it."""

CURVATURE: Final = 0.25
"""Share of a row's curvature that is expected; Böhning's bound is (1 - 1/k) / 2, and sure answers have less."""

NEGLIGIBLE: Final = 1e-10
"""Share of the largest variance below which a direction of the rows is rounding."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Solution:
    """The optimum of one problem."""

    coef: Floats
    """(k, D) weights."""
    intercept: Floats
    """(k,)."""
    iterations: int
    """Steps of L-BFGS."""


def fit_logistic(
    X: Matrix,
    targets: Floats,
    weights: Floats | None = None,
    *,
    C: float,
    max_iter: int = 1000,
    tol: float | None = None,
    ready: Callable[[FloatArray], FloatArray] | None = None,
) -> Solution:
    """Minimise what scikit-learn's `LogisticRegression` minimises; rows that stay on the disk are read in pieces.

    The objective is the weighted mean of the rows' log losses, plus the squared norm of the weights over twice C and
    the sum of the rows' weights; intercepts are free. Products are float32, sums float64. Two classes share one row of
    weights, the second class's; the first one's are zero.

    Parameters
    ----------
    X : float32 array or JoinedRows of shape (n, D)
    targets : ndarray of shape (n, k)
        Share of each class in each row, of unit sum; one 1 a row where a class is certain.
    weights : ndarray of shape (n,), optional
        Factor on each row's loss, not negative.
    C : float
        Inverse strength of the penalty.
    max_iter, tol
        As scikit-learn's; no `tol` is `TOLERANCE`. Stopping at `max_iter` is a `ConvergenceWarning`, there as here.
    ready : callable, optional
        Turns a piece (m, D) of rows into what the weights are for, float32; the rows themselves without it.
    """
    tol = TOLERANCE if tol is None else tol
    counted = np.ones(len(targets)) if weights is None else np.asarray(weights, np.float64)
    problem = _Problem(targets=targets, weights=counted, C=C)
    with one_blas_thread_each() as pool:
        if isinstance(X, JoinedRows):  # a thread a piece
            return _solved(problem, X, ready or _as_they_are, np.matmul, max_iter, tol)
        rows, product = X if ready is None else ready(X), divided_product(pool)
        if len(rows) >= rows.shape[1]:
            return _solved(problem, rows, _as_they_are, product, max_iter, tol)
        axes, spread = _row_space(rows)
        found = _solved(problem, axes, _as_they_are, product, max_iter, tol)
        coef = (found.coef / spread) @ (axes.astype(np.float64) / spread).T @ rows  # (k, r) -> (k, D)
        return Solution(coef=coef, intercept=found.intercept, iterations=found.iterations)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Problem:
    targets: Floats
    weights: Floats
    C: float

    @property
    def total(self) -> float:
        return float(self.weights.sum())

    @property
    def penalty(self) -> float:
        return 1.0 / (self.C * self.total)

    @property
    def free(self) -> slice:
        return slice(1, None) if self.targets.shape[1] == 2 else slice(None)


def _solved(
    problem: _Problem,
    X: Matrix,
    ready: Callable[[FloatArray], FloatArray],
    product: Product,
    max_iter: int,
    tol: float,
) -> Solution:
    k, width, total, free = problem.targets.shape[1], X.shape[1], problem.total, problem.free
    shape = (len(range(k)[free]), width + 1)  # the last column is the intercept's
    bound = CURVATURE * _gram(X, ready, product, problem.weights) / total
    bound[np.diag_indices(width)] += problem.penalty
    scale = max(1.0, float(np.sqrt(bound.diagonal()[:width].max())))
    factor = cholesky(bound, lower=True, overwrite_a=True, check_finite=False).astype(np.float32)

    def objective(flat: Floats) -> tuple[float, Floats]:
        solved = _weights(factor, flat.reshape(shape))
        coef, intercept = np.zeros((k, width), np.float32), np.zeros(k)
        coef[free], intercept[free] = solved[:, :-1], solved[:, -1]

        def summed(start: int, piece: FloatArray) -> tuple[float, Floats]:
            where = slice(start, start + len(piece))
            return _sums(ready(piece), problem.targets[where], problem.weights[where], coef, intercept, free, product)

        loss, slope = 0.0, np.zeros(shape)
        for part_loss, part_slope in each_piece(X, summed):
            loss += part_loss
            slope += part_slope
        slope /= total
        slope[:, :-1] += problem.penalty * solved[:, :-1]
        value = loss / total + 0.5 * problem.penalty * float((solved[:, :-1] ** 2).sum())
        logger.debug("logistic: mean loss %.6f over %d rows", value, X.shape[0])
        return value, _solve(factor, slope).ravel()

    options = {"maxiter": max_iter, "maxls": LINE_STEPS, "gtol": tol / scale, "ftol": 64 * np.finfo(float).eps}
    found = minimize(objective, np.zeros(shape[0] * shape[1]), method="L-BFGS-B", jac=True, options=options)
    _say_if_unfinished(found, max_iter)
    solved, coef, intercept = _weights(factor, found.x.reshape(shape)), np.zeros((k, width)), np.zeros(k)
    coef[free], intercept[free] = solved[:, :-1], solved[:, -1]
    return Solution(coef=coef, intercept=intercept, iterations=min(int(found.nit), max_iter))


def _weights(factor: FloatArray, u: Floats) -> Floats:
    """From the coordinates of the search to weights and intercepts (m, D + 1)."""
    return _solve(factor, u, transposed=True)


def _solve(factor: FloatArray, rows: Floats, *, transposed: bool = False) -> Floats:
    """Return rows (m, D + 1) times the inverse of the factor's transpose, or of the factor."""
    right = rows.T.astype(np.float32)
    found = solve_triangular(factor, right, lower=True, trans="T" if transposed else "N", check_finite=False)
    return np.ascontiguousarray(found.T, np.float64)


def _gram(X: Matrix, ready: Callable[[FloatArray], FloatArray], product: Product, weights: Floats) -> Floats:
    """Return sum_i w_i [x_i, 1] [x_i, 1]' (D + 1, D + 1)."""
    width = X.shape[1]
    roots = np.sqrt(weights).astype(np.float32)

    def summed(start: int, piece: FloatArray) -> Floats:
        root = roots[start : start + len(piece), None]
        joined = np.empty((len(piece), width + 1), np.float32)
        np.multiply(ready(piece), root, out=joined[:, :-1])
        joined[:, -1:] = root
        return product(joined.T, joined).astype(np.float64)

    found = np.zeros((width + 1, width + 1))
    for part in each_piece(X, summed):
        found += part
    return found


def _sums(
    rows: FloatArray,
    targets: Floats,
    weights: Floats,
    coef: FloatArray,
    intercept: Floats,
    free: slice,
    product: Product,
) -> tuple[float, Floats]:
    """Return the summed loss of rows (m, D), and its gradient by the free weights and intercepts (free, D + 1)."""
    logits = product(coef, rows.T).T.astype(np.float64) + intercept  # (m, D) -> (m, k)
    logits -= logits.max(axis=1, keepdims=True)
    proba = np.exp(logits)
    norm = proba.sum(axis=1, keepdims=True)
    loss = float((weights * (targets * (np.log(norm) - logits)).sum(axis=1)).sum())
    proba /= norm
    proba -= targets
    proba *= weights[:, None]
    slope = proba[:, free]
    by_coef = product(slope.astype(np.float32).T, rows).astype(np.float64)
    return loss, np.column_stack([by_coef, slope.sum(axis=0)])


def _row_space(rows: FloatArray) -> tuple[FloatArray, Floats]:
    """Return fewer rows than columns in their principal axes (n, r), and the square roots of their variances (r,).

    Penalised weights lie in the space that the rows span, so nothing is lost but the columns.
    """
    values, vectors = eigh((rows @ rows.T).astype(np.float64))
    kept = values > NEGLIGIBLE * max(values[-1], np.finfo(float).tiny)
    spread = np.sqrt(values[kept])
    return np.ascontiguousarray(vectors[:, kept] * spread, np.float32), spread


def _as_they_are(rows: FloatArray) -> FloatArray:
    return rows


def _say_if_unfinished(found: Any, max_iter: int) -> None:
    if found.status:
        warnings.warn(
            f"linear did not converge within {found.nit} passes (max_iter={max_iter}): {found.message}\n"
            "  raise max_iter, lower C, or standardise the blocks",
            ConvergenceWarning,
            stacklevel=4,
        )
