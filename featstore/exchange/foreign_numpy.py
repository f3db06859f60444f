"""NumPy's own files from elsewhere: a `.npy` of all rows, a folder of one `.npy` a sample, an `.npz` archive.

What lies on the disk as it is, is mapped; headers are read by NumPy, and what they claim is held against the file.
"""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, cast

import numpy as np
import numpy.typing as npt
from cer_fusion.featstore.errors import FormatError, RowsError, listing

Frames = Literal["mean", "max"]
"""How the frames of a sample become one row."""
MAGIC = b"\x93NUMPY"


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
    start = file.read(len(MAGIC) + 2)
    if not start.startswith(MAGIC):
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
"""What zipfile raises for a damaged archive, a compression it does not know, and encryption."""


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
