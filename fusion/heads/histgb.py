"""Gradient-boosted trees by scikit-learn on principal components of each block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from cer_fusion.fusion.data.blocks import FloatArray
from cer_fusion.fusion.heads.base import Codes, Head, Proba, softmax
from cer_fusion.fusion.heads.class_weights import by_code
from cer_fusion.fusion.heads.pca import BlockPCA
from cer_fusion.fusion.heads.state import HeadState
from cer_fusion.fusion.heads.thread_counts import libraries_limited, tree_threads
from cer_fusion.fusion.heads.trees import Trees
from sklearn.ensemble import HistGradientBoostingClassifier


class HistGBHead(Head):
    """Scikit-learn's histogram gradient boosting, kept and walked as plain arrays.

    The fitted trees are copied out of scikit-learn's private objects once, after the fit, so that a kept head depends
    on no version of it; a test holds the copy against the original. Scaling blocks changes nothing here: weights on
    blocks belong to `weighted` or `late`.

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
    column_share : float
        Share of columns tried a division.
    max_bin : int
        Histogram bins a column, at most 255.
    class_weight : None, "balanced" or dict
        Factor on each class's rows.
    threads : int, optional
        CPU threads. None grows trees with one: the sums, and so the trees, depend on the number, and a fixed one gives
        the same trees on all machines. The components before are computed with as many as the libraries are set to, but
        no more than a core each.
    random_state : int, RandomState or None
        Seed of the column draws.

    Attributes
    ----------
    trees_ : Trees
    """

    name: ClassVar[str] = "histgb"

    def __init__(
        self,
        blocks: Mapping[str, int] | None = None,
        *,
        pca: int = 64,
        trees: int = 100,
        leaves: int = 8,
        lr: float = 0.1,
        min_leaf_rows: int = 20,
        l2: float = 1.0,
        column_share: float = 0.3,
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
        self.column_share = column_share
        self.max_bin = max_bin
        self.class_weight = class_weight
        self.threads = threads
        self.random_state = random_state

    def _fit(self, X: FloatArray, codes: Codes) -> None:
        self.pca_ = BlockPCA(self.pca, self.blocks_).fit(X)
        model = HistGradientBoostingClassifier(
            learning_rate=self.lr,
            max_iter=self.trees,
            max_leaf_nodes=self.leaves,
            min_samples_leaf=self.min_leaf_rows,
            l2_regularization=self.l2,
            max_features=self.column_share,
            max_bins=self.max_bin,
            early_stopping=False,
            class_weight=by_code(self.class_weight, self.classes_, codes),
            categorical_features=None,
            random_state=self.seed_,
        )
        rows = self.pca_.transform(X)
        with libraries_limited(tree_threads(self.threads)):
            model.fit(rows, codes)
        self.trees_ = Trees.joined(
            [[tree.nodes for tree in one] for one in model._predictors], model._baseline_prediction
        )
        self.n_iter_ = int(model.n_iter_)

    def _proba(self, X: FloatArray) -> Proba:
        scores = self.trees_.scores(self.pca_.transform(X))
        if scores.shape[1] == 1:  # two classes share one score: sigmoid(z) = softmax(0, z)
            scores = np.hstack([np.zeros_like(scores), scores])
        return softmax(scores)

    def _state(self) -> HeadState:
        return HeadState(arrays={**self.pca_.state(), **self.trees_.state()}, values={"rounds": self.n_iter_})

    def _own_threads(self) -> dict[str, int]:
        return {"openmp": tree_threads(self.threads)}

    def _restore(self, state: HeadState) -> None:
        self.pca_ = BlockPCA(self.pca, self.blocks_).restore(state.arrays)
        k = len(self.classes_)
        self.trees_ = Trees.restored(state.arrays, columns=self.pca_.outputs(), scores=1 if k == 2 else k)
        self.n_iter_ = int(state.values["rounds"])
