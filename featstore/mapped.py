"""Rows of one block, mapped from the shards instead of loaded: opens at once, reads what is touched."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from featstore.errors import IncompleteError
from featstore.mapping import map_file
from featstore.shard_reader import ShardHeader, verify_chunk

FloatArray = npt.NDArray[np.float32]
_PIECE_ROWS = 2048
"""Rows that one thread copies at a time."""


class MappedBlock:
    """An (n, d) float32 array whose rows stay on the disk until they are asked for.

    Indexing with a number, a slice, a mask or an array of numbers gives an ordinary array; rows that lie side by side
    in one float32 shard come as a read-only array on the file itself, without a copy. Each chunk of rows is verified
    against its digest the first time it is touched. `np.asarray(block)` loads everything, `take` nothing.

    Parameters
    ----------
    dataset : MappedDataset
        Where the rows are.
    shard, row : int64 arrays of shape (n,)
        Which shard, and which row of it, each row of this block is.
    """

    dtype = np.dtype(np.float32)
    ndim = 2

    def __init__(self, dataset: MappedDataset, shard: npt.NDArray[np.int64], row: npt.NDArray[np.int64]) -> None:
        self._dataset = dataset
        self._shard = shard
        self._row = row
        self.shape = (len(row), dataset.width)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> FloatArray:
        if isinstance(key, tuple):
            rows, *columns = key
            found: FloatArray = self[rows][(*(() if isinstance(rows, int | np.integer) else (slice(None),)), *columns)]
            return found
        places, chunks = self._places
        chunk = chunks[key]  # raises IndexError as an array does
        if isinstance(key, int | np.integer):
            if not self._dataset.intact[chunk]:
                self._dataset.verify(np.array([chunk]))
            return self._dataset.rows_at(places[key])
        intact = self._dataset.intact[chunk]
        if not intact.all():
            self._dataset.verify(np.unique(chunk[~intact]))
        if isinstance(key, slice) and (beside := self._side_by_side(key)) is not None:
            return beside
        return self._dataset.rows_at(places[key])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("a mapped block cannot be turned into an array without copying")
        out = np.empty(self.shape, dtype=dtype or np.float32)
        pieces = [slice(start, start + _PIECE_ROWS) for start in range(0, len(self), _PIECE_ROWS)]

        def copy_piece(piece: slice) -> None:
            out[piece] = self[piece]

        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            list(pool.map(copy_piece, pieces))
        return out

    def take(self, rows: npt.NDArray[np.int64]) -> MappedBlock:
        """The block of these rows alone, still mapped; what was verified stays so."""
        return MappedBlock(self._dataset, self._shard[rows], self._row[rows])

    @functools.cached_property
    def _places(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Of each row, its place in the dataset's memory and its chunk."""
        return self._dataset.places(self._shard, self._row)

    @functools.cached_property
    def _breaks(self) -> npt.NDArray[np.int64]:
        """Positions whose next row does not follow in the file."""
        return np.flatnonzero(np.diff(self._places[0]) != self._dataset.step)

    def _side_by_side(self, key: slice) -> FloatArray | None:
        """The rows of a slice as they lie in the file, if they lie there one after the other as float32."""
        start, stop, step = key.indices(len(self))
        if step != 1 or stop - start < 2 or self._dataset.stored != self.dtype:
            return None
        first_break = np.searchsorted(self._breaks, start)
        if first_break < len(self._breaks) and self._breaks[first_break] < stop - 1:
            return None
        return self._dataset.run(self._places[0][start], stop - start)


