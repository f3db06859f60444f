"""Ridge regression on weighed blocks from their Gram matrices: any weights, any penalty, exact leave-one-out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.linalg.lapack import dpotri

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class RidgeFit:
    """Ridge regression under one weight vector and one penalty."""

    left_out: FloatArray
    """(n, k) the scores of each training row by the fit to all others, exact."""
    coef: tuple[FloatArray, ...]
    """(d_b, k) a block: weights on its columns as given."""
    intercept: FloatArray
    """(k,)."""

    def scores(self, parts: Sequence[NDArray[np.floating]]) -> FloatArray:
        """Return the scores (n', k) of other rows, blocks in the same order."""
        return sum((part @ coef for part, coef in zip(parts, self.coef, strict=True)), self.intercept[None, :])


class BlockGrams:
    """Training rows in the only form that ridge regression needs, computed once for all weights and penalties.

    With fewer rows than columns that is one Gram matrix ``K_b = X_b X_b'`` (n, n) a block: under weights v the kernel
    is ``sum_b v_b^2 K_b``. Else it is the one matrix ``X'X`` (D, D) of the joined, centred blocks, whose rows and
    columns the weights scale. What is minimised is ``|y - X w - b|^2 + alpha |w|^2`` with free intercepts, as in
    scikit-learn's `Ridge`.

    Parameters
    ----------
    parts : sequence of arrays of shape (n, d_b)
        Unweighed blocks.
    targets : array of shape (n, k)
        What is regressed on: for classes, +1 for the row's own and -1 for all others.
    """

    def __init__(self, parts: Sequence[NDArray[np.floating]], targets: NDArray[np.floating]) -> None:
        self.centres = [part.mean(axis=0, dtype=np.float64) for part in parts]
        self.parts = [part - centre for part, centre in zip(parts, self.centres, strict=True)]
        self.n = len(targets)
        self.middle = targets.mean(axis=0, dtype=np.float64)
        self.targets = targets - self.middle
        self.widths = [part.shape[1] for part in parts]
        self.kernels: list[FloatArray] | None = None
        if self.n <= sum(self.widths):
            self.kernels = [part @ part.T for part in self.parts]
        else:
            self.joined = np.concatenate(self.parts, axis=1)
            self.gram = self.joined.T @ self.joined

    def fit(self, scales: FloatArray, alpha: float) -> RidgeFit:
        """Solve for blocks times ``scales`` (number of blocks,) under the penalty ``alpha`` > 0.

        Leaving row i out changes its residual r_i to ``r_i / (1 - h_i)`` with h_i its own weight in its fitted value
        (Allen, 1974, "The relationship between variable selection and data augmentation and a method for prediction",
        §3); the intercept, being free, adds 1 / n to h_i.
        """
        residuals, own, coef = (self._dual if self.kernels is not None else self._primal)(scales, alpha)
        left_out = self.targets - residuals / (1 - own - 1 / self.n)[:, None]
        shift = sum((c @ w for c, w in zip(self.centres, coef, strict=True)), np.zeros(self.targets.shape[1]))
        return RidgeFit(left_out=left_out + self.middle, coef=coef, intercept=self.middle - shift)

    def _dual(self, scales: FloatArray, alpha: float) -> tuple[FloatArray, FloatArray, tuple[FloatArray, ...]]:
        """Residuals (n, k), own weights (n,) and weights (d_b, k), through the (n, n) kernel.

        With A the regularised kernel, residuals are ``alpha A^-1 y`` and own weights ``1 - alpha (A^-1)_ii``.
        """
        assert self.kernels is not None
        regular = np.diag(np.full(self.n, alpha))
        for scale, kernel in zip(scales, self.kernels, strict=True):
            if scale:
                regular += scale**2 * kernel
        factor, _ = cho_factor(regular, lower=True, overwrite_a=True, check_finite=False)
        dual = cho_solve((factor, True), self.targets, check_finite=False)
        inverse, info = dpotri(factor, lower=True, overwrite_c=True)
        assert info == 0  # the factor exists
        coef = tuple(scale**2 * (part.T @ dual) for scale, part in zip(scales, self.parts, strict=True))
        return alpha * dual, 1 - alpha * np.diag(inverse), coef

    def _primal(self, scales: FloatArray, alpha: float) -> tuple[FloatArray, FloatArray, tuple[FloatArray, ...]]:
        """The same through the (D, D) matrix: own weights are squared lengths of ``L^-1 v x``."""
        by_column = np.repeat(scales, self.widths)
        regular = by_column[:, None] * self.gram * by_column
        regular[np.diag_indices_from(regular)] += alpha
        factor, _ = cho_factor(regular, lower=True, overwrite_a=True, check_finite=False)
        half = solve_triangular(factor, by_column[:, None] * self.joined.T, lower=True, check_finite=False)  # (D, n)
        joined = by_column[:, None] * solve_triangular(factor, half @ self.targets, lower=True, trans=1)
        coef = tuple(np.split(joined, np.cumsum(self.widths)[:-1]))
        return self.targets - self.joined @ joined, np.square(half).sum(axis=0), coef


def class_targets(codes: NDArray[np.int64], k: int) -> FloatArray:
    """Return +1 for each row's class and -1 for all others (n, k)."""
    return np.where(codes[:, None] == np.arange(k), 1.0, -1.0)
