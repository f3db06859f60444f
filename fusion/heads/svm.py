"""Support vector machine with a Gaussian kernel, kept and asked as plain arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.svm import SVC

from ..data.blocks import FloatArray
from .base import Codes, Head, HeadState, Proba, RowInfo, expect_positive, expect_shape, softmax
from .scaling import BlockScaler
from .settings import Standardize, by_code, check_folds, positive
from .weights import fitted_temperature, inner_folds

CHUNK: Final = 1024
"""Rows that are asked about at a time."""

CACHE_MB: Final = 500
UNKNOWN: Final = -1e6
"""Score of a class that a machine never met."""


@dataclass(kw_only=True, eq=False, repr=False)
class SVMHead(Head):
    """Scikit-learn's `SVC` (libsvm) on a kernel matrix computed once, decisions recomputed with NumPy.

    There is one machine a pair of classes. A class's score is the mean of its signed distances from the margins with
    all other classes; probabilities are a softmax of the scores over a temperature, fitted on rows that the machines
    had not seen, in folds of the training rows. The kernel of those folds is a part of the whole one.

    Parameters
    ----------
    C : float
        Cost of a row on the wrong side of its margin.
    gamma : float
        The kernel is exp(-gamma |a - b|²) on standardised columns over sqrt(D), where rows are about sqrt(2) apart.
    class_weight : None, "balanced" or dict
        Factor on each class's C.
    standardize : {"none", "standard", "l2", "power"}
        What happens to each block first (`cer_fusion.fusion.heads.scaling`).
    folds : int
        Folds for the temperature.
    random_state : int, RandomState or None
        Seed of the folds.

    Attributes
    ----------
    rows_ : ndarray of shape (s, D), float32
        Support vectors, standardised, over sqrt(D).
    dual_coef_ : ndarray of shape (s, k (k - 1) / 2), float64
        What a support vector adds to each pair's decision; pairs as `itertools.combinations` gives them, positive for
        the first class of the pair.
    intercept_ : ndarray of shape (k (k - 1) / 2,), float64
    temperature_ : float
    """

    name: ClassVar[str] = "svm"

    C: float = 10.0
    gamma: float = 0.25
    class_weight: Any = None
    standardize: Standardize = "power"
    folds: int = 3

    def _fit(self, X: FloatArray, codes: Codes, info: RowInfo) -> None:
        self._check()
        self.scaler_ = BlockScaler(self.standardize, self.blocks_).fit(X)
        rows, k = self._ready(X), len(self.classes_)
        kernel = gaussian(rows, rows, self.gamma)
        weights = by_code(self.class_weight, self.classes_, codes) or dict.fromkeys(range(k), 1.0)
        self.temperature_ = self._temperature(kernel, codes, weights, info)
        support, self.dual_coef_, self.intercept_ = machines(kernel, codes, self.C, weights, self.seed_)
        self.rows_ = rows[support]

    def _temperature(
        self, kernel: NDArray[np.float64], codes: Codes, weights: Mapping[int, float], info: RowInfo
    ) -> float:
        """Return the temperature that makes held-out rows most likely; 1 when there are too few rows to tell."""
        scores, truth = [], []
        for seen, asked, known in inner_folds(codes, self.folds, seed=self.seed_, groups=info.groups):
            support, coef, intercept = machines(kernel[np.ix_(seen, seen)], codes[seen], self.C, weights, self.seed_)
            wide = np.full((len(asked), len(self.classes_)), UNKNOWN)
            wide[:, known] = class_scores(kernel[np.ix_(asked, seen[support])] @ coef + intercept, len(known))
            scores.append(wide)
            truth.append(codes[asked])
        return fitted_temperature(np.concatenate(scores), np.concatenate(truth)) if scores else 1.0

    def _keeps_aside(self) -> bool:
        return True

    def pair_decisions(self, X: Any) -> NDArray[np.float64]:
        """Return each pair's decisions (n, k (k - 1) / 2), positive for the first class of the pair."""
        return self._answered(X, self._decisions, axis=0)

    def _decisions(self, X: FloatArray) -> NDArray[np.float64]:
        found = np.empty((len(X), len(self.intercept_)))
        for start in range(0, len(X), CHUNK):
            rows = self._ready(X[start : start + CHUNK])
            found[start : start + CHUNK] = gaussian(rows, self.rows_, self.gamma) @ self.dual_coef_ + self.intercept_
        return found

    def _proba(self, X: FloatArray) -> Proba:
        return softmax(class_scores(self._decisions(X), len(self.classes_)) / self.temperature_)

    def _ready(self, X: FloatArray) -> FloatArray:
        return self.scaler_.transform(X) / np.float32(np.sqrt(X.shape[1]))

    def _check(self) -> None:
        positive(self, "C", "gamma")
        check_folds(self.folds)

    def _state(self) -> HeadState:
        return HeadState(
            arrays={
                "rows": self.rows_,
                "dual_coef": self.dual_coef_,
                "intercept": self.intercept_,
                **self.scaler_.state(),
            },
            values={"temperature": self.temperature_},
        )

    def _restore(self, state: HeadState) -> None:
        self._check()
        arrays, k = state.arrays, len(self.classes_)
        self.scaler_ = BlockScaler(self.standardize, self.blocks_).restore(arrays)
        count, pairs = len(arrays["rows"]), k * (k - 1) // 2
        self.rows_ = expect_shape("rows", arrays["rows"], (count, self.n_features_in_))
        self.dual_coef_ = expect_shape("dual_coef", arrays["dual_coef"], (count, pairs))
        self.intercept_ = expect_shape("intercept", arrays["intercept"], (pairs,))
        self.temperature_ = expect_positive("temperature", state.values["temperature"])


