"""Rows of one block loaded into memory: shards are read and verified in parallel, straight into place."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
from cer_fusion.featstore.rows.shard_reader import ShardHeader, read_into, read_segment


def load_rows(
    headers: Sequence[ShardHeader],
    dataset: str,
    shard: npt.NDArray[np.int64],
    row: npt.NDArray[np.int64],
    *,
    verify: bool = True,
) -> npt.NDArray[np.float32]:
    """Read rows of shards as one float32 array (n, d).

    Parameters
    ----------
    headers : sequence of ShardHeader
    dataset : str
        `blocks/<name>`.
    shard, row : int64 arrays of shape (n,)
        Position in `headers`, and row in that shard, of each row wanted.
    verify : bool
        Check every chunk that is read against its digest.

    Raises
    ------
    DamagedShardError
    """
    out = np.empty((len(row), headers[0].segments[dataset].shape[1]), dtype=np.float32)

    def load_shard(number: np.int64) -> None:
        header = headers[int(number)]
        at = np.flatnonzero(shard == number)
        rows = row[at]
        in_order = at[-1] - at[0] == len(at) - 1 and bool((np.diff(rows) == 1).all())
        whole = in_order and len(at) == header.rows
        if whole and header.segments[dataset].dtype == out.dtype.str:
            read_into(header, dataset, out[at[0] : at[-1] + 1], verify=verify)
        else:
            stored: npt.NDArray[Any] = read_segment(header, dataset, verify=verify)
            out[at] = stored[rows]

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        list(pool.map(load_shard, np.unique(shard)))
    return out
