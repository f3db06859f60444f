"""FER2013's one file: `fer2013.csv`, whose column `pixels` holds each 48 x 48 face as numbers.

The pictures are written as PNG files into a zip file, so that everything else reads them as it reads any picture. They
are numbered by row: `row00000.png` is the first. (FER+ has numbers of its own, `fer0000000.png`, which leave some out.)
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from cer_fusion.featstore.errors import ManifestError
from cer_fusion.featstore.manifests.adapters.base import Adapted, Gathering
from cer_fusion.featstore.manifests.adapters.grey_png import grey_png, write_pictures
from cer_fusion.featstore.manifests.adapters.tree import Tree
from cer_fusion.featstore.manifests.class_sets import class_set
from cer_fusion.featstore.manifests.manifest import Sample

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


def read_fer2013(root: Path, *, archive: Path, encoding: str | None = None, overwrite: bool = True) -> Adapted:
    """Read FER2013 with its own labels.

    Parameters
    ----------
    root : Path
        `fer2013.csv`, or a folder or archive (compressed or not) that holds it.
    archive : Path
        The zip file that the pictures are written to; the manifest's paths start there.
    encoding : str, optional
        Of an archive's names where it does not say it, and of texts that are not UTF-8.
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
