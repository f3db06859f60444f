"""Gradient-boosted trees by LightGBM on principal components of each block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

import numpy as np
from cer_fusion.fusion.data.blocks import FloatArray
from cer_fusion.fusion.heads.base import Codes, Head, Proba
from cer_fusion.fusion.heads.class_weights import factors
from cer_fusion.fusion.heads.pca import BlockPCA
from cer_fusion.fusion.heads.state import HeadState
from cer_fusion.fusion.heads.thread_counts import tree_threads
from cer_fusion.kit.errors import MissingExtraError

try:
    import lightgbm
except ImportError as error:
    raise MissingExtraError(
        "the head 'lightgbm' needs the library lightgbm: pip install 'cer-fusion[lightgbm]'"
    ) from error

FILE: Final = "booster.txt"


class LightGBMHead(Head):
    """LightGBM with settings that train in seconds on a laptop; kept as the library's own text.

    Scaling blocks changes nothing here: weights on blocks belong to `weighted` or `late`.

    Parameters
    ----------
    blocks : dict of block name to width, optional
        In column order; None is one block.
    pca : int
        Components a block is reduced to; narrower blocks pass as they are, 0 reduces none.
    trees, leaves, lr : int, int, float
        Rounds (one tree a class each), leaves a tree, shrinkage.
    min_leaf_rows, l2 : int, float
        Least rows a leaf, penalty on leaf values.
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

    name: ClassVar[str] = "lightgbm"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "fast": {"pca": 64, "trees": 300, "leaves": 8, "lr": 0.1, "l2": 1.0, "column_share": 0.1},
        "quality": {"pca": 64, "trees": 1000, "leaves": 6, "lr": 0.05, "l2": 3.0, "column_share": 0.1},
    }

    def __init__(
        self,
        blocks: Mapping[str, int] | None = None,
        *,
        pca: int = 64,
        trees: int = 300,
        leaves: int = 8,
        lr: float = 0.1,
        min_leaf_rows: int = 10,
        l2: float = 1.0,
        row_share: float = 0.8,
        column_share: float = 0.1,
        max_bin: int = 63,
        class_weight: Any = None,
        threads: int | None = None,
        random_state: Any = 0,
    ) -> None:
        self.blocks = blocks
        self.pca = pca
        self.trees = trees
        self.leaves = leaves
        self.lr = lr
        self.min_leaf_rows = min_leaf_rows
        self.l2 = l2
        self.row_share = row_share
        self.column_share = column_share
        self.max_bin = max_bin
        self.class_weight = class_weight
        self.threads = threads
        self.random_state = random_state

    def _fit(self, X: FloatArray, codes: Codes) -> None:
        self.pca_ = BlockPCA(self.pca, self.blocks_).fit(X)
        settings = {
            "objective": "multiclass",
            "num_class": len(self.classes_),
            "num_leaves": self.leaves,
            "learning_rate": self.lr,
            "min_data_in_leaf": self.min_leaf_rows,
            "lambda_l2": self.l2,
            "bagging_fraction": self.row_share,
            "bagging_freq": 1,
            "feature_fraction": self.column_share,
            "max_bin": self.max_bin,
            "num_threads": tree_threads(self.threads),
            "seed": self.seed_,
            "deterministic": True,
            "force_col_wise": True,  # no trial of both layouts, which would depend on the clock
            "verbosity": -1,
        }
        weights = factors(self.class_weight, self.classes_, codes)[codes]
        rows = lightgbm.Dataset(
            self.pca_.transform(X),
            label=codes,
            weight=weights,
            params={"verbosity": -1, "min_data_in_bin": 1, "feature_pre_filter": False},
        )
        self.booster_ = lightgbm.train(settings, rows, num_boost_round=self.trees)

    def _proba(self, X: FloatArray) -> Proba:
        found = self.booster_.predict(self.pca_.transform(X), num_threads=tree_threads(self.threads))
        proba = np.asarray(found, np.float64).reshape(len(X), len(self.classes_))
        return np.asarray(proba / proba.sum(axis=1, keepdims=True))

    def _state(self) -> HeadState:
        return HeadState(arrays=self.pca_.state(), files={FILE: self.booster_.model_to_string().encode()})

    def _own_threads(self) -> dict[str, int]:
        return {"lightgbm": tree_threads(self.threads)}

    def _restore(self, state: HeadState) -> None:
        self.pca_ = BlockPCA(self.pca, self.blocks_).restore(state.arrays)
        try:
            booster = lightgbm.Booster(model_str=state.files[FILE].decode())
        except lightgbm.basic.LightGBMError as error:
            raise ValueError(f"{FILE} is no LightGBM model: {str(error).splitlines()[0]}") from error
        if booster.num_feature() != self.pca_.outputs():
            raise ValueError(f"{FILE} takes {booster.num_feature()} columns, however {self.pca_.outputs()} are made")
        if booster.num_model_per_iteration() != len(self.classes_):
            raise ValueError(f"{FILE} is for {booster.num_model_per_iteration()} classes, not {len(self.classes_)}")
        self.booster_ = booster
