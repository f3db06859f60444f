"""Decision fusion: one member a block, their probabilities mixed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from fusion.blocks import FloatArray, checked_weights, slices
from fusion.errors import HeadConfigError
from fusion.heads import make_head
from fusion.heads.base import Codes, Head, Proba, softmax
from fusion.heads.holdout import stratified_folds
from fusion.heads.state import HeadState

SMALLEST: Final = 1e-12
"""Probabilities below this count as this before their logarithm is taken."""

WIDEST: Final = 3.0
"""Temperatures are sought between exp(-3) and exp(3)."""


class LateHead(Head):
    """Weighted mixing of the probabilities of per-block members.

    Weights mix comparable scores only if each member is calibrated. Penalised logistic regression, the default member,
    is so already: calibrating it changed macro F1 by 0.001 at about three times the cost (`benchmarks/RESULTS.md`). For
    members that are over-sure, `calibrate` divides each one's logits by a temperature (Guo et al., 2017, "On
    calibration of modern neural networks", §4.2) fitted on rows it had not seen, in folds of the training rows.

    Parameters
    ----------
    blocks : dict of block name to width, optional
        In column order; None is one block.
    weights : dict of block name to weight, optional
        Every block named, none negative; only proportions matter. None weighs all alike.
    mix : {"arithmetic", "geometric"}
        Weighted mean of probabilities, or of log probabilities (a product of experts).
    member : str
        Name of the head that each block gets; not `late` itself.
    member_params : dict, optional
        Settings of the members beyond their defaults.
    calibrate : bool
        Fit a temperature a member; costs `folds` more fits of each.
    folds : int
        Folds for the calibration.
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
        weights: Mapping[str, float] | None = None,
        mix: str = "geometric",
        member: str = "linear",
        member_params: Mapping[str, Any] | None = None,
        calibrate: bool = False,
        folds: int = 3,
        random_state: Any = 0,
    ) -> None:
        self.blocks = blocks
        self.weights = weights
        self.mix = mix
        self.member = member
        self.member_params = member_params
        self.calibrate = calibrate
        self.folds = folds
        self.random_state = random_state

    def member_proba(self, X: Any) -> NDArray[np.float64]:
        """Return each member's calibrated probabilities (members, n, k), members in the order of `blocks_`."""
        return self._answered(X, self._member_proba, axis=1)

    def _fit(self, X: FloatArray, codes: Codes) -> None:
        self.weights_ = self._checked()
        self.members_ = {}
        temperatures = []
        for name, where in slices(self.blocks_).items():
            block = np.ascontiguousarray(X[:, where])
            self.members_[name] = self._new(name).fit(block, codes)
            temperatures.append(self._temperature(name, block, codes) if self.calibrate else 1.0)
        self.temperatures_ = np.array(temperatures)

    def _proba(self, X: FloatArray) -> Proba:
        return mixed(self._member_proba(X), np.array(list(self.weights_.values())), self.mix)

    def _member_proba(self, X: FloatArray) -> NDArray[np.float64]:
        parts = slices(self.blocks_)
        return np.stack(
            [
                _tempered(member.predict_proba(X[:, parts[name]]), temperature)
                for (name, member), temperature in zip(self.members_.items(), self.temperatures_, strict=True)
            ]
        )

    def _own_threads(self) -> dict[str, int]:
        return {name: count for member in self.members_.values() for name, count in member.fit_threads_.items()}

    def _new(self, block: str) -> Head:
        if self.member == "late":
            raise HeadConfigError("a member of 'late' cannot be 'late' itself; name another head")
        params = {"random_state": self.seed_, **(self.member_params or {})}
        return make_head(self.member, blocks={block: self.blocks_[block]}, **params)

    def _temperature(self, name: str, block: FloatArray, codes: Codes) -> float:
        """Return the temperature that makes held-out rows most likely; 1 when there are too few rows to tell."""
        fold = stratified_folds(codes, self.folds, seed=self.seed_)
        kept, truth = [], []
        for number in range(self.folds):
            seen = fold != number
            known = np.unique(codes[seen])
            asked = ~seen & np.isin(codes, known)  # a class only this fold has says nothing about this member
            if len(known) < 2 or not asked.any():
                continue
            member = self._new(name).fit(block[seen], codes[seen])
            kept.append(_spread(member.predict_proba(block[asked]), known, len(self.classes_)))
            truth.append(codes[asked])
        if not kept:
            return 1.0
        logs, rows = np.log(np.maximum(np.concatenate(kept), SMALLEST)), np.concatenate(truth)

        def loss(log_temperature: float) -> float:
            likely = softmax(logs / np.exp(log_temperature))[np.arange(len(rows)), rows]
            return float(-np.log(np.maximum(likely, SMALLEST)).mean())

        found = minimize_scalar(loss, bounds=(-WIDEST, WIDEST), method="bounded", options={"xatol": 1e-4})
        return float(np.exp(found.x))

    def _checked(self) -> dict[str, float]:
        if self.mix not in ("arithmetic", "geometric"):
            raise HeadConfigError(f"mix must be 'arithmetic' or 'geometric', got {self.mix!r}")
        if isinstance(self.folds, bool) or not isinstance(self.folds, int) or self.folds < 2:
            raise HeadConfigError(f"folds must be a whole number of at least 2, got {self.folds!r}")
        given = dict.fromkeys(self.blocks_, 1.0) if self.weights is None else self.weights
        weights = checked_weights(given, self.blocks_)
        total = sum(weights.values())
        return {name: weight / total for name, weight in weights.items()}

    def _state(self) -> HeadState:
        state = HeadState(arrays={"temperatures": self.temperatures_})
        for number, member in enumerate(self.members_.values()):
            state |= member.state().under(f"member{number}")
        return state

    def _restore(self, state: HeadState) -> None:
        self.weights_ = self._checked()
        temperatures = state.arrays["temperatures"]
        if temperatures.shape != (len(self.blocks_),) or not ((temperatures > 0) & np.isfinite(temperatures)).all():
            raise ValueError(f"there must be a positive temperature a member, got {temperatures!r}")
        self.temperatures_ = temperatures
        self.members_ = {}
        for number, (name, width) in enumerate(self.blocks_.items()):
            self.members_[name] = self._new(name).restore(
                state.member(f"member{number}"),
                classes=np.arange(len(self.classes_)),
                widths={name: width},
                seed=self.seed_,
            )


def mixed(proba: NDArray[np.float64], weights: NDArray[np.float64], mix: str) -> Proba:
    """Mix members' probabilities (m, n, k) with weights (m,) of unit sum into (n, k)."""
    if mix == "arithmetic":
        return np.asarray(np.tensordot(weights, proba, axes=1))
    return softmax(np.tensordot(weights, np.log(np.maximum(proba, SMALLEST)), axes=1))


def _tempered(proba: Proba, temperature: float) -> Proba:
    return proba if temperature == 1 else softmax(np.log(np.maximum(proba, SMALLEST)) / temperature)


def _spread(proba: Proba, known: Codes, k: int) -> Proba:
    """Put the columns of a member that knows only some classes where all k have theirs."""
    wide = np.zeros((len(proba), k))
    wide[:, known] = proba
    return wide
