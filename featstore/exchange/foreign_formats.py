"""Files of rows that other tools write: NumPy's own, HDF5, and Parquet by the optional library pyarrow.

What lies on the disk as it is, is mapped; headers are read by NumPy, and what they claim is held against the file.
libhdf5 loads plugins for filters it does not know, and follows external storage and virtual datasets into other files;
all three are refused from the file's own description, before any row is read.
"""

from __future__ import annotations

import importlib
import math
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, TypeVar, cast

import h5py
import numpy as np
import numpy.typing as npt

from ..errors import FeatstoreError, FormatError, RowsError, listing

Frames = Literal["mean", "max"]
"""How the frames of a sample become one row."""
NUMPY_MAGIC = b"\x93NUMPY"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One array of a file, not yet read."""

    shape: tuple[int, ...]
    kind: str
    """`f` for floats, `t` for text, anything else as NumPy's dtype kinds."""
    dtype: str = ""
    """For people."""

    @classmethod
    def of(cls, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Entry:
        """The entry of a NumPy array."""
        return cls(shape=shape, kind="t" if dtype.kind in "US" else dtype.kind, dtype=str(dtype))


@dataclass(frozen=True, kw_only=True)
class NpyHeader:
    """What a `.npy` file says about itself before its numbers begin."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]
    offset: int
    """Where the numbers begin, in bytes from the start of the header."""

    @property
    def nbytes(self) -> int:
        """Size of the numbers."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_npy_header(file: IO[bytes], where: str) -> NpyHeader:
    """Read a `.npy` header at the beginning of a file; arrays of objects, which are pickles, are refused unopened.

    Raises
    ------
    FormatError
    """
    start = file.read(len(NUMPY_MAGIC) + 2)
    if not start.startswith(NUMPY_MAGIC):
        raise FormatError(f"{where} is not a plain .npy array: {_looks_like(start)}")
    readers = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
    try:
        shape, fortran_order, dtype = readers[start[-2]](file)
    except KeyError:
        raise FormatError(f"{where} is a .npy file of version {start[-2]}, which holds no plain numbers") from None
    except (ValueError, EOFError, OSError, SyntaxError, RecursionError, MemoryError) as error:
        reason = str(error).partition("\n")[0]
        raise FormatError(f"{where} is not a plain .npy array: its header is damaged ({reason})") from None
    if dtype.hasobject:
        raise FormatError(
            f"{where} is not a plain .npy array: it holds Python objects, as a pickle, which can run code when opened\n"
            f"  save numbers instead: numpy.save(path, numpy.stack(rows).astype('float32'))"
        )
    if any(not isinstance(size, int) or size < 0 for size in shape):
        raise FormatError(f"{where} is not a plain .npy array: it claims the shape {shape}")
    return NpyHeader(shape=shape, fortran_order=fortran_order, dtype=dtype, offset=file.tell())


def map_npy(path: Path) -> npt.NDArray[Any]:
    """Map a `.npy` file read-only; nothing is in memory until it is touched.

    Raises
    ------
    FormatError
    """
    try:
        with path.open("rb") as file:
            header = read_npy_header(file, str(path))
    except FileNotFoundError:
        raise FormatError(f"no such file: {path}") from None
    except IsADirectoryError:
        raise FormatError(f"{path} is a folder, not a .npy array") from None
    return map_array(path, header, header.offset)


def map_array(path: Path, header: NpyHeader, offset: int) -> npt.NDArray[Any]:
    """Map the array whose numbers begin at `offset` of a file, its claimed size checked against the file's."""
    size = path.stat().st_size
    if offset + header.nbytes > size:
        raise FormatError(
            f"{path} is cut short: an array of shape {header.shape} takes {header.nbytes:,} bytes, "
            f"however: {max(0, size - offset):,} are there"
        )
    order: Literal["C", "F"] = "F" if header.fortran_order else "C"
    if not header.nbytes:
        return np.empty(header.shape, dtype=header.dtype, order=order)
    return np.memmap(path, dtype=header.dtype, mode="r", offset=offset, shape=header.shape, order=order)


class SampleFolder:
    """One `.npy` a sample, as MERBench writes them, read like an (n, d) array; rows stay on the disk until asked for.

    Parameters
    ----------
    folder : Path
        Holds `<name>.npy` files, each of shape (d,) or (1, d), or (t, d) where `frames` says what to do with it.
    frames : {"mean", "max"}, optional
        Pool the t frames of a sample; without it frame-level files are refused.

    Raises
    ------
    FormatError, RowsError
        Naming the file.
    """

    def __init__(self, folder: Path, frames: Frames | None = None) -> None:
        self.paths = sorted(p for p in folder.iterdir() if p.suffix == ".npy" and not p.name.startswith("."))
        if not self.paths:
            raise FormatError(f"{folder} holds no .npy files, so there are no rows to import")
        self.frames = frames
        self.names = [path.stem for path in self.paths]
        widths: dict[Path, int] = {}
        kinds: set[np.dtype[Any]] = set()
        for path in self.paths:
            shape, kind = self._look(path)
            widths[path] = shape[-1]
            kinds.add(kind)
        first = widths[self.paths[0]]
        others = [f"{path.name} has {width}" for path, width in widths.items() if width != first]
        if others:
            raise RowsError(
                f"all files must have the width of the first, {self.paths[0].name} with {first}, however: "
                f"{listing(others)}\n  in folder: {folder}"
            )
        self.shape = (len(self.paths), first)
        # float32 even of float16 files where frames are pooled: a mean is no float16 number
        self.dtype: np.dtype[Any] = np.dtype(np.float32) if frames else np.result_type(*kinds)

    def __getitem__(self, key: slice | Sequence[int]) -> npt.NDArray[Any]:
        chosen = self.paths[key] if isinstance(key, slice) else [self.paths[i] for i in key]
        out = np.empty((len(chosen), self.shape[1]), dtype=self.dtype)
        with np.errstate(over="ignore", invalid="ignore"):  # NaN and Inf are refused later, by sample
            for i, path in enumerate(chosen):
                out[i] = self._row(path)
        return out

    def _look(self, path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Shape and dtype of one file, checked."""
        with path.open("rb") as file:
            header = read_npy_header(file, str(path))
        shape = header.shape
        if header.dtype.kind != "f":
            raise RowsError(f"{path} must hold floats, however: {header.dtype} {shape}")
        if len(shape) not in (1, 2) or 0 in shape:
            raise RowsError(f"{path} must have shape (d,), (1, d) or (t, d), however: {shape}")
        if len(shape) == 2 and shape[0] > 1 and self.frames is None:
            raise RowsError(
                f"{path} holds {shape[0]} frames of width {shape[1]}, however: a sample has one row\n"
                f"  pool them with --frames mean (or max), or save one row a sample"
            )
        return shape, header.dtype

    def _row(self, path: Path) -> npt.NDArray[Any]:
        found = map_npy(path)
        if found.shape[-1:] != self.shape[1:]:
            raise RowsError(f"{path} changed while it was read: expected width {self.shape[1]}, however: {found.shape}")
        frames = found.reshape(-1, self.shape[1])  # (d,) or (t, d) -> (t, d)
        if self.frames == "mean":
            return cast("npt.NDArray[Any]", frames.mean(axis=0, dtype=np.float64))
        if self.frames == "max":
            return cast("npt.NDArray[Any]", frames.max(axis=0))
        return cast("npt.NDArray[Any]", frames[0])


MAX_INFLATED_BYTES = 4 * 1024**3
"""How much a compressed member may claim to hold; it is inflated into memory."""
_STEP = 1024 * 1024
_LOCAL = struct.Struct("<4s22xHH")
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)
"""A boundary: what zipfile raises for a damaged archive, a compression it does not know, and encryption."""


class NpzFile:
    """An `.npz` archive whose arrays are read when asked for.

    Raises
    ------
    FormatError
        If it is no zip archive, or a member is no plain array.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._headers: dict[str, NpyHeader] = {}
        try:
            with zipfile.ZipFile(path) as archive:
                self._members = {i.filename.removesuffix(".npy"): i for i in archive.infolist() if not i.is_dir()}
                for key, info in self._members.items():
                    with archive.open(info) as file:
                        self._headers[key] = read_npy_header(file, f"{key!r} in {path}")
        except _DAMAGE as error:
            raise self._damaged(error) from None
        for key, info in self._members.items():
            header = self._headers[key]
            if header.offset + header.nbytes != info.file_size:
                raise FormatError(
                    f"{key!r} in {path} contradicts itself: an array of {header.nbytes:,} bytes in a member of "
                    f"{info.file_size:,}"
                )

    @property
    def entries(self) -> Mapping[str, Entry]:
        """What the archive holds."""
        return {key: Entry.of(header.shape, header.dtype) for key, header in self._headers.items()}

    def text(self, key: str) -> list[str]:
        """A 0-D or 1-D array of text."""
        found = np.atleast_1d(self.array(key)).tolist()
        try:
            return [text.decode() if isinstance(text, bytes) else str(text) for text in found]
        except UnicodeDecodeError:
            raise FormatError(f"{key!r} in {self.path} is not UTF-8 text") from None

    def array(self, key: str) -> npt.NDArray[Any]:
        """One array, its bytes checked against the archive's CRC; mapped if it is stored as it is.

        Raises
        ------
        FormatError
            If it is damaged, or would take more than `MAX_INFLATED_BYTES`.
        """
        info, header = self._members[key], self._headers[key]
        try:
            if info.compress_type == zipfile.ZIP_STORED:
                self._check_stored(info)
                return map_array(self.path, header, self._start(info) + header.offset)
            return self._inflate(key, info)
        except _DAMAGE as error:
            raise self._damaged(error) from None

    def _check_stored(self, info: zipfile.ZipInfo) -> None:
        with zipfile.ZipFile(self.path) as archive, archive.open(info) as file:
            while file.read(_STEP):  # the CRC is compared at the end
                pass

    def _start(self, info: zipfile.ZipInfo) -> int:
        """Where a member's bytes begin: its local header has a name and an extra field of its own lengths."""
        with self.path.open("rb") as file:
            file.seek(info.header_offset)
            data = file.read(_LOCAL.size)
        signature, name_length, extra_length = _LOCAL.unpack(data)
        if signature != b"PK\x03\x04":
            raise zipfile.BadZipFile("a member has no local header")
        return info.header_offset + _LOCAL.size + int(name_length) + int(extra_length)

    def _inflate(self, key: str, info: zipfile.ZipInfo) -> npt.NDArray[Any]:
        if info.file_size > MAX_INFLATED_BYTES:
            raise FormatError(
                f"{key!r} in {self.path} would take {info.file_size:,} bytes of memory when inflated, more than "
                f"{MAX_INFLATED_BYTES:,}\n"
                f"  save it with numpy.savez instead of numpy.savez_compressed, and it is mapped instead"
            )
        with zipfile.ZipFile(self.path) as archive, archive.open(info) as file:
            try:
                found: npt.NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
            except ValueError as error:
                raise zipfile.BadZipFile(f"{key!r}: {error}") from None
            file.read(1)  # the CRC is compared at the end
        return found

    def _damaged(self, error: Exception) -> FormatError:
        return FormatError(f"{self.path} is not a usable .npz archive: {error or type(error).__name__}")


def _looks_like(start: bytes) -> str:
    if not start:
        return "it is empty (0 bytes)"
    if start.startswith(b"\x80"):
        return "it is a Python pickle, which can run code when opened; save the array with numpy.save"
    if start.isascii() and all(32 <= byte < 127 or byte in b"\t\r\n" for byte in start):
        return "it is a text file; load it with numpy.loadtxt and save it with numpy.save"
    return f"it begins with {start!r}"


T = TypeVar("T")
SIGNATURE = b"\x89HDF\r\n\x1a\n"
_KNOWN_FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32", 4: "szip", 5: "nbit", 6: "scaleoffset", 32000: "lzf"}
"""What libhdf5 and h5py bring themselves, by HDF5's filter numbers."""


class Hdf5File:
    """An HDF5 file, its datasets found and read when asked for.

    Raises
    ------
    FormatError
        If libhdf5 cannot open it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: Mapping[str, Entry] = self._within(_look)

    def text(self, key: str) -> list[str]:
        """A 1-D dataset of fixed- or variable-length strings."""

        def read(file: h5py.File) -> list[str]:
            dataset = _safe(file, key, self.path)
            try:
                if h5py.check_string_dtype(dataset.dtype) is None:  # NumPy's S, written as plain bytes
                    return [text.decode() for text in dataset[:].tolist()]
                return [str(text) for text in dataset.asstr()[:].tolist()]
            except UnicodeDecodeError:
                raise FormatError(f"{key!r} in {self.path} is not UTF-8 text") from None

        return self._within(read)

    def array(self, key: str) -> Hdf5Rows | npt.NDArray[Any]:
        """A numeric dataset: mapped if its rows lie in one piece, else read through libhdf5 when asked for."""

        def place(file: h5py.File) -> Hdf5Rows | npt.NDArray[Any]:
            dataset = _safe(file, key, self.path)
            plain = dataset.chunks is None and dataset.dtype.kind == "f" and dataset.dtype.itemsize in (2, 4, 8)
            start = dataset.id.get_offset() if plain else None
            if start is None:
                return Hdf5Rows(self.path, key, dataset.shape, dataset.dtype)
            if start + dataset.nbytes > self.path.stat().st_size:
                raise FormatError(f"{self.path} is cut short: it ends inside its dataset {key!r}")
            return np.memmap(self.path, dtype=dataset.dtype, mode="r", offset=start, shape=dataset.shape)

        return self._within(place)

    def _within(self, read: Callable[[h5py.File], T]) -> T:
        try:
            with h5py.File(self.path, "r", locking=False) as file:
                return read(file)
        except FormatError:
            raise
        except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:  # what h5py makes of damaged files
            raise FormatError(f"{self.path} cannot be read as HDF5: {error}") from None


class Hdf5Rows:
    """A chunked or compressed dataset, read like an array."""

    def __init__(self, path: Path, key: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.path = path
        self.key = key
        self.shape = shape
        self.dtype = dtype

    def __getitem__(self, key: slice | Sequence[int]) -> npt.NDArray[Any]:
        try:
            with h5py.File(self.path, "r", locking=False) as file:
                dataset = _safe(file, self.key, self.path)
                if isinstance(key, slice):
                    found: npt.NDArray[Any] = dataset[key]
                    return found
                chosen, back = np.unique(np.asarray(key, dtype=np.int64), return_inverse=True)
                if len(chosen) and chosen[-1] - chosen[0] < 4 * len(chosen):  # libhdf5 is slow at single rows
                    found = dataset[chosen[0] : chosen[-1] + 1][chosen - chosen[0]]
                else:
                    found = dataset[chosen]
                return found[back]
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            if isinstance(error, FormatError):
                raise
            raise FormatError(f"{self.key!r} in {self.path} cannot be read: {error}") from None


def _look(file: h5py.File) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}

    def visit(name: str, found: object) -> None:  # links to other files are not followed by visititems
        if isinstance(found, h5py.Dataset) and found.shape is not None:
            text = h5py.check_string_dtype(found.dtype) is not None or found.dtype.kind == "S"
            entries[name] = Entry(shape=found.shape, kind="t" if text else found.dtype.kind, dtype=str(found.dtype))

    file.visititems(visit)
    return entries


def _safe(file: h5py.File, key: str, path: Path) -> Any:
    """The dataset, if reading it touches this file only and runs no plugin."""
    parent = file
    for part in key.strip("/").split("/"):
        link = parent.get(part, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise FormatError(f"{key!r} in {path} is a link to elsewhere, which is not followed; copy the dataset in")
        parent = parent[part]
    settings = parent.id.get_create_plist()
    if settings.get_external_count():
        raise FormatError(f"{key!r} in {path} keeps its rows in another file, which is not opened; copy them in")
    if parent.is_virtual:
        raise FormatError(f"{key!r} in {path} is a virtual dataset over other files, which are not opened; copy it")
    for number in range(settings.get_nfilters()):
        code = settings.get_filter(number)[0]
        if code not in _KNOWN_FILTERS:
            raise FormatError(
                f"{key!r} in {path} is compressed with HDF5 filter {code}, which would load a plugin; "
                f"save it again with gzip or without compression (h5repack -f NONE)"
            )
    return parent


PARQUET_MAGIC = b"PAR1"


def pyarrow() -> tuple[Any, Any]:
    """`pyarrow` and `pyarrow.parquet`.

    Raises
    ------
    FeatstoreError
        If it is not installed.
    """
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise FeatstoreError(
            f"Parquet files need the library pyarrow, which cannot be imported: {error}\n"
            f"  install it with: pip install 'cer-fusion[parquet]'"
        ) from None


class ParquetFile:
    """A Parquet file whose columns are read when asked for.

    Raises
    ------
    FormatError
        If it is damaged.
    FeatstoreError
        Without pyarrow.
    """

    def __init__(self, path: Path) -> None:
        arrow, parquet = pyarrow()
        self.path = path
        try:
            self._file = parquet.ParquetFile(path)
            metadata = self._file.schema_arrow.metadata or {}
        except (OSError, arrow.ArrowException) as error:
            raise FormatError(f"{path} cannot be read as Parquet: {error}") from None
        self.metadata = {key.decode(errors="replace"): text.decode(errors="replace") for key, text in metadata.items()}
        """Texts that were written beside the columns."""

    def names(self) -> list[str]:
        """The sample ids."""
        return [str(text) for text in self._read(list(range(self._file.num_row_groups)), "sample_id").to_pylist()]

    def rows(self, column: str) -> ParquetRows:
        """The rows of one block.

        Raises
        ------
        FormatError
            If there is no such column of equally long lists of floats.
        """
        arrow, _ = pyarrow()
        at = self._file.schema_arrow.get_field_index(column)
        kind = self._file.schema_arrow.field(at).type if at >= 0 else None
        if kind is None or not arrow.types.is_fixed_size_list(kind) or kind.value_type != arrow.float32():
            raise FormatError(f"{self.path} has no column {column!r} of float32 lists, though its note names one")
        return ParquetRows(self, column, kind.list_size)

    def starts(self) -> npt.NDArray[np.int64]:
        """First row of each row group, and the number of rows at the end."""
        metadata = self._file.metadata
        counts = [metadata.row_group(i).num_rows for i in range(self._file.num_row_groups)]
        return np.cumsum([0, *counts], dtype=np.int64)

    def group(self, number: int, column: str, width: int) -> npt.NDArray[np.float32]:
        """The rows of one row group, (rows of the group, width)."""
        found = self._read([number], column)
        if found.null_count:
            raise FormatError(f"{self.path} has empty cells in its column {column!r}")
        flat: npt.NDArray[np.float32] = found.flatten().to_numpy(zero_copy_only=False)
        return flat.reshape(-1, width)

    def _read(self, groups: list[int], column: str) -> Any:
        arrow, _ = pyarrow()
        try:
            chunks = self._file.read_row_groups(groups, columns=[column]).column(column).chunks
        except (OSError, KeyError, arrow.ArrowException) as error:
            raise FormatError(f"{self.path} cannot be read: column {column!r}: {error}") from None
        return arrow.concat_arrays(chunks)


class ParquetRows:
    """One block, read like an array; the row group read last stays in memory."""

    dtype: np.dtype[Any] = np.dtype(np.float32)

    def __init__(self, file: ParquetFile, column: str, width: int) -> None:
        self._file = file
        self._column = column
        self._starts = file.starts()
        self._last: tuple[int, npt.NDArray[np.float32]] | None = None
        self.shape = (int(self._starts[-1]), width)

    def __getitem__(self, key: slice | Sequence[int]) -> npt.NDArray[Any]:
        chosen = np.arange(self.shape[0])[key]
        out = np.empty((len(chosen), self.shape[1]), dtype=np.float32)
        groups = np.searchsorted(self._starts, chosen, side="right") - 1
        for number in np.unique(groups).tolist():
            if self._last is None or self._last[0] != number:
                self._last = (number, self._file.group(number, self._column, self.shape[1]))
            at = np.flatnonzero(groups == number)
            out[at] = self._last[1][chosen[at] - self._starts[number]]
        return out
