"""Fitted regression trees as plain arrays, walked without the library that grew them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from cer_fusion.fusion.data.blocks import FloatArray
from numpy.typing import NDArray

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
