"""One shard: a plain HDF5 file that is built in memory and never changes after its commit.

Layout (normative: `docs/format.md`): HDF5 allows a user block in front of its own bytes. Ours is one text line, then a
JSON header with the place, shape and chunk digests of every dataset. A reader of ours checks the header against the
line, and every chunk against the header, and never lets libhdf5 parse bytes it has not verified; any HDF5 reader can
open the same file and find `/ids`, `/image_digest` and `/blocks/<name>`.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import itertools
import json
import math
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import xxhash

from ...kit.documents import check_version, parse_json
from ...kit.errors import listing
from ..errors import DamagedShardError, FormatError, NewerFormatError, RowsError
from .files import going_away

FORMAT, FORMAT_VERSION = "cer-shard", 1
CHUNK_ROWS = 256
"""Rows a chunk digest covers."""
PAGE = 4096
_FIRST_LINE = re.compile(rb"cer-shard (\d{1,9}) ([0-9a-f]{64}) (\d{1,9})\n")
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


def is_as_named(path: Path) -> bool:
    """True if a shard's bytes have the sha256 that its name says."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    named = parse_name(path.name)
    return named is not None and digest.startswith(named[1])


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


_MAX_HEADER = 64 * 1024 * 1024
_MAX_CHUNK_ROWS = 2**24


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Where one dataset lies in the file, and the digests of its chunks of rows."""

    offset: int
    shape: tuple[int, ...]
    dtype: str
    digests: tuple[str, ...]

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True, kw_only=True)
class ShardHeader:
    """The verified header of a shard on disk."""

    path: Path
    fingerprint: str
    index: int
    generation: int
    rows: int
    chunk_rows: int
    segments: Mapping[str, Segment]
    quarantined: tuple[tuple[str, str, str], ...] = field(repr=False)


def read_header(path: Path) -> ShardHeader:
    """Read and verify a shard's header; takes well under a millisecond and touches no rows.

    Raises
    ------
    DamagedShardError
        If the header is not what was written.
    FormatError
        If it is of a newer version.
    """
    with _opened(path, getattr(os, "O_NONBLOCK", 0)) as fd:  # a named pipe must not be waited for
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise damaged(path, "it is not a file")
        start, size = _read(fd, PAGE), status.st_size
        match = _FIRST_LINE.match(start)
        if not match:
            raise damaged(path, "its first line is not a shard's")
        length = int(match[3])
        end = match.end() + length
        if length > _MAX_HEADER:
            raise damaged(path, "its header claims an impossible size")
        if end > len(start):
            start += _read(fd, end - len(start))
    text = start[match.end() : end]
    if hashlib.sha256(text).hexdigest() != match[2].decode():
        raise damaged(path, "its header does not match its digest")
    check_version(
        int(match[1]), FORMAT_VERSION, kind=FORMAT, where=str(path), error=FormatError, newer=NewerFormatError
    )
    header = _parse_header(path, text)
    _check_places(header, end, size)
    return header


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | flags)
    try:
        yield fd
    finally:
        os.close(fd)


def _read(fd: int, size: int) -> bytes:
    """The next bytes of a file, fewer only at its end."""
    found = os.read(fd, size)
    while len(found) < size and (more := os.read(fd, size - len(found))):
        found += more
    return found


def read_segment(header: ShardHeader, name: str, *, verify: bool = True) -> npt.NDArray[Any]:
    """Read and verify one whole dataset of a shard, shape and dtype as stored."""
    segment = header.segments[name]
    out = np.empty(segment.shape, dtype=segment.dtype)
    read_into(header, name, out, verify=verify)
    return out


def read_into(header: ShardHeader, name: str, out: npt.NDArray[Any], *, verify: bool = True) -> None:
    """Read one whole dataset into a C-contiguous array of its shape and dtype, verifying chunk by chunk."""
    segment = header.segments[name]
    if not segment.nbytes:
        return
    flat = out.view(np.uint8).reshape(-1) if out.dtype.kind != "S" else out.view(np.uint8)
    with header.path.open("rb", buffering=0) as file:
        file.seek(segment.offset)
        step = _chunk_bytes(segment, header.chunk_rows)
        for number in range(len(segment.digests)):
            part = flat[number * step : (number + 1) * step].data
            _fill(file, part, header, name)
            if verify:
                _check_chunk(header, name, number, part)


def read_rows(header: ShardHeader, name: str, rows: Sequence[int]) -> npt.NDArray[Any]:
    """A few rows of one dataset, their chunks verified."""
    return RowReader().read(header, name, rows)


class RowReader:
    """Reads a few rows of shards at a time: a chunk whole the first time, and verified, later only the rows asked for.

    However rows are picked, no more is read than all chunks once and all rows once.
    """

    def __init__(self) -> None:
        self._intact: dict[tuple[Path, str], npt.NDArray[np.bool_]] = {}

    def read(self, header: ShardHeader, name: str, rows: Sequence[int]) -> npt.NDArray[Any]:
        """Rows of one dataset of a shard, in the order asked for.

        Raises
        ------
        DamagedShardError
        FileNotFoundError
            If the shard went away since its header was read.
        """
        segment = header.segments[name]
        out = np.empty((len(rows), *segment.shape[1:]), dtype=segment.dtype)
        intact = self._intact.setdefault((header.path, name), np.zeros(len(segment.digests), dtype=bool))
        wanted = np.asarray(rows, dtype=np.int64)
        chunk_of = wanted // header.chunk_rows
        row_bytes = segment.nbytes // max(1, segment.shape[0])
        with going_away(header.path), header.path.open("rb", buffering=0) as file:
            for number in np.unique(chunk_of[~intact[chunk_of]]).tolist():
                first = number * header.chunk_rows
                chunk = np.empty((min(header.chunk_rows, header.rows - first), *segment.shape[1:]), dtype=segment.dtype)
                file.seek(segment.offset + first * row_bytes)
                _fill(file, chunk.view(np.uint8).reshape(-1).data, header, name)
                _check_chunk(header, name, number, chunk)
                at = np.flatnonzero(chunk_of == number)
                out[at] = chunk[wanted[at] - first]
                chunk_of[at] = -1
                intact[number] = True
            known = np.flatnonzero(chunk_of >= 0)
            ends = np.flatnonzero((np.diff(known) != 1) | (np.diff(wanted[known]) != 1)) + 1
            for run in np.split(known, ends) if len(known) else ():  # rows that lie side by side, and are wanted so
                file.seek(segment.offset + int(wanted[run[0]]) * row_bytes)
                _fill(file, out[run[0] : run[-1] + 1].view(np.uint8).reshape(-1).data, header, name)
        return out


def verify_chunk(header: ShardHeader, name: str, number: int, mapped: npt.NDArray[Any]) -> None:
    """Check one chunk of a mapped dataset against its digest."""
    _check_chunk(header, name, number, mapped[number * header.chunk_rows : (number + 1) * header.chunk_rows])


def read_strings(header: ShardHeader, name: str) -> list[str]:
    """A dataset of fixed-length UTF-8 strings."""
    texts = read_texts(header, name).tolist()
    return b"\0".join(texts).decode().split("\0") if texts else []  # no text holds a NUL: they are padded with it


def read_texts(header: ShardHeader, name: str) -> npt.NDArray[np.bytes_]:
    """A dataset of fixed-length UTF-8 strings as it is stored, (n,), each padded with NUL."""
    return read_texts_of([header], name)


def read_texts_of(headers: Sequence[ShardHeader], name: str) -> npt.NDArray[np.bytes_]:
    """As `read_texts`, of several shards whose strings have one length, one shard behind the other."""
    ends = list(itertools.accumulate(header.rows for header in headers))
    texts = np.empty(ends[-1], dtype=headers[0].segments[name].dtype)
    for header, end in zip(headers, ends, strict=True):
        read_into(header, name, texts[end - header.rows : end])
    if not _are_texts(texts):
        for header, end in zip(headers, ends, strict=True):
            if not _are_texts(texts[end - header.rows : end]):
                raise damaged(header.path, f"dataset /{name} holds texts that are not UTF-8, or have NUL in them")
    return texts


def _are_texts(texts: npt.NDArray[np.bytes_]) -> bool:
    """Whether all are UTF-8 without NUL, but for the NULs behind each."""
    letters = texts.view(np.uint8).reshape(len(texts), texts.dtype.itemsize)
    if not letters.all() and ((letters[:, :-1] == 0) & (letters[:, 1:] != 0)).any():
        return False
    if letters.size and letters.max() >= 0x80:
        try:
            b"\0".join(texts.tolist()).decode()
        except UnicodeDecodeError:
            return False
    return True


def damaged(path: Path, why: str) -> DamagedShardError:
    """The error for a shard that is not what was written."""
    return DamagedShardError(
        f"damaged shard {path.name}: {why}\n"
        f"  in folder: {path.parent}\n"
        f"  set it aside with: cer-feat verify --repair; then run the same cer-feat extract again"
    )


def _fill(file: io.RawIOBase, out: memoryview, header: ShardHeader, name: str) -> None:
    done = 0
    while done < len(out):
        got = file.readinto(out[done:])
        if not got:
            raise damaged(header.path, f"it ends inside its dataset /{name}")
        done += got


def _check_chunk(header: ShardHeader, name: str, number: int, rows: npt.NDArray[Any] | memoryview) -> None:
    data = rows if isinstance(rows, memoryview) else rows.data.cast("B")
    if xxhash.xxh3_128_hexdigest(data) != header.segments[name].digests[number]:
        raise damaged(header.path, f"chunk {number} of its dataset /{name} does not match its digest")
    if header.segments[name].dtype[1] == "f":
        _refuse_unfinite(header, name, number, np.frombuffer(data, dtype=header.segments[name].dtype))


def _refuse_unfinite(header: ShardHeader, name: str, number: int, values: npt.NDArray[Any]) -> None:
    """No writer of ours lets NaN or Inf in; whoever did, a head would learn from them as if they were numbers."""
    if values.dtype == np.float16:  # many times faster than isfinite, which NumPy does one by one here
        fine = not len(values) or int((values.view(np.uint16) & 0x7FFF).max()) < 0x7C00
    else:
        fine = bool(np.isfinite(values).all())
    if fine:
        return
    width = math.prod(header.segments[name].shape[1:])
    rows = number * header.chunk_rows + np.unique(np.flatnonzero(~np.isfinite(values)) // width)
    ids = read_strings(header, "ids")
    raise damaged(header.path, f"dataset /{name} holds NaN or Inf in the rows of {listing(ids[i] for i in rows)}")


def _chunk_bytes(segment: Segment, chunk_rows: int) -> int:
    return chunk_rows * (segment.nbytes // segment.shape[0])


def _parse_header(path: Path, text: bytes) -> ShardHeader:
    raw = parse_json(text, where=str(path), error=FormatError)
    try:
        segments = {
            name: Segment(
                offset=_whole(entry["offset"]),
                shape=tuple(_whole(size) for size in entry["shape"]),
                dtype=_dtype(str(entry["dtype"])),
                digests=tuple(entry["xxh3_128"]),
            )
            for name, entry in raw["segments"].items()
        }
        header = ShardHeader(
            path=path,
            fingerprint=str(raw["fingerprint"]),
            index=_whole(raw["index"]),
            generation=_whole(raw["generation"]),
            rows=_whole(raw["rows"]),
            chunk_rows=_whole(raw["chunk_rows"]),
            segments=segments,
            quarantined=tuple((str(a), str(b), str(c)) for a, b, c in raw["quarantined"]),
        )
        chunks = -(-header.rows // header.chunk_rows)
        consistent = (
            raw["format"] == FORMAT
            and {"ids", "image_digest"} <= set(segments)
            and 1 <= header.chunk_rows <= _MAX_CHUNK_ROWS
            and all(s.shape[0] == header.rows and len(s.digests) == chunks for s in segments.values())
            and all(_has_form(name, segment) for name, segment in segments.items())
        )
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, IndexError) as error:
        raise FormatError(f"{path} has a header without the fields of a {FORMAT}: {error}") from None
    if not consistent:
        raise FormatError(f"{path} has a header that contradicts itself")
    return header


@functools.lru_cache
def _dtype(text: str) -> str:
    return np.dtype(text).str


def _whole(value: Any) -> int:
    """A number as a header of ours has it: not negative, and within 64 bits wherever it is used."""
    if type(value) is not int or not 0 <= value < 2**62:
        raise ValueError(f"{value!r:.30} is no whole number that could stand there")
    return value


def _has_form(name: str, segment: Segment) -> bool:
    """Texts are a column of bytes, rows a table of floats, and neither is without width."""
    dtype = np.dtype(segment.dtype)
    if name.startswith("blocks/"):
        return dtype.kind == "f" and len(segment.shape) == 2 and segment.shape[1] > 0
    return dtype.kind == "S" and len(segment.shape) == 1 and dtype.itemsize > 0


def _check_places(header: ShardHeader, header_end: int, size: int) -> None:
    """Every dataset lies in the file, behind the header, and on its own."""
    taken = header_end
    for name, segment in sorted(header.segments.items(), key=lambda item: item[1].offset):
        if not segment.nbytes:
            continue
        if segment.offset < taken:
            raise damaged(header.path, f"its dataset /{name} lies where something else is")
        taken = segment.offset + segment.nbytes
        if taken > size:
            raise damaged(header.path, f"it ends before its dataset /{name}: truncated to {size:,} bytes")
