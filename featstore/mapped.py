"""Rows of one block, mapped from the shards instead of loaded: opens at once, reads what is touched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from featstore.shard_reader import ShardHeader, map_segment, verify_chunk


class MappedBlock:
    """An (n, d) float32 array whose rows stay on the disk until they are asked for.

    Indexing with a number, a slice, a mask or an array of numbers gives an ordinary array. Each chunk of rows is
    verified against its digest the first time it is touched. `np.asarray(block)` loads everything.

    Parameters
    ----------
    headers : sequence of ShardHeader
    name : str
        Dataset in the shards, `blocks/<name>`.
    shard, row : int64 arrays of shape (n,)
        Where each row of this block lies.
    """

    dtype = np.dtype(np.float32)
    ndim = 2

    def __init__(
        self, headers: Sequence[ShardHeader], name: str, shard: npt.NDArray[np.int64], row: npt.NDArray[np.int64]
    ) -> None:
        self._headers = headers
        self._name = name
        self._shard = shard
        self._row = row
        self._maps: dict[int, npt.NDArray[Any]] = {}
        self._intact: dict[int, npt.NDArray[np.bool_]] = {}
        width = headers[0].segments[name].shape[1] if headers else 0
        self.shape = (len(row), width)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> npt.NDArray[np.float32]:
        columns: Any = slice(None)
        if isinstance(key, tuple):
            key, columns = key if len(key) == 2 else (key[0], key[1:])
        if isinstance(key, int | np.integer):
            one: npt.NDArray[np.float32] = self._gather(np.array([range(len(self))[key]]))[0, columns]
            return one
        chosen: npt.NDArray[np.float32] = self._gather(np.arange(len(self))[key])[:, columns]
        return chosen

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("a mapped block cannot be turned into an array without copying")
        return self._gather(np.arange(len(self))).astype(dtype or np.float32, copy=False)

    def _gather(self, chosen: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        out = np.empty((len(chosen), self.shape[1]), dtype=np.float32)
        shards = self._shard[chosen]
        for shard in np.unique(shards):
            at = np.flatnonzero(shards == shard)
            rows = self._row[chosen[at]]
            out[at] = self._verified(int(shard), rows)[rows]
        return out

    def _verified(self, shard: int, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        header = self._headers[shard]
        if shard not in self._maps:
            self._maps[shard] = map_segment(header, self._name)
            self._intact[shard] = np.zeros(len(header.segments[self._name].digests), dtype=bool)
        mapped, intact = self._maps[shard], self._intact[shard]
        chunks = np.unique(rows // header.chunk_rows)
        for number in chunks[~intact[chunks]]:
            verify_chunk(header, self._name, int(number), mapped)
            intact[number] = True
        return mapped
