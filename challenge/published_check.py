"""Checking a published table: which whole numbers of rows can stand behind its percentages, which cells cannot be.

A per-class accuracy is a number of right rows over the class's rows (its support), and the total accuracy is the sum of
those numbers over all rows. So a table in percent with a few decimals can be turned back into whole numbers, and a cell
that no whole number gives, or a total that is no sum, is a slip. A printed figure may be rounded or cut off: both are
accepted, and which it was is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from heapq import heappop, heappush
from itertools import product
from math import ceil, floor
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..fusion.errors import ReportError
from ..kit.table import CROSS, Cell, Table
from .published_table import PublishedTable

Counts: TypeAlias = range
"""Whole numbers of right rows that would be printed as one figure; empty when none would."""


@dataclass(frozen=True, kw_only=True)
class CellCorrection:
    """One cell that, printed otherwise, would make its column consistent."""

    row: str
    """A class, or ``accuracy``."""
    printed: Decimal
    """What the table says, percent."""
    instead: tuple[Decimal, ...]
    """What it could say, percent, nearest in its digits first."""


@dataclass(frozen=True, kw_only=True)
class ColumnCheck:
    """One system of the table."""

    name: str
    """Column title."""
    counts: tuple[Counts, ...]
    """For each class the numbers of right rows that its cell allows."""
    total: Counts
    """The numbers of right rows that the accuracy allows."""
    impossible: Mapping[str, tuple[Decimal, Decimal]]
    """Cells that no whole number gives -> the nearest figures below and above that one does, percent."""
    cut: tuple[str, ...]
    """Cells that were cut off rather than rounded."""
    sums_up: bool
    """Whether the cells can add up to the accuracy; False as well when a cell is impossible."""
    corrections: tuple[CellCorrection, ...]
    """Each would make the column consistent alone; none when it is so already, or when one is not enough."""
    macro_f1: Literal["absent", "possible", "impossible"]
    """Whether some confusion matrix with these counts has the macro F1 that is stated."""
    macro_f1_range: tuple[float, float] | None
    """The macro F1 that such matrices have, percent; None unless the counts are known."""

    @property
    def consistent(self) -> bool:
        """Whether nothing speaks against the column."""
        return self.sums_up and self.macro_f1 != "impossible"

    @property
    def correct(self) -> tuple[int, ...] | None:
        """Right rows of each class, where the table leaves no choice."""
        return tuple(one[0] for one in self.counts) if all(len(one) == 1 for one in self.counts) else None


def check_column(
    name: str,
    cells: Mapping[str, Decimal],
    supports: Sequence[int],
    accuracy: Decimal,
    macro_f1: Decimal | None = None,
) -> ColumnCheck:
    """Check one column against known supports.

    Parameters
    ----------
    name : str
        Its title.
    cells : dict of class name to Decimal
        Per-class accuracy in percent, with the decimals that were printed.
    supports : sequence of int
        Rows of each class, at least 1, in the same order.
    accuracy : Decimal
        Total accuracy, percent.
    macro_f1 : Decimal, optional
        Percent; compared with what `macro_f1_range` allows.
    """
    n = sum(supports)
    counts = tuple(allowed(cell, support) for cell, support in zip(cells.values(), supports, strict=True))
    total = allowed(accuracy, n)
    printed = [*zip(cells.items(), supports, counts, strict=True), (("accuracy", accuracy), n, total)]
    sums_up = all(counts) and _meet(_sum(counts), total)
    corrections = () if sums_up else _corrections(cells, supports, counts, accuracy, total)
    exact = all(len(one) == 1 for one in counts) and sums_up
    bounds = macro_f1_range([one[0] for one in counts], supports) if exact else None
    possible = bounds is None or macro_f1 is None or _within(macro_f1, bounds)
    return ColumnCheck(
        name=name,
        counts=counts,
        total=total,
        impossible={row: neighbours(cell, support) for (row, cell), support, found in printed if not found},
        cut=tuple(row for (row, cell), support, found in printed if found and not _rounds(cell, support, found)),
        sums_up=sums_up,
        corrections=corrections,
        macro_f1="absent" if macro_f1 is None or bounds is None else "possible" if possible else "impossible",
        macro_f1_range=None if bounds is None else (float(100 * bounds[0]), float(100 * bounds[1])),
    )


def allowed(cell: Decimal, support: int) -> Counts:
    """Return the whole numbers k for which 100 k / support is printed as this cell, rounded or cut off."""
    share, unit = Fraction(cell) / 100, _unit(cell) / 100
    low = max(0, ceil(support * (share - unit / 2)))
    high = min(support, ceil(support * (share + unit)) - 1)
    return range(low, max(low, high + 1))


def neighbours(cell: Decimal, support: int) -> tuple[Decimal, Decimal]:
    """Return the nearest percentages of this support below and above the cell, with as many decimals."""
    k = min(support, max(0, floor(support * Fraction(cell) / 100)))
    return printed(k, support, cell), printed(min(k + 1, support), support, cell)


def printed(k: int, support: int, like: Decimal) -> Decimal:
    """Return 100 k / support with as many decimals as ``like``, halves up as tables have them."""
    steps = floor(Fraction(100 * k, support) / _unit(like) + Fraction(1, 2))
    return (Decimal(steps) * Decimal(1).scaleb(int(like.as_tuple().exponent))).quantize(like)


def macro_f1_range(correct: Sequence[int], supports: Sequence[int]) -> tuple[Fraction, Fraction]:
    """Return the least and the greatest macro F1 of all confusion matrices with these diagonals and row sums, 0-1.

    Only the numbers f of wrong predictions of each class are free: they sum to the number m of wrong rows, and
    f_c + (wrong rows of class c) <= m, because a class's own wrong rows are not called by its name; every such f
    belongs to a matrix (max-flow min-cut). F1 = 2 k / (s + k + f) is convex in f. So the least sum is found by giving
    wrong predictions one by one where they cost most, and the greatest at a corner, where at most two classes have any.
    """
    wrong = [s - k for k, s in zip(correct, supports, strict=True)]
    m, classes = sum(wrong), range(len(supports))

    def f1(c: int, f: int) -> Fraction:
        return Fraction(2 * correct[c], supports[c] + correct[c] + f) if supports[c] + correct[c] + f else Fraction(0)

    least = [0] * len(supports)
    for _ in range(m):
        free = [c for c in classes if least[c] < m - wrong[c]]
        dearest = max(free, key=lambda c: f1(c, least[c]) - f1(c, least[c] + 1))
        least[dearest] += 1
    corners = [{a: m - wrong[a], b: wrong[a]} for a in classes for b in classes if a != b]
    greatest = max(sum((f1(c, corner.get(c, 0)) for c in classes), Fraction(0)) for corner in corners)
    return sum((f1(c, f) for c, f in enumerate(least)), Fraction(0)) / len(supports), greatest / len(supports)


def _corrections(
    cells: Mapping[str, Decimal], supports: Sequence[int], counts: Sequence[Counts], accuracy: Decimal, total: Counts
) -> tuple[CellCorrection, ...]:
    """Every single cell whose change alone makes the column add up, the least change of digits first."""
    bad = [i for i, found in enumerate(counts) if not found]
    found = []
    for i, (row, cell) in enumerate(cells.items()):
        if total and (not bad or bad == [i]):
            others = _sum([one for j, one in enumerate(counts) if j != i])
            needed = range(max(0, total[0] - others[-1]), min(supports[i], total[-1] - others[0]) + 1)
            values = {printed(k, supports[i], cell) for k in needed} - {cell}
            found.append(CellCorrection(row=row, printed=cell, instead=_by_digits(values, cell)))
    if not bad:
        sums, n = _sum(counts), sum(supports)
        values = {printed(k, n, accuracy) for k in sums}
        found.append(CellCorrection(row="accuracy", printed=accuracy, instead=_by_digits(values, accuracy)))
    likely = [one for one in found if one.instead]
    return tuple(sorted(likely, key=lambda one: (_changed(one.instead[0], one.printed), len(one.instead))))


def _by_digits(values: set[Decimal], cell: Decimal) -> tuple[Decimal, ...]:
    return tuple(sorted(values, key=lambda value: (_changed(value, cell), abs(value - cell))))


def _changed(value: Decimal, cell: Decimal) -> int:
    """How many digits differ: a slip of the pen changes one."""
    a, b = str(value), str(cell)
    width = max(len(a), len(b))
    return sum(x != y for x, y in zip(a.rjust(width), b.rjust(width), strict=True))


def _sum(counts: Sequence[Counts]) -> Counts:
    return range(sum(one[0] for one in counts), sum(one[-1] for one in counts) + 1)


def _meet(a: Counts, b: Counts) -> bool:
    return bool(a) and bool(b) and a[0] <= b[-1] and b[0] <= a[-1]


def _rounds(cell: Decimal, support: int, found: Counts) -> bool:
    half = _unit(cell) / 2
    return any(abs(Fraction(100 * k, support) - Fraction(cell)) <= half for k in found)


def _within(cell: Decimal, bounds: tuple[Fraction, Fraction]) -> bool:
    return 100 * bounds[0] - _unit(cell) < Fraction(cell) < 100 * bounds[1] + _unit(cell)


def _unit(cell: Decimal) -> Fraction:
    """One in the last digit that was printed, in percent: 10 of a fraction with one decimal."""
    exponent = cell.as_tuple().exponent
    if not isinstance(exponent, int):
        raise ReportError(f"a cell must be a number of percent, however: {cell}")
    return Fraction(10) ** exponent


LIMIT = 300
"""Largest support that is tried. Above a few hundred rows, two decimals fit almost any support."""

TRIED = 100_000
"""Combinations of supports that are tried, smallest total first."""


@dataclass(frozen=True)
class FoundSupports:
    """Supports that explain a table."""

    supports: tuple[int, ...]
    """Rows of each class."""
    contradictions: int
    """Columns that they leave with one cell that cannot be: 0, or 1 when nothing explains all columns."""
    next_n: int | None
    """Rows in all of the next larger supports that explain as much, among those tried; None when there is none."""


@dataclass(frozen=True)
class _Option:
    """One support of one class: for each column the least and the most right rows; None where it cannot be."""

    support: int
    ranges: tuple[tuple[int, int] | None, ...]


def find_supports(table: PublishedTable, *, limit: int = LIMIT, n: int | None = None) -> FoundSupports:
    """Find the supports of the smallest total that make every column possible, or else all but one cell.

    Parameters
    ----------
    table : PublishedTable
        The more columns, the fewer supports explain them all.
    limit : int
        Largest support that is tried.
    n : int, optional
        Rows in all, when they are known.

    Raises
    ------
    ReportError
        If nothing up to the limit explains the table, even with one cell wrong.
    """
    cells = [[column[c] for column in table.columns.values()] for c in range(len(table.classes))]
    options = [_options(row, limit) for row in cells]
    clean = [[one for one in found if None not in one.ranges] for found in options]
    odd = [[one for one in found if one.ranges.count(None) == 1] for found in options]
    accuracies = list(table.accuracy.values())
    whole = True
    for wrong, choices in ((0, [clean]), (1, [clean, *_one_odd(clean, odd)])):
        searches = [_Search(choice, accuracies, wrong, n) for choice in choices]
        found = sorted((sum(supports), supports) for search in searches for supports in search.fitting())
        whole &= not any(search.cut for search in searches)
        if found:
            later = [total for total, _ in found if total > found[0][0]]
            return FoundSupports(found[0][1], wrong, later[0] if later else None)
    poor = [name for name, few, more in zip(table.classes, clean, odd, strict=True) if not few and not more]
    if not whole:
        raise ReportError(
            "whether any supports explain this table is not known: the search was cut short\n"
            f"  {'the columns allow too many sums' if n else f'the {TRIED:,} smallest combinations do not'}: give what "
            "is known, --supports 38,35,116" + ("" if n else " or --total 397") + ", or more columns of the same table"
        )
    raise ReportError(
        f"no supports of at most {limit} rows a class explain this table"
        + (f" with {n} rows in all" if n else "")
        + ", even with one cell wrong"
        + (f"; nothing fits {', '.join(poor)}" if poor else "")
        + "\n  give what is known: --supports 38,35,116 or --total 397, or a larger --limit"
    )


def _options(row: Sequence[Decimal], limit: int) -> list[_Option]:
    found = []
    for support in range(1, limit + 1):
        counts = [allowed(cell, support) for cell in row]
        if sum(not one for one in counts) <= 1:
            found.append(_Option(support, tuple((one[0], one[-1]) if one else None for one in counts)))
    return found


def _one_odd(clean: list[list[_Option]], odd: list[list[_Option]]) -> list[list[list[_Option]]]:
    return [[*clean[:c], odd[c], *clean[c + 1 :]] for c in range(len(clean))]


class _Search:
    """A search among one support a class; `cut` tells whether it ended before everything was looked at."""

    def __init__(self, choice: list[list[_Option]], accuracies: Sequence[Decimal], wrong: int, n: int | None) -> None:
        self._choice, self._accuracies, self._wrong, self._n = choice, accuracies, wrong, n
        self.cut = False

    def fitting(self) -> Iterator[tuple[int, ...]]:
        """Yield combinations that fit: up to two, smallest total first; for a known total the first of each kind."""
        if not all(self._choice):
            return
        if self._n is None:
            yield from self._ascending()
            return
        for spared in (None,) if not self._wrong else range(len(self._accuracies)):
            found = self._of_total(self._n, spared)
            if found is not None:
                yield found

    def _ascending(self) -> Iterator[tuple[int, ...]]:
        left = 2
        for tried, combination in enumerate(_ascending(self._choice)):
            if not left:
                return
            if tried >= TRIED:
                self.cut = True
                return
            total = sum(one.support for one in combination)
            wrong = (not _adds_up(combination, j, accuracy, total) for j, accuracy in enumerate(self._accuracies))
            if sum(wrong) <= self._wrong:
                left -= 1
                yield tuple(one.support for one in combination)

    def _of_total(self, n: int, spared: int | None) -> tuple[int, ...] | None:
        """The first supports that sum to `n` and all columns but `spared` to their accuracies, if there are any.

        The sums that the last classes can have are built up class by class, from the end; then the smallest support of
        the first class is taken that leaves a sum which the others have, and so on.
        """
        columns = [j for j in range(len(self._accuracies)) if j != spared]
        rights = [allowed(self._accuracies[j], n) for j in columns]
        if not all(rights):
            return None
        steps = [_steps(options, columns, n) for options in self._choice]
        if not all(len(one) for one in steps):
            return None
        most = np.array([n, *(right[-1] for right in rights)])
        reached = [np.zeros((1, 1 + len(columns)), np.int64)]
        for step in reversed(steps):
            if len(reached[-1]) * len(step) > _MOST_SUMS:
                self.cut = True
                return None
            sums = (reached[-1][:, None, :] + step[None, :, :]).reshape(-1, 1 + len(columns))
            reached.append(np.unique(sums[(sums <= most).all(axis=1)], axis=0))
        reached.reverse()
        least = np.array([n, *(right[0] for right in rights)])
        ends = reached[0][(reached[0] >= least).all(axis=1)]
        if not len(ends):
            return None
        supports, left = [], {tuple(end) for end in ends.tolist()}
        for step, after in zip(steps, reached[1:], strict=True):
            behind = set(map(tuple, after.tolist()))
            for support in np.unique(step[:, 0]):
                taken = step[step[:, 0] == support].tolist()
                rest = {tuple(a - b for a, b in zip(end, one, strict=True)) for end in left for one in taken} & behind
                if rest:
                    supports.append(int(support))
                    left = rest
                    break
        return tuple(supports)


_MOST_SUMS = 30_000_000
"""Sums of a class and those after it that are looked at together."""


def _steps(options: Sequence[_Option], columns: Sequence[int], n: int) -> NDArray[np.int64]:
    """(m, 1 + columns) supports, and right rows in every column, that a class may add; odd cells only where spared."""
    found = [
        (one.support, *right)
        for one in options
        if one.support <= n and all(one.ranges[j] is not None for j in columns)
        for right in product(*(range(low, high + 1) for low, high in (one.ranges[j] or (0, -1) for j in columns)))
    ]
    return np.array(found, np.int64).reshape(-1, 1 + len(columns))


def _adds_up(combination: Sequence[_Option], column: int, accuracy: Decimal, n: int) -> bool:
    ranges = [one.ranges[column] for one in combination]
    known = [one for one in ranges if one is not None]
    right = allowed(accuracy, n)
    return (
        len(known) == len(ranges)
        and bool(right)
        and sum(low for low, _ in known) <= right[-1]
        and right[0] <= sum(high for _, high in known)
    )


def _ascending(choice: list[list[_Option]]) -> Iterator[list[_Option]]:
    """Yield one option a class, in ascending order of the sum of their supports."""
    if not all(choice):
        return
    first = (0,) * len(choice)
    heap = [(sum(found[0].support for found in choice), first)]
    seen = {first}
    while heap:
        total, at = heappop(heap)
        yield [found[i] for found, i in zip(choice, at, strict=True)]
        for c, found in enumerate(choice):
            after = (*at[:c], at[c] + 1, *at[c + 1 :])
            if after[c] < len(found) and after not in seen:
                seen.add(after)
                heappush(heap, (total - found[at[c]].support + found[after[c]].support, after))


_SHOWN = 3  # corrections and values that are listed


@dataclass(frozen=True, kw_only=True)
class CheckedTable:
    """A published table with the whole numbers behind it."""

    classes: tuple[str, ...]
    """Row titles, in order."""
    supports: tuple[int, ...]
    """Rows of each class: given, or found."""
    found: FoundSupports | None
    """How they were found; None when they were given."""
    columns: tuple[ColumnCheck, ...]
    """One check a system."""
    notes: tuple[str, ...] = ()
    """What of the table was not read to the letter."""

    @property
    def consistent(self) -> bool:
        """Whether nothing speaks against any column."""
        return all(column.consistent for column in self.columns)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; percentages as they would be printed."""
        return {
            "consistent": self.consistent,
            "supports": dict(zip(self.classes, self.supports, strict=True)),
            "supports_found": self.found is not None,
            "n": sum(self.supports),
            "notes": list(self.notes),
            "columns": {column.name: _column_to_dict(self.classes, column) for column in self.columns},
        }


