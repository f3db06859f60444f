"""What else is known of samples: typed columns of a manifest, or a table of targets beside it.

A manifest's columns of numbers are known by their titles, blank where nothing is known: `au.12` (an action unit, AU, by
its FACS number) lies in [0, 1], 0 absent, 1 present, between them an intensity as its share of 5; `va.valence` and
`va.arousal` lie in [-1, 1], both or neither; `time_s` is the second of a frame in its video; `votes.<class>` are
annotators' votes for a class. Adapters put them there, and heads of several tasks learn from them.

A table beside it, ``sample_id,AU1,AU2_r,…,valence,arousal``, is for targets from elsewhere: `AU12` (also `AU12_c`,
`AU_12`) is 0 or 1; `AU12_r`, as OpenFace calls it, is an intensity from 0 to 5 (FACS: absent, A to E), read as a share
of 5; `au.12` is such a share; `valence` and `arousal` (also `va.valence`) lie in [-1, 1]. `cer-feat manifest …
--targets` writes one, `cer-fuse train --targets` learns from it. -1 of an AU and -5 of valence or arousal are
Aff-Wild2's words for unknown.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...kit.text import read_cells
from ..errors import ManifestError, listing, nearest
from ..rows import files
from .columns import Numbers

AFFECT: Final = ("valence", "arousal")
"""Columns of the task `va`, in this order."""
LARGEST: Final = 5
"""Of FACS's intensities."""
TIME: Final = "time_s"
_VALENCE, _AROUSAL = (f"va.{name}" for name in AFFECT)
_PREFIXES = ("au.", "va.", "votes.")
_UNIT = re.compile(r"AU([_.]?)0*([1-9][0-9]?)(_[cr])?", re.IGNORECASE)
_COLUMN = re.compile(r"au\.0*([1-9][0-9]?)", re.IGNORECASE)


def typed_titles(titles: Sequence[str], where: str) -> tuple[list[str], tuple[str, ...]]:
    """Return the titles of a table, columns of numbers as a manifest writes them, and which these are.

    Raises
    ------
    ManifestError
        If one begins as such a column does and is none, or one of valence and arousal is alone; with the place.
    """
    written = [_as_written(title) for title in titles]
    typed = tuple(dict.fromkeys(filter(is_typed, written)))
    check_titles(typed, where)
    return written, typed


def is_typed(title: str) -> bool:
    """Whether a column's title begins as one of numbers, which it may still not be."""
    return title.casefold() == TIME or title.casefold().startswith(_PREFIXES)


def _as_written(title: str) -> str:
    if match := _COLUMN.fullmatch(title):
        return f"au.{match[1]}"
    folded = title.casefold()
    if folded in (_VALENCE, _AROUSAL, TIME):
        return folded
    return f"votes.{title[6:]}" if folded.startswith("votes.") else title


def check_titles(titles: Collection[str], where: str) -> None:
    """Refuse titles that are no columns of numbers, and one of valence and arousal alone."""
    for title in titles:
        if title in (_VALENCE, _AROUSAL, TIME) or (title.startswith("votes.") and title != "votes."):
            continue
        if title != _as_written(title) or _COLUMN.fullmatch(title) is None:
            raise ManifestError(
                f"{where}: unknown column {title!r}; columns of numbers are called au.12 (an action unit by its FACS "
                f"number), {_VALENCE} and {_AROUSAL}, {TIME}, and votes.CLASS"
            )
    affect = [title for title in (_VALENCE, _AROUSAL) if title in titles]
    if len(affect) == 1:
        raise ManifestError(f"{where}: {_VALENCE} and {_AROUSAL} come together, however: {affect[0]} is alone")


def meaning_of(title: str) -> str:
    """What the numbers of a column must do: `lie in [-1, 1], …`."""
    if title.startswith("au."):
        return (
            f"lie in [0, 1] (0 absent, 1 present, between them an intensity as its share of {LARGEST}), or be blank "
            "where it is not known"
        )
    if title.startswith("va."):
        return "lie in [-1, 1], or be blank where it is not known"
    return f"be a number{' of seconds' if title == TIME else ''} from 0 up, or blank where it is not known"


