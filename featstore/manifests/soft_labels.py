"""Soft labels: the share of each class in each sample, from a table of annotators' votes.

``sample_id,<class>,<class>,…``, one line a sample; the numbers may be votes or shares.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...kit.text import read_cells
from ..errors import ManifestError, nearest


def read_soft_labels(path: Path, classes: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """Read votes and turn each line into shares that sum to one.

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
    ManifestError
        With file and line.
    """
    (_, header), *rows = read_cells(path, known=("sample_id", *classes), error=ManifestError) or [(1, [])]
    columns = _columns(header, classes, path)
    found: dict[str, NDArray[np.float32]] = {}
    for line, row in rows:
        where = f"{path}:{line}"
        if len(row) != len(header):
            raise ManifestError(f"{where}: expected {len(header)} fields, however: {len(row)}")
        if row[0] in found:
            raise ManifestError(f"{where}: sample_id {row[0]!r} stands twice")
        found[row[0]] = _shares(row, columns, len(classes), where)
    return found


def _columns(header: Sequence[str], classes: Sequence[str], path: Path) -> dict[int, int]:
    """Column of the file -> position of its class."""
    if header[:1] != ["sample_id"]:
        raise ManifestError(f"{path}: the first column must be sample_id, however: {header[:1]}")
    for name in header[1:]:
        if name not in classes:
            raise ManifestError(f"{path}: column {name!r} is none of the classes: {nearest(name, classes)}")
    if len(set(header)) != len(header):
        raise ManifestError(f"{path}: a column stands twice: {', '.join(header)}")
    return {column: list(classes).index(name) for column, name in enumerate(header[1:], 1)}


def _shares(row: Sequence[str], columns: dict[int, int], k: int, where: str) -> NDArray[np.float32]:
    votes = np.zeros(k, dtype=np.float64)
    for column, position in columns.items():
        try:
            votes[position] = float(row[column].replace(",", ".") or 0)
        except ValueError:
            raise ManifestError(f"{where}: votes must be numbers, however: {row[column]!r}") from None
    total = float(votes.sum())
    if not math.isfinite(total) or total <= 0 or (votes < 0).any():
        raise ManifestError(f"{where}: votes must not be negative, and at least one positive, however: {row[1:]}")
    return (votes / total).astype(np.float32)
