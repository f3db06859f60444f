"""Trees that ask the same question everywhere on a level, as arrays: CatBoost's, copied out of its JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from cer_fusion.fusion.data.blocks import FloatArray
from numpy.typing import NDArray

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
