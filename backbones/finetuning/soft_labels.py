"""Soft labels from a table of votes: ``sample_id,<class>,<class>,…``, one line a sample."""

from __future__ import annotations

import codecs
import csv
import io
import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from cer_fusion.backbones.errors import ExamplesError, listed, nearest
from numpy.typing import NDArray


def read_soft_labels(path: Path, classes: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """Read votes and turn each line into shares.

    Parameters
    ----------
    path : Path
        CSV with a header. A class without a column has no votes; a column that is no class is refused.
    classes : sequence of str
        In the order of the result.

    Returns
    -------
    dict
        sample_id -> float32 (k,), summing to 1. A line without any vote is refused.

    Raises
    ------
    ExamplesError
        With file and line.
    """
    text = _text(path)
    told = re.match(r'"?sep=(.)"?[ \t]*(\r\n|\r|\n)', text, re.IGNORECASE)  # Excel's first line
    start, before = (told.end(), 1) if told else (0, 0)
    separator = told[1] if told else max(",;\t|", key=lambda one: _known(text, one, classes))
    rows = csv.reader(io.StringIO(text[start:], newline=""), delimiter=separator, strict=True)
    try:
        header = _filled(next(rows, []), 0)
        columns = _columns(header, classes, path)
        found: dict[str, NDArray[np.float32]] = {}
        for cells in rows:
            if not any(map(str.strip, cells)):
                continue
            row, where = _filled(cells, len(header)), f"{path}:{rows.line_num + before}"
            if len(row) != len(header):
                raise ExamplesError(f"{where}: expected {len(header)} fields, however: {len(row)}")
            if row[0] in found:
                raise ExamplesError(f"{where}: sample_id {row[0]!r} stands twice")
            found[row[0]] = _shares(row, columns, len(classes), where)
    except csv.Error as error:
        raise ExamplesError(f"{path}:{rows.line_num + before}: not valid CSV: {error}") from None
    return found


def _text(path: Path) -> str:
    data = path.read_bytes()
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ExamplesError(f"{path} is not UTF-8 text (byte {error.start}): save it as CSV UTF-8") from None


def _known(text: str, separator: str, classes: Sequence[str]) -> int:
    """How many of the columns that may be there a separator finds in the first line."""
    first = re.split("\r\n|\r|\n", text.lstrip(), maxsplit=1)[0]
    cells = next(csv.reader([first], delimiter=separator), [])
    return len({_plain(cell) for cell in cells} & {_plain(name) for name in ("sample_id", *classes)})


def _filled(row: Sequence[str], width: int) -> list[str]:
    """Cells without blanks around them, and without those of empty columns beyond the last title."""
    cells = [cell.strip() for cell in row]
    while len(cells) > width and not cells[-1]:
        cells.pop()
    return cells


def _plain(name: str) -> str:
    return re.sub(r"[\s_\-]+", "", name).casefold()


def _columns(header: Sequence[str], classes: Sequence[str], path: Path) -> dict[int, int]:
    """Column of the file -> position of its class."""
    meant = {_plain(name): name for name in classes}
    if len(meant) == len(classes):  # else classes differ in spelling alone
        header = [header[0] if header else "", *(meant.get(_plain(name), name) for name in header[1:])]
    if _plain(header[0] if header else "") != "sampleid":
        raise ExamplesError(f"{path}: the first column must be sample_id, however: {header[:1]}")
    for name in header[1:]:
        if name not in classes:
            raise ExamplesError(
                f"{path}: column {name!r} is none of the classes {listed(classes, count=len(classes))}"
                f"{nearest(name, classes)}"
            )
    if len(set(header)) != len(header):
        raise ExamplesError(f"{path}: a column stands twice: {', '.join(header)}")
    return {column: list(classes).index(name) for column, name in enumerate(header[1:], 1)}


def _shares(row: Sequence[str], columns: dict[int, int], k: int, where: str) -> NDArray[np.float32]:
    votes = np.zeros(k, dtype=np.float64)
    for column, position in columns.items():
        try:
            votes[position] = float(row[column].replace(",", ".") or 0)
        except ValueError:
            raise ExamplesError(f"{where}: votes must be numbers, however: {row[column]!r}") from None
    total = float(votes.sum())
    if not math.isfinite(total) or total <= 0 or (votes < 0).any():
        raise ExamplesError(f"{where}: votes must not be negative, and at least one positive, however: {row[1:]}")
    return (votes / total).astype(np.float32)
