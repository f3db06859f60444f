"""What a check of a published table found, laid out: the fraction behind every cell, and what cannot be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cer_fusion.challenge.published.check import ColumnCheck, check_column
from cer_fusion.challenge.published.support_search import FoundSupports
from cer_fusion.challenge.published.table import PublishedTable
from cer_fusion.fusion.errors import ReportError
from cer_fusion.fusion.page.table import CROSS, Cell, Table

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
        notes=(*checked.notes, *_origin(checked), *(note for column in checked.columns for note in _notes(column))),
        rules=(len(checked.classes),),
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
    return (f"Supports found: the smallest that explain {left}; {more}. Given ones (--supports) prove more.",)


def _notes(column: ColumnCheck) -> list[str]:
    notes = [
        f"{column.name}, {row}: no whole number of rows gives the printed figure; nearest are {low} and {high}."
        for row, (low, high) in column.impossible.items()
    ]
    if not column.sums_up and not column.impossible:
        notes.append(f"{column.name}: every cell is possible, but their sum is not the printed accuracy.")
    if not column.sums_up:
        notes += _corrected(column)
    if column.cut:
        notes.append(f"{column.name}: cut off rather than rounded: {', '.join(column.cut)}.")
    if column.macro_f1 == "impossible" and column.macro_f1_range is not None:
        low, high = column.macro_f1_range
        notes.append(
            f"{column.name}: no confusion matrix with these right rows has the printed macro F1; "
            f"they allow {low:.2f} to {high:.2f}."
        )
    return notes


def _corrected(column: ColumnCheck) -> list[str]:
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
