"""Pieces: a block read some rows at a time, so that it may stay on the disk however long it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

PIECE = 2048
"""Rows read at once."""


def places(n: int) -> Iterator[slice]:
    """Yield where the pieces of so many rows lie."""
    for start in range(0, n, PIECE):
        yield slice(start, min(start + PIECE, n))


@dataclass(frozen=True, eq=False)
class Centred:
    """A block (n, d), an array or a map of one, whose pieces come with a row taken off."""

    block: Any
    """The block."""
    mean: FloatArray
    """(d,) what is taken off each row."""

    @classmethod
    def of(cls, block: Any) -> Centred:
        """Take the block's own mean off."""
        return cls(block, mean_row(block))

    @property
    def shape(self) -> tuple[int, int]:
        """(n, d)."""
        n, d = self.block.shape
        return int(n), int(d)

    def piece(self, where: slice) -> FloatArray:
        """Read some rows: (m, d) float64."""
        return np.asarray(np.asarray(self.block[where], np.float64) - self.mean)


def mean_row(block: Any) -> FloatArray:
    """Return the mean row of a block, (d,)."""
    total = np.zeros(block.shape[1])
    for where in places(block.shape[0]):
        total += np.asarray(block[where], np.float64).sum(axis=0)
    return np.asarray(total / block.shape[0])
