"""Penalised logistic regressions that share one matrix: their logits, losses and gradients, all problems at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from cer_fusion.fusion.sweeps.quasi_newton import Initial
from numpy.typing import NDArray

FloatArray = NDArray[Any]
"""float32, or float64 where problems are polished."""

Scalars = NDArray[np.float64]
IntArray = NDArray[np.int64]


class Problems:
    """The data, and how much of each block each problem sees; weights are (p, k, D + 1) with the intercept last.

    Weights and residuals of all classes sum to zero in every column, so that products leave the last class out.

    Parameters
    ----------
    parts, codes, scales, C, class_weights
        As for `cer_fusion.fusion.sweeps.logistic_batch.fit_batch`.
    product : callable
        Multiplies matrices.
    """

    def __init__(
        self,
        parts: Sequence[FloatArray],
        codes: IntArray,
        scales: Scalars,
        C: Scalars,
        class_weights: Scalars,
        product: Callable[[FloatArray, FloatArray], FloatArray] = np.matmul,
    ) -> None:
        self.product = product
        n, self.k = len(codes), len(class_weights)
        self.rows = np.concatenate([*parts, np.ones((n, 1), np.float32)], axis=1)  # (n, D + 1)
        self.columns = np.ascontiguousarray(self.rows.T)
        self.width = self.rows.shape[1]
        self.codes = codes
        widths = [part.shape[1] for part in parts]
        self.all_scales = np.concatenate([np.repeat(scales, widths, axis=1), np.ones((len(scales), 1))], axis=1)
        self.all_scales = self.all_scales.astype(np.float32)
        self.scales = self.all_scales
        weights = class_weights[codes]
        self.shares = (weights / weights.sum()).astype(np.float32)  # (n,) of unit sum
        self.truth = np.zeros((self.k, n), np.float32)
        self.truth[codes, np.arange(n)] = 1
        # Two classes share one row of weights in scikit-learn; two opposite rows of half its length have the same
        # logits at half its squared norm, hence twice the penalty.
        ridge = (2.0 if self.k == 2 else 1.0) / (C * weights.sum())
        self.ridge = np.repeat(ridge[:, None], self.width, axis=1).astype(np.float32)  # (p, D + 1)
        self.ridge[:, -1] = 0

    def logits(self, coef: FloatArray) -> FloatArray:
        """(p, k, D + 1) -> (p, k, n); classes sum to zero, so the last one is what is left."""
        scaled = coef[:, :-1] * self.scales[:, None, :]
        p, free, width = scaled.shape
        out = np.empty((p, self.k, len(self.codes)), coef.dtype)
        out[:, :-1] = self.product(scaled.reshape(p * free, width), self.columns).reshape(p, free, -1)
        np.negative(out[:, :-1].sum(axis=1), out=out[:, -1])
        return out

    def pulled(self, residuals: FloatArray) -> FloatArray:
        """(p, k, n) -> (p, k, D + 1): the transpose of `logits`."""
        p, _, n = residuals.shape
        out = np.empty((p, self.k, self.width), residuals.dtype)
        free = np.ascontiguousarray(residuals[:, :-1]).reshape(-1, n)
        out[:, :-1] = self.product(free, self.rows).reshape(p, self.k - 1, -1) * self.scales[:, None, :]
        np.negative(out[:, :-1].sum(axis=1), out=out[:, -1])
        return out

    def losses(self, logits: FloatArray) -> tuple[Scalars, FloatArray]:
        """Return mean losses (p,) and the residuals (p, k, n) they are driven by; (p, k, n) is overwritten."""
        top = logits.max(axis=1, keepdims=True)
        logits -= top
        right = np.take_along_axis(logits, self.codes[None, None, :], axis=1)[:, 0]
        np.exp(logits, out=logits)
        total = logits.sum(axis=1, keepdims=True)
        losses = (np.log(total[:, 0]) - right) @ self.shares.astype(np.float64)
        logits /= total
        logits -= self.truth
        logits *= self.shares
        return losses, logits

    def initial(self) -> Initial:
        """Return the reciprocals of the Hessians' diagonals where fitted probabilities vary half as much as priors."""
        prior = np.maximum(self.truth @ self.shares, 1e-3)  # a class may count for nothing
        squares = (np.square(self.rows) * self.shares[:, None]).sum(axis=0)
        squared = np.square(self.scales) * squares  # (p, D + 1)
        bend = 0.5 * (prior * (1 - prior))[None, :, None] * squared[:, None, :] + self.ridge[:, None, :]
        return Initial((1 / np.maximum(bend, 1e-12)).astype(self.rows.dtype))

    def polish(self) -> None:
        """Go on in float64."""
        for name in ("rows", "columns", "scales", "ridge", "shares", "truth"):
            setattr(self, name, getattr(self, name).astype(np.float64))

    def keep(self, which: NDArray[np.intp]) -> None:
        """Go on with these problems only."""
        self.scales, self.ridge = self.scales[which], self.ridge[which]