def check_table(table: PublishedTable, supports: Sequence[int], found: FoundSupports | None = None) -> CheckedTable:
    """Check every column of a table against supports that were given or found."""
    if len(supports) != len(table.classes) or min(supports) < 1:
        raise ReportError(
            f"every class needs its support, at least 1, however: {len(supports)} for {', '.join(table.classes)}"
        )
    return CheckedTable(
        classes=table.classes,
        supports=tuple(supports),
        found=found,
        columns=tuple(
            check_column(
                name,
                dict(zip(table.classes, cells, strict=True)),
                supports,
                table.accuracy[name],
                table.macro_f1.get(name),
            )
            for name, cells in table.columns.items()
        ),
        notes=table.notes,
    )


def check_report(checked: CheckedTable) -> Table:
    """Lay a check out: a row a class, in the cells right rows of all rows; notes say what cannot be and what would."""
    rows = [
        (Cell(name), Cell(str(support), support), *(_cell(column, c, name) for column in checked.columns))
        for c, (name, support) in enumerate(zip(checked.classes, checked.supports, strict=True))
    ]
    n = sum(checked.supports)
    rows.append((Cell("accuracy"), Cell(str(n), n), *(_total(column) for column in checked.columns)))
    words = "nothing contradicts" if checked.consistent else "contradictions found"
    return Table(
        title=f"Whole numbers behind the table, {n} rows: {words}",
        header=("Right rows", "rows", *(column.name for column in checked.columns)),
        rows=tuple(rows),
        notes=(
            *checked.notes,
            *_origin(checked),
            *(note for column in checked.columns for note in _notes(column, sought=checked.found is not None)),
        ),
        rules=(len(checked.classes),),
        named="System",
    )


