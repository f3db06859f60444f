"""Ridge regression on class indicators, and exact leave-one-out, also under many weights of blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.linalg.lapack import dpotri

from ..data.blocks import FloatArray
from ..errors import HeadConfigError
from .base import Codes, Head, HeadState, Proba, RowInfo, expect_positive, expect_shape, softmax
from .scaling import BlockScaler
from .settings import Standardize, factors, positive
from .weights import fitted_temperature, log_loss

Floats: TypeAlias = NDArray[np.float64]

PENALTIES: Final = tuple(float(10.0**power) for power in np.arange(-3, 3.25, 0.5))
"""Tried when none is given; in units of the mean squared length of a centred row, which is about one."""

WORTH: Final = 1e-4
"""Log loss that a smaller penalty must save: where all are as good as guessing, the largest is taken."""

ROUNDING: Final = 1e-10
"""Eigenvalues under this share of the largest are rounding, and so is what is left of one row's influence."""


@dataclass(kw_only=True, eq=False, repr=False)
class RidgeHead(Head):
    """Least squares on class indicators with an L2 penalty, probabilities by a softmax of calibrated temperature.

    Every penalty's leave-one-out answers follow from one eigendecomposition of the smaller Gram matrix: the residual of
    a row the fit has not seen is its residual over one minus its leverage (Golub, Heath and Wahba, 1979, "Generalized
    cross-validation", §2). They are exact for the scaled columns; the scaling itself has seen all rows. On them a
    temperature is fitted for each penalty, and the penalty of the least log loss is taken, with that temperature. Of
    rows in groups whole groups are left out, as exactly (`without_own_group`).

    Parameters
    ----------
    penalty : float, optional
        On the squared weights, in units of the mean squared length of a centred row; None chooses among `PENALTIES`.
    C : float, optional
        The penalty in another unit, instead of `penalty`: 1 / C, scikit-learn's ``alpha``, stands before the squared
        weights on columns over sqrt(D), so that one C serves all widths, as for `linear`.
    class_weight : None, "balanced" or dict
        Factor on each class's squared errors, and on its log loss in the choice. Least squares on indicators seldom
        answers a rare class that weighs little: on real features `balanced` raised macro F1 by 0.03.
    standardize : {"none", "standard", "l2", "power"}
        What happens to each block first (`cer_fusion.fusion.heads.scaling`).

    Attributes
    ----------
    coef_ : ndarray of shape (k, D), float64
        Weights on the standardised columns over sqrt(D).
    intercept_ : ndarray of shape (k,), float64
    penalty_ : float
        As used, in the same units as `penalty`.
    temperature_ : float
    """

    name: ClassVar[str] = "ridge"
    weighs_rows: ClassVar[bool] = True

    penalty: float | None = None
    C: float | None = None
    class_weight: Any = "balanced"
    standardize: Standardize = "power"

    def _fit(self, X: FloatArray, codes: Codes, info: RowInfo) -> None:
        positive(self, "penalty", "C")
        if self.penalty is not None and self.C is not None:
            raise HeadConfigError(f"penalty and C say the same thing twice: {self.penalty!r} and {self.C!r}; give one")
        self.scaler_ = BlockScaler(self.standardize, self.blocks_).fit(X)
        weights = info.weighed(factors(self.class_weight, self.classes_, codes)[codes])
        counted = weights > 0  # rows that weigh nothing take no part
        groups = None if info.groups is None else info.groups[counted]
        rows = self._ready(X[counted])
        path = RidgePath(rows, np.eye(len(self.classes_))[codes[counted]], weights[counted])
        best = np.inf
        given = self.penalty if self.C is None else 1 / (self.C * path.unit)
        for penalty in PENALTIES[::-1] if given is None else (given,):
            scores = path.left_out(penalty, groups)
            temperature = fitted_temperature(scores, codes[counted], weights[counted])
            loss = log_loss(softmax(scores / temperature), codes[counted], weights[counted])
            if loss < best - WORTH:
                best, self.penalty_, self.temperature_ = loss, float(penalty), temperature
        self.coef_, self.intercept_ = path.solution(self.penalty_)

    def _keeps_aside(self) -> bool:
        return True

    def _proba(self, X: FloatArray) -> Proba:
        return softmax((self._ready(X) @ self.coef_.T + self.intercept_) / self.temperature_)

    def _ready(self, X: FloatArray) -> NDArray[np.float64]:
        return np.asarray(self.scaler_.transform(X).astype(np.float64) / np.sqrt(X.shape[1]))

    def _state(self) -> HeadState:
        return HeadState(
            arrays={"coef": self.coef_, "intercept": self.intercept_, **self.scaler_.state()},
            values={"penalty": self.penalty_, "temperature": self.temperature_},
        )

    def _restore(self, state: HeadState) -> None:
        k = len(self.classes_)
        self.scaler_ = BlockScaler(self.standardize, self.blocks_).restore(state.arrays)
        self.coef_ = expect_shape("coef", state.arrays["coef"], (k, self.n_features_in_))
        self.intercept_ = expect_shape("intercept", state.arrays["intercept"], (k,))
        self.penalty_ = expect_positive("penalty", state.values["penalty"])
        self.temperature_ = expect_positive("temperature", state.values["temperature"])


