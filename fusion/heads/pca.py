"""Principal components of each block: what makes trees on wide features train in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from cer_fusion.fusion.data.blocks import FloatArray, slices
from cer_fusion.fusion.errors import HeadConfigError
from cer_fusion.fusion.heads.base import expect_shape
from numpy.typing import NDArray


class BlockPCA:
    """Replace each block wider than `components` by its leading principal components.

    Narrower blocks pass as they are, and so does everything when `components` is 0. Scaling a block scales its
    components, which trees do not notice.

    Parameters
    ----------
    components : int
        Columns that a wide block is reduced to.
    widths : dict of block name to width
        In column order.
    """

    def __init__(self, components: int, widths: Mapping[str, int]) -> None:
        if isinstance(components, bool) or not isinstance(components, int) or components < 0:
            raise HeadConfigError(f"pca must be a whole number, 0 to leave blocks as they are: got {components!r}")
        self.components = components
        self.widths = dict(widths)
        self.mean: FloatArray = np.zeros(sum(self.widths.values()), np.float32)
        self.axes: dict[str, FloatArray] = {}

    def fit(self, X: FloatArray) -> Self:
        """Learn mean (D,) and axes (d_i, components) from training rows (n, D)."""
        self.mean = X.mean(axis=0, dtype=np.float64).astype(np.float32)
        for name, where in slices(self.widths).items():
            if self._is_wide(name):
                self.axes[name] = leading_axes(X[:, where] - self.mean[where], self.components)
        return self

    def transform(self, X: FloatArray) -> FloatArray:
        """Return rows (n, sum of what is left of each block), float32."""
        parts = []
        for name, where in slices(self.widths).items():
            if name in self.axes:
                # float64, so that a row alone and the same row among others agree to the last bit after rounding
                parts.append(((X[:, where] - self.mean[where]).astype(np.float64) @ self.axes[name]).astype(np.float32))
            else:
                parts.append(X[:, where])
        return np.ascontiguousarray(np.concatenate(parts, axis=1))

    def outputs(self) -> int:
        """Return the number of columns that `transform` yields."""
        return sum(self.components if self._is_wide(name) else width for name, width in self.widths.items())

    def state(self) -> dict[str, NDArray[Any]]:
        """Return what was learned, as arrays."""
        return {"pca.mean": self.mean, **{f"pca.axes.{name}": axes for name, axes in self.axes.items()}}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Take back what `state` returned."""
        self.mean = expect_shape("pca.mean", arrays["pca.mean"], (len(self.mean),))
        for name, width in self.widths.items():
            if self._is_wide(name):
                key = f"pca.axes.{name}"
                self.axes[name] = expect_shape(key, arrays[key], (width, self.components))
        return self

    def _is_wide(self, name: str) -> bool:
        return 0 < self.components < self.widths[name]


def leading_axes(centred: FloatArray, components: int) -> FloatArray:
    """Return the axes (d, components) of largest variance of centred rows (n, d), zeros where rows span fewer.

    Signs are fixed (the largest entry of an axis is positive), so that equal rows give equal axes.
    """
    rows = centred.astype(np.float64)
    n, d = rows.shape
    if d <= n:
        variances, axes = np.linalg.eigh(rows.T @ rows)
    else:
        variances, left = np.linalg.eigh(rows @ rows.T)
        axes = rows.T @ (left / np.sqrt(np.maximum(variances, np.finfo(float).tiny)))
    order = np.argsort(-variances, kind="stable")[:components]
    kept = order[variances[order] > 1e-10 * max(float(variances.max()), np.finfo(float).tiny)]
    axes = axes[:, kept]
    axes *= np.where(axes[np.abs(axes).argmax(axis=0), np.arange(len(kept))] < 0, -1.0, 1.0)
    found = np.zeros((d, components), np.float32)
    found[:, : len(kept)] = axes
    return found