def _cell(column: ColumnCheck, c: int, name: str) -> Cell:
    counts = column.counts[c]
    return Cell(CROSS) if name in column.impossible else Cell(_range(counts), counts[0] if len(counts) == 1 else None)


def _total(column: ColumnCheck) -> Cell:
    if not column.total:
        return Cell(CROSS)
    return Cell(_range(column.total) + ("" if column.sums_up or column.impossible else f" {CROSS}"))


def _range(counts: range) -> str:
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]}–{counts[-1]}"


def _origin(checked: CheckedTable) -> tuple[str, ...]:
    if checked.found is None:
        return ("Supports as given.",)
    more = (
        "multiples or other supports further up explain it as well"
        if checked.found.next_n is None
        else f"the next larger ones that explain as much have {checked.found.next_n} rows"
    )
    left = "every column" if not checked.found.contradictions else "every column but one cell"
    if any(not column.sums_up and not column.corrections for column in checked.columns):
        left = "every column but one, which does not add up with them"
    return (f"Supports found: the smallest that explain {left}; {more}. Given ones (--supports) prove more.",)


def _notes(column: ColumnCheck, *, sought: bool) -> list[str]:
    notes = [
        f"{column.name}, {row}: no whole number of rows gives the printed figure; nearest are {low} and {high}."
        for row, (low, high) in column.impossible.items()
    ]
    if not column.sums_up and not column.impossible:
        notes.append(f"{column.name}: every cell is possible, but their sum is not the printed accuracy.")
    if not column.sums_up:
        notes += _corrected(column, sought=sought)
    if column.cut:
        notes.append(f"{column.name}: cut off rather than rounded: {', '.join(column.cut)}.")
    if column.macro_f1 == "impossible" and column.macro_f1_range is not None:
        low, high = column.macro_f1_range
        notes.append(
            f"{column.name}: no confusion matrix with these right rows has the printed macro F1; "
            f"they allow {low:.2f} to {high:.2f}."
        )
    return notes