def machines(
    kernel: NDArray[np.float64], codes: Codes, C: float, weights: Mapping[int, float], seed: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Fit one machine a pair of classes.

    Returns
    -------
    support : int64 array of shape (s,)
        The rows that are support vectors of any machine.
    coef : ndarray of shape (s, pairs)
    intercept : ndarray of shape (pairs,)
    """
    known = np.unique(codes)
    model = SVC(
        C=C,
        kernel="precomputed",
        class_weight={int(one): weights[int(one)] for one in known},
        cache_size=CACHE_MB,
        random_state=seed,  # draws nothing, but without it global state moves
    ).fit(kernel, codes)
    owners = np.searchsorted(known, codes[model.support_])
    if len(known) == 2:  # scikit-learn turns the sign of a single pair round: there the second class is positive
        return model.support_.astype(np.int64), -model.dual_coef_.T.astype(np.float64), -model.intercept_
    pairs = list(combinations(range(len(known)), 2))
    coef = np.zeros((len(owners), len(pairs)))
    for number, (first, second) in enumerate(pairs):
        # libsvm keeps a support vector's coefficients for the k - 1 other classes, its own left out.
        coef[owners == first, number] = model.dual_coef_[second - 1, owners == first]
        coef[owners == second, number] = model.dual_coef_[first, owners == second]
    return model.support_.astype(np.int64), coef, np.asarray(model.intercept_, np.float64)


def class_scores(decisions: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Return the mean of each class's decisions against all others: (n, k (k - 1) / 2) -> (n, k)."""
    signs = np.zeros((decisions.shape[1], k))
    for number, (first, second) in enumerate(combinations(range(k), 2)):
        signs[number, first], signs[number, second] = 1.0, -1.0
    return np.asarray(decisions @ signs / (k - 1))


def gaussian(rows: FloatArray, others: FloatArray, gamma: float) -> NDArray[np.float64]:
    """Return exp(-gamma |a - b|²) of rows (n, D) and others (m, D), (n, m), in float64."""
    a, b = rows.astype(np.float64), others.astype(np.float64)
    squares = np.einsum("nd,nd->n", a, a)[:, None] + np.einsum("md,md->m", b, b) - 2 * (a @ b.T)
    return np.asarray(np.exp(-gamma * np.maximum(squares, 0)))
