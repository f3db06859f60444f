"""Other ways to keep the same rows, each written as its users write it when they want rows back quickly.

A peer writes float32 rows (n, d) into an empty folder, and opens them for reading. Chunks are whole rows, 256 at a time
like ours, so that a random row costs nobody more than one small chunk.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchmarks.synthetic import empty_feature, ids_of, rows_of
from cer_fusion.featstore import Store

CHUNK_ROWS, SHARD_ROWS = 256, 8192


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Rows that were opened for reading."""

    whole: Callable[[], np.ndarray]
    """All rows, (n, d), as an array in memory."""
    one: Callable[[int], np.ndarray]
    """One row, (d,)."""
    some: Callable[[np.ndarray], np.ndarray]
    """The rows at these positions, in this order."""


@dataclass(frozen=True, kw_only=True)
class Peer:
    """One way to keep rows."""

    name: str
    write: Callable[[Path, np.ndarray], None]
    open: Callable[[Path], Reader]
    needs: str = ""
    """A library that is not always there."""


def peers() -> list[Peer]:
    """All of them, ours first."""
    return [
        Peer(name="cer-fusion", write=_write_ours, open=_open_ours),
        Peer(name="np.save and np.memmap", write=lambda f, rows: np.save(f / "rows.npy", rows), open=_open_npy),
        Peer(name="h5py, contiguous", write=_write_h5, open=_open_h5),
        Peer(
            name="h5py, chunked, gzip",
            write=lambda f, rows: _write_h5(f, rows, chunks=(CHUNK_ROWS, rows.shape[1]), compression="gzip"),
            open=_open_h5,
        ),
        Peer(name="Zarr 3, default codecs", write=_write_zarr, open=_open_zarr, needs="zarr"),
        Peer(
            name="Zarr 3, uncompressed",
            write=lambda f, rows: _write_zarr(f, rows, compressors=None),
            open=_open_zarr,
            needs="zarr",
        ),
        Peer(name="Zarr 3, crc32c", write=_write_zarr_checked, open=_open_zarr, needs="zarr"),
        Peer(name="Lance", write=_write_lance, open=_open_lance, needs="lance"),
        Peer(name="Parquet", write=_write_parquet, open=_open_parquet, needs="pyarrow"),
        Peer(
            name="Parquet, page checksums",
            write=lambda f, rows: _write_parquet(f, rows, write_page_checksum=True),
            open=lambda f: _open_parquet(f, page_checksum_verification=True),
            needs="pyarrow",
        ),
    ]


def peer(name: str) -> Peer:
    """The peer of that name."""
    return next(p for p in peers() if p.name == name)


def _write_ours(folder: Path, rows: np.ndarray) -> None:
    ids = ids_of(len(rows))
    _, feature = empty_feature(folder, ids, rows.shape[1])
    for index, start in enumerate(range(0, len(rows), SHARD_ROWS)):
        part = slice(start, start + SHARD_ROWS)
        feature.commit(rows_of(ids[part], rows[part]), index=index, generation=0)


def _open_ours(folder: Path) -> Reader:
    store = Store(folder / "store")
    block = store.view(["f"], mapped=True).blocks["f"]
    return Reader(
        whole=lambda: np.asarray(store.view(["f"]).blocks["f"]),
        one=lambda i: np.asarray(block[i]),
        some=lambda at: np.asarray(block[at]),
    )


def _open_npy(folder: Path) -> Reader:
    mapped = np.load(folder / "rows.npy", mmap_mode="r")
    return Reader(
        whole=lambda: np.array(mapped), one=lambda i: np.array(mapped[i]), some=lambda at: np.asarray(mapped[at])
    )


def _write_h5(folder: Path, rows: np.ndarray, **options: Any) -> None:
    with h5py.File(folder / "rows.h5", "w") as file:
        file.create_dataset("rows", data=rows, **options)


def _open_h5(folder: Path) -> Reader:
    rows = h5py.File(folder / "rows.h5", "r")["rows"]

    def some(at: np.ndarray) -> np.ndarray:
        distinct, back = np.unique(at, return_inverse=True)  # h5py wants them in rising order
        return rows[distinct][back]

    return Reader(whole=lambda: rows[:], one=lambda i: rows[i], some=some)


def _write_zarr(folder: Path, rows: np.ndarray, **options: Any) -> None:
    zarr = importlib.import_module("zarr")
    zarr.create_array(folder / "rows.zarr", data=rows, chunks=(CHUNK_ROWS, rows.shape[1]), **options)


def _write_zarr_checked(folder: Path, rows: np.ndarray) -> None:
    _write_zarr(folder, rows, compressors=[importlib.import_module("zarr").codecs.Crc32cCodec()])


def _open_zarr(folder: Path) -> Reader:
    rows = importlib.import_module("zarr").open_array(folder / "rows.zarr", mode="r")
    return Reader(whole=lambda: rows[:], one=lambda i: rows[i], some=lambda at: rows.oindex[at])


def _table(rows: np.ndarray) -> Any:
    arrow = importlib.import_module("pyarrow")
    column = arrow.FixedSizeListArray.from_arrays(arrow.array(rows.reshape(-1)), rows.shape[1])
    return arrow.table({"id": ids_of(len(rows)), "rows": column})


def _array(table: Any) -> np.ndarray:
    column = table.column("rows").combine_chunks()
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)


def _write_lance(folder: Path, rows: np.ndarray) -> None:
    importlib.import_module("lance").write_dataset(_table(rows), folder / "rows.lance")


def _open_lance(folder: Path) -> Reader:
    rows = importlib.import_module("lance").dataset(folder / "rows.lance")
    return Reader(
        whole=lambda: _array(rows.to_table(columns=["rows"])),
        one=lambda i: _array(rows.take([i], columns=["rows"]))[0],
        some=lambda at: _array(rows.take(at.tolist(), columns=["rows"])),
    )


def _write_parquet(folder: Path, rows: np.ndarray, **options: Any) -> None:
    parquet = importlib.import_module("pyarrow.parquet")
    path = folder / "rows.parquet"
    parquet.write_table(_table(rows), path, row_group_size=CHUNK_ROWS, use_dictionary=False, **options)


def _open_parquet(folder: Path, **options: Any) -> Reader:
    rows = importlib.import_module("pyarrow.parquet").ParquetFile(folder / "rows.parquet", **options)

    def some(at: np.ndarray) -> np.ndarray:
        groups, back = np.unique(at // CHUNK_ROWS, return_inverse=True)
        found = _array(rows.read_row_groups(groups.tolist(), columns=["rows"]))
        return found[back * CHUNK_ROWS + at % CHUNK_ROWS]  # only the last group of all may be short

    return Reader(whole=lambda: _array(rows.read(columns=["rows"])), one=lambda i: some(np.array([i]))[0], some=some)
