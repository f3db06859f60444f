"""Rows of one block, mapped from the shards instead of loaded: opens at once, reads what is touched.

On a network file system shards are read instead of mapped: one that another machine removes under a map would end the
process (SIGBUS), and a read says so.
"""

from __future__ import annotations

import errno
import logging
import math
import mmap
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import FeatstoreError, IncompleteError
from .shard import RowReader, ShardHeader, damaged, verify_chunk

FloatArray = npt.NDArray[np.float32]
_NO_FD = {"trackfd": False} if sys.version_info >= (3, 13) else {}  # before 3.13 every map keeps a file open
_PIECE_ROWS = 2048
"""Rows that one thread copies at a time."""
log = logging.getLogger(__name__)


class MappedBlock:
    """An (n, d) float32 array whose rows stay on the disk until they are asked for.

    Indexing with a number, a slice, a mask or an array of numbers gives an ordinary array; rows that lie side by side
    in one float32 shard come as a read-only array on the file itself, without a copy. Each chunk of rows is verified
    against its digest the first time it is touched. `np.asarray(block)` loads everything, `take` nothing.

    Parameters
    ----------
    dataset : MappedDataset or ReadDataset
        Where the rows are.
    shard, row : int64 arrays of shape (n,)
        Which shard, and which row of it, each row of this block is.
    """

    dtype = np.dtype(np.float32)
    ndim = 2

    def __init__(
        self, dataset: MappedDataset | ReadDataset, shard: npt.NDArray[np.int64], row: npt.NDArray[np.int64]
    ) -> None:
        self._dataset = dataset
        self._shard = shard
        self._row = row
        self._places, self._chunks = dataset.places(shard, row)
        self._breaks = np.flatnonzero(np.diff(self._places) != dataset.step)
        """Positions whose next row does not follow in the file."""
        self.shape = (len(row), dataset.width)

    def __reduce__(self) -> tuple[Any, ...]:
        return MappedBlock, (self._dataset, self._shard, self._row)  # places are this process's alone

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> FloatArray:
        if isinstance(key, tuple):
            rows, *columns = key
            found: FloatArray = self[rows][(*(() if isinstance(rows, int | np.integer) else (slice(None),)), *columns)]
            return found
        chunk = self._chunks[key]  # raises IndexError as an array does
        if isinstance(key, int | np.integer):
            if not self._dataset.intact[chunk]:
                self._dataset.verify(np.array([chunk]))
            return self._dataset.rows_at(self._places[key])
        intact = self._dataset.intact[chunk]
        if not intact.all():
            self._dataset.verify(np.unique(chunk[~intact]))
        if isinstance(key, slice) and (beside := self._side_by_side(key)) is not None:
            return beside
        return self._dataset.rows_at(self._places[key])

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

    def _side_by_side(self, key: slice) -> FloatArray | None:
        """The rows of a slice as they lie in the file, if they lie there one after the other as float32."""
        start, stop, step = key.indices(len(self))
        if step != 1 or stop - start < 2 or self._dataset.stored != self.dtype:
            return None
        first_break = np.searchsorted(self._breaks, start)
        if first_break < len(self._breaks) and self._breaks[first_break] < stop - 1:
            return None
        return self._dataset.run(self._places[start], stop - start)


