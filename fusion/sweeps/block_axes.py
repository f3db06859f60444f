"""Blocks turned to their principal axes: the same problems for any block-wise penalty, and far rounder ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from cer_fusion.fusion.data.products import one_blas_thread_each
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]


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

    def __init__(self, parts: Sequence[FloatArray], centres: Sequence[FloatArray]) -> None:
        if len(parts) != len(centres):
            raise ValueError(f"each of {len(parts)} blocks needs a centre, however: {len(centres)}")
        with one_blas_thread_each() as pool:
            self.axes = list(pool.map(_axes, parts, centres))

    def turned(self, parts: Sequence[FloatArray]) -> list[FloatArray]:
        """Return the blocks (n, r_b) of rows in the new coordinates."""
        return [np.asarray(part @ axes) for part, axes in zip(parts, self.axes, strict=True)]

    def back(self, coef: FloatArray, number: int) -> FloatArray:
        """Return weights (..., r_b) on the turned columns of one block as weights (..., d_b) on its own."""
        return np.asarray(coef @ self.axes[number].T)


def _axes(part: FloatArray, centre: FloatArray) -> FloatArray:
    """Return orthonormal columns (d, r), in the order of falling variance."""
    rows = part.astype(np.float64)
    n, d = rows.shape
    if d <= n + 1:
        return np.ascontiguousarray(np.linalg.eigh(rows.T @ rows)[1][:, ::-1].astype(np.float32))
    span = np.linalg.qr(np.concatenate([rows, centre[None].astype(np.float64)]).T)[0]  # (d, n + 1)
    within = rows @ span
    return np.ascontiguousarray((span @ np.linalg.eigh(within.T @ within)[1][:, ::-1]).astype(np.float32))
