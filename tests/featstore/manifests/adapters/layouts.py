"""Datasets in miniature: files from a dictionary, as a folder or packed."""

from __future__ import annotations

import csv
import io
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

Content = bytes | str
Pack = Callable[[Path], Path]


def fill(root: Path, files: dict[str, Content]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def as_folder(root: Path) -> Path:
    return root


def zipped(root: Path) -> Path:
    archive = root.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w") as out:
        for path in sorted(root.rglob("*")):
            if path.is_file():
                out.write(path, path.relative_to(root).as_posix())
    return archive


def tarred(root: Path) -> Path:
    return _tar(root, ".tar", "w")


def tarred_and_gzipped(root: Path) -> Path:
    return _tar(root, ".tar.gz", "w:gz")


def npy(value: object) -> bytes:
    """A `.npy` file as NumPy writes it; `npy("3")` is a text in an array without axes."""
    buffer = io.BytesIO()
    np.save(buffer, np.array(value), allow_pickle=True)
    return buffer.getvalue()


def _tar(root: Path, suffix: str, mode: str) -> Path:
    archive = root.with_name(root.name + suffix)
    with tarfile.open(archive, mode) as out:
        out.add(root, arcname=".")
    return archive


SAVED: dict[str, Callable[[list[list[str]]], bytes]] = {
    "semicolons, decimal commas, a mark": lambda rows: b"\xef\xbb\xbf" + _csv(_decimal(rows), ";", "\r\n").encode(),
    "tabs in UTF-16": lambda rows: _csv(rows, "\t", "\r\n").encode("utf-16"),
    "an old Mac's line ends": lambda rows: _csv(rows, ",", "\r").encode(),
    "Excel's sep line": lambda rows: b"sep=;\r\n" + _csv(rows, ";", "\r\n").encode(),
    "bars and everything quoted": lambda rows: _csv(rows, "|", "\n", csv.QUOTE_ALL).encode(),
    "empty columns and rows at the end": lambda rows: _csv([*([*row, "", ""] for row in rows), [""] * 9]).encode(),
}
"""How people and spreadsheets save the rows of a table."""


def _csv(rows: Sequence[Sequence[str]], separator: str = ",", end: str = "\n", quoting: int = csv.QUOTE_MINIMAL) -> str:
    out = io.StringIO()
    csv.writer(out, delimiter=separator, lineterminator=end, quoting=quoting).writerows(rows)  # type: ignore[arg-type]
    return out.getvalue()


def _decimal(rows: list[list[str]]) -> list[list[str]]:
    return [[f"{cell},0" if cell.isdecimal() else cell for cell in row] for row in rows]