class MappedDataset:
    """One dataset of a feature's shards, seen as one piece of memory.

    The shards are mapped at addresses of the system's choosing. A row is memory at a known address, so all rows of all
    shards are rows of one strided array that starts at the lowest address, with a step that divides every distance:
    gathering rows from many shards is then one indexing operation. Only addresses inside the maps are ever used.

    Parameters
    ----------
    headers : sequence of ShardHeader
        Of all shards, verified.
    name : str
        `blocks/<name>`.
    files : MappedFiles
        The maps, shared with the feature's other blocks.
    """

    def __init__(self, headers: Sequence[ShardHeader], name: str, files: MappedFiles) -> None:
        self.headers = headers
        self.name = name
        self._files = files
        chunks = [len(header.segments[name].digests) for header in headers]
        self._first_chunk = np.cumsum([0, *chunks])
        self.intact = np.zeros(self._first_chunk[-1], dtype=bool)
        segment = headers[0].segments[name]
        self.stored = np.dtype(segment.dtype)
        self.width = segment.shape[1]

    @functools.cached_property
    def step(self) -> int:
        """Distance of two rows that lie side by side, in rows of `_memory`."""
        return self.width * self.stored.itemsize // self._memory.strides[0]

    def places(
        self, shard: npt.NDArray[np.int64], row: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Of rows of shards: their places in memory, and their chunks."""
        starts = (self._addresses - self._lowest) // self._memory.strides[0]
        chunk_rows = np.array([header.chunk_rows for header in self.headers])
        return starts[shard] + row * self.step, self._first_chunk[shard] + row // chunk_rows[shard]

    def rows_at(self, places: npt.NDArray[np.int64]) -> FloatArray:
        """Rows at these places; a copy, but for a single float32 row."""
        found: FloatArray = self._memory[places].astype(np.float32, copy=False)
        return found

    def run(self, place: np.int64, n: int) -> FloatArray:
        """n rows that lie side by side, as they lie there."""
        shape, strides = (n, self.width), (self.width * self.stored.itemsize, self.stored.itemsize)
        first = self._memory[int(place) :]
        return np.lib.stride_tricks.as_strided(first, shape=shape, strides=strides, writeable=False)

    def verify(self, chunks: npt.NDArray[np.int64]) -> None:
        """Check chunks against their digests, and remember that they are right.

        Raises
        ------
        DamagedShardError
        """
        for chunk in chunks.tolist():
            shard = int(np.searchsorted(self._first_chunk, chunk, side="right")) - 1
            verify_chunk(self.headers[shard], self.name, chunk - int(self._first_chunk[shard]), self._segments[shard])
            self.intact[chunk] = True

    @functools.cached_property
    def _segments(self) -> list[npt.NDArray[Any]]:
        return [self._files.segment(number, self.name) for number in range(len(self.headers))]

    @functools.cached_property
    def _addresses(self) -> npt.NDArray[np.int64]:
        """Of each shard's first row; of a shard without rows, some other shard's."""
        found = [part.ctypes.data if part.size else 0 for part in self._segments]
        return np.array([address or max(found) for address in found], dtype=np.int64)

    @property
    def _lowest(self) -> int:
        return int(self._addresses.min())

    @functools.cached_property
    def _memory(self) -> npt.NDArray[Any]:
        """All rows of all shards as rows of one read-only array, with a step that divides every distance."""
        parts = [part for part in self._segments if part.size]
        if not parts:
            return np.empty((0, self.width), dtype=self.stored)
        row_bytes = self.width * self.stored.itemsize
        step = math.gcd(row_bytes, *(self._addresses - self._lowest).tolist())
        end = max(part.ctypes.data + part.nbytes for part in parts)
        shape = ((end - self._lowest - row_bytes) // step + 1, self.width)
        return np.asarray(_Memory(parts, self._lowest, shape, (step, self.stored.itemsize)))


class _Memory:
    """Memory that NumPy may look at; an array of it keeps all maps alive, so none is unmapped under a row in use."""

    def __init__(
        self, maps: Sequence[npt.NDArray[Any]], address: int, shape: tuple[int, int], strides: tuple[int, int]
    ) -> None:
        self.maps = maps
        self.__array_interface__ = {
            "version": 3,
            "typestr": maps[0].dtype.str,
            "data": (address, True),  # True: read-only
            "shape": shape,
            "strides": strides,
        }


class MappedFiles:
    """The shards' files, each mapped once, when it is first needed."""

    def __init__(self, headers: Sequence[ShardHeader]) -> None:
        self._headers = headers
        self._maps: dict[int, npt.NDArray[np.uint8]] = {}

    def segment(self, number: int, name: str) -> npt.NDArray[Any]:
        """One dataset of one shard, unverified.

        Raises
        ------
        IncompleteError
            If the shard was compacted away since the headers were read.
        """
        header = self._headers[number]
        segment = header.segments[name]
        if not segment.nbytes:
            return np.empty(segment.shape, dtype=segment.dtype)
        if number not in self._maps:
            try:
                self._maps[number] = map_file(header.path)
            except FileNotFoundError:
                raise IncompleteError(
                    f"shard {header.path.name} went away since this view was opened: its rows were compacted\n"
                    f"  in folder: {header.path.parent}\n"
                    f"  open the view again"
                ) from None
        found: npt.NDArray[Any] = self._maps[number][segment.offset : segment.offset + segment.nbytes]
        return found.view(segment.dtype).reshape(segment.shape)