class MappedDataset:
    """One dataset of a feature's shards, seen as one piece of memory.

    The shards are mapped at addresses of the system's choosing. A row is memory at a known address, so all rows of all
    shards are rows of one strided array that starts at the lowest address, with a step that divides every distance:
    gathering rows from many shards is then one indexing operation. Only addresses inside the maps are ever used.

    Threads share it without a lock: all of it is made here, once, but for `intact`, whose flags only ever turn true.

    Parameters
    ----------
    headers : sequence of ShardHeader
        Of all shards, verified; every one has rows.
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
        """Of each chunk, whether it was found to match its digest."""
        segment = headers[0].segments[name]
        self.stored = np.dtype(segment.dtype)
        self.width = segment.shape[1]
        self._segments = [files.segment(number, name) for number in range(len(headers))]
        addresses = np.array([part.ctypes.data for part in self._segments], dtype=np.int64)
        self._memory = _one_array(self._segments, addresses)
        self._starts = (addresses - addresses.min()) // self._memory.strides[0]
        """Of each shard's first row, its place in `_memory`."""
        self.step = self.width * self.stored.itemsize // self._memory.strides[0]
        """Distance of two rows that lie side by side, in rows of `_memory`."""

    def __reduce__(self) -> tuple[Any, ...]:
        return MappedDataset, (self.headers, self.name, self._files)  # addresses are this process's alone

    def places(
        self, shard: npt.NDArray[np.int64], row: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Of rows of shards: their places in memory, and their chunks."""
        chunk_rows = np.array([header.chunk_rows for header in self.headers])
        return self._starts[shard] + row * self.step, self._first_chunk[shard] + row // chunk_rows[shard]

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


class ReadDataset:
    """One dataset of a feature's shards, read when rows are asked for; to a `MappedBlock` the same as `MappedDataset`.

    A chunk is read whole and verified the first time, later the rows asked for alone.

    Parameters
    ----------
    headers : sequence of ShardHeader
        Of all shards, verified; every one has rows.
    name : str
        `blocks/<name>`.
    """

    step = 1

    def __init__(self, headers: Sequence[ShardHeader], name: str) -> None:
        self.headers = headers
        self.name = name
        self._starts = np.cumsum([0, *(header.rows for header in headers)])
        self._reader = RowReader()
        self.intact = np.ones(1, dtype=bool)  # the reader sees to that
        segment = headers[0].segments[name]
        self.stored = np.dtype(segment.dtype)
        self.width = segment.shape[1]

    def __reduce__(self) -> tuple[Any, ...]:
        return ReadDataset, (self.headers, self.name)

    def places(
        self, shard: npt.NDArray[np.int64], row: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Of rows of shards: their numbers counting through all shards, and zeros for their chunks."""
        return self._starts[shard] + row, np.zeros(len(row), dtype=np.int64)

    def rows_at(self, places: npt.NDArray[np.int64]) -> FloatArray:
        """Rows of these numbers.

        Raises
        ------
        DamagedShardError
        IncompleteError
            If a shard was compacted away since the view was opened.
        """
        wanted = np.atleast_1d(places)
        out = np.empty((len(wanted), self.width), dtype=np.float32)
        shard = np.searchsorted(self._starts, wanted, side="right") - 1
        for number in np.unique(shard).tolist():
            at = np.flatnonzero(shard == number)
            try:
                out[at] = self._reader.read(
                    self.headers[number], self.name, (wanted[at] - self._starts[number]).tolist()
                )
            except FileNotFoundError:
                raise _went_away(self.headers[number].path) from None
        return out if np.ndim(places) else out[0]

    def run(self, place: np.int64, n: int) -> FloatArray:
        """n rows that lie side by side."""
        return self.rows_at(np.arange(place, place + n))

    def verify(self, chunks: npt.NDArray[np.int64]) -> None:
        """Do nothing: no row is handed out unverified."""


def _one_array(parts: Sequence[npt.NDArray[Any]], addresses: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """All rows of all parts as rows of one read-only array, with a step that divides every distance."""
    row_bytes = parts[0].strides[0]
    lowest = int(addresses.min())
    step = math.gcd(row_bytes, *(addresses - lowest).tolist())
    end = max(int(address) + part.nbytes for address, part in zip(addresses, parts, strict=True))
    shape = ((end - lowest - row_bytes) // step + 1, parts[0].shape[1])
    return np.asarray(_Memory(parts, lowest, shape, (step, parts[0].dtype.itemsize)))


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
    """The shards' files, each mapped once, when the view is opened: what threads find later never changes.

    Raises
    ------
    FileNotFoundError
        If a shard was compacted away since the headers were read.
    """

    def __init__(self, headers: Sequence[ShardHeader]) -> None:
        self._headers = headers
        self._maps = [map_file(header.path) for header in headers]

    def __reduce__(self) -> tuple[Any, ...]:
        return _mapped_again, (self._headers,)

    def segment(self, number: int, name: str) -> npt.NDArray[Any]:
        """One dataset of one shard, unverified.

        Raises
        ------
        DamagedShardError
            If the file was cut short since its header was read.
        """
        header = self._headers[number]
        segment = header.segments[name]
        found: npt.NDArray[Any] = self._maps[number][segment.offset : segment.offset + segment.nbytes]
        if found.nbytes != segment.nbytes:
            raise damaged(header.path, f"it ends inside its dataset /{name}")
        return found.view(segment.dtype).reshape(segment.shape)


def _mapped_again(headers: Sequence[ShardHeader]) -> MappedFiles:
    """The maps of a block that was sent to another process, or copied.

    Raises
    ------
    IncompleteError
        If a shard was compacted away since the view was opened.
    """
    try:
        return MappedFiles(headers)
    except FileNotFoundError as error:
        raise _went_away(Path(error.filename)) from None


def _went_away(path: Path) -> IncompleteError:
    return IncompleteError(
        f"shard {path.name} went away since this view was opened: its rows were compacted\n"
        f"  in folder: {path.parent}\n"
        f"  open the view again"
    )


def map_file(path: Path) -> npt.NDArray[np.uint8]:
    """Map a whole file read-only, as bytes; it stays mapped while an array of it is alive.

    Raises
    ------
    FeatstoreError
        If the process may not open so many files; the message says what helps.
    """
    try:
        return _mapped(path)
    except OSError as error:
        if error.errno != errno.EMFILE or not _raise_open_files():
            raise
    try:
        return _mapped(path)
    except OSError as error:
        raise FeatstoreError(
            f"cannot map {path.name}: too many open files\n"
            f"  every mapped shard keeps one open: raise the limit (ulimit -n), load the view instead of mapping it, "
            f"or make fewer, larger shards with: cer-feat compact"
        ) from error


def _mapped(path: Path) -> npt.NDArray[np.uint8]:
    fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        if not os.fstat(fd).st_size:
            return np.empty(0, dtype=np.uint8)
        return np.frombuffer(mmap.mmap(fd, 0, access=mmap.ACCESS_READ, **_NO_FD), dtype=np.uint8)
    finally:
        os.close(fd)


def _raise_open_files() -> bool:
    """Lift the soft limit on open files to the hard one, as many programs do at their start; True if that helps."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return False
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return False
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    log.info("limit on open files raised from %d to %d, to map all shards", soft, hard)
    return True
