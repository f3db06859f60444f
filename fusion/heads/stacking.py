"""Stacked generalisation: a logistic head that learns from what per-block members say of rows they had not seen."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import numpy as np
from cer_fusion.fusion.data.blocks import FloatArray
from cer_fusion.fusion.errors import HeadConfigError, HeadDataError
from cer_fusion.fusion.heads.base import Codes, Proba, expect_shape, softmax
from cer_fusion.fusion.heads.class_weights import factors
from cer_fusion.fusion.heads.members import HeadOfMembers
from cer_fusion.fusion.heads.mixes import SMALLEST
from cer_fusion.fusion.heads.out_of_fold import check_folds
from cer_fusion.fusion.heads.state import HeadState
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

logger = logging.getLogger(__name__)

NEVER: Final = -1e6
"""Score of a class that the meta-head never met: its probability is 0."""


class StackingHead(HeadOfMembers):
    """Multinomial logistic regression on the log probabilities of per-block members.

    It learns from answers about rows held out of the members' fits (Wolpert, 1992, "Stacked generalization"; class
    probabilities as its inputs: Ting and Witten, 1999, "Issues in stacked generalization", §3); the members that answer
    later are fitted on all rows. Unlike `late`, it can trust a member for some classes only.

    Parameters
    ----------
    blocks : dict of block name to width, optional
        In column order; None is one block.
    member : str, or dict of block name to str
        Name of the head that each block gets.
    member_params : dict, optional
        Settings of the members beyond their defaults; by block where `member` is.
    C : float
        Inverse strength of the L2 penalty on the weights of the log probabilities.
    class_weight : None, "balanced" or dict
        Factor on each class's loss; the members have settings of their own.
    folds : int
        Folds that members are held out of; each costs one more fit of every member.
    threads : int, optional
        CPU threads while fitting and answering; None takes what the libraries are set to, but no more than a core each.
    random_state : int, RandomState or None
        Seed of members and folds.

    Attributes
    ----------
    members_ : dict of block name to fitted head
    coef_ : ndarray of shape (k, number of blocks, k), float64
        What a member's log probability of a class (last axis) adds to the score of a class (first axis).
    intercept_ : ndarray of shape (k,), float64
        `NEVER` for a class that no held-out row had.
    """

    name: ClassVar[str] = "stacking"

    def __init__(
        self,
        blocks: Mapping[str, int] | None = None,
        *,
        member: str | Mapping[str, str] = "linear",
        member_params: Mapping[str, Any] | None = None,
        C: float = 1.0,
        class_weight: Any = None,
        folds: int = 5,
        threads: int | None = None,
        random_state: Any = 0,
    ) -> None:
        self.blocks = blocks
        self.member = member
        self.member_params = member_params
        self.C = C
        self.class_weight = class_weight
        self.folds = folds
        self.threads = threads
        self.random_state = random_state

    def _fit(self, X: FloatArray, codes: Codes) -> None:
        check_folds(self.folds)
        if not (np.isfinite(self.C) and self.C > 0):
            raise HeadConfigError(f"C must be finite and positive, got {self.C!r}")
        weights = factors(self.class_weight, self.classes_, codes)
        planes, asked = self._out_of_fold(X, codes)
        self._fit_meta(_inputs(planes), asked, weights)
        self._fit_members(X, codes)

    def _fit_meta(self, inputs: NDArray[np.float64], codes: Codes, weights: NDArray[np.float64]) -> None:
        known, k, m = np.unique(codes), len(self.classes_), len(self.blocks_)
        if len(known) < 2:
            raise HeadDataError(
                f"stacking needs held-out rows of at least two classes, however: {len(codes)} rows of {len(known)}\n"
                "  give classes more rows, or use 'late', which needs no held-out rows"
            )
        if len(known) < k:
            lost = ", ".join(str(one) for i, one in enumerate(self.classes_) if i not in known)
            logger.warning("stacking never answers %s: too few rows to hold one out", lost)
        model = LogisticRegression(C=self.C, max_iter=1000)
        model.fit(inputs, codes, sample_weight=weights[codes])
        coef, intercept = model.coef_, model.intercept_
        if len(known) == 2:  # two classes share one row in scikit-learn: sigmoid(z) = softmax(0, z)
            coef, intercept = np.vstack([0 * coef, coef]), np.array([0.0, intercept[0]])
        self.coef_ = np.zeros((k, m, k))
        self.coef_[known] = coef.reshape(len(known), m, k)
        self.intercept_ = np.full(k, NEVER)
        self.intercept_[known] = intercept

    def _proba(self, X: FloatArray) -> Proba:
        inputs = _inputs(self._raw_proba(X))
        return softmax(inputs @ self.coef_.reshape(len(self.coef_), -1).T + self.intercept_)

    def _state(self) -> HeadState:
        return HeadState(arrays={"coef": self.coef_, "intercept": self.intercept_}) | self._state_of_members()

    def _restore(self, state: HeadState) -> None:
        k = len(self.classes_)
        self.coef_ = expect_shape("coef", state.arrays["coef"], (k, len(self.blocks_), k))
        self.intercept_ = expect_shape("intercept", state.arrays["intercept"], (k,))
        self._restore_members(state)


def _inputs(planes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log probabilities side by side: (m, n, k) -> (n, m * k)."""
    m, n, k = planes.shape
    return np.log(np.maximum(planes, SMALLEST)).transpose(1, 0, 2).reshape(n, m * k)
