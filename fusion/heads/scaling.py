"""What happens to each block before a head sees it: scaled, brought to unit length, or its principal components."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from typing import Any, Final, Literal, Self, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from ...kit.errors import nearest
from ..data.blocks import FloatArray, slices
from ..data.joined import Matrix, each_piece
from ..errors import HeadConfigError
from .base import expect_shape
from .settings import Standardize

logger = logging.getLogger(__name__)
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

    Unit length is for embeddings, whose columns have one unit. Where each column has its own (eGeMAPS, OpenFace's pose
    and gaze), the largest numbers decide it, and ``standard`` is what fits.

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
        tell_of_narrow(self.kind, self.widths, "standardize=standard")
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


def tell_of_narrow(kind: str, widths: Mapping[str, int], instead: str) -> None:
    """Warn of blocks of a single column whose rows are brought to unit length: only a sign is left of them."""
    if kind in ("l2", "power"):
        for name, width in widths.items():
            if width == 1:
                _tell_once(name, kind, instead)


@functools.cache
def _tell_once(name: str, kind: str, instead: str) -> None:
    logger.warning(
        "block %r has one column, and %r brings each row of a block to unit length: nothing but its sign is left; %s "
        "keeps it",
        name, kind, instead,
    )  # fmt: skip


def row_lengths(block: FloatArray) -> FloatArray:
    """Return the Euclidean length of each row (n, 1); 1 for a row of zeros, so that it stays zero."""
    lengths = np.sqrt(np.einsum("nd,nd->n", block, block, dtype=np.float64))
    return np.where(lengths > 0, lengths, 1.0).astype(np.float32)[:, None]


Normalize: TypeAlias = Literal["none", "l2", "power"]


class BlockNormalizer:
    """Centre each block on its training mean and give every row of it unit length.

    - ``none``: blocks as they are; a block of larger numbers then weighs more.
    - ``l2``: centred, then unit length.
    - ``power``: signed square root first, then as ``l2``.
    """

    def __init__(self, kind: Normalize, widths: Mapping[str, int]) -> None:
        if kind not in get_args(Normalize):
            raise HeadConfigError(f"normalize must be a known word, got {kind!r}; {nearest(kind, get_args(Normalize))}")
        self.kind = kind
        self.widths = dict(widths)
        self.mean: FloatArray = np.zeros(sum(self.widths.values()), np.float32)

    def fit(self, X: FloatArray) -> Self:
        """Learn the mean (D,) of training rows (n, D)."""
        if self.kind != "none":
            tell_of_narrow(self.kind, self.widths, "normalize=none")
            self.mean = self._rooted(X).mean(axis=0, dtype=np.float64).astype(np.float32)
        return self

    def transform(self, X: FloatArray) -> dict[str, FloatArray]:
        """Return one array (n, d_i) a block."""
        rows = X if self.kind == "none" else self._rooted(X) - self.mean
        parts = {name: rows[:, where] for name, where in slices(self.widths).items()}
        if self.kind == "none":
            return parts
        return {name: part / row_lengths(part) for name, part in parts.items()}

    def state(self) -> dict[str, NDArray[Any]]:
        """Return what was learned, as arrays."""
        return {"mean": self.mean}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Take back what `state` returned."""
        self.mean = expect_shape("mean", arrays["mean"], (len(self.mean),))
        return self

    def _rooted(self, X: FloatArray) -> FloatArray:
        if self.kind == "power":
            return np.copysign(np.sqrt(np.abs(X)), X)
        return X


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
