"""Gradient-boosted trees on principal components of each block, by four libraries."""

from __future__ import annotations

import json
import tempfile
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ...kit.errors import MissingExtraError
from ..data.blocks import FloatArray
from ..errors import HeadConfigError
from .base import Codes, Head, HeadState, Proba, RowInfo, softmax
from .scaling import BlockPCA
from .settings import factors, libraries_limited, tree_threads, whole
from .trees import SymmetricTrees, Trees


@dataclass(kw_only=True, eq=False, repr=False)
class BoostedHead(Head):
    """Boosted trees with settings that train in seconds on a laptop.

    On thousands of raw columns boosting is slow; on the leading components of each block it is some twenty times
    faster. Scaling blocks changes nothing here: weights on blocks belong to `weighted` or `late`.

    Trees grow with one thread unless told otherwise: the sums, and so the trees, depend on the number, and a fixed one
    gives the same trees on all machines. Trees this small gain little from more. The components before are computed
    with as many threads as the libraries are set to, but no more than a core each.

    These libraries know one class a row: with soft labels a row stands there once a class that it has a share of, and
    counts by that; least rows a leaf (`min_leaf_rows`) count each of them.

    Parameters
    ----------
    pca : int
        Components a block is reduced to; narrower blocks pass as they are, 0 reduces none.
    trees, lr : int, float
        Rounds (a tree a class each; CatBoost's trees are for all classes), shrinkage.
    l2 : float
        Penalty on leaf values.
    column_share : float
        Share of columns a tree; by `histgb` and `catboost` tried a division.
    max_bin : int
        Histogram bins a column; at most 255 by `histgb`.
    class_weight : None, "balanced" or dict
        Factor on each class's rows.
    """

    scales_matter: ClassVar[bool] = False
    weighs_rows: ClassVar[bool] = True
    learns_soft_labels: ClassVar[bool] = True

    pca: int = 64
    trees: int = 100
    lr: float = 0.1
    l2: float = 1.0
    column_share: float = 0.1
    max_bin: int = 63
    class_weight: Any = None

    @abstractmethod
    def _grow(self, rows: FloatArray, codes: Codes, weights: NDArray[np.float64]) -> None:
        """Learn from components (n, c), classes (n,) and weights (n,)."""

    @abstractmethod
    def _asked(self, rows: FloatArray) -> Proba:
        """Return probabilities (n, k) for components (n, c), their sums one up to rounding."""

    @abstractmethod
    def _kept(self) -> HeadState:
        """Return the trees."""

    @abstractmethod
    def _reopened(self, state: HeadState, columns: int) -> None:
        """Take back what `_kept` returned, refusing trees over other than so many columns."""

    def _fit(self, X: FloatArray, codes: Codes, info: RowInfo) -> None:
        whole("trees", self.trees)
        self.pca_ = BlockPCA(self.pca, self.blocks_).fit(X)
        of, codes, weights = info.apart(codes, factors(self.class_weight, self.classes_, codes, info.soft))
        rows = self.pca_.transform(X)
        self._grow(rows if info.soft is None else rows[of], codes, weights)

    def _proba(self, X: FloatArray) -> Proba:
        return self._asked(self.pca_.transform(X))

    def _own_threads(self) -> dict[str, int]:
        return {self.name: tree_threads(self.threads)}

    def _state(self) -> HeadState:
        return HeadState(arrays=self.pca_.state()) | self._kept()

    def _restore(self, state: HeadState) -> None:
        self.pca_ = BlockPCA(self.pca, self.blocks_).restore(state.arrays)
        self._reopened(state, self.pca_.outputs())

    def _library(self) -> Any:
        """Return the library that grows the trees, imported when it is first asked for."""
        try:
            return import_module(self.name)
        except ImportError as error:
            extra = f"'cer-fusion[{self.name}]'" if self.name in self.needs else self.name
            raise MissingExtraError(
                f"the head {self.name!r} needs the library {self.name}: pip install {extra}"
            ) from error


