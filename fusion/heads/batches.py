"""Where the batches of a training come from: rows in memory, or rows that pass through it in windows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Final, Protocol, TypeAlias

import numpy as np
import torch
from cer_fusion.fusion.data.blocks import FloatArray
from cer_fusion.fusion.data.joined import CHUNK, JoinedRows, Matrix, each_piece, rows_at
from numpy.typing import NDArray
from torch import Tensor

WINDOW_BYTES: Final = 2**28
"""Rows of a window, counted as float32. The order of streamed batches, and so the trained weights, depend on it."""

Ready: TypeAlias = Callable[[FloatArray], FloatArray]
"""Turns rows (m, D) into what the first layer takes, each row for itself."""


class Batches(Protocol):
    """Rows (n, D) ready for the first layer, on the device."""

    count: int
    """Number of rows n."""

    window: int
    """Rows shuffled at a time; 0 for all."""

    def shuffled(self, size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield every row once, in batches of `size` (the last may be smaller): rows (b, D) and their numbers (b,)."""

    def in_order(self) -> Iterator[Tensor]:
        """Yield all rows in order, in one or more parts."""


def batches_of(X: Matrix, ready: Ready, *, device: torch.device, dtype: torch.dtype) -> Batches:
    """Return the batches of rows (n, D): an array's from memory, lazy rows' in windows."""
    if isinstance(X, JoinedRows):
        return StreamedBatches(X, ready, device=device, dtype=dtype, window_bytes=WINDOW_BYTES)
    return HeldBatches(ready(X), device=device, dtype=dtype)


def part(X: Matrix, where: NDArray[np.bool_]) -> Matrix:
    """Return the rows (m, D) of rows (n, D) that a mask (n,) names: lazy ones stay lazy."""
    return X if where.all() else rows_at(X, where)


class HeldBatches:
    """Batches of rows that stand in memory whole; an epoch is one permutation of them."""

    def __init__(self, X: FloatArray, *, device: torch.device, dtype: torch.dtype) -> None:
        self.rows = torch.from_numpy(np.require(X, requirements=["C", "W"])).to(device=device, dtype=dtype)
        self.count, self.window = len(X), 0

    def shuffled(self, size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Batches`."""
        order = torch.randperm(self.count, generator=generator).to(self.rows.device)
        for index in order.split(size):  # type: ignore[no-untyped-call]
            yield torch.index_select(self.rows, 0, index), index

    def in_order(self) -> Iterator[Tensor]:
        """See `Batches`."""
        yield self.rows


class StreamedBatches:
    """Batches of rows that do not fit in memory.

    An epoch shuffles chunks of `CHUNK` neighbouring rows, fills a window with as many chunks as it holds, shuffles its
    rows and hands them out; what is left of a batch goes into the next window, so no row is dropped and none comes
    twice. Rows are read and made ready anew in every epoch.

    Parameters
    ----------
    X : JoinedRows of shape (n, D)
    ready : callable
    device, dtype
        Of the batches, and of the window.
    window_bytes : int
        Rows of a window, counted as float32; a window holds a chunk at least.
    """

    def __init__(
        self, X: JoinedRows, ready: Ready, *, device: torch.device, dtype: torch.dtype, window_bytes: int
    ) -> None:
        self.X, self.ready = X, ready
        self.device, self.dtype = device, dtype
        self.count = len(X)
        self.window = max(window_bytes // (4 * X.shape[1]) // CHUNK, 1) * CHUNK

    def shuffled(self, size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Batches`."""
        room = min(self.window, self.count) + size
        rows = torch.empty((room, self.X.shape[1]), dtype=self.dtype, device=self.device)
        numbers = torch.empty(room, dtype=torch.int64, device=self.device)
        chunks = torch.randperm(math.ceil(self.count / CHUNK), generator=generator)
        left = 0
        for first in range(0, len(chunks), self.window // CHUNK):
            chosen = self._rows_of(chunks[first : first + self.window // CHUNK])
            filled = left + len(chosen)
            numbers[left:filled] = torch.from_numpy(chosen)
            self._fill(rows[left:filled], chosen)
            order = torch.randperm(filled, generator=generator).to(self.device)
            last = first + self.window // CHUNK >= len(chunks)
            given = filled if last else filled - filled % size
            for start in range(0, given, size):
                index = order[start : min(start + size, given)]
                yield torch.index_select(rows, 0, index), numbers[index]
            rest = order[given:]
            left = len(rest)
            rows[:left], numbers[:left] = rows[rest], numbers[rest]

    def in_order(self) -> Iterator[Tensor]:
        """See `Batches`."""
        for piece in each_piece(self.X, lambda _, rows: self.ready(rows)):
            yield torch.from_numpy(piece).to(device=self.device, dtype=self.dtype)

    def _rows_of(self, chunks: Tensor) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Return the numbers of the rows of some chunks, rising, as a disk likes them."""
        starts = np.sort(chunks.numpy()) * CHUNK
        found = (starts[:, None] + np.arange(CHUNK)).ravel()
        return found[found < self.count]

    def _fill(self, target: Tensor, chosen: np.ndarray[tuple[int], np.dtype[np.int64]]) -> None:
        start = 0
        for piece in each_piece(self.X.take(chosen), lambda _, rows: self.ready(rows)):
            target[start : start + len(piece)] = torch.from_numpy(piece)
            start += len(piece)
