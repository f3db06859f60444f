"""Finding the supports behind a published table: the smallest whole numbers of rows that explain every column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from heapq import heappop, heappush

from cer_fusion.challenge.published.check import allowed
from cer_fusion.challenge.published.table import PublishedTable
from cer_fusion.fusion.errors import ReportError

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
    for wrong, choices in ((0, [clean]), (1, [clean, *_one_odd(clean, odd)])):
        found = sorted(
            (sum(supports), supports) for choice in choices for supports in _fitting(choice, accuracies, wrong, n)
        )
        if found:
            later = [total for total, _ in found if total > found[0][0]]
            return FoundSupports(found[0][1], wrong, later[0] if later else None)
    poor = [name for name, few, more in zip(table.classes, clean, odd, strict=True) if not few and not more]
    raise ReportError(
        f"no supports of at most {limit} rows a class explain this table, even with one cell wrong"
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


def _fitting(
    choice: list[list[_Option]], accuracies: Sequence[Decimal], wrong: int, n: int | None
) -> Iterator[tuple[int, ...]]:
    """Yield up to two fitting combinations, smallest total first."""
    left = 2
    for tried, combination in enumerate(_ascending(choice)):
        total = sum(one.support for one in combination)
        if not left or tried >= TRIED or (n is not None and total > n):
            return
        if n is not None and total != n:
            continue
        if sum(not _adds_up(combination, j, accuracy, total) for j, accuracy in enumerate(accuracies)) <= wrong:
            left -= 1
            yield tuple(one.support for one in combination)


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
