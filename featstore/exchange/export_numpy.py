"""Exports for NumPy: one `.npz` archive, or `.npy` files with the names of their rows as thingsvision writes them."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from cer_fusion.featstore.errors import FeatstoreError
from cer_fusion.featstore.exchange.export_rows import Exported, pieces, write_samples
from cer_fusion.featstore.manifests.manifest import COLUMNS

_TEXT_ROWS = 65536
_WRITTEN = (1980, 1, 1, 0, 0, 0)
"""The earliest date that zip knows, so that equal exports are equal bytes."""


def write_npz(exported: Exported, path: Path, note: tuple[str, str]) -> None:
    """One uncompressed archive: an array a block, and ids, labels, y, splits, groups, classes as arrays of text.

    `numpy.load(path)` reads it; nothing in it is pickled. `note` is the name and text of the note on its origin.
    """
    texts = {
        "ids": exported.ids,
        "labels": exported.labels,
        "splits": exported.splits,
        "groups": exported.groups,
        "classes": exported.classes,
    }
    exported.refuse_names([*texts, "y", note[0]])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:

        def member(name: str, write: Callable[[IO[bytes]], None]) -> None:
            with archive.open(zipfile.ZipInfo(f"{name}.npy", _WRITTEN), "w", force_zip64=True) as file:
                write(file)

        for name in exported.blocks:
            member(name, lambda file, name=name: _write_block(file, exported, name))  # type: ignore[misc]
        for name, listed in texts.items():
            member(name, lambda file, listed=listed: _write_texts(file, listed))  # type: ignore[misc]
        member("y", lambda file: np.lib.format.write_array(file, np.asarray(exported.y, "<i8"), allow_pickle=False))
        member(note[0], lambda file: np.lib.format.write_array(file, np.array(note[1]), allow_pickle=False))


def write_npy(exported: Exported, folder: Path, names: Sequence[str], paths: Sequence[str] | None) -> None:
    """`features.npy` (or, of several blocks, `<block>.npy` each), `file_names.txt`, and `samples.csv`.

    Raises
    ------
    FeatstoreError
        If a name cannot stand on a line of its own.
    """
    for name in exported.blocks:
        with (folder / f"{'features' if len(exported.blocks) == 1 else name}.npy").open("xb") as file:
            _write_block(file, exported, name)
    text = "\n".join(names)
    if text.rstrip().splitlines() != list(names):
        raise FeatstoreError(
            "a name holds a line break or ends in a blank, so that file_names.txt could not be read back\n"
            "  export another form (npz, parquet), or name the rows by sample id"
        )
    (folder / "file_names.txt").write_bytes(f"{text}\n".encode())
    with (folder / "samples.csv").open("x", encoding="utf-8", newline="") as table:
        write_samples(exported, table, header=COLUMNS if paths else None, paths=paths)


def _write_block(file: IO[bytes], exported: Exported, name: str) -> None:
    """A `.npy` of float32 rows, written piece by piece."""
    _write_header(file, "<f4", exported.blocks[name].shape)
    for _, rows in pieces(exported, name):
        file.write(np.ascontiguousarray(rows, dtype="<f4").data.cast("B"))


def _write_texts(file: IO[bytes], texts: Sequence[str]) -> None:
    """A `.npy` of text, written piece by piece."""
    kind = np.dtype(f"<U{max([1, *map(len, texts)])}")
    _write_header(file, kind.str, (len(texts),))
    for start in range(0, len(texts), _TEXT_ROWS):
        file.write(np.array(texts[start : start + _TEXT_ROWS], dtype=kind).tobytes())


def _write_header(file: Any, descr: str, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
