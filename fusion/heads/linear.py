"""Multinomial logistic regression over joined blocks, in memory or on rows that stay on the disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..data.blocks import FloatArray
from ..data.joined import Matrix
from .base import Codes, Head, HeadState, Proba, RowInfo, expect_shape, softmax
from .logistic import fit_logistic
from .scaling import BlockScaler
from .settings import Standardize, factors, positive, whole


@dataclass(kw_only=True, eq=False, repr=False)
class LinearHead(Head):
    """Logistic regression with an L2 penalty: scikit-learn's optimum, found by `cer_fusion.fusion.heads.logistic`.

    Rows that stay on the disk (`JoinedRows`) are read anew in every step, and the same optimum is sought on sums over
    their pieces: memory is bounded, time is not.

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
    weighs_rows: ClassVar[bool] = True
    learns_soft_labels: ClassVar[bool] = True

    C: float = 10.0
    class_weight: Any = None
    standardize: Standardize = "power"
    max_iter: int = 1000

    @property
    def by_chance(self) -> bool:
        """Never: nothing is drawn."""
        return False

    def _fit(self, X: Matrix, codes: Codes, info: RowInfo) -> None:
        positive(self, "C")
        whole("max_iter", self.max_iter)
        counted = factors(self.class_weight, self.classes_, codes, info.soft) * info.shares(codes, len(self.classes_))
        sums = counted.sum(axis=1)
        targets, weights = counted / np.where(sums > 0, sums, 1)[:, None], info.weighed(sums)
        self.scaler_ = BlockScaler(self.standardize, self.blocks_).fit(X)
        found = fit_logistic(X, targets, weights, C=self.C, max_iter=self.max_iter, ready=self._ready)
        self.coef_, self.intercept_, self.n_iter_ = found.coef, found.intercept, found.iterations

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
