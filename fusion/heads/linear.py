"""Multinomial logistic regression over joined blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

import numpy as np
from cer_fusion.fusion.data.blocks import FloatArray
from cer_fusion.fusion.data.joined import JoinedRows, Matrix
from cer_fusion.fusion.errors import HeadConfigError
from cer_fusion.fusion.heads.base import Codes, Head, Proba, expect_shape, softmax
from cer_fusion.fusion.heads.class_weights import by_code, factors
from cer_fusion.fusion.heads.logistic import fit_in_pieces
from cer_fusion.fusion.heads.scaling import BlockScaler, Standardize
from cer_fusion.fusion.heads.state import HeadState
from sklearn.linear_model import LogisticRegression

TOLERANCE: Final = 1e-4
"""Largest entry of the mean loss's gradient at which L-BFGS stops: scikit-learn's default."""


class LinearHead(Head):
    """Logistic regression with an L2 penalty, fitted by scikit-learn's L-BFGS.

    Rows that stay on the disk (`JoinedRows`) are read anew in every iteration, and the same optimum is sought on sums
    over their pieces (`cer_fusion.fusion.heads.logistic`): memory is bounded, time is not.

    Parameters
    ----------
    blocks : dict of block name to width, optional
        In column order; None is one block.
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
    threads : int, optional
        CPU threads while fitting and answering; None takes what the libraries are set to, but no more than a core each.
    random_state : int, RandomState or None
        Not used: the optimum is unique. Here so that every head takes it.

    Attributes
    ----------
    coef_ : ndarray of shape (k, D), float64
        Weights on the standardised columns over sqrt(D).
    intercept_ : ndarray of shape (k,), float64
    """

    name: ClassVar[str] = "linear"
    learns_in_pieces: ClassVar[bool] = True

    def __init__(
        self,
        blocks: Mapping[str, int] | None = None,
        *,
        C: float = 10.0,
        class_weight: Any = None,
        standardize: Standardize = "power",
        max_iter: int = 1000,
        threads: int | None = None,
        random_state: Any = 0,
    ) -> None:
        self.blocks = blocks
        self.C = C
        self.class_weight = class_weight
        self.standardize = standardize
        self.max_iter = max_iter
        self.threads = threads
        self.random_state = random_state

    def _fit(self, X: Matrix, codes: Codes) -> None:
        if not (np.isfinite(self.C) and self.C > 0):
            raise HeadConfigError(f"C must be finite and positive, got {self.C!r}")
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