def checked_numbers(
    further: Mapping[str, Numbers], classes: Sequence[str], *, where: str, place: Callable[[int], str]
) -> dict[str, Numbers]:
    """Return a manifest's columns of numbers in order: votes by class, action units, valence and arousal, time.

    Parameters
    ----------
    further : dict of title to Numbers
    classes : sequence of str
        The manifest's.
    where : str
        What messages call the manifest.
    place : callable
        Where the sample at a position stands, for messages.

    Raises
    ------
    ManifestError
        For columns that are none, numbers out of their range, valence without arousal, votes for what is no class, and
        samples with votes of 0 alone.
    """
    check_titles(further.keys(), where)
    of_class = {f"votes.{label}": label for label in classes}
    for title in further:
        if title.startswith("votes.") and title not in of_class:
            raise ManifestError(f"{where}: column {title!r} is of no class; {nearest(title[6:], classes)}")
    for title, numbers in further.items():
        least, most = (-1.0 if title.startswith("va.") else 0.0), (1.0 if title[:3] in ("au.", "va.") else math.inf)
        values = numbers.values
        wrong = (values < least) | (values > most) | np.isinf(values)
        if wrong.any():
            i = int(wrong.argmax())
            raise ManifestError(f"{place(i)}: {title} must {meaning_of(title)}, however: {values[i]:g}")
    if _VALENCE in further:
        unknown = [np.isnan(further[title].values) for title in (_VALENCE, _AROUSAL)]
        alone = unknown[0] != unknown[1]
        if alone.any():
            i = int(alone.argmax())
            blank = _VALENCE if unknown[0][i] else _AROUSAL
            raise ManifestError(
                f"{place(i)}: {_VALENCE} and {_AROUSAL} are known together or not at all, however: {blank} is blank"
            )
    votes = [title for title in of_class if title in further]
    if votes:
        given = np.stack([further[title].values for title in votes])  # (k, n)
        empty = ~np.isnan(given).all(axis=0) & ~(np.nan_to_num(given) > 0).any(axis=0)
        if empty.any():
            i = int(empty.argmax())
            raise ManifestError(f"{place(i)}: some class must have votes, however: all have 0 (blank if not known)")
    units = sorted((title for title in further if title.startswith("au.")), key=lambda title: int(title[3:]))
    order = (*votes, *units, *(title for title in (_VALENCE, _AROUSAL, TIME) if title in further))
    return {title: further[title] for title in order}


def without_empty_votes(further: Mapping[str, Numbers]) -> dict[str, Numbers]:
    """Return the columns; samples whose votes were all for classes that are gone have none any more."""
    votes = [title for title in further if title.startswith("votes.")]
    if not votes:
        return dict(further)
    any_left = np.any([np.nan_to_num(further[title].values) > 0 for title in votes], axis=0)
    return {
        title: Numbers(np.where(any_left, one.values, np.nan)) if title in votes else one
        for title, one in further.items()
    }


def is_target(title: str) -> bool:
    """Whether a manifest's column is one that heads of several tasks learn."""
    return title.startswith(("au.", "va."))


def targets_of(further: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """Return a manifest's columns by task, `au` (n, a) and `va` (n, 2), NaN where nothing is known; {} without any."""
    units = [f"au.{unit}" for unit in units_of(further)]
    parts = {"au": units, "va": [title for title in (_VALENCE, _AROUSAL) if title in further]}
    return {task: np.stack([further[one] for one in titles], axis=1) for task, titles in parts.items() if titles}


def units_of(further: Iterable[str]) -> tuple[int, ...]:
    """Return the FACS numbers of the action units among titles, ascending."""
    return tuple(sorted(int(title[3:]) for title in further if title.startswith("au.")))


def shares_of(further: Mapping[str, NDArray[np.float64]], classes: Sequence[str]) -> NDArray[np.float64] | None:
    """Return the share of each class in the votes of each sample, (n, k); NaN without votes. None without columns."""
    columns = [further.get(f"votes.{label}") for label in classes]
    there = next((one for one in columns if one is not None), None)
    if there is None:
        return None
    votes = np.stack([np.full(len(there), np.nan) if one is None else one for one in columns], axis=1)  # (n, k)
    known = ~np.isnan(votes).all(axis=1, keepdims=True)
    votes = np.nan_to_num(votes)
    return np.where(known, votes / np.where(known, votes.sum(axis=1, keepdims=True), 1), np.nan)


def columns_told(further: Collection[str]) -> dict[str, list[str]]:
    """Say in words what there is among a manifest's columns, each with its titles."""
    units = [title for title in further if title.startswith("au.")]
    votes = [title for title in further if title.startswith("votes.")]
    affect = [title for title in further if title.startswith("va.")]
    words = {"votes": votes, units_text(len(units)): units, "valence and arousal": affect, "times": [TIME]}
    return {text: titles for text, titles in words.items() if titles and set(titles) <= set(further)}


def known_texts(further: Mapping[str, NDArray[np.float64]]) -> list[str]:
    """Say of how many samples something is known: `2 action units of 3 of 4 samples (au.1, au.12)`."""
    found = []
    for text, titles in columns_told(further).items():
        known: NDArray[np.bool_] = np.logical_or.reduce([~np.isnan(further[title]) for title in titles])
        found.append(f"{text} of {int(known.sum()):,} of {len(known):,} samples ({listing(titles)})")
    return found


def units_text(count: int) -> str:
    """Return `2 action units`, in words."""
    return "one action unit" if count == 1 else f"{count} action units"


@dataclass(frozen=True, kw_only=True)
class Target:
    """One column of targets."""

    title: str
    """As the file has it."""
    unit: int | None
    """FACS number of an AU; None of valence and arousal."""
    intensity: bool = False
    """Whether an AU is an intensity from 0 to 5."""
    share: bool = False
    """Whether an AU is a number in [0, 1], as those of a manifest are."""

    @property
    def column(self) -> str:
        """What a manifest calls the column."""
        return f"au.{self.unit}" if self.unit is not None else f"va.{self.kind}"

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
        if self.share and not 0 <= value <= 1:
            raise ManifestError(f"{where}: {self.title} must {meaning_of('au.')}, however: {cell!r}")
        if self.unit is not None and not (self.intensity or self.share) and value not in (0, 1):
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
        of = (match[3] or "").lower()
        return Target(title=title, unit=int(match[2]), intensity=of == "_r", share=match[1] == "." and not of)
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
