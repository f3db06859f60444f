"""HDF5 files of other tools, read in pieces, without what would make libhdf5 reach for other files or code.

libhdf5 loads plugins for filters it does not know, and follows external storage and virtual datasets into other files;
all three are refused from the file's own description, before any row is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np
import numpy.typing as npt
from cer_fusion.featstore.errors import FormatError
from cer_fusion.featstore.exchange.foreign_numpy import Entry

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
