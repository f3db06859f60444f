"""Grey pixels as PNG files in a zip file, the same bytes on every machine.

A picture's digest is what its rows are kept under, so the bytes must not depend on a compressor's version: pixels are
stored uncompressed (PNG, third edition, sections 5 and 10; RFC 1950 and RFC 1951, section 3.2.4).
"""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from cer_fusion.featstore.rows import files

_EPOCH = (1980, 1, 1, 0, 0, 0)


def grey_png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """A PNG file of 8-bit grey pixels of shape (height, width), at most 65,535 bytes of them."""
    height, width = pixels.shape
    rows = np.zeros((height, width + 1), dtype=np.uint8)  # each row begins with its filter: none
    rows[:, 1:] = pixels
    raw = rows.tobytes()
    if len(raw) > 0xFFFF:
        raise ValueError(f"one stored block holds 65,535 bytes, however: {len(raw):,}")
    stored = (
        b"\x78\x01" + struct.pack("<BHH", 1, len(raw), len(raw) ^ 0xFFFF) + raw + struct.pack(">I", zlib.adler32(raw))
    )
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)  # 8 bits, grey, no interlacing
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", stored) + _chunk(b"IEND", b"")


def write_pictures(path: Path, pictures: Iterable[tuple[str, bytes]], *, overwrite: bool = True) -> None:
    """Write (name, bytes) into a zip file, in one step (see `files.write_output`); equal pictures give equal bytes."""
    if not overwrite and os.path.lexists(path):  # now, and not when all is drawn
        raise files.taken(path)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in pictures:
            member = zipfile.ZipInfo(name, date_time=_EPOCH)
            member.create_system = 3  # else it is the system that writes
            member.external_attr = 0o644 << 16
            archive.writestr(member, data)
    files.make_folder(path.parent)
    files.write_output(path, buffer.getvalue(), overwrite=overwrite)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
