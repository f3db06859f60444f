"""Further targets beside a manifest: a CSV of action units (AUs), `sample_id,AU1,AU2,…`, blank where unknown.

An adapter writes the file (`cer-feat manifest raf-ce --au`), heads of several tasks learn from it (`--targets`).
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...kit.text import read_cells
from ..errors import ManifestError
from ..rows import files

_COLUMN = re.compile(r"AU_?0*([1-9][0-9]?)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, eq=False)
class ActionUnits:
    """Which AUs the samples show."""

    numbers: tuple[int, ...]
    """Their FACS numbers, in the order of the columns."""

    rows: Mapping[str, NDArray[np.float64]]
    """sample_id -> (a,): 0 absent, 1 there, between them an intensity; NaN where nothing is known."""


def read_action_units(path: Path, *, intensities: bool = False) -> ActionUnits:
    """Read a table of AUs.

    Parameters
    ----------
    path : Path
        CSV with the columns `sample_id` and `AU1`, `AU2`, … A blank cell, or -1 as Aff-Wild2 writes, is not known.
    intensities : bool
        Cells are intensities from 0 to 5 (FACS: absent, A to E), and are divided by 5; else they are 0 or 1.

    Raises
    ------
    ManifestError
        With file and line.
    """
    (_, header), *lines = read_cells(path, known=("sample_id",), error=ManifestError) or [(1, [])]
    if header[:1] != ["sample_id"]:
        raise ManifestError(f"{path}: the first column must be sample_id, however: {header[:1]}")
    numbers = [_number(name, path) for name in header[1:]]
    if not numbers or len(set(numbers)) < len(numbers):
        raise ManifestError(f"{path}: expected one column for each AU, such as AU1,AU2, however: {', '.join(header)}")
    rows: dict[str, NDArray[np.float64]] = {}
    for line, cells in lines:
        where = f"{path}:{line}"
        if len(cells) != len(header):
            raise ManifestError(f"{where}: expected {len(header)} fields, however: {len(cells)}")
        if cells[0] in rows:
            raise ManifestError(f"{where}: sample_id {cells[0]!r} stands twice")
        rows[cells[0]] = np.array([_value(cell, where, intensities) for cell in cells[1:]])
    return ActionUnits(numbers=tuple(numbers), rows=rows)


def write_action_units(path: Path, shown: Mapping[str, Iterable[int] | None], *, overwrite: bool = True) -> int:
    """Write which AUs (FACS numbers) each sample shows, None where nobody looked; return how many are known.

    Columns are the AUs that any sample shows. Who was looked at shows none of the others.
    """
    listed = {name: None if aus is None else set(aus) for name, aus in shown.items()}
    numbers = sorted(set().union(*(aus for aus in listed.values() if aus is not None)))
    if not numbers:
        raise ManifestError(f"no sample has an action unit: nothing to write to {path}")
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["sample_id", *(f"AU{number}" for number in numbers)])
    for name, aus in listed.items():
        table.writerow([name, *("" if aus is None else int(number in aus) for number in numbers)])
    files.write_output(path, out.getvalue().encode(), overwrite=overwrite)
    return sum(aus is not None for aus in listed.values())


def aligned(found: ActionUnits, ids: Sequence[str]) -> NDArray[np.float64]:
    """Return the AUs (n, a) of these samples, NaN for those without a line."""
    nothing = np.full(len(found.numbers), np.nan)
    return np.stack([found.rows.get(name, nothing) for name in ids])


def _number(name: str, path: Path) -> int:
    if (match := _COLUMN.fullmatch(name)) is None:
        raise ManifestError(f"{path}: column {name!r} is no action unit; expected such as AU1 or AU12")
    return int(match[1])


def _value(cell: str, where: str, intensities: bool) -> float:
    if not cell:
        return math.nan
    try:
        value = float(cell.replace(",", "."))
    except ValueError:
        raise ManifestError(f"{where}: action units must be numbers, however: {cell!r}") from None
    if value == -1:
        return math.nan
    if intensities:
        if not 0 <= value <= 5:
            raise ManifestError(f"{where}: intensities of action units must lie in [0, 5], however: {cell!r}")
        return value / 5
    if value not in (0, 1):
        raise ManifestError(f"{where}: action units must be 0 or 1, blank where not known, however: {cell!r}")
    return value
