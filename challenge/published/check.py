"""Checking a published table: which whole numbers of rows can stand behind its percentages, and which cells cannot be.

A per-class accuracy is a number of right rows over the class's rows (its support), and the total accuracy is the sum of
those numbers over all rows. So a table in percent with a few decimals can be turned back into whole numbers, and a cell
that no whole number gives, or a total that is no sum, is a slip. A printed figure may be rounded or cut off: both are
accepted, and which it was is said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from math import ceil, floor
from typing import Literal, TypeAlias

from cer_fusion.fusion.errors import ReportError

Counts: TypeAlias = range
"""Whole numbers of right rows that would be printed as one figure; empty when none would."""


@dataclass(frozen=True, kw_only=True)
class Correction:
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
    corrections: tuple[Correction, ...]
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
) -> tuple[Correction, ...]:
    """Every single cell whose change alone makes the column add up, the least change of digits first."""
    bad = [i for i, found in enumerate(counts) if not found]
    found = []
    for i, (row, cell) in enumerate(cells.items()):
        if total and (not bad or bad == [i]):
            others = _sum([one for j, one in enumerate(counts) if j != i])
            needed = range(max(0, total[0] - others[-1]), min(supports[i], total[-1] - others[0]) + 1)
            values = {printed(k, supports[i], cell) for k in needed} - {cell}
            found.append(Correction(row=row, printed=cell, instead=_by_digits(values, cell)))
    if not bad:
        sums, n = _sum(counts), sum(supports)
        values = {printed(k, n, accuracy) for k in sums}
        found.append(Correction(row="accuracy", printed=accuracy, instead=_by_digits(values, accuracy)))
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
