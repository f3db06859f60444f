"""Soft labels from a table of votes: ``sample_id,<class>,<class>,…``, one line a sample."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backbones.errors import ExamplesError, listed, nearest


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
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ExamplesError(f"{path} is not UTF-8 text (byte {error.start}): save it as CSV UTF-8") from None
    separator = next((one for one in ";\t|" if text.startswith((f"sample_id{one}", f'"sample_id"{one}'))), ",")
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        header = next(rows, [])
        columns = _columns(header, classes, path)
        found: dict[str, NDArray[np.float32]] = {}
        for row in rows:
            if not any(map(str.strip, row)):
                continue
            where = f"{path}:{rows.line_num}"
            if len(row) != len(header):
                raise ExamplesError(f"{where}: expected {len(header)} fields, however: {len(row)}")
            if row[0] in found:
                raise ExamplesError(f"{where}: sample_id {row[0]!r} stands twice")
            found[row[0]] = _shares(row, columns, len(classes), where)
    except csv.Error as error:
        raise ExamplesError(f"{path}:{rows.line_num}: not valid CSV: {error}") from None
    return found


def _columns(header: Sequence[str], classes: Sequence[str], path: Path) -> dict[int, int]:
    """Column of the file -> position of its class."""
    if header[:1] != ["sample_id"]:
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
