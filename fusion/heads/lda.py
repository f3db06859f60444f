"""Linear discriminant analysis with one shrunk covariance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve
from sklearn.covariance import ledoit_wolf_shrinkage

from ..data.blocks import FloatArray
from ..errors import HeadConfigError
from .base import Codes, Head, HeadState, Proba, RowInfo, expect_positive, expect_shape, softmax
from .scaling import BlockScaler
from .settings import Standardize, check_folds, one_of
from .weights import SMALLEST, WIDEST, fitted_temperature, out_of_fold

LEDOIT_WOLF: Final = "ledoit_wolf"

LEAST: Final = 1e-9
"""Shrinkage at least: keeps the covariance invertible where none is asked for, or found."""


@dataclass(kw_only=True, eq=False, repr=False)
class LDAHead(Head):
    """One Gaussian a class with a common covariance, shrunk towards a multiple of the identity.

    Ledoit and Wolf's shrinkage (2004, "A well-conditioned estimator for large-dimensional covariance matrices") is the
    best one for the covariance, not for the decisions: on real features it was 0.02, and macro F1 0.08 below that of
    0.5, the default (`benchmarks/heads.md`). With thousands of columns the posteriors are over-sure; a temperature
    fitted in inner folds makes them honest and leaves the decisions as they are.

    Parameters
    ----------
    shrinkage : float or "ledoit_wolf"
        From 0 (the sample covariance) to 1 (a sphere), or estimated from the rows less their class's mean.
    prior : {"observed", "uniform"}
        Class probabilities before a row is seen: as among the training rows, or all alike.
    standardize : {"none", "standard", "l2", "power"}
        What happens to each block first (`cer_fusion.fusion.heads.scaling`).
    calibrate : bool
        Fit the temperature; costs `folds` more fits.
    folds : int
        Folds for the calibration.
    random_state : int, RandomState or None
        Seed of the folds.

    Attributes
    ----------
    coef_ : ndarray of shape (k, D), float64
        Weights on the standardised columns over sqrt(D), over the temperature.
    intercept_ : ndarray of shape (k,), float64
        Over the temperature too.
    shrinkage_, temperature_ : float
    """

    name: ClassVar[str] = "lda"

    shrinkage: float | str = 0.5
    prior: str = "observed"
    standardize: Standardize = "power"
    calibrate: bool = True
    folds: int = 3

    def _fit(self, X: FloatArray, codes: Codes, info: RowInfo) -> None:
        self._check()
        self.scaler_ = BlockScaler(self.standardize, self.blocks_).fit(X)
        self.temperature_ = self._temperature(X, codes, info) if self.calibrate else 1.0
        rows, k = self._ready(X), len(self.classes_)
        counts = np.bincount(codes, minlength=k)
        means = np.eye(k)[codes].T @ rows / counts[:, None]
        residuals = rows - means[codes]
        self.shrinkage_ = (
            float(ledoit_wolf_shrinkage(residuals, assume_centered=True))
            if self.shrinkage == LEDOIT_WOLF
            else float(self.shrinkage)
        )
        coef = _whitened(residuals, max(self.shrinkage_, LEAST), means)
        prior = counts / len(codes) if self.prior == "observed" else np.full(k, 1 / k)
        intercept = np.log(prior) - 0.5 * np.einsum("kd,kd->k", coef, means)
        self.coef_, self.intercept_ = coef / self.temperature_, intercept / self.temperature_

    def _keeps_aside(self) -> bool:
        return self.calibrate

    def _proba(self, X: FloatArray) -> Proba:
        return softmax(self._ready(X) @ self.coef_.T + self.intercept_)

    def _ready(self, X: FloatArray) -> NDArray[np.float64]:
        return np.asarray(self.scaler_.transform(X).astype(np.float64) / np.sqrt(X.shape[1]))

    def _temperature(self, X: FloatArray, codes: Codes, info: RowInfo) -> float:
        """Return the temperature that makes held-out rows most likely; 1 when there are too few rows to tell."""

        def new() -> LDAHead:
            settings = {**self.get_params(deep=False), "blocks": self.blocks_, "calibrate": False}
            return LDAHead(**settings)

        proba, asked = out_of_fold(new, X, codes, info, k=len(self.classes_), folds=self.folds, seed=self.seed_)
        if not len(asked):
            return 1.0
        return fitted_temperature(np.log(np.maximum(proba, SMALLEST)), codes[asked], widest=WIDEST)

    def _check(self) -> None:
        number = isinstance(self.shrinkage, (int, float)) and not isinstance(self.shrinkage, bool)
        if self.shrinkage != LEDOIT_WOLF and not (number and 0 <= float(self.shrinkage) <= 1):
            raise HeadConfigError(f"shrinkage must lie in [0, 1] or be {LEDOIT_WOLF!r}, got {self.shrinkage!r}")
        one_of("prior", self.prior, ("observed", "uniform"))
        check_folds(self.folds)

    def _state(self) -> HeadState:
        return HeadState(
            arrays={"coef": self.coef_, "intercept": self.intercept_, **self.scaler_.state()},
            values={"shrinkage": self.shrinkage_, "temperature": self.temperature_},
        )

    def _restore(self, state: HeadState) -> None:
        k = len(self.classes_)
        self.scaler_ = BlockScaler(self.standardize, self.blocks_).restore(state.arrays)
        self.coef_ = expect_shape("coef", state.arrays["coef"], (k, self.n_features_in_))
        self.intercept_ = expect_shape("intercept", state.arrays["intercept"], (k,))
        self.shrinkage_ = float(state.values["shrinkage"])
        self.temperature_ = expect_positive("temperature", state.values["temperature"])


def _whitened(residuals: NDArray[np.float64], shrinkage: float, means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return means (k, D) times the inverse of the shrunk covariance of residuals (n, D).

    With fewer rows than columns by way of the matrix of rows (Woodbury's identity).
    """
    n, d = residuals.shape
    sphere = shrinkage * (float(np.square(residuals).sum()) / (n * d) or 1.0)
    if d <= n:
        covariance = (1 - shrinkage) / n * (residuals.T @ residuals)
        covariance.flat[:: d + 1] += sphere
        return np.ascontiguousarray(solve(covariance, means.T, assume_a="pos", check_finite=False).T)
    along = means @ residuals.T  # (k, n)
    if shrinkage == 1:
        return means / sphere
    gram = residuals @ residuals.T
    gram.flat[:: n + 1] += sphere * n / (1 - shrinkage)
    return np.ascontiguousarray(means - solve(gram, along.T, assume_a="pos", check_finite=False).T @ residuals) / sphere
