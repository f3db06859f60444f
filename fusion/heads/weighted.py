"""Blocks weighed before they are joined or summed, under a regularised head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final, Literal

import numpy as np
from cer_fusion.fusion.data.blocks import FloatArray, checked_weights, concat
from cer_fusion.fusion.errors import BlockError, HeadConfigError
from cer_fusion.fusion.heads import make_head
from cer_fusion.fusion.heads.base import Codes, Head, Proba
from cer_fusion.fusion.heads.normalizing import BlockNormalizer, Normalize
from cer_fusion.fusion.heads.state import HeadState

RIDGE: Final[Mapping[str, Any]] = {"C": 10.0, "class_weight": None}
"""What a ridge head on top is unless told otherwise: one penalty for all weights, so that a sweep compares weights."""


class WeightedHead(Head):
    """A head on weighed blocks: their weighted join, or the weighted sum of blocks of equal width.

    Only the proportions of the weights matter: 0.6 / 0.4 and 6 / 4 are the same head. Weights are identifiable because
    every row of every block has unit length before it is weighed, and the head on top is regularised and scales
    nothing (`normalize="none"` gives that up).

    Parameters
    ----------
    blocks : dict of block name to width, optional
        In column order; None is one block.
    weights : dict of block name to weight, or "learned", optional
        Every block named, none negative. None weighs all alike; `learned` finds them in folds of the training
        rows (`cer_fusion.fusion.heads.block_weights`), at the cost of three linear fits.
    mode : {"concat", "sum"}
        Join the weighed blocks, or add them up; `sum` needs blocks of one width.
    normalize : {"power", "l2", "none"}
        What gives rows their unit length (`cer_fusion.fusion.heads.normalizing`).
    head : {"linear", "mlp", "ridge"}
        The head on top.
    head_params : dict, optional
        Its settings beyond the defaults.
    threads : int, optional
        CPU threads while fitting and answering; None takes what the libraries are set to, but no more than a core each.
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

    def __init__(
        self,
        blocks: Mapping[str, int] | None = None,
        *,
        weights: Mapping[str, float] | Literal["learned"] | None = None,
        mode: str = "concat",
        normalize: Normalize = "power",
        head: str = "linear",
        head_params: Mapping[str, Any] | None = None,
        threads: int | None = None,
        random_state: Any = 0,
    ) -> None:
        self.blocks = blocks
        self.weights = weights
        self.mode = mode
        self.normalize = normalize
        self.head = head
        self.head_params = head_params
        self.threads = threads
        self.random_state = random_state

    def _fit(self, X: FloatArray, codes: Codes) -> None:
        self.weights_ = self._given_weights()
        self.normalizer_ = BlockNormalizer(self.normalize, self.blocks_).fit(X)
        if self.weights == "learned":
            self.weights_ = self._learned(X, codes)
        self.head_ = self._top().fit(self._weighed(X), codes)

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

    def _learned(self, X: FloatArray, codes: Codes) -> dict[str, float]:
        from cer_fusion.fusion.heads.block_weights import learned_block_weights

        rows = concat(self.normalizer_.transform(X), dict.fromkeys(self.blocks_, self._unit()))
        found = learned_block_weights(rows, codes, self.blocks_, summed=self.mode == "sum", seed=self.seed_)
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
