"""Decision fusion: one member a block, their probabilities mixed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from cer_fusion.fusion.data.blocks import FloatArray, checked_weights
from cer_fusion.fusion.errors import HeadConfigError
from cer_fusion.fusion.heads.base import Codes, Proba, expect_shape
from cer_fusion.fusion.heads.learned_weights import check_objective, learned_weights
from cer_fusion.fusion.heads.members import HeadOfMembers
from cer_fusion.fusion.heads.mixes import MIXES, SMALLEST, Mix, mixed
from cer_fusion.fusion.heads.out_of_fold import check_folds
from cer_fusion.fusion.heads.state import HeadState
from cer_fusion.fusion.heads.temperature import WIDEST, fitted_temperature, tempered
from cer_fusion.kit.errors import nearest
from numpy.typing import NDArray

LEARNED = "learned"


class LateHead(HeadOfMembers):
    """Weighted mixing of the probabilities of per-block members.

    Weights mix comparable scores only if each member is calibrated: learned ones come with a temperature a member (Guo
    et al., 2017, "On calibration of modern neural networks", §4.2) that divides its logits, fitted on rows it had not
    seen, in folds of the training rows. For weights that are given, penalised logistic regression, the default member,
    is calibrated enough: a temperature changed macro F1 by 0.001 at about three times the cost
    (`benchmarks/RESULTS.md`); `calibrate` asks for it where members are over-sure.

    On real features learned weights raised macro F1 by 0.025 over equal ones (`benchmarks/heads.md`).

    Parameters
    ----------
    blocks : dict of block name to width, optional
        In column order; None is one block.
    weights : dict of block name to weight, "learned" or None
        Every block named, none negative; only proportions matter. None weighs all alike. `learned` calibrates the
        members and chooses the weights that do best on the rows of the same folds
        (`cer_fusion.fusion.heads.learned_weights`); a single block has nothing to learn.
    mix : {"arithmetic", "geometric", "harmonic", "rank"}
        Weighted mean of probabilities, of log probabilities (a product of experts), of reciprocals, or of ranks
        (Borda's count, for members whose order of classes is better than their probabilities).
    member : str, or dict of block name to str
        Name of the head that each block gets; not `late` itself.
    member_params : dict, optional
        Settings of the members beyond their defaults; by block where `member` is.
    calibrate : bool
        Fit a temperature a member for given weights too; costs `folds` more fits of each, as learning does.
    folds : int
        Folds for the calibration and for learned weights.
    objective : {"log_loss", "macro_f1"}
        What learned weights are best at.
    threads : int, optional
        CPU threads while fitting and answering; None takes what the libraries are set to, but no more than a core each.
    random_state : int, RandomState or None
        Seed of members and folds.

    Attributes
    ----------
    members_ : dict of block name to fitted head
    temperatures_ : ndarray of shape (number of blocks,)
    weights_ : dict of block name to weight, of unit sum
    """

    name: ClassVar[str] = "late"

    def __init__(
        self,
        blocks: Mapping[str, int] | None = None,
        *,
        weights: Mapping[str, float] | str | None = LEARNED,
        mix: Mix = "geometric",
        member: str | Mapping[str, str] = "linear",
        member_params: Mapping[str, Any] | None = None,
        calibrate: bool = False,
        folds: int = 3,
        objective: str = "log_loss",
        threads: int | None = None,
        random_state: Any = 0,
    ) -> None:
        self.blocks = blocks
        self.weights = weights
        self.mix = mix
        self.member = member
        self.member_params = member_params
        self.calibrate = calibrate
        self.folds = folds
        self.objective = objective
        self.threads = threads
        self.random_state = random_state

    def member_proba(self, X: Any) -> NDArray[np.float64]:
        """Return each member's calibrated probabilities (members, n, k), members in the order of `blocks_`."""
        return self._answered(X, self._member_proba, axis=1)

    def _fit(self, X: FloatArray, codes: Codes) -> None:
        self._check()
        self.weights_ = self._given_weights()
        self._fit_members(X, codes)
        self.temperatures_ = np.ones(len(self.blocks_))
        if self.calibrate or (self.weights == LEARNED and len(self.blocks_) > 1):
            self._learn_on(*self._out_of_fold(X, codes))

    def _learn_on(self, planes: NDArray[np.float64], codes: Codes) -> None:
        """Fit temperatures, and weights if they are to be learned; with no row to tell, ones and equal weights stay."""
        if not len(codes):
            return
        for number, plane in enumerate(planes):
            logits = np.log(np.maximum(plane, SMALLEST))
            self.temperatures_[number] = fitted_temperature(logits, codes, widest=WIDEST)
        if self.weights == LEARNED:
            found = learned_weights(self._tempered(planes), codes, mix=self.mix, objective=self.objective)
            self.weights_ = dict(zip(self.blocks_, map(float, found), strict=True))

    def _proba(self, X: FloatArray) -> Proba:
        return mixed(self._member_proba(X), np.array(list(self.weights_.values())), self.mix)

    def _member_proba(self, X: FloatArray) -> NDArray[np.float64]:
        return self._tempered(self._raw_proba(X))

    def _tempered(self, planes: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.stack([tempered(plane, one) for plane, one in zip(planes, self.temperatures_, strict=True)])

    def _check(self) -> None:
        if self.mix not in MIXES:
            raise HeadConfigError(f"mix must be a known word, got {self.mix!r}; {nearest(str(self.mix), MIXES)}")
        check_folds(self.folds)
        check_objective(self.objective)
        if isinstance(self.weights, str) and self.weights != LEARNED:
            raise HeadConfigError(f"weights must be a number a block, {LEARNED!r} or None, got {self.weights!r}")

    def _given_weights(self) -> dict[str, float]:
        given = self.weights if isinstance(self.weights, Mapping) else dict.fromkeys(self.blocks_, 1.0)
        weights = checked_weights(given, self.blocks_)
        total = sum(weights.values())
        return {name: weight / total for name, weight in weights.items()}

    def _state(self) -> HeadState:
        arrays = {"temperatures": self.temperatures_}
        if self.weights == LEARNED:
            arrays["weights"] = np.array(list(self.weights_.values()))
        return HeadState(arrays=arrays) | self._state_of_members()

    def _restore(self, state: HeadState) -> None:
        self._check()
        self.weights_ = self._given_weights()
        if self.weights == LEARNED:
            weights = expect_shape("weights", state.arrays["weights"], (len(self.blocks_),))
            self.weights_ = checked_weights(dict(zip(self.blocks_, map(float, weights), strict=True)), self.blocks_)
        temperatures = state.arrays["temperatures"]
        if temperatures.shape != (len(self.blocks_),) or not ((temperatures > 0) & np.isfinite(temperatures)).all():
            raise ValueError(f"there must be a positive temperature a member, got {temperatures!r}")
        self.temperatures_ = temperatures
        self._restore_members(state)