class RidgePath:
    """All ridge solutions of one weighted least-squares problem with free intercepts.

    Parameters
    ----------
    rows : float64 array of shape (n, D)
    targets : float64 array of shape (n, k)
    weights : float64 array of shape (n,)
        Positive.
    """

    def __init__(self, rows: NDArray[np.float64], targets: NDArray[np.float64], weights: NDArray[np.float64]) -> None:
        self.share = weights / weights.sum()
        self.targets, self.root = targets, np.sqrt(weights)[:, None]
        self.row_mean, self.target_mean = self.share @ rows, self.share @ targets
        self.centred = (rows - self.row_mean) * self.root
        n, d = rows.shape
        # The smaller of rows x rows and columns x columns: their eigenvalues are the same.
        gram = self.centred @ self.centred.T if n <= d else self.centred.T @ self.centred
        values, vectors = np.linalg.eigh(gram)
        kept = values > ROUNDING * max(float(values[-1]), np.finfo(float).tiny)
        self.values, vectors = values[kept], vectors[:, kept]
        self.scores = vectors * np.sqrt(self.values) if n <= d else self.centred @ vectors  # (n, r)
        self.unit = float(self.values.sum() / n) or 1.0
        self.along = self.scores.T @ ((targets - self.target_mean) * self.root)  # (r, k)

    def left_out(self, penalty: float, groups: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """Return what the fit on all other rows, or on those of all other groups, says of each row, (n, k)."""
        shrunk = self.values + penalty * self.unit
        fitted = self.target_mean + self.scores @ (self.along / shrunk[:, None]) / self.root
        leverage = self.share + np.square(self.scores) @ (1 / shrunk)
        found = without_own_row(self.targets, self.targets - fitted, leverage)
        for rows in () if groups is None else members_of(groups):
            hat = (self.scores[rows] / shrunk) @ self.scores[rows].T  # of rows times their roots
            hat += np.sqrt(np.outer(self.share[rows], self.share[rows]))
            residuals = (self.targets[rows] - fitted[rows]) * self.root[rows]
            found[rows] = self.targets[rows] - without_own_group(hat, residuals) / self.root[rows]
        return found

    def solution(self, penalty: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return weights (k, D) and intercepts (k,) of the fit on all rows."""
        # centred = scores @ axes.T with axes = centred.T @ scores / values
        inner = self.along / ((self.values + penalty * self.unit) * self.values)[:, None]
        coef = np.ascontiguousarray((self.centred.T @ (self.scores @ inner)).T)
        return coef, self.target_mean - coef @ self.row_mean


@dataclass(frozen=True, kw_only=True, eq=False)
class RidgeFit:
    """Ridge regression under one weight vector and one penalty."""

    left_out: Floats
    """(n, k) the scores of each training row by the fit to all others, exact."""
    coef: tuple[Floats, ...]
    """(d_b, k) a block: weights on its columns as given."""
    intercept: Floats
    """(k,)."""

    def scores(self, parts: Sequence[NDArray[np.floating]]) -> Floats:
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
        self.kernels: list[Floats] | None = None
        if self.n <= sum(self.widths):
            self.kernels = [part @ part.T for part in self.parts]
        else:
            self.joined = np.concatenate(self.parts, axis=1)
            self.gram = self.joined.T @ self.joined

    def fit(self, scales: Floats, alpha: float) -> RidgeFit:
        """Solve for blocks times ``scales`` (number of blocks,) under the penalty ``alpha`` > 0.

        The intercept, being free, adds 1 / n to a row's own weight in its fitted value.
        """
        residuals, own, coef = (self._dual if self.kernels is not None else self._primal)(scales, alpha)
        left_out = without_own_row(self.targets, residuals, own + 1 / self.n)
        shift = sum((c @ w for c, w in zip(self.centres, coef, strict=True)), np.zeros(self.targets.shape[1]))
        return RidgeFit(left_out=left_out + self.middle, coef=coef, intercept=self.middle - shift)

    def _dual(self, scales: Floats, alpha: float) -> tuple[Floats, Floats, tuple[Floats, ...]]:
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

    def _primal(self, scales: Floats, alpha: float) -> tuple[Floats, Floats, tuple[Floats, ...]]:
        """The same through the (D, D) matrix: own weights are squared lengths of ``L^-1 v x``."""
        by_column = np.repeat(scales, self.widths)
        regular = by_column[:, None] * self.gram * by_column
        regular[np.diag_indices_from(regular)] += alpha
        factor, _ = cho_factor(regular, lower=True, overwrite_a=True, check_finite=False)
        half = solve_triangular(factor, by_column[:, None] * self.joined.T, lower=True, check_finite=False)  # (D, n)
        joined = by_column[:, None] * solve_triangular(factor, half @ self.targets, lower=True, trans=1)
        coef = tuple(np.split(joined, np.cumsum(self.widths)[:-1]))
        return self.targets - self.joined @ joined, np.square(half).sum(axis=0), coef


def class_targets(codes: NDArray[np.int64], k: int) -> Floats:
    """Return +1 for each row's class and -1 for all others (n, k)."""
    return np.where(codes[:, None] == np.arange(k), 1.0, -1.0)


def members_of(groups: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return the rows of each group that has several."""
    order = np.argsort(groups, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    return [part for part in parts if len(part) > 1]


def without_own_group(hat: Floats, residuals: Floats) -> Floats:
    """Return the residuals (m, k) that a group's rows have under the fit on all other groups.

    Leaving out rows I changes their residuals r_I to ``(1 - H_II)^-1 r_I`` with the hat matrix H (Cook and Weisberg,
    1982, "Residuals and influence in regression", §3.6); of one row that is r_i / (1 - h_i).
    """
    rest = np.eye(len(hat)) - hat
    rest[np.diag_indices_from(rest)] += ROUNDING  # a group that alone spans a direction leaves nothing to say there
    return np.asarray(np.linalg.solve(rest, residuals))


def without_own_row(targets: Floats, residuals: Floats, leverage: Floats) -> Floats:
    """Return what the fit on all other rows says of each row, (n, k).

    Leaving row i out changes its residual r_i (k,) to ``r_i / (1 - h_i)`` with the leverage h_i its own weight in its
    fitted value (Allen, 1974, "The relationship between variable selection and data augmentation and a method for
    prediction", §3).
    """
    return np.asarray(targets - residuals / np.maximum(1 - leverage, ROUNDING)[:, None])
