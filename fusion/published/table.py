"""A published table of per-class accuracies, read from CSV: a row a class, a column a system, percent."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from io import StringIO
from pathlib import Path

from fusion.errors import ReportError
from fusion.files.text_file import read_text

SUPPORT_COLUMNS = ("support", "supports", "rows", "n")
ACCURACY_ROWS = ("accuracy", "acc", "total accuracy", "total")
MACRO_F1_ROWS = ("macro f1", "macro_f1", "macro-f1", "f1", "f1-score")


@dataclass(frozen=True, kw_only=True)
class PublishedTable:
    """What the table says, with the decimals that it was printed with."""

    classes: tuple[str, ...]
    """Row titles, in order."""
    columns: Mapping[str, tuple[Decimal, ...]]
    """Column title -> per-class accuracy, percent."""
    accuracy: Mapping[str, Decimal]
    """Column title -> total accuracy, percent."""
    macro_f1: Mapping[str, Decimal]
    """Column title -> macro F1, percent; empty when the table has no such row."""
    supports: tuple[int, ...] | None
    """Rows of each class, where the table has a column of them."""


def read_table(path: Path) -> PublishedTable:
    """Read ``class,<system>,…`` with a row ``accuracy``, and perhaps a row ``macro F1`` and a column ``support``.

    Raises
    ------
    ReportError
        Naming file and line, if it is no such table.
    """
    text = read_text(path, ReportError)
    try:
        reader = csv.reader(StringIO(text, newline=""), strict=True)
        lines = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]
    except csv.Error as error:
        raise ReportError(f"{path}: {error}") from None
    return _parsed(path, lines)


def _parsed(path: Path, lines: list[tuple[int, list[str]]]) -> PublishedTable:
    header = lines[0][1] if lines else []
    systems = [title for title in header[1:] if title.lower() not in SUPPORT_COLUMNS]
    if not systems or len(set(header)) < len(header) or len(systems) < len(header) - 2:
        raise ReportError(f"{path}:1: expected the columns class, <system>, …, all different, however: {header}")
    rows: dict[str, dict[str, str]] = {}
    for number, cells in lines[1:]:
        if len(cells) != len(header) or cells[0] in rows:
            what = "a row title twice" if cells[0] in rows else f"{len(cells)} cells"
            raise ReportError(f"{path}:{number}: expected {len(header)} cells and a new row title, however: {what}")
        rows[cells[0]] = dict(zip(header, cells, strict=True))
    totals = {name: [row for row in rows if row.lower() in known] for name, known in _TOTALS.items()}
    if len(totals["accuracy"]) != 1 or len(totals["macro F1"]) > 1:
        raise ReportError(f"{path}: expected one row 'accuracy' and at most one 'macro F1', however: {', '.join(rows)}")
    special = [row for found in totals.values() for row in found]
    classes = tuple(row for row in rows if row not in special)
    if len(classes) < 2:
        raise ReportError(f"{path}: expected at least two classes, however: {', '.join(classes) or 'none'}")
    counted = [title for title in header[1:] if title not in systems]
    return PublishedTable(
        classes=classes,
        columns={name: tuple(_percent(path, row, name, rows[row][name]) for row in classes) for name in systems},
        accuracy={name: _percent(path, special[0], name, rows[special[0]][name]) for name in systems},
        macro_f1={name: _percent(path, row, name, rows[row][name]) for row in totals["macro F1"] for name in systems},
        supports=tuple(_count(path, row, rows[row][counted[0]]) for row in classes) if counted else None,
    )


_TOTALS = {"accuracy": ACCURACY_ROWS, "macro F1": MACRO_F1_ROWS}


def _percent(path: Path, row: str, column: str, text: str) -> Decimal:
    try:
        value = Decimal(text.removesuffix("%").strip())
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite() or not 0 <= value <= 100:
        raise ReportError(f"{path}: row {row!r}, column {column!r}: expected percent, 0 to 100, however: {text!r}")
    return value


def _count(path: Path, row: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise ReportError(f"{path}: row {row!r}: expected a support, a whole number of rows, however: {text!r}")
    return int(text)