@dataclass(kw_only=True, eq=False, repr=False)
class XGBoostHead(BoostedHead):
    """XGBoost, kept in its own binary JSON.

    The defaults are the preset `fast`; `quality` grows more trees more slowly, in a third more time: on real features
    its macro F1 is 0.006 higher (`benchmarks/heads.md`).

    Parameters beside those of `BoostedHead`
    ----------------------------------------
    depth : int
        Levels a tree.
    min_child_weight : float
        Least sum of second derivatives in a leaf.
    row_share : float
        Share of rows a round.
    """

    name: ClassVar[str] = "xgboost"
    computes_with: ClassVar[tuple[str, ...]] = ("xgboost",)
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "fast": {"pca": 64, "trees": 450, "depth": 3, "lr": 0.07, "min_child_weight": 3.0, "column_share": 0.2},
        "quality": {"pca": 64, "trees": 600, "depth": 3, "lr": 0.05, "min_child_weight": 3.0, "column_share": 0.2},
    }

    trees: int = 450
    lr: float = 0.07
    column_share: float = 0.2
    max_bin: int = 64
    depth: int = 3
    min_child_weight: float = 3.0
    row_share: float = 0.8

    def _grow(self, rows: FloatArray, codes: Codes, weights: NDArray[np.float64]) -> None:
        xgboost, threads = self._library(), tree_threads(self.threads)
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
            "nthread": threads,
            "seed": self.seed_,
            "verbosity": 0,
        }
        matrix = xgboost.DMatrix(rows, label=codes, weight=weights, nthread=threads)
        try:
            self.booster_ = xgboost.train(settings, matrix, num_boost_round=self.trees)
        except xgboost.core.XGBoostError as error:  # it checks the ranges of its settings itself
            raise HeadConfigError(f"xgboost refuses a setting: {str(error).strip().splitlines()[-1]}") from error

    def _asked(self, rows: FloatArray) -> Proba:
        matrix = self._library().DMatrix(rows, nthread=tree_threads(self.threads))
        return _summing_to_one(self.booster_.predict(matrix), len(rows))

    def _kept(self) -> HeadState:
        return HeadState(files={"booster.ubj": bytes(self.booster_.save_raw("ubj"))})

    def _reopened(self, state: HeadState, columns: int) -> None:
        xgboost = self._library()
        booster = xgboost.Booster({"nthread": tree_threads(self.threads), "verbosity": 0})
        try:
            booster.load_model(bytearray(state.files["booster.ubj"]))
        except xgboost.core.XGBoostError as error:
            raise ValueError(f"booster.ubj is no XGBoost model: {str(error).splitlines()[0]}") from error
        if booster.num_features() != columns:
            raise ValueError(f"booster.ubj takes {booster.num_features()} columns, however {columns} are made")
        self.booster_ = booster


@dataclass(kw_only=True, eq=False, repr=False)
class LightGBMHead(BoostedHead):
    """LightGBM, kept as its own text.

    Parameters beside those of `BoostedHead`
    ----------------------------------------
    leaves, min_leaf_rows : int
        Leaves a tree, least rows a leaf.
    row_share : float
        Share of rows a round.
    """

    name: ClassVar[str] = "lightgbm"
    needs: ClassVar[tuple[str, ...]] = ("lightgbm",)
    computes_with: ClassVar[tuple[str, ...]] = ("lightgbm",)
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "fast": {"pca": 64, "trees": 300, "leaves": 8, "lr": 0.1, "l2": 1.0, "column_share": 0.1},
        "quality": {"pca": 64, "trees": 1000, "leaves": 6, "lr": 0.05, "l2": 3.0, "column_share": 0.1},
    }

    trees: int = 300
    leaves: int = 8
    min_leaf_rows: int = 10
    row_share: float = 0.8

    def _grow(self, rows: FloatArray, codes: Codes, weights: NDArray[np.float64]) -> None:
        lightgbm = self._library()
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
        fixed = {"verbosity": -1, "min_data_in_bin": 1, "feature_pre_filter": False}
        data = lightgbm.Dataset(rows, label=codes, weight=weights, params=fixed)
        self.booster_ = lightgbm.train(settings, data, num_boost_round=self.trees)

    def _asked(self, rows: FloatArray) -> Proba:
        return _summing_to_one(self.booster_.predict(rows, num_threads=tree_threads(self.threads)), len(rows))

    def _kept(self) -> HeadState:
        return HeadState(files={"booster.txt": self.booster_.model_to_string().encode()})

    def _reopened(self, state: HeadState, columns: int) -> None:
        lightgbm = self._library()
        try:
            booster = lightgbm.Booster(model_str=state.files["booster.txt"].decode())
        except lightgbm.basic.LightGBMError as error:
            raise ValueError(f"booster.txt is no LightGBM model: {str(error).splitlines()[0]}") from error
        if booster.num_feature() != columns:
            raise ValueError(f"booster.txt takes {booster.num_feature()} columns, however {columns} are made")
        if booster.num_model_per_iteration() != len(self.classes_):
            raise ValueError(
                f"booster.txt is for {booster.num_model_per_iteration()} classes, not {len(self.classes_)}"
            )
        self.booster_ = booster


