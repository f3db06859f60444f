"""Blocks weighed before they are joined or summed, the weights given or learned, under a regularised head."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

import numpy as np
from numpy.typing import NDArray

from ..data.blocks import FloatArray, checked_weights, concat, slices
from ..errors import BlockError, HeadConfigError
from . import make_head
from .base import NOTHING, Codes, Head, HeadState, Proba, RowInfo
from .linear import LinearHead
from .scaling import BlockNormalizer, Normalize
from .weights import likeliest_factors, stratified_folds

RIDGE: Final[Mapping[str, Any]] = {"C": 10.0, "class_weight": None}
"""What a ridge head on top is unless told otherwise: one penalty for all weights, so that a sweep compares weights."""


@dataclass(kw_only=True, eq=False, repr=False)
class WeightedHead(Head):
    """A head on weighed blocks: their weighted join, or the weighted sum of blocks of equal width.

    Only the proportions of the weights matter: 0.6 / 0.4 and 6 / 4 are the same head. Weights are identifiable because
    every row of every block has unit length before it is weighed, and the head on top is regularised and scales
    nothing (`normalize="none"` gives that up).

    Parameters
    ----------
    weights : dict of block name to weight, or "learned", optional
        Every block named, none negative. None weighs all alike; `learned` finds them in folds of the training
        rows (`cer_fusion.fusion.heads.weighted`), at the cost of three linear fits.
    mode : {"concat", "sum"}
        Join the weighed blocks, or add them up; `sum` needs blocks of one width.
    normalize : {"power", "l2", "none"}
        What gives rows their unit length (`cer_fusion.fusion.heads.scaling`).
    head : {"linear", "mlp", "ridge"}
        The head on top.
    head_params : dict, optional
        Its settings beyond the defaults.
    random_state : int, RandomState or None
        Seed of the head on top.

    Attributes
    ----------
    weights_ : dict of block name to weight
        As used, given or learned: in `concat` mode of unit mean square, in `sum` mode of unit sum.
    head_ : Head
        The fitted head on top.
    """

    name: ClassVar[str] = "weighted"
    weighs_rows: ClassVar[bool] = True

    weights: Mapping[str, float] | Literal["learned"] | None = None
    mode: str = "concat"
    normalize: Normalize = "power"
    head: str = "linear"
    head_params: Mapping[str, Any] | None = None

    @property
    def by_chance(self) -> bool:
        """Where the folds of learned weights are drawn, or the head on the weighed blocks is a network."""
        return self.weights == "learned" or self.head == "mlp"

    def _fit(self, X: FloatArray, codes: Codes, info: RowInfo) -> None:
        self.weights_ = self._given_weights()
        self.normalizer_ = BlockNormalizer(self.normalize, self.blocks_).fit(X)
        if self.weights == "learned":
            self.weights_ = self._learned(X, codes, info)
        self.head_ = self._top()._learn(self._weighed(X), codes, info)

    def _keeps_aside(self) -> bool:
        return self.weights == "learned" or self._top()._keeps_aside()

    def _proba(self, X: FloatArray) -> Proba:
        return self.head_.predict_proba(self._weighed(X))

    def _weighed(self, X: FloatArray) -> FloatArray:
        """Return weighed rows (n, D) or (n, d) of mean square about one a column, as the head on top expects."""
        parts = self.normalizer_.transform(X)
        unit = self._unit()
        if self.mode == "sum":
            total = np.zeros((len(X), self._top_width()), np.float32)
            for name, part in parts.items():
                total += np.float32(self.weights_[name] * unit) * part
            return total
        return concat(parts, {name: weight * unit for name, weight in self.weights_.items()})

    def _unit(self) -> float:
        """Return the factor that gives rows, of unit length a block, the length sqrt(width) once they are joined."""
        blocks = 1 if self.mode == "sum" else len(self.blocks_)
        return 1.0 if self.normalize == "none" else float(np.sqrt(self._top_width() / blocks))

    def _own_threads(self) -> dict[str, int]:
        return self.head_.fit_threads_

    def _top(self) -> Head:
        if self.head not in ("linear", "mlp", "ridge"):
            raise HeadConfigError(f"the head on weighed blocks must be 'linear', 'mlp' or 'ridge', got {self.head!r}")
        if "standardize" in (self.head_params or {}):
            raise HeadConfigError("the head on weighed blocks must not standardise them: that would undo the weights")
        own = RIDGE if self.head == "ridge" else {}
        fixed = {"standardize": "none", "random_state": self.seed_, "threads": self.threads}
        return make_head(self.head, **{**fixed, **own, **(self.head_params or {})})

    def _top_width(self) -> int:
        widths = self.blocks_
        if self.mode == "concat":
            return sum(widths.values())
        if self.mode != "sum":
            raise HeadConfigError(f"mode must be 'concat' or 'sum', got {self.mode!r}")
        if len(set(widths.values())) > 1:
            listed = ", ".join(f"{name}={width}" for name, width in widths.items())
            raise BlockError(f"only blocks of one width can be summed, however: {listed}\n  use mode='concat'")
        return next(iter(widths.values()))

    def _given_weights(self) -> dict[str, float]:
        """Return the weights that were given, brought to scale; equal ones where none were, or they will be learned."""
        given = self.weights
        if isinstance(given, str):
            if given != "learned":
                raise HeadConfigError(f"weights must name their blocks or be 'learned', got {given!r}")
            given = None
        return self._scaled(checked_weights(dict.fromkeys(self.blocks_, 1.0) if given is None else given, self.blocks_))

    def _learned(self, X: FloatArray, codes: Codes, info: RowInfo) -> dict[str, float]:
        rows = concat(self.normalizer_.transform(X), dict.fromkeys(self.blocks_, self._unit()))
        found = learned_block_weights(rows, codes, self.blocks_, info, summed=self.mode == "sum", seed=self.seed_)
        return self._scaled(found)

    def _scaled(self, weights: dict[str, float]) -> dict[str, float]:
        self._top_width()
        values = np.array(list(weights.values()))
        scale = values.sum() if self.mode == "sum" else np.sqrt(np.mean(values**2))
        return {name: float(weight / scale) for name, weight in weights.items()}

    def _state(self) -> HeadState:
        state = HeadState(arrays=self.normalizer_.state()) | self.head_.state().under("head")
        return state | HeadState(values={"weights": self.weights_}) if self.weights == "learned" else state

    def _restore(self, state: HeadState) -> None:
        self.weights_ = self._given_weights()
        if self.weights == "learned":
            self.weights_ = checked_weights(state.values["weights"], self.blocks_)
        self.normalizer_ = BlockNormalizer(self.normalize, self.blocks_).restore(state.arrays)
        k, width = len(self.classes_), self._top_width()
        self.head_ = self._top().restore(
            state.member("head"), classes=np.arange(k), widths={"x": width}, seed=self.seed_
        )


logger = logging.getLogger(__name__)

FOLDS: Final = 3
NEVER: Final = -20.0
"""Logit of a class that the rows of a fold do not have."""


def learned_block_weights(
    X: FloatArray,
    codes: Codes,
    widths: Mapping[str, int],
    info: RowInfo = NOTHING,
    *,
    summed: bool,
    seed: int,
) -> dict[str, float]:
    """Return one weight a block, none negative, of unit sum; a block that only disturbs gets none.

    In folds of the training rows a linear head learns from equally weighed blocks and says about the rows kept aside
    what each block votes for: its part of the logits. The weights are the factors on these votes, found by gradient,
    that make the labels of all rows likeliest (stacking: Breiman, 1996, "Stacked regressions", §2, with the log loss).
    The loss is convex in the factors, so there is one optimum. Weights learned on the same rows as the linear head
    itself would not do: it fits noise as readily as signal once there are as many columns as rows.

    Parameters
    ----------
    X : float32 array of shape (n, D)
        Joined blocks, equally weighed, whose columns have a mean square of about one.
    codes : int64 array of shape (n,)
        Classes 0..k-1.
    widths : dict of block name to width
        In column order; all equal where `summed`.
    info : RowInfo
        Groups stay whole in the folds.
    summed : bool
        Whether the blocks will be added up, or joined.
    seed : int
        Of the folds.
    """
    votes, others = _votes(X, codes, widths, info, summed=summed, seed=seed)
    known = others[np.arange(len(codes)), codes] > NEVER  # a class that only one fold has says nothing about blocks
    found = likeliest_factors(
        votes[:, known], info.shares(codes, votes.shape[2])[known], info.at(known).weights,
        others=others[known], about=np.zeros(len(widths)), start=np.ones(len(widths)),
    )  # fmt: skip
    if not found.any():
        logger.warning("no block says anything about rows not seen: all weigh alike")
        found = np.ones_like(found)
    weights = dict(zip(widths, (found / found.sum()).tolist(), strict=True))
    logger.info("learned weights: %s", ", ".join(f"{name}={weight:.3f}" for name, weight in weights.items()))
    return weights


def _votes(
    X: FloatArray, codes: Codes, widths: Mapping[str, int], info: RowInfo, *, summed: bool, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return each block's part of the logits of rows not seen (blocks, n, k), and the part of none (n, k)."""
    k, parts = int(codes.max()) + 1, slices(widths)
    votes, others = np.zeros((len(widths), len(X), k)), np.full((len(X), k), NEVER)
    joined = np.mean([X[:, where] for where in parts.values()], axis=0) if summed else X
    fold = stratified_folds(codes, FOLDS, seed=seed, groups=info.groups)
    for number in range(int(fold.max()) + 1):
        seen = fold != number
        classes = np.unique(codes[seen])
        if len(classes) < 2 or seen.all():
            continue
        head = LinearHead(standardize="none")._learn(joined[seen], codes[seen], info.at(seen))
        cells = np.ix_(~seen, classes)
        others[cells] = head.intercept_
        for place, where in enumerate(parts.values()):
            coef = head.coef_ / len(parts) if summed else head.coef_[:, where]
            votes[place][cells] = X[~seen, where].astype(np.float64) @ coef.T / np.sqrt(joined.shape[1])
    return votes, others
