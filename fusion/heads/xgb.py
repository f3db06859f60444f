"""Gradient-boosted trees by XGBoost on principal components of each block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

import numpy as np
from cer_fusion.fusion.data.blocks import FloatArray
from cer_fusion.fusion.errors import HeadConfigError
from cer_fusion.fusion.heads.base import Codes, Head, Proba
from cer_fusion.fusion.heads.class_weights import factors
from cer_fusion.fusion.heads.pca import BlockPCA
from cer_fusion.fusion.heads.ranges import whole
from cer_fusion.fusion.heads.state import HeadState
from cer_fusion.fusion.heads.thread_counts import tree_threads
from cer_fusion.kit.errors import MissingExtraError

try:
    import xgboost
except ImportError as error:
    raise MissingExtraError("the head 'xgboost' needs the library xgboost: pip install xgboost") from error

FILE: Final = "booster.ubj"


class XGBoostHead(Head):
    """XGBoost with settings that train in seconds on a laptop.

    On thousands of raw columns boosting is slow; on the leading components of each block it is some twenty times
    faster. Scaling blocks changes nothing here: weights on blocks belong to `weighted` or `late`.

    The defaults are the preset `fast`; `quality` grows more trees more slowly, in a third more time: on real features
    its macro F1 is 0.006 higher (`benchmarks/heads.md`).

    Parameters
    ----------
    blocks : dict of block name to width, optional
        In column order; None is one block.
    pca : int
        Components a block is reduced to; narrower blocks pass as they are, 0 reduces none.
    trees, depth, lr : int, int, float
        Rounds (one tree a class each), levels a tree, shrinkage.
    min_child_weight, l2 : float
        Least sum of second derivatives in a leaf, penalty on leaf values.
    row_share, column_share : float
        Share of rows a round, and of columns a tree.
    max_bin : int
        Histogram bins a column.
    class_weight : None, "balanced" or dict
        Factor on each class's rows.
    threads : int, optional
        CPU threads. None grows trees with one: the sums, and so the trees, depend on the number, and a fixed one gives
        the same trees on all machines. Trees this small gain little from more. The components before are computed with
        as many as the libraries are set to, but no more than a core each.
    random_state : int, RandomState or None
        Seed of the row and column draws.
    """

    name: ClassVar[str] = "xgboost"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "fast": {"pca": 64, "trees": 450, "depth": 3, "lr": 0.07, "min_child_weight": 3.0, "column_share": 0.2},
        "quality": {"pca": 64, "trees": 600, "depth": 3, "lr": 0.05, "min_child_weight": 3.0, "column_share": 0.2},
    }

    def __init__(
        self,
        blocks: Mapping[str, int] | None = None,
        *,
        pca: int = 64,
        trees: int = 450,
        depth: int = 3,
        lr: float = 0.07,
        min_child_weight: float = 3.0,
        l2: float = 1.0,
        row_share: float = 0.8,
        column_share: float = 0.2,
        max_bin: int = 64,
        class_weight: Any = None,
        threads: int | None = None,
        random_state: Any = 0,
    ) -> None:
        self.blocks = blocks
        self.pca = pca
        self.trees = trees
        self.depth = depth
        self.lr = lr
        self.min_child_weight = min_child_weight
        self.l2 = l2
        self.row_share = row_share
        self.column_share = column_share
        self.max_bin = max_bin
        self.class_weight = class_weight
        self.threads = threads
        self.random_state = random_state

    def _fit(self, X: FloatArray, codes: Codes) -> None:
        whole("trees", self.trees)
        self.pca_ = BlockPCA(self.pca, self.blocks_).fit(X)
        settings = {
            "objective": "multi:softprob",
            "num_class": len(self.classes_),
            "tree_method": "hist",
            "max_depth": self.depth,
            "eta": self.lr,
            "min_child_weight": self.min_child_weight,
            "lambda": self.l2,
            "subsample": self.row_share,
            "colsample_bytree": self.column_share,
            "max_bin": self.max_bin,
            "nthread": tree_threads(self.threads),
            "seed": self.seed_,
            "verbosity": 0,
        }
        weights = factors(self.class_weight, self.classes_, codes)[codes]
        rows = xgboost.DMatrix(self.pca_.transform(X), label=codes, weight=weights, nthread=tree_threads(self.threads))
        try:
            self.booster_ = xgboost.train(settings, rows, num_boost_round=self.trees)
        except xgboost.core.XGBoostError as error:  # it checks the ranges of its settings itself
            raise HeadConfigError(f"xgboost refuses a setting: {str(error).strip().splitlines()[-1]}") from error

    def _proba(self, X: FloatArray) -> Proba:
        rows = xgboost.DMatrix(self.pca_.transform(X), nthread=tree_threads(self.threads))
        proba = np.asarray(self.booster_.predict(rows), np.float64).reshape(len(X), len(self.classes_))
        return np.asarray(proba / proba.sum(axis=1, keepdims=True))

    def _state(self) -> HeadState:
        return HeadState(
            arrays=self.pca_.state(),
            files={FILE: bytes(self.booster_.save_raw("ubj"))},
        )

    def _own_threads(self) -> dict[str, int]:
        return {"xgboost": tree_threads(self.threads)}

    def _restore(self, state: HeadState) -> None:
        self.pca_ = BlockPCA(self.pca, self.blocks_).restore(state.arrays)
        booster = xgboost.Booster({"nthread": tree_threads(self.threads), "verbosity": 0})
        try:
            booster.load_model(bytearray(state.files[FILE]))
        except xgboost.core.XGBoostError as error:
            raise ValueError(f"{FILE} is no XGBoost model: {str(error).splitlines()[0]}") from error
        if booster.num_features() != self.pca_.outputs():
            raise ValueError(f"{FILE} takes {booster.num_features()} columns, however {self.pca_.outputs()} are made")
        self.booster_ = booster