@dataclass(kw_only=True, eq=False, repr=False)
class CatBoostHead(BoostedHead):
    """CatBoost, its trees kept and walked as plain arrays.

    The fitted trees are copied out of CatBoost's documented JSON once, after the fit: all forms of its own hold the
    time and a random name, so that no two would be equal, and a kept head needs CatBoost no more. A test holds the copy
    against the original.

    Parameters beside those of `BoostedHead`
    ----------------------------------------
    depth : int
        Levels a tree.
    row_share : float
        Share of rows a round.

    Attributes
    ----------
    trees_ : SymmetricTrees
    """

    name: ClassVar[str] = "catboost"
    needs: ClassVar[tuple[str, ...]] = ("catboost",)
    computes_with: ClassVar[tuple[str, ...]] = ("catboost",)
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "fast": {"pca": 64, "trees": 600, "depth": 4, "lr": 0.1, "column_share": 0.2},
        "quality": {"pca": 64, "trees": 1000, "depth": 4, "lr": 0.05, "column_share": 0.2},
    }

    trees: int = 600
    l2: float = 3.0
    column_share: float = 0.2
    max_bin: int = 64
    depth: int = 4
    row_share: float = 0.8

    def _grow(self, rows: FloatArray, codes: Codes, weights: NDArray[np.float64]) -> None:
        catboost = self._library()
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
        model.fit(catboost.Pool(rows, label=codes, weight=weights))
        self.trees_ = SymmetricTrees.of(as_json(model), len(self.classes_))

    def _asked(self, rows: FloatArray) -> Proba:
        return softmax(self.trees_.scores(rows))

    def _kept(self) -> HeadState:
        return HeadState(arrays=self.trees_.state())

    def _reopened(self, state: HeadState, columns: int) -> None:
        self.trees_ = SymmetricTrees.restored(state.arrays, columns=columns, k=len(self.classes_))


@dataclass(kw_only=True, eq=False, repr=False)
class HistGBHead(BoostedHead):
    """Scikit-learn's histogram gradient boosting, its trees kept and walked as plain arrays.

    They are copied out of scikit-learn's private objects once, after the fit, so that a kept head depends on no version
    of it, and no index in a forged file leaves its array, which scikit-learn itself does not check; a test holds the
    copy against the original.

    Parameters beside those of `BoostedHead`
    ----------------------------------------
    leaves, min_leaf_rows : int
        Leaves a tree, least rows a leaf.

    Attributes
    ----------
    trees_ : Trees
    """

    name: ClassVar[str] = "histgb"

    leaves: int = 8
    min_leaf_rows: int = 20
    column_share: float = 0.3

    def _grow(self, rows: FloatArray, codes: Codes, weights: NDArray[np.float64]) -> None:
        from sklearn.ensemble import HistGradientBoostingClassifier

        model = HistGradientBoostingClassifier(
            learning_rate=self.lr,
            max_iter=self.trees,
            max_leaf_nodes=self.leaves,
            min_samples_leaf=self.min_leaf_rows,
            l2_regularization=self.l2,
            max_features=self.column_share,
            max_bins=self.max_bin,
            early_stopping=False,
            categorical_features=None,
            random_state=self.seed_,
        )
        with libraries_limited(tree_threads(self.threads)):
            model.fit(rows, codes, sample_weight=None if (weights == 1).all() else weights)
        self.trees_ = Trees.joined(
            [[tree.nodes for tree in one] for one in model._predictors], model._baseline_prediction
        )
        self.n_iter_ = int(model.n_iter_)

    def _asked(self, rows: FloatArray) -> Proba:
        scores = self.trees_.scores(rows)
        if scores.shape[1] == 1:  # two classes share one score: sigmoid(z) = softmax(0, z)
            scores = np.hstack([np.zeros_like(scores), scores])
        return softmax(scores)

    def _own_threads(self) -> dict[str, int]:
        return {"openmp": tree_threads(self.threads)}

    def _kept(self) -> HeadState:
        return HeadState(arrays=self.trees_.state(), values={"rounds": self.n_iter_})

    def _reopened(self, state: HeadState, columns: int) -> None:
        k = len(self.classes_)
        self.trees_ = Trees.restored(state.arrays, columns=columns, scores=1 if k == 2 else k)
        self.n_iter_ = int(state.values["rounds"])


def as_json(model: Any) -> Any:
    """Return a fitted CatBoost model in its JSON form, which the library writes to files only."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.json"
        model.save_model(str(path), format="json")
        return json.loads(path.read_bytes())


def _summing_to_one(answers: Any, n: int) -> Proba:
    proba = np.asarray(answers, np.float64).reshape(n, -1)  # (n, k), whichever way it was flattened
    return np.asarray(proba / proba.sum(axis=1, keepdims=True))
