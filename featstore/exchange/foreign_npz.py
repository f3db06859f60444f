"""`.npz` archives: stored members are mapped where they lie, compressed ones inflated within a limit."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from cer_fusion.featstore.errors import FormatError
from cer_fusion.featstore.exchange.foreign_choice import Entry
from cer_fusion.featstore.exchange.foreign_npy import NpyHeader, map_array, read_npy_header

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
            return self._inflate(key, info, header)
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

    def _inflate(self, key: str, info: zipfile.ZipInfo, header: NpyHeader) -> npt.NDArray[Any]:
        if info.file_size > MAX_INFLATED_BYTES:
            raise FormatError(
                f"{key!r} in {self.path} would take {info.file_size:,} bytes of memory when inflated, more than "
                f"{MAX_INFLATED_BYTES:,}\n"
                f"  save it with numpy.savez instead of numpy.savez_compressed, and it is mapped instead"
            )
        flat = bytearray()
        with zipfile.ZipFile(self.path) as archive, archive.open(info) as file:
            file.read(header.offset)
            while piece := file.read(_STEP):  # memory grows with what is there, not with what is claimed
                flat += piece
        if len(flat) != header.nbytes:
            raise zipfile.BadZipFile(f"{key!r} ends after {len(flat):,} of {header.nbytes:,} bytes")
        array = np.frombuffer(flat, dtype=header.dtype) if flat else np.empty(0, dtype=header.dtype)
        return array.reshape(header.shape, order="F" if header.fortran_order else "C")

    def _damaged(self, error: Exception) -> FormatError:
        return FormatError(f"{self.path} is not a usable .npz archive: {error or type(error).__name__}")
