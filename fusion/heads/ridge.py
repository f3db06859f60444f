"""Ridge regression on class indicators, its penalty chosen by exact leave-one-out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

import numpy as np
from cer_fusion.fusion.data.blocks import FloatArray
from cer_fusion.fusion.errors import HeadConfigError
from cer_fusion.fusion.heads.base import Codes, Head, Proba, expect_positive, expect_shape, softmax
from cer_fusion.fusion.heads.class_weights import factors
from cer_fusion.fusion.heads.scaling import BlockScaler, Standardize
from cer_fusion.fusion.heads.state import HeadState
from cer_fusion.fusion.heads.temperature import fitted_temperature, log_loss
from numpy.typing import NDArray

PENALTIES: Final = tuple(float(10.0**power) for power in np.arange(-3, 3.25, 0.5))
"""Tried when none is given; in units of the mean squared length of a centred row, which is about one."""

WORTH: Final = 1e-4
"""Log loss that a smaller penalty must save: where all are as good as guessing, the largest is taken."""

ROUNDING: Final = 1e-10
"""Eigenvalues under this share of the largest are rounding, and so is what is left of one row's influence."""


class RidgeHead(Head):
    """Least squares on class indicators with an L2 penalty, probabilities by a softmax of calibrated temperature.

    Every penalty's leave-one-out answers follow from one eigendecomposition of the smaller Gram matrix: the residual of
    a row the fit has not seen is its residual over one minus its leverage (Golub, Heath and Wahba, 1979, "Generalized
    cross-validation", §2). They are exact for the scaled columns; the scaling itself has seen all rows. On them a
    temperature is fitted for each penalty, and the penalty of the least log loss is taken, with that temperature.

    Parameters
    ----------
    blocks : dict of block name to width, optional
        In column order; None is one block.
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
    threads : int, optional
        CPU threads while fitting and answering; None takes what the libraries are set to, but no more than a core each.
    random_state : int, RandomState or None
        Not used: the optimum is unique. Here so that every head takes it.

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

    def __init__(
        self,
        blocks: Mapping[str, int] | None = None,
        *,
        penalty: float | None = None,
        C: float | None = None,
        class_weight: Any = "balanced",
        standardize: Standardize = "power",
        threads: int | None = None,
        random_state: Any = 0,
    ) -> None:
        self.blocks = blocks
        self.penalty = penalty
        self.C = C
        self.class_weight = class_weight
        self.standardize = standardize
        self.threads = threads
        self.random_state = random_state

    def _fit(self, X: FloatArray, codes: Codes) -> None:
        for name, value in (("penalty", self.penalty), ("C", self.C)):
            if value is not None and not (np.isfinite(value) and value > 0):
                raise HeadConfigError(f"{name} must be finite and positive, or None to choose it, got {value!r}")
        if self.penalty is not None and self.C is not None:
            raise HeadConfigError(f"penalty and C say the same thing twice: {self.penalty!r} and {self.C!r}; give one")
        self.scaler_ = BlockScaler(self.standardize, self.blocks_).fit(X)
        weights = factors(self.class_weight, self.classes_, codes)[codes]
        counted = weights > 0  # rows that weigh nothing take no part
        rows = self._ready(X[counted])
        path = RidgePath(rows, np.eye(len(self.classes_))[codes[counted]], weights[counted])
        best = np.inf
        given = self.penalty if self.C is None else 1 / (self.C * path.unit)
        for penalty in PENALTIES[::-1] if given is None else (given,):
            scores = path.left_out(penalty)
            temperature = fitted_temperature(scores, codes[counted], weights[counted])
            loss = log_loss(softmax(scores / temperature), codes[counted], weights[counted])
            if loss < best - WORTH:
                best, self.penalty_, self.temperature_ = loss, float(penalty), temperature
        self.coef_, self.intercept_ = path.solution(self.penalty_)

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

    def left_out(self, penalty: float) -> NDArray[np.float64]:
        """Return what the fit on all other rows says of each row, (n, k)."""
        shrunk = self.values + penalty * self.unit
        fitted = self.target_mean + self.scores @ (self.along / shrunk[:, None]) / self.root
        leverage = self.share + np.square(self.scores) @ (1 / shrunk)
        free = np.maximum(1 - leverage, ROUNDING)[:, None]
        return np.asarray(self.targets - (self.targets - fitted) / free)

    def solution(self, penalty: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return weights (k, D) and intercepts (k,) of the fit on all rows."""
        # centred = scores @ axes.T with axes = centred.T @ scores / values
        inner = self.along / ((self.values + penalty * self.unit) * self.values)[:, None]
        coef = np.ascontiguousarray((self.centred.T @ (self.scores @ inner)).T)
        return coef, self.target_mean - coef @ self.row_mean
