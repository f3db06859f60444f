"""Fitted trees as plain arrays, walked without the library that grew them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from ..data.blocks import FloatArray

CELLS: Final = 1_000_000
"""Rows times trees walked at a time."""


@dataclass(frozen=True, kw_only=True)
class Trees:
    """The trees of a boosted classifier, their nodes one below the other, parents before children.

    A row goes left where its column is at most the threshold. A leaf is its own left and right child.
    """

    feature: NDArray[np.int32]
    """Column that a node looks at (nodes,); 0 for a leaf."""

    threshold: NDArray[np.float64]
    """Where a node divides (nodes,); 0 for a leaf."""

    left: NDArray[np.int32]
    """Left children (nodes,)."""

    right: NDArray[np.int32]
    """Right children (nodes,)."""

    value: NDArray[np.float64]
    """What a leaf adds to its class's score (nodes,)."""

    roots: NDArray[np.int32]
    """First node of each tree (rounds, scores)."""

    baseline: NDArray[np.float64]
    """Scores before the first tree (scores,)."""

    @classmethod
    def joined(cls, rounds: Sequence[Sequence[NDArray[Any]]], baseline: NDArray[Any]) -> Self:
        """Join node tables, [round][score], with the fields that scikit-learn's histogram trees have."""
        tables = [table for one in rounds for table in one]
        starts = np.cumsum([0, *(len(table) for table in tables)])
        nodes = np.concatenate(tables)
        offset = np.repeat(starts[:-1], np.diff(starts))
        leaf = nodes["is_leaf"].astype(bool)
        here = np.arange(len(nodes))
        return cls(
            feature=np.where(leaf, 0, nodes["feature_idx"]).astype(np.int32),
            threshold=np.where(leaf, 0.0, nodes["num_threshold"]).astype(np.float64),
            left=np.where(leaf, here, nodes["left"] + offset).astype(np.int32),
            right=np.where(leaf, here, nodes["right"] + offset).astype(np.int32),
            value=np.where(leaf, nodes["value"], 0.0).astype(np.float64),
            roots=starts[:-1].reshape(len(rounds), -1).astype(np.int32),
            baseline=np.asarray(baseline, np.float64).ravel(),
        )

    def scores(self, X: FloatArray) -> NDArray[np.float64]:
        """Return summed leaf values and baseline (n, scores) for rows (n, d)."""
        found = np.empty((len(X), len(self.baseline)))
        chunk = max(1, CELLS // self.roots.size)
        for start in range(0, len(X), chunk):
            rows = X[start : start + chunk].astype(np.float64)
            at = np.broadcast_to(self.roots.ravel(), (len(rows), self.roots.size)).copy()  # (rows, trees)
            while True:
                goes_left = np.take_along_axis(rows, self.feature[at], axis=1) <= self.threshold[at]
                there = np.where(goes_left, self.left[at], self.right[at])
                if np.array_equal(there, at):
                    break
                at = there
            leaves = self.value[at].reshape(len(rows), *self.roots.shape)  # (rows, rounds, scores)
            total = np.broadcast_to(self.baseline, (len(rows), len(self.baseline))).copy()
            for number in range(leaves.shape[1]):  # one round after the other, in the order of growing
                total += leaves[:, number]
            found[start : start + chunk] = total
        return found

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by name."""
        return {f"trees.{name}": getattr(self, name) for name in _DTYPES}

    @classmethod
    def restored(cls, arrays: Mapping[str, NDArray[Any]], *, columns: int, scores: int) -> Self:
        """Take back what `state` returned, refusing trees that could loop or look beyond `columns`.

        Raises
        ------
        ValueError
            Saying which array does not fit.
        """
        found = {name: arrays[f"trees.{name}"] for name in _DTYPES}
        for name, array in found.items():
            if array.dtype != _DTYPES[name]:
                raise ValueError(f"array 'trees.{name}' must be {_DTYPES[name].__name__}, however it is {array.dtype}")
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise ValueError(f"array 'trees.{name}' holds NaN or infinity")
        nodes = len(found["value"])
        here = np.arange(nodes)
        for name in ("feature", "threshold", "left", "right"):
            if found[name].shape != (nodes,):
                raise ValueError(f"array 'trees.{name}' must have shape ({nodes},), however: {found[name].shape}")
        leaf = (found["left"] == here) & (found["right"] == here)
        onward = (found["left"] > here) & (found["right"] > here) & (found["left"] < nodes) & (found["right"] < nodes)
        if not (leaf | onward).all():
            raise ValueError("arrays 'trees.left' and 'trees.right' do not describe trees")
        if found["baseline"].shape != (scores,) or found["roots"].ndim != 2 or found["roots"].shape[1] != scores:
            raise ValueError(f"arrays 'trees.roots' and 'trees.baseline' must be for {scores} scores")
        for name, limit in (("feature", columns), ("roots", nodes)):
            if found[name].size == 0 or found[name].min() < 0 or found[name].max() >= limit:
                raise ValueError(f"array 'trees.{name}' must hold numbers from 0 to {limit - 1}")
        return cls(**found)


_DTYPES: Final[dict[str, type[np.generic]]] = {
    "feature": np.int32,
    "threshold": np.float64,
    "left": np.int32,
    "right": np.int32,
    "value": np.float64,
    "roots": np.int32,
    "baseline": np.float64,
}


CHUNK: Final = 1024
"""Rows walked at a time."""

DEEPEST: Final = 16
"""Levels at most, as CatBoost has it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SymmetricTrees:
    """A sum of trees; a row's leaf is read off its answers to the tree's few questions, one bit each."""

    feature: NDArray[np.int32]
    """(trees, levels) column that a level asks about."""

    border: FloatArray
    """(trees, levels) the level's bit is 1 where the column is larger; infinite on levels that a tree has not."""

    value: NDArray[np.float64]
    """(trees, 2 ** levels, k) what a leaf adds to the scores; bit i of its number answers level i."""

    @classmethod
    def of(cls, model: Mapping[str, Any], k: int) -> Self:
        """Copy the trees out of a model in CatBoost's JSON form.

        https://catboost.ai/docs/en/concepts/json-model-description (``oblivious_trees``: ``splits`` from the lowest bit
        on, ``leaf_values`` leaf by leaf)
        """
        trees = model["oblivious_trees"]
        levels = max((len(tree["splits"] or ()) for tree in trees), default=0) or 1
        feature = np.zeros((len(trees), levels), np.int32)
        border = np.full((len(trees), levels), np.inf, np.float32)
        value = np.zeros((len(trees), 2**levels, k))
        for number, tree in enumerate(trees):
            for level, split in enumerate(tree["splits"] or ()):
                feature[number, level], border[number, level] = split["float_feature_index"], split["border"]
            leaves = np.asarray(tree["leaf_values"], np.float64).reshape(-1, k)
            value[number, : len(leaves)] = leaves
        return cls(feature=feature, border=border, value=value)

    def scores(self, X: FloatArray) -> NDArray[np.float64]:
        """Return the sums over all trees (n, k) for rows (n, columns)."""
        trees, levels = self.feature.shape
        bits = 1 << np.arange(levels)
        found = np.zeros((len(X), self.value.shape[2]))
        for start in range(0, len(X), CHUNK):
            leaf = (X[start : start + CHUNK][:, self.feature] > self.border) @ bits  # (rows, trees)
            for tree in range(trees):  # one after the other, in the order of growing
                found[start : start + CHUNK] += self.value[tree, leaf[:, tree]]
        return found

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by name."""
        levels = np.isfinite(self.border).sum(axis=1).astype(np.int32)
        return {
            "trees.feature": self.feature,
            "trees.border": np.where(np.isfinite(self.border), self.border, np.float32(0)),
            "trees.levels": levels,
            "trees.value": self.value,
        }

    @classmethod
    def restored(cls, arrays: Mapping[str, NDArray[Any]], *, columns: int, k: int) -> Self:
        """Take back what `state` returned.

        Raises
        ------
        ValueError
            If an array is not of the kind or shape that trees over `columns` with `k` scores have.
        """
        feature, border = arrays["trees.feature"], arrays["trees.border"]
        value, asked = arrays["trees.value"], arrays["trees.levels"]
        if [str(one.dtype) for one in (feature, border, value, asked)] != ["int32", "float32", "float64", "int32"]:
            raise ValueError("the arrays of symmetric trees must be int32, float32, float64 and int32")
        if feature.ndim != 2 or not 1 <= feature.shape[1] <= DEEPEST or border.shape != feature.shape:
            raise ValueError("arrays 'trees.feature' and 'trees.border' must have one shape (trees, levels)")
        trees, levels = feature.shape
        if value.shape != (trees, 2**levels, k) or asked.shape != (trees,):
            raise ValueError(f"array 'trees.value' must have shape ({trees}, {2**levels}, {k})")
        if feature.size and (feature.min() < 0 or feature.max() >= columns):
            raise ValueError(f"array 'trees.feature' must hold numbers from 0 to {columns - 1}")
        if not (np.isfinite(border).all() and np.isfinite(value).all()):
            raise ValueError("arrays of trees hold NaN or infinity")
        beyond = np.arange(levels) >= asked[:, None]
        return cls(feature=feature, border=np.where(beyond, np.float32(np.inf), border), value=value)
