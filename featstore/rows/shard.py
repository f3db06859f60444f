"""One shard: a plain HDF5 file that is built in memory and never changes after its commit.

Layout (normative: `docs/format.md`): HDF5 allows a user block in front of its own bytes. Ours is one text line, then a
JSON header with the place, shape and chunk digests of every dataset. A reader of ours checks the header against the
line, and every chunk against the header, and never lets libhdf5 parse bytes it has not verified; any HDF5 reader can
open the same file and find `/ids`, `/image_digest` and `/blocks/<name>`.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import xxhash
from cer_fusion.featstore.errors import RowsError, listing

FORMAT, FORMAT_VERSION = "cer-shard", 1
CHUNK_ROWS = 256
"""Rows a chunk digest covers."""
PAGE = 4096
FIRST_LINE = re.compile(rb"cer-shard (\d{1,9}) ([0-9a-f]{64}) (\d{1,9})\n")
_NAME = re.compile(r"shard-(\d{5,9})-([0-9a-f]{32})\.h5")


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What goes into one shard: rows of one feature, and the samples that could not be embedded."""

    ids: Sequence[str]
    """n sample ids."""
    image_digests: Sequence[str]
    """sha256 in hex of each sample's picture; empty where the picture is not known (imported features)."""
    blocks: Mapping[str, npt.NDArray[Any]]
    """Block name to array of shape (n, d), float32 or float16."""
    quarantined: Sequence[tuple[str, str, str]] = ()
    """(sample id, image digest, reason)."""


def encode(rows: Rows, *, fingerprint: str, index: int, generation: int = 0) -> tuple[str, bytes]:
    """Build a shard in memory.

    Returns
    -------
    str, bytes
        The file's name, which holds the sha256 of its bytes, and the bytes. Equal content gives equal bytes.

    Raises
    ------
    RowsError
        If shapes or dtypes do not fit together, or a value is NaN or Inf.
    """
    _check(rows)
    arrays = {
        "ids": _strings(rows.ids),
        "image_digest": _strings(rows.image_digests),
        **{f"blocks/{name}": np.ascontiguousarray(array) for name, array in rows.blocks.items()},
    }
    digests = {name: _chunk_digests(array) for name, array in arrays.items()}
    size = PAGE
    while True:
        memory, offsets = _build_hdf5(arrays, size, fingerprint, index, generation)
        header = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "fingerprint": fingerprint,
            "index": index,
            "generation": generation,
            "rows": len(rows.ids),
            "chunk_rows": CHUNK_ROWS,
            "segments": {
                name: {
                    "offset": offsets.get(name, 0),
                    "shape": list(array.shape),
                    "dtype": array.dtype.str,
                    "xxh3_128": digests[name],
                }
                for name, array in arrays.items()
            },
            "quarantined": [list(entry) for entry in rows.quarantined],
        }
        text = json.dumps(header, ensure_ascii=False, allow_nan=False).encode()
        line = f"{FORMAT} {FORMAT_VERSION} {hashlib.sha256(text).hexdigest()} {len(text)}\n".encode()
        if len(line) + len(text) < size:
            break
        while size <= len(line) + len(text):
            size *= 2
    memory.seek(0)
    memory.write(line + text + b"\n")
    data = memory.getvalue()
    return f"shard-{index:05d}-{hashlib.sha256(data).hexdigest()[:32]}.h5", data


def parse_name(name: str) -> tuple[int, str] | None:
    """(index, 32 hex digits) of a shard's file name, or None for any other file."""
    match = _NAME.fullmatch(name)
    return (int(match[1]), match[2]) if match else None


def _check(rows: Rows) -> None:
    n = len(rows.ids)
    if len(rows.image_digests) != n:
        raise RowsError(f"expected {n} image digests for {n} ids, however: {len(rows.image_digests)}")
    for name, array in rows.blocks.items():
        if array.ndim != 2 or array.shape[0] != n:
            raise RowsError(f"block {name!r} must have shape ({n}, d) for {n} ids, however: {array.shape}")
        if array.dtype not in (np.float32, np.float16):
            raise RowsError(f"block {name!r} must be float32 or float16, however: {array.dtype}")
        bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
        if len(bad):
            raise RowsError(
                f"block {name!r} has NaN or Inf in {len(bad)} of {n} rows: {listing(rows.ids[int(i)] for i in bad)}\n"
                f"  check the weights, and the precision: float16 overflows above 65504"
            )


def _build_hdf5(
    arrays: Mapping[str, npt.NDArray[Any]], user_block: int, fingerprint: str, index: int, generation: int
) -> tuple[io.BytesIO, dict[str, int]]:
    """The HDF5 file behind an empty user block, and where each dataset lies in it."""
    memory = io.BytesIO()
    offsets = {}
    with h5py.File(
        memory,
        "w",
        libver=("v110", "v110"),
        userblock_size=user_block,
        alignment_threshold=PAGE,
        alignment_interval=PAGE,
    ) as file:
        file.attrs["format"] = FORMAT
        file.attrs["format_version"] = FORMAT_VERSION
        file.attrs["fingerprint"] = fingerprint
        file.attrs["index"] = index
        file.attrs["generation"] = generation
        for name, array in arrays.items():
            is_text = array.dtype.kind == "S"
            kind = h5py.string_dtype("utf-8", array.dtype.itemsize) if is_text else array.dtype
            dataset = file.create_dataset(name, shape=array.shape, dtype=kind, track_times=False)
            if array.size:
                dataset[...] = array.astype(kind) if is_text else array
                offsets[name] = dataset.id.get_offset()
    return memory, offsets


def _strings(texts: Sequence[str]) -> npt.NDArray[np.bytes_]:
    encoded = [text.encode() for text in texts]
    width = max([1, *map(len, encoded)])
    return np.array(encoded, dtype=f"S{width}")


def _chunk_digests(array: npt.NDArray[Any]) -> list[str]:
    return [
        xxhash.xxh3_128_hexdigest(array[start : start + CHUNK_ROWS].view(np.uint8).data)
        for start in range(0, len(array), CHUNK_ROWS)
    ]
