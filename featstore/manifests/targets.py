"""Further targets beside a manifest: a CSV of action units (AUs), valence and arousal, blank where unknown.

``sample_id,AU1,AU2_r,…,valence,arousal``: the title says the type. `AU12` (also `AU12_c`, `AU_12`, `au.12`) is 0 or 1;
`AU12_r`, as OpenFace calls it, is an intensity from 0 to 5 (FACS: absent, A to E), read as a share of 5; `valence` and
`arousal` (also `va.valence`) lie in [-1, 1]. Adapters write the file (`cer-feat manifest … --targets`), heads of
several tasks learn from it (`--targets`). -1 of an AU and -5 of valence or arousal are Aff-Wild2's words for unknown.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...kit.text import read_cells
from ..errors import ManifestError
from ..rows import files

AFFECT: Final = ("valence", "arousal")
"""Columns of the task `va`, in this order."""
LARGEST: Final = 5
"""Of FACS's intensities."""
_UNIT = re.compile(r"AU[_.]?0*([1-9][0-9]?)(_[cr])?", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Target:
    """One column of targets."""

    title: str
    """As the file has it."""
    unit: int | None
    """FACS number of an AU; None of valence and arousal."""
    intensity: bool = False
    """Whether an AU is an intensity from 0 to 5."""

    @property
    def kind(self) -> str:
        """What the column is about, whatever it is called: two of one kind are a mistake."""
        return f"AU{self.unit}" if self.unit is not None else self.title.lower().removeprefix("va.")

    def value(self, cell: str, where: str) -> float:
        """Return the value of a cell: an AU as a share, NaN where nothing is known.

        Raises
        ------
        ManifestError
            If it is no number, or lies out of the column's range; with the place.
        """
        if not cell:
            return math.nan
        try:
            value = float(cell.replace(",", "."))
        except ValueError:
            raise ManifestError(f"{where}: {self.title} must be a number, however: {cell!r}") from None
        if value == (-LARGEST if self.unit is None else -1):
            return math.nan
        if self.unit is None and not -1 <= value <= 1:
            raise ManifestError(f"{where}: {self.title} must lie in [-1, 1], or be -5 or blank, however: {cell!r}")
        if self.intensity and not 0 <= value <= LARGEST:
            raise ManifestError(f"{where}: intensities such as {self.title} must lie in [0, 5], however: {cell!r}")
        if self.unit is not None and not self.intensity and value not in (0, 1):
            raise ManifestError(
                f"{where}: action units such as {self.title} must be 0 or 1, blank where not known, however: {cell!r}\n"
                f"  intensities from 0 to 5 stand in columns called such as AU{self.unit}_r"
            )
        return value / LARGEST if self.intensity else value


@dataclass(frozen=True, kw_only=True, eq=False)
class Targets:
    """What is known of samples beside their class."""

    columns: tuple[Target, ...]
    """AUs in the order of the file, then valence and arousal, both or neither."""
    rows: Mapping[str, NDArray[np.float64]]
    """sample_id -> (t,): AUs 0 absent, 1 there, between them an intensity; NaN where nothing is known."""

    @property
    def units(self) -> tuple[int, ...]:
        """FACS numbers of the AUs."""
        return tuple(one.unit for one in self.columns if one.unit is not None)

    def aligned(self, ids: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """Return the targets of these samples by task, `au` (n, a) and `va` (n, 2); NaN for those without a line."""
        nothing = np.full(len(self.columns), np.nan)
        whole = np.stack([self.rows.get(name, nothing) for name in ids])
        parts = {"au": whole[:, : len(self.units)], "va": whole[:, len(self.units) :]}
        return {task: part for task, part in parts.items() if part.shape[1]}

    @property
    def text(self) -> str:
        """Say in words what there is."""
        affect = ["valence and arousal"] if len(self.columns) > len(self.units) else []
        return " and ".join([*([f"{len(self.units)} action units"] if self.units else []), *affect])


def target_of(title: str) -> Target | None:
    """Return what a column's title says of its type; None for a column of anything else."""
    if match := _UNIT.fullmatch(title):
        return Target(title=title, unit=int(match[1]), intensity=(match[2] or "").lower() == "_r")
    if title.lower().removeprefix("va.") in AFFECT:
        return Target(title=title, unit=None)
    return None


def read_targets(path: Path) -> Targets:
    """Read a table of targets, `sample_id` in its first column.

    Raises
    ------
    ManifestError
        With file and line.
    """
    (_, header), *lines = read_cells(path, known=("sample_id",), error=ManifestError) or [(1, [])]
    if header[:1] != ["sample_id"]:
        raise ManifestError(f"{path}: the first column must be sample_id, however: {header[:1]}")
    columns = checked_columns(header[1:], str(path))
    order = [header.index(one.title) for one in columns]
    rows: dict[str, NDArray[np.float64]] = {}
    for line, cells in lines:
        where = f"{path}:{line}"
        if len(cells) != len(header):
            raise ManifestError(f"{where}: expected {len(header)} fields, however: {len(cells)}")
        if cells[0] in rows:
            raise ManifestError(f"{where}: sample_id {cells[0]!r} stands twice")
        rows[cells[0]] = np.array([one.value(cells[at], where) for one, at in zip(columns, order, strict=True)])
    return Targets(columns=columns, rows=rows)


def checked_columns(titles: Sequence[str], where: str) -> tuple[Target, ...]:
    """Return what titles say, AUs first, then valence and arousal.

    Raises
    ------
    ManifestError
        If one says nothing, two are of one kind, there is none, or one of valence and arousal is alone.
    """
    found = {title: target_of(title) for title in titles}
    columns = [one for one in found.values() if one is not None]
    for title, one in found.items():
        if one is None:
            raise ManifestError(
                f"{where}: column {title!r} is no action unit, expected such as AU1 or AU12_r, nor valence or arousal"
            )
    kinds = [one.kind for one in columns]
    if not columns or len(set(kinds)) < len(titles):
        raise ManifestError(f"{where}: expected one column for each AU, such as AU1,AU2, however: {', '.join(titles)}")
    affect = [one for name in AFFECT for one in columns if one.kind == name]
    if len(affect) == 1:
        raise ManifestError(f"{where}: valence and arousal come together, however: {affect[0].title} is alone")
    return (*(one for one in columns if one.unit is not None), *affect)


def write_targets(
    path: Path,
    ids: Iterable[str],
    titles: Sequence[str],
    rows: Mapping[str, Sequence[float]],
    *,
    overwrite: bool = True,
) -> int:
    """Write a table of targets; return how many of the samples have any.

    Parameters
    ----------
    path : Path
    ids : iterable of str
        The samples that get a line, in order.
    titles : sequence of t str
        Of the columns.
    rows : dict of sample_id to t numbers
        As they stand in the file; NaN where nothing is known, written blank.

    Raises
    ------
    ManifestError
        If there are no columns, or a title says nothing.
    """
    checked_columns(titles, f"nothing to write to {path}")
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["sample_id", *titles])
    known = 0
    for name in ids:
        values = rows.get(name, [math.nan] * len(titles))
        known += not all(map(math.isnan, values))
        table.writerow([name, *("" if math.isnan(value) else f"{value:g}" for value in values)])
    files.write_output(path, out.getvalue().encode(), overwrite=overwrite)
    return known
