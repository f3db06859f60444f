"""The join of blocks in memory or on the disk, in pieces of bounded size."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Final, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...kit.machine import thread_pools, whole_cores
from ...kit.table import shortened
from ..errors import BlockError
from .blocks import FloatArray, slices

CHUNK: Final = 256
"""Rows that lie together: stores verify as many at once, and a piece begins at a multiple of it."""

PIECE_BYTES: Final = 2**23
"""Size of a piece as float32. A few are held at a time, and a few copies of each while they are worked on."""

LARGEST_PIECE: Final = 8192
"""Rows of a piece at most, however narrow they are."""

WORKERS: Final = min(4, whole_cores())
"""Threads that read pieces; no more, so that memory does not grow with the machine."""

T = TypeVar("T")


class LazyBlock(Protocol):
    """What a block must offer that stays on the disk: a featstore map does."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, d)."""

    def __getitem__(self, key: Any) -> Any:
        """Return rows as float32: a slice or an array of row numbers gives (m, d)."""


class JoinedRows:
    """The join of several blocks, (n, D) float32 as `concat` gives it, read only where it is looked at.

    Indexing with a slice, a mask or an array of row numbers reads those rows, (m, D); a number gives one row (D,).
    `numpy.asarray` reads all. Rows next to each other are read fast; single ones here and there are slow from a disk.

    Parameters
    ----------
    blocks : dict of block name to array or map of shape (n, d_i)
        Rows aligned by sample, joined in dict order.

    Raises
    ------
    BlockError
        If there is no block, one has not two dimensions, or the row counts differ.
    """

    dtype: Final = np.dtype(np.float32)
    ndim: Final = 2

    def __init__(self, blocks: Mapping[str, Any]) -> None:
        if not blocks:
            raise BlockError("there is no block to join: give at least one named block of shape (n, d)")
        for name, block in blocks.items():
            if len(block.shape) != 2:
                raise BlockError(f"block {name!r} must have shape (n, d), however its shape is {block.shape}")
        rows = {name: int(block.shape[0]) for name, block in blocks.items()}
        if len(set(rows.values())) > 1:
            listed = ", ".join(f"{name}={count}" for name, count in rows.items())
            raise BlockError(f"blocks must have the same rows, however: {listed} rows; join them by sample_id first")
        self.blocks = dict(blocks)
        self.widths = {name: int(block.shape[1]) for name, block in blocks.items()}
        self.shape = (next(iter(rows.values())), sum(self.widths.values()))

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        """Return their size and blocks; nothing is read."""
        widths = shortened(f"{name} {width:,}" for name, width in self.widths.items())
        return f"<JoinedRows: {self.shape[0]:,} rows of {self.shape[1]:,} columns, {widths}; on the disk>"

    @property
    def nbytes(self) -> int:
        """Bytes that all rows would take in memory."""
        return self.shape[0] * self.shape[1] * self.dtype.itemsize

    def __getitem__(self, key: Any) -> FloatArray:
        if isinstance(key, int | np.integer):
            row: FloatArray = self[np.array([range(len(self))[key]])][0]
            return row
        count = len(range(len(self))[key]) if isinstance(key, slice) else len(np.arange(len(self))[key])
        joined = np.empty((count, self.shape[1]), np.float32)
        for name, where in slices(self.widths).items():
            joined[:, where] = self.blocks[name][key]
        return joined

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("joined rows cannot be turned into an array without copying")
        joined = np.empty(self.shape, np.float32)
        for where, rows in self.pieces():
            joined[where] = rows
        return joined if dtype is None else joined.astype(dtype, copy=False)

    def take(self, where: Any) -> JoinedRows:
        """Return the rows at these positions, or where a mask is true, without reading them."""
        return JoinedRows(taken(self.blocks, where))

    def pieces(self, rows: int | None = None) -> Iterator[tuple[slice, FloatArray]]:
        """Yield all rows in order, so many at a time: where they stand, and what they are.

        `rows` is what `PIECE_BYTES` hold when left out.
        """
        for where in self.places(rows):
            yield where, self[where]

    def places(self, rows: int | None = None) -> Iterator[slice]:
        """Yield where the pieces stand, without reading them."""
        step = rows or min(max(PIECE_BYTES // (4 * self.shape[1]) // CHUNK * CHUNK, CHUNK), LARGEST_PIECE)
        for start in range(0, len(self), step):
            yield slice(start, min(start + step, len(self)))


Matrix: TypeAlias = FloatArray | JoinedRows


class TakenBlock:
    """Some rows of a block that stays where it is: (m, d), in the order of `positions`."""

    dtype: Final = np.dtype(np.float32)
    ndim: Final = 2

    def __init__(self, block: LazyBlock, positions: NDArray[np.int64]) -> None:
        inner = block if isinstance(block, TakenBlock) else None  # taken from what was taken: one step, not two
        self.block: LazyBlock = block if inner is None else inner.block
        self.positions: NDArray[np.int64] = positions if inner is None else inner.positions[positions]
        self.shape = (len(self.positions), int(block.shape[1]))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> FloatArray:
        rows: FloatArray = self.block[self.positions[key]]
        return rows

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("taken rows cannot be turned into an array without copying")
        return np.asarray(self[:], dtype)


def taken(blocks: Mapping[str, Any], where: Any) -> dict[str, Any]:
    """Return the rows of all blocks at these positions, or where a mask is true; what is lazy stays lazy."""
    positions = positions_of(where, next(iter(blocks.values())).shape[0])
    return {
        name: block[positions] if isinstance(block, np.ndarray) else TakenBlock(block, positions)
        for name, block in blocks.items()
    }


def rows_at(X: Matrix, where: Any) -> Matrix:
    """Return the rows (m, D) at these positions, or where a mask is true: lazy rows stay lazy."""
    return X.take(where) if isinstance(X, JoinedRows) else X[where]


def columns_of(X: Matrix, widths: Mapping[str, int], block: str) -> Matrix:
    """Return one block (n, d) of joined rows (n, D): lazy rows stay lazy, an array is copied."""
    if isinstance(X, JoinedRows):
        return JoinedRows({block: X.blocks[block]})
    return np.ascontiguousarray(X[:, slices(widths)[block]])


def positions_of(where: Any, count: int) -> NDArray[np.int64]:
    """Return the row numbers that a mask, a slice or positions choose among so many rows."""
    return np.arange(count)[where if isinstance(where, slice) else np.asarray(where)]


def each_piece(rows: Matrix, work: Callable[[int, FloatArray], T]) -> Iterator[T]:
    """Yield ``work(start, piece)`` for every piece in order; an array is one piece, from row 0.

    Pieces of lazy rows are read and worked on by `WORKERS` threads, as many ahead of whoever asks. NumPy's loops
    release the interpreter's lock, so `work` of them uses several cores. What comes out does not depend on the number
    of threads.
    """
    if not isinstance(rows, JoinedRows):
        yield work(0, rows)
        return

    def read(where: slice) -> T:
        return work(where.start, rows[where])

    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(WORKERS) as pool:
        for where in rows.places():
            if len(waiting) >= WORKERS:
                yield waiting.popleft().result()
            waiting.append(pool.submit(read, where))
        while waiting:
            yield waiting.popleft().result()


PIECES: Final = 8
"""Pieces of a product, dealt over the threads: a thread that other work holds up holds up one of them."""

LEAST: Final = 2**24
"""Multiplications below which a product is not worth dividing."""

Product = Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]


@contextmanager
def one_blas_thread_each() -> Iterator[ThreadPoolExecutor]:
    """Yield as many threads as BLAS has, which meanwhile computes with one for each of them.

    The threads of OpenBLAS spin while they wait for each other, whatever the environment says: beside other work a
    product takes several times as long, and a decomposition fifty times. These sleep.
    """
    blas = thread_pools().select(user_api="blas")
    threads = max((library["num_threads"] for library in blas.info()), default=1)
    with blas.limit(limits=1), ThreadPoolExecutor(threads) as pool:
        yield pool


def divided_product(pool: ThreadPoolExecutor) -> Product:
    """Return what multiplies (m, d) by (d, n) in the threads of `one_blas_thread_each`.

    The pieces, and so the sums, do not depend on the number of threads.
    """

    def product(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
        if a.size * b.shape[1] < LEAST:
            return np.asarray(a @ b)
        out = np.empty((len(a), b.shape[1]), np.result_type(a, b))

        def piece(start: int, stop: int) -> None:
            np.matmul(a, b[:, start:stop], out=out[:, start:stop])

        ends = np.linspace(0, b.shape[1], PIECES + 1).astype(int).tolist()
        for done in [pool.submit(piece, start, stop) for start, stop in pairwise(ends)]:
            done.result()
        return out

    return product
