"""NumPy's own files from elsewhere: one `.npy` of all rows, mapped, or a folder of one `.npy` a sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
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
    """Read a `.npy` header from an open file; arrays of objects, which are pickles, are refused unopened.

    Raises
    ------
    FormatError
    """
    start = file.read(len(MAGIC) + 2)
    if not start.startswith(MAGIC):
        raise FormatError(f"{where} is not a plain .npy array: {_looks_like(start)}")
    readers = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
    counting = _Counting(file, len(start))
    try:
        shape, fortran_order, dtype = readers[start[-2]](cast("Any", counting))
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
    return NpyHeader(shape=shape, fortran_order=fortran_order, dtype=dtype, offset=counting.count)


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


class _Counting:
    """Counts what a header takes, since a file inside a zip cannot always tell."""

    def __init__(self, file: IO[bytes], count: int) -> None:
        self._file = file
        self.count = count

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self.count += len(data)
        return data


def _looks_like(start: bytes) -> str:
    if not start:
        return "it is empty (0 bytes)"
    if start.startswith(b"\x80"):
        return "it is a Python pickle, which can run code when opened; save the array with numpy.save"
    if start.isascii() and all(32 <= byte < 127 or byte in b"\t\r\n" for byte in start):
        return "it is a text file; load it with numpy.loadtxt and save it with numpy.save"
    return f"it begins with {start!r}"
