"""Reading shards: header first, then rows, each verified before it is used; libhdf5 is not involved."""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash
from cer_fusion.featstore.errors import DamagedShardError, FormatError, listing
from cer_fusion.featstore.rows import document
from cer_fusion.featstore.rows.shard import FIRST_LINE, FORMAT, FORMAT_VERSION, PAGE

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
    if path.exists() and not path.is_file():  # opening a named pipe would wait for ever
        raise damaged(path, "it is not a file")
    with path.open("rb") as file:
        start = file.read(PAGE)
        match = FIRST_LINE.match(start)
        if not match:
            raise damaged(path, "its first line is not a shard's")
        length = int(match[3])
        end = match.end() + length
        if length > _MAX_HEADER:
            raise damaged(path, "its header claims an impossible size")
        if end > len(start):
            start += file.read(end - len(start))
        size = path.stat().st_size
    text = start[match.end() : end]
    if hashlib.sha256(text).hexdigest() != match[2].decode():
        raise damaged(path, "its header does not match its digest")
    document.check_version(int(match[1]), FORMAT_VERSION, str(path), FORMAT)
    header = _parse_header(path, text)
    _check_places(header, end, size)
    return header


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
    segment = header.segments[name]
    out = np.empty((len(rows), *segment.shape[1:]), dtype=segment.dtype)
    step = _chunk_bytes(segment, header.chunk_rows)
    with header.path.open("rb", buffering=0) as file:
        for number in sorted({row // header.chunk_rows for row in rows}):
            first = number * header.chunk_rows
            chunk = np.empty((min(header.chunk_rows, header.rows - first), *segment.shape[1:]), dtype=segment.dtype)
            file.seek(segment.offset + number * step)
            _fill(file, chunk.view(np.uint8).reshape(-1).data, header, name)
            _check_chunk(header, name, number, chunk)
            for at, row in enumerate(rows):
                if row // header.chunk_rows == number:
                    out[at] = chunk[row - first]
    return out


def verify_chunk(header: ShardHeader, name: str, number: int, mapped: npt.NDArray[Any]) -> None:
    """Check one chunk of a mapped dataset against its digest."""
    _check_chunk(header, name, number, mapped[number * header.chunk_rows : (number + 1) * header.chunk_rows])


def read_strings(header: ShardHeader, name: str) -> list[str]:
    """A dataset of fixed-length UTF-8 strings."""
    texts = read_segment(header, name).tolist()
    try:
        found = b"\0".join(texts).decode().split("\0") if texts else []  # no text holds a NUL: they are padded with it
    except UnicodeDecodeError:
        raise damaged(header.path, f"dataset /{name} is not UTF-8") from None
    if len(found) != header.rows:
        raise damaged(header.path, f"dataset /{name} holds texts with NUL in them")
    return found


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
    raw = document.parse(text, str(path))
    try:
        segments = {
            name: Segment(
                offset=_whole(entry["offset"]),
                shape=tuple(_whole(size) for size in entry["shape"]),
                dtype=str(np.dtype(str(entry["dtype"])).str),
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
