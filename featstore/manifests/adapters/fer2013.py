"""FER2013's one file: `fer2013.csv`, whose column `pixels` holds each 48 x 48 face as numbers.

The pictures are written as PNG files into a zip file, so that everything else reads them as it reads any picture. They
are numbered by row: `row00000.png` is the first. (FER+ has numbers of its own, `fer0000000.png`, which leave some out.)

A picture's digest is what its rows are kept under, so the bytes must not depend on a compressor's version: pixels are
stored uncompressed (PNG, third edition, sections 5 and 10; RFC 1950 and RFC 1951, section 3.2.4).
"""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ...errors import ManifestError
from ...rows import files
from ..class_sets import class_set
from ..manifest import Sample
from .base import Adapted, Gathering, adapter
from .tree import Tree

SIDE_PX = 48
USAGES = {"training": "train", "publictest": "valid", "privatetest": "test"}
"""What FER2013 calls its splits, in lower case."""
_COLUMNS = ("emotion", "pixels", "Usage")


class Row(NamedTuple):
    """One row of `fer2013.csv`."""

    line: int
    emotion: str
    split: str
    pixels: str

    def picture(self, where: str) -> bytes:
        """Its face as a PNG file."""
        return grey_png(_square(self.pixels, f"{where}:{self.line}"))


@adapter("fer2013", "FER2013: fer2013.csv; writes the pictures into a zip file")
def read_fer2013(root: Path, *, archive: Path, encoding: str | None = None, overwrite: bool = True) -> Adapted:
    """Read FER2013 with its own labels.

    Parameters
    ----------
    root : Path
        `fer2013.csv`, or a folder or archive (compressed or not) that holds it.
    archive : Path
        The zip file that the pictures are written to; the manifest's paths start there.
    encoding : str, optional
    overwrite : bool
        Replace a file of that name.
    """
    tree = Tree(root, encoding)
    name = pixel_file(tree)
    where = tree.where(name)
    found = Gathering(tree, class_set("fer2013_7"))

    def faces() -> Iterator[tuple[str, bytes]]:
        for number, row in enumerate(read_rows(tree, name)):
            label = found.label(row.emotion, f"{where}:{row.line}")
            stem = f"row{number:05d}"
            found.add(Sample(stem, f"{stem}.png", label or "", row.split), row.line)
            yield f"{stem}.png", row.picture(where)

    write_pictures(archive, faces(), overwrite=overwrite)
    return found.adapted("rows emotion,pixels,Usage in fer2013.csv", where=where, written=archive)


def pixel_file(tree: Tree) -> str:
    """The file with the pixels: a CSV that was named itself, or the one called fer2013.csv."""
    if len(tree.names) == 1 and tree.names[0].lower().endswith(".csv"):
        return tree.names[0]
    return tree.find_one("fer2013.csv", "FER2013: fer2013.csv with the columns emotion,pixels,Usage")


def read_rows(tree: Tree, name: str) -> Iterator[Row]:
    """The rows in the file's order, one at a time: the official file has 301 MB.

    Raises
    ------
    ManifestError
        With file and line.
    """
    where = tree.where(name)
    for line, (emotion, pixels, usage) in tree.rows(name, _COLUMNS, _COLUMNS):
        yield Row(line, emotion, usage_split(usage, f"{where}:{line}"), pixels)


def usage_split(text: str, where: str) -> str:
    """The split that FER2013's word for it means."""
    split = USAGES.get(text.strip().lower())
    if split is None:
        raise ManifestError(f"{where}: Usage must be Training, PublicTest or PrivateTest, however: {text!r}")
    return split


def _square(text: str, where: str) -> npt.NDArray[np.uint8]:
    try:
        values = np.array(text.split(), dtype=np.int64)
    except (ValueError, OverflowError):
        raise ManifestError(f"{where}: pixels must be numbers, however: {text[:40]!r}") from None
    if values.size != SIDE_PX * SIDE_PX or values.min() < 0 or values.max() > 255:
        raise ManifestError(
            f"{where}: expected {SIDE_PX * SIDE_PX:,} pixels from 0 to 255, however: {values.size:,}"
            + (f" from {values.min()} to {values.max()}" if values.size else "")
        )
    return values.astype(np.uint8).reshape(SIDE_PX, SIDE_PX)  # (2304,) -> (48, 48)


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