def _corrected(column: ColumnCheck, *, sought: bool) -> list[str]:
    if not column.corrections and sought:  # of one column alone other supports may, which were not all looked at
        return [
            f"{column.name}: with these supports no single cell, printed otherwise, makes the column consistent; "
            "with others one may: give them, --supports, or more columns of the same table."
        ]
    if not column.corrections:
        return [f"{column.name}: no single cell, printed otherwise, makes the column consistent."]
    first, *others = column.corrections
    lead = "the one correction that makes" if not others and len(first.instead) == 1 else "one correction that makes"
    notes = [f"{column.name}: {lead} it consistent: {first.row} {first.printed} → {_values(first.instead)}."]
    if others:
        shown = ", ".join(f"{one.row} {one.printed} → {_values(one.instead)}" for one in others[:_SHOWN])
        notes.append(f"{column.name}: also {shown}{', …' if len(others) > _SHOWN else ''}.")
    return notes


def _values(values: Sequence[object]) -> str:
    return " or ".join(map(str, values[:_SHOWN])) + (" …" if len(values) > _SHOWN else "")


def _column_to_dict(classes: Sequence[str], column: ColumnCheck) -> dict[str, Any]:
    return {
        "consistent": column.consistent,
        "right_rows": {name: list(counts) for name, counts in zip(classes, column.counts, strict=True)},
        "right_rows_in_all": list(column.total),
        "impossible": {row: [str(low), str(high)] for row, (low, high) in column.impossible.items()},
        "cut_off": list(column.cut),
        "sums_up": column.sums_up,
        "corrections": [
            {"row": one.row, "printed": str(one.printed), "instead": [str(value) for value in one.instead]}
            for one in column.corrections
        ],
        "macro_f1": column.macro_f1,
        "macro_f1_range": column.macro_f1_range,
    }
