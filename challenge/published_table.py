"""Other people's tables, read with the decimals that they were printed with."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from pathlib import Path

from ..fusion.errors import ReportError
from ..kit.errors import listing
from ..kit.text import read_cells

SUPPORT_COLUMNS = ("support", "supports", "rows", "n")
ACCURACY_ROWS = ("accuracy", "acc", "total accuracy", "total")
MACRO_F1_ROWS = ("macro f1", "macro_f1", "macro-f1", "f1", "f1-score")
_TOTALS = {"accuracy": ACCURACY_ROWS, "macro F1": MACRO_F1_ROWS}


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
    notes: tuple[str, ...] = ()
    """What was not read to the letter, in sentences."""


def read_table(path: Path | str) -> PublishedTable:
    """Read ``class,<system>,…`` with a row ``accuracy``, and perhaps a row ``macro F1`` and a column ``support``.

    Raises
    ------
    ReportError
        Naming file and line, if it is no such table.
    """
    path = Path(path)
    return _as_percent(_parsed(path, read_cells(path, error=ReportError)))


def _parsed(path: Path, lines: list[tuple[int, list[str]]]) -> PublishedTable:
    header = lines[0][1] if lines else []
    systems = [title for title in header[1:] if _plain(title) not in SUPPORT_COLUMNS]
    if not systems or len(set(header)) < len(header) or len(systems) < len(header) - 2:
        raise ReportError(f"{path}:1: expected the columns class, <system>, …, all different, however: {header}")
    rows: dict[str, dict[str, str]] = {}
    for number, cells in lines[1:]:
        if len(cells) != len(header) or cells[0] in rows:
            what = "a row title twice" if cells[0] in rows else f"{len(cells)} cells"
            raise ReportError(f"{path}:{number}: expected {len(header)} cells and a new row title, however: {what}")
        rows[cells[0]] = dict(zip(header, cells, strict=True))
    totals = {name: [row for row in rows if _plain(row) in known] for name, known in _TOTALS.items()}
    if len(totals["accuracy"]) != 1 or len(totals["macro F1"]) > 1:
        raise ReportError(
            f"{path}: expected one row 'accuracy' and at most one 'macro F1', however: {listing(rows, 8)}"
        )
    special = [row for found in totals.values() for row in found]
    classes = tuple(row for row in rows if row not in special)
    if len(classes) < 2:
        raise ReportError(f"{path}: expected at least two classes, however: {', '.join(classes) or 'none'}")
    counted = [title for title in header[1:] if title not in systems]
    spread = [name for name in systems if any("±" in _unmarked(row[name]) for row in rows.values())]
    return PublishedTable(
        classes=classes,
        columns={name: tuple(_percent(path, row, name, rows[row][name]) for row in classes) for name in systems},
        accuracy={name: _percent(path, special[0], name, rows[special[0]][name]) for name in systems},
        macro_f1={name: _percent(path, row, name, rows[row][name]) for row in totals["macro F1"] for name in systems},
        supports=tuple(_count(path, row, rows[row][counted[0]]) for row in classes) if counted else None,
        notes=_spread_note(spread),
    )


def _as_percent(table: PublishedTable) -> PublishedTable:
    """The table with what was given as fractions of 1 in percent; a row of macro F1 may be so alone."""
    fractions = [
        name for name in table.columns if _are_fractions([*table.columns[name], table.accuracy[name]])
    ]  # fmt: skip
    f1 = [name for name, value in table.macro_f1.items() if name in fractions or _are_fractions([value])]
    if not fractions and not f1:
        return table
    notes = []
    if fractions:
        which = "the table" if len(fractions) == len(table.columns) else ", ".join(fractions)
        notes.append(f"Read as fractions of 1, not as percent: {which}. Figures here are percent.")
    if set(f1) - set(fractions):
        notes.append(f"Macro F1 read as fractions of 1: {', '.join(name for name in f1 if name not in fractions)}.")
    return replace(
        table,
        columns={
            name: tuple(value.scaleb(2) for value in cells) if name in fractions else cells
            for name, cells in table.columns.items()
        },
        accuracy={n: value.scaleb(2) if n in fractions else value for n, value in table.accuracy.items()},
        macro_f1={n: value.scaleb(2) if n in f1 else value for n, value in table.macro_f1.items()},
        notes=(*table.notes, *notes),
    )


def _are_fractions(values: Sequence[Decimal]) -> bool:
    """Whether figures can be fractions alone: none above 1, and one between."""
    return max(values) <= 1 and any(0 < value < 1 for value in values)


def _spread_note(systems: Sequence[str]) -> tuple[str, ...]:
    if not systems:
        return ()
    return (
        f"{', '.join(systems)}: means of several runs (±), behind which no whole number of rows need stand; what "
        "contradicts here contradicts a single run alone.",
    )


_AROUND = re.compile(
    r"^[\s*_†‡§¶$~]+|[\s*_†‡§¶$#^¹²³⁰-⁹ᵃ-ᶻ]+$|\\(?:textbf|underline|mathbf|emph)\b|[{}]|\^?\{?\[[a-z\d]\]\}?$"
)
"""Print and footnotes around a figure: bold, underlined, raised marks."""


def _unmarked(text: str) -> str:
    before = ""
    while text != before:
        before, text = (
            text,
            _AROUND.sub("", text.replace("\\%", "%").replace("\\pm", "±").replace("+-", "±").replace("+/-", "±")),
        )
    return text


def _plain(title: str) -> str:
    """A title without its unit and footnote marks, in lower case."""
    return re.sub(r"\s*[(\[]\s*%\s*[)\]]$|\s*%$", "", _unmarked(title)).strip().lower()


def _percent(path: Path, row: str, column: str, text: str) -> Decimal:
    figure = _unmarked(text).partition("±")[0]
    figure = _unmarked(re.sub(r"\s*[(\[][\d.,;\s%–-]+[)\]]\s*$", "", figure).strip().removesuffix("%"))
    if re.fullmatch(r"\d*,\d+", figure):
        figure = figure.replace(",", ".")
    try:
        value = Decimal(figure)
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite() or not 0 <= value <= 100:
        raise ReportError(f"{path}: row {row!r}, column {column!r}: expected percent, 0 to 100, however: {text!r}")
    return value


def _count(path: Path, row: str, text: str) -> int:
    digits = re.sub(r"(?<=\d)[,.'’\s](?=\d{3}\b)", "", _unmarked(text))  # 1,234 and 1 234
    if not (digits.isascii() and digits.isdigit()) or int(digits) < 1:
        raise ReportError(f"{path}: row {row!r}: expected a support, a whole number of rows, however: {text!r}")
    return int(digits)
