"""Blocks under weights: what the `weighted` head does to them before the head on top, and coordinates that fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from cer_fusion.fusion.data.blocks import Grid
from cer_fusion.fusion.data.joined import one_blas_thread_each
from cer_fusion.fusion.data.rows import Rows
from cer_fusion.fusion.errors import SweepError
from cer_fusion.fusion.keeping.answers import Classifier
from numpy.typing import NDArray

if TYPE_CHECKING:
    from cer_fusion.fusion.heads.scaling import BlockNormalizer

Float32Array = NDArray[np.float32]


class BlockAxes:
    """An orthogonal change of coordinates within each block.

    Under an L2 penalty that treats the columns of a block alike, a linear head learns the same function from turned
    columns. Along principal axes a block's Gram matrix is diagonal, so that a diagonal preconditioner is a good one. A
    block wider than there are rows is also cut to the space that its rows span, where every solution lies.

    Parameters
    ----------
    parts : sequence of float32 arrays of shape (n, d_b)
        Rows to span every block with: all training rows, since those of a fold lie in their span.
    centres : sequence of float32 arrays of shape (d_b,)
        What was subtracted from the rows before they were scaled; the fold's own centre lies in the span as well.
    """

    def __init__(self, parts: Sequence[Float32Array], centres: Sequence[Float32Array]) -> None:
        if len(parts) != len(centres):
            raise ValueError(f"each of {len(parts)} blocks needs a centre, however: {len(centres)}")
        with one_blas_thread_each() as pool:
            self.axes = list(pool.map(_axes, parts, centres))

    def turned(self, parts: Sequence[Float32Array]) -> list[Float32Array]:
        """Return the blocks (n, r_b) of rows in the new coordinates."""
        return [np.asarray(part @ axes) for part, axes in zip(parts, self.axes, strict=True)]

    def back(self, coef: Float32Array, number: int) -> Float32Array:
        """Return weights (..., r_b) on the turned columns of one block as weights (..., d_b) on its own."""
        return np.asarray(coef @ self.axes[number].T)


def _axes(part: Float32Array, centre: Float32Array) -> Float32Array:
    """Return orthonormal columns (d, r), in the order of falling variance."""
    rows = part.astype(np.float64)
    n, d = rows.shape
    if d <= n + 1:
        return np.ascontiguousarray(np.linalg.eigh(rows.T @ rows)[1][:, ::-1].astype(np.float32))
    span = np.linalg.qr(np.concatenate([rows, centre[None].astype(np.float64)]).T)[0]  # (d, n + 1)
    within = rows @ span
    return np.ascontiguousarray((span @ np.linalg.eigh(within.T @ within)[1][:, ::-1]).astype(np.float32))


class WeighedBlocks:
    """What the `weighted` head in `concat` mode does to blocks before the head on top, parted from their weights.

    Parameters
    ----------
    head : `weighted` head
        Unfitted.
    train : Rows
        For the blocks' names and widths.
    """

    def __init__(self, head: Classifier, train: Rows) -> None:
        params: Any = head.get_params(deep=False)
        if "standardize" in (params["head_params"] or {}):
            raise SweepError("the head on weighed blocks must not standardise them: that would undo the weights")
        self.normalize = params["normalize"]
        self.widths = train.widths

    def scales(self, grid: Grid) -> NDArray[np.float64]:
        """Return what each vector multiplies each normalised block by (w, m).

        Weights of unit mean square; times what gives joined rows of unit-length blocks a mean square of one a column;
        over sqrt(D), by which linear heads divide columns so that one C serves all widths.
        """
        weights = grid.weights / np.sqrt(np.mean(grid.weights**2, axis=1, keepdims=True))
        terms = sum(self.widths.values()) if self.normalize == "none" else len(self.widths)
        return np.asarray(weights / np.sqrt(terms))

    def normalizer(self, learn: Rows) -> BlockNormalizer:
        """Return the normaliser fitted on the rows that are learned from."""
        from cer_fusion.fusion.heads.scaling import BlockNormalizer

        return BlockNormalizer(self.normalize, self.widths).fit(self._entered(learn))

    def parts(self, normalizer: BlockNormalizer, rows: Rows) -> list[Float32Array]:
        """Return the normalised blocks (n, d_b) of rows."""
        return list(normalizer.transform(self._entered(rows)).values())

    def _entered(self, rows: Rows) -> Float32Array:
        """Return the joined rows, checked as the head itself checks them."""
        from cer_fusion.fusion.heads import make_head
        from cer_fusion.fusion.heads.base import entered_with_labels, refuse_unfinite

        head = make_head("weighted", blocks=self.widths)
        matrix, _ = entered_with_labels(head, rows.x(), rows.y)
        head.blocks_ = dict(self.widths)
        refuse_unfinite(head, matrix)
        return np.asarray(matrix)
