"""What happens to each block before a head sees it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, Self, TypeAlias, get_args

import numpy as np
from cer_fusion.fusion.data.blocks import FloatArray, slices
from cer_fusion.fusion.data.joined import Matrix, each_piece
from cer_fusion.fusion.errors import HeadConfigError, nearest
from cer_fusion.fusion.heads.base import expect_shape
from numpy.typing import NDArray

Standardize: TypeAlias = Literal["none", "standard", "l2", "power"]

FLOOR: Final = 1e-6
"""A column whose standard deviation is under this share of its mean is constant up to rounding: it is only centred."""


class BlockScaler:
    """Bring the blocks of a joined matrix to a common scale.

    - ``none``: nothing; columns keep their units.
    - ``standard``: each column less its mean, over its standard deviation, as the training rows have them.
    - ``l2``: each row of a block over its Euclidean length, then ``standard``.
    - ``power``: signed square root, then ``l2``. Features behind a ReLU, and some columns of transformers, are
      heavy-tailed; the root lets many weak hints speak beside one loud one (Perronnin et al., 2010, "Improving the
      Fisher kernel", §3.1).

    Parameters
    ----------
    kind : {"none", "standard", "l2", "power"}
    widths : dict of block name to width
        In column order.
    """

    def __init__(self, kind: Standardize, widths: Mapping[str, int]) -> None:
        if kind not in get_args(Standardize):
            raise HeadConfigError(
                f"standardize must be a known word, got {kind!r}; {nearest(kind, get_args(Standardize))}"
            )
        self.kind = kind
        self.widths = dict(widths)
        self.mean: NDArray[np.float64] = np.zeros(sum(self.widths.values()))
        self.scale: NDArray[np.float64] = np.ones(sum(self.widths.values()))

    def fit(self, X: Matrix) -> Self:
        """Learn means and scales (D,) from training rows (n, D), lazy ones piece by piece.

        Pieces are joined as in Chan, Golub and LeVeque (1979, "Updating formulae and a pairwise algorithm for computing
        sample variances", eq. 2.1): one pass, and no difference of large sums.
        """
        if self.kind == "none":
            return self
        seen, squares = 0, np.zeros_like(self.mean)
        self.mean = np.zeros_like(self.mean)
        for rows, mean, about_mean in each_piece(X, self._moments):
            apart = mean - self.mean
            self.mean = self.mean + apart * (rows / (seen + rows))
            squares += about_mean + np.square(apart) * (seen * rows / (seen + rows))
            seen += rows
        spread = np.sqrt(squares / seen)
        self.scale = np.where(spread > FLOOR * np.abs(self.mean), spread, 1.0)
        return self

    def transform(self, X: FloatArray) -> FloatArray:
        """Return scaled rows (n, D), float32."""
        if self.kind == "none":
            return X
        rows = self._shaped(X)
        rows -= self.mean.astype(np.float32)
        rows /= self.scale.astype(np.float32)
        return rows

    def state(self) -> dict[str, NDArray[Any]]:
        """Return what was learned, as arrays."""
        return {"mean": self.mean, "scale": self.scale}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Take back what `state` returned."""
        for name in ("mean", "scale"):
            expect_shape(name, arrays[name], (len(self.mean),))
        self.mean, self.scale = arrays["mean"], arrays["scale"]
        return self

    def _moments(self, start: int, X: FloatArray) -> tuple[int, NDArray[np.float64], NDArray[np.float64]]:
        """Return the number of rows, their mean (D,) and the sum of squares about it (D,)."""
        rows = self._shaped(X)
        mean = rows.mean(axis=0, dtype=np.float64)
        return len(rows), mean, np.square(rows - mean.astype(np.float32)).sum(axis=0, dtype=np.float64)

    def _shaped(self, X: FloatArray) -> FloatArray:
        """Return a copy of the rows with what needs no learning done."""
        rows = X.copy()
        if self.kind == "power":
            np.copysign(np.sqrt(np.abs(rows)), rows, out=rows)
        if self.kind in ("l2", "power"):
            for where in slices(self.widths).values():
                rows[:, where] /= row_lengths(rows[:, where])
        return rows


def row_lengths(block: FloatArray) -> FloatArray:
    """Return the Euclidean length of each row (n, 1); 1 for a row of zeros, so that it stays zero."""
    lengths = np.sqrt(np.einsum("nd,nd->n", block, block, dtype=np.float64))
    return np.where(lengths > 0, lengths, 1.0).astype(np.float32)[:, None]
