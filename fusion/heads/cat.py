"""Gradient-boosted symmetric trees by CatBoost on principal components of each block."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from cer_fusion.fusion.data.blocks import FloatArray
from cer_fusion.fusion.heads.base import Codes, Head, Proba, softmax
from cer_fusion.fusion.heads.class_weights import factors
from cer_fusion.fusion.heads.pca import BlockPCA
from cer_fusion.fusion.heads.state import HeadState
from cer_fusion.fusion.heads.symmetric_trees import SymmetricTrees
from cer_fusion.fusion.heads.thread_counts import tree_threads
from cer_fusion.kit.errors import MissingExtraError


class CatBoostHead(Head):
    """CatBoost with settings that train in seconds on a laptop, its trees kept and walked as plain arrays.

    The fitted trees are copied out of CatBoost's JSON once, after the fit: that file holds the time and a random name,
    so that no two would be equal, and a kept head needs CatBoost no more. A test holds the copy against the original.
    Scaling blocks changes nothing here: weights on blocks belong to `weighted` or `late`.

    Parameters
    ----------
    blocks : dict of block name to width, optional
        In column order; None is one block.
    pca : int
        Components a block is reduced to; narrower blocks pass as they are, 0 reduces none.
    trees, depth, lr : int, int, float
        Rounds (one tree for all classes each), levels a tree, shrinkage.
    l2 : float
        Penalty on leaf values.
    row_share, column_share : float
        Share of rows a round, and of columns tried a level.
    max_bin : int
        Borders a column.
    class_weight : None, "balanced" or dict
        Factor on each class's rows.
    threads : int, optional
        CPU threads. None grows trees with one: the sums, and so the trees, depend on the number, and a fixed one gives
        the same trees on all machines. Trees this small gain little from more. The components before are computed with
        as many as the libraries are set to, but no more than a core each.
    random_state : int, RandomState or None
        Seed of the row and column draws.

    Attributes
    ----------
    trees_ : SymmetricTrees
    """

    name: ClassVar[str] = "catboost"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "fast": {"pca": 64, "trees": 600, "depth": 4, "lr": 0.1, "column_share": 0.2},
        "quality": {"pca": 64, "trees": 1000, "depth": 4, "lr": 0.05, "column_share": 0.2},
    }

    def __init__(
        self,
        blocks: Mapping[str, int] | None = None,
        *,
        pca: int = 64,
        trees: int = 600,
        depth: int = 4,
        lr: float = 0.1,
        l2: float = 3.0,
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
        self.l2 = l2
        self.row_share = row_share
        self.column_share = column_share
        self.max_bin = max_bin
        self.class_weight = class_weight
        self.threads = threads
        self.random_state = random_state

    def _fit(self, X: FloatArray, codes: Codes) -> None:
        catboost = _library()
        self.pca_ = BlockPCA(self.pca, self.blocks_).fit(X)
        model = catboost.CatBoost(
            {
                "loss_function": "MultiClass",
                "classes_count": len(self.classes_),
                "iterations": self.trees,
                "depth": self.depth,
                "learning_rate": self.lr,
                "l2_leaf_reg": self.l2,
                "bootstrap_type": "Bernoulli",
                "subsample": self.row_share,
                "rsm": self.column_share,
                "border_count": self.max_bin,
                "thread_count": tree_threads(self.threads),
                "random_seed": self.seed_,
                "boost_from_average": False,
                "allow_writing_files": False,
                "logging_level": "Silent",
            }
        )
        weights = factors(self.class_weight, self.classes_, codes)[codes]
        model.fit(catboost.Pool(self.pca_.transform(X), label=codes, weight=weights))
        self.trees_ = SymmetricTrees.of(as_json(model), len(self.classes_))

    def _proba(self, X: FloatArray) -> Proba:
        return softmax(self.trees_.scores(self.pca_.transform(X)))

    def _state(self) -> HeadState:
        return HeadState(arrays={**self.pca_.state(), **self.trees_.state()})

    def _own_threads(self) -> dict[str, int]:
        return {"catboost": tree_threads(self.threads)}

    def _restore(self, state: HeadState) -> None:
        self.pca_ = BlockPCA(self.pca, self.blocks_).restore(state.arrays)
        self.trees_ = SymmetricTrees.restored(state.arrays, columns=self.pca_.outputs(), k=len(self.classes_))


def as_json(model: Any) -> Any:
    """Return a fitted CatBoost model in its JSON form, which the library writes to files only."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.json"
        model.save_model(str(path), format="json")
        return json.loads(path.read_bytes())


def _library() -> Any:
    try:
        import catboost
    except ImportError as error:
        raise MissingExtraError(
            "fitting the head 'catboost' needs the library catboost: pip install 'cer-fusion[catboost]'"
        ) from error
    return catboost
